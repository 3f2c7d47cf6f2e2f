//! Forgetting what was settled long ago changes nothing that anybody goes by: what is pending,
//! claimed, undelivered or not acked is the same before and after, whatever happened before and
//! wherever the two sides are with it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;
use twobox_session::boxes::{BoxSnapshot, Boxes, Changes, Writers};
use twobox_session::decide::Action;
use twobox_shared::content::Failure;
use twobox_shared::ids::{MessageId, RunnerId, SessionId, SystemIds};
use twobox_shared::inbox::{
    Cursor, Delivery, DeliveryStatus, InboxReader, NewMessage, Origin, Purpose,
};
use twobox_shared::outbox::{Claim, NewRow, OutboxWriter, TurnEnd};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

const DAY: i64 = 86_400_000;

/// One session's two boxes, worked on by an honest host and an honest runner.
struct World {
    _dir: TempDir,
    boxes: Boxes,
    runner: RunnerId,
    now: UnixMillis,
    count: u32,
    /// The highest number that was ever given out.
    highest: Seq,
}

fn id(text: &str) -> MessageId {
    MessageId::parse(text).unwrap()
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let scratch = dir.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let session = SessionId::generate(&SystemIds);
        let boxes = Boxes::new(session, &dir.path().join("session"), &scratch, 1 << 30);
        boxes.create().unwrap();
        Self {
            boxes,
            _dir: dir,
            runner: RunnerId::generate(&SystemIds),
            now: UnixMillis(1_800_000_000_000),
            count: 0,
            highest: Seq(0),
        }
    }

    fn outbox(&self) -> OutboxWriter {
        OutboxWriter::open(&self.boxes.paths().outbound_db(), self.runner).unwrap()
    }

    fn inbox(&self) -> InboxReader {
        InboxReader::open(&self.boxes.paths().inbound_db()).unwrap()
    }

    fn accept(&mut self, text: &str) -> bool {
        let message = NewMessage {
            id: id(text),
            kind: "chat".into(),
            content: "{}".into(),
            origin: Origin::default(),
            trigger: true,
            process_after: None,
            source_session: None,
            run_id: None,
        };
        let seen = self.look().cursor.seen;
        let accepted = self.boxes.accept(&[message], seen, self.now).unwrap().remove(0);
        self.use_number(accepted.seq, accepted.duplicate);
        !accepted.duplicate
    }

    fn use_number(&mut self, seq: Seq, again: bool) {
        assert!(again || seq > self.highest, "{seq:?} is not above {:?}", self.highest);
        self.highest = self.highest.max(seq);
    }

    fn look(&self) -> BoxSnapshot {
        self.boxes.look(Writers::Possible).unwrap()
    }

    fn apply(&self, changes: &Changes) {
        self.boxes.apply(changes, self.now).unwrap();
    }

    /// A turn of the runner: a claim, a row in its middle, and an end, if it has one.
    fn turn(&mut self, end: u8) {
        let snapshot = {
            let outbox = self.outbox();
            self.inbox().look(&outbox, Purpose::Turn { first: false }, self.now).unwrap()
        };
        let Some(first) = snapshot.chosen.first() else { return };
        let claim = Claim { message: first.id.clone(), attempt: first.tries };
        let mut outbox = self.outbox();
        let claims = outbox.claim(&[claim], self.now).unwrap();
        self.count += 1;
        let row = |name: String| NewRow {
            in_reply_to: Some(first.id.clone()),
            kind: "chat".into(),
            destination: Origin::default(),
            content: "{}".into(),
            deliver_after: None,
            attempt: first.tries,
            id: id(&name),
        };
        let sent =
            outbox.send(&claims, &row(format!("r{}", self.count)), snapshot.seq_floor, self.now);
        let failure = Failure::retryable("timeout", "it took too long");
        let replies = [row(format!("a{}", self.count))];
        let outcome = match end {
            0 => return self.use_number(sent.unwrap(), false), // it goes on
            1 => Err(&failure),
            _ => Ok(&replies[..]),
        };
        let turn = TurnEnd { claims: &claims, outcome, turns: 1, continuation: None };
        outbox.end_turn(&turn, snapshot.seq_floor, self.now).unwrap();
        drop(outbox);
        self.use_number(sent.unwrap(), false);
    }

    /// The host takes in what the acks say.
    fn take_in(&mut self) {
        let snapshot = self.look();
        let actions = snapshot
            .pending
            .iter()
            .filter_map(|message| {
                let ack = snapshot.acks.get(&message.id)?;
                let of_now = ack.attempt == Some(message.tries);
                let (message, attempt) = (message.id.clone(), message.tries);
                match ack.status.as_str() {
                    "completed" => Some(Action::Complete { message }),
                    _ if !of_now => None,
                    "failed" if attempt >= 2 => Some(Action::Fail {
                        message,
                        attempt,
                        failure: Failure::retryable("timeout", "too often"),
                    }),
                    "failed" => Some(Action::Charge {
                        message,
                        attempt,
                        forgiven: false,
                        process_after: None,
                    }),
                    _ => None,
                }
            })
            .collect();
        self.apply(&Changes { actions, cursor: snapshot.cursor, ..Changes::default() });
    }

    /// The host settles the `nth` row that is not settled, and moves the cursor over the settled
    /// ones.
    fn settle(&mut self, nth: usize, status: DeliveryStatus) {
        let snapshot = self.look();
        let open = |record: &Option<Delivery>| {
            record.as_ref().is_none_or(|record| !record.status.is_settled())
        };
        let chosen = snapshot.rows.iter().filter(|(_, record)| open(record)).nth(nth);
        let Some((chosen, _)) = chosen else { return };
        let record = Delivery {
            status,
            attempts: 1,
            next_attempt_at: None,
            changed_at: self.now,
            error: None,
            platform_message_id: None,
        };
        let mut cursor = snapshot.cursor;
        for (row, before) in &snapshot.rows {
            let settled = match row.id == chosen.id {
                true => status.is_settled(),
                false => !open(before),
            };
            if !settled {
                break;
            }
            cursor.seq = row.seq;
        }
        let records = vec![(chosen.id.clone(), record)];
        self.apply(&Changes { records, cursor, ..Changes::default() });
    }

    fn forget_host(&self, days: i64) -> bool {
        self.boxes.forget(UnixMillis(self.now.0 - days * DAY)).unwrap()
    }

    fn forget_runner(&self) -> bool {
        let mut outbox = self.outbox();
        let chosen = outbox.forgettable(&self.inbox()).unwrap();
        if !chosen.is_empty() {
            outbox.forget(&chosen).unwrap();
        }
        !chosen.is_empty()
    }

    /// Everything that either side goes by.
    fn due(&self) -> Due {
        let snapshot = self.look();
        let outbox = self.outbox();
        let claimable =
            self.inbox().look(&outbox, Purpose::Turn { first: false }, self.now).unwrap();
        let told = snapshot.pending.iter().map(|message| {
            let claim = Claim { message: message.id.clone(), attempt: message.tries };
            (message.id.to_string(), outbox.already_sent(&claim, message.seq).unwrap().len())
        });
        let open = snapshot
            .rows
            .iter()
            .filter(|(_, record)| record.as_ref().is_none_or(|record| !record.status.is_settled()));
        Due {
            pending: snapshot.pending.iter().map(|m| (m.id.to_string(), m.tries)).collect(),
            acks: snapshot
                .acks
                .iter()
                .map(|(message, ack)| (message.to_string(), format!("{ack:?}")))
                .collect(),
            claimable: claimable.chosen.iter().map(|m| m.id.to_string()).collect(),
            told: told.filter(|(_, rows)| *rows > 0).collect(),
            undelivered: open.map(|(row, _)| row.id.to_string()).collect(),
            cursor: snapshot.cursor,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Due {
    pending: BTreeMap<String, i64>,
    acks: BTreeMap<String, String>,
    claimable: Vec<String>,
    told: BTreeMap<String, usize>,
    undelivered: BTreeSet<String>,
    cursor: Cursor,
}

#[derive(Debug, Clone)]
enum Step {
    Accept(u8),
    Turn(u8),
    TakeIn,
    Settle(usize, DeliveryStatus),
    Pass(i64),
    ForgetHost(i64),
    ForgetRunner,
}

fn step() -> impl Strategy<Value = Step> {
    use DeliveryStatus as D;
    let status = prop_oneof![
        4 => Just(D::Delivered), 1 => Just(D::Failed), 1 => Just(D::Uncertain), 1 => Just(D::Held)
    ];
    prop_oneof![
        3 => (0..40_u8).prop_map(Step::Accept),
        4 => (0..6_u8).prop_map(Step::Turn),
        4 => Just(Step::TakeIn),
        4 => (0..3_usize, status).prop_map(|(nth, status)| Step::Settle(nth, status)),
        2 => (1..20_i64).prop_map(Step::Pass),
        2 => (0..30_i64).prop_map(Step::ForgetHost),
        2 => Just(Step::ForgetRunner),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn forgetting_changes_nothing_that_anybody_goes_by(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut world = World::new();
        world.accept("first");
        for step in steps {
            match step {
                Step::Accept(n) => drop(world.accept(&format!("m{n}"))),
                Step::Turn(end) => world.turn(end),
                Step::TakeIn => world.take_in(),
                Step::Settle(nth, status) => world.settle(nth, status),
                Step::Pass(days) => world.now = UnixMillis(world.now.0 + days * DAY),
                Step::ForgetHost(_) | Step::ForgetRunner => {
                    let before = world.due();
                    match step {
                        Step::ForgetHost(days) => drop(world.forget_host(days)),
                        _ => drop(world.forget_runner()),
                    }
                    prop_assert_eq!(before, world.due());
                }
            }
        }
        // Whatever id comes again is either known or worked on: never taken for answered by an ack
        // of long ago.
        for n in 0..40 {
            let text = format!("m{n}");
            if world.accept(&text) {
                let due = world.due();
                prop_assert!(!due.acks.contains_key(&text), "{} has an old ack", text);
            }
        }
    }
}

/// A long life with short memory: the files end as small as they were.
#[test]
fn history_stays_bounded() {
    let mut world = World::new();
    for n in 0..80 {
        world.accept(&format!("m{n}"));
        world.turn(2);
        world.take_in();
        world.settle(0, DeliveryStatus::Delivered);
        world.settle(0, DeliveryStatus::Delivered);
        world.now = world.now + Duration::from_secs(3600);
        if n % 20 == 19 {
            world.forget_host(0);
            world.forget_runner();
            world.forget_host(0);
        }
    }
    let count = |path, table| -> i64 {
        rusqlite::Connection::open(path)
            .unwrap()
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .unwrap()
    };
    let (inbox, outbox) = (world.boxes.paths().inbound_db(), world.boxes.paths().outbound_db());
    for (path, table) in [
        (&inbox, "messages_in"),
        (&inbox, "delivered"),
        (&outbox, "messages_out"),
        (&outbox, "processing_ack"),
    ] {
        assert!(count(path, table) <= 2, "{table} has {} rows", count(path, table));
    }
    assert!(world.accept("one more"), "and numbers go on");
}

#[test]
fn what_is_young_stays() {
    let mut world = World::new();
    for text in ["m", "newer"] {
        world.accept(text);
        world.turn(2);
        world.take_in();
    }
    (0..4).for_each(|_| world.settle(0, DeliveryStatus::Delivered));
    world.now = world.now + Duration::from_secs(3600);
    assert!(!world.forget_host(1) && !world.forget_runner());
    assert!(world.forget_host(0), "a day later it would go");
}

#[test]
fn a_message_stays_as_long_as_its_ack() {
    let mut world = World::new();
    world.accept("m");
    world.turn(2);
    world.take_in();
    world.accept("newer");
    world.now = UnixMillis(world.now.0 + DAY);
    world.forget_host(0);
    assert!(!world.accept("m"), "its ack is there, so it has to be known");
    assert!(world.forget_runner(), "the ack goes");
    world.forget_host(0);
    assert!(world.accept("m"), "and then the message");
    assert!(world.due().claimable.contains(&"m".to_owned()));
}
