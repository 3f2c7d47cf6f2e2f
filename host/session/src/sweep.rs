//! The sweep, carried out: one pass that brings a session's boxes, its container and the host's records
//! into agreement. Which step comes next is `machine`'s to say; here each is done.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use twobox_shared::content::{Chat, Failure, digest16};
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{NewMessage, Occurrence, PendingMessage};
use twobox_shared::open::BoxError;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::boxes::{BoxSnapshot, Changes, Writers};
use super::compose::address_of_origin;
use super::decide::{Acks, Action, Alive, ends_run};
use super::fence::Fence;
use super::machine::{Effect, End, Event, Facts, Left, Step, Sweep, Unread};
use super::recurrence::{self, Succession};
use super::signal::{Reason, Reasons};
use super::task::{Task, Trouble};
use crate::watch;
use twobox_store::notices::Notice;
use twobox_store::sessions::{DUE_NOW, StopCause};
use twobox_system::blocking::blocking;

/// The pause before a claim that moved between two reads is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Task {
    /// One pass over the session, in the order that [`Sweep`] says, for the reasons that its looks began with.
    pub(crate) async fn sweep(&mut self, reasons: Reasons) -> Result<(), Trouble> {
        if reasons.contains(Reason::Channel) {
            // Also of one in quarantine, for which the host may have something to say.
            let (core, id) = (&self.core, self.id);
            self.outgoing.channels_are_back(|address| core.waits(id, address));
        }
        if self.record.quarantine.is_some() {
            return self.rest_in_quarantine().await;
        }
        let believed = self.container.as_ref().map(|container| container.vitals.runner);
        let (mut sweep, mut effect) = Sweep::begin(reasons, believed);
        let mut unread = None;
        loop {
            let event = self.carry_out(effect, &mut sweep, &mut unread).await?;
            let facts = Facts {
                now: self.now(),
                stop_cause: self.record.stop_cause,
                max_tries: self.core.parts.config.limits.max_tries,
                day_turns: self.core.zone.day_turns(self.now()),
                agent_removed: self.record.agent_removed,
            };
            match sweep.step(event, &facts) {
                Step::Do(next) => effect = next,
                Step::End(End::Done) => return Ok(()),
                Step::End(End::Unread) => return Err(unread.expect("a look has failed").into()),
                Step::End(End::Violation(reason)) => {
                    return Err(BoxError::Refused { reason }.into());
                }
            }
        }
    }

    /// Does what the sweep wants next, and says what came of it. Why a look showed nothing is put into
    /// `unread`. One arm for each effect, so that a new one is carried out here or nowhere.
    async fn carry_out(
        &mut self,
        effect: Effect,
        sweep: &mut Sweep,
        unread: &mut Option<BoxError>,
    ) -> Result<Event, Trouble> {
        match effect {
            Effect::Prepare => self.prepare(sweep.reasons).await?,
            Effect::Look(writers) => match self.look(writers).await {
                Ok(snapshot) => return Ok(Event::Looked(Box::new(snapshot))),
                Err(error) => {
                    let torn = matches!(error, BoxError::HotJournal);
                    *unread = Some(error);
                    return Ok(Event::Unread(if torn { Unread::Torn } else { Unread::Otherwise }));
                }
            },
            Effect::Ask => return Ok(Event::Answered(self.ask().await?)),
            Effect::HoldUnread(alive) => self.enforce_unread(alive).await?,
            Effect::Enforce => {
                self.observe(&sweep.before);
                let alive = self.enforce(&sweep.before, sweep.reasons, sweep.now).await?;
                return Ok(Event::Answered(alive));
            }
            Effect::Plan => {
                let rows = sweep.take_rows();
                let fence = Fence::after(&sweep.after, &sweep.decision.actions);
                let plan = self.plan_delivery(rows, &sweep.after, &fence, sweep.now).await?;
                return Ok(Event::Planned(Box::new(plan), fence.charged()));
            }
            Effect::Settle => self.settle(sweep).await?,
            Effect::Observe => {
                self.observe(&sweep.after);
                self.forget_failed_starts().await?;
                self.mind_onlookers().await;
            }
            Effect::Finish => {
                let ended = self.record.runner.is_some();
                self.finish_container(&sweep.after).await?;
                return Ok(Event::Finished(ended));
            }
            Effect::Start(class) => self.start(class, &sweep.after, sweep.now).await?,
            Effect::Rest(next) => {
                if let Some(next) = next {
                    self.look_in(next.since(sweep.now));
                }
                if self.container.is_none() && self.record.runner.is_none() {
                    self.core.release_place(self.id); // it may have waited for one
                }
            }
            Effect::Deliver => {
                let next = self.deliver(&sweep.plan, &sweep.after, sweep.now).await?;
                return Ok(Event::Delivered(next));
            }
            Effect::Forget => {
                self.forget_old(sweep.ended, sweep.now).await;
                if !self.watched && self.container.is_some() {
                    self.look_in(watch::POLL);
                }
            }
            Effect::Mark => self.mark_next(sweep).await?,
        }
        Ok(Event::Done)
    }

    /// What is known without a look.
    async fn prepare(&mut self, reasons: Reasons) -> Result<(), Trouble> {
        self.record_reports().await?;
        if reasons.contains(Reason::Runtime) || self.record.agent_removed {
            let sessions = self.core.parts.store.sessions();
            self.record.agent_removed = sessions.agent_removed(self.id).await?;
        }
        if reasons.contains(Reason::Runtime) {
            self.outgoing.forget_allowed(); // the safety net's reason: at least once a minute
        }
        Ok(())
    }

    async fn look(&mut self, writers: Writers) -> Result<BoxSnapshot, BoxError> {
        let (boxes, began) = (Arc::clone(&self.boxes), Instant::now());
        let snapshot = self.at_its_expense(move || boxes.look(writers)).await;
        if let Ok(seen) = &snapshot {
            self.seen = self.seen.max(seen.cursor.seen);
            self.unreadable_since = None;
        }
        // Waiting for a lock costs the host nothing, and its holder its life.
        if !matches!(snapshot, Err(BoxError::Busy { .. })) {
            self.sweep_budget.looked(began.elapsed(), Instant::now());
        }
        snapshot
    }

    /// What follows the occurrences that have ended. The container says when they did, so how much
    /// there is to reckon is at its expense.
    async fn successions(
        &mut self,
        recurring: Vec<Occurrence>,
        actions: &[Action],
        acks: &Acks,
        now: UnixMillis,
    ) -> Vec<Succession> {
        if recurring.is_empty() {
            return Vec::new();
        }
        let (actions, acks) = (actions.to_vec(), acks.clone());
        self.at_its_expense(move || recurrence::successions(&recurring, &actions, &acks, now)).await
    }

    /// What became of messages, in one transaction. A person is told of a failure before it is final,
    /// so that a crash between the two tells them once and not never.
    async fn settle(&mut self, sweep: &mut Sweep) -> Result<(), Trouble> {
        let recurring = sweep.take_recurring();
        let Sweep { after: snapshot, decision, now, .. } = sweep;
        let (actions, now) = (&decision.actions, *now);
        let successions = self.successions(recurring, actions, &snapshot.acks, now).await;
        if !actions.is_empty() || !successions.is_empty() || snapshot.seen_more {
            self.write_settled(actions, successions, sweep.charged, snapshot, now).await?;
        }
        if sweep.given_up {
            let boxes = Arc::clone(&self.boxes);
            if blocking(move || boxes.end_tasks()).await? || !actions.is_empty() {
                self.look_once_more(); // there may be more than one look shows
            }
        }
        self.core.set_chatting(self.id, sweep.chatting);
        if decision.look_again {
            self.look_in(LOOK_AGAIN);
        }
        Ok(())
    }

    async fn write_settled(
        &mut self,
        actions: &[Action],
        successions: Vec<Succession>,
        charged: Seq,
        snapshot: &BoxSnapshot,
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        for action in actions {
            if let Action::Fail { message, attempt, failure } = action
                && let Some(message) = snapshot.pending.iter().find(|other| other.id == *message)
                && message.trigger
                && !message.of_run
            // nobody asked for context, and of a run its schedule tells
            {
                tracing::warn!(session = %self.id, message_id = %message.id,
                    reason = failure.reason, detail = failure.detail, "a message failed");
                let address = address_of_origin(&message.origin, &self.reply_address);
                let text = failure_text(message, *attempt, failure);
                self.notify_person(Notice::failed(&message.id, *attempt, address, text, now))
                    .await?;
            }
        }
        self.tell_over_budget(actions, snapshot, now).await?;
        fault::point(CrashPoint::HostSettleNoticed);
        let goes_on = !successions.is_empty();
        if goes_on {
            self.mark(Some(DUE_NOW)).await?; // somebody has to look at what follows
        }
        for Succession { before, next } in &successions {
            if let Err(reason) = next {
                tracing::warn!(session = %self.id, occurrence = %before, reason, "a task is over");
            }
        }
        let changes = Changes {
            actions: actions.to_vec(),
            notes: successions.iter().filter_map(over_note).collect(),
            successions,
            cursor: snapshot.cursor,
            charged,
            ..Changes::default()
        };
        self.apply(changes, now).await?;
        if actions.iter().any(|action| ends_run(action, &snapshot.pending)) {
            self.end_run().await;
        }
        fault::point(CrashPoint::HostSettleCommitted);
        self.note_broken(snapshot).await;
        if goes_on {
            self.look_once_more();
        }
        if snapshot.pending.iter().any(|message| message.of_run) {
            self.core.run_moved();
        }
        Ok(())
    }

    /// Has another sweep follow this one, which may not clear the mark: the inbox has got something
    /// that this one has not seen.
    pub(super) fn look_once_more(&mut self) {
        self.looks.overtake();
        self.handle.signal.raise(Reason::Due);
    }

    /// Makes `changes` durable.
    pub(super) async fn apply(
        &mut self,
        changes: Changes,
        now: UnixMillis,
    ) -> Result<(), BoxError> {
        let boxes = Arc::clone(&self.boxes);
        self.at_its_expense(move || boxes.apply(&changes, now)).await
    }

    /// Says durably when somebody has to look at the session next.
    async fn mark_next(&mut self, sweep: &Sweep) -> Result<(), Trouble> {
        let left = Left {
            accepted: self.looks.is_overtaken(),
            lives: self.container.is_some(),
            recorded: self.record.runner.is_some(),
            sending: !self.outgoing.is_quiet(),
            start_after: self.record.start_after,
        };
        let Some(next) = sweep.next_mark(&left) else { return Ok(()) };
        if next.is_none() && self.mark.last().is_some() {
            self.fold().await;
        }
        self.mark(next).await?;
        if let Some(next) = next.filter(|next| *next != DUE_NOW) {
            self.look_in(next.since(sweep.now));
        }
        Ok(())
    }

    /// A quarantined session has no container, and its outbox is not read: that it cannot be is
    /// usually why it is here. What its container left is settled when a person has put it back.
    async fn rest_in_quarantine(&mut self) -> Result<(), Trouble> {
        let alive = match self.ask().await? {
            Alive::Runner(runner) => self.record_and_stop(runner, StopCause::Limit).await?,
            other => other,
        };
        if alive == Alive::None {
            self.finish_container(&BoxSnapshot::default()).await?;
            self.core.release_place(self.id); // it may have waited for one
            if let Err(trouble) = self.record_reports().await {
                self.complain(&trouble); // the inbox may be what is broken
                self.outgoing.forget_reports();
            }
            // What the host has to say needs no box.
            let next = self.deliver_notices(self.now()).await?;
            self.mark(next).await?;
            self.looks.forget_time();
            if let Some(next) = next {
                self.look_in(next.since(self.now()));
            }
        } // otherwise asked again soon
        Ok(())
    }
}

/// What the agent is told of a task that cannot go on.
fn over_note(succession: &Succession) -> Option<NewMessage> {
    let Succession { before, next: Err(reason) } = succession else { return None };
    let id = MessageId::parse(&format!("over-{}", digest16(before.as_str())));
    let text = format!("The task of {before} is over: {reason}.");
    let id = id.expect("letters, digits and a hyphen");
    Some(NewMessage::note(id, Chat::text(text).to_json()))
}

fn failure_text(message: &PendingMessage, attempt: i64, failure: &Failure) -> String {
    let attempts = attempt + 1 - message.forgiven;
    let detail = match failure.detail.is_empty() {
        true => failure.reason.clone(),
        false => failure.detail.clone(),
    };
    match attempts {
        ..=1 => format!("I could not answer your message: {detail}."),
        many => format!("I could not answer your message after {many} attempts: {detail}."),
    }
}
