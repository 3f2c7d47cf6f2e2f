//! The model of a session's task: the steps of the sweep in their order, each with the real decision
//! and an effect that may be the last thing before a crash.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use twobox_config::Config;
use twobox_model::channel::{Outcome, Place};
use twobox_session::boxes::Look;
use twobox_session::decide::{self, Acks, Action, Alive, View, Wake};
use twobox_session::delivery::{self, ChannelTraits, Hold};
use twobox_session::fence::{Fence, Standing};
use twobox_session::limits::Vitals;
use twobox_shared::clock::Monotonic;
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::inbox::{Delivery, Origin, PendingMessage};
use twobox_shared::outbox::{AckStatus, OutRow};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use crate::disk::Commit;
use crate::model::Boxes;

/// Where a sweep is.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Idle,
    Ask { before: Acks },
    Reread { before: Acks, alive: Alive },
    Settle { before: Acks, alive: Alive, pending: Vec<PendingMessage>, after: Acks, newest: Seq },
    End { alive: Alive, wake: Wake, acked: bool },
    Start,
    Deliver,
    Unmark,
}

/// A channel call under way.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) session: usize,
    pub(crate) place: Place,
    pub(crate) rows: Vec<MessageId>,
}

/// The volatile state of one session's task.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) phase: Phase,
    pub(crate) signal: bool,
    pub(crate) ask: bool,
    pub(crate) accepted: bool,
    /// Whether the sweep asked the runtime: one that cannot be finished is followed by one that does.
    pub(crate) owed: bool,
    /// Whether the session is marked as due, as far as the task knows, and whether it does.
    pub(crate) marked: bool,
    pub(crate) in_doubt: bool,
    pub(crate) vitals: Option<Vitals>,
    pub(crate) acked: bool,
    /// The acks that the sweep goes by.
    pub(crate) acks: Acks,
    pub(crate) wake: Wake,
    pub(crate) look_again: bool,
    /// As in the product on the clock that never jumps: a due time is converted when it is read.
    pub(crate) look_at: Option<Monotonic>,
    pub(crate) in_flight: HashSet<Place>,
    pub(crate) outcomes: VecDeque<(Flight, Vec<Outcome>)>,
}

impl Task {
    pub(crate) fn of(boxes: &Boxes) -> Self {
        Self {
            owed: false,
            marked: boxes.due,
            in_doubt: false,
            phase: Phase::Idle,
            signal: true,
            ask: true,
            accepted: false,
            vitals: None,
            acked: false,
            acks: Acks::new(),
            wake: Wake::Not { next: None },
            look_again: false,
            look_at: None,
            in_flight: HashSet::new(),
            outcomes: VecDeque::new(),
        }
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

pub(crate) const MAX_TRIES: i64 = 3;

/// Step 4 of the sweep: the real decision, applied in one transaction.
pub(crate) fn settle(
    boxes: &mut Boxes,
    pending: &[PendingMessage],
    before: &Acks,
    after: &Acks,
    alive: Alive,
    newest: Seq,
    now: UnixMillis,
) -> (Wake, bool, usize, bool) {
    let recurring = boxes.recurring();
    let decision = decide::decide(&View {
        now,
        pending,
        answered: &boxes.answered(),
        before,
        after,
        alive,
        stop_cause: boxes.stop_cause,
        max_tries: MAX_TRIES,
    });
    assert_eq!(decision.violation, None, "honest runners break no rule");
    for action in &decision.actions {
        if let Action::Fail { message, .. } = action {
            boxes.notices.insert(message.clone()); // at most one, whatever is repeated
        }
    }
    for action in &decision.actions {
        boxes.apply(action, MAX_TRIES);
        if matches!(action, Action::Charge { .. } | Action::Fail { .. }) {
            boxes.charged = boxes.charged.max(newest);
        }
    }
    let goes_on = boxes.go_on(&recurring, &decision.actions, after, now);
    let seen = boxes.rows.last().map_or(boxes.cursor.seen, |row| row.seq);
    boxes.cursor.seen = boxes.cursor.seen.max(seen);
    (decision.wake, decision.look_again, decision.actions.len(), goes_on)
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

/// Step 6: the real plan. Returns the calls to make, or `None` if one of its two commits, for the
/// requests and for the records, was not made as far as the task knows.
pub(crate) fn deliver(
    boxes: &mut Boxes,
    task: &mut Task,
    (session, id): (usize, SessionId),
    channel_up: bool,
    [served, commit]: [Commit; 2],
    now: UnixMillis,
    monotonic: Monotonic,
) -> Option<Vec<Flight>> {
    let rows: Vec<(OutRow, Option<Delivery>)> = boxes
        .rows
        .iter()
        .filter(|row| row.seq > boxes.cursor.seq)
        .map(|row| (row.clone(), boxes.delivered.get(&row.id).cloned()))
        .collect();
    let pending = boxes.pending();
    let look = Look {
        answers: boxes.acks.clone().into_iter().collect(),
        charged: boxes.charged,
        newest: boxes.newest(),
        withdrawn: boxes.withdrawn(),
        pending,
        ..Look::default()
    };
    let fence = Fence::after(&look, &[]);
    let home = Place { channel_type: "chan".into(), platform_id: "p".into(), thread_id: None };
    let plan = delivery::plan(&delivery::View {
        now,
        cursor: boxes.cursor.seq,
        rows: &rows,
        home: &home,
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
        channel: &|_| channel_up.then_some(ChannelTraits { honours_keys: true }),
        in_flight: &task.in_flight,
        unavailable: &HashSet::new(),
        hold: Hold { max: Duration::from_secs(1 << 40), last_call: Duration::ZERO },
        left_out: None,
        may_tell: usize::MAX,
        judged: &|_| false,
    });
    if !plan.requests.is_empty() {
        let asked: Vec<_> = plan.requests.iter().map(|index| asked(&rows[*index].0)).collect();
        if served.holds() {
            boxes.serve(id, &asked, &task.acks, now);
        }
        if served != Commit::Done {
            return None;
        }
        task.signal = true;
        task.accepted = true;
    }
    if !commit.holds() {
        return None;
    }
    for (index, record) in plan.records {
        boxes.delivered.insert(rows[index].0.id.clone(), record);
    }
    assert!(plan.cursor >= boxes.cursor.seq, "the cursor never goes back");
    boxes.cursor.seq = plan.cursor;
    if commit == Commit::Doubtful {
        return None;
    }
    let next = plan.next.map(|next| monotonic + next.since(now));
    task.look_at = task.look_at.into_iter().chain(next).min();
    let mut flights = Vec::new();
    for batch in plan.batches {
        task.in_flight.insert(batch.place.clone());
        let rows = batch.rows.iter().map(|index| rows[*index].0.id.clone()).collect();
        flights.push(Flight { session, place: batch.place, rows });
    }
    Some(flights)
}

fn asked(row: &OutRow) -> (MessageId, String, Origin) {
    (row.id.clone(), row.content.clone().unwrap_or_default(), row.destination.clone())
}

/// Records what a channel said.
pub(crate) fn record(boxes: &mut Boxes, flight: &Flight, outcomes: &[Outcome], now: UnixMillis) {
    for (row, outcome) in flight.rows.iter().zip(outcomes) {
        let before = boxes.delivered.get(row);
        if before.is_none_or(|record| !record.status.is_settled()) {
            let after = delivery::after(outcome, before, now);
            boxes.delivered.insert(row.clone(), after);
        }
    }
}
