//! What is on its way out of one session: rows of its outbox and notices of the host. The decision
//! is `delivery`; here it is carried out. Channel calls run outside the session's task, one for each
//! destination at a time, and report back as a command (`reports`). What is recorded, and what agents and
//! channels hear of it, is in `records`.

mod records;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use twobox_shared::clock::Monotonic;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Cursor, Delivery, Destination};
use twobox_shared::outbox::OutRow;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::boxes::{BoxSnapshot, LARGE_PAGE};
use super::compose;
use super::delivery::{self, Batch, DeliveryPlan, Entry, HoldLimit};
use super::fence::Fence;
use super::reports::{self, Sent};
use super::task::{Task, Trouble};
use crate::core::Parts;
use twobox_model::channel::{Address, Outbound};
use twobox_store::approvals::asked_by;
use twobox_store::notices::Notice;

type Row = (OutRow, Option<Delivery>);

/// What the task remembers of its sends.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(super) in_flight: HashSet<Address>,
    pub(super) unavailable: HashSet<Address>,
    allowed: Option<HashSet<(String, String)>>,
    pub(super) rows: Vec<Row>,
    /// How far the host had come when it read them.
    pub(super) cursor: Seq,
    /// The first of them that it did not read although it read others behind it.
    pub(super) left_out: Option<Seq>,
    last_delivered: HashMap<Address, Seq>,
    /// Where the messages were said that the rows answer which are to be sent now.
    said: HashMap<MessageId, Address>,
    /// Since when there is a last call for outbound messages whose time is over.
    last_call: Option<Monotonic>,
    /// The host's own, oldest first, until each is settled.
    pub(super) notices: Vec<Notice>,
    /// Whether these are all that `host.db` has.
    pub(super) knows_notices: bool,
    /// What channels said and no disk has taken yet.
    pub(super) reports: VecDeque<Sent>,
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

    /// Gives up what could not be recorded. What people are asked may have been shown all the same.
    pub(crate) fn forget_reports(&mut self) {
        while let Some(sent) = self.reports.pop_front() {
            self.in_flight.remove(&sent.address);
        }
    }

    /// What is known of something that is to be sent.
    pub(super) fn record(&self, entry: Entry) -> Option<&Delivery> {
        match entry {
            Entry::Row(index) => self.rows[index].1.as_ref(),
            Entry::Notice(index) => Some(&self.notices[index].record),
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
    ) -> Result<DeliveryPlan, Trouble> {
        self.outgoing.rows = rows;
        self.outgoing.cursor = snapshot.cursor.seq;
        self.outgoing.left_out = snapshot.left_out;
        let beyond = self.outgoing.rows.iter().map(|(row, _)| row.seq);
        self.refusals.keep(beyond.filter(|row| *row > snapshot.cursor.seq));
        let may_tell = self.refusals.left(self.core.parts.clock.monotonic());
        if self.outgoing.allowed.is_none() && !self.outgoing.rows.is_empty() {
            self.load_allowed().await?;
        }
        self.load_notices().await?;
        self.load_people().await?; // for what their messages ask
        let mut plan = self.plan(&self.outgoing.rows, snapshot, fence, may_tell, now);
        self.refusals.spend(plan.told);
        for batch in &mut plan.batches {
            self.load_contents(&mut batch.entries, snapshot).await?;
        }
        self.load_said(&plan.batches).await?;
        for batch in plan.batches.extract_if(.., |batch| !batch.announce) {
            self.send(&batch, now);
        }
        Ok(plan)
    }

    /// Delivers the host's notices alone, for a session whose outbox is not read. Returns as
    /// [`Task::deliver`].
    pub(crate) async fn deliver_notices(
        &mut self,
        now: UnixMillis,
    ) -> Result<Option<UnixMillis>, Trouble> {
        self.load_notices().await?;
        self.load_people().await?; // for what their messages ask
        let cursor = Cursor { seq: self.outgoing.cursor, ..Cursor::default() };
        let snapshot = BoxSnapshot { cursor, ..BoxSnapshot::default() };
        let plan = self.plan(&[], &snapshot, &Fence::after(&snapshot, &[]), 0, now);
        self.deliver(&plan, &snapshot, now).await
    }

    /// Step 6: hands to channels the rest of what is due, and says when to look again for what is
    /// not; `None` if nothing is left.
    pub(crate) async fn deliver(
        &mut self,
        plan: &DeliveryPlan,
        snapshot: &BoxSnapshot,
        now: UnixMillis,
    ) -> Result<Option<UnixMillis>, Trouble> {
        self.settle_gone(&snapshot.gone, now).await?;
        self.serve(plan, snapshot, now).await?;
        let mut next = plan.next;
        if let Some(end) = self.settle_approvals(now).await? {
            next = Some(next.map_or(end, |next| next.min(end)));
        }
        self.write_records(plan, snapshot, now).await?;
        for batch in &plan.batches {
            self.send(batch, now);
        }
        self.outgoing.rows.iter_mut().for_each(|(row, _)| row.content = None);
        let began = self.outgoing.last_call.unwrap_or_else(|| self.core.parts.clock.monotonic());
        self.outgoing.last_call = plan.last_call.then_some(began);
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
        rows: &[Row],
        snapshot: &BoxSnapshot,
        fence: &Fence<'_>,
        may_tell: usize,
        now: UnixMillis,
    ) -> DeliveryPlan {
        let out = &self.outgoing;
        let channels = &self.core.parts.channels;
        delivery::plan(&delivery::DeliveryView {
            now,
            cursor: snapshot.cursor.seq,
            rows,
            notices: &out.notices,
            reply_address: &self.reply_address,
            may_send: &|address| self.may_send(address),
            standing: &|row| fence.standing(row),
            channel: &|kind| channels.get(kind).map(|channel| channel.capabilities()),
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
    pub(super) fn hold(&self) -> HoldLimit {
        let Parts { clock, config, .. } = &self.core.parts;
        let last_call =
            self.outgoing.last_call.map_or(Duration::ZERO, |began| clock.monotonic().since(began));
        HoldLimit { max: config.delivery.max_hold, last_call }
    }

    async fn load_allowed(&mut self) -> Result<(), Trouble> {
        let agent = self.record.agent_group;
        let addresses = self.core.parts.store.wirings().addresses_of(agent).await?;
        let allowed =
            addresses.into_iter().map(|address| (address.channel_type, address.platform_id));
        self.outgoing.allowed = Some(allowed.collect());
        Ok(())
    }

    /// The idempotency key of its outbound message.
    fn key(&self, entry: Entry) -> String {
        let row = match entry {
            Entry::Row(index) => self.outgoing.rows[index].0.id.to_string(),
            Entry::Notice(index) => Outbound::row_of_notice(&self.outgoing.notices[index].cause),
        };
        compose::key(self.core.parts.install, self.id, &row)
    }

    /// Reads what the look had no room for, of the rows among `entries`. Where some is lacking, only the
    /// first few are taken this time, so that they do not take more memory than the look did.
    pub(super) async fn load_contents(
        &mut self,
        entries: &mut Vec<Entry>,
        snapshot: &BoxSnapshot,
    ) -> Result<(), Trouble> {
        let rows = &self.outgoing.rows;
        if entries.iter().filter_map(|it| it.row()).all(|index| rows[index].0.content.is_some()) {
            return Ok(());
        }
        entries.truncate(LARGE_PAGE);
        let ids: Vec<_> =
            entries.iter().filter_map(|it| Some(rows[it.row()?].0.id.clone())).collect();
        let (boxes, writers, newest) = (Arc::clone(&self.boxes), snapshot.writers, snapshot.newest);
        let read = self.at_its_expense(move || boxes.contents(writers, &ids, newest)).await;
        let mut contents = read?;
        // What is gone by now, the next look tells.
        entries.retain(|entry| {
            let Entry::Row(index) = *entry else { return true };
            let row = &mut self.outgoing.rows[index].0;
            row.content = row.content.take().or_else(|| contents.remove(&row.id));
            row.content.is_some()
        });
        Ok(())
    }

    /// Reads where the messages were said that the rows of `batches` say they answer.
    async fn load_said(&mut self, batches: &[Batch]) -> Result<(), Trouble> {
        let entries = batches.iter().flat_map(|batch| &batch.entries);
        let rows = entries.filter_map(|entry| Some(&self.outgoing.rows[entry.row()?].0));
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

    /// Hands a batch to its channel, whose report comes back as a command.
    fn send(&mut self, batch: &Batch, now: UnixMillis) {
        let Batch { address, entries, announce } = batch;
        let Some(channel) = self.core.parts.channels.get(address.channel_type.as_str()) else {
            return; // the plan sends only where there is a channel
        };
        if entries.is_empty() {
            return;
        }
        if *announce {
            fault::point(CrashPoint::HostDeliverAnnounced);
        }
        let outbounds: Vec<Outbound> = entries.iter().map(|entry| self.outbound(*entry)).collect();
        let what = entries.iter().map(|entry| self.outgoing.name(*entry)).collect();
        tracing::debug!(session = %self.id, outbounds = outbounds.len(), at = %now, "sending");
        let channel = Arc::clone(channel);
        let asked = entries.iter().filter_map(|entry| match entry {
            Entry::Notice(index) => asked_by(&self.outgoing.notices[*index].cause),
            Entry::Row(_) => None,
        });
        self.core.in_hand.add(self.id, asked); // before anybody can answer it
        self.outgoing.in_flight.insert(address.clone());
        self.sweep_budget.earn(outbounds.len());
        self.core.expect(self.id, address);
        tokio::spawn(reports::call(
            channel,
            address.clone(),
            outbounds,
            what,
            self.handle.mailbox.clone(),
        ));
    }

    /// An entry as its channel gets it.
    fn outbound(&self, entry: Entry) -> Outbound {
        match entry {
            Entry::Row(index) => {
                let row = &self.outgoing.rows[index].0;
                let (address, said) =
                    (delivery::address_of(row, &self.reply_address), &self.outgoing.said);
                let out = self.boxes.paths().out_dir();
                compose::of_row(row, self.key(entry), said, &address, out)
            }
            Entry::Notice(index) => {
                let notice = &self.outgoing.notices[index];
                compose::of_notice(notice, self.key(entry), self.people.prompt(&notice.cause))
            }
        }
    }
}
