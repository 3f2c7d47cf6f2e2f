//! Which messages the runner takes up, and how their turns end.

use rusqlite::Connection;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::{RunnerId, SystemIds};
use twobox_shared::inbox::NewMessage;
use twobox_shared::outbox::{AckStatus, Claim, OutboxWriter, TurnEnd};
use twobox_shared::seq::Seq;

use crate::session::{Session, context, id, message, origin, wait_for};

const FOLLOW_UPS: &str = r#"{"rules": [
    {"match": "^slow", "do": [{"tool": {"name": "wait", "run_ms": 700}}, {"reply": "slow: {text}"}]}],
    "otherwise": [{"reply": "said {text}"}]}"#;

fn predecessor(session: &Session) -> OutboxWriter {
    let path = session.paths.outbound_db();
    OutboxWriter::open(&path, RunnerId::generate(&SystemIds)).unwrap()
}

fn claim(name: &str, attempt: i64) -> Claim {
    Claim { message: id(name), attempt }
}

/// What the rows list as answered, besides the message that each names.
fn answers(session: &Session) -> Vec<Vec<String>> {
    session.rows().iter().map(|row| row.chat().answers).collect()
}

#[test]
fn a_message_is_answered_where_it_came_from() {
    let session = Session::new();
    session.say("m1", "hello");
    let runner = session.start();
    let ack = session.wait_ack("m1", AckStatus::Completed);
    assert_eq!((ack.attempt, ack.runner), (Some(0), Some(runner.runner)));
    let rows = session.rows();
    assert_eq!(session.texts(), ["echo: hello"]);
    assert_eq!(rows[0].destination, origin("a"));
    assert_eq!((rows[0].in_reply_to.as_deref(), rows[0].seq), (Some("m1"), Seq(3)));
    session.say("m2", "again, while it waits");
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(session.rows()[1].seq, Seq(5));
    runner.stop();
}

#[test]
fn several_messages_make_one_turn() {
    let session = Session::new();
    session.accept(&[
        message("m1", "one"),
        context("c"),
        message("m2", "two"),
        NewMessage { origin: origin("b"), ..message("m3", "elsewhere") },
    ]);
    let runner = session.start();
    session.wait_ack("m3", AckStatus::Completed);
    for name in ["m1", "m2", "c"] {
        assert_eq!(session.ack(name).unwrap().status, AckStatus::Completed, "{name}");
    }
    assert_eq!(session.texts(), ["echo: one", "echo: two", "echo: elsewhere"]);
    let rows = session.rows();
    let named: Vec<_> = rows.iter().map(|row| row.in_reply_to.as_deref().unwrap()).collect();
    assert_eq!(named, ["m1", "m2", "m3"], "each reply of echo's answers its own message");
    assert_eq!(answers(&session), [[""; 0]; 3], "and no other");
    runner.stop();
}

#[test]
fn a_reply_that_names_no_message_answers_the_whole_turn() {
    let session = Session::scripted(r#"{"otherwise": [{"reply": "both"}]}"#);
    session.accept(&[message("m1", "one"), context("c"), message("m2", "two")]);
    let runner = session.start();
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(session.rows()[0].in_reply_to.as_deref(), Some("m2"));
    assert_eq!(answers(&session), [["m1", "m2"]]);
    runner.stop();
}

#[test]
fn what_a_batch_has_sent_is_known_to_each_of_its_messages_alone() {
    let session = Session::scripted(
        r#"{"rules": [{"match": "two", "attempt": 0, "do": [{"send": {"to": "ops", "text": "sent"}},
                {"fail": {"reason": "rate_limited", "retryable": true}}]}]}"#,
    );
    session.destination("ops");
    session.accept(&[message("m1", "one"), message("m2", "two")]);
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Failed);
    assert_eq!(answers(&session), [["m1", "m2"]]);
    // The same runner, and a program that shows its prompt.
    session.configure(r#"{"provider": "command", "command": ["/bin/sh", "-c",
            "read -r turn; case $turn in *'\"already_sent\":[\"sent\"]'*) text=known ;; *) text=new ;; esac; echo '{\"type\":\"reply\",\"text\":\"'$text'\"}'; echo '{\"type\":\"turn_done\"}'"]}"#,
    );
    for name in ["m1", "m2"] {
        session.charge(name, 0);
        session.wait_ack(name, AckStatus::Completed);
    }
    assert_eq!(session.texts(), ["sent", "known", "known"]);
    runner.stop();
}

#[test]
fn a_follow_up_is_used_in_the_running_turn_and_acked_with_it() {
    let session = Session::scripted(FOLLOW_UPS);
    session.say("m1", "slow");
    let runner = session.start();
    wait_for("the tool to run", || session.tool());
    session.say("m2", "more");
    session.wait_ack("m2", AckStatus::Processing);
    assert_eq!(session.ack("m1").unwrap().status, AckStatus::Processing, "the same turn");
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(session.ack("m1").unwrap().status, AckStatus::Completed);
    assert_eq!(session.texts(), ["slow: slow", "said more"]);
    let replies: Vec<_> = session.rows().into_iter().map(|row| row.in_reply_to.unwrap()).collect();
    assert_eq!(replies, ["m1", "m2"]);
    assert_eq!(answers(&session), [vec![], vec!["m1", "m2"]]);
    runner.stop();
}

#[test]
fn context_rows_neither_start_nor_extend_a_turn() {
    let session = Session::scripted(FOLLOW_UPS);
    session.accept(&[context("c1")]);
    let runner = session.start();
    wait_for("the outbox", || session.paths.outbound_db().exists().then_some(()));
    session.say("m1", "slow");
    wait_for("the tool to run", || session.tool());
    session.accept(&[context("c2")]);
    session.wait_ack("m1", AckStatus::Completed);
    assert_eq!(session.ack("c1").unwrap().status, AckStatus::Completed, "it rode along");
    // A later turn is the proof that the runner has looked again and left the row alone.
    session.accept(&[NewMessage { origin: origin("b"), ..message("m2", "other") }]);
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(session.ack("c2"), None);
    runner.stop();
}

#[test]
fn a_thousand_rows_ahead_do_not_hide_a_message() {
    let session = Session::new();
    let mut rows: Vec<_> = (0..500).map(|n| context(&format!("c{n}"))).collect();
    rows.extend((0..500).map(|n| message(&format!("old{n}"), "claimed long ago")));
    rows.push(message("m", "here"));
    session.accept(&rows);
    let claims: Vec<_> = (0..500).map(|n| claim(&format!("old{n}"), 0)).collect();
    predecessor(&session).claim(&claims, SystemClock.now()).unwrap();
    let runner = session.start();
    session.wait_ack("m", AckStatus::Completed);
    assert_eq!(session.texts(), ["echo: here"]);
    runner.stop();
}

#[test]
fn p17_a_message_that_failed_before_goes_alone() {
    let session = Session::new();
    session.accept(&[message("poison", "bad"), message("m", "good")]);
    session.charge("poison", 0);
    let kill = [("TWOBOX_CRASH_AT", "runner.claimed")];
    let mut first = session.start_as(RunnerId::generate(&SystemIds), &[], &kill);
    assert_eq!(first.end().0, None, "it was killed");
    assert_eq!(session.ack("poison").unwrap().attempt, Some(1));
    assert_eq!(session.ack("m"), None, "the other message is untouched");
    let runner = session.start();
    session.wait_ack("m", AckStatus::Completed);
    runner.stop();
}

#[test]
fn p2_a_predecessors_claim_blocks_until_it_is_charged() {
    let session = Session::new();
    session.accept(&[message("m1", "claimed")]);
    predecessor(&session).claim(&[claim("m1", 0)], SystemClock.now()).unwrap();
    let runner = session.start();
    session.say("m2", "free");
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(session.ack("m1").unwrap().status, AckStatus::Processing);
    session.charge("m1", 0);
    assert_eq!(session.wait_ack("m1", AckStatus::Completed).attempt, Some(1));
    runner.stop();
}

#[test]
fn p3_what_any_attempt_completed_is_never_claimed_again() {
    let session = Session::new();
    session.accept(&[message("m1", "answered already")]);
    let claims = [claim("m1", 0)];
    let mut outbox = predecessor(&session);
    outbox.claim(&claims, SystemClock.now()).unwrap();
    let end = TurnEnd { claims: &claims, outcome: Ok(&[]), turns: 0, continuation: None };
    outbox.end_turn(&end, Seq(0), SystemClock.now()).unwrap();
    drop(outbox);
    session.charge("m1", 0);
    session.say("m2", "next");
    let runner = session.start();
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(session.ack("m1").unwrap().attempt, Some(0));
    assert_eq!(session.texts(), ["echo: next"]);
    runner.stop();
}

#[test]
fn a_turn_whose_claim_was_taken_away_is_discarded() {
    let session = Session::scripted(FOLLOW_UPS);
    session.say("m1", "slow");
    let mut runner = session.start();
    wait_for("the tool to run", || session.tool());
    let thief = RunnerId::generate(&SystemIds).to_string();
    Connection::open(session.paths.outbound_db())
        .unwrap()
        .execute("UPDATE processing_ack SET runner_id = ?1", [&thief])
        .unwrap();
    let (code, stderr) = runner.end();
    assert_eq!(code, Some(76), "{stderr}");
    assert!(stderr.contains("m1"), "{stderr}");
    assert!(session.rows().is_empty());
    assert_eq!(session.ack("m1").unwrap().runner.unwrap().to_string(), thief);
}

#[test]
fn an_inbox_of_the_first_protocol_version_is_read() {
    let session = Session::without_inbox();
    let legacy = Connection::open(session.paths.inbound_db()).unwrap();
    legacy
        .execute_batch(
            "CREATE TABLE messages_in (id TEXT PRIMARY KEY, seq INTEGER UNIQUE, kind TEXT NOT NULL,
               timestamp TEXT NOT NULL, status TEXT DEFAULT 'pending', process_after TEXT,
               recurrence TEXT, series_id TEXT, tries INTEGER DEFAULT 0,
               trigger INTEGER NOT NULL DEFAULT 1, platform_id TEXT, channel_type TEXT,
               thread_id TEXT, content TEXT NOT NULL, source_session_id TEXT,
               on_wake INTEGER NOT NULL DEFAULT 0);
             INSERT INTO messages_in (id, seq, kind, timestamp, process_after, content)
               VALUES ('m1', 8, 'chat', '2025-01-01 00:00:00', '2025-01-01 00:00:01', 'plain');",
        )
        .unwrap();
    drop(legacy);
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    assert_eq!(session.texts(), ["echo: plain"]);
    assert_eq!(session.rows()[0].seq, Seq(9));
    runner.stop();
}

#[test]
fn what_is_taken_back_takes_nothing_else_with_it_and_gets_no_turn_later() {
    let session = Session::scripted(
        r#"{"rules": [{"match": "^slow", "do": [{"sleep_ms": 60000}]}],
            "otherwise": [{"reply": "echo: {text}"}]}"#,
    );
    session.accept(&[context("c1"), message("m1", "slow")]);
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Processing);
    session.say("m2", "hurry up");
    session.wait_ack("m2", AckStatus::Processing);
    session.take_back(&["m1", "m2"]);
    for name in ["m1", "m2"] {
        assert_eq!(session.wait_failed(name).reason, "aborted", "{name}");
    }
    let told_later = session.wait_failed("c1");
    assert_eq!((told_later.reason.as_str(), told_later.retryable), ("released", true));
    session.say("m3", "after");
    session.wait_ack("m3", AckStatus::Completed);
    assert_eq!(session.texts(), ["echo: after"]);
    runner.stop();
}

#[test]
fn what_is_taken_back_of_several_gives_the_others_back() {
    let session = Session::scripted(
        r#"{"rules": [{"match": "(?s).", "attempt": 0, "do": [{"sleep_ms": 60000}]}],
            "otherwise": [{"reply": "echo: {text}"}]}"#,
    );
    session.accept(&[message("m1", "slow"), message("m2", "wrong"), message("m3", "right")]);
    let runner = session.start();
    session.wait_ack("m3", AckStatus::Processing);
    session.take_back(&["m2"]);
    for name in ["m1", "m2", "m3"] {
        let failure = session.wait_failed(name);
        assert_eq!((failure.reason.as_str(), failure.retryable), ("released", true), "{name}");
    }
    runner.stop();
}
