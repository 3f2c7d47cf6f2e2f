//! What channels say of what they were handed: calls, their reports, and the records that follow.

use std::sync::Arc;

use tokio::sync::mpsc;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::{ApprovalId, MessageId};
use twobox_shared::inbox::Cursor;
use twobox_shared::time::UnixMillis;

use super::command::Command;
use super::delivery::{self, Entry};
use super::outgoing::Outgoing;
use super::signal::Reason;
use super::task::{Task, Trouble};
use twobox_channels::Channel;
use twobox_model::channel::{Address, Outbound, Outcome};
use twobox_store::approvals::asked_by;

/// What a channel said of one batch.
#[derive(Debug)]
pub struct Sent {
    pub(super) address: Address,
    outbounds: Vec<Name>,
    outcomes: Vec<Outcome>,
}

/// What was sent, whatever has been read again since.
#[derive(Debug)]
pub(super) struct Name {
    what: What,
    /// How often it had been tried.
    attempts: i64,
}

#[derive(Debug)]
enum What {
    Row(MessageId),
    /// By its cause.
    Notice(String),
}

impl Sent {
    /// What people are asked by it.
    fn asked(&self) -> impl Iterator<Item = ApprovalId> {
        self.outbounds.iter().filter_map(|name| match &name.what {
            What::Notice(cause) => asked_by(cause),
            What::Row(_) => None,
        })
    }
}

impl Outgoing {
    /// A name for an entry, which is one only until more is read.
    pub(super) fn name(&self, entry: Entry) -> Name {
        let what = match entry {
            Entry::Row(index) => What::Row(self.rows[index].0.id.clone()),
            Entry::Notice(index) => What::Notice(self.notices[index].cause.clone()),
        };
        Name { what, attempts: self.attempts(entry) }
    }

    fn attempts(&self, entry: Entry) -> i64 {
        self.record(entry).map_or(0, |record| record.attempts)
    }

    /// Where it is now, unless it was settled meanwhile.
    fn find(&self, what: &What) -> Option<Entry> {
        match what {
            What::Row(id) => self.rows.iter().position(|(row, _)| row.id == *id).map(Entry::Row),
            What::Notice(cause) => {
                self.notices.iter().position(|it| it.cause == *cause).map(Entry::Notice)
            }
        }
    }
}

/// Calls a channel, and reports what it said.
pub(super) async fn call(
    channel: Arc<dyn Channel>,
    address: Address,
    outbounds: Vec<Outbound>,
    what: Vec<Name>,
    mailbox: mpsc::Sender<Command>,
) {
    let keys = channel.capabilities().keys;
    let call = tokio::spawn({
        let address = address.clone();
        async move { channel.deliver(&address, outbounds).await }
    });
    let broken = |error| vec![delivery::broken(keys, error)];
    let outcomes = match call.await {
        Ok(outcomes) if outcomes.is_empty() => {
            broken("the channel did not say what became of it".to_owned())
        }
        Ok(outcomes) => outcomes,
        Err(panic) => broken(format!("the channel broke: {panic}")),
    };
    fault::point(CrashPoint::HostDeliverSent);
    let sent = Sent { address, outbounds: what, outcomes };
    // The task lives as long as anything is under way, or the host stops.
    drop(mailbox.send(Command::Sent(sent)).await);
}

impl Task {
    /// Takes in what a channel said.
    pub(crate) async fn take_report(&mut self, sent: Sent) -> Result<(), Trouble> {
        match sent.outcomes.last() {
            Some(Outcome::Unavailable) if self.core.will_be_woken(self.id, &sent.address) => {
                self.outgoing.unavailable.insert(sent.address.clone());
            }
            Some(Outcome::Unavailable) => {} // somebody has come meanwhile
            _ => self.core.relieve(self.id, &sent.address),
        }
        self.outgoing.reports.push_back(sent);
        self.record_reports().await
    }

    /// Records what channels said, and goes on with their destinations' queues. What cannot be
    /// recorded is kept, and its destination stays busy until it can: a full disk must not make
    /// the host send the same outbound message again and again.
    pub(crate) async fn record_reports(&mut self) -> Result<(), Trouble> {
        while let Some(sent) = self.outgoing.reports.pop_front() {
            let now = self.now();
            if let Err(trouble) = self.record(&sent, now).await {
                self.outgoing.reports.push_front(sent);
                return Err(trouble);
            }
            self.outgoing.in_flight.remove(&sent.address);
            self.core.in_hand.over(sent.asked());
            self.handle.signal.raise(Reason::Due);
        }
        Ok(())
    }

    async fn record(&mut self, sent: &Sent, now: UnixMillis) -> Result<(), Trouble> {
        self.load_notices().await?;
        let mut records = Vec::new();
        for (name, outcome) in sent.outbounds.iter().zip(&sent.outcomes) {
            let Some(entry) = self.outgoing.find(&name.what) else { continue };
            if self.outgoing.attempts(entry) != name.attempts {
                continue; // recorded, when others of the batch could not be
            }
            let record = delivery::after(outcome, self.outgoing.record(entry), now);
            records.extend(record.map(|record| (entry, record)));
        }
        if records.is_empty() {
            return Ok(());
        }
        let settled = self.outgoing.rows.iter().enumerate().map(|(index, (row, record))| {
            let is_new = |(entry, _): &&(Entry, _)| *entry == Entry::Row(index);
            let record = records.iter().find(is_new).map(|(_, new)| new).or(record.as_ref());
            (row.seq, record.is_some_and(|record| record.status.is_settled()))
        });
        let seq = delivery::passed(self.outgoing.cursor, self.outgoing.left_out, settled);
        // What was read besides stands in the inbox already.
        self.write(records, None, Cursor { seq, ..Cursor::default() }, now).await?;
        fault::point(CrashPoint::HostDeliverRecorded);
        Ok(())
    }
}
