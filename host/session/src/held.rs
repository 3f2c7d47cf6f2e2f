//! A session of a copy, before its new host has ever looked at it: whatever is open there is the
//! original's to finish. Nothing is lost: messages and rows end as failed, with the reason, where
//! `twobox dead` shows them and sends or answers them on a person's word; tasks are paused.
//!
//! Everything here may be repeated: a second time finds nothing to do.

use std::ops::AddAssign;

use serde::Serialize;
use twobox_shared::content::{Chat, Failure};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Cursor, Delivery, DeliveryStatus, Inbox, NewMessage, PendingMessage};
use twobox_shared::open::{BoxError, Remedy};
use twobox_shared::outbox::{Ack, AckStatus, OutRow};
use twobox_shared::time::UnixMillis;

use super::boxes::{BoxSnapshot, Boxes, Changes, Writers};
use super::decide::Action;
use super::delivery;
use super::recurrence::{self, Succession};
use twobox_model::dead_letter::HELD;

/// How many looks one session may take: each settles something, but what there is to settle is the
/// container's word.
const LOOKS_MAX: usize = 1000;

/// How often a box is read that did not answer in time.
const TRIES: usize = 5;

/// What was held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Held {
    /// Messages that were not answered.
    pub messages: usize,
    /// Rows of outboxes that were not delivered.
    #[serde(rename = "letters")] // the word that programs read
    pub outbounds: usize,
    /// Tasks that were not paused.
    pub tasks: usize,
}

impl AddAssign for Held {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.outbounds += other.outbounds;
        self.tasks += other.tasks;
    }
}

impl Boxes {
    /// Holds back whatever is open. Nothing may run in this folder: the caller has the data
    /// directory, and the original's container has another one.
    ///
    /// # Errors
    /// Any [`BoxError`]: the copy of the files may be torn.
    pub fn hold(&self, now: UnixMillis) -> Result<Held, BoxError> {
        let mut held = Held::default();
        for _ in 0..LOOKS_MAX {
            let snapshot = self.patient_look()?;
            let outbounds = open_rows(&snapshot).count();
            let changes = settle(&snapshot, now);
            let done = changes.records.is_empty()
                && changes.actions.is_empty()
                && changes.successions.is_empty()
                && changes.cursor == snapshot.cursor
                && !snapshot.more;
            if done {
                if self.has_inbox() {
                    self.put_aside(&snapshot, &mut held, now)?;
                }
                return Ok(held);
            }
            held.outbounds += outbounds;
            self.apply(&changes, now)?;
        }
        Err(BoxError::Refused { reason: "its outbox has no end".to_owned() })
    }

    /// A look has a deadline, because a container may make its box slow to read. Here nobody waits for
    /// it, and what could not be read would be lost sight of: it gets several tries.
    fn patient_look(&self) -> Result<BoxSnapshot, BoxError> {
        for _ in 1..TRIES {
            match self.look(Writers::None) {
                Err(error) if error.remedy() == Remedy::TryAgain => {}
                result => return result,
            }
        }
        self.look(Writers::None)
    }

    /// Ends what is still pending, and pauses the tasks.
    fn put_aside(
        &self,
        snapshot: &BoxSnapshot,
        held: &mut Held,
        now: UnixMillis,
    ) -> Result<(), BoxError> {
        let mut inbox = Inbox::open(&self.paths().inbound_db())?;
        let tx = inbox.write()?;
        let failure = Failure::retryable(
            Failure::COPIED,
            "it was open when this copy was made, and the original answers it",
        );
        let before = *held;
        for message in &snapshot.pending {
            // That attempt goes on elsewhere, or its container is gone: nobody here is to blame.
            if snapshot.acks.get(&message.id).is_some_and(|ack| is_of_attempt(ack, message)) {
                tx.charge(&message.id, message.tries, true, message.process_after)?;
            }
            if message.of_task {
                tx.pause_occurrence(&message.id)?;
                held.tasks += 1;
            } else if message.trigger {
                held.messages += usize::from(tx.set_aside(&message.id, &failure)?);
            } // what is only context starts no turn
        }
        if held.tasks > before.tasks {
            tx.accept(&paused_note(now), snapshot.cursor.seen, now)?;
        }
        if *held == before && snapshot.pending.is_empty() {
            return Ok(());
        }
        tx.advance(snapshot.cursor)?;
        tx.raise_charged(snapshot.newest)?; // what these attempts have said may be sent, on a person's word
        tx.commit()
    }
}

/// What can be taken in, and what is not to be sent. A task goes on, paused.
fn settle(snapshot: &BoxSnapshot, now: UnixMillis) -> Changes {
    let completed =
        snapshot.pending.iter().map(|message| &message.id).filter(|id| {
            snapshot.acks.get(id).is_some_and(|ack| ack.status == AckStatus::Completed)
        });
    let actions: Vec<Action> = completed
        .chain(&snapshot.answered)
        .map(|message| Action::Complete { message: message.clone() })
        .collect();
    let mut successions =
        recurrence::successions(&snapshot.recurring, &actions, &snapshot.acks, now);
    for Succession { next, .. } in &mut successions {
        if let Ok(next) = next {
            next.paused = true;
        }
    }
    let open = open_rows(snapshot).map(|(row, record)| (row.id.clone(), held_back(record, now)));
    let gone = snapshot.gone.iter().map(|(row, record)| (row.clone(), delivery::gone(record, now)));
    let records: Vec<(MessageId, Delivery)> = open.chain(gone).collect();
    // Behind open rows there may be some that this look left out.
    let seq = match records.is_empty() {
        true => delivery::passed(
            snapshot.cursor.seq,
            snapshot.left_out,
            snapshot.rows.iter().map(|(row, _)| (row.seq, true)),
        ),
        false => snapshot.cursor.seq,
    };
    let cursor = Cursor { seq, ..snapshot.cursor };
    Changes { actions, successions, records, cursor, ..Changes::default() }
}

fn open_rows(snapshot: &BoxSnapshot) -> impl Iterator<Item = &(OutRow, Option<Delivery>)> {
    let settled = |record: &Option<Delivery>| {
        record.as_ref().is_some_and(|record| record.status.is_settled())
    };
    snapshot.rows.iter().filter(move |(_, record)| !settled(record))
}

fn held_back(record: &Option<Delivery>, now: UnixMillis) -> Delivery {
    let before = record.as_ref().map(|record| record.status);
    Delivery {
        // Whether an announced one was sent is as unknown as it was before.
        status: match before {
            Some(DeliveryStatus::Sending) => DeliveryStatus::Uncertain,
            _ => DeliveryStatus::Failed,
        },
        attempts: record.as_ref().map_or(0, |record| record.attempts),
        next_attempt_at: None,
        changed_at: now,
        error: Some(HELD.to_owned()),
        platform_message_id: None,
    }
}

/// Whether an ack is about the attempt that would be the next one to be charged.
fn is_of_attempt(ack: &Ack, message: &PendingMessage) -> bool {
    ack.status != AckStatus::Completed && ack.attempt.is_none_or(|attempt| attempt == message.tries)
}

/// What the agent is told, the next time that somebody talks to it.
fn paused_note(now: UnixMillis) -> NewMessage {
    let id = MessageId::parse(&format!("copied-{}", now.0)).expect("letters, digits and a hyphen");
    let text = "This conversation is in a copy of its installation. Its tasks are paused here, \
                because they go on in the original: resume them only if a person wants that.";
    NewMessage::note(id, Chat::text(text).to_json())
}

/// How the reason begins why a session of a copy is out of use.
pub const TORN: &str = "copied: what is open here could not be held back";

/// Whether a session is out of use for this `quarantine`: what is open in it could not be held back.
pub(crate) fn is_torn(quarantine: &str) -> bool {
    quarantine.starts_with(TORN)
}
