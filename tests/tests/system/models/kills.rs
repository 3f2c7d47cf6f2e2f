//! A host or a runner that is killed while a model answers or a tool runs: the answer comes once, and
//! what nobody saw the end of is told as unknown.

use serde_json::json;
use twobox_tests::models::{End, ModelServer, Part, Step, Trouble};
use twobox_tests::{Setup, World, on_both_runtimes, on_process, on_sandbox, wait_for};

use super::{LONG, assert_counted, tokens, up, wait_used};

on_both_runtimes!(
    a_host_that_is_killed_in_the_middle_of_a_stream_is_followed_by_one_that_is_asked_again,
    a_runner_that_is_killed_in_the_middle_of_a_stream_asks_again_in_its_next_life,
);

// The image of the tests has no shell.
on_sandbox!(
    a_host_that_is_killed_in_the_middle_of_a_stream_is_followed_by_one_that_is_asked_again,
    a_runner_that_is_killed_in_the_middle_of_a_stream_asks_again_in_its_next_life,
    a_runner_that_is_killed_in_the_middle_of_a_tool_is_told_what_had_begun,
);

on_process!(
    a_runner_that_is_killed_in_the_middle_of_a_tool_is_told_what_had_begun,
    an_answer_that_breaks_off_upstream_is_asked_for_again_and_counted_as_unknown,
);

/// How many bytes of an answer come before it stalls: its beginning with what was read, and some words.
const BEGUN: usize = 700;

/// An answer that stalls in its middle.
fn stalls() -> Step {
    Step::text(&"never heard ".repeat(50)).in_pieces(12).with(Trouble::Stall(BEGUN))
}

/// What is unknown is bounded by what it can have been, and all else is counted.
#[track_caller]
fn assert_one_is_unknown(world: &World, server: &ModelServer) {
    let used = wait_used(world, 2);
    assert_counted(&used, server);
    assert_eq!(used["unknown"], 1, "{used}");
    let cut = tokens(&server.cut());
    assert!(cut > 0 && used["unknown_tokens"].as_u64().unwrap() >= cut, "{cut}: {used}");
}

fn a_host_that_is_killed_in_the_middle_of_a_stream_is_followed_by_one_that_is_asked_again(
    setup: Setup,
) {
    let server = ModelServer::start();
    let world = up(setup, &server);
    server.script(vec![stalls(), Step::text("heard")]);
    let chat = world.chat("ada");
    let id = chat.say("hello");
    server.wait_stalled(1);
    let session = world.session("ada");
    let container = world.container(&session).expect("whoever asks lives");
    world.kill_host();
    assert!(container.lives());
    world.up();
    chat.wait_answer_within(LONG, &id);
    world.assert_answered_once(&chat, &session, &id, "heard");
    assert_eq!(session.message(&id).tries, 0);
    assert_eq!(world.container(&session), Some(container), "it was adopted");
    let ends: Vec<End> = server.wait_ended(2).iter().map(|request| request.end).collect();
    assert_eq!(ends, [End::Cut, End::Sold]);
    assert_one_is_unknown(&world, &server);
    server.script(Step::text("and on"));
    assert_eq!(chat.ask("and on"), "and on");
    world.assert_fsck_clean();
}

fn a_runner_that_is_killed_in_the_middle_of_a_stream_asks_again_in_its_next_life(setup: Setup) {
    let server = ModelServer::start();
    let world = up(setup, &server);
    server.script(vec![stalls(), Step::text("heard")]);
    let chat = world.chat("ada");
    let id = chat.say("hello");
    server.wait_stalled(1);
    let session = world.session("ada");
    world.container(&session).expect("whoever asks lives").kill();
    chat.wait_answer_within(LONG, &id);
    world.assert_answered_once(&chat, &session, &id, "heard");
    assert_eq!(session.message(&id).tries, 1);
    let ends: Vec<End> = server.wait_ended(2).iter().map(|request| request.end).collect();
    assert_eq!(ends, [End::Cut, End::Sold], "the host asks nothing for who is gone");
    assert_one_is_unknown(&world, &server);
}

fn a_runner_that_is_killed_in_the_middle_of_a_tool_is_told_what_had_begun(setup: Setup) {
    let server = ModelServer::start();
    let world = up(setup, &server);
    let line = json!({"command": "touch begun; sleep 600; touch late"});
    server.script(vec![Step::call("bash", line), Step::text("I had begun")]);
    let chat = world.chat("ada");
    let id = chat.say("do it");
    let session = world.session("ada");
    let begun = session.folder.join("work/begun");
    wait_for("the tool to run", || begun.exists().then_some(()));
    world.container(&session).expect("whoever runs it lives").kill();
    chat.wait_answer_within(LONG, &id);
    world.assert_answered_once(&chat, &session, &id, "I had begun");
    assert_eq!(session.message(&id).tries, 1);
    let requests = server.wait_ended(2);
    let told = requests[1].body["messages"].to_string();
    assert!(told.contains("outcome unknown") && told.contains("bash"), "{told}");
    assert!(!told.contains("tool_use"), "it was cut back: {told}");
    assert_counted(&wait_used(&world, 2), &server);
}

fn an_answer_that_breaks_off_upstream_is_asked_for_again_and_counted_as_unknown(setup: Setup) {
    let server = ModelServer::start();
    let world = up(setup, &server);
    let cut = Step { trouble: Some(Trouble::Cut(BEGUN)), ..stalls() };
    server.script(vec![cut, Step::empty().and(Part::Text("whole".to_owned()))]);
    let chat = world.chat("ada");
    let id = chat.say("hello");
    chat.wait_answer(&id);
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &id, "whole");
    assert_eq!(session.message(&id).tries, 0);
    assert_eq!(server.wait_ended(2).len(), 2);
    assert_one_is_unknown(&world, &server);
}
