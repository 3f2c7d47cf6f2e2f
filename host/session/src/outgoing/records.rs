//! The records of what is on its way out, and what else becomes durable with them.

use std::collections::BTreeMap;
use std::time::Instant;

use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Cursor, Delivery, DeliveryStatus, NewMessage};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use crate::boxes::{BoxSnapshot, Changes};
use crate::compose;
use crate::delivery::{self, DeliveryPlan, Entry};
use crate::task::{Task, Trouble};
use twobox_model::channel::Address;

impl Task {
    /// Writes what the plan settles without sending, the announcements, and the cursor.
    pub(super) async fn write_records(
        &mut self,
        plan: &DeliveryPlan,
        snapshot: &BoxSnapshot,
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        let announced = plan.batches.iter().filter(|batch| batch.announce).flat_map(|batch| {
            let record = |entry| delivery::announced(self.outgoing.record(entry), now);
            batch.entries.iter().map(move |entry| (*entry, record(*entry)))
        });
        let records: Vec<_> = plan.records.iter().cloned().chain(announced).collect();
        if records.is_empty() && plan.cursor == snapshot.cursor.seq {
            return Ok(());
        }
        let note = self.count_refused(plan, now).await?;
        let cursor = Cursor { seq: plan.cursor, seen: snapshot.cursor.seen };
        self.write(records, note, cursor, now).await
    }

    /// Counts the refused rows that the cursor passes without records. First, so that no row is passed
    /// of which nothing is known. Returns what the agent is to be told of it.
    async fn count_refused(
        &mut self,
        plan: &DeliveryPlan,
        now: UnixMillis,
    ) -> Result<Option<NewMessage>, Trouble> {
        let rows = &self.outgoing.rows;
        let number = |(index, _): &(usize, _)| rows[*index].0.seq;
        let passed = plan.counted.iter().map(number).filter(|row| *row <= plan.cursor);
        let numbers: Vec<Seq> = passed.collect();
        let Some(first) = numbers.first().copied() else { return Ok(None) };
        let found_here = plan.counted.iter().rev().find_map(|(_, error)| error.as_deref());
        let error = found_here.or(self.refusals.last()).unwrap_or_default().to_owned();
        if let Some(repeats) = self.refusals.log("refusals are counted", Instant::now()) {
            tracing::warn!(session = %self.id, error, repeats,
                "so much of what the agent asks and sends is refused that it is only counted, which \
                 `twobox dead list` shows");
        }
        let session = self.id;
        let store = &self.core.parts.store;
        store.refusals().count(session, &numbers, &error, now).await?;
        Ok(self.refusals.note(session, first))
    }

    /// Makes new records durable. Only then remembers them, and tells channels of what is over.
    pub(crate) async fn write(
        &mut self,
        records: Vec<(Entry, Delivery)>,
        note: Option<NewMessage>,
        cursor: Cursor,
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        let (mut rows, mut notices) = (Vec::new(), Vec::new());
        for (entry, record) in records {
            match entry {
                Entry::Row(index) => rows.push((index, record)),
                Entry::Notice(index) => notices.push((index, record)),
            }
        }
        self.write_notices(notices).await?;
        if !rows.is_empty() || note.is_some() || cursor.seq != self.outgoing.cursor {
            self.write_rows(rows, note, cursor, now).await?;
        }
        Ok(())
    }

    /// Writes records of rows, with a note to the agent for each failure, and one for what arrived after
    /// all although the agent was told that it had not.
    async fn write_rows(
        &mut self,
        records: Vec<(usize, Delivery)>,
        notice: Option<NewMessage>,
        cursor: Cursor,
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        let mut changes = Changes { cursor, notice, ..Changes::default() };
        let mut last_delivered = self.outgoing.last_delivered.clone();
        let mut arrived: BTreeMap<Address, Vec<&MessageId>> = BTreeMap::new();
        for (index, record) in &records {
            let (row, before) = &self.outgoing.rows[*index];
            let address = delivery::address_of(row, &self.reply_address);
            match record.status {
                DeliveryStatus::Delivered => {
                    if before.as_ref().is_some_and(Delivery::is_believed_lost) {
                        arrived.entry(address.clone()).or_default().push(&row.id);
                    }
                    last_delivered.insert(address, row.seq);
                }
                DeliveryStatus::Failed | DeliveryStatus::Uncertain => {
                    let error = record.error.clone().unwrap_or_default();
                    let (channel, chat) = (&address.channel_type, &address.platform_id);
                    self.core.undelivered.note(channel, chat, &error);
                    let epoch = last_delivered.get(&address).copied().unwrap_or_default();
                    if let Some(repeats) = self.refusals.log(&error, Instant::now()) {
                        tracing::warn!(session = %self.id, row = %row.id,
                            channel = address.channel_type, platform_id = address.platform_id,
                            status = record.status.as_str(), error, repeats,
                            "a message was not delivered");
                    }
                    changes.notes.push(compose::undeliverable_note(
                        &address,
                        record.status,
                        &error,
                        epoch,
                    ));
                }
                DeliveryStatus::Held | DeliveryStatus::Sending => {}
            }
            changes.records.push((row.id.clone(), record.clone()));
        }
        let notes =
            arrived.iter().filter_map(|(address, rows)| compose::arrived_note(address, rows));
        changes.notes.extend(notes);
        self.apply(changes, now).await?;
        self.outgoing.cursor = self.outgoing.cursor.max(cursor.seq);
        self.outgoing.last_delivered = last_delivered;
        for (index, record) in records {
            self.remember(Entry::Row(index), record);
        }
        Ok(())
    }

    /// Remembers a record that is durable. Its channel hears of what waits no more, whoever decided so.
    pub(crate) fn remember(&mut self, entry: Entry, record: Delivery) {
        let out = &self.outgoing;
        let address = match entry {
            Entry::Row(index) => delivery::address_of(&out.rows[index].0, &self.reply_address),
            Entry::Notice(index) => out.notices[index].address.clone(),
        };
        if record.status.is_settled()
            && let Some(channel) = self.core.parts.channels.get(address.channel_type.as_str())
        {
            channel.forget(&self.key(entry));
        }
        match entry {
            Entry::Row(index) => self.outgoing.rows[index].1 = Some(record),
            Entry::Notice(index) => self.outgoing.notices[index].record = record,
        }
    }
}
