//! What a person allowed is used once, by whoever holds the claim, and that is known for as long as the message is.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{NOW, claim, id, row, runner};
use twobox_shared::content::KIND_SYSTEM;
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{Claim, NewRow, OutboxWriter, Use};
use twobox_shared::retention::Forgettable;
use twobox_shared::seq::Seq;

fn uses(claims: &[Claim], rows: &[&str]) -> Vec<Use> {
    let each = claims.iter().zip(rows);
    each.map(|(claim, row)| Use { claim: claim.clone(), row: id(row) }).collect()
}

#[test]
fn a_yes_is_used_once_and_by_nobody_whose_claim_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbound.db");
    let claims = [claim("m1", 0)];
    let mut old = OutboxWriter::open(&path, runner()).unwrap();
    old.claim(&claims, NOW).unwrap();
    let asked = NewRow { kind: KIND_SYSTEM.to_owned(), ..row("ask-1", "m1") };
    old.send(&claims, &asked, Seq(2), NOW).unwrap();
    assert!(!old.is_used(&id("ask-1")).unwrap());
    drop(old);
    let next = runner();
    let mut outbox = OutboxWriter::open(&path, next).unwrap();
    outbox.claim(&[claim("m1", 1)], NOW).unwrap();
    drop(outbox);

    let mut old = OutboxWriter::open(&path, runner()).unwrap();
    let refused = old.use_yes(&claims, &uses(&claims, &["ask-1"]), NOW).unwrap_err();
    assert!(matches!(refused, BoxError::Fenced { .. }), "{refused}");
    assert!(!old.is_used(&id("ask-1")).unwrap(), "what was fenced off changed nothing");
    drop(old);

    let mut outbox = OutboxWriter::open(&path, next).unwrap();
    let claims = [claim("m1", 1)];
    let first = uses(&claims, &["ask-1"]);
    assert!(outbox.use_yes(&claims, &first, NOW).unwrap());
    assert!(outbox.use_yes(&claims, &first, NOW).unwrap(), "it is the same use, tried again");
    assert!(outbox.use_yes(&claims, &uses(&claims, &["ask-2"]), NOW).unwrap(), "another one");
    assert!(outbox.is_used(&id("ask-1")).unwrap());
    // What people were asked is nothing that was sent.
    assert!(outbox.already_sent(&claims[0], Seq(2)).unwrap().is_empty());

    let forget = |outbox: &mut OutboxWriter, message: &str| {
        outbox.forget(&Forgettable { acks: vec![id(message)], rows: Vec::new() }).unwrap();
    };
    forget(&mut outbox, "other");
    assert!(outbox.is_used(&id("ask-1")).unwrap(), "it is another message's");
    forget(&mut outbox, "m1");
    assert!(!outbox.is_used(&id("ask-1")).unwrap() && !outbox.is_used(&id("ask-2")).unwrap());
}

#[test]
fn a_use_is_no_others_and_is_noted_for_all_messages_of_a_turn_or_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbound.db");
    let (first, next) = (runner(), runner());
    let turn = |attempt| [claim("m 1", attempt), claim("m 1 2", attempt)];
    let both = |attempt| uses(&turn(attempt), &["ask-1", "ask-2"]);
    let mut outbox = OutboxWriter::open(&path, first).unwrap();
    outbox.claim(&turn(0), NOW).unwrap();
    assert!(outbox.use_yes(&turn(0), &both(0), NOW).unwrap());
    outbox.claim(&turn(1), NOW).unwrap();
    assert!(!outbox.use_yes(&turn(1), &both(1), NOW).unwrap(), "an earlier attempt has used it");
    drop(outbox);
    let mut outbox = OutboxWriter::open(&path, next).unwrap();
    outbox.claim(&turn(2), NOW).unwrap();
    let half = uses(&turn(2), &["ask-3", "ask-2"]);
    assert!(!outbox.use_yes(&turn(2), &half, NOW).unwrap(), "another runner has used it");
    assert!(!outbox.is_used(&id("ask-3")).unwrap(), "nothing is noted of what is refused");
    outbox.forget(&Forgettable { acks: vec![id("m 1")], rows: Vec::new() }).unwrap();
    let used = |row: &str| outbox.is_used(&id(row)).unwrap();
    assert_eq!((used("ask-1"), used("ask-2")), (false, true), "each is forgotten with its message");
}

#[test]
fn a_use_that_names_no_attempt_is_known_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbound.db");
    let mut outbox = OutboxWriter::open(&path, runner()).unwrap();
    outbox.claim(&[claim("m1", 0)], NOW).unwrap();
    let plain =
        "INSERT INTO session_state (key, value, updated_at) VALUES ('used:ask-1', 'm1', 't')";
    drop(outbox);
    rusqlite::Connection::open(&path).unwrap().execute(plain, []).unwrap();
    let mut outbox = OutboxWriter::open(&path, runner()).unwrap();
    assert!(outbox.is_used(&id("ask-1")).unwrap());
    outbox.forget(&Forgettable { acks: vec![id("m1")], rows: Vec::new() }).unwrap();
    assert!(!outbox.is_used(&id("ask-1")).unwrap());
}
