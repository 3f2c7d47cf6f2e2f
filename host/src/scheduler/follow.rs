//! Following one run from its start to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use twobox_shared::clock::Monotonic;
use twobox_shared::content::{Failure, KIND_TASK, RunLimits};
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::RunId;
use twobox_shared::inbox::{NewMessage, Origin};

use super::{Scheduler, lock};
use crate::book;
use crate::channel::{Place, Refusal};
use crate::db::DbError;
use crate::db::messaging;
use crate::db::schedules::{
    self, End, Finished, Hold, Load, Outcome, Phase, Prepared, Run, Schedule, Status, Verdict,
};
use crate::schedule::reason::Reason;
use crate::schedule::streak::{self, Pause};
use crate::session::run::{RunOrder, RunState};
use crate::session::signal;
use crate::session::task::{Command, chain};

/// The pause before something is tried again that did not work.
const AGAIN: Duration = Duration::from_secs(2);

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
    /// Why its message could not be stored so far.
    unstored: Option<String>,
}

/// Ends with the task that follows a run, however that ends.
struct Following {
    scheduler: Arc<Scheduler>,
    run: RunId,
}

impl Drop for Following {
    fn drop(&mut self) {
        lock(&self.scheduler.followed).remove(&self.run);
        self.scheduler.look(); // there is room for another
    }
}

/// What comes after a step.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The next step, at once.
    Next,
    /// The next step after so long, or when something has moved.
    Wait(Duration),
    /// Nothing: the run is over, or another host's.
    Over,
}

impl Scheduler {
    /// Sees a run to its end, in a task of its own. Following it twice changes nothing.
    pub(super) fn follow(self: &Arc<Self>, run: RunId) {
        if lock(&self.followed).insert(run) {
            let following = Following { scheduler: Arc::clone(self), run };
            tokio::spawn(async move { following.scheduler.follow_to_the_end(run).await });
        }
    }

    async fn follow_to_the_end(&self, run: RunId) {
        let mut memory = Memory::default();
        let mut moves = self.core.run_moves();
        let mut complaint = None;
        loop {
            moves.borrow_and_update(); // what happens from here on ends the wait
            let pause = match self.step(run, &mut memory).await {
                Ok(Step::Next) => continue,
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

    /// Takes a run that was just started as far as its session, and returns it as it is then.
    pub(super) async fn bring_up(&self, run: Run) -> Result<Run, DbError> {
        let mut memory = Memory::default();
        let id = run.id;
        loop {
            let step = self.step(id, &mut memory).await?;
            let now = self.core.parts.db.call(move |db| schedules::run(db, id)).await?;
            let Some(now) = now else { return Ok(run) };
            let there = now.hold.as_ref().is_some_and(|hold| hold.phase == Phase::Executing);
            if there || step != Step::Next {
                return Ok(now);
            }
        }
    }

    /// One step of a run.
    async fn step(&self, id: RunId, memory: &mut Memory) -> Result<Step, DbError> {
        let Some(run) = self.core.parts.db.call(move |db| schedules::run(db, id)).await? else {
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
        if expired || run.cancel_requested_at.is_some() {
            return self.end_early(&run, &hold, expired, memory).await;
        }
        match hold.phase {
            Phase::Claimed => {
                let (ids, now) = (Arc::clone(&self.core.parts.ids), self.now());
                let (of, held) = (run.clone(), hold.clone());
                let prepared = self
                    .core
                    .parts
                    .db
                    .call(move |db| schedules::prepare(db, &of, &held, &*ids, now))
                    .await?;
                match prepared {
                    Prepared::Done => {
                        fault::point(CrashPoint::HostRunPrepared);
                        Ok(Step::Next)
                    }
                    Prepared::NotOurs => Ok(Step::Over),
                    Prepared::Refused(reason) => {
                        self.fail(&run, Reason::PrepareFailed, &reason, None).await
                    }
                }
            }
            Phase::Prepared => self.store(&run, &hold, memory).await,
            Phase::Executing => match self.ask(&hold, RunOrder::Look).await {
                Err(_) => Ok(Step::Wait(AGAIN)),
                Ok(RunState::Going) => Ok(Step::Wait(end.since(clock.monotonic()).min(LOOK))),
                Ok(state) => self.settle(&run, state, Reason::Interrupted).await,
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
            origin: Origin::default(),
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
                memory.unstored = None;
                let (id, owner) = (run.id, self.owner);
                let ours = self
                    .core
                    .parts
                    .db
                    .call(move |db| {
                        schedules::advance(db, id, owner, Phase::Prepared, Phase::Executing)
                    })
                    .await?;
                Ok(if ours { Step::Next } else { Step::Over })
            }
            Ok(Err(Refusal::TryAgain { reason })) => {
                memory.unstored = Some(reason);
                Ok(Step::Wait(AGAIN))
            }
            Ok(Err(refusal)) => {
                self.fail(run, Reason::PrepareFailed, &refusal.to_string(), None).await
            }
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
        let reason = match (expired, &memory.unstored) {
            (true, Some(_)) => Reason::PrepareFailed,
            (true, None) => Reason::LeaseExpired,
            (false, _) => Reason::Aborted,
        };
        if hold.phase == Phase::Claimed {
            return self.give_up(run, reason, memory.unstored.as_deref(), None).await;
        }
        let began = *memory.ending.get_or_insert_with(Instant::now);
        let order = match began.elapsed() > self.core.parts.config.containers.stop_grace {
            true => RunOrder::Stop,
            false => RunOrder::Withdraw,
        };
        match self.ask(hold, order).await {
            Err(()) if began.elapsed() > self.core.parts.config.containers.stop_grace * 4 => {
                let error = "its session cannot be looked at";
                self.give_up(run, reason, Some(error), None).await
            }
            Err(()) => Ok(Step::Wait(AGAIN)),
            Ok(RunState::Going) => Ok(Step::Wait(LOOK_ENDING)),
            Ok(RunState::Missing) => {
                self.give_up(run, reason, memory.unstored.as_deref(), None).await
            }
            Ok(RunState::Withdrawn { turns }) => self.give_up(run, reason, None, turns).await,
            Ok(RunState::Failed { failure, turns }) if failure.reason == Failure::ABORTED => {
                self.give_up(run, reason, None, turns).await
            }
            Ok(state) => self.settle(run, state, reason).await,
        }
    }

    /// Records the end of a run whose message is settled.
    async fn settle(&self, run: &Run, state: RunState, missing: Reason) -> Result<Step, DbError> {
        match state {
            RunState::Going => Ok(Step::Wait(AGAIN)),
            RunState::Completed { turns, output } => {
                self.finish(run, Ended { turns, output, error: None, reason: None }).await
            }
            RunState::Failed { failure, turns } => {
                self.fail(run, reason_of(&failure), &failure.detail, turns).await
            }
            RunState::Withdrawn { turns } => self.give_up(run, Reason::Aborted, None, turns).await,
            RunState::Missing => {
                self.fail(run, missing, "its message is not in its session any more", None).await
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
            Reason::Aborted => self.finish(run, Ended::cancelled(turns)).await,
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
        let ended =
            Ended { turns, output: None, error: Some(error.to_owned()), reason: Some(reason) };
        self.finish(run, ended).await
    }

    async fn finish(&self, run: &Run, ended: Ended) -> Result<Step, DbError> {
        let running = self.core.parts.db.call(|db| schedules::counts(db)).await?.running;
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let load = Load {
            host_loop_lag_ms: count(
                usize::try_from(self.core.loop_lag().as_millis()).unwrap_or(usize::MAX),
            ),
            chat_turns_in_flight: count(self.core.chat_turns()),
            runs_in_flight: running,
        };
        let (id, owner, now) = (run.id, self.owner, self.now());
        let told = ended.clone();
        let finished = self
            .core
            .parts
            .db
            .call(move |db| {
                let outcome = match (&ended.reason, &ended.error) {
                    (Some(reason), Some(error)) => Outcome::Failed { reason: *reason, error },
                    (Some(reason), None) => Outcome::Cancelled { reason: *reason },
                    (None, _) => Outcome::Completed,
                };
                let output = ended.output.as_deref();
                let end = End { outcome, turns: ended.turns, output, load, now };
                schedules::finish(db, id, owner, &end, judge)
            })
            .await?;
        fault::point(CrashPoint::HostRunEnded);
        tracing::info!(run = %id, schedule = %run.schedule, reason = ?told.reason,
            error = told.error, "the run is over");
        let (Finished::Done { paused }, Some(hold)) = (finished, &run.hold) else {
            return Ok(Step::Over);
        };
        let of = run.schedule.to_string();
        let schedule = self.core.parts.db.call(move |db| schedules::find(db, &of)).await?;
        let Some(schedule) = schedule else { return Ok(Step::Over) };
        if schedule.definition.session != Some(hold.session) {
            // Nobody will say anything more there, so its container need not wait for that.
            self.core.wake(hold.session, signal::Reason::Evict);
        }
        if paused {
            self.tell_of_pause(&schedule, run.id, hold).await?;
        }
        Ok(Step::Over)
    }

    /// Tells a person that a schedule paused itself: in the chat that its session belongs to, or the
    /// first one that its agent listens to.
    async fn tell_of_pause(
        &self,
        schedule: &Schedule,
        run: RunId,
        hold: &Hold,
    ) -> Result<(), DbError> {
        let name = &schedule.definition.name;
        let reason = schedule.pause_reason.as_deref().unwrap_or_default();
        tracing::warn!(schedule = %schedule.id, name, reason, "the schedule paused itself");
        let place = match schedule.definition.session {
            Some(_) => None,
            None => {
                let agent = schedule.agent_group;
                let places =
                    self.core.parts.db.call(move |db| messaging::places_of(db, agent)).await?;
                let Some(first) = places.into_iter().next() else {
                    return Ok(()); // its agent listens to nobody
                };
                Some(Place {
                    channel_type: first.channel_type,
                    platform_id: first.platform_id,
                    thread_id: None,
                })
            }
        };
        let text = format!(
            "I have paused the schedule {name:?}: {reason}. `twobox schedules show {name}` shows \
             more, and `twobox schedules resume {name}` lets it go on."
        );
        let (cause, at) = (format!("paused:{run}"), self.now());
        self.core.send(hold.session, Command::Tell { cause, place, text, at }).await;
        Ok(())
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
    error: Option<String>,
    reason: Option<Reason>,
}

impl Ended {
    fn cancelled(turns: Option<i64>) -> Self {
        Self { turns, output: None, error: None, reason: Some(Reason::Aborted) }
    }
}

/// Why a run failed, by its runner's word.
fn reason_of(failure: &Failure) -> Reason {
    match Reason::parse(&failure.reason) {
        Some(
            known @ (Reason::TurnLimitExceeded
            | Reason::Timeout
            | Reason::BudgetExceeded
            | Reason::AuthFailed
            | Reason::RateLimited),
        ) => known,
        _ => Reason::ProviderError, // its word for anything else is not taken
    }
}

/// What the end of a run means for its schedule.
pub fn judge(schedule: &Schedule, run: &Run) -> Verdict {
    let fired_at = run.slot.or(run.hold.as_ref().map(|hold| hold.started_at));
    let grace = schedule.turns_edited_at.zip(fired_at).is_some_and(|(edited_at, fired_at)| {
        book::Plan::of(&schedule.definition)
            .is_ok_and(|plan| streak::in_grace(&plan.timetable, edited_at, fired_at))
    });
    let end = match (run.status, run.reason) {
        (Status::Failed, Some(reason)) => streak::End::Failed(reason),
        (Status::Completed, _) => streak::End::Completed,
        _ => streak::End::Cancelled,
    };
    let (streaks, pause) = schedule.streaks.after(end, grace);
    let pause = pause.map(|pause| match pause {
        Pause::Breaches => format!("{} runs in a row used up their model turns", streaks.breaches),
        Pause::Failures => {
            let error = run.error.as_deref().unwrap_or("no reason known");
            format!("{} runs in a row failed, the last one because: {error}", streaks.failures)
        }
    });
    Verdict { streaks, pause }
}
