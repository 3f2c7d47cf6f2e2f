//! The queue of each destination, while everything that is to be delivered is offered in order.

use std::collections::HashMap;

use twobox_model::channel::Address;

use super::record::{held, waits};
use super::{BATCH_MAX, Batch, DeliveryPlan, DeliveryView, Entry, is_nobody_there};

/// The destinations, while entries are offered in order.
#[derive(Default)]
pub(super) struct Queues {
    by_address: HashMap<Address, Queue>,
    /// In the order in which their first entries came.
    order: Vec<Address>,
    /// Whether a request waits, and with it all those behind it.
    pub(super) requests_wait: bool,
}

impl Queues {
    pub(super) fn offer(&mut self, view: &DeliveryView<'_>, plan: &mut DeliveryPlan, entry: Entry) {
        let Some(address) = view.address(entry) else { return };
        let queue = self.by_address.entry(address.clone()).or_insert_with(|| {
            self.order.push(address.clone());
            Queue::new(view, &address)
        });
        queue.offer(view, plan, address, entry);
    }

    /// From here on nothing goes to `address`. What stands before may.
    pub(super) fn close(&mut self, plan: &mut DeliveryPlan, address: Address) {
        let queue = self.by_address.entry(address.clone()).or_insert(Queue::Waiting);
        queue.end(plan, address);
    }

    /// Nothing more is offered.
    pub(super) fn close_all(&mut self, plan: &mut DeliveryPlan) {
        for address in std::mem::take(&mut self.order) {
            self.close(plan, address);
        }
    }
}

/// One destination.
enum Queue {
    Open { entries: Vec<Entry>, announce: bool },
    Waiting,
}

impl Queue {
    fn new(view: &DeliveryView<'_>, address: &Address) -> Self {
        match (view.channel)(&address.channel_type) {
            Some(channel) if !view.in_flight.contains(address) => {
                Self::Open { entries: Vec::new(), announce: !channel.keys }
            }
            _ => Self::Waiting,
        }
    }

    fn offer(
        &mut self,
        view: &DeliveryView<'_>,
        plan: &mut DeliveryPlan,
        address: Address,
        entry: Entry,
    ) {
        let record = view.record(entry);
        if is_nobody_there(view, &address) && !view.in_flight.contains(&address) {
            // The record's time is when the hold began, which is what its end is counted from.
            let since = record.map_or(view.now, |record| record.changed_at);
            if record.is_none() {
                plan.records.push((entry, held(view.now, 0, None, None)));
            }
            let end = since + view.hold.max;
            if end >= view.now {
                plan.look_at(end); // beyond that, the end of the last call counts
            }
            *self = Self::Waiting;
            return;
        }
        let Self::Open { entries, announce } = self else { return };
        if let Some(retry) = record.and_then(|record| waits(record.next_attempt_at, view.now)) {
            plan.look_at(retry);
            return self.end(plan, address);
        }
        let room = if *announce { 1 } else { BATCH_MAX };
        if entries.len() < room {
            entries.push(entry);
        }
    }

    /// The queue ends here: what stands in it goes, and nothing behind.
    fn end(&mut self, plan: &mut DeliveryPlan, address: Address) {
        if let Self::Open { entries, announce } = std::mem::replace(self, Self::Waiting)
            && !entries.is_empty()
        {
            plan.batches.push(Batch { address, entries, announce });
        }
    }
}
