//! The end of a run: told to end before its time, found to be over, and recorded with what it means.

use tokio::time::Instant;
use twobox_shared::content::Failure;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::{ScheduleId, SessionId};

use super::{AGAIN, Hindrance, LOOK_ENDING, Memory, Step};
use crate::scheduler::Scheduler;
use crate::scheduler::judge::{judge, reason_of};
use twobox_session::command::Command;
use twobox_session::run::{RunOrder, RunState};
use twobox_session::signal;
use twobox_slots::reason::Reason;
use twobox_store::DbError;
use twobox_store::schedules::{
    End, Finished, Hold, Load, PausedItself, Phase, Run, RunOutcome, Schedule,
};

/// The end of a run, before it is recorded.
#[derive(Debug, Clone)]
struct Ended {
    turns: Option<i64>,
    output: Option<String>,
    outcome: RunOutcome,
}

impl Scheduler {
    /// Ends a run whose time is over or that somebody does not want any more: its runner is told
    /// first, and its container stopped if that does not help.
    pub(super) async fn end_early(
        &self,
        run: &Run,
        hold: &Hold,
        expired: bool,
        memory: &mut Memory,
    ) -> Result<Step, DbError> {
        let reason = match (expired, &memory.hindrance) {
            (_, Some(Hindrance { is_final: true, .. })) | (true, Some(_)) => Reason::PrepareFailed,
            (true, None) => Reason::LeaseExpired,
            (false, _) => Reason::Aborted,
        };
        if hold.phase == Phase::Claimed {
            return self.end_unstored(run, hold, reason, memory).await;
        }
        let began = *memory.ending.get_or_insert_with(Instant::now);
        let order = match began.elapsed() > self.core.parts.config.containers.stop_grace {
            true => RunOrder::Stop,
            false => RunOrder::Withdraw,
        };
        match self.ask(hold, order).await {
            // Its session went, and then its end could not be recorded.
            Err(()) if self.is_gone(hold.session).await? => {
                self.end_unstored(run, hold, reason, memory).await
            }
            Err(()) if self.is_overdue(began) => {
                let error = memory.cause().unwrap_or("its session cannot be looked at");
                self.give_up(run, reason, Some(error), None).await
            }
            Err(()) => Ok(Step::Wait(AGAIN)),
            Ok(RunState::Going) => Ok(Step::Wait(LOOK_ENDING)),
            Ok(RunState::Missing) => self.end_unstored(run, hold, reason, memory).await,
            Ok(RunState::Withdrawn { turns }) => {
                self.give_up(run, reason, memory.cause(), turns).await
            }
            Ok(RunState::Failed { failure, turns }) if failure.reason == Failure::ABORTED => {
                self.give_up(run, reason, memory.cause(), turns).await
            }
            Ok(state) => self.settle(run, state).await,
        }
    }

    /// Ends a run whose message is not in its session. A session that was made for it goes first: once
    /// the run is over, nobody looks after what was made of it by halves.
    async fn end_unstored(
        &self,
        run: &Run,
        hold: &Hold,
        reason: Reason,
        memory: &mut Memory,
    ) -> Result<Step, DbError> {
        let (session, id) = (hold.session, run.id);
        let mut error = memory.cause().map(str::to_owned);
        // Of a run that is not prepared too: a commit that reports an error may have been one.
        if hold.phase != Phase::Executing
            && self.core.parts.store.runs().was_made_for(session, id).await?
        {
            let began = *memory.ending.get_or_insert_with(Instant::now);
            let left = match self.forget_session(session).await {
                Ok(true) => None,
                Ok(false) if !self.is_overdue(began) => return Ok(Step::Wait(LOOK_ENDING)),
                Ok(false) => Some("it does not come to rest".to_owned()),
                Err(error) => Some(error),
            };
            if let Some(left) = left {
                tracing::warn!(run = %id, %session, left, "a session made for a run is left");
                let before = error.map(|error| format!("{error}; and ")).unwrap_or_default();
                error = Some(format!("{before}session {session}, made for it, is left: {left}"));
            }
        }
        self.give_up(run, reason, error.as_deref(), None).await
    }

    /// Whether there is no such session.
    async fn is_gone(&self, session: SessionId) -> Result<bool, DbError> {
        let found = self.core.parts.store.sessions().find(session).await?;
        Ok(found.is_none())
    }

    /// Whether what should have ended since `began` is not waited for any longer.
    fn is_overdue(&self, began: Instant) -> bool {
        began.elapsed() > self.core.parts.config.containers.stop_grace * 4
    }

    /// Records the end of a run whose message is settled.
    pub(super) async fn settle(&self, run: &Run, state: RunState) -> Result<Step, DbError> {
        match state {
            RunState::Going => Ok(Step::Wait(AGAIN)),
            RunState::Completed { turns, output } => {
                self.finish(run, Ended { turns, output, outcome: RunOutcome::Completed }).await
            }
            RunState::Failed { failure, turns } => {
                let is_over = run.hold.as_ref().is_some_and(|hold| hold.lease_until <= self.now());
                self.fail(run, reason_of(&failure, is_over), &failure.detail, turns).await
            }
            RunState::Withdrawn { turns } => self.give_up(run, Reason::Aborted, None, turns).await,
            RunState::Missing => {
                let error = "its message is not in its session any more";
                self.fail(run, Reason::Interrupted, error, None).await
            }
        }
    }

    async fn give_up(
        &self,
        run: &Run,
        reason: Reason,
        error: Option<&str>,
        turns: Option<i64>,
    ) -> Result<Step, DbError> {
        match reason {
            Reason::Aborted => {
                let outcome = RunOutcome::Cancelled { reason, error: error.map(str::to_owned) };
                self.finish(run, Ended { turns, output: None, outcome }).await
            }
            reason => self.fail(run, reason, error.unwrap_or("its time was over"), turns).await,
        }
    }

    async fn fail(
        &self,
        run: &Run,
        reason: Reason,
        error: &str,
        turns: Option<i64>,
    ) -> Result<Step, DbError> {
        let outcome = RunOutcome::Failed { reason, error: error.to_owned() };
        self.finish(run, Ended { turns, output: None, outcome }).await
    }

    async fn finish(&self, run: &Run, ended: Ended) -> Result<Step, DbError> {
        let running = self.core.parts.store.runs().counts().await?.running;
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let load = Load {
            host_loop_lag_ms: count(
                usize::try_from(self.core.loop_lag().as_millis()).unwrap_or(usize::MAX),
            ),
            chat_turns_in_flight: count(self.core.chat_turns()),
            runs_in_flight: running,
        };
        let (id, owner, now) = (run.id, self.owner, self.now());
        let teller = SessionId::generate(&*self.core.parts.ids);
        let Ended { turns, output, outcome } = ended;
        let end = End { outcome: outcome.clone(), turns, output, load, now };
        let judge = move |schedule: &Schedule, run: &Run| judge(schedule, run, teller);
        let finished = self.core.parts.store.runs().finish(id, owner, end, judge).await?;
        fault::point(CrashPoint::HostRunEnded);
        let (Finished::Done { paused, teller }, Some(hold)) = (finished, &run.hold) else {
            return Ok(Step::Over);
        };
        let (_, reason, error) = outcome.parts();
        tracing::info!(run = %id, schedule = %run.schedule, ?reason, error, "the run is over");
        if let Some(paused) = paused {
            self.tell_of_pause(run.schedule, paused);
        }
        if let Some(teller) = teller {
            self.have_told(teller);
        }
        let session = hold.session;
        if self.core.parts.store.runs().was_made_for(session, id).await? {
            // Nobody will say anything more there, so its container need not wait for that.
            self.core.wake(session, signal::Reason::Evict);
        }
        Ok(Step::Over)
    }

    /// Has a person told that a schedule paused itself.
    pub(crate) fn tell_of_pause(&self, schedule: ScheduleId, paused: PausedItself) {
        tracing::warn!(%schedule, "the schedule paused itself");
        if let Some(teller) = paused.teller {
            self.have_told(teller);
        }
    }

    /// Has a session look for the notice that was stored with its mark.
    fn have_told(&self, teller: SessionId) {
        if !self.core.offer(teller, Command::Notices) {
            tracing::debug!(session = %teller, "told later: its session is marked");
        }
    }
}
