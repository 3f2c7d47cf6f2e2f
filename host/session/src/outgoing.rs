//! What is on its way out of one session: rows of its outbox and notices of the host. The decision
//! is `delivery`; here it is carried out. Channel calls run outside the session's task, one for each
//! destination at a time, and report back as a command.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use twobox_shared::clock::Monotonic;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Cursor, Delivery, DeliveryStatus, Destination, NewMessage};
use twobox_shared::outbox::OutRow;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::boxes::{BoxSnapshot, Changes, LARGE_PAGE};
use super::command::Command;
use super::compose;
use super::delivery::{self, Batch, ChannelTraits, Hold, Plan};
use super::fence::Fence;
use super::signal::Reason;
use super::task::{Task, Trouble};
use crate::core::Parts;
use twobox_model::channel::{Address, Outbound, Outcome};
use twobox_store::notices::Notice;
use twobox_store::{messaging, refused};

type Row = (OutRow, Option<Delivery>);

/// What the task remembers of its sends.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(super) in_flight: HashSet<Address>,
    pub(super) unavailable: HashSet<Address>,
    allowed: Option<HashSet<(String, String)>>,
    pub(super) rows: Vec<Row>,
    /// How far the host had come when it read them.
    cursor: Seq,
    /// The first of them that it did not read although it read others behind it.
    left_out: Option<Seq>,
    last_delivered: HashMap<Address, Seq>,
    /// Where the messages were said that the rows answer which are to be sent now.
    said: HashMap<MessageId, Address>,
    /// Since when there is a last call for outbound messages whose time is over.
    last_call: Option<Monotonic>,
    pub(super) notices: Option<VecDeque<Notice>>,
    /// What channels said and no disk has taken yet.
    reports: VecDeque<Sent>,
}

/// What a channel said of one batch.
#[derive(Debug)]
pub struct Sent {
    address: Address,
    outbounds: OutboundKind,
    outcomes: Vec<Outcome>,
}

#[derive(Debug, Clone)]
pub(super) enum OutboundKind {
    Rows(Vec<MessageId>),
    Notice(Notice),
}

impl Outgoing {
    /// Whether no channel call is under way and every outcome is recorded.
    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Whether a channel has yet to say what became of outbound messages.
    pub(crate) fn awaits_channels(&self) -> bool {
        self.in_flight.len() > self.reports.len()
    }

    /// Gives up what could not be recorded.
    pub(crate) fn forget_reports(&mut self) {
        for sent in self.reports.drain(..) {
            self.in_flight.remove(&sent.address);
        }
    }

    /// Addresses where nobody was may have somebody now: those for which nothing `waits`.
    pub(crate) fn channels_are_back(&mut self, waits: impl Fn(&Address) -> bool) {
        self.unavailable.retain(waits);
    }

    /// The wirings may have changed: they are read again before anything is sent or refused.
    pub(crate) fn forget_allowed(&mut self) {
        self.allowed = None;
    }

    /// Where the session may send to.
    pub(crate) fn allow(&mut self, destinations: &[Destination]) {
        let pair =
            |address: &Destination| (address.channel_type.clone(), address.platform_id.clone());
        self.allowed = Some(destinations.iter().map(pair).collect());
    }

    /// A notice that was just stored.
    pub(crate) fn add_notice(&mut self, notice: Notice) {
        if let Some(notices) = &mut self.notices {
            notices.push_back(notice);
        }
    }
}

impl Task {
    /// Decides what becomes of the outbox's rows, and hands over at once what a channel with keys may
    /// have: such a channel takes an outbound message once however often it is sent, so that need not wait for
    /// the commits of this sweep.
    pub(crate) async fn plan_delivery(
        &mut self,
        rows: Vec<Row>,
        snapshot: &BoxSnapshot,
        fence: &Fence<'_>,
        now: UnixMillis,
    ) -> Result<Plan, Trouble> {
        self.outgoing.rows = rows;
        self.outgoing.cursor = snapshot.cursor.seq;
        self.outgoing.left_out = snapshot.left_out;
        let beyond = self.outgoing.rows.iter().map(|(row, _)| row.seq);
        self.refusals.keep(beyond.filter(|row| *row > snapshot.cursor.seq));
        let may_tell = self.refusals.left(self.core.parts.clock.monotonic());
        if self.outgoing.allowed.is_none() && !self.outgoing.rows.is_empty() {
            self.load_allowed().await?;
        }
        let mut plan = self.plan(snapshot, fence, may_tell, now);
        self.refusals.spend(plan.told);
        for batch in &mut plan.batches {
            self.load_contents(&mut batch.rows, snapshot).await?;
        }
        self.load_said(&plan.batches).await?;
        for batch in plan.batches.extract_if(.., |batch| !batch.announce) {
            self.send_rows(&batch, now);
        }
        Ok(plan)
    }

    /// Step 6: hands to channels the rest of what is due, and says when to look again for what is
    /// not; `None` if nothing is left.
    pub(crate) async fn deliver(
        &mut self,
        plan: &Plan,
        snapshot: &BoxSnapshot,
        now: UnixMillis,
    ) -> Result<Option<UnixMillis>, Trouble> {
        self.settle_gone(&snapshot.gone, now).await?;
        self.serve(plan, snapshot, now).await?;
        let mut next = plan.next;
        self.write_records(plan, snapshot, now).await?;
        for batch in &plan.batches {
            self.send_rows(batch, now);
        }
        self.outgoing.rows.iter_mut().for_each(|(row, _)| row.content = None);
        let (notices_next, notices_last_call) = self.send_notices(now).await?;
        next = next.into_iter().chain(notices_next).min();
        let began = self.outgoing.last_call.unwrap_or_else(|| self.core.parts.clock.monotonic());
        self.outgoing.last_call = (plan.last_call || notices_last_call).then_some(began);
        let counted = !plan.counted.is_empty() && plan.cursor > snapshot.cursor.seq;
        if counted || (snapshot.more && !plan.records.is_empty()) {
            // What was settled makes room for rows that this look did not take, and the cursor can
            // pass what was settled behind that.
            next = Some(now);
        }
        if let Some(when) = next {
            self.look_in(when.since(now));
        }
        Ok(next)
    }

    fn plan(
        &self,
        snapshot: &BoxSnapshot,
        fence: &Fence<'_>,
        may_tell: usize,
        now: UnixMillis,
    ) -> Plan {
        let out = &self.outgoing;
        let channels = &self.core.parts.channels;
        delivery::plan(&delivery::View {
            now,
            cursor: snapshot.cursor.seq,
            rows: &out.rows,
            reply_address: &self.reply_address,
            may_send: &|address| self.may_send(address),
            standing: &|row| fence.standing(row),
            channel: &|kind| {
                channels
                    .get(kind)
                    .map(|channel| ChannelTraits { honours_keys: channel.honours_keys() })
            },
            in_flight: &out.in_flight,
            unavailable: &out.unavailable,
            hold: self.hold(),
            left_out: snapshot.left_out,
            may_tell,
            judged: &|row| self.refusals.is_judged(row),
        })
    }

    /// Whether the session may send to `address`: the reply address, and wherever its agent is wired to.
    pub(super) fn may_send(&self, address: &Address) -> bool {
        let is_reply_address = address.channel_type == self.reply_address.channel_type
            && address.platform_id == self.reply_address.platform_id;
        is_reply_address
            || self.outgoing.allowed.as_ref().is_some_and(|allowed| {
                allowed.contains(&(address.channel_type.clone(), address.platform_id.clone()))
            })
    }

    /// For how long outbound messages are kept that nobody takes.
    pub(super) fn hold(&self) -> Hold {
        let Parts { clock, config, .. } = &self.core.parts;
        let last_call =
            self.outgoing.last_call.map_or(Duration::ZERO, |began| clock.monotonic().since(began));
        Hold { max: config.delivery.max_hold, last_call }
    }

    async fn load_allowed(&mut self) -> Result<(), Trouble> {
        let agent = self.record.agent_group;
        let addresses =
            self.core.parts.db.call(move |db| messaging::addresses_of(db, agent)).await?;
        let allowed =
            addresses.into_iter().map(|address| (address.channel_type, address.platform_id));
        self.outgoing.allowed = Some(allowed.collect());
        Ok(())
    }

    /// Writes what the plan settles without sending, the announcements, and the cursor.
    async fn write_records(
        &mut self,
        plan: &Plan,
        snapshot: &BoxSnapshot,
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        let announced = plan.batches.iter().filter(|batch| batch.announce).flat_map(|batch| {
            let out = &self.outgoing;
            let record = move |index: usize| delivery::announced(out.rows[index].1.as_ref(), now);
            batch.rows.iter().map(move |index| (*index, record(*index)))
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
        plan: &Plan,
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
        let db = &self.core.parts.db;
        db.call(move |db| refused::count(db, session, &numbers, &error, now)).await?;
        Ok(self.refusals.note(session, first))
    }

    /// Makes new records of rows durable, with a note to the agent for each failure, and one for what
    /// arrived after all although the agent was told that it had not. Only then remembers them.
    async fn write(
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
        self.outgoing.last_delivered = last_delivered;
        for (index, record) in records {
            if record.status.is_settled() {
                let row = &self.outgoing.rows[index].0;
                let address = delivery::address_of(row, &self.reply_address);
                self.outbound_is_over(&address.channel_type, row.id.as_str());
            }
            self.outgoing.rows[index].1 = Some(record);
        }
        Ok(())
    }

    /// Tells a channel that an outbound message waits no more, whoever decided so.
    pub(super) fn outbound_is_over(&self, channel_type: &str, row: &str) {
        if let Some(channel) = self.core.parts.channels.get(channel_type) {
            channel.forget(&compose::key(self.core.parts.install, self.id, row));
        }
    }

    /// Reads what the look had no room for, of the rows at `indexes`. Where some is lacking, only the
    /// first few rows are taken this time, so that they do not take more memory than the look did.
    pub(super) async fn load_contents(
        &mut self,
        indexes: &mut Vec<usize>,
        snapshot: &BoxSnapshot,
    ) -> Result<(), Trouble> {
        let rows = &self.outgoing.rows;
        if indexes.iter().all(|index| rows[*index].0.content.is_some()) {
            return Ok(());
        }
        indexes.truncate(LARGE_PAGE);
        let ids: Vec<_> = indexes.iter().map(|index| rows[*index].0.id.clone()).collect();
        let (boxes, writers, newest) = (Arc::clone(&self.boxes), snapshot.writers, snapshot.newest);
        let read = self.at_its_expense(move || boxes.contents(writers, &ids, newest)).await;
        let mut contents = read?;
        // What is gone by now, the next look tells.
        indexes.retain(|index| {
            let row = &mut self.outgoing.rows[*index].0;
            row.content = row.content.take().or_else(|| contents.remove(&row.id));
            row.content.is_some()
        });
        Ok(())
    }

    /// Reads where the messages were said that the rows of `batches` say they answer.
    async fn load_said(&mut self, batches: &[Batch]) -> Result<(), Trouble> {
        let indexes = batches.iter().flat_map(|batch| &batch.rows);
        let rows = indexes.map(|index| &self.outgoing.rows[*index].0);
        let named: BTreeSet<_> = rows.flat_map(compose::answers).collect();
        self.outgoing.said.clear();
        if named.is_empty() {
            return Ok(());
        }
        let boxes = Arc::clone(&self.boxes);
        let origins = self.at_its_expense(move || boxes.origins(named)).await?;
        let address = |(id, origin)| (id, compose::address_of_origin(&origin, &self.reply_address));
        self.outgoing.said = origins.into_iter().map(address).collect();
        Ok(())
    }

    fn send_rows(&mut self, batch: &Batch, now: UnixMillis) {
        if batch.rows.is_empty() {
            return;
        }
        if batch.announce {
            fault::point(CrashPoint::HostDeliverAnnounced);
        }
        let rows: Vec<&OutRow> =
            batch.rows.iter().map(|index| &self.outgoing.rows[*index].0).collect();
        let (parts, said) = (&self.core.parts, &self.outgoing.said);
        let outbound = |row: &&OutRow| {
            let address = delivery::address_of(row, &self.reply_address);
            let key = compose::key(parts.install, self.id, row.id.as_str());
            compose::of_row(row, key, said, &address, self.boxes.paths().out_dir())
        };
        let outbounds = rows.iter().map(outbound).collect();
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        tracing::debug!(session = %self.id, rows = batch.rows.len(), at = %now, "sending");
        self.hand_over(batch.address.clone(), outbounds, OutboundKind::Rows(ids));
    }

    /// Hands outbound messages to their channel, whose report comes back as a command.
    pub(super) fn hand_over(
        &mut self,
        address: Address,
        outbounds: Vec<Outbound>,
        what: OutboundKind,
    ) {
        let Some(channel) = self.core.parts.channels.get(address.channel_type.as_str()) else {
            return; // the plan sends only where there is a channel
        };
        self.outgoing.in_flight.insert(address.clone());
        self.sweep_budget.earn(outbounds.len());
        let (channel, mailbox) = (Arc::clone(channel), self.handle.mailbox.clone());
        self.core.expect(self.id, &address);
        let honours_keys = channel.honours_keys();
        tokio::spawn(async move {
            let call = tokio::spawn({
                let address = address.clone();
                async move { channel.deliver(&address, outbounds).await }
            });
            let broke = |error| match honours_keys {
                true => vec![Outcome::Transient { error, retry_after: None }],
                false => vec![Outcome::Uncertain { error }],
            };
            let outcomes = match call.await {
                Ok(outcomes) if outcomes.is_empty() => {
                    broke("the channel did not say what became of it".to_owned())
                }
                Ok(outcomes) => outcomes,
                Err(panic) => broke(format!("the channel broke: {panic}")),
            };
            fault::point(CrashPoint::HostDeliverSent);
            let sent = Sent { address, outbounds: what, outcomes };
            // The task lives as long as anything is under way, or the host stops.
            drop(mailbox.send(Command::Sent(sent)).await);
        });
    }

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
            let recorded = match &sent.outbounds {
                OutboundKind::Notice(notice) => {
                    self.record_notice_sent(notice, &sent.outcomes, now).await
                }
                OutboundKind::Rows(ids) => self.record_rows(ids, &sent.outcomes, now).await,
            };
            if let Err(trouble) = recorded {
                self.outgoing.reports.push_front(sent);
                return Err(trouble);
            }
            self.outgoing.in_flight.remove(&sent.address);
            self.handle.signal.raise(Reason::Due);
        }
        Ok(())
    }

    async fn record_rows(
        &mut self,
        ids: &[MessageId],
        outcomes: &[Outcome],
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        let mut records: Vec<(usize, Delivery)> = Vec::new();
        for (id, outcome) in ids.iter().zip(outcomes) {
            let Some(index) = self.outgoing.rows.iter().position(|(row, _)| row.id == *id) else {
                continue; // settled by an earlier report
            };
            let before = self.outgoing.rows[index].1.as_ref();
            let record = delivery::after(outcome, before, now);
            let unchanged = before.is_some_and(|before| {
                before.status == record.status && before.attempts == record.attempts
            });
            if !unchanged {
                records.push((index, record));
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        let settled = self.outgoing.rows.iter().enumerate().map(|(index, (row, record))| {
            let new = records.iter().find(|(other, _)| *other == index).map(|(_, record)| record);
            let record = new.or(record.as_ref());
            (row.seq, record.is_some_and(|record| record.status.is_settled()))
        });
        let seq = delivery::passed(self.outgoing.cursor, self.outgoing.left_out, settled);
        // What was read besides stands in the inbox already.
        self.write(records, None, Cursor { seq, ..Cursor::default() }, now).await?;
        fault::point(CrashPoint::HostDeliverRecorded);
        Ok(())
    }
}
