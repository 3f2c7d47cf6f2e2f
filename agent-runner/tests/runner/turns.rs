//! Limits of a turn, what is sent before it ends, and how it ends when the runner is told to leave.

use std::time::{Duration, Instant};

use serde_json::Value;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::content::Failure;
use twobox_shared::inbox::NewMessage;
use twobox_shared::outbox::AckStatus;

use crate::session::{Session, message, wait_for};

fn limited(script: &str, limits: &str) -> Session {
    let session = Session::scripted(script);
    session.configure(&format!(r#"{{"provider": "scripted", {limits}}}"#));
    session
}

#[test]
fn a_turn_that_hangs_ends_at_its_deadline() {
    let script = r#"{"rules": [{"match": "hang", "do": [{"reply": "lost"}, {"hang": true}]}],
                     "otherwise": [{"reply": "ok"}]}"#;
    let session = limited(script, r#""turn_timeout_sec": 1"#);
    session.say("m1", "hang");
    let runner = session.start();
    let failure = session.wait_failed("m1");
    assert_eq!((failure.reason.as_str(), failure.retryable), (Failure::TIMEOUT, true));
    session.say("m2", "and then");
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(session.texts(), ["ok"], "a failed turn sends nothing");
    runner.stop();
}

#[test]
fn a_tool_ends_at_its_own_deadline_or_at_the_default() {
    let script = r#"{"rules": [
        {"match": "declared", "do": [{"tool": {"name": "Bash", "timeout_ms": 200, "run_ms": 60000}}]},
        {"match": "default", "do": [{"tool": {"name": "Grep", "run_ms": 60000}}]}]}"#;
    let session = limited(script, r#""tool_timeout_sec": 1"#);
    session.say("m1", "declared");
    let runner = session.start();
    let failure = session.wait_failed("m1");
    assert_eq!(failure.reason, Failure::TIMEOUT);
    assert!(failure.detail.contains("Bash") && failure.detail.contains("200 ms"), "{failure:?}");
    assert_eq!(session.tool(), None, "no tool runs between two turns");
    session.say("m2", "default");
    assert!(session.wait_failed("m2").detail.contains("Grep"));
    runner.stop();
}

#[test]
fn more_model_turns_than_allowed_end_the_turn() {
    let script = r#"{"rules": [{"match": "few", "do": [{"turns": 3}, {"reply": "ok"}]}],
                     "otherwise": [{"turns": 2}, {"turns": 2}, {"reply": "lost"}]}"#;
    let session = limited(script, r#""max_turns": 3"#);
    session.say("m1", "many");
    let runner = session.start();
    let failure = session.wait_failed("m1");
    assert_eq!((failure.reason.as_str(), failure.retryable), (Failure::TURN_LIMIT, false));
    session.say("m2", "few");
    assert_eq!(session.wait_ack("m2", AckStatus::Completed).turns, Some(3));
    assert_eq!(session.texts(), ["ok"]);
    runner.stop();
}

#[test]
fn a_send_is_committed_at_once_and_an_unknown_name_does_not_end_the_turn() {
    let session = Session::scripted(
        r#"{"otherwise": [{"send": {"to": "nobody", "text": "x"}},
            {"send": {"to": "ops", "text": "now"}}, {"sleep_ms": 300}, {"reply": "later"}]}"#,
    );
    session.destination("ops");
    session.say("m1", "go");
    let runner = session.start();
    wait_for("the row that was sent", || (!session.rows().is_empty()).then_some(()));
    assert_eq!(session.ack("m1").unwrap().status, AckStatus::Processing);
    assert_eq!(session.rows()[0].destination.platform_id.as_deref(), Some("elsewhere"));
    session.wait_ack("m1", AckStatus::Completed);
    assert_eq!(session.texts(), ["now", "later"]);
    assert!(runner.stop().contains("nobody"));
}

#[test]
fn requests_and_files_are_committed_with_the_turn() {
    let session = Session::scripted(
        r#"{"otherwise": [{"system": {"action": "note", "of": "{text}"}}, {"reply": "see"},
            {"file": {"name": "a.txt", "text": "A"}}, {"file": {"name": "a.txt", "text": "B"}}]}"#,
    );
    session.say("m1", "go");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    let rows = session.rows();
    let content =
        |n: usize| serde_json::from_str::<Value>(rows[n].content.as_deref().unwrap()).unwrap();
    assert_eq!((rows[0].kind.as_str(), &content(0)["of"]), ("system", &Value::from("go")));
    assert_eq!(content(1)["files"], serde_json::json!(["a.txt", "2-a.txt"]));
    let folder = session.paths.outbox_files().join(rows[1].id.as_str());
    assert_eq!(std::fs::read_to_string(folder.join("2-a.txt")).unwrap(), "B");
    runner.stop();
}

#[test]
fn a_file_with_a_dangerous_name_is_not_written() {
    let session =
        Session::scripted(r#"{"otherwise": [{"file": {"name": "../../evil", "text": "x"}}]}"#);
    session.say("m1", "go");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    assert!(session.texts()[0].contains("evil"), "and whoever reads the answer is told");
    assert!(!session.paths.out_dir().join("evil").exists());
    runner.stop();
}

#[test]
fn a_wrong_script_or_configuration_fails_the_turn_for_good() {
    let session = Session::scripted("{\n\"rules\": [{\"mach\": \"x\"}]}");
    session.say("m1", "go");
    let mut runner = session.start();
    let failure = session.wait_failed("m1");
    assert_eq!((failure.reason.as_str(), failure.retryable), ("agent_broken", false));
    assert_eq!(runner.end().0, Some(78), "it is of no use until something has changed");
    for part in ["script.json", "mach", "line 2"] {
        assert!(failure.detail.contains(part), "{failure:?}");
    }
    session.configure(r#"{"max_turn": 1}"#);
    session.say("m2", "go");
    assert_eq!(session.start().end().0, Some(78));
    let failure = session.wait_failed("m2");
    assert!(!failure.retryable && failure.detail.contains("max_turn"), "{failure:?}");
    session.configure("{}");
    session.say("m3", "mended");
    let runner = session.start();
    session.wait_ack("m3", AckStatus::Completed);
    runner.stop();
}

#[test]
fn a_script_may_fail_its_turn_or_end_the_process() {
    let session = Session::scripted(
        r#"{"rules": [{"match": "limit", "do": [{"fail": {"reason": "rate_limited", "retryable": true}}]}],
            "otherwise": [{"reply": "lost"}, {"exit": 137}]}"#,
    );
    session.say("m1", "limit");
    let mut runner = session.start();
    assert_eq!(session.wait_failed("m1").reason, "rate_limited");
    session.say("m2", "exit");
    assert_eq!(runner.end().0, Some(137));
    assert_eq!(session.ack("m2").unwrap().status, AckStatus::Processing);
    assert!(session.rows().is_empty());
}

#[test]
fn p7_sigterm_lets_a_turn_finish() {
    let session = Session::scripted(
        r#"{"otherwise": [{"tool": {"name": "t", "run_ms": 400}}, {"reply": "done"}]}"#,
    );
    session.say("m1", "go");
    let mut runner = session.start();
    wait_for("the tool to run", || session.tool());
    runner.terminate();
    assert_eq!(runner.end().0, Some(0));
    assert_eq!(session.ack("m1").unwrap().status, AckStatus::Completed);
    assert_eq!(session.texts(), ["done"]);
}

#[test]
fn p7_sigterm_gives_back_a_turn_that_does_not_finish() {
    let script = r#"{"otherwise": [{"tool": {"name": "t", "run_ms": 60000}}, {"reply": "lost"}]}"#;
    let session = Session::scripted(script);
    session.say("m1", "go");
    let mut runner = session.start_with(&["--grace-ms", "200"]);
    wait_for("the tool to run", || session.tool());
    session.accept(&[message("m2", "a follow-up")]);
    session.wait_ack("m2", AckStatus::Processing);
    runner.terminate();
    assert_eq!(runner.end().0, Some(0));
    for name in ["m1", "m2"] {
        let failure = session.wait_failed(name);
        assert_eq!((failure.reason.as_str(), failure.retryable), (Failure::RELEASED, true));
    }
    assert!(session.rows().is_empty());
}

#[test]
fn an_answer_waits_until_the_outbox_can_be_written_again() {
    let session = Session::scripted(
        r#"{"otherwise": [{"tool": {"name": "t", "run_ms": 300}}, {"reply": "kept"}]}"#,
    );
    session.say("m1", "go");
    let runner = session.start();
    wait_for("the tool to run", || session.tool());
    // No journal can be made where a folder has its name, so every commit fails.
    let obstacle = session.paths.out_dir().join("outbound.db-journal");
    wait_for("the journal's name", || std::fs::create_dir(&obstacle).ok());
    wait_for("a complaint", || runner.stderr().contains("could not").then_some(()));
    std::fs::remove_dir(&obstacle).unwrap();
    session.wait_ack("m1", AckStatus::Completed);
    assert_eq!(session.texts(), ["kept"]);
    runner.stop();
}

#[test]
fn a_follow_up_that_was_not_used_starts_the_next_turn() {
    // The first turn fails before it takes anything in.
    let session = Session::scripted(
        r#"{"rules": [{"match": "first", "do": [{"tool": {"name": "t", "run_ms": 400}},
              {"fail": {"reason": "provider_error"}}]}], "otherwise": [{"reply": "{text}"}]}"#,
    );
    session.say("m1", "first");
    let runner = session.start();
    wait_for("the tool to run", || session.tool());
    session.say("m2", "second");
    session.wait_ack("m2", AckStatus::Processing);
    session.wait_failed("m1");
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(session.texts(), ["second"]);
    runner.stop();
}

#[test]
fn a_message_that_is_due_later_is_answered_then() {
    let session = Session::new();
    let due = SystemClock.now() + Duration::from_millis(700);
    session.accept(&[NewMessage { process_after: Some(due), ..message("m1", "later") }]);
    let started = Instant::now();
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    assert!(SystemClock.now() >= due, "answered after {:?}", started.elapsed());
    runner.stop();
}
