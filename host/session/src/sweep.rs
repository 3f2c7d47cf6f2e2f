//! The sweep: one pass that brings a session's boxes, its container and the host's records into
//! agreement. The order of its steps is part of the protocol: nothing that was read before an exit
//! was confirmed may be used to charge an attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use twobox_shared::content::{Chat, Failure, digest16};
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{NewMessage, Occurrence, PendingMessage};
use twobox_shared::open::BoxError;
use twobox_shared::time::UnixMillis;

use super::boxes::{Changes, Look, Writers};
use super::decide::{self, Acks, Action, Alive, View, Wake};
use super::fence::Fence;
use super::outgoing::place_of_origin;
use super::recurrence::{self, Succession};
use super::signal::{Reason, Reasons};
use super::task::{Task, Trouble};
use crate::admission::Class;
use crate::watch;
use twobox_store::notices::Notice;
use twobox_store::sessions::{self, DUE_NOW, StopCause};
use twobox_system::blocking::blocking;

/// The pause before a claim that moved between two reads is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Task {
    /// One pass over the session.
    pub(crate) async fn sweep(&mut self, reasons: Reasons) -> Result<(), Trouble> {
        self.accepted = false;
        if self.record.quarantine.is_some() {
            return self.rest_in_quarantine(reasons).await;
        }
        self.record_reports().await?;
        if reasons.contains(Reason::Runtime) || self.record.agent_removed {
            let id = self.id;
            let removed =
                self.core.parts.db.call(move |db| sessions::agent_removed(db, id)).await?;
            self.record.agent_removed = removed;
        }
        if reasons.contains(Reason::Runtime) {
            self.outgoing.forget_allowed(); // the safety net's reason: at least once a minute
        }
        if reasons.contains(Reason::Channel) {
            let (core, id) = (&self.core, self.id);
            self.outgoing.channels_are_back(|place| core.waits(id, place));
        }
        let (before, alive) = self.read_and_ask(reasons).await?;
        let now = self.now();
        let alive = match alive {
            Alive::Runner(_) => {
                self.observe(&before);
                self.enforce(&before, reasons, now).await?
            }
            other => other,
        };
        let acks_before = before.acks.clone();
        let mut after = match needs_second_read(&before, alive) {
            true => self.look(alive).await?,
            false => before,
        };
        let rows = std::mem::take(&mut after.rows);
        let recurring = std::mem::take(&mut after.recurring);
        self.seen = self.seen.max(after.cursor.seen);
        let mut decision = decide::decide(&View {
            now,
            pending: &after.pending,
            answered: &after.answered,
            before: &acks_before,
            after: &after.acks,
            alive,
            stop_cause: self.record.stop_cause,
            max_tries: self.core.parts.config.limits.max_tries,
        });
        if let Some(violation) = decision.violation {
            return Err(BoxError::Refused { reason: violation }.into());
        }
        let given_up = self.record.agent_removed && alive == Alive::None && !decision.look_again;
        let mut recurring = recurring;
        if given_up {
            let failure = Failure::permanent(Failure::ABORTED, "the agent was removed");
            decide::give_up(&mut decision, &after.pending, &failure);
            recurring.clear(); // nothing follows
        }
        let fence = Fence::after(&after, &decision.actions);
        let plan = self.plan_delivery(rows, &after, &fence, now).await?;
        let successions = self.successions(recurring, &decision.actions, &after.acks, now).await;
        self.settle(&decision.actions, successions, &fence, &after, now).await?;
        if given_up {
            let boxes = Arc::clone(&self.boxes);
            if blocking(move || boxes.end_tasks()).await? || !decision.actions.is_empty() {
                self.look_once_more(); // there may be more than one look shows
            }
        }
        let chatting = somebody_waits(&after, &decision.actions, now);
        self.core.set_chatting(self.id, chatting);
        if let Alive::Runner(_) = alive {
            self.observe(&after);
            self.forget_failed_starts().await?;
        }
        let ended = alive == Alive::None && self.record.runner.is_some();
        if alive == Alive::None {
            self.finish_container(&after).await?;
        }
        if decision.look_again {
            self.look_in(LOOK_AGAIN);
        }
        match decision.wake {
            Wake::Start => {
                let class = if chatting { Class::Chat } else { Class::Scheduled };
                self.start(class, &after, now).await?;
            }
            Wake::Not { next } => {
                if let Some(next) = next {
                    self.look_in(next.since(now));
                }
                if self.container.is_none() && self.record.runner.is_none() {
                    self.core.release_place(self.id); // it may have waited for one
                }
            }
        }
        let undelivered = self.deliver(&plan, &after, now).await?;
        self.forget_old(ended, now).await;
        if !self.watched && self.container.is_some() {
            self.look_in(watch::POLL);
        }
        if alive == Alive::Unknown || decision.look_again {
            return Ok(()); // what is left to do is not known, so the mark stays
        }
        self.unmark(decision.wake, undelivered, now).await
    }

    /// Steps 1 and 2: read the boxes, then ask the runtime who lives. An outbox that only its dead
    /// container could repair is read through a copy, once the runtime has said that it is dead,
    /// and the runtime asked again after that.
    async fn read_and_ask(&mut self, reasons: Reasons) -> Result<(Look, Alive), Trouble> {
        let first = self.look_at(Writers::Possible).await;
        let reasons = match (&first, &self.container) {
            (Ok(look), Some(known))
                if decide::has_foreign_claim(&look.pending, &look.acks, known.vitals.runner) =>
            {
                reasons.with(Reason::Runtime) // that it is gone is the runtime's word alone
            }
            _ => reasons,
        };
        let alive = self.ask(reasons).await?;
        match first {
            Err(BoxError::HotJournal) if alive == Alive::None => {
                let copy = self.look_at(Writers::None).await?;
                let alive = self.ask(reasons.with(Reason::Runtime)).await?;
                Ok((copy, alive))
            }
            Err(error) => {
                self.enforce_unread(alive).await?;
                Err(error.into())
            }
            Ok(first) => {
                self.unreadable_since = None;
                Ok((first, alive))
            }
        }
    }

    async fn look(&mut self, alive: Alive) -> Result<Look, Trouble> {
        let writers = match alive {
            Alive::None => Writers::None,
            Alive::Runner(_) | Alive::Unknown => Writers::Possible,
        };
        Ok(self.look_at(writers).await?)
    }

    async fn look_at(&mut self, writers: Writers) -> Result<Look, BoxError> {
        let (boxes, began) = (Arc::clone(&self.boxes), Instant::now());
        let look = self.at_its_expense(move || boxes.look(writers)).await;
        // Waiting for a lock costs the host nothing, and its holder its life.
        if !matches!(look, Err(BoxError::Busy { .. })) {
            self.damper.looked(began.elapsed(), Instant::now());
        }
        look
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

    /// Step 4: what became of messages, in one transaction. A person is told of a failure before it
    /// is final, so that a crash between the two tells them once and not never.
    async fn settle(
        &mut self,
        actions: &[Action],
        successions: Vec<Succession>,
        fence: &Fence<'_>,
        look: &Look,
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        if actions.is_empty() && successions.is_empty() && !look.seen_more {
            return Ok(());
        }
        for action in actions {
            if let Action::Fail { message, attempt, failure } = action
                && let Some(message) = look.pending.iter().find(|other| other.id == *message)
                && message.trigger
                && !message.of_run
            // nobody asked for context, and of a run its schedule tells
            {
                tracing::warn!(session = %self.id, message_id = %message.id,
                    reason = failure.reason, detail = failure.detail, "a message failed");
                let place = place_of_origin(&message.origin, &self.home);
                let text = failure_text(message, *attempt, failure);
                self.notify_person(Notice::failed(&message.id, *attempt, place, text, now)).await?;
            }
        }
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
            cursor: look.cursor,
            charged: fence.charged(),
            ..Changes::default()
        };
        self.apply(changes, now).await?;
        fault::point(CrashPoint::HostSettleCommitted);
        self.note_broken(look).await;
        if goes_on {
            self.look_once_more();
        }
        if look.pending.iter().any(|message| message.of_run) {
            self.core.run_moved();
        }
        Ok(())
    }

    /// Has another sweep follow this one, which may not clear the mark: the inbox has got something
    /// that this one has not seen.
    pub(super) fn look_once_more(&mut self) {
        self.accepted = true;
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

    /// Step 7: when somebody has to look at the session next, durably.
    async fn unmark(
        &mut self,
        wake: Wake,
        undelivered: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Result<(), Trouble> {
        let starting = wake == Wake::Start && self.container.is_none();
        if self.accepted
            || self.container.is_some()
            || self.record.runner.is_some()
            || !self.outgoing.is_quiet()
        {
            return Ok(()); // marked as due already; another look follows
        }
        let retry = match wake {
            Wake::Start if starting => self.record.start_after.filter(|after| *after > now),
            Wake::Start => None,
            Wake::Not { next } => next,
        };
        let next = match (starting, retry) {
            (true, None) => Some(DUE_NOW), // it waits for a place, or for the runtime
            _ => [retry, undelivered].into_iter().flatten().min(),
        };
        if next.is_none() && self.record.next_due_at.is_some() {
            self.fold().await;
        }
        self.mark(next).await?;
        if let Some(next) = next.filter(|next| *next != DUE_NOW) {
            self.look_in(next.since(now));
        }
        Ok(())
    }

    /// A quarantined session has no container, and its outbox is not read: that it cannot be is
    /// usually why it is here. What its container left is settled when a person has put it back.
    async fn rest_in_quarantine(&mut self, reasons: Reasons) -> Result<(), Trouble> {
        let alive = match self.ask(reasons.with(Reason::Runtime)).await? {
            Alive::Runner(runner) => self.record_and_stop(runner, StopCause::Limit).await?,
            other => other,
        };
        if alive == Alive::None {
            self.finish_container(&Look::default()).await?;
            self.core.release_place(self.id); // it may have waited for one
            if let Err(trouble) = self.record_reports().await {
                self.complain(&trouble); // the inbox may be what is broken
                self.outgoing.forget_reports();
            }
            // What the host has to say needs no box.
            let (next, _) = self.send_notices(self.now()).await?;
            self.mark(next).await?;
            self.next_look = None;
            if let Some(next) = next {
                self.look_in(next.since(self.now()));
            }
        } // otherwise asked again soon
        Ok(())
    }
}

/// Whether a message of a chat is due that `actions` do not settle. A task is the agent's own: one that
/// hangs, or comes again and again, is no reason to put schedules off.
fn somebody_waits(look: &Look, actions: &[Action], now: UnixMillis) -> bool {
    let is_settled = |message: &PendingMessage| {
        actions.iter().any(|action| match action {
            Action::Complete { message: id } | Action::Fail { message: id, .. } => {
                *id == message.id
            }
            Action::Charge { .. } | Action::Hasten { .. } => false,
        })
    };
    look.pending.iter().any(|message| {
        message.trigger
            && !message.of_run
            && !message.of_task
            && message.process_after.is_none_or(|due| due <= now)
            && !is_settled(message)
    })
}

/// Whether the first read is not enough: something may have ended, so only a read made after the
/// runtime's answer counts.
fn needs_second_read(before: &Look, alive: Alive) -> bool {
    match alive {
        Alive::Runner(runner) => decide::has_foreign_claim(&before.pending, &before.acks, runner),
        Alive::None | Alive::Unknown => true,
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

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
