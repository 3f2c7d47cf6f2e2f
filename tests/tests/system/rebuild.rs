//! An installation whose `host.db` is lost.

use std::fs;
use std::process::Command;

use serde_json::Value;
use twobox_tests::{Setup, World, binary, on_process, wait_for};

use crate::scripts::echo;

on_process!(
    a_lost_database_is_no_new_installation_and_is_made_anew_of_the_folders,
    a_database_that_is_there_is_never_rebuilt,
    an_init_that_broke_off_goes_on,
);

/// What a command says that has to fail.
#[track_caller]
fn refused(world: &World, arguments: &[&str]) -> String {
    let output = world.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = if arguments == ["up"] { 78 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

fn a_lost_database_is_no_new_installation_and_is_made_anew_of_the_folders(setup: Setup) {
    let setup = setup.agent("ada", echo()).agent("bob", echo());
    let mut world = setup.up();
    world.wire("ada", "room");
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");
    let session = world.session("ada");
    world.stop_host();
    let container = world.container(&session).expect("it waits");
    for name in ["host.db", "host.db-wal", "host.db-shm"] {
        fs::remove_file(world.data().join(name)).ok();
    }
    let said = refused(&world, &["sessions", "fsck", "--rebuild"]);
    assert!(said.contains("a runner still works in") && said.contains(&session.id), "{said}");
    assert!(!world.data().join("host.db").exists(), "nothing was made");
    container.kill();
    wait_for("its end", || (!container.lives()).then_some(()));
    let stray = world.data().join("sessions/not-an-id/x");
    fs::create_dir_all(&stray).unwrap();
    for (case, lose) in [("empty", false), ("gone", true)] {
        for name in ["host.db", "host.db-wal", "host.db-shm"] {
            fs::remove_file(world.data().join(name)).ok();
        }
        if !lose {
            fs::write(world.data().join("host.db"), "").unwrap();
        }
        for command in [&["up"][..], &["init"], &["agents", "list"], &["doctor"]] {
            if command == ["doctor"] {
                let output = world.run(command);
                assert!(!output.status.success(), "{case}");
                continue;
            }
            let said = refused(&world, command);
            assert!(said.contains("fsck --rebuild"), "{case}, {command:?}: {said}");
        }
        assert_eq!(world.data().join("host.db").exists(), !lose, "nothing was made");
    }

    let said = world.twobox(&["sessions", "fsck", "--rebuild"]);
    assert!(said.contains("with 3 agents (") && said.contains("bob"), "{said}");
    assert!(said.contains("and 1 sessions") && said.contains("not-an-id"), "{said}");
    assert!(said.contains("lost     schedules"), "{said}");
    let next = format!("`twobox --data {} up`", world.data().display());
    assert!(said.contains(&next), "what to do next is about this directory: {said}");
    world.take_identity();
    world.up();
    assert_eq!(world.chat("ada").ask("and on"), "echo: and on");
    assert_eq!(world.session("ada").id, session.id, "the conversation goes on");
    assert_eq!(session.messages().len(), 2);
    assert_eq!(world.chat("bob").ask("hello"), "echo: hello");
    let wired: Value = serde_json::from_str(&world.twobox(&["--json", "wire", "list"])).unwrap();
    assert!(wired.to_string().contains("\"room\""), "what its agent could name: {wired}");
}

fn a_database_that_is_there_is_never_rebuilt(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    let before = fs::read(world.data().join("host.db")).unwrap();
    let said = refused(&world, &["sessions", "fsck", "--rebuild"]);
    assert!(said.contains("is there and not empty"), "{said}");
    assert_eq!(fs::read(world.data().join("host.db")).unwrap(), before);
}

fn an_init_that_broke_off_goes_on(setup: Setup) {
    let world = setup.make();
    let place = world.aside().join("broken-off");
    fs::create_dir_all(place.join("sessions")).unwrap();
    fs::write(place.join("host.db"), "").unwrap();
    let mut init = Command::new(binary("twobox"));
    let init = init.arg("--data").arg(&place).args(["init", "--runtime", "process"]);
    let output = init.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("agent assistant"), "{output:?}");
}
