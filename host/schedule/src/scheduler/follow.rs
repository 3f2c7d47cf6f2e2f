//! Following one run from its start to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument, Span};
use twobox_shared::clock::Monotonic;
use twobox_shared::content::{Failure, KIND_TASK, RunLimits};
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::{RunId, ScheduleId, SessionId};
use twobox_shared::inbox::NewMessage;

use super::judge::{judge, reason_of};
use super::{Scheduler, lock};
use twobox_model::channel::Refusal;
use twobox_session::command::Command;
use twobox_session::run::{RunOrder, RunState};
use twobox_session::signal;
use twobox_shared::errors::chain;
use twobox_slots::reason::Reason;
use twobox_store::schedules::{
    End, Finished, Hold, Load, Names, PausedItself, Phase, Prepared, Run, RunOutcome, Schedule,
    Status,
};
use twobox_store::storage::{explain, passes};
use twobox_store::{DbError, LOCK_WAIT};

/// The pause before something is tried again that did not work.
const AGAIN: Duration = Duration::from_secs(2);

/// For how long a run is tried to be prepared again while what hinders it is likely to pass: longer than
/// one wait for the lock of `host.db`, so that there is a second try.
const PATIENCE: Duration = Duration::from_secs(15);
const _: () = assert!(PATIENCE.as_secs() > LOCK_WAIT.as_secs() + AGAIN.as_secs());

/// How often a run is looked at that says nothing.
const LOOK: Duration = Duration::from_secs(30);

/// How often one is looked at that has to end.
const LOOK_ENDING: Duration = Duration::from_millis(250);

/// What is known of a run beyond its row, as long as this host follows it.
#[derive(Debug, Default)]
struct Memory {
    /// When its time is over, on the clock that stands still with the host.
    end: Option<Monotonic>,
    /// Since when it has been told to end.
    ending: Option<Instant>,
    /// What has kept it from being prepared so far.
    hindrance: Option<Hindrance>,
}

/// What keeps a run from being prepared.
#[derive(Debug, Clone)]
struct Hindrance {
    /// Since when something does.
    since: Instant,
    /// What did last, for people.
    cause: String,
    /// Whether the run ends because of it.
    is_final: bool,
}

impl Memory {
    /// Why the run ends though its time is not over and nobody ended it.
    fn doom(&self) -> Option<&Hindrance> {
        self.hindrance.as_ref().filter(|hindrance| hindrance.is_final)
    }

    fn cause(&self) -> Option<&str> {
        self.hindrance.as_ref().map(|hindrance| hindrance.cause.as_str())
    }
}

/// How far a run has come that somebody wants to have started.
#[derive(Debug)]
pub(super) enum Brought {
    /// It goes on, or will when what hinders it has passed; it may have ended already.
    Begun,
    /// It could not be prepared: why, for people.
    Unprepared(String),
}

/// Ends with the task that follows a run, however that ends.
pub(super) struct Following {
    scheduler: Arc<Scheduler>,
    run: RunId,
}

impl Drop for Following {
    fn drop(&mut self) {
        lock(&self.scheduler.followed).remove(&self.run);
        self.scheduler.look(); // there is room for another
    }
}

impl Following {
    /// Sees the run to its end, and says in `report` how far it came at once.
    pub(super) async fn see_through(self, report: Option<oneshot::Sender<Brought>>) {
        let names = self.scheduler.names(self.run).await;
        self.scheduler.follow_to_the_end(self.run, report).instrument(names).await;
    }
}

/// What comes after a step.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The next step, at once.
    Next,
    /// The same: its message is in its session.
    Begun,
    /// The next step after so long, or when something has moved.
    Wait(Duration),
    /// Nothing: the run is over, or another host's.
    Over,
}

impl Scheduler {
    /// Sees a run to its end, in a task of its own. Following it twice changes nothing.
    pub(super) fn follow(self: &Arc<Self>, run: RunId) {
        if let Some(following) = self.reserve(run) {
            tokio::spawn(following.see_through(None));
        }
    }

    /// The right to follow a run, which perhaps is not made yet; `None` if somebody follows it.
    pub(super) fn reserve(self: &Arc<Self>, run: RunId) -> Option<Following> {
        let is_new = lock(&self.followed).insert(run);
        is_new.then(|| Following { scheduler: Arc::clone(self), run })
    }

    /// What people call that of which `run` is one, for the log. Not there if it cannot be read: then
    /// the log has the ids alone.
    pub(super) async fn names(&self, run: RunId) -> Span {
        match self.core.parts.store.runs().names(run).await {
            Ok(Some(Names { schedule, agent })) => {
                tracing::error_span!("run", agent, name = schedule)
            }
            Ok(None) | Err(_) => Span::none(),
        }
    }

    async fn follow_to_the_end(&self, run: RunId, report: Option<oneshot::Sender<Brought>>) {
        let mut memory = Memory::default();
        let mut moves = self.core.run_moves();
        let mut complaint = None;
        let mut report = report;
        loop {
            moves.borrow_and_update(); // what happens from here on ends the wait
            let step = self.step(run, &mut memory).await;
            // Who waits for it hears what became of it: that it has begun, or has to wait, or is over.
            if !matches!(step, Ok(Step::Next))
                && let Some(report) = report.take()
            {
                let brought = match memory.doom() {
                    None => Brought::Begun,
                    Some(doom) => Brought::Unprepared(doom.cause.clone()),
                };
                drop(report.send(brought)); // whoever asked may have gone
            }
            let pause = match step {
                Ok(Step::Next | Step::Begun) => continue,
                Ok(Step::Over) => return,
                Ok(Step::Wait(pause)) => pause,
                Err(error) => {
                    let error = chain(&error);
                    if complaint.as_ref() != Some(&error) {
                        tracing::warn!(%run, error, "the run cannot be followed for now");
                        complaint = Some(error);
                    }
                    AGAIN
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                moved = moves.changed() => {
                    if moved.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// One step of a run.
    async fn step(&self, id: RunId, memory: &mut Memory) -> Result<Step, DbError> {
        let Some(run) = self.core.parts.store.runs().find(id).await? else {
            return Ok(Step::Over);
        };
        let Some(hold) = run.hold.clone().filter(|hold| hold.owner == self.owner) else {
            return Ok(Step::Over);
        };
        if run.status != Status::Running {
            return Ok(Step::Over);
        }
        let clock = &self.core.parts.clock;
        let end = *memory.end.get_or_insert_with(|| clock.monotonic() + self.left(&run, &hold));
        let expired = clock.monotonic() >= end;
        if expired || run.cancel_requested_at.is_some() || memory.doom().is_some() {
            return self.end_early(&run, &hold, expired, memory).await;
        }
        match hold.phase {
            Phase::Claimed => self.prepare(&run, &hold, memory).await,
            Phase::Prepared => self.store(&run, &hold, memory).await,
            Phase::Executing => match self.ask(&hold, RunOrder::Look).await {
                Err(_) => Ok(Step::Wait(AGAIN)),
                Ok(RunState::Going) => Ok(Step::Wait(end.since(clock.monotonic()).min(LOOK))),
                Ok(state) => self.settle(&run, state).await,
            },
        }
    }

    /// How much longer a run may take: what the wall clock says, and never more than it may in all,
    /// for that clock may have been set back.
    fn left(&self, run: &Run, hold: &Hold) -> Duration {
        let whole = run
            .max_run_ms
            .and_then(|ms| u64::try_from(ms).ok())
            .map_or(self.core.parts.config.schedule.max_run, Duration::from_millis);
        hold.lease_until.since(self.now()).min(whole)
    }

    /// Makes the run's session ready.
    async fn prepare(&self, run: &Run, hold: &Hold, memory: &mut Memory) -> Result<Step, DbError> {
        let prepared = self
            .core
            .parts
            .store
            .runs()
            .prepare(run, hold, &*self.core.parts.ids, self.now())
            .await;
        match prepared {
            Ok(Prepared::Done) => {
                fault::point(CrashPoint::HostRunPrepared);
                memory.hindrance = None;
                Ok(Step::Next)
            }
            Ok(Prepared::NotOurs) => Ok(Step::Over),
            Ok(Prepared::Refused(reason)) => self.hindered(run, hold, memory, reason, false).await,
            Err(error) => self.hindered_by(run, hold, memory, &error).await,
        }
    }

    async fn hindered_by(
        &self,
        run: &Run,
        hold: &Hold,
        memory: &mut Memory,
        error: &DbError,
    ) -> Result<Step, DbError> {
        if matches!(error, DbError::Fenced { .. }) {
            return Ok(Step::Over); // whoever followed goes on with it
        }
        let cause = explain(error, self.core.parts.data.root());
        self.hindered(run, hold, memory, cause, passes(error)).await
    }

    /// What follows when `cause` keeps a run from being prepared: another try if that is likely to
    /// pass and has not been there for long, and its end otherwise. A run that waited for more would
    /// keep its place, and others theirs, for as long as it may take.
    async fn hindered(
        &self,
        run: &Run,
        hold: &Hold,
        memory: &mut Memory,
        cause: String,
        passes: bool,
    ) -> Result<Step, DbError> {
        if memory.cause() != Some(cause.as_str()) {
            tracing::warn!(run = %run.id, schedule = %run.schedule, cause, passes,
                "the run cannot be prepared");
        }
        let since = memory.hindrance.as_ref().map_or_else(Instant::now, |known| known.since);
        // A host that stops prepares nothing, and the next one takes the run over.
        let again = passes && (since.elapsed() < PATIENCE || self.core.is_stopping());
        memory.hindrance = Some(Hindrance { since, cause, is_final: !again });
        match again {
            true => Ok(Step::Wait(AGAIN)),
            false => self.end_early(run, hold, false, memory).await,
        }
    }

    /// Puts the run's message into its session's inbox. The same message again changes nothing.
    async fn store(&self, run: &Run, hold: &Hold, memory: &mut Memory) -> Result<Step, DbError> {
        let limits = RunLimits {
            max_turns: run.max_turns.and_then(|turns| u32::try_from(turns).ok()),
            deadline: Some(hold.lease_until),
        };
        let message = NewMessage {
            id: hold.message.clone(),
            kind: KIND_TASK.to_owned(),
            content: limits.content(&run.prompt),
            origin: run.to.clone(), // so that the answer goes there
            trigger: true,
            process_after: None,
            source_session: None,
            run_id: Some(run.id.to_string()),
        };
        let (reply, answer) = oneshot::channel();
        self.core.send(hold.session, Command::Accept { message, reply }).await;
        match answer.await {
            Ok(Ok(_)) => {
                fault::point(CrashPoint::HostRunStored);
                let (id, owner) = (run.id, self.owner);
                let runs = self.core.parts.store.runs();
                match runs.advance(id, owner, Phase::Prepared, Phase::Executing).await {
                    Ok(true) => {
                        memory.hindrance = None;
                        Ok(Step::Begun)
                    }
                    Ok(false) => Ok(Step::Over),
                    Err(error) => self.hindered_by(run, hold, memory, &error).await,
                }
            }
            Ok(Err(Refusal::TryAgain { reason, passes })) => {
                self.hindered(run, hold, memory, reason, passes).await
            }
            Ok(Err(refusal)) => self.hindered(run, hold, memory, refusal.to_string(), false).await,
            Err(_) => Ok(Step::Wait(AGAIN)), // the session's task went away
        }
    }

    /// Ends a run whose time is over or that somebody does not want any more: its runner is told
    /// first, and its container stopped if that does not help.
    async fn end_early(
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
    async fn settle(&self, run: &Run, state: RunState) -> Result<Step, DbError> {
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
    pub(super) fn tell_of_pause(&self, schedule: ScheduleId, paused: PausedItself) {
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

    /// Asks the run's session how far its message is.
    async fn ask(&self, hold: &Hold, order: RunOrder) -> Result<RunState, ()> {
        let (reply, answer) = oneshot::channel();
        let message = hold.message.clone();
        self.core.send(hold.session, Command::Run { message, order, reply }).await;
        match answer.await {
            Ok(Ok(state)) => Ok(state),
            Ok(Err(error)) => {
                tracing::warn!(session = %hold.session, error, "a run's message cannot be looked at");
                Err(())
            }
            Err(_) => Err(()), // the session's task went away
        }
    }
}

/// The end of a run, before it is recorded.
#[derive(Debug, Clone)]
struct Ended {
    turns: Option<i64>,
    output: Option<String>,
    outcome: RunOutcome,
}
