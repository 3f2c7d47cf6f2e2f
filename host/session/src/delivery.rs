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
use twobox_shared::dead_letter::ONCE_MORE;
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Delivery, DeliveryStatus, Origin};
use twobox_shared::outbox::OutRow;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::fence::Standing;
use twobox_model::backoff::Backoff;
use twobox_model::channel::{Address, Outcome};
use twobox_model::dead_letter::SUPERSEDED;

/// How many outbound messages go to a channel at once, where that is harmless.
pub const BATCH_MAX: usize = 32;

/// The pauses between two attempts that are chosen here.
const PAUSE: Backoff = Backoff { first: Duration::from_secs(2), most: Duration::from_secs(5 * 60) };

/// Why a row is given up that its container removed.
pub const GONE: &str = "its row is gone from the outbox";

/// The longest pause that a channel may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
const _: () = assert!(RETRY_AFTER_MAX.as_secs() >= PAUSE.most.as_secs());

/// What is said of an outbound message that nobody took in time.
pub const EXPIRED: &str = "expired: no channel took it in time";

/// How long somebody still has to come for outbound messages whose time is over; for outbound messages
/// that are not even kept for that long, as long as they are kept.
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
    pub reply_address: &'a Address,
    /// Whether the session may send to an address.
    pub may_send: &'a dyn Fn(&Address) -> bool,
    /// Whether a row comes from whom it may come from.
    pub standing: &'a dyn Fn(&OutRow) -> Standing,
    /// The channel of a kind, if there is one.
    pub channel: &'a dyn Fn(&str) -> Option<ChannelTraits>,
    /// Addresses that a channel call is under way for.
    pub in_flight: &'a HashSet<Address>,
    /// Addresses whose channel said that nobody is there, until it says otherwise.
    pub unavailable: &'a HashSet<Address>,
    /// How long a row is kept that cannot be sent.
    pub hold: Hold,
    /// The first row that is not among `rows` although those behind it are.
    pub left_out: Option<Seq>,
    /// How many refusals may be told one by one. What is refused beyond that is only counted.
    pub may_tell: usize,
    /// Whether a request was refused before, and is only counted.
    pub judged: &'a dyn Fn(Seq) -> bool,
}

/// How long outbound messages are kept that nobody takes.
#[derive(Debug, Clone, Copy)]
pub struct Hold {
    /// The time that each outbound message has, by the wall clock.
    pub max: Duration,
    /// For how long the last call has lasted, on a clock that nobody sets.
    pub last_call: Duration,
}

impl Hold {
    /// How much longer an outbound message is kept after its time. That time alone says little: the clock may
    /// have jumped, or the host was down and whoever listens is not back yet. So there is a last call.
    pub(super) fn overtime(self, kept: Duration) -> Option<Duration> {
        (kept > self.max).then(|| self.max.min(LAST_CALL).saturating_sub(self.last_call))
    }
}

/// Rows to hand to a channel now, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Where to.
    pub address: Address,
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
    /// How many of these are refusals.
    pub told: usize,
    /// Rows that were refused and get no record, each with the reason if it was found here. Only
    /// those that the cursor passes now are done with.
    pub counted: Vec<(usize, Option<String>)>,
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
    let mut queues: HashMap<Address, Queue> = HashMap::new();
    let mut order: Vec<Address> = Vec::new();
    let mut requests_wait = false;
    let mut settled_rows = Vec::with_capacity(view.rows.len());
    for (index, (row, record)) in view.rows.iter().enumerate() {
        let settled = record.as_ref().is_some_and(|record| record.status.is_settled())
            || plan.refuse(view, index)
            || match interrupted(view, row, record.as_ref())
                .or_else(|| plan.expire(view, row, record.as_ref()))
            {
                Some(end) => {
                    plan.records.push((index, end));
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
        let address = address_of(row, view.reply_address);
        if undecided {
            queues.insert(address, Queue::Waiting); // the outbox will say, and announce itself
            continue;
        }
        let queue = queues.entry(address.clone()).or_insert_with(|| {
            order.push(address.clone());
            Queue::new(view, &address)
        });
        queue.offer(view, &mut plan, index, record.as_ref());
    }
    plan.cursor = passed(view.cursor, view.left_out, settled_rows);
    for address in order {
        if let Some(Queue::Open { rows, announce }) = queues.remove(&address)
            && !rows.is_empty()
        {
            plan.batches.push(Batch { address, rows, announce });
        }
    }
    plan
}

/// How far the cursor comes, given the numbers of the rows in order and whether each is settled: to
/// the last one before the first that is not, and before the first that was left out.
pub fn passed(
    cursor: Seq,
    left_out: Option<Seq>,
    rows: impl IntoIterator<Item = (Seq, bool)>,
) -> Seq {
    rows.into_iter()
        .filter(|(seq, _)| *seq > cursor)
        .take_while(|(seq, settled)| *settled && left_out.is_none_or(|left_out| *seq < left_out))
        .last()
        .map_or(cursor, |(seq, _)| seq)
}

impl Plan {
    fn look_at(&mut self, when: UnixMillis) {
        self.next = Some(self.next.map_or(when, |other| other.min(when)));
    }

    /// Whether a row is refused. It gets a final record, or is counted if so many were told already
    /// and nothing was recorded of it.
    fn refuse(&mut self, view: &View<'_>, index: usize) -> bool {
        let (row, record) = &view.rows[index];
        if record.is_none() && (view.judged)(row.seq) {
            self.counted.push((index, None));
            return true;
        }
        let Some(error) = refusal(view, row) else { return false };
        if record.is_none() && self.told >= view.may_tell {
            self.counted.push((index, Some(error)));
        } else {
            self.told += 1;
            self.records.push((index, failed(record.as_ref(), view.now, error)));
        }
        true
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
        let address = address_of(row, view.reply_address);
        let left = view.hold.overtime(view.now.since(record.changed_at))?;
        if view.in_flight.contains(&address) {
            self.last_call = true; // it goes on meanwhile
            return None;
        }
        if !is_nobody_there(view, &address) && record.next_attempt_at.is_none() {
            return None;
        }
        if left.is_zero() {
            // What the channel said last tells more than that the time is over.
            let why = match record.last_error() {
                Some(last) => format!("{EXPIRED}; the last answer was: {last}"),
                None => EXPIRED.to_owned(),
            };
            return Some(failed(Some(record), view.now, why));
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
    fn new(view: &View<'_>, address: &Address) -> Self {
        match (view.channel)(&address.channel_type) {
            Some(channel) if !view.in_flight.contains(address) => {
                Self::Open { rows: Vec::new(), announce: !channel.honours_keys }
            }
            _ => Self::Waiting,
        }
    }

    fn offer(&mut self, view: &View<'_>, plan: &mut Plan, index: usize, record: Option<&Delivery>) {
        let address = address_of(&view.rows[index].0, view.reply_address);
        if is_nobody_there(view, &address) && !view.in_flight.contains(&address) {
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
                let batch = Batch { address, rows: std::mem::take(rows), announce: *announce };
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

/// Whether nothing can be sent to an address at the moment, by its channel's word or for want of one.
fn is_nobody_there(view: &View<'_>, address: &Address) -> bool {
    view.unavailable.contains(address) || (view.channel)(&address.channel_type).is_none()
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

/// Why a row will never be sent.
fn refusal(view: &View<'_>, row: &OutRow) -> Option<String> {
    if (view.standing)(row) == Standing::Superseded {
        return Some(format!("{SUPERSEDED}: its runner was given up before it wrote this"));
    }
    if row.kind == KIND_SYSTEM {
        return None; // it may be refused when it is decided
    }
    let address = address_of(row, view.reply_address);
    (!(view.may_send)(&address)).then(|| not_wired(&address))
}

/// The final record of a row of which nobody knows whether it was sent.
fn interrupted(view: &View<'_>, row: &OutRow, record: Option<&Delivery>) -> Option<Delivery> {
    let record = record.filter(|_| row.kind != KIND_SYSTEM)?;
    let address = address_of(row, view.reply_address);
    let honours_keys =
        (view.channel)(&address.channel_type).is_some_and(|channel| channel.honours_keys);
    if record.status == DeliveryStatus::Sending
        && !honours_keys
        && !view.in_flight.contains(&address)
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

/// Why nothing goes to an address that the session may not send to.
pub fn not_wired(address: &Address) -> String {
    format!("the agent is not wired to {} {:?}", address.channel_type, address.platform_id)
}

/// Where a row goes.
pub fn address_of(row: &OutRow, reply_address: &Address) -> Address {
    match &row.destination {
        Origin { channel_type: Some(channel_type), platform_id: Some(platform_id), thread_id } => {
            Address {
                channel_type: channel_type.clone(),
                platform_id: platform_id.clone(),
                thread_id: thread_id.clone(),
            }
        }
        Origin { thread_id, .. } => Address {
            thread_id: thread_id.clone().or_else(|| reply_address.thread_id.clone()),
            ..reply_address.clone()
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
        error: once_more(record, None),
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
            held(held_since, attempts + 1, Some(now + pause), once_more(record, Some(error)))
        }
        Outcome::Unavailable => held(held_since, attempts, None, once_more(record, None)),
    }
}

/// The error of a row that is still to be sent: what was said just now, and, however often it is tried,
/// that the agent believes it lost.
fn once_more(record: Option<&Delivery>, error: Option<&String>) -> Option<String> {
    match (record.filter(|record| record.is_believed_lost()), error) {
        (Some(_), Some(error)) => Some(format!("{ONCE_MORE}{error}")),
        (Some(record), None) => record.error.clone(),
        (None, error) => error.cloned(),
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
    PAUSE.after(attempts.max(1))
}

/// The id of the message that tells the agent that `first`, and perhaps others, arrived after all.
pub fn arrived_id(first: &MessageId) -> MessageId {
    let digest = twobox_shared::content::digest16(first.as_str());
    MessageId::parse(&format!("arrived-{digest}")).expect("letters, digits and a hyphen")
}

/// The id of the message that tells the agent of a permanent failure: the same cause at the same
/// destination tells it once, until something was delivered there (`epoch`, the number of the last
/// row that was).
pub fn undeliverable_id(address: &Address, error: &str, epoch: Seq) -> MessageId {
    let digest = twobox_shared::content::digest16(&format!(
        "{}\0{}\0{}\0{error}\0{}",
        address.channel_type,
        address.platform_id,
        address.thread_id.as_deref().unwrap_or_default(),
        epoch.0
    ));
    MessageId::parse(&format!("undeliverable-{digest}")).expect("letters, digits and a hyphen")
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
