//! What people are asked in the middle of a turn, with a test in the place of the host and of the people.

use serde_json::{Value, json};
use twobox_shared::content::{KIND_SYSTEM, answer_id};
use twobox_shared::fault::CrashPoint;
use twobox_shared::ids::{MessageId, RunnerId, SessionId, SystemIds};
use twobox_shared::inbox::NewMessage;
use twobox_shared::outbox::AckStatus;

use crate::gateway::{Answer, Gateway};
use crate::model::{bash, session_with};
use crate::session::{LABEL, Runner, Session, message, wait_for};

const RUN: &str = "echo ran >> runs";

/// The rows that ask whether a tool may be used, and with what.
fn asked(session: &Session) -> Vec<(MessageId, String)> {
    let rows = session.rows().into_iter().filter(|row| row.kind == KIND_SYSTEM);
    rows.map(|row| {
        let content: Value = serde_json::from_str(&row.content.unwrap()).unwrap();
        (row.id, content["arguments"].as_str().unwrap().to_owned())
    })
    .collect()
}

fn wait_asked(session: &Session, nth: usize) -> (MessageId, String) {
    wait_for("people to be asked", || asked(session).into_iter().nth(nth))
}

/// Answers what `row` has asked.
fn decide(session: &Session, row: &MessageId, ok: bool) {
    let label: SessionId = LABEL.parse().unwrap();
    let text = if ok { "A person allowed it." } else { "A person denied it." };
    let content = json!({"text": text, "request": row, "action": "ask_permission", "ok": ok});
    session.accept(&[NewMessage {
        id: answer_id(label, row),
        kind: KIND_SYSTEM.into(),
        content: content.to_string(),
        trigger: false,
        ..message("answer", "")
    }]);
}

fn start_to_die(session: &Session, point: CrashPoint) -> Runner {
    let order = [("TWOBOX_CRASH_AT", point.name())];
    session.start_as(RunnerId::generate(&SystemIds), &[], &order)
}

fn asking() -> (Session, Gateway) {
    session_with(vec![bash(RUN)], json!({"bash": "ask"}))
}

fn runs(session: &Session) -> String {
    std::fs::read_to_string(session.folder("work").join("runs")).unwrap_or_default()
}

#[test]
fn a_yes_is_used_once_also_over_the_death_of_who_used_it() {
    for (point, ran) in [(CrashPoint::RunnerPermissionUsed, 0), (CrashPoint::RunnerToolDone, 1)] {
        let (session, gateway) = asking();
        session.say("m1", "do it");
        let mut runner = start_to_die(&session, point);
        let (first, said) = wait_asked(&session, 0);
        assert_eq!(said, format!("command=\"{RUN}\""));
        decide(&session, &first, true);
        runner.end();
        assert_eq!(runs(&session), "ran\n".repeat(ran), "{point:?}");
        session.charge("m1", 0);
        gateway.then([bash(RUN), bash(RUN), Answer::Says("done")]);
        let runner = session.start();
        let (second, said) = wait_asked(&session, 1);
        assert!(said.contains("allowed before") && said.contains("may have been done"), "{said}");
        assert_eq!(runs(&session), "ran\n".repeat(ran), "{point:?}: nobody has said yes to that");
        decide(&session, &second, true);
        // What is asked twice in a turn is another question, and no repetition of what broke off.
        let (third, said) = wait_asked(&session, 2);
        assert!(first != second && second != third);
        assert_eq!(said, format!("command=\"{RUN}\""));
        decide(&session, &third, false);
        session.wait_ack("m1", AckStatus::Completed);
        assert_eq!(runs(&session), "ran\n".repeat(ran + 1), "{point:?}");
        let told = gateway.asked(1)["messages"].to_string();
        assert!(told.contains("outcome unknown") && !told.contains("ask_permission"), "{told}");
        runner.stop();
    }
}

#[test]
fn a_use_is_known_to_each_message_of_its_turn_also_when_the_first_is_settled() {
    let (session, gateway) = asking();
    session.accept(&[message("m1", "do it"), message("m2", "now")]);
    let mut runner = start_to_die(&session, CrashPoint::RunnerToolDone);
    let (first, _) = wait_asked(&session, 0);
    decide(&session, &first, true);
    runner.end();
    assert_eq!(runs(&session), "ran\n");
    session.take_back(&["m1"]);
    session.charge("m2", 0);
    gateway.then([bash(RUN), Answer::Says("done")]);
    let runner = session.start();
    let (second, said) = wait_asked(&session, 1);
    assert!(first != second && said.contains("may have been done"), "{said}");
    decide(&session, &second, false);
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(runs(&session), "ran\n");
    runner.stop();
}

#[test]
fn a_use_is_known_to_a_message_that_joins_its_turn_later() {
    let (session, gateway) = asking();
    gateway.then([bash("echo other")]);
    session.say("m1", "do it");
    let mut runner = session.start();
    let (first, _) = wait_asked(&session, 0);
    session.say("m2", "and be quick");
    session.wait_ack("m2", AckStatus::Processing);
    decide(&session, &first, true);
    let (other, said) = wait_asked(&session, 1); // by a model that was told of both
    assert_eq!(said, "command=\"echo other\"");
    assert!(gateway.asked(1)["messages"].to_string().contains("and be quick"));
    assert_eq!(runs(&session), "ran\n");
    runner.signal(nix::sys::signal::Signal::SIGKILL);
    runner.end();
    session.take_back(&["m1"]);
    session.charge("m2", 0);
    gateway.then([bash(RUN), Answer::Says("done")]);
    let runner = session.start();
    let (second, said) = wait_asked(&session, 2);
    assert!(first != second && other != second && said.contains("may have been done"), "{said}");
    decide(&session, &second, false);
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(runs(&session), "ran\n");
    runner.stop();
}

#[test]
fn a_yes_that_nobody_has_used_waits_for_the_next_attempt() {
    let (session, gateway) = asking();
    session.say("m1", "do it");
    let mut runner = session.start();
    let (row, _) = wait_asked(&session, 0);
    runner.signal(nix::sys::signal::Signal::SIGKILL);
    runner.end();
    decide(&session, &row, true);
    session.charge("m1", 0);
    gateway.then([bash(RUN), Answer::Says("done")]);
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    assert_eq!((asked(&session).len(), runs(&session).as_str()), (1, "ran\n"));
    runner.stop();
}

#[test]
fn an_agent_with_too_much_to_be_told_says_so_before_a_model_is_asked() {
    let (session, gateway) = session_with(vec![Answer::Says("hello")], json!({}));
    session.program_file("AGENTS.md", &"Be brief. ".repeat(40_000));
    session.say("m1", "hi");
    let mut runner = session.start();
    let failure = session.wait_failed("m1");
    assert!(failure.detail.contains("shorten AGENTS.md"), "{failure:?}");
    assert!(failure.detail.contains("has 40"), "400 kB and what is said besides: {failure:?}");
    assert_eq!(gateway.bodies().len(), 0);
    runner.end();
}
