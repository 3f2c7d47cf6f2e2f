//! Containers that do not behave, and the limits that end them.

use std::fs::FileTimes;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;
use twobox_tests::{Setup, World, binary, holds_for, on_all_runtimes, on_process, wait_for};

use crate::scripts::{at_first, echo, hangs_at_first};

on_all_runtimes!(a_hung_turn_ends_at_its_deadline_and_is_tried_again);

on_process!(
    a_declared_tool_outlives_the_tolerance,
    a_silent_container_without_a_tool_is_stopped_and_its_message_tried_again,
    a_turn_that_obeys_the_signal_of_its_limit_is_charged,
    one_bad_message_takes_no_other_with_it,
    an_old_heartbeat_is_no_sign_of_a_new_container,
);

fn a_hung_turn_ends_at_its_deadline_and_is_tried_again(setup: Setup) {
    let world = setup.agent("ada", hangs_at_first()).make();
    world.configure_agent("ada", &json!({ "turn_timeout_sec": 1 }));
    world.up();
    let chat = world.chat("ada");
    let id = chat.say("hang on");
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &id, "echo: hang on");
    let message = session.message(&id);
    assert_eq!((message.tries, message.forgiven), (1, 0));
    assert_eq!(world.starts(), 1, "the runner ended the turn by itself");
}

/// Tolerates two seconds of silence.
fn impatient(setup: Setup) -> Setup {
    setup
        .setting("limits.start_grace", "500ms")
        .setting("limits.heartbeat", "2s")
        .setting("limits.claim_tolerance", "2s")
        .setting("containers.stop_grace", "500ms")
}

fn a_declared_tool_outlives_the_tolerance(setup: Setup) {
    let tool = json!({ "tool": { "name": "Bash", "timeout_ms": 60_000, "run_ms": 1000 } });
    let script = json!({ "otherwise": [tool, { "reply": "echo: {text}" }] });
    let world = impatient(setup).agent("ada", script).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "work");
    wait_for("the tool to run", || session.tool());
    assert!(container.freeze());
    holds_for(Duration::from_secs(5), "the silent container with a tool lives", || {
        container.lives()
    });
    assert!(container.thaw());
    world.assert_answered_once(&chat, &session, &id, "echo: work");
    assert_eq!(session.message(&id).tries, 0);
    assert_eq!(world.container(&session), Some(container));
}

fn a_silent_container_without_a_tool_is_stopped_and_its_message_tried_again(setup: Setup) {
    let wait = json!([{ "sleep_ms": 1000 }, { "reply": "too late" }]);
    let world = impatient(setup).agent("ada", at_first(".", &wait)).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "work");
    assert!(container.freeze());
    container.wait_gone();
    world.assert_answered_once(&chat, &session, &id, "echo: work");
    let message = session.message(&id);
    assert_eq!((message.tries, message.forgiven), (1, 0), "its own fault");
    assert!(world.host_log().contains("no sign of life since it claimed"));
}

fn a_turn_that_obeys_the_signal_of_its_limit_is_charged(setup: Setup) {
    let world = setup
        .setting("limits.start_grace", "100ms")
        .setting("limits.turn_ceiling", "500ms")
        .setting("containers.stop_grace", "500ms")
        .setting("limits.max_tries", 1)
        .agent("ada", json!({ "otherwise": [{ "hang": true }] }))
        .up();
    let chat = world.chat("ada");
    let id = chat.say("hang on");
    let session = world.session("ada");
    let message = wait_for("its end", || {
        let message = session.messages().into_iter().find(|message| message.id == id)?;
        (message.status == "failed").then_some(message)
    });
    assert_eq!(message.forgiven, 0);
    let notices = wait_for("the notice", || Some(chat.notices()).filter(|all| !all.is_empty()));
    assert!(notices[0].text.contains("it broke a limit"), "{notices:?}");
}

/// The three are there before the runner is, so that they make one turn. The script goes by the last.
fn one_bad_message_takes_no_other_with_it(setup: Setup) {
    let bad = json!([{ "fail": { "reason": "provider_error", "retryable": false } }]);
    let mut script = echo();
    script["rules"] = json!([{ "match": "bad", "do": bad }]);
    let world = setup.agent("ada", script).up();
    let chat = world.chat("ada");
    let ids = ["one", "two", "bad"].map(|text| chat.hand_in(None, text));
    for (id, text) in [(&ids[0], "one"), (&ids[1], "two")] {
        assert_eq!(chat.wait_answer(id).text, format!("echo: {text}"));
    }
    let session = world.session("ada");
    session.wait_settled();
    let statuses = ids.map(|id| session.message(&id).status);
    assert_eq!(statuses, ["completed", "completed", "failed"]);
    let notices = wait_for("the notice", || Some(chat.notices()).filter(|all| !all.is_empty()));
    assert_eq!(notices.len(), 1, "one failed");
}

/// Puts `program` in the runner's place.
fn place(world: &World, program: &str) {
    let path = world.aside().join("agent-runner");
    let fresh = world.aside().join("fresh");
    std::fs::write(&fresh, format!("#!/bin/sh\n{program}\n")).unwrap();
    std::fs::set_permissions(&fresh, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

fn an_old_heartbeat_is_no_sign_of_a_new_container(setup: Setup) {
    let aside = tempfile::tempdir().unwrap();
    let runner = aside.path().join("agent-runner");
    let real = format!("exec {} \"$@\"", binary("agent-runner").display());
    let world = impatient(setup)
        .setting("limits.heartbeat_ceiling", "3s")
        .setting("containers.runner", runner.display())
        .agent("ada", echo())
        .make();
    std::os::unix::fs::symlink(world.aside().join("agent-runner"), &runner).unwrap();
    place(&world, &real);
    world.up();
    let chat = world.chat("ada");
    let (id, session) = (chat.say("hello"), world.session("ada"));
    chat.wait_answer(&id);
    session.wait_settled();
    world.container(&session).expect("it waits for more").kill();

    let heartbeat = std::fs::File::options().write(true).open(session.paths().heartbeat()).unwrap();
    let tomorrow = heartbeat.metadata().unwrap().modified().unwrap() + Duration::from_secs(86_400);
    heartbeat.set_times(FileTimes::new().set_modified(tomorrow)).unwrap();
    place(&world, "echo it is mute >&2\nsleep 600");
    let second = chat.say("are you there?");
    let mute = world.wait_container(&session);
    // A shell that has not opened its script yet would become the next one.
    let log = session.folder.join("runner.log");
    wait_for("the mute one to be at it", || {
        std::fs::read_to_string(&log).ok()?.contains("it is mute").then_some(())
    });
    place(&world, &real);
    mute.wait_gone();
    assert!(world.host_log().contains("no sign of life for"));
    world.assert_answered_once(&chat, &session, &second, "echo: are you there?");
    assert_eq!(session.message(&second).tries, 0, "it was never claimed");
}
