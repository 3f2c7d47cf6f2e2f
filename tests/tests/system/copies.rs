//! A data directory is copied, moved or restored while it is at work.

use std::fs;
use std::process::Output;

use serde_json::Value;
use twobox_tests::{Setup, World, on_both_runtimes};

use crate::scripts::{hangs_at_first, slow};

on_both_runtimes!(
    a_copy_made_during_a_turn_and_its_original_leave_each_other_alone,
    an_installation_that_moved_during_a_turn_goes_on_in_its_new_place,
);

/// What a command says that has to fail.
#[track_caller]
fn refused(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn json(world: &World, arguments: &[&str]) -> Value {
    serde_json::from_str(&world.twobox(&[&["--json"], arguments].concat())).unwrap()
}

fn a_copy_made_during_a_turn_and_its_original_leave_each_other_alone(setup: Setup) {
    let world = setup.setting("limits.claim_tolerance", "10m").agent("ada", slow(1500)).up();
    world.twobox(&[
        "schedules",
        "add",
        "tidy",
        "--agent",
        "ada",
        "--prompt",
        "Hi",
        "--hourly",
        "0",
    ]);
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "slow");
    assert!(container.freeze(), "it stays in its turn for as long as this takes");

    let mut copy = world.copied();
    let said = refused(&copy.run(&["up"]), 78);
    assert!(said.contains("init --copy") && said.contains("init --moved"), "{said}");
    let said = refused(&copy.run(&["init", "--moved"]), 1);
    assert!(said.contains(&format!("process {}", world.host_pid())), "the original runs: {said}");
    let copied = &json(&copy, &["init", "--copy"])["copied"];
    assert_eq!((&copied["held"]["messages"], &copied["schedules"]), (&1.into(), &1.into()));
    copy.take_identity();

    copy.up();
    let theirs = copy.chat("ada");
    assert_eq!(theirs.ask("hello"), "echo: hello", "it answers its own people");
    let same = copy.sessions().into_iter().find(|other| other.id == session.id);
    assert_eq!(same.unwrap().message(&id).status, "failed", "and leaves the original's to it");
    assert!(container.lives(), "nobody has touched it");
    assert_eq!(copy.starts(), 1);
    assert!(container.thaw());

    world.assert_answered_once(&chat, &session, &id, "echo: slow");
    assert_eq!(session.message(&id).tries, 0, "its turn ended as if there were no copy");
    assert_eq!(chat.ask("and on"), "echo: and on");
    assert_eq!((chat.deliveries().len(), world.starts()), (2, 1));
    assert_eq!(theirs.deliveries().len(), 1, "nothing of the original's came here");
    assert!(!copy.host_log().contains("adopted"), "{}", copy.host_log());

    let shown = copy.twobox(&["schedules", "show", "tidy"]);
    assert!(shown.contains("this is a copy"), "{shown}");
    let here = json(&world, &["schedules", "show", "tidy"]);
    assert!(!here.to_string().contains("this is a copy"), "{here}");
    copy.twobox(&["dead", "redrive", &session.id, &id]);
    theirs.wait_answer(&id); // on a person's word it is answered here as well
    copy.stop_host();
    assert_eq!(chat.ask("still"), "echo: still");
}

fn an_installation_that_moved_during_a_turn_goes_on_in_its_new_place(setup: Setup) {
    let world = setup.setting("containers.stop_grace", "1s").agent("ada", hangs_at_first()).up();
    let chat = world.chat("ada");
    let (id, session, _) = world.occupy(&chat, "ada", "hang on");
    world.kill_host();
    let mut moved = world.copied();
    let said = refused(&moved.run(&["init", "--moved"]), 1);
    assert!(said.contains("same id"), "the old one is there: {said}");
    fs::rename(world.data(), world.aside().join("gone")).unwrap();
    moved.twobox(&["init", "--moved"]);
    moved.take_identity();

    moved.up();
    let theirs = moved.chat("ada");
    let here = moved.sessions().into_iter().find(|other| other.id == session.id).unwrap();
    moved.assert_answered_once(&theirs, &here, &id, "echo: hang on");
    let message = here.message(&id);
    assert_eq!((message.tries, message.forgiven), (1, 1), "the move is held against nobody");
    moved.assert_fsck_clean();
}
