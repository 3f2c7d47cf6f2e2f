//! Turns and starts that fail.

use std::time::{Duration, Instant};

use serde_json::json;
use twobox_tests::{
    PATIENCE, Runtime, Session, Setup, binary, docker, image, on_all_runtimes, on_process,
    wait_for, wait_within,
};

use crate::scripts::{at_first, echo, hangs_at_first};

on_all_runtimes!(
    a_killed_container_costs_one_try_and_no_time,
    a_poison_message_fails_after_five_real_starts_with_one_notice,
    a_failed_message_that_is_retried_twice_is_answered_once,
    a_turn_that_fails_is_tried_again,
    a_mistake_in_the_configuration_is_named_and_the_answer_comes_after_the_repair,
    starts_that_fail_are_told_once_and_the_answer_comes_after_the_repair,
);

on_process!(a_wait_for_a_message_that_fails_ends_at_once_with_its_reason);

fn a_wait_for_a_message_that_fails_ends_at_once_with_its_reason(setup: Setup) {
    let failure = json!({ "reason": "auth_failed", "detail": "no key", "retryable": false });
    let world = setup.agent("ada", json!({ "otherwise": [{ "fail": failure }] })).up();
    let sent = world.run(&["--json", "send", "--agent", "ada", "--id", "m", "--wait", "600", "hi"]);
    let errors = String::from_utf8_lossy(&sent.stderr);
    assert_eq!(sent.status.code(), Some(1), "{errors}");
    assert!(errors.contains("no key"), "{errors}");
    let notice: serde_json::Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!((&notice["answers"], &notice["failed"]), (&json!(["m"]), &json!(true)));
}

fn a_killed_container_costs_one_try_and_no_time(setup: Setup) {
    let world = setup.agent("ada", hangs_at_first()).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "hang on");
    container.kill();
    // Any backoff would be 5 s.
    chat.wait_answer_within(Duration::from_secs(4), &id);
    world.assert_answered_once(&chat, &session, &id, "echo: hang on");
    let message = session.message(&id);
    assert_eq!((message.tries, message.forgiven), (1, 0));
    assert_eq!((world.starts(), chat.deliveries().len()), (2, 1));
}

/// How many attempts have really run: each leaves a file that no other removes.
fn attempts(session: &Session) -> usize {
    std::fs::read_dir(session.paths().outbox_files()).map_or(0, Iterator::count)
}

fn a_poison_message_fails_after_five_real_starts_with_one_notice(setup: Setup) {
    let poison = json!([{ "file": { "name": "ran", "text": "{text}" } }, { "exit": 137 }]);
    let script = json!({
        "rules": [{ "match": "^poison", "do": poison }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let world = setup.agent("ada", script).up();
    let chat = world.chat_in("ada", &[None, Some("t")]);
    let begin = Instant::now();
    let id = chat.say("poison");
    let session = world.session("ada");
    // Waits for 5, 10 and 20 s.
    wait_within(PATIENCE + Duration::from_secs(35), "the message to fail", || {
        (session.message(&id).status == "failed").then_some(())
    });
    assert!(begin.elapsed() >= Duration::from_secs(35), "with pauses");
    let message = session.message(&id);
    assert_eq!((message.tries, message.forgiven), (5, 0));
    assert_eq!((attempts(&session), world.starts()), (5, 5));
    chat.wait_letters(1);
    assert_eq!(chat.ask("hello"), "echo: hello", "the session goes on");
    session.wait_settled();
    let notices = chat.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].text.contains("5 attempts"), "{notices:?}");
    assert_eq!(chat.deliveries().len(), 2);
}

fn a_failed_message_that_is_retried_twice_is_answered_once(setup: Setup) {
    let failure = json!({ "reason": "auth_failed", "detail": "no key", "retryable": false });
    let world = setup.agent("ada", json!({ "otherwise": [{ "fail": failure }] })).up();
    let chat = world.chat("ada");
    let id = chat.say("hello");
    assert!(chat.wait_letters(1)[0].text.contains("no key"));
    let session = world.session("ada");
    assert_eq!(session.message(&id).status, "failed");
    world.set_script("ada", &echo());
    let retry = || world.twobox(&["sessions", "retry", &session.id, "--message", &id]);
    retry();
    retry();
    world.assert_answered_once(&chat, &session, &id, "echo: hello");
    retry();
    assert_eq!(chat.ask("more"), "echo: more");
    session.wait_settled();
    let message = session.message(&id);
    assert_eq!((message.status.as_str(), message.tries, message.forgiven), ("completed", 1, 1));
    assert_eq!((chat.deliveries().len(), chat.notices().len()), (3, 1));
}

fn a_turn_that_fails_is_tried_again(setup: Setup) {
    let failure = json!({ "reason": "rate_limited", "retryable": true });
    let lost = json!([{ "reply": "never sent" }, { "fail": failure }]);
    let world = setup.agent("ada", at_first(".", &lost)).up();
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &id, "echo: hello");
    let message = session.message(&id);
    assert_eq!((message.tries, message.forgiven), (1, 0));
    assert_eq!((world.starts(), chat.letters().len()), (1, 1), "the same container tried again");
}

fn starts_that_fail_are_told_once_and_the_answer_comes_after_the_repair(setup: Setup) {
    let aside = tempfile::tempdir().unwrap();
    let runner = aside.path().join("agent-runner");
    let tag = format!("twobox-missing:{}", std::process::id());
    let runtime = setup.runtime();
    let setup = match runtime {
        Runtime::Process | Runtime::Sandbox => setup.setting("containers.runner", runner.display()),
        Runtime::Docker => setup.setting("containers.image", &tag),
    };
    let place_runner = || std::os::unix::fs::symlink(binary("agent-runner"), &runner).unwrap();
    let world = setup.agent("ada", echo());
    let world = match runtime {
        // Without its runner no host starts: it goes missing later.
        Runtime::Process | Runtime::Sandbox => {
            place_runner();
            let world = world.up();
            wait_for("the look around at the start", || {
                let status = world.status()?;
                (status["probe"]["state"] != "not yet").then_some(())
            });
            std::fs::remove_file(&runner).unwrap();
            world
        }
        Runtime::Docker => world.up(),
    };
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let notice = chat.wait_letters(1).remove(0);
    assert_eq!(notice.in_reply_to, None);
    let shown = world.twobox(&["sessions", "show", &world.session("ada").id]);
    assert!(shown.contains("failed 3 times"), "{shown}");
    let status = world.status().expect("the host answers");
    let missing = match runtime {
        Runtime::Process | Runtime::Sandbox => "agent-runner",
        Runtime::Docker => tag.as_str(),
    };
    assert_eq!(status["failed_starts"]["sessions"], 1, "{status}");
    assert!(status["failed_starts"]["last"].as_str().unwrap().contains(missing), "{status}");
    if runtime == Runtime::Docker {
        assert_eq!(status["probe"]["state"], "failed", "{status}");
    }
    let doctor = world.run(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(!doctor.status.success() && said.contains("starts come to nothing"), "{said}");
    match runtime {
        Runtime::Process | Runtime::Sandbox => place_runner(),
        Runtime::Docker => drop(docker(&["tag", &image().unwrap(), &tag])),
    }
    let session = world.session("ada");
    let repaired = std::panic::AssertUnwindSafe(|| {
        world.assert_answered_once(&chat, &session, &id, "echo: hello");
        assert_eq!(session.message(&id).tries, 0, "no attempt was ever made");
        assert_eq!(chat.letters().len(), 2, "one notice, one answer");
        wait_for("the trouble to be forgotten", || {
            let shown = world.twobox(&["sessions", "show", &session.id]);
            (!shown.contains("failed")).then_some(())
        });
    });
    let result = std::panic::catch_unwind(repaired);
    if runtime == Runtime::Docker {
        docker(&["rmi", "--no-prune", &tag]);
    }
    if let Err(failure) = result {
        std::panic::resume_unwind(failure);
    }
}

fn a_mistake_in_the_configuration_is_named_and_the_answer_comes_after_the_repair(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    world.configure_agent("ada", &json!({ "max_turns": 0 }));
    world.up();
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let session = world.session("ada");
    wait_for("the mistake to be named", || {
        let shown = world.twobox(&["sessions", "show", &session.id]);
        (shown.contains("agents/ada.json") && shown.contains("max_turns: must be")).then_some(())
    });
    assert_eq!(world.starts(), 0);
    world.configure_agent("ada", &json!({ "max_turns": 5 }));
    world.assert_answered_once(&chat, &session, &id, "echo: hello");
    assert_eq!(session.message(&id).tries, 0, "no attempt was made");
}
