//! What a person allowed is used once, by whoever holds the claim, and that is known for as long as the message is.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{NOW, claim, id, row, runner};
use twobox_shared::content::KIND_SYSTEM;
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{NewRow, OutboxWriter};
use twobox_shared::retention::Forgettable;
use twobox_shared::seq::Seq;

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
    let refused = old.use_yes(&claims, &id("m1"), &id("ask-1"), NOW).unwrap_err();
    assert!(matches!(refused, BoxError::Fenced { .. }), "{refused}");
    assert!(!old.is_used(&id("ask-1")).unwrap(), "what was fenced off changed nothing");
    drop(old);

    let mut outbox = OutboxWriter::open(&path, next).unwrap();
    let claims = [claim("m1", 1)];
    assert!(outbox.use_yes(&claims, &id("m1"), &id("ask-1"), NOW).unwrap());
    assert!(!outbox.use_yes(&claims, &id("m1"), &id("ask-1"), NOW).unwrap(), "it was before");
    assert!(outbox.use_yes(&claims, &id("m1"), &id("ask-2"), NOW).unwrap(), "another one");
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
