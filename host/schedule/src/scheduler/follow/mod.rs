//! Following one run from its start to its end, which is in `ending`.

mod ending;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument, Span};
use twobox_shared::clock::Monotonic;
use twobox_shared::content::{KIND_TASK, RunLimits};
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::RunId;
use twobox_shared::inbox::NewMessage;

use super::{Scheduler, lock};
use twobox_model::channel::Refusal;
use twobox_model::people::Speaker;
use twobox_session::command::Command;
use twobox_session::run::{RunOrder, RunState};
use twobox_shared::errors::chain;
use twobox_store::schedules::{Hold, Names, Phase, Prepared, Run, Status};
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
        let by = Speaker::Operator;
        let accept = Command::Accept { message, files: Vec::new(), by, reply };
        self.core.send(hold.session, accept).await;
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
