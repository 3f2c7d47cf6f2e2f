//! What holds of the two boxes whatever happens in whichever order. `P` and `S` numbers are findings
//! of the protocol's review.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::{Path, PathBuf};

use common::{NOW, claim, id, message, origin, row, runner};
use proptest::prelude::*;
use twobox_shared::content::{Failure, digest16};
use twobox_shared::ids::MESSAGE_ID_MAX;
use twobox_shared::inbox::{
    Cursor, Delivery, DeliveryStatus, Inbox, InboxReader, InboxTx, NewMessage, Origin, Purpose,
};
use twobox_shared::open::{BoxError, Remedy};
use twobox_shared::outbox::{
    Ack, AckStatus, NewRow, OutboxWriter, Source, TurnEnd, read_untrusted,
};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

struct Boxes {
    dir: tempfile::TempDir,
}

impl Boxes {
    fn new() -> Self {
        let boxes = Self { dir: tempfile::tempdir().unwrap() };
        drop(Inbox::open(&boxes.inbox()).unwrap());
        boxes
    }

    fn inbox(&self) -> PathBuf {
        self.dir.path().join("inbound.db")
    }

    fn outbox(&self) -> PathBuf {
        self.dir.path().join("outbound.db")
    }

    /// One committed change of the inbox.
    fn change<T>(&self, work: impl FnOnce(&InboxTx<'_>) -> T) -> T {
        let mut inbox = Inbox::open(&self.inbox()).unwrap();
        let tx = inbox.write().unwrap();
        let result = work(&tx);
        tx.commit().unwrap();
        result
    }

    fn accept(&self, message_id: &str, content: &str) -> (String, bool) {
        let accepted =
            self.change(|tx| tx.accept(&message(message_id, content), Seq(0), NOW)).unwrap();
        (accepted.id.to_string(), accepted.duplicate)
    }

    fn ids(&self) -> usize {
        InboxReader::open(&self.inbox()).unwrap().ids().unwrap().len()
    }

    fn rows(&self) -> Vec<(String, i64)> {
        read_untrusted(&self.outbox(), Source::Live, common::LONG, |outbox| {
            let rows = outbox.rows(Seq(0), Seq(0), 10_000)?.rows;
            Ok(rows.into_iter().map(|row| (row.id.to_string(), row.seq.0)).collect())
        })
        .unwrap()
        .unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Accept,
    Send,
    HostReads,
    RunnerReads,
    OutboxIsLost,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Accept),
        4 => Just(Step::Send),
        2 => Just(Step::HostReads),
        2 => Just(Step::RunnerReads),
        1 => Just(Step::OutboxIsLost),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn numbers_never_collide_and_exceed_all_that_their_writer_had_read(
        steps in proptest::collection::vec(step(), 1..25)
    ) {
        let boxes = Boxes::new();
        let runner = runner();
        // Each side's view of the other box may be old.
        let (mut host_saw, mut runner_saw) = (Seq(0), Seq(0));
        let mut used = std::collections::BTreeSet::new();
        let (mut newest_in, mut newest_out) = (Seq(0), Seq(0));
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Accept => {
                    let new = message(&format!("m{n}"), "{}");
                    let seq = boxes.change(|tx| tx.accept(&new, host_saw, NOW)).unwrap().seq;
                    prop_assert!(seq.0 % 2 == 0 && seq > newest_in && seq > host_saw);
                    prop_assert!(used.insert(seq));
                    newest_in = seq;
                }
                Step::Send => {
                    let mut outbox = OutboxWriter::open(&boxes.outbox(), runner).unwrap();
                    let new = row(&format!("r{n}"), "m");
                    let seq = outbox.send(&[], &new, runner_saw, NOW).unwrap();
                    prop_assert!(seq.0 % 2 == 1 && seq > newest_out && seq > runner_saw);
                    prop_assert!(used.insert(seq));
                    newest_out = seq;
                }
                Step::HostReads => {
                    host_saw = host_saw.max(newest_out);
                    boxes.change(|tx| tx.advance(Cursor { seq: Seq(0), seen: host_saw })).unwrap();
                }
                Step::RunnerReads => {
                    let reader = InboxReader::open(&boxes.inbox()).unwrap();
                    let outbox = OutboxWriter::open(&boxes.outbox(), runner).unwrap();
                    let look = reader.look(&outbox, Purpose::Turn { first: true }, NOW).unwrap();
                    prop_assert!(look.seq_floor >= newest_in.max(host_saw));
                    runner_saw = look.seq_floor;
                }
                // The recreated outbox counts on above whatever the host has ever seen of it.
                Step::OutboxIsLost => {
                    host_saw = host_saw.max(newest_out);
                    boxes.change(|tx| tx.advance(Cursor { seq: Seq(0), seen: host_saw })).unwrap();
                    if boxes.outbox().exists() {
                        std::fs::remove_file(boxes.outbox()).unwrap();
                    }
                    runner_saw = newest_in.max(host_saw);
                }
            }
        }
    }

    #[test]
    fn the_cursor_never_goes_back(moves in proptest::collection::vec((0..50_i64, 0..50_i64), 1..12)) {
        let boxes = Boxes::new();
        let mut before = Cursor::default();
        for (seq, seen) in moves {
            let moved = boxes.change(|tx| tx.advance(Cursor { seq: Seq(seq), seen: Seq(seen) })).unwrap();
            let after = boxes.change(|tx| tx.cursor()).unwrap();
            prop_assert_eq!(after.seq, before.seq.max(Seq(seq)));
            prop_assert_eq!(after.seen, before.seen.max(Seq(seq)).max(Seq(seen)));
            prop_assert_eq!(moved, after != before);
            before = after;
        }
    }

    #[test]
    fn p19_accepting_again_adds_nothing(sends in proptest::collection::vec((0..3_usize, 0..3_usize), 1..15)) {
        let boxes = Boxes::new();
        let long = "x".repeat(MESSAGE_ID_MAX);
        let names = ["a", "b", &long];
        let mut known = std::collections::BTreeMap::new();
        for (name, content) in sends {
            let (stored, duplicate) = boxes.accept(names[name], &format!("{{\"n\":{content}}}"));
            prop_assert_eq!(duplicate, known.contains_key(&(name, content)));
            let first = known.entry((name, content)).or_insert_with(|| stored.clone());
            prop_assert_eq!(&*first, &stored, "the same message has the same id each time");
            prop_assert_eq!(boxes.ids(), known.len());
        }
        let distinct: std::collections::BTreeSet<_> = known.values().collect();
        prop_assert_eq!(distinct.len(), known.len());
    }
}

#[test]
fn p19_other_content_is_stored_under_a_derived_id() {
    let boxes = Boxes::new();
    assert_eq!(boxes.accept("a", "one"), ("a".into(), false));
    let derived = format!("a~{}", digest16("two"));
    assert_eq!(boxes.accept("a", "two"), (derived.clone(), false));
    assert_eq!(boxes.accept("a", "two"), (derived.clone(), true));
    assert_eq!(
        boxes.accept(&derived, "three"),
        (format!("{derived}~{}", digest16("three")), false)
    );
}

#[test]
fn p19_a_derived_id_that_somebody_took_hides_no_message() {
    let boxes = Boxes::new();
    let taken = format!("a~{}", digest16("two"));
    assert_eq!(boxes.accept(&taken, "first"), (taken, false));
    assert_eq!(boxes.accept("a", "one"), ("a".into(), false));
    let (_, duplicate) = boxes.accept("a", "two");
    assert!(!duplicate);
    assert_eq!(boxes.ids(), 3);
}

#[test]
fn the_same_id_and_words_in_another_chat_are_another_message() {
    let boxes = Boxes::new();
    let said = |kind: &str, chat: &str| NewMessage {
        kind: kind.to_owned(),
        origin: Origin { platform_id: Some(chat.to_owned()), ..origin() },
        ..message("a", "{}")
    };
    let accept = |message: &NewMessage| {
        let accepted = boxes.change(|tx| tx.accept(message, Seq(0), NOW)).unwrap();
        (accepted.id.to_string(), accepted.duplicate)
    };
    let derived = format!("a~{}", digest16("{}"));
    for kind in ["chat", "word"] {
        let again = kind == "word"; // as whatever kind it is judged when it comes again
        assert_eq!(accept(&said(kind, "1")), ("a".to_owned(), again), "{kind}");
        assert_eq!(accept(&said(kind, "2")), (derived.clone(), again), "{kind}");
        assert_eq!(accept(&said(kind, "2")), (derived.clone(), true), "{kind}");
        let kept = boxes.change(|tx| tx.accepted_as(&said(kind, "2"))).unwrap();
        assert_eq!(kept.as_deref(), Some("chat"));
    }
    assert_eq!(boxes.change(|tx| tx.accepted_as(&said("chat", "3"))).unwrap(), None);
    // What the host says itself comes from no chat, wherever its answer goes.
    assert_eq!(accept(&said("system", "3")), ("a".to_owned(), true));
    assert_eq!(boxes.ids(), 2);
}

#[test]
fn applying_a_decision_twice_changes_nothing() {
    let failure = Failure::permanent("timeout", "too slow");
    let later = Some(UnixMillis(NOW.0 + 5000));
    type Decision<'a> = (&'a str, Box<dyn Fn(&InboxTx<'_>) -> bool + 'a>);
    let m = id("m");
    let decisions: Vec<Decision<'_>> = vec![
        ("charge", Box::new(|tx| tx.charge(&m, 0, false, later).unwrap())),
        ("charge and forgive", Box::new(|tx| tx.charge(&m, 0, true, None).unwrap())),
        ("fail", Box::new(|tx| tx.fail(&m, 0, &failure).unwrap())),
        ("complete", Box::new(|tx| tx.complete(&m).unwrap())),
    ];
    for (case, decide) in &decisions {
        let boxes = Boxes::new();
        boxes.accept("m", "{}");
        assert!(boxes.change(|tx| decide(tx)), "{case}");
        let once = std::fs::read(boxes.inbox()).unwrap();
        assert!(!boxes.change(|tx| decide(tx)), "{case}: again");
        assert_eq!(std::fs::read(boxes.inbox()).unwrap(), once, "{case}: again");
        for (other, late) in &decisions[..3] {
            assert!(!boxes.change(|tx| late(tx)), "{case}, then an old {other}");
        }
    }
}

#[test]
fn p3_an_ack_changes_only_a_pending_message() {
    let boxes = Boxes::new();
    boxes.accept("m", "{}");
    assert!(boxes.change(|tx| tx.fail(&id("m"), 0, &Failure::retryable("x", ""))).unwrap());
    assert!(!boxes.change(|tx| tx.complete(&id("m"))).unwrap());
    let failed = boxes.change(|tx| tx.failed()).unwrap();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].1.reason, "x");
}

#[test]
fn p8_reviving_keeps_tries_so_that_the_message_can_be_claimed() {
    let boxes = Boxes::new();
    boxes.accept("m", "{}");
    let runner = runner();
    let claim_now = |attempt| {
        let mut outbox = OutboxWriter::open(&boxes.outbox(), runner).unwrap();
        outbox.claim(&[claim("m", attempt)], NOW).unwrap().len() == 1
    };
    assert!(claim_now(0));
    assert!(boxes.change(|tx| tx.charge(&id("m"), 0, false, None)).unwrap());
    assert!(claim_now(1));
    assert!(boxes.change(|tx| tx.fail(&id("m"), 1, &Failure::retryable("x", ""))).unwrap());
    assert!(boxes.change(|tx| tx.revive(&id("m"))).unwrap());
    assert!(!boxes.change(|tx| tx.revive(&id("m"))).unwrap(), "again");
    let pending = boxes.change(|tx| tx.pending()).unwrap();
    assert_eq!((pending[0].tries, pending[0].forgiven), (2, 2));
    assert_eq!(pending[0].process_after, None);
    assert!(claim_now(2), "the next attempt has a new number");
}

#[test]
fn p3_a_claim_is_made_only_by_a_higher_attempt_and_never_over_an_answer() {
    let boxes = Boxes::new();
    let (first, second) = (runner(), runner());
    let try_claim = |by, attempt| {
        let mut outbox = OutboxWriter::open(&boxes.outbox(), by).unwrap();
        !outbox.claim(&[claim("m", attempt)], NOW).unwrap().is_empty()
    };
    assert!(try_claim(first, 0), "free");
    assert!(!try_claim(second, 0), "uncharged claim of a predecessor");
    assert!(try_claim(second, 1), "charged");
    assert!(!try_claim(first, 0), "an older attempt");
    let mut outbox = OutboxWriter::open(&boxes.outbox(), second).unwrap();
    let claims = [claim("m", 1)];
    let end = TurnEnd { claims: &claims, outcome: Ok(&[]), turns: 2, continuation: None };
    outbox.end_turn(&end, Seq(0), NOW).unwrap();
    drop(outbox);
    assert!(!try_claim(first, 5), "completed");
}

#[test]
fn turns_that_nobody_counted_are_not_known() {
    for (counted, kept) in [(0, None), (3, Some(3))] {
        let boxes = Boxes::new();
        let mut outbox = OutboxWriter::open(&boxes.outbox(), runner()).unwrap();
        let claims = outbox.claim(&[claim("m", 0)], NOW).unwrap();
        let end = TurnEnd { claims: &claims, outcome: Ok(&[]), turns: counted, continuation: None };
        outbox.end_turn(&end, Seq(0), NOW).unwrap();
        assert_eq!(outbox.ack(&id("m")).unwrap().unwrap().turns, kept, "{counted}");
    }
}

#[test]
fn a_claim_is_repeated_only_by_whom_it_belongs_to_and_only_while_it_stands() {
    let boxes = Boxes::new();
    let (mine, other) = (runner(), runner());
    let wanted = [claim("a", 1), claim("b", 1)];
    let claim_as = |by| OutboxWriter::open(&boxes.outbox(), by).unwrap().claim(&wanted, NOW);
    assert_eq!(claim_as(mine).unwrap(), wanted, "made");
    assert_eq!(claim_as(mine).unwrap(), wanted, "the commit reported an error, so once more");
    assert_eq!(claim_as(other).unwrap(), [], "another runner's");
    let mut outbox = OutboxWriter::open(&boxes.outbox(), mine).unwrap();
    assert_eq!(outbox.ack(&id("a")).unwrap().unwrap().runner, Some(mine), "it stayed");
    for attempt in [0, 2] {
        let other_attempt = [claim("b", attempt)];
        let made = outbox.claim(&other_attempt, NOW).unwrap().len();
        assert_eq!(made, usize::from(attempt > 1), "attempt {attempt}");
    }
    let failure = Failure::retryable("timeout", "");
    let ends = [("a", 1, Err(&failure)), ("b", 2, Ok(&[][..]))];
    for (message, attempt, outcome) in ends {
        let claims = [claim(message, attempt)];
        let end = TurnEnd { claims: &claims, outcome, turns: 0, continuation: None };
        outbox.end_turn(&end, Seq(0), NOW).unwrap();
        assert_eq!(outbox.claim(&claims, NOW).unwrap(), [], "{message} has ended");
    }
}

#[test]
fn the_end_of_a_turn_is_fenced_and_commits_all_or_nothing() {
    let boxes = Boxes::new();
    let (old, new) = (runner(), runner());
    let claims = [claim("a", 0), claim("b", 0)];
    let mut outbox = OutboxWriter::open(&boxes.outbox(), old).unwrap();
    assert_eq!(outbox.claim(&claims, NOW).unwrap().len(), 2);
    drop(outbox);
    let mut taken_over = OutboxWriter::open(&boxes.outbox(), new).unwrap();
    assert_eq!(taken_over.claim(&[claim("b", 1)], NOW).unwrap().len(), 1);
    drop(taken_over);

    let mut outbox = OutboxWriter::open(&boxes.outbox(), old).unwrap();
    let replies = [row("r1", "a"), row("r2", "b")];
    let end = TurnEnd { claims: &claims, outcome: Ok(&replies), turns: 1, continuation: Some("c") };
    let error = outbox.end_turn(&end, Seq(4), NOW).unwrap_err();
    assert!(matches!(&error, BoxError::Fenced { message } if message == "b"), "{error}");
    assert_eq!(error.remedy(), Remedy::Operator);
    let error = outbox.send(&claims, &row("r3", "a"), Seq(4), NOW).unwrap_err();
    assert!(matches!(error, BoxError::Fenced { .. }), "{error}");
    assert_eq!(outbox.continuation().unwrap(), None);
    let ack = |outbox: &OutboxWriter, m| outbox.ack(&id(m)).unwrap().unwrap();
    assert_eq!(ack(&outbox, "a").status, AckStatus::Processing);
    let theirs =
        Ack { attempt: Some(1), runner: Some(new), changed_at: Some(NOW), ..Ack::default() };
    assert_eq!(ack(&outbox, "b"), theirs);
    drop(outbox);
    assert_eq!(boxes.rows(), []);

    let mut outbox = OutboxWriter::open(&boxes.outbox(), new).unwrap();
    let claims = [claim("b", 1)];
    let end = TurnEnd { claims: &claims, outcome: Ok(&replies), turns: 1, continuation: Some("c") };
    outbox.end_turn(&end, Seq(4), NOW).unwrap();
    assert_eq!(outbox.continuation().unwrap().as_deref(), Some("c"));
    let error = outbox.end_turn(&end, Seq(4), NOW).unwrap_err();
    assert!(matches!(error, BoxError::Fenced { .. }), "twice: {error}");
    drop(outbox);
    assert_eq!(boxes.rows(), [("r1".into(), 5), ("r2".into(), 7)]);
}

#[test]
fn a_failed_turn_leaves_no_rows_and_no_continuation() {
    let boxes = Boxes::new();
    let mut outbox = OutboxWriter::open(&boxes.outbox(), runner()).unwrap();
    let claims = outbox.claim(&[claim("a", 0)], NOW).unwrap();
    let failure = Failure::retryable(Failure::RELEASED, "told to leave");
    let end =
        TurnEnd { claims: &claims, outcome: Err(&failure), turns: 3, continuation: Some("c") };
    outbox.end_turn(&end, Seq(0), NOW).unwrap();
    assert_eq!(outbox.continuation().unwrap(), None);
    let ack = outbox.ack(&id("a")).unwrap().unwrap();
    assert_eq!((ack.status, ack.failure, ack.turns), (AckStatus::Failed, Some(failure), Some(3)));
    drop(outbox);
    assert_eq!(boxes.rows(), []);
}

#[test]
fn a_retried_turn_is_told_what_earlier_attempts_sent() {
    let boxes = Boxes::new();
    let first = runner();
    let mut outbox = OutboxWriter::open(&boxes.outbox(), first).unwrap();
    let claims = outbox.claim(&[claim("a", 0), claim("b", 0)], NOW).unwrap();
    let content = r#"{"text":"r3","answers":["a","b"]}"#.to_owned();
    let together = NewRow { content, ..row("r3", "b") };
    for new in [row("r1", "a"), row("r2", "other"), together] {
        outbox.send(&claims, &new, Seq(2), NOW).unwrap();
    }
    let sent = |outbox: &OutboxWriter, message, attempt, seq| {
        let sent = outbox.already_sent(&claim(message, attempt), Seq(seq)).unwrap();
        sent.into_iter().map(|chat| chat.text).collect::<Vec<_>>()
    };
    assert!(sent(&outbox, "a", 0, 2).is_empty(), "its own rows");
    drop(outbox);
    for (case, by) in [("another runner", runner()), ("the same runner", first)] {
        let mut outbox = OutboxWriter::open(&boxes.outbox(), by).unwrap();
        assert_eq!(sent(&outbox, "a", 1, 2), ["r1", "r3"], "{case}: alone and among others");
        assert_eq!(sent(&outbox, "b", 1, 2), ["r3"], "{case}");
        assert_eq!(sent(&outbox, "other", 1, 8), [""; 0], "{case}: older than the message");
        let later = NewRow { attempt: 1, ..row(&format!("r4 {case}"), "a") };
        outbox.send(&[], &later, Seq(2), NOW).unwrap();
        assert_eq!(sent(&outbox, "a", 1, 2), ["r1", "r3"], "{case}: not its own attempt's");
    }
}

#[test]
fn a_row_whose_commit_reported_an_error_is_sent_once() {
    let boxes = Boxes::new();
    let mut outbox = OutboxWriter::open(&boxes.outbox(), runner()).unwrap();
    let claims = outbox.claim(&[claim("a", 0)], NOW).unwrap();
    let first = outbox.send(&claims, &row("r1", "a"), Seq(2), NOW).unwrap();
    assert_eq!(outbox.send(&claims, &row("r1", "a"), Seq(6), NOW).unwrap(), first);
    drop(outbox);
    assert_eq!(boxes.rows(), [("r1".into(), 3)]);
}

#[test]
fn a_settled_delivery_is_final() {
    use DeliveryStatus::{Delivered, Failed, Held, Sending, Uncertain};
    let record = |status, attempts| Delivery {
        status,
        attempts,
        next_attempt_at: None,
        changed_at: NOW,
        error: None,
        platform_message_id: None,
    };
    for first in [Held, Sending, Delivered, Failed, Uncertain] {
        for second in [Held, Sending, Delivered, Failed, Uncertain] {
            let boxes = Boxes::new();
            let write = |status, attempts| {
                boxes.change(|tx| tx.record_delivery(&id("r"), &record(status, attempts))).unwrap()
            };
            let case = format!("{first:?} then {second:?}");
            assert!(write(first, 1), "{case}");
            assert_eq!(write(second, 2), !first.is_settled(), "{case}");
            let found = boxes.change(|tx| tx.delivery(&id("r"))).unwrap().unwrap();
            let expected = if first.is_settled() { (first, 1) } else { (second, 2) };
            assert_eq!((found.status, found.attempts), expected, "{case}");
        }
    }
}

#[test]
fn a_row_for_a_fresh_runner_is_seen_by_its_first_look_only() {
    let boxes = Boxes::new();
    boxes.accept("m", "{}");
    rusqlite::Connection::open(boxes.inbox())
        .unwrap()
        .execute("UPDATE messages_in SET on_wake = 1", [])
        .unwrap();
    let outbox = OutboxWriter::open(&boxes.outbox(), runner()).unwrap();
    let origin = origin();
    let cases = [
        ("first look", Purpose::Turn { first: true }, 1),
        ("later look", Purpose::Turn { first: false }, 0),
        ("follow-up", Purpose::FollowUp(&origin), 0),
    ];
    for (case, purpose, expected) in cases {
        let look = InboxReader::open(&boxes.inbox()).unwrap().look(&outbox, purpose, NOW).unwrap();
        assert_eq!(look.chosen.len(), expected, "{case}");
    }
}

#[test]
fn a_thousand_rows_that_cannot_be_claimed_hide_none_that_can() {
    let boxes = Boxes::new();
    boxes.change(|tx| {
        for n in 0..1000 {
            let later = NewMessage {
                process_after: Some(UnixMillis(NOW.0 + 1000 + n)),
                ..message(&format!("later{n}"), "{}")
            };
            tx.accept(&later, Seq(0), NOW).unwrap();
        }
        tx.accept(&message("now", "{}"), Seq(0), NOW).unwrap();
    });
    let outbox = OutboxWriter::open(&boxes.outbox(), runner()).unwrap();
    let reader = InboxReader::open(&boxes.inbox()).unwrap();
    let look = reader.look(&outbox, Purpose::Turn { first: true }, NOW).unwrap();
    assert_eq!(look.chosen.iter().map(|m| m.id.as_str()).collect::<Vec<_>>(), ["now"]);
}

#[test]
fn a_transaction_that_is_dropped_changes_nothing() {
    let boxes = Boxes::new();
    let before = std::fs::read(boxes.inbox()).unwrap();
    let mut inbox = Inbox::open(&boxes.inbox()).unwrap();
    let tx = inbox.write().unwrap();
    tx.accept(&message("m", "{}"), Seq(0), NOW).unwrap();
    drop(tx);
    drop(inbox);
    assert_eq!(std::fs::read(boxes.inbox()).unwrap(), before);
}

const SENDERS: usize = 4;
const SENDS: usize = 25;

fn send_many(path: &Path) {
    let me = runner();
    common::ready_and_wait();
    for n in 0..SENDS {
        let mut outbox = OutboxWriter::open(path, me).unwrap();
        outbox.send(&[], &row(&format!("{me}-{n}"), "m"), Seq(10), NOW).unwrap();
    }
}

#[test]
fn second_process() {
    common::play(&[("send many", send_many)]);
}

#[test]
fn processes_that_send_at_once_get_distinct_odd_numbers() {
    let boxes = Boxes::new();
    // They also race for creating the file.
    let senders: Vec<_> =
        (0..SENDERS).map(|_| common::hold("send many", &boxes.outbox())).collect();
    let all: Vec<_> = senders.into_iter().map(common::Other::release).collect();
    all.into_iter().for_each(common::Other::finish);
    let rows = boxes.rows();
    let numbers: Vec<i64> = rows.iter().map(|(_, seq)| *seq).collect();
    let expected: Vec<i64> = (0..SENDERS * SENDS).map(|n| 11 + 2 * n as i64).collect();
    assert_eq!(numbers, expected, "distinct, odd, above the floor and without a gap");
}
