//! Delivery, decided: which rows of an outbox and which notices of the host go to which channel now,
//! which are settled without being sent, how far the cursor moves, and what an outcome does to a
//! record. Pure.
//!
//! Each destination is one queue of both, first in, first out: a notice stands behind the rows that
//! the host had seen when it was written. A row that waits for its own time takes no part; an entry
//! that waits for a retry, or for its channel, blocks only its own destination; failed and uncertain
//! ones release it. A notice has a record from the start and is refused by nobody.
//!
//! Requests of the agent are one queue of their own, and are not sent anywhere.
//!
//! A row at or before the cursor is there because a person wants it sent once more. It takes its
//! place in its destination's queue by its number, and the cursor neither waits for it nor moves.

mod queue;
mod record;

use std::collections::HashSet;
use std::time::Duration;

use twobox_shared::content::KIND_SYSTEM;
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Delivery, DeliveryStatus, Origin};
use twobox_shared::outbox::OutRow;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use crate::fence::Standing;
use twobox_model::channel::{Address, Capabilities};
use twobox_model::dead_letter::SUPERSEDED;
use twobox_store::notices::Notice;

use queue::Queues;
use record::failed;
pub use record::{GONE, after, announced, broken, gone};

/// How many outbound messages go to a channel at once, where that is harmless.
pub const BATCH_MAX: usize = 32;

/// What is said of an outbound message that nobody took in time.
pub const EXPIRED: &str = "expired: no channel took it in time";

/// How long somebody still has to come for outbound messages whose time is over; for outbound messages
/// that are not even kept for that long, as long as they are kept.
const LAST_CALL: Duration = Duration::from_secs(30);

/// What is said of a send that no host saw the end of.
pub const INTERRUPTED: &str = "the host stopped while the channel was being called";

/// Everything that the decision depends on.
pub struct DeliveryView<'a> {
    /// The wall clock.
    pub now: UnixMillis,
    /// How far the cursor is.
    pub cursor: Seq,
    /// The rows in order, each with its record: those beyond the cursor, and those before it that
    /// are to be sent once more.
    pub rows: &'a [(OutRow, Option<Delivery>)],
    /// The host's notices, oldest first.
    pub notices: &'a [Notice],
    /// Where the session answers when a row does not say.
    pub reply_address: &'a Address,
    /// Whether the session may send to an address.
    pub may_send: &'a dyn Fn(&Address) -> bool,
    /// Whether a row comes from whom it may come from.
    pub standing: &'a dyn Fn(&OutRow) -> Standing,
    /// The channel of a kind, if there is one.
    pub channel: &'a dyn Fn(&str) -> Option<Capabilities>,
    /// Addresses that a channel call is under way for.
    pub in_flight: &'a HashSet<Address>,
    /// Addresses whose channel said that nobody is there, until it says otherwise.
    pub unavailable: &'a HashSet<Address>,
    /// How long a row is kept that cannot be sent.
    pub hold: HoldLimit,
    /// The first row that is not among `rows` although those behind it are.
    pub left_out: Option<Seq>,
    /// How many refusals may be told one by one. What is refused beyond that is only counted.
    pub may_tell: usize,
    /// Whether a request was refused before, and is only counted.
    pub judged: &'a dyn Fn(Seq) -> bool,
}

/// How long outbound messages are kept that nobody takes.
#[derive(Debug, Clone, Copy)]
pub struct HoldLimit {
    /// The time that each outbound message has, by the wall clock.
    pub max: Duration,
    /// For how long the last call has lasted, on a clock that nobody sets.
    pub last_call: Duration,
}

impl HoldLimit {
    /// How much longer an outbound message is kept after its time. That time alone says little: the clock may
    /// have jumped, or the host was down and whoever listens is not back yet. So there is a last call.
    pub(super) fn overtime(self, kept: Duration) -> Option<Duration> {
        (kept > self.max).then(|| self.max.min(LAST_CALL).saturating_sub(self.last_call))
    }
}

/// What is delivered, by its index in the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A row of the outbox.
    Row(usize),
    /// A notice of the host.
    Notice(usize),
}

impl Entry {
    /// The index of the row that it is.
    pub fn row(self) -> Option<usize> {
        match self {
            Self::Row(index) => Some(index),
            Self::Notice(_) => None,
        }
    }
}

/// What to hand to a channel now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Where to.
    pub address: Address,
    /// What, in order.
    pub entries: Vec<Entry>,
    /// Whether to commit a `sending` record first, because the channel cannot tell a resend.
    pub announce: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryPlan {
    /// Records to write: what is settled without being sent, and rows that are held from now.
    pub records: Vec<(Entry, Delivery)>,
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
    /// Whether there is a last call for anything.
    pub last_call: bool,
}

/// Decides. See the module's contract.
pub fn plan(view: &DeliveryView<'_>) -> DeliveryPlan {
    let mut plan = DeliveryPlan { cursor: view.cursor, ..DeliveryPlan::default() };
    let mut queues = Queues::default();
    let mut settled_rows = Vec::with_capacity(view.rows.len());
    for entry in view.entries() {
        let settled = view.record(entry).is_some_and(|record| record.status.is_settled())
            || plan.refuse(view, entry)
            || plan.end(view, entry);
        if let Entry::Row(index) = entry {
            settled_rows.push((view.rows[index].0.seq, settled));
        }
        if settled {
            continue;
        }
        match entry {
            Entry::Row(index) => plan.take_row(view, &mut queues, index),
            Entry::Notice(_) => queues.offer(view, &mut plan, entry),
        }
    }
    plan.cursor = passed(view.cursor, view.left_out, settled_rows);
    queues.close_all(&mut plan);
    plan
}

impl<'a> DeliveryView<'a> {
    /// Everything in the order of the queues: of a row and a notice behind it the row is first.
    fn entries(&self) -> Vec<Entry> {
        let rows = self.rows.iter().enumerate();
        let rows = rows.map(|(index, (row, _))| (Some(row.seq), Entry::Row(index)));
        let notices = self.notices.iter().enumerate();
        let notices = notices.map(|(index, notice)| (notice.behind, Entry::Notice(index)));
        let mut all: Vec<_> = rows.chain(notices).collect();
        all.sort_by_key(|(number, _)| *number); // which keeps the order of those with the same
        all.into_iter().map(|(_, entry)| entry).collect()
    }

    fn record(&self, entry: Entry) -> Option<&'a Delivery> {
        match entry {
            Entry::Row(index) => self.rows[index].1.as_ref(),
            Entry::Notice(index) => Some(&self.notices[index].record),
        }
    }

    /// Where it goes, if it goes to a channel.
    fn address(&self, entry: Entry) -> Option<Address> {
        match entry {
            Entry::Row(index) => {
                let row = &self.rows[index].0;
                (row.kind != KIND_SYSTEM).then(|| address_of(row, self.reply_address))
            }
            Entry::Notice(index) => Some(self.notices[index].address.clone()),
        }
    }
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

impl DeliveryPlan {
    fn look_at(&mut self, when: UnixMillis) {
        self.next = Some(self.next.map_or(when, |other| other.min(when)));
    }

    /// Whether a row is refused. It gets a final record, or is counted if so many were told already
    /// and nothing was recorded of it.
    fn refuse(&mut self, view: &DeliveryView<'_>, entry: Entry) -> bool {
        let Entry::Row(index) = entry else { return false };
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
            self.records.push((entry, failed(record.as_ref(), view.now, error)));
        }
        true
    }

    /// Whether it ends here without being sent: nobody knows whether it was, or nobody took it in time.
    fn end(&mut self, view: &DeliveryView<'_>, entry: Entry) -> bool {
        let Some(record) = view.record(entry) else { return false };
        let Some(address) = view.address(entry) else { return false };
        let end =
            interrupted(view, &address, record).or_else(|| self.expire(view, &address, record));
        let ends = end.is_some();
        self.records.extend(end.map(|end| (entry, end)));
        ends
    }

    /// The final record of what nobody took in time. Whoever is there by now is asked first.
    fn expire(
        &mut self,
        view: &DeliveryView<'_>,
        address: &Address,
        record: &Delivery,
    ) -> Option<Delivery> {
        if record.status != DeliveryStatus::Held {
            return None;
        }
        let left = view.hold.overtime(view.now.since(record.changed_at))?;
        if view.in_flight.contains(address) {
            self.last_call = true; // it goes on meanwhile
            return None;
        }
        if !is_nobody_there(view, address) && record.next_attempt_at.is_none() {
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

    /// A row that is not settled, at its place in the order.
    fn take_row(&mut self, view: &DeliveryView<'_>, queues: &mut Queues, index: usize) {
        let row = &view.rows[index].0;
        if let Some(due) = row.deliver_after.filter(|due| *due > view.now) {
            return self.look_at(due);
        }
        let undecided = (view.standing)(row) == Standing::Undecided;
        match view.address(Entry::Row(index)) {
            None => {
                queues.requests_wait |= undecided || self.requests.len() == BATCH_MAX;
                if !queues.requests_wait {
                    self.requests.push(index);
                }
            }
            // The outbox will say, and announce itself.
            Some(address) if undecided => queues.close(self, address),
            Some(_) => queues.offer(view, self, Entry::Row(index)),
        }
    }
}

/// Whether nothing can be sent to an address at the moment, by its channel's word or for want of one.
fn is_nobody_there(view: &DeliveryView<'_>, address: &Address) -> bool {
    view.unavailable.contains(address) || (view.channel)(&address.channel_type).is_none()
}

/// Why a row will never be sent.
fn refusal(view: &DeliveryView<'_>, row: &OutRow) -> Option<String> {
    if (view.standing)(row) == Standing::Superseded {
        return Some(format!("{SUPERSEDED}: its runner was given up before it wrote this"));
    }
    if row.kind == KIND_SYSTEM {
        return None; // it may be refused when it is decided
    }
    let address = address_of(row, view.reply_address);
    (!(view.may_send)(&address)).then(|| not_wired(&address))
}

/// The final record of what nobody knows whether it was sent.
fn interrupted(view: &DeliveryView<'_>, address: &Address, record: &Delivery) -> Option<Delivery> {
    let keys = (view.channel)(&address.channel_type).is_some_and(|channel| channel.keys);
    (record.status == DeliveryStatus::Sending && !keys && !view.in_flight.contains(address)).then(
        || Delivery {
            status: DeliveryStatus::Uncertain,
            error: Some(INTERRUPTED.to_owned()),
            changed_at: view.now,
            ..record.clone()
        },
    )
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
