//! A scheduled run, as its session sees it: what became of the run's message, and taking it back.

use std::sync::Arc;

use twobox_shared::content::{Chat, Failure, KIND_CHAT, shorten};
use twobox_shared::ids::{MessageId, RunnerId};
use twobox_shared::inbox::{Inbox, Stored};
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{Ack, AckStatus, OutRow, Page, UntrustedOutbox};
use twobox_shared::seq::Seq;

use super::boxes::{Boxes, Writers};
use super::decide::Alive;
use super::signal::Reason;
use super::task::{Task, Trouble};
use twobox_store::sessions::{DUE_NOW, StopCause};
use twobox_system::blocking::blocking;

/// How many characters of what a run said are kept with it; all of it is in the session.
const OUTPUT_MAX: usize = 16_384;

/// How many rows are read in search of what a run said.
const PAGES_MAX: usize = 16;
const PAGE: u32 = 64;

/// The most model turns that are believed of a container.
const TURNS_MAX: i64 = 1_000_000;

/// What is to be done about the message of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOrder {
    /// Nothing: somebody wants to know.
    Look,
    /// Take it back: a turn that works on it is told to end.
    Withdraw,
    /// The same, and stop the container if it still works on it.
    Stop,
}

/// How far the message of a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// It is not there.
    Missing,
    /// It waits, or is being worked on.
    Going,
    /// It was answered.
    Completed {
        /// Model turns, by the container's word.
        turns: Option<i64>,
        /// What was said.
        output: Option<String>,
    },
    /// It ended without an answer.
    Failed {
        /// Why.
        failure: Failure,
        /// Model turns, by the container's word.
        turns: Option<i64>,
    },
    /// It was taken back, and nobody works on it any more.
    Withdrawn {
        /// Model turns, by the container's word.
        turns: Option<i64>,
    },
}

/// What the two boxes say of a message.
struct Traces {
    stored: Stored,
    ack: Option<Ack>,
    output: Option<String>,
}

impl Boxes {
    fn traces(&self, message: &MessageId, writers: Writers) -> Result<Option<Traces>, BoxError> {
        if !self.has_inbox() {
            return Ok(None);
        }
        let stored = Inbox::open_to_read(&self.paths().inbound_db())?.read()?.find(message)?;
        let Some(stored) = stored else { return Ok(None) };
        let found = match self.read(writers, |outbox| {
            let ack = outbox.acks([message])?.remove(message);
            let answered = ack.as_ref().is_some_and(|ack| ack.status == AckStatus::Completed);
            let output = match answered {
                true => what_was_said(outbox, message, stored.seq)?,
                false => None,
            };
            Ok((ack, output))
        }) {
            // How it ended is known: that its outbox is broken by now keeps no run going.
            Err(_) if ["completed", "failed"].contains(&stored.status.as_str()) => None,
            other => other?,
        };
        let (ack, output) = found.unwrap_or_default();
        Ok(Some(Traces { stored, ack, output }))
    }

    fn withdraw(&self, message: &MessageId) -> Result<bool, BoxError> {
        if !self.has_inbox() {
            return Ok(false);
        }
        let mut inbox = Inbox::open(&self.paths().inbound_db())?;
        let tx = inbox.write()?;
        let withdrawn = tx.withdraw(message)?;
        tx.commit()?;
        Ok(withdrawn)
    }
}

/// What the outbox answers to `message`, whose number is `seq`: as much as is kept of it.
fn what_was_said(
    outbox: &UntrustedOutbox<'_>,
    message: &MessageId,
    seq: Seq,
) -> Result<Option<String>, BoxError> {
    let high_water = outbox.newest()?;
    let (mut said, mut last) = (String::new(), seq);
    for _ in 0..PAGES_MAX {
        let Page { rows, more } = outbox.rows(last, high_water, PAGE)?;
        last = rows.last().map_or(last, |row| row.seq);
        let answers = |row: &OutRow| {
            row.in_reply_to.as_deref() == Some(message.as_str()) && row.kind == KIND_CHAT
        };
        for content in rows.into_iter().filter(answers).filter_map(|row| row.content) {
            let gap = if said.is_empty() { "" } else { "\n\n" };
            said =
                shorten(&format!("{said}{gap}{}", Chat::from_content(&content).text), OUTPUT_MAX);
        }
        if !more || said.chars().count() > OUTPUT_MAX {
            break;
        }
    }
    Ok((!said.is_empty()).then_some(said))
}

impl Task {
    /// Carries out `order` and says how far the message is.
    ///
    /// # Errors
    /// That the boxes could not be read or written. With [`RunOrder::Stop`] the container was stopped
    /// all the same, so that asking again shows what became of the message.
    pub(super) async fn handle_run(
        &mut self,
        message: MessageId,
        order: RunOrder,
    ) -> Result<RunState, Trouble> {
        match self.try_run(message.clone(), order).await {
            // A container that keeps its host from its boxes goes on no longer for that.
            Err(_) if order == RunOrder::Stop && self.stop_for_run(&message).await? => {
                self.try_run(message, RunOrder::Withdraw).await
            }
            other => other,
        }
    }

    /// Stops the container that works on the message of a run. Returns whether none lives any more.
    async fn stop_for_run(&mut self, message: &MessageId) -> Result<bool, Trouble> {
        let Some(runner) = self.living() else { return Ok(false) };
        tracing::warn!(session = %self.id, %runner, message_id = %message,
            "stopping the container, because it goes on with a run that was taken back");
        self.looks.owe(Reason::Runtime);
        let gone = self.record_and_stop(runner, StopCause::Host).await? == Alive::None;
        if gone {
            self.container = None;
        }
        Ok(gone)
    }

    async fn try_run(&mut self, message: MessageId, order: RunOrder) -> Result<RunState, Trouble> {
        if self.record.quarantine.is_some() {
            let (boxes, id) = (Arc::clone(&self.boxes), message.clone());
            if blocking(move || boxes.withdraw(&id)).await? {
                let detail = "its session is quarantined";
                let failure = Failure::permanent(Failure::PROVIDER_ERROR, detail);
                return Ok(RunState::Failed { failure, turns: None });
            }
        }
        let state = self.run_state(&message).await?;
        if order == RunOrder::Look || state != RunState::Going {
            return Ok(state);
        }
        self.mark(Some(DUE_NOW)).await?;
        let (boxes, id) = (Arc::clone(&self.boxes), message.clone());
        if blocking(move || boxes.withdraw(&id)).await? {
            self.end_run().await;
        }
        self.handle.signal.raise(Reason::Due);
        let state = self.run_state(&message).await?;
        if order == RunOrder::Stop && state == RunState::Going {
            self.stop_for_run(&message).await?;
            return self.run_state(&message).await;
        }
        Ok(state)
    }

    /// The incarnation that may be at work. A task that was just woken knows it only by its record.
    pub(super) fn living(&self) -> Option<RunnerId> {
        self.container.as_ref().map(|container| container.vitals.runner).or(self.record.runner)
    }

    async fn run_state(&mut self, message: &MessageId) -> Result<RunState, Trouble> {
        let writers = match (&self.container, self.record.runner) {
            (None, None) => Writers::None,
            _ => Writers::Possible,
        };
        let (boxes, id) = (Arc::clone(&self.boxes), message.clone());
        let traces = self.at_its_expense(move || boxes.traces(&id, writers)).await?;
        let runner = self.living();
        Ok(traces.map_or(RunState::Missing, |traces| {
            let held = traces.ack.as_ref().is_some_and(|ack| {
                let by_whom = ack.runner.or(runner); // one that does not say is believed to live
                ack.status == AckStatus::Processing && by_whom.is_some() && by_whom == runner
            });
            state_of(traces, held)
        }))
    }
}

/// How far a message is; `held` if a container that lives works on it.
fn state_of(traces: Traces, held: bool) -> RunState {
    let Traces { stored, ack, output } = traces;
    let turns =
        ack.as_ref().and_then(|ack| ack.turns).filter(|turns| (0..=TURNS_MAX).contains(turns));
    let answered = ack.is_some_and(|ack| ack.status == AckStatus::Completed);
    match stored.status.as_str() {
        "completed" => RunState::Completed { turns, output },
        "failed" => RunState::Failed { failure: stored.failure.unwrap_or_else(unexplained), turns },
        // It may have been answered just then, and the answer is on its way.
        "cancelled" if answered => RunState::Completed { turns, output },
        "cancelled" if !held => RunState::Withdrawn { turns },
        _ => RunState::Going,
    }
}

fn unexplained() -> Failure {
    Failure::permanent(Failure::PROVIDER_ERROR, "its failure was not recorded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_over_when_nobody_works_on_it_any_more() {
        let ack = |status| Some(Ack { status, turns: Some(3), ..Ack::default() });
        let traces = |status: &str, ack| Traces {
            stored: Stored { seq: Seq(2), status: status.to_owned(), failure: None },
            ack,
            output: Some("done".to_owned()),
        };
        let completed = RunState::Completed { turns: Some(3), output: Some("done".to_owned()) };
        let failed = RunState::Failed { failure: unexplained(), turns: Some(3) };
        let (processing, done, lost) =
            (AckStatus::Processing, AckStatus::Completed, AckStatus::Failed);
        let cases = [
            ("waiting", "pending", None, false, RunState::Going),
            ("worked on", "pending", ack(processing), true, RunState::Going),
            ("answered", "completed", ack(done), false, completed.clone()),
            ("failed", "failed", ack(lost), false, failed),
            ("taken back, and it goes on", "cancelled", ack(processing), true, RunState::Going),
            (
                "its container is gone",
                "cancelled",
                ack(processing),
                false,
                RunState::Withdrawn { turns: Some(3) },
            ),
            ("it obeyed", "cancelled", ack(lost), false, RunState::Withdrawn { turns: Some(3) }),
            ("never begun", "cancelled", None, false, RunState::Withdrawn { turns: None }),
            ("too late", "cancelled", ack(done), false, completed),
        ];
        for (case, status, ack, held, expected) in cases {
            assert_eq!(state_of(traces(status, ack), held), expected, "{case}");
        }
    }

    #[test]
    fn turns_that_nobody_can_have_taken_are_not_believed() {
        for turns in [-1, i64::MAX] {
            let ack =
                Some(Ack { status: AckStatus::Completed, turns: Some(turns), ..Ack::default() });
            let stored = Stored { seq: Seq(2), status: "completed".to_owned(), failure: None };
            let state = state_of(Traces { stored, ack, output: None }, false);
            assert_eq!(state, RunState::Completed { turns: None, output: None });
        }
    }
}
