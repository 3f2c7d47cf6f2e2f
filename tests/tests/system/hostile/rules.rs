//! Two findings of the protocol's review, on the real host.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use twobox_tests::{PATIENCE, Setup, World, attack, on_all_runtimes, wait_for};

use super::attacks::attacked;
use crate::scripts::echo;

on_all_runtimes!(
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
    let name = "lock-on-the-inbox";
    let world = attacked(setup, &[name]);
    // No other limit stops it.
    world.up_with(&[("TWOBOX_LIMITS_CLAIM_TOLERANCE", "10m")]);
    let words = ["schedules", "add", name, "--agent", name, "--prompt", name];
    world.twobox(&[&words[..], &["--daily", "03:00", "--max-run", "4"]].concat());
    world.twobox(&["schedules", "run", name]);
    let (session, container) = wait_for("the lock", || {
        let done = world.agent_folder(name).join(attack::DONE);
        let session = done.exists().then(|| world.sessions().pop()).flatten()?;
        world.container(&session).map(|container| (session, container))
    });
    assert!(container.freeze(), "it keeps its lock, and no deadline");
    let run = wait_for("the end of the run", || {
        let runs: Value =
            serde_json::from_str(&world.twobox(&["--json", "schedules", "runs", name])).unwrap();
        let run = runs["runs"][0].clone();
        (!run["ended_at"].is_null()).then_some(run)
    });
    assert_eq!((&run["status"], &run["reason"]), (&json!("failed"), &json!("lease_expired")));
    assert!(!container.lives(), "it was stopped before its run was given up");
    let log = world.host_log();
    assert_eq!(log.matches("started a container").count(), 1, "nobody took it up again");
    assert_ne!(session.messages()[0].status, "pending", "and nobody will");
}
