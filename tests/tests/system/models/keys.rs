//! Where the key of an upstream is: with the host, and nowhere that an agent, a log or a stranger sees.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use twobox_tests::models::{ModelServer, Options, Step};
use twobox_tests::{Container, Mode, Runtime, Setup, World, docker, on_all_runtimes, on_process};

use super::{KEY, MODEL, made, towards};

on_all_runtimes!(the_key_of_an_upstream_is_in_its_file_alone);

on_process!(a_key_of_the_environment_is_in_no_file_and_no_runner,);

/// The files below `folder` that have `needle` in them.
fn with(folder: &Path, needle: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // A journal is gone as soon as its commit is done.
        let Ok(kind) = path.symlink_metadata().map(|meta| meta.file_type()) else { continue };
        if kind.is_dir() {
            found.extend(with(&path, needle));
        } else if kind.is_file() && fs::read(&path).is_ok_and(|bytes| has(&bytes, needle)) {
            found.push(path);
        }
    }
    found
}

fn has(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|part| part == needle.as_bytes())
}

/// Shows that the runner was not told.
fn assert_runner_does_not_know(container: &Container) {
    let told = match container.runtime() {
        Runtime::Docker => {
            let told = docker(&["inspect", &container.handle]);
            told + &docker(&["logs", &container.handle])
        }
        Runtime::Process | Runtime::Sandbox => {
            let read = |name: &str| fs::read(format!("/proc/{}/{name}", container.handle)).unwrap();
            String::from_utf8_lossy(&[read("environ"), read("cmdline")].concat()).into_owned()
        }
    };
    assert!(told.len() > 20 && !told.contains(KEY));
}

/// Has a turn with a tool answered, and looks at the runner.
fn ask(world: &World, server: &ModelServer) {
    server.script(vec![
        Step::call("write_file", json!({"path": "a", "content": "b"})),
        Step::text("done"),
    ]);
    assert_eq!(world.chat("ada").ask("hello"), "done");
    let requests = server.wait_ended(2);
    assert!(requests.iter().all(|it| it.headers["x-api-key"] == KEY), "the upstream is told");
    let container = world.wait_container(&world.session("ada"));
    assert_runner_does_not_know(&container);
}

fn the_key_of_an_upstream_is_in_its_file_alone(setup: Setup) {
    let options = Options { key: Some(KEY.to_owned()), ..Options::default() };
    let server = ModelServer::start_with(options);
    let world = made(setup, &server, Mode::Shared, &[MODEL]);
    for other in ["openai", "router"] {
        world.twobox(&["secrets", "remove", other]);
    }
    world.up();
    ask(&world, &server);
    let own = vec![world.data().join("secrets/anthropic")];
    assert_eq!(with(world.aside(), KEY), own, "of all files and logs");
    world.stop_host();
    assert_eq!(with(world.aside(), KEY), own);
}

fn a_key_of_the_environment_is_in_no_file_and_no_runner(setup: Setup) {
    let options = Options { key: Some(KEY.to_owned()), ..Options::default() };
    let server = ModelServer::start_with(options);
    let world = towards(setup, &server).make();
    super::add(&world, "ada", Mode::Shared, &[MODEL]);
    world.up_with(&[("TWOBOX_SECRET_ANTHROPIC", KEY)]);
    ask(&world, &server);
    assert_eq!(with(world.aside(), KEY), [] as [PathBuf; 0]);
}
