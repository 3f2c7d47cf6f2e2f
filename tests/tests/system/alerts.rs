//! What the operator is told in a chat of theirs.

use std::net::TcpListener;

use serde_json::json;
use twobox_tests::{Courier, Setup, World, on_process, wait_for};

use crate::scripts::echo;

on_process!(the_operator_is_told_once_what_is_wrong_whatever_dies,);

/// The texts that came to the operator's chat, which is `ops`.
fn told(courier: &Courier) -> Vec<String> {
    let calls = courier.calls().into_iter().filter(|call| call.chat == "ops");
    calls.map(|call| call.text).collect()
}

#[track_caller]
fn wait_told(courier: &Courier, what: &str) -> String {
    wait_for(what, || told(courier).into_iter().find(|text| text.contains(what)))
}

fn doctor(world: &World) -> String {
    let done = world.spawn(&["doctor"]).wait_with_output().unwrap();
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn the_operator_is_told_once_what_is_wrong_whatever_dies(setup: Setup) {
    let courier = Courier::new();
    courier.plan(&json!([{ "text": "never", "complains": "no such number", "exit": 1 }]));
    let setup = setup.setting("alerts.to", "command ops").setting("alerts.after", "1s");
    let world = setup.courier(&courier, true).agent("ada", echo()).make();
    world.wire("ada", "42");
    // Nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = world.data().join("twobox.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    let section = format!(
        "{before}\n[channels.lost]\nkind = \"matrix\"\nhomeserver = \"http://{address}\"\n\
         user = \"@bot:x\"\ntoken_secret = \"lost\"\nsenders = [\"@me:x\"]\n"
    );
    std::fs::write(&path, section).unwrap();
    world.set_secret("lost", "token");
    world.up();
    let first = wait_told(&courier, "the channel lost is down");
    assert!(first.starts_with("Since 20"), "{first}");
    world.hand_in("42", "m1", "never mind");
    let second = wait_told(&courier, "were not delivered");
    assert!(second.contains("the last one to command 42: no such number"), "{second}");
    world.kill_host();
    world.up();
    let status = wait_for("the channel to be seen again", || {
        let status = world.status()?;
        (status["channels"]["lost"]["state"] == "down").then_some(status)
    });
    let causes: Vec<_> =
        status["alerts"].as_array().unwrap().iter().map(|it| &it["cause"]).collect();
    assert!(causes.contains(&&json!("channel:lost")), "{causes:?}");
    assert_eq!(told(&courier).iter().filter(|text| text.contains("lost is down")).count(), 1);
    assert!(doctor(&world).contains("alerts go to command ops"), "{}", doctor(&world));
}
