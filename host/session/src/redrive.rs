//! Once more, on a person's word: reading rows that the cursor has passed and that are to be sent
//! again, and carrying out orders about what ended without success. What an order does is decided in
//! [`twobox_model::dead_letter`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use twobox_shared::content::Chat;
use twobox_shared::dead_letter::Fate;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Delivery, Inbox, InboxTx, NewMessage, Origin};
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{OutRow, UntrustedOutbox};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::boxes::{
    Boxes, Changes, ContentRoom, LARGE_PAGE, OPEN_PER_DESTINATION, SCAN_MAX, Writers,
};
use super::delivery;
use super::signal::Reason;
use super::task::{Task, Trouble};
use twobox_model::channel::Address;
use twobox_model::dead_letter::{
    self, DeadLetterOrder, DeadLetterOutcome, HELD, Handled, Kind, Known, ORDER_MAX, Step, Verb,
};
use twobox_shared::errors::chain;
use twobox_store::sessions::DUE_NOW;
use twobox_system::blocking::blocking;

/// Rows whose records are open, as the outbox has them.
#[derive(Debug, Default)]
pub(super) struct Redriven {
    /// Those at or before the cursor, in order.
    pub(super) rows: Vec<(OutRow, Option<Delivery>)>,
    /// Those that it does not have any more.
    pub(super) gone: Vec<(MessageId, Delivery)>,
    /// Whether there may be more of them than these.
    pub(super) left_out: bool,
}

/// Reads the rows at or before `cursor` that are to be sent all the same. As with those behind it,
/// no destination hides the rows of another.
pub(super) fn read_redriven(
    outbox: &UntrustedOutbox<'_>,
    inbox: &InboxTx<'_>,
    cursor: Seq,
    high_water: Seq,
    room: &mut ContentRoom,
) -> Result<Redriven, BoxError> {
    let open = inbox.open_deliveries(SCAN_MAX)?;
    let mut found = Redriven { left_out: open.len() == SCAN_MAX, ..Redriven::default() };
    if open.is_empty() {
        return Ok(found);
    }
    let numbers = outbox.numbers_of(&open)?;
    let (there, gone): (Vec<_>, Vec<_>) =
        open.into_iter().partition(|row| numbers.contains_key(row));
    found.gone = with_records(inbox, gone)?;
    let mut passed: Vec<_> = there.into_iter().filter(|row| numbers[row] <= cursor).collect();
    passed.sort_by_key(|row| numbers[row]);
    let mut taken: HashMap<Origin, usize> = HashMap::new();
    for page in passed.chunks(LARGE_PAGE) {
        for mut row in outbox.rows_of(page, high_water)? {
            room.admit(&mut row);
            let before = taken.entry(row.destination.clone()).or_default();
            *before += 1;
            match *before <= OPEN_PER_DESTINATION {
                true => {
                    let record = inbox.delivery(&row.id)?;
                    found.rows.push((row, record));
                }
                false => found.left_out = true,
            }
        }
    }
    Ok(found)
}

/// Without an outbox, every row is gone that is still to be sent.
pub(super) fn without_outbox(inbox: &InboxTx<'_>) -> Result<Vec<(MessageId, Delivery)>, BoxError> {
    with_records(inbox, inbox.open_deliveries(SCAN_MAX)?)
}

fn with_records(
    inbox: &InboxTx<'_>,
    rows: Vec<MessageId>,
) -> Result<Vec<(MessageId, Delivery)>, BoxError> {
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(record) = inbox.delivery(&row)? {
            records.push((row, record));
        }
    }
    Ok(records)
}

/// A message, or a row of the outbox of which something was recorded.
struct Found {
    kind: Kind,
    id: MessageId,
    fate: Fate,
    /// Where a dead row would be sent, if it can be read.
    address: Option<Address>,
}

impl Boxes {
    /// The messages and rows that an order may mean.
    fn known(
        &self,
        order: &DeadLetterOrder,
        writers: Writers,
        reply_address: &Address,
    ) -> Result<Vec<Found>, BoxError> {
        if !self.has_inbox() {
            return Ok(Vec::new());
        }
        let mut inbox = Inbox::open_to_read(&self.paths().inbound_db())?;
        let tx = inbox.read()?;
        let (messages, rows) = match &order.ids {
            Some(ids) => {
                let ids: BTreeSet<_> = ids.iter().collect(); // each once
                let ids: Vec<_> =
                    ids.into_iter().filter_map(|id| MessageId::parse(id).ok()).collect();
                (ids.clone(), ids)
            }
            None => (
                tx.failed()?.into_iter().map(|(message, _)| message).take(ORDER_MAX).collect(),
                tx.dead_rows(ORDER_MAX)?,
            ),
        };
        let mut known = Vec::new();
        for message in messages {
            if let Some(fate) = tx.fate_of_message(&message)? {
                known.push(Found { kind: Kind::Message, id: message, fate, address: None });
            }
        }
        let high_water = tx.high_water()?.max(tx.cursor()?.seen);
        let mut recorded = Vec::new();
        for row in rows {
            if let Some(fate) = tx.fate_of_delivery(&row)? {
                recorded.push((row, fate));
            }
        }
        let dead: Vec<&MessageId> = recorded
            .iter()
            .filter(|(_, fate)| matches!(fate, Fate::Dead { .. }))
            .map(|(row, _)| row)
            .collect();
        let mut addresses = HashMap::new();
        // What is dropped need not be read, and perhaps cannot be.
        if order.verb == Verb::Redrive && !dead.is_empty() {
            let read = self.read(writers, |outbox| {
                let mut addresses = HashMap::new();
                for page in dead.chunks(LARGE_PAGE) {
                    for row in outbox.rows_of(page.iter().copied(), high_water)? {
                        let address = delivery::address_of(&row, reply_address);
                        addresses.insert(row.id, address);
                    }
                }
                Ok(addresses)
            });
            addresses = read?.unwrap_or_default();
        }
        known.extend(recorded.into_iter().map(|(row, fate)| {
            let address = addresses.remove(&row);
            Found { kind: Kind::Delivery, id: row, fate, address }
        }));
        Ok(known)
    }

    /// Changes messages and delivery records in one transaction. Says of each whether it was changed.
    fn carry_out(
        &self,
        verb: Verb,
        things: &[(Kind, MessageId)],
        now: UnixMillis,
    ) -> Result<Vec<bool>, BoxError> {
        let mut inbox = Inbox::open(&self.paths().inbound_db())?;
        let tx = inbox.write()?;
        let changed = things
            .iter()
            .map(|(kind, id)| match (verb, kind) {
                (Verb::Redrive, Kind::Message) => tx.revive(id),
                (Verb::Redrive, Kind::Delivery) => tx.redrive_delivery(id, HELD, now),
                (Verb::Drop, Kind::Message) => tx.drop_message(id),
                (Verb::Drop, Kind::Delivery) => tx.drop_delivery(id, now),
                (Verb::Redrive | Verb::Drop, Kind::Notice) => Ok(false), // not in this file
            })
            .collect::<Result<_, _>>()?;
        tx.commit()?;
        Ok(changed)
    }
}

impl Task {
    /// Carries out a person's order. The error is a sentence for them.
    pub(super) async fn handle_dead(
        &mut self,
        order: &DeadLetterOrder,
    ) -> Result<Vec<Handled>, String> {
        if order.verb == Verb::Redrive && self.record.quarantine.is_some() {
            return Err(format!(
                "session {} is quarantined: look at it with `twobox sessions show`, put it back \
                 with `twobox sessions retry`, and redrive then",
                self.id
            ));
        }
        self.try_handle_dead(order).await.map_err(|trouble| chain(&trouble))
    }

    async fn try_handle_dead(&mut self, order: &DeadLetterOrder) -> Result<Vec<Handled>, Trouble> {
        let steps = dead_letter::steps(order, &self.known(order).await?);
        let changes = steps.iter().any(|step| matches!(step, Step::Change(_)));
        if changes && order.verb == Verb::Redrive {
            // First, so that whatever comes between them, somebody looks at what was redriven.
            self.mark(Some(DUE_NOW)).await?;
            fault::point(CrashPoint::HostRedriveMarked);
        }
        let handled = self.change(order.verb, steps).await?;
        if changes && order.verb == Verb::Redrive {
            fault::point(CrashPoint::HostRedriveCommitted);
            self.handle.signal.raise(Reason::Runtime);
        }
        Ok(handled)
    }

    /// Everything that the order may mean.
    async fn known(&self, order: &DeadLetterOrder) -> Result<Vec<Known>, Trouble> {
        let writers = match self.container.is_none() && self.record.runner.is_none() {
            true => Writers::None,
            false => Writers::Possible,
        };
        let (boxes, reply_address, asked) =
            (Arc::clone(&self.boxes), self.reply_address.clone(), order.clone());
        let inside = blocking(move || boxes.known(&asked, writers, &reply_address)).await?;
        let honours_keys = |kind: &str| {
            self.core.parts.channels.get(kind).is_some_and(|channel| channel.capabilities().keys)
        };
        let mut known: Vec<Known> = inside
            .into_iter()
            .map(|Found { kind, id, fate, address }| Known {
                kind,
                id: id.to_string(),
                fate,
                readable: kind == Kind::Message || address.is_some(),
                honours_keys: address.is_some_and(|address| honours_keys(&address.channel_type)),
            })
            .collect();
        let told = self.core.parts.store.notices().told(self.id).await?;
        known.extend(told.into_iter().map(|notice| Known {
            kind: Kind::Notice,
            id: dead_letter::notice_id(&notice.cause),
            fate: notice.fate,
            readable: true,
            honours_keys: honours_keys(&notice.channel_type),
        }));
        Ok(known)
    }

    /// Makes the changes: those to the inbox in one transaction, then each notice.
    async fn change(&mut self, verb: Verb, steps: Vec<Step>) -> Result<Vec<Handled>, Trouble> {
        let now = self.now();
        let things: Vec<(Kind, MessageId)> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Change(Handled { id, kind: Some(kind), .. }) if *kind != Kind::Notice => {
                    Some((*kind, MessageId::parse(id).ok()?))
                }
                _ => None,
            })
            .collect();
        let mut changed = Vec::new();
        if !things.is_empty() {
            let boxes = Arc::clone(&self.boxes);
            changed = blocking(move || boxes.carry_out(verb, &things, now)).await?;
        }
        let mut changed = changed.into_iter();
        let mut handled = Vec::with_capacity(steps.len());
        for step in steps {
            let done = match step {
                Step::Answer(answer) => {
                    handled.push(answer);
                    continue;
                }
                Step::Change(done) => done,
            };
            let really = match done.kind {
                Some(Kind::Notice) => self.change_notice(verb, &done.id, now).await?,
                Some(Kind::Message | Kind::Delivery) | None => changed.next().unwrap_or(false),
            };
            tracing::info!(session = %self.id, kind = done.kind.map(Kind::word), id = done.id,
                outcome = ?done.outcome, changed = really, "a person gave an order");
            handled.push(match really {
                true => done,
                false => Handled {
                    outcome: DeadLetterOutcome::Unchanged,
                    note: Some("it was changed meanwhile".to_owned()),
                    ..done
                },
            });
        }
        Ok(handled)
    }

    async fn change_notice(
        &mut self,
        verb: Verb,
        id: &str,
        now: UnixMillis,
    ) -> Result<bool, Trouble> {
        let Some(cause) = dead_letter::notice_cause(id) else { return Ok(false) };
        let session = self.id;
        let notices = self.core.parts.store.notices();
        let changed = match verb {
            Verb::Redrive => notices.redrive(session, cause, now),
            Verb::Drop => notices.dismiss(session, cause, now),
        };
        let changed = changed.await?;
        self.outgoing.knows_notices = false; // read again before the next is sent
        Ok(changed)
    }

    /// Settles rows that are to be sent and that their container has removed. What a channel has
    /// just now is not known by row, so that is waited for.
    pub(super) async fn settle_gone(
        &mut self,
        gone: &[(MessageId, Delivery)],
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        let Some((first, _)) = gone.first() else { return Ok(()) };
        if !self.outgoing.is_quiet() {
            return Ok(());
        }
        tracing::warn!(session = %self.id, rows = gone.len(), row = %first,
            error = delivery::GONE, "messages were not delivered");
        let records: Vec<_> =
            gone.iter().map(|(row, record)| (row.clone(), delivery::gone(record, now))).collect();
        let notes = vec![gone_note(first, gone.len(), &self.reply_address)];
        let changes = Changes { records, notes, ..Changes::default() };
        Ok(self.apply(changes, now).await?)
    }
}

/// Where they were to go is gone with them, so the agent is told of them by name.
fn gone_note(first: &MessageId, count: usize, reply_address: &Address) -> NewMessage {
    let cause = format!("{}\0{first}", delivery::GONE);
    let text = match count {
        1 => format!("A message was not delivered: {} ({first}).", delivery::GONE),
        many => format!("{many} messages were not delivered: {} ({first}, …).", delivery::GONE),
    };
    let id = delivery::undeliverable_id(reply_address, &cause, Seq::default());
    NewMessage::note(id, Chat::text(text).to_json())
}
