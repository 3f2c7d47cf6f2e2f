//! Delivery, decided: which rows of an outbox go to which channel now, which are settled without
//! being sent, how far the cursor moves, and what an outcome does to a row's record. Pure.
//!
//! Each destination is one queue, first in, first out. A row that waits for its own time takes no
//! part; a row that waits for a retry, or for its channel, blocks only its own destination; failed
//! and uncertain rows release it.
//!
//! Requests of the agent are one queue of their own, and are not sent anywhere.
//!
//! A row at or before the cursor is there because a person wants it sent once more. It takes its
//! place in its destination's queue by its number, and the cursor neither waits for it nor moves.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use twobox_shared::content::KIND_SYSTEM;
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Delivery, DeliveryStatus, Origin};
use twobox_shared::outbox::OutRow;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::fence::Standing;
use crate::channel::{Outcome, Place};

/// How many letters go to a channel at once, where that is harmless.
pub const BATCH_MAX: usize = 32;

/// The longest pause between two attempts that is chosen here.
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// How the error of a row begins that a superseded runner wrote.
pub const SUPERSEDED: &str = "superseded";

/// Why a row is given up that its container removed.
pub const GONE: &str = "its row is gone from the outbox";

/// The longest pause that a channel may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
const _: () = assert!(RETRY_AFTER_MAX.as_secs() >= PAUSE_MAX.as_secs());

/// What is said of a letter that nobody took in time.
pub const EXPIRED: &str = "expired: no channel took it in time";

/// How long somebody still has to come for letters whose time is over; for letters that are not even
/// kept for that long, as long as they are kept.
const LAST_CALL: Duration = Duration::from_secs(30);

/// What is said of a send that no host saw the end of.
pub const INTERRUPTED: &str = "the host stopped while the channel was being called";

/// What the decision needs to know of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelTraits {
    /// Whether sending twice under one key shows once.
    pub honours_keys: bool,
}

/// Everything that the decision depends on.
pub struct View<'a> {
    /// The wall clock.
    pub now: UnixMillis,
    /// How far the cursor is.
    pub cursor: Seq,
    /// The rows in order, each with its record: those beyond the cursor, and those before it that
    /// are to be sent once more.
    pub rows: &'a [(OutRow, Option<Delivery>)],
    /// Where the session answers when a row does not say.
    pub home: &'a Place,
    /// Whether the session may send to a place.
    pub may_send: &'a dyn Fn(&Place) -> bool,
    /// Whether a row comes from whom it may come from.
    pub standing: &'a dyn Fn(&OutRow) -> Standing,
    /// The channel of a kind, if there is one.
    pub channel: &'a dyn Fn(&str) -> Option<ChannelTraits>,
    /// Places that a channel call is under way for.
    pub in_flight: &'a HashSet<Place>,
    /// Places whose channel said that nobody is there, until it says otherwise.
    pub unavailable: &'a HashSet<Place>,
    /// How long a row is kept that cannot be sent.
    pub hold: Hold,
}

/// How long letters are kept that nobody takes.
#[derive(Debug, Clone, Copy)]
pub struct Hold {
    /// The time that each letter has, by the wall clock.
    pub max: Duration,
    /// For how long the last call has lasted, on a clock that nobody sets.
    pub last_call: Duration,
}

impl Hold {
    /// How much longer a letter is kept after its time. That time alone says little: the clock may
    /// have jumped, or the host was down and whoever listens is not back yet. So there is a last call.
    pub(super) fn overtime(self, kept: Duration) -> Option<Duration> {
        (kept > self.max).then(|| self.max.min(LAST_CALL).saturating_sub(self.last_call))
    }
}

/// Rows to hand to a channel now, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Where to.
    pub place: Place,
    /// Which rows: indexes into the view's.
    pub rows: Vec<usize>,
    /// Whether to commit a `sending` record first, because the channel cannot tell a resend.
    pub announce: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Records to write: rows that are settled without being sent, and rows that are held from now.
    pub records: Vec<(usize, Delivery)>,
    /// What to send.
    pub batches: Vec<Batch>,
    /// Requests of the agent to carry out now, in order: indexes into the view's rows.
    pub requests: Vec<usize>,
    /// The last number before the first unsettled row, once `records` are written.
    pub cursor: Seq,
    /// When to look again, if nothing happens before.
    pub next: Option<UnixMillis>,
    /// Whether there is a last call for any of the rows.
    pub last_call: bool,
}

/// Decides. See the module's contract.
pub fn plan(view: &View<'_>) -> Plan {
    let mut plan = Plan { cursor: view.cursor, ..Plan::default() };
    let mut queues: HashMap<Place, Queue> = HashMap::new();
    let mut order: Vec<Place> = Vec::new();
    let mut requests_wait = false;
    let mut settled_rows = Vec::with_capacity(view.rows.len());
    for (index, (row, record)) in view.rows.iter().enumerate() {
        let settled = record.as_ref().is_some_and(|record| record.status.is_settled())
            || match refuse(view, row, record.as_ref())
                .or_else(|| plan.expire(view, row, record.as_ref()))
            {
                Some(refusal) => {
                    plan.records.push((index, refusal));
                    true
                }
                None => false,
            };
        settled_rows.push((row.seq, settled));
        if settled {
            continue;
        }
        if let Some(due) = row.deliver_after.filter(|due| *due > view.now) {
            plan.look_at(due);
            continue;
        }
        let undecided = (view.standing)(row) == Standing::Undecided;
        if row.kind == KIND_SYSTEM {
            requests_wait |= undecided || plan.requests.len() == BATCH_MAX;
            if !requests_wait {
                plan.requests.push(index);
            }
            continue;
        }
        let place = place_of(row, view.home);
        if undecided {
            queues.insert(place, Queue::Waiting); // the outbox will say, and announce itself
            continue;
        }
        let queue = queues.entry(place.clone()).or_insert_with(|| {
            order.push(place.clone());
            Queue::new(view, &place)
        });
        queue.offer(view, &mut plan, index, record.as_ref());
    }
    plan.cursor = passed(view.cursor, settled_rows);
    for place in order {
        if let Some(Queue::Open { rows, announce }) = queues.remove(&place)
            && !rows.is_empty()
        {
            plan.batches.push(Batch { place, rows, announce });
        }
    }
    plan
}

/// How far the cursor comes, given the numbers of the rows in order and whether each is settled: to
/// the last one before the first that is not.
pub fn passed(cursor: Seq, rows: impl IntoIterator<Item = (Seq, bool)>) -> Seq {
    rows.into_iter()
        .filter(|(seq, _)| *seq > cursor)
        .take_while(|(_, settled)| *settled)
        .last()
        .map_or(cursor, |(seq, _)| seq)
}

impl Plan {
    fn look_at(&mut self, when: UnixMillis) {
        self.next = Some(self.next.map_or(when, |other| other.min(when)));
    }

    /// The final record of a row that nobody took in time. Whoever is there by now is asked first.
    fn expire(
        &mut self,
        view: &View<'_>,
        row: &OutRow,
        record: Option<&Delivery>,
    ) -> Option<Delivery> {
        let record = record.filter(|record| record.status == DeliveryStatus::Held)?;
        if row.kind == KIND_SYSTEM {
            return None; // the host is there
        }
        let place = place_of(row, view.home);
        let left = view.hold.overtime(view.now.since(record.changed_at))?;
        if view.in_flight.contains(&place) {
            self.last_call = true; // it goes on meanwhile
            return None;
        }
        if !is_nobody_there(view, &place) && record.next_attempt_at.is_none() {
            return None;
        }
        if left.is_zero() {
            return Some(failed(Some(record), view.now, EXPIRED.to_owned()));
        }
        self.last_call = true;
        self.look_at(view.now + left);
        None
    }
}

/// One destination, while its rows are offered in order.
enum Queue {
    Open { rows: Vec<usize>, announce: bool },
    Waiting,
}

impl Queue {
    fn new(view: &View<'_>, place: &Place) -> Self {
        match (view.channel)(&place.channel_type) {
            Some(channel) if !view.in_flight.contains(place) => {
                Self::Open { rows: Vec::new(), announce: !channel.honours_keys }
            }
            _ => Self::Waiting,
        }
    }

    fn offer(&mut self, view: &View<'_>, plan: &mut Plan, index: usize, record: Option<&Delivery>) {
        let place = place_of(&view.rows[index].0, view.home);
        if is_nobody_there(view, &place) && !view.in_flight.contains(&place) {
            // The record's time is when the hold began, which is what its end is counted from.
            let since = record.map_or(view.now, |record| record.changed_at);
            if record.is_none() {
                plan.records.push((index, held(view.now, 0, None, None)));
            }
            let end = since + view.hold.max;
            if end >= view.now {
                plan.look_at(end); // beyond that, the end of the last call counts
            }
            *self = Self::Waiting;
            return;
        }
        let Self::Open { rows, announce } = self else { return };
        if let Some(retry) = record.and_then(|record| waits(record.next_attempt_at, view.now)) {
            plan.look_at(retry);
            if rows.is_empty() {
                *self = Self::Waiting;
            } else {
                // What stands before it may go; the queue ends here.
                let batch = Batch { place, rows: std::mem::take(rows), announce: *announce };
                plan.batches.push(batch);
                *self = Self::Waiting;
            }
            return;
        }
        let room = if *announce { 1 } else { BATCH_MAX };
        if rows.len() < room {
            rows.push(index);
        }
    }
}

/// Whether nothing can be sent to a place at the moment, by its channel's word or for want of one.
fn is_nobody_there(view: &View<'_>, place: &Place) -> bool {
    view.unavailable.contains(place) || (view.channel)(&place.channel_type).is_none()
}

/// The final record of a row that was not sent.
fn failed(record: Option<&Delivery>, now: UnixMillis, error: String) -> Delivery {
    Delivery {
        status: DeliveryStatus::Failed,
        attempts: record.map_or(0, |record| record.attempts),
        next_attempt_at: None,
        changed_at: now,
        error: Some(error),
        platform_message_id: None,
    }
}

/// A row that will never be sent, as its final record.
fn refuse(view: &View<'_>, row: &OutRow, record: Option<&Delivery>) -> Option<Delivery> {
    let failed = |error| failed(record, view.now, error);
    if (view.standing)(row) == Standing::Superseded {
        return Some(failed(format!("{SUPERSEDED}: its runner was given up before it wrote this")));
    }
    if row.kind == KIND_SYSTEM {
        return None; // it may be refused when it is decided
    }
    let place = place_of(row, view.home);
    if !(view.may_send)(&place) {
        return Some(failed(not_wired(&place)));
    }
    let record = record?;
    let honours_keys =
        (view.channel)(&place.channel_type).is_some_and(|channel| channel.honours_keys);
    if record.status == DeliveryStatus::Sending && !honours_keys && !view.in_flight.contains(&place)
    {
        return Some(Delivery {
            status: DeliveryStatus::Uncertain,
            error: Some(INTERRUPTED.to_owned()),
            changed_at: view.now,
            ..record.clone()
        });
    }
    None
}

/// Why nothing goes to a place that the session may not send to.
pub fn not_wired(place: &Place) -> String {
    format!("the agent is not wired to {} {:?}", place.channel_type, place.platform_id)
}

/// Where a row goes.
pub fn place_of(row: &OutRow, home: &Place) -> Place {
    match &row.destination {
        Origin { channel_type: Some(channel_type), platform_id: Some(platform_id), thread_id } => {
            Place {
                channel_type: channel_type.clone(),
                platform_id: platform_id.clone(),
                thread_id: thread_id.clone(),
            }
        }
        Origin { thread_id, .. } => Place {
            thread_id: thread_id.clone().or_else(|| home.thread_id.clone()),
            ..home.clone()
        },
    }
}

/// The record that announces a send.
pub fn announced(record: Option<&Delivery>, now: UnixMillis) -> Delivery {
    Delivery {
        status: DeliveryStatus::Sending,
        attempts: record.map_or(0, |record| record.attempts),
        next_attempt_at: None,
        changed_at: held_since(record, now),
        error: None,
        platform_message_id: None,
    }
}

/// The record after a channel said what became of a row.
pub fn after(outcome: &Outcome, record: Option<&Delivery>, now: UnixMillis) -> Delivery {
    let attempts = record.map_or(0, |record| record.attempts);
    let held_since = held_since(record, now);
    match outcome {
        Outcome::Delivered { platform_message_id } => Delivery {
            status: DeliveryStatus::Delivered,
            attempts: attempts + 1,
            next_attempt_at: None,
            changed_at: now,
            error: None,
            platform_message_id: platform_message_id.clone(),
        },
        Outcome::Permanent { error } => Delivery {
            status: DeliveryStatus::Failed,
            attempts: attempts + 1,
            next_attempt_at: None,
            changed_at: now,
            error: Some(error.clone()),
            platform_message_id: None,
        },
        Outcome::Uncertain { error } => Delivery {
            status: DeliveryStatus::Uncertain,
            attempts: attempts + 1,
            next_attempt_at: None,
            changed_at: now,
            error: Some(error.clone()),
            platform_message_id: None,
        },
        Outcome::Transient { error, retry_after } => {
            let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
            let pause = pause(attempts + 1).max(asked);
            held(held_since, attempts + 1, Some(now + pause), Some(error.clone()))
        }
        Outcome::Unavailable => held(held_since, attempts, None, None),
    }
}

/// The final record of a row that was to be sent and is not in the outbox any more.
pub fn gone(record: &Delivery, now: UnixMillis) -> Delivery {
    Delivery {
        // Whether an announced one was sent is as unknown as it was before.
        status: match record.status {
            DeliveryStatus::Sending => DeliveryStatus::Uncertain,
            DeliveryStatus::Held
            | DeliveryStatus::Delivered
            | DeliveryStatus::Failed
            | DeliveryStatus::Uncertain => DeliveryStatus::Failed,
        },
        next_attempt_at: None,
        changed_at: now,
        error: Some(GONE.to_owned()),
        ..record.clone()
    }
}

/// Since when a row waits for success: each further attempt counts from there, or it would never
/// expire.
fn held_since(record: Option<&Delivery>, now: UnixMillis) -> UnixMillis {
    let waits = |status| matches!(status, DeliveryStatus::Held | DeliveryStatus::Sending);
    record.filter(|record| waits(record.status)).map_or(now, |record| record.changed_at)
}

fn held(
    since: UnixMillis,
    attempts: i64,
    next_attempt_at: Option<UnixMillis>,
    error: Option<String>,
) -> Delivery {
    Delivery {
        status: DeliveryStatus::Held,
        attempts,
        next_attempt_at,
        changed_at: since,
        error,
        platform_message_id: None,
    }
}

/// The end of the pause before the next attempt, if it lies ahead. A pause that is longer than any
/// was recorded before the clock was set back, and is over.
pub(super) fn waits(next_attempt_at: Option<UnixMillis>, now: UnixMillis) -> Option<UnixMillis> {
    next_attempt_at.filter(|retry| *retry > now && retry.since(now) <= RETRY_AFTER_MAX)
}

/// How long after its `attempts`-th failed attempt a row waits: 2 s, 4 s, 8 s, … up to a maximum.
fn pause(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(16);
    (Duration::from_secs(2) * 2_u32.pow(doublings)).min(PAUSE_MAX)
}

/// The id of the message that tells the agent of a permanent failure: the same cause at the same
/// destination tells it once, until something was delivered there (`epoch`, the number of the last
/// row that was).
pub fn undeliverable_id(place: &Place, error: &str, epoch: Seq) -> MessageId {
    let digest = twobox_shared::content::digest16(&format!(
        "{}\0{}\0{}\0{error}\0{}",
        place.channel_type,
        place.platform_id,
        place.thread_id.as_deref().unwrap_or_default(),
        epoch.0
    ));
    MessageId::parse(&format!("undeliverable-{digest}")).expect("letters, digits and a hyphen")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);
    const HOLD: Duration = Duration::from_secs(60);

    fn row(seq: i64, thread: &str) -> OutRow {
        OutRow {
            id: MessageId::parse(&format!("r{seq}")).unwrap(),
            seq: Seq(seq),
            in_reply_to: None,
            timestamp: None,
            deliver_after: None,
            kind: "chat".into(),
            destination: Origin {
                channel_type: Some("chan".into()),
                platform_id: Some("p".into()),
                thread_id: Some(thread.into()),
            },
            content: None,
            attempt: Some(0),
            runner: None,
        }
    }

    fn record(status: DeliveryStatus) -> Option<Delivery> {
        Some(Delivery { status, ..held(NOW, 0, None, None) })
    }

    struct World {
        keys: bool,
        channel: bool,
        in_flight: HashSet<Place>,
        unavailable: HashSet<Place>,
        allowed: bool,
        standing: Standing,
        last_call: Duration,
    }

    fn world() -> World {
        World {
            keys: true,
            channel: true,
            in_flight: HashSet::new(),
            unavailable: HashSet::new(),
            allowed: true,
            standing: Standing::Inside,
            last_call: Duration::ZERO,
        }
    }

    fn place(thread: &str) -> Place {
        place_of(&row(1, thread), &home())
    }

    fn home() -> Place {
        Place { channel_type: "chan".into(), platform_id: "home".into(), thread_id: None }
    }

    impl World {
        fn plan_at(&self, now: UnixMillis, rows: &[(OutRow, Option<Delivery>)]) -> Plan {
            self.plan_from(Seq(0), now, rows)
        }

        fn plan_from(
            &self,
            cursor: Seq,
            now: UnixMillis,
            rows: &[(OutRow, Option<Delivery>)],
        ) -> Plan {
            plan(&View {
                now,
                cursor,
                rows,
                home: &home(),
                may_send: &|_| self.allowed,
                standing: &|row| if row.seq == Seq(3) { self.standing } else { Standing::Inside },
                channel: &|_| self.channel.then_some(ChannelTraits { honours_keys: self.keys }),
                in_flight: &self.in_flight,
                unavailable: &self.unavailable,
                hold: Hold { max: HOLD, last_call: self.last_call },
            })
        }

        fn plan(&self, rows: &[(OutRow, Option<Delivery>)]) -> Plan {
            self.plan_at(NOW, rows)
        }
    }

    fn sent(plan: &Plan) -> Vec<(&str, Vec<usize>)> {
        plan.batches
            .iter()
            .map(|batch| (batch.place.thread_id.as_deref().unwrap_or(""), batch.rows.clone()))
            .collect()
    }

    #[test]
    fn p12_the_cursor_stops_before_the_first_unsettled_row_and_settled_ones_are_not_sent_again() {
        let mut deferred = row(3, "a");
        deferred.deliver_after = Some(UnixMillis(NOW.0 + 5));
        let delivered = record(DeliveryStatus::Delivered);
        let rows = [(row(1, "a"), delivered.clone()), (deferred, None), (row(5, "a"), delivered)];
        let plan = world().plan(&rows);
        assert_eq!((plan.cursor, sent(&plan)), (Seq(1), vec![]));
        assert_eq!(plan.next, Some(UnixMillis(NOW.0 + 5)));
        let later = world().plan_at(UnixMillis(NOW.0 + 5), &rows);
        assert_eq!(sent(&later), [("a", vec![1])]);
    }

    #[test]
    fn a_row_that_is_sent_once_more_neither_stops_the_cursor_nor_moves_it() {
        let (held, delivered) = (record(DeliveryStatus::Held), record(DeliveryStatus::Delivered));
        let mut later = record(DeliveryStatus::Held);
        later.as_mut().unwrap().next_attempt_at = Some(UnixMillis(NOW.0 + 9));
        let cases = [
            ("alone", vec![(row(3, "a"), held.clone())], Seq(7)),
            ("settled", vec![(row(3, "a"), delivered.clone())], Seq(7)),
            (
                "before settled ones",
                vec![(row(3, "a"), held.clone()), (row(9, "a"), delivered.clone())],
                Seq(9),
            ),
            (
                "waiting for its retry",
                vec![(row(3, "a"), later.clone()), (row(9, "b"), delivered.clone())],
                Seq(9),
            ),
            (
                "before an open one",
                vec![(row(3, "a"), delivered.clone()), (row(9, "b"), None)],
                Seq(7),
            ),
        ];
        for (case, rows, expected) in cases {
            assert_eq!(world().plan_from(Seq(7), NOW, &rows).cursor, expected, "{case}");
        }
        let refused = World { allowed: false, ..world() };
        let plan = refused.plan_from(Seq(7), NOW, &[(row(3, "a"), held)]);
        assert_eq!((plan.records.len(), plan.cursor), (1, Seq(7)), "refused once more");
    }

    #[test]
    fn a_row_that_is_sent_once_more_takes_its_place_in_the_queue_by_its_number() {
        let rows = [
            (row(3, "a"), record(DeliveryStatus::Held)),
            (row(5, "b"), record(DeliveryStatus::Held)),
            (row(9, "a"), None),
        ];
        let plan = world().plan_from(Seq(7), NOW, &rows);
        assert_eq!(sent(&plan), [("a", vec![0, 2]), ("b", vec![1])]);
    }

    #[test]
    fn a_row_that_is_gone_failed_unless_it_may_have_been_sent() {
        let after = |status| gone(record(status).as_ref().unwrap(), UnixMillis(NOW.0 + 1));
        assert_eq!(after(DeliveryStatus::Held).status, DeliveryStatus::Failed);
        let announced = after(DeliveryStatus::Sending);
        assert_eq!(announced.status, DeliveryStatus::Uncertain);
        assert_eq!(announced.error.as_deref(), Some(GONE));
    }

    #[test]
    fn a_reply_never_overtakes_an_earlier_one_to_the_same_place() {
        let mut waiting = record(DeliveryStatus::Held);
        waiting.as_mut().unwrap().next_attempt_at = Some(UnixMillis(NOW.0 + 9));
        let rows = [(row(1, "a"), waiting), (row(3, "a"), None), (row(5, "b"), None)];
        assert_eq!(sent(&world().plan(&rows)), [("b", vec![2])]);
    }

    #[test]
    fn one_call_is_under_way_for_a_place_at_a_time() {
        let mut busy = world();
        busy.in_flight.insert(place("a"));
        let rows = [(row(1, "a"), None), (row(3, "b"), None)];
        assert_eq!(sent(&busy.plan(&rows)), [("b", vec![1])]);
    }

    #[test]
    fn only_channels_that_know_keys_get_several_at_once_and_without_announcement() {
        let rows = [(row(1, "a"), None), (row(3, "a"), None)];
        let plan = world().plan(&rows);
        assert_eq!((sent(&plan), plan.batches[0].announce), (vec![("a", vec![0, 1])], false));
        let blind = World { keys: false, ..world() };
        let plan = blind.plan(&rows);
        assert_eq!((sent(&plan), plan.batches[0].announce), (vec![("a", vec![0])], true));
    }

    #[test]
    fn a_send_of_unknown_end_is_repeated_only_where_that_is_harmless() {
        let rows = [(row(1, "a"), record(DeliveryStatus::Sending))];
        assert_eq!(sent(&world().plan(&rows)), [("a", vec![0])]);
        let plan = World { keys: false, ..world() }.plan(&rows);
        assert_eq!((sent(&plan), plan.cursor), (vec![], Seq(1)));
        assert_eq!(plan.records[0].1.status, DeliveryStatus::Uncertain);
    }

    #[test]
    fn p13_a_missing_channel_holds_without_attempts_until_the_hold_expires() {
        let absent = World { channel: false, ..world() };
        let plan = absent.plan(&[(row(1, "a"), None)]);
        let [(0, hold)] = &plan.records[..] else { panic!("{plan:?}") };
        assert_eq!((hold.status, hold.attempts), (DeliveryStatus::Held, 0));
        assert_eq!(plan.next, Some(NOW + HOLD));
        let rows = [(row(1, "a"), Some(hold.clone())), (row(3, "a"), None)];
        let late = UnixMillis((NOW + HOLD).0 + 1);
        let called = absent.plan_at(late, &rows);
        assert_eq!((called.cursor, called.last_call), (Seq(0), true));
        assert!(called.records.iter().all(|(index, _)| *index == 1), "{called:?}");
        assert_eq!(called.next, Some(late + HOLD.min(LAST_CALL)), "not at once, again and again");
        let back = world().plan_at(late, &rows);
        assert_eq!((sent(&back), back.last_call), (vec![("a", vec![0, 1])], false), "tried first");
        let half = World { channel: false, last_call: LAST_CALL / 2, ..world() };
        assert_eq!(half.plan_at(late, &rows).next, Some(late + LAST_CALL / 2));
        let over = World { channel: false, last_call: LAST_CALL, ..world() };
        let expired = over.plan_at(late, &rows);
        assert_eq!(expired.records[0].1.status, DeliveryStatus::Failed);
        assert_eq!((expired.cursor, expired.last_call), (Seq(1), false), "the queue is released");
    }

    #[test]
    fn a_place_that_nobody_listens_to_is_not_tried_until_somebody_does() {
        let mut quiet = world();
        quiet.unavailable.insert(place("a"));
        let rows = [(row(1, "a"), record(DeliveryStatus::Held)), (row(3, "b"), None)];
        assert_eq!(sent(&quiet.plan(&rows)), [("b", vec![1])]);
        assert_eq!(sent(&world().plan(&rows)), [("a", vec![0]), ("b", vec![1])]);
    }

    #[test]
    fn rows_for_foreign_places_fail_at_once() {
        let plan = World { allowed: false, ..world() }.plan(&[(row(1, "a"), None)]);
        assert_eq!((plan.records[0].1.status, plan.cursor), (DeliveryStatus::Failed, Seq(1)));
    }

    #[test]
    fn requests_are_one_queue_that_no_letter_holds_up_and_that_holds_up_none() {
        let request = |seq| (OutRow { kind: KIND_SYSTEM.into(), ..row(seq, "a") }, None);
        let quiet = World { channel: false, allowed: false, ..world() };
        let rows = [request(1), (row(3, "a"), None), request(5), (row(7, "b"), None)];
        let plan = quiet.plan(&rows);
        assert_eq!((plan.requests, plan.cursor), (vec![0, 2], Seq(0)), "until they are settled");
        let asked = [request(1), request(3), request(5), (row(7, "a"), None)];
        let waits = World { standing: Standing::Undecided, ..world() }.plan(&asked);
        assert_eq!(
            (sent(&waits), &waits.requests[..]),
            (vec![("a", vec![3])], &[0][..]),
            "in order"
        );
        let refused = World { standing: Standing::Superseded, ..world() }.plan(&asked);
        assert_eq!(refused.requests, [0, 2]);
        let [(1, record)] = &refused.records[..] else { panic!("{refused:?}") };
        assert!(record.error.as_deref().unwrap().starts_with(SUPERSEDED));
        let mut later = request(3);
        later.0.deliver_after = Some(UnixMillis(NOW.0 + 5));
        let plan = world().plan(&[request(1), later, request(5)]);
        assert_eq!((plan.requests, plan.next), (vec![0, 2], Some(UnixMillis(NOW.0 + 5))));
        let many: Vec<_> = (0..100).map(|n| request(2 * n + 1)).collect();
        assert_eq!(world().plan(&many).requests.len(), BATCH_MAX);
    }

    #[test]
    fn a_superseded_runners_row_fails_and_an_undecided_one_holds_up_its_place_alone() {
        let rows =
            [(row(1, "a"), None), (row(3, "a"), None), (row(5, "a"), None), (row(7, "b"), None)];
        let plan = World { standing: Standing::Undecided, ..world() }.plan(&rows);
        assert_eq!((sent(&plan), plan.records.len()), (vec![("b", vec![3])], 0));
        let plan = World { standing: Standing::Superseded, ..world() }.plan(&rows);
        assert_eq!(sent(&plan), [("a", vec![0, 2]), ("b", vec![3])]);
        let [(1, record)] = &plan.records[..] else { panic!("{plan:?}") };
        assert!(record.error.as_deref().unwrap().starts_with(SUPERSEDED));
    }

    #[test]
    fn a_row_without_a_destination_goes_home() {
        let mut homeless = row(1, "a");
        homeless.destination = Origin::default();
        assert_eq!(place_of(&homeless, &home()), home());
    }

    #[test]
    fn attempts_are_counted_and_pauses_grow_but_absence_costs_nothing() {
        let transient = Outcome::Transient { error: "503".into(), retry_after: None };
        let first = after(&transient, None, NOW);
        assert_eq!((first.attempts, first.next_attempt_at), (1, Some(UnixMillis(NOW.0 + 2000))));
        let second = after(&transient, Some(&first), UnixMillis(NOW.0 + 2000));
        assert_eq!(second.next_attempt_at, Some(UnixMillis(NOW.0 + 6000)));
        assert_eq!(second.changed_at, NOW, "the hold began with the first failure");
        assert_eq!(after(&Outcome::Unavailable, Some(&second), NOW).attempts, 2);
        let told = Outcome::Transient { error: "429".into(), retry_after: Some(HOLD) };
        assert_eq!(after(&told, None, NOW).next_attempt_at, Some(NOW + HOLD));
    }

    #[test]
    fn a_retry_that_a_clock_set_back_would_put_off_is_made_now() {
        let a_day = Duration::from_secs(86_400);
        let told = Outcome::Transient { error: "429".into(), retry_after: Some(a_day) };
        let record = after(&told, None, NOW);
        assert_eq!(record.next_attempt_at, Some(NOW + RETRY_AFTER_MAX), "no longer than that");
        let rows = [(row(1, "a"), Some(record)), (row(3, "a"), None)];
        let waiting = world().plan(&rows);
        assert_eq!((sent(&waiting), waiting.next), (vec![], Some(NOW + RETRY_AFTER_MAX)));
        let set_back = world().plan_at(UnixMillis(NOW.0 - 1), &rows);
        assert_eq!((sent(&set_back), set_back.next), (vec![("a", vec![0, 1])], None));
    }

    #[test]
    fn an_announced_row_that_never_succeeds_expires_too() {
        let transient = Outcome::Transient { error: "503".into(), retry_after: None };
        let blind = World { keys: false, ..world() };
        let mut record = None;
        let mut now = NOW;
        while now.since(NOW) <= HOLD {
            let plan = blind.plan_at(now, &[(row(1, "a"), record.clone())]);
            assert_eq!(sent(&plan), [("a", vec![0])], "after {:?}", now.since(NOW));
            let failed = after(&transient, Some(&announced(record.as_ref(), now)), now);
            now = failed.next_attempt_at.unwrap();
            record = Some(failed);
        }
        let rows = [(row(1, "a"), record)];
        let called = blind.plan_at(now, &rows);
        assert_eq!((sent(&called), called.last_call), (vec![("a", vec![0])], true));
        let busy = World { keys: false, in_flight: HashSet::from([place("a")]), ..world() };
        let busy = busy.plan_at(now, &rows);
        assert_eq!((sent(&busy), busy.last_call), (vec![], true), "it does not begin anew");
        let over = World { keys: false, last_call: LAST_CALL, ..world() };
        assert_eq!(over.plan_at(now, &rows).records[0].1.status, DeliveryStatus::Failed);
    }

    #[test]
    fn an_outcome_that_nobody_knows_is_final_and_releases_the_queue() {
        let outcome = Outcome::Uncertain { error: "killed".into() };
        let record = after(&outcome, Some(&announced(None, NOW)), NOW);
        assert_eq!((record.status, record.attempts), (DeliveryStatus::Uncertain, 1));
        assert_eq!(record.error.as_deref(), Some("killed"));
        let blind = World { keys: false, ..world() };
        let plan = blind.plan(&[(row(1, "a"), Some(record)), (row(3, "a"), None)]);
        assert_eq!((sent(&plan), plan.cursor), (vec![("a", vec![1])], Seq(1)));
    }

    #[test]
    fn p14_one_notice_for_a_cause_until_a_delivery_succeeds() {
        let id = |error, epoch| undeliverable_id(&place("a"), error, Seq(epoch));
        assert_eq!(id("gone", 1), id("gone", 1));
        assert_ne!(id("gone", 1), id("gone", 3));
        assert_ne!(id("gone", 1), id("blocked", 1));
    }
}
