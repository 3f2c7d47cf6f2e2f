//! The model of a session's task: what the steps of a sweep do to the model's boxes. Which step comes
//! next, and what it decides, is the product's own.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use twobox_config::Config;
use twobox_model::channel::{Address, Capabilities, Outbound, Outcome};
use twobox_session::boxes::{BoxSnapshot, Writers};
use twobox_session::decide::{Acks, Action};
use twobox_session::delivery::{self, Entry, HoldLimit};
use twobox_session::fence::{Fence, Standing};
use twobox_session::limits::Vitals;
use twobox_session::machine::{Effect, Event, Sweep};
use twobox_shared::clock::Monotonic;
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::inbox::{Cursor, Delivery, Origin};
use twobox_shared::outbox::{AckStatus, OutRow};
use twobox_shared::time::UnixMillis;

use crate::disk::Commit;
use crate::model::Boxes;

/// A channel call under way.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) session: usize,
    pub(crate) address: Address,
    /// What was handed over, by the last parts of the keys.
    pub(crate) keys: Vec<String>,
}

/// The volatile state of one session's task.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// The sweep that is under way, and what it wants done next.
    pub(crate) sweep: Option<(Sweep, Effect)>,
    pub(crate) signal: bool,
    pub(crate) ask: bool,
    pub(crate) accepted: bool,
    /// Whether the session is marked as due, as far as the task knows, and whether it does.
    pub(crate) marked: bool,
    pub(crate) in_doubt: bool,
    pub(crate) vitals: Option<Vitals>,
    pub(crate) acked: bool,
    /// The rows that its sweep goes by.
    pub(crate) rows: Vec<(OutRow, Option<Delivery>)>,
    /// As in the product on the clock that never jumps: a due time is converted when it is read.
    pub(crate) look_at: Option<Monotonic>,
    pub(crate) in_flight: HashSet<Address>,
    pub(crate) outcomes: VecDeque<(Flight, Vec<Outcome>)>,
}

impl Task {
    pub(crate) fn of(boxes: &Boxes) -> Self {
        Self {
            sweep: None,
            signal: true,
            ask: true,
            accepted: false,
            marked: boxes.due,
            in_doubt: false,
            vitals: None,
            acked: false,
            rows: Vec::new(),
            look_at: None,
            in_flight: HashSet::new(),
            outcomes: VecDeque::new(),
        }
    }

    /// Looks again at `when`, or earlier if something else wants that.
    pub(crate) fn look_at(&mut self, when: Monotonic) {
        self.look_at = self.look_at.into_iter().chain([when]).min();
    }

    /// Whether messages can be taken now: between two sweeps, and while the runtime is asked.
    pub(crate) fn takes_messages(&self) -> bool {
        self.sweep.as_ref().is_none_or(|(_, effect)| match effect {
            Effect::Ask | Effect::Enforce | Effect::HoldUnread(_) | Effect::Start(_) => true,
            Effect::Prepare
            | Effect::Look(_)
            | Effect::Plan
            | Effect::Settle
            | Effect::Observe
            | Effect::Finish
            | Effect::Rest(_)
            | Effect::Deliver
            | Effect::Forget
            | Effect::Mark => false,
        })
    }

    /// Marks the session durably as due or not. Returns whether it knows that it has.
    pub(crate) fn mark(&mut self, boxes: &mut Boxes, due: bool, commit: Commit) -> bool {
        if !self.in_doubt && self.marked == due {
            return true;
        }
        if commit.holds() {
            boxes.due = due;
        }
        self.in_doubt = commit != Commit::Done;
        if !self.in_doubt {
            self.marked = due;
        }
        !self.in_doubt
    }
}

/// What a read of both boxes shows.
pub(crate) fn look(boxes: &Boxes, writers: Writers) -> BoxSnapshot {
    let pending = boxes.pending();
    let newest = boxes.newest();
    BoxSnapshot {
        acks: boxes.acks_of(&pending),
        pending,
        answered: boxes.answered(),
        recurring: boxes.recurring(),
        rows: boxes
            .rows
            .iter()
            .filter(|row| row.seq > boxes.cursor.seq)
            .map(|row| (row.clone(), boxes.delivered.get(&row.id).cloned()))
            .collect(),
        answers: boxes.acks.clone().into_iter().collect(),
        withdrawn: boxes.withdrawn(),
        newest,
        charged: boxes.charged,
        cursor: Cursor { seq: boxes.cursor.seq, seen: boxes.cursor.seen.max(newest) },
        seen_more: newest > boxes.cursor.seen,
        writers,
        ..BoxSnapshot::default()
    }
}

/// Applies what the sweep has decided, in one transaction. Returns whether anything follows: what is told
/// of a failure is delivered by the next sweep.
pub(crate) fn settle(boxes: &mut Boxes, sweep: &Sweep, max_tries: i64) -> bool {
    let (actions, snapshot) = (&sweep.decision.actions, &sweep.after);
    let mut told = false;
    for action in actions {
        if let Action::Fail { message, attempt, .. } = action {
            told |= boxes.tell(message, *attempt, snapshot.cursor.seen, sweep.now);
        }
        boxes.apply(action, max_tries);
    }
    boxes.charged = boxes.charged.max(sweep.charged);
    boxes.cursor.seen = boxes.cursor.seen.max(snapshot.cursor.seen);
    boxes.go_on(&snapshot.recurring, actions, &snapshot.acks, sweep.now) | told
}

/// Takes a look at the living container, and says whether it broke a limit.
pub(crate) fn breaks_limit(vitals: &mut Vitals, acks: &Acks, now: Monotonic, beats: bool) -> bool {
    let runner = vitals.runner;
    let claims: BTreeMap<_, _> = acks
        .iter()
        .filter(|(_, ack)| ack.runner == Some(runner) && ack.status == AckStatus::Processing)
        .map(|(message, ack)| (message.clone(), ack.attempt.unwrap_or(0)))
        .collect();
    let heartbeat = beats.then(|| std::time::UNIX_EPOCH + Duration::from_millis(now.0));
    vitals.observe(now, heartbeat, claims, None);
    let config = Config::default();
    vitals.judge(&config.limits, config.containers.idle, now).is_err()
}

/// Decides what becomes of the rows that the sweep goes by, and returns that and the calls to make at once: of
/// a channel with keys, those for all that may be sent.
pub(crate) fn plan(
    task: &mut Task,
    boxes: &Boxes,
    sweep: &mut Sweep,
    session: usize,
    up: bool,
) -> (Event, Vec<Flight>) {
    task.rows = sweep.take_rows();
    let fence = Fence::after(&sweep.after, &sweep.decision.actions);
    let reply_address =
        Address { channel_type: "chan".into(), platform_id: "p".into(), thread_id: None };
    let mut plan = delivery::plan(&delivery::DeliveryView {
        now: sweep.now,
        cursor: sweep.after.cursor.seq,
        rows: &task.rows,
        notices: &boxes.notices,
        reply_address: &reply_address,
        may_send: &|_| true,
        standing: &|row| {
            let standing = fence.standing(row);
            assert_eq!(
                standing,
                Standing::Inside,
                "honest runners keep to their claims: {row:?} {fence:?}"
            );
            standing
        },
        channel: &|_| up.then_some(Capabilities { keys: true, ..Capabilities::TEXT }),
        in_flight: &task.in_flight,
        unavailable: &HashSet::new(),
        hold: HoldLimit { max: Duration::from_secs(1 << 40), last_call: Duration::ZERO },
        left_out: None,
        may_tell: usize::MAX,
        judged: &|_| false,
    });
    let mut flights = Vec::new();
    for batch in plan.batches.extract_if(.., |batch| !batch.announce) {
        task.in_flight.insert(batch.address.clone());
        let key = |entry: &Entry| match entry {
            Entry::Row(index) => task.rows[*index].0.id.to_string(),
            Entry::Notice(index) => Outbound::row_of_notice(&boxes.notices[*index].cause),
        };
        let keys = batch.entries.iter().map(key).collect();
        flights.push(Flight { session, address: batch.address, keys });
    }
    (Event::Planned(Box::new(plan), fence.charged()), flights)
}

/// Carries out requests and writes records. `false` if one of the two commits was not made as far as
/// the task knows.
pub(crate) fn deliver(
    boxes: &mut Boxes,
    task: &mut Task,
    sweep: &Sweep,
    id: SessionId,
    [served, commit]: [Commit; 2],
) -> bool {
    let plan = &sweep.plan;
    if !plan.requests.is_empty() {
        let asked: Vec<_> = plan.requests.iter().map(|index| asked(&task.rows[*index].0)).collect();
        if served.holds() {
            boxes.serve(id, &asked, &sweep.after.acks, sweep.now);
        }
        if served != Commit::Done {
            return false;
        }
        task.signal = true;
        task.accepted = true;
    }
    if commit.holds() {
        for (entry, record) in &plan.records {
            match entry {
                Entry::Row(index) => {
                    boxes.delivered.insert(task.rows[*index].0.id.clone(), record.clone());
                }
                Entry::Notice(index) => boxes.notices[*index].record = record.clone(),
            }
        }
        assert!(plan.cursor >= sweep.after.cursor.seq, "the cursor never goes back");
        boxes.cursor.seq = boxes.cursor.seq.max(plan.cursor);
    }
    commit == Commit::Done
}

fn asked(row: &OutRow) -> (MessageId, String, Origin) {
    (row.id.clone(), row.content.clone().unwrap_or_default(), row.destination.clone())
}

/// Records what a channel said.
pub(crate) fn record(boxes: &mut Boxes, flight: &Flight, outcomes: &[Outcome], now: UnixMillis) {
    for (key, outcome) in flight.keys.iter().zip(outcomes) {
        let before = boxes.delivery(key);
        if before.is_none_or(|record| !record.status.is_settled())
            && let Some(after) = delivery::after(outcome, before, now)
        {
            boxes.set_delivery(key, after);
        }
    }
}
