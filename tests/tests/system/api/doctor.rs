//! What `twobox doctor` says of the API.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use twobox_tests::{Setup, World, on_process};

on_process!(
    doctor_asks_the_api_of_the_host_that_runs,
    doctor_looks_at_the_token,
    doctor_says_who_has_the_address,
    doctor_warns_of_an_address_on_the_network,
    doctor_says_when_the_host_listens_elsewhere,
    doctor_says_when_the_api_does_not_answer,
);

/// The level, and the words, of what doctor says in the check `name`.
#[track_caller]
fn said(world: &World, name: &str) -> (String, String) {
    let output = world.run(&["--json", "doctor"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = said["checks"].as_array().unwrap();
    let mut found = checks.iter().filter(|check| check["check"] == name);
    let found = found.next().unwrap_or_else(|| panic!("no {name:?} in {checks:?}"));
    let [level, detail, help] =
        ["level", "detail", "help"].map(|key| found[key].as_str().unwrap_or("").to_owned());
    (level, format!("{detail} -> {help}"))
}

#[track_caller]
fn assert_said(world: &World, name: &str, level: &str, words: &[&str]) {
    let said = said(world, name);
    assert_eq!(said.0, level, "{said:?}");
    for word in words {
        assert!(said.1.contains(word), "{word:?} is missing in {said:?}");
    }
}

fn configure(world: &World, listen: &str) {
    let config = format!("runtime = \"process\"\napi.listen = \"{listen}\"\n");
    fs::write(world.data().join("twobox.toml"), config).unwrap();
}

fn doctor_asks_the_api_of_the_host_that_runs(setup: Setup) {
    let world = setup.api().make();
    assert_said(&world, "HTTP API", "ok", &["no host runs", "127.0.0.1:0 is free"]);
    assert_said(&world, "API address", "ok", &["this machine only"]);
    world.up();
    let address = world.client().address().to_string();
    assert_said(&world, "HTTP API", "ok", &["answers", &address]);
    let socket = world.data().join("api.sock");
    assert_said(&world, "API socket", "ok", &["answers", socket.to_str().unwrap()]);
    assert!(world.run(&["doctor"]).status.success());
    fs::remove_file(socket).unwrap();
    assert_said(&world, "API socket", "fail", &["does not answer", "removed"]);

    world.stop_host();
    configure(&world, "");
    assert_said(&world, "HTTP API", "ok", &["none, as configured"]);
    world.up();
    assert_said(&world, "HTTP API", "ok", &["none, as configured"]);
    configure(&world, "127.0.0.1:0");
    assert_said(&world, "HTTP API", "warn", &["does not listen on", "restart the host"]);
}

fn doctor_looks_at_the_token(setup: Setup) {
    let world = setup.api().up();
    let file = world.data().join("api.token");
    let place = file.to_str().unwrap();
    assert_said(&world, "API token", "ok", &[place]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert_said(&world, "API token", "warn", &[place, "0640", "token renew"]);
    world.twobox(&["token", "renew"]);
    assert_said(&world, "API token", "ok", &[place]);

    fs::remove_file(&file).unwrap();
    assert_said(&world, "API token", "warn", &[place, "missing", "token renew"]);
    fs::write(&file, "secret\n").unwrap();
    assert_said(&world, "API token", "fail", &[place, "holds no token", "delete it"]);
    assert!(!world.run(&["doctor"]).status.success());
    world.twobox(&["token", "renew"]);
    assert_said(&world, "API token", "ok", &[place]);
}

fn doctor_says_who_has_the_address(setup: Setup) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let world = setup.setting("api.listen", &address).make();
    let taken_by = format!("another program listens on {address}");
    assert_said(&world, "HTTP API", "warn", &[&taken_by, "could not listen", "api.listen"]);
    world.up();
    let holder = format!("process {} (", std::process::id());
    let words = [&taken_by, holder.as_str(), "showed it the token", "token renew", "api.listen"];
    assert_said(&world, "HTTP API", "warn", &words);
    drop(taken);
    assert_said(&world, "HTTP API", "warn", &["free by now", "restart the host", "log"]);
    world.stop_host();
    world.up();
    assert_said(&world, "HTTP API", "ok", &["answers", &address]);
    world.stop_host();
    configure(&world, "192.0.2.1:8642"); // of a block that is for examples only
    assert_said(&world, "HTTP API", "warn", &["192.0.2.1 is no address of this machine"]);
}

fn doctor_warns_of_an_address_on_the_network(setup: Setup) {
    let world = setup.setting("api.listen", "0.0.0.0:0").up();
    assert_said(&world, "API address", "warn", &["0.0.0.0:0", "clear text", "TLS"]);
    assert_said(&world, "HTTP API", "ok", &["answers on 0.0.0.0:"]);
}

fn doctor_says_when_the_host_listens_elsewhere(setup: Setup) {
    let world = setup.api().up();
    let address = world.client().address().to_string();
    configure(&world, "127.0.0.2:0");
    let words = [address.as_str(), "127.0.0.2:0 is configured", "restart"];
    assert_said(&world, "HTTP API", "warn", &words);
    configure(&world, "");
    assert_said(&world, "HTTP API", "warn", &[&address, "no API is configured"]);
}

fn doctor_says_when_the_api_does_not_answer(setup: Setup) {
    let world = setup.api().up();
    let client = world.client();
    // As many clients as there may be say nothing: they give way.
    let silent: Vec<TcpStream> = (0..64).map(|_| client.connect()).collect();
    assert_said(&world, "HTTP API", "ok", &["answers on", &client.address().to_string()]);
    drop(silent);
    world.freeze_host();
    assert_said(&world, "HTTP API", "warn", &["the host is silent"]);
    assert_said(&world, "API socket", "warn", &["the host is silent"]);
    world.thaw_host();
}
