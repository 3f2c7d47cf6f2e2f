//! Two findings of the protocol's review, on the real host.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use twobox_tests::attack;
use twobox_tests::{PATIENCE, Setup, World, on_both_runtimes, wait_for};

use super::attacks::attacked;
use crate::scripts::echo;

on_both_runtimes!(
    s4_a_data_directory_that_is_reached_through_a_link_works,
    s5_a_lock_on_an_inbox_makes_accepting_wait_for_that_session_alone,
    a_lock_does_not_prolong_a_run,
);

fn s4_a_data_directory_that_is_reached_through_a_link_works(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    let real = world.aside().join("elsewhere");
    std::fs::rename(world.data(), &real).unwrap();
    symlink(&real, world.data()).unwrap();
    world.up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    world.session("ada").wait_settled();
    assert_eq!(world.session("ada").status, "active");
}

/// One line to the host, and what it says about that.
fn tell(world: &World, line: &Value) -> Value {
    let mut stream = UnixStream::connect(world.data().join("host.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    writeln!(stream, "{line}").unwrap();
    let mut said = String::new();
    BufReader::new(stream).read_line(&mut said).unwrap();
    serde_json::from_str(&said).unwrap()
}

fn s5_a_lock_on_an_inbox_makes_accepting_wait_for_that_session_alone(setup: Setup) {
    let world = attacked(setup, &["lock-on-the-inbox"]);
    world.up();
    let (offender, healthy) = (world.chat("lock-on-the-inbox"), world.chat("healthy"));
    assert_eq!(healthy.ask("hello"), "echo: hello");
    let first = offender.say("lock-on-the-inbox nothing");
    let session = world.session("lock-on-the-inbox");
    let holder = wait_for("the lock", || {
        let done = world.agent_folder("lock-on-the-inbox").join(attack::DONE);
        done.exists().then(|| world.container(&session)).flatten()
    });
    let message = |id: &str, agent: &str| json!({ "op": "message", "agent": agent, "id": id, "text": "are you there?" });
    let refused = tell(&world, &message("m1", "lock-on-the-inbox"));
    assert_eq!((&refused["event"], &refused["retry"]), (&json!("refused"), &json!(true)));
    assert_eq!(tell(&world, &message("m2", "healthy"))["event"], "accepted");
    holder.wait_gone();
    let accepted = wait_for("the message to be taken", || {
        Some(tell(&world, &message("m1", "lock-on-the-inbox")))
            .filter(|said| said["event"] == "accepted")
    });
    assert_eq!(accepted["receipts"][0]["id"], "m1");
    offender.wait_answer(&first);
    offender.wait_answer("m1");
    assert_eq!(session.message(&first).tries, 1, "the attempt that held the lock counts");
}

fn a_lock_does_not_prolong_a_run(setup: Setup) {
    let names = ["lock-on-the-inbox", "exclusive-lock"];
    let world = attacked(setup.setting("containers.stop_grace", "1s"), &names);
    world.up();
    for name in names {
        // It does what it is named after when it is told to, and then works on for ever.
        let words = ["schedules", "add", name, "--agent", name, "--prompt", name];
        world.twobox(&[&words[..], &["--daily", "03:00", "--max-run", "3"]].concat());
        world.twobox(&["schedules", "run", name]);
        let run = wait_for(&format!("{name}: the end of its run"), || {
            let runs = world.twobox(&["--json", "schedules", "runs", name]);
            let runs: Value = serde_json::from_str(&runs).unwrap();
            let run = runs["runs"][0].clone();
            (!run["ended_at"].is_null()).then_some(run)
        });
        // Whoever notices first: the runner that its time is over, or the host.
        let reason = run["reason"].as_str().unwrap_or_default();
        assert!(["lease_expired", "timeout"].contains(&reason), "{name}: {run}");
        let id = run["session"].as_str().unwrap();
        let session = world.sessions().into_iter().find(|session| session.id == id).unwrap();
        assert_ne!(session.messages()[0].status, "pending", "{name}: nobody takes it up again");
        wait_for("its container to be gone", || {
            world.container(&session).is_none_or(|container| !container.lives()).then_some(())
        });
    }
}
