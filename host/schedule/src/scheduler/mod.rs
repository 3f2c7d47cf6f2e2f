//! The scheduler: fires schedules whose slots have come, starts the runs that wait, and sees each run
//! to its end.
//!
//! Everything that has to survive is a row in `host.db`; what is kept here can be lost. Each step of a
//! run is a guarded statement that says whether it is still this host's to make, and each can be
//! repeated: ids were chosen before anything was made. One task follows each run, so that a session
//! that is slow to answer holds up no other. What a person wants at once is in `by_hand`.

mod by_hand;
mod channel;
mod follow;
mod forget;
mod judge;
pub mod plan;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::{HostId, MessageId, RunId, SessionId};
use twobox_shared::time::UnixMillis;

use self::judge::self_pause;
use self::plan::{Known, Plan};
use crate::service;
use twobox_session::core::Core;
use twobox_shared::errors::chain;
use twobox_store::DbError;
use twobox_store::schedules::{Claimed, Listed, Next, Run, Schedule, SlotClaim, Start, Started};
use twobox_system::lock::lock;

pub use by_hand::ExecuteError;
pub use channel::KeptWithRun;
pub use judge::judge;

/// The longest sleep: the wall clock may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// The pause after `host.db` could not be used.
const TROUBLE_PAUSE: Duration = Duration::from_secs(5);

/// The pause before what is due and could not be fired is looked at again.
const STUCK_PAUSE: Duration = Duration::from_secs(1);

/// How many schedules are fired between two looks at what else is to be done.
const BATCH: u32 = 64;

/// For how long a place that becomes free is kept from what makes up for the past, after a person found
/// none for a run: long enough to try again.
const KEPT_FREE: Duration = Duration::from_secs(30);

/// How often what has ended long ago is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60 * 60);

/// Fires schedules and follows their runs.
#[derive(Debug)]
pub struct Scheduler {
    core: Arc<Core>,
    owner: HostId,
    changed: Notify,
    followed: Mutex<HashSet<RunId>>,
    /// When a person found no room for a run last.
    refused: Mutex<Option<tokio::time::Instant>>,
}

impl Scheduler {
    /// For the sessions of `core`, on behalf of the owner of `host.db`.
    pub fn new(core: Arc<Core>, owner: HostId) -> Arc<Self> {
        Arc::new(Self {
            core,
            owner,
            changed: Notify::new(),
            followed: Mutex::default(),
            refused: Mutex::default(),
        })
    }

    /// Definitions have changed, or runs were asked for: look at once.
    pub fn look(&self) {
        self.changed.notify_one();
    }

    /// Goes on until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut adopted = false;
        let mut forgot: Option<tokio::time::Instant> = None;
        loop {
            let pause = match self.round(&mut adopted).await {
                Ok(pause) => pause,
                Err(error) => {
                    let error = chain(&error);
                    if let Some(before) = twobox_system::repeat::warned("scheduler", &error) {
                        tracing::warn!(error, before, "the scheduler could not look");
                    }
                    adopted = false; // what is in the way may be a run that cannot be read
                    TROUBLE_PAUSE
                }
            };
            if adopted && forgot.is_none_or(|when| when.elapsed() > FORGET_EVERY) {
                forgot = Some(tokio::time::Instant::now());
                let scheduler = Arc::clone(&self);
                tokio::spawn(async move { scheduler.forget().await });
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Everything that is to be done now. Returns how long nothing will be.
    async fn round(self: &Arc<Self>, adopted: &mut bool) -> Result<Duration, DbError> {
        if !*adopted {
            self.adopt().await?;
            *adopted = true;
        }
        let fired = self.fire().await?;
        self.start().await?;
        self.follow_all().await?;
        let next = self.core.parts.store.schedules().next_due().await?;
        let wait = next.map_or(SLEEP_MAX, |due| due.since(self.now()));
        // What is due and cannot be fired is tried again, but not without end at once.
        let least = if fired { Duration::ZERO } else { STUCK_PAUSE };
        Ok(wait.clamp(least, SLEEP_MAX))
    }

    /// Whatever became of the task that followed a run, another one does.
    async fn follow_all(self: &Arc<Self>) -> Result<(), DbError> {
        let running = told(self.core.parts.store.runs().running().await?);
        let is_ours = |run: &Run| run.hold.as_ref().is_some_and(|hold| hold.owner == self.owner);
        running.iter().filter(|run| is_ours(run)).for_each(|run| self.follow(run.id));
        match running.iter().all(is_ours) {
            true => Ok(()),
            false => self.take_over().await, // its lease may be over by now
        }
    }

    fn now(&self) -> UnixMillis {
        self.core.parts.clock.now()
    }

    /// Takes over the runs of hosts that are gone, and ends those that nobody can take over.
    async fn adopt(self: &Arc<Self>) -> Result<(), DbError> {
        for run in self.core.parts.store.runs().end_unreadable(self.now()).await? {
            tracing::error!(run = run.id, error = run.error, "ended a run that cannot be read");
        }
        self.take_over().await
    }

    async fn take_over(self: &Arc<Self>) -> Result<(), DbError> {
        let (owner, runs) = (self.owner, self.core.parts.store.runs());
        for run in told(runs.left_behind(owner, self.now()).await?) {
            let Some(hold) = run.hold else { continue };
            let (from, lease) = (hold.owner, hold.lease_until);
            let taken = runs.take_over(run.id, from, lease, owner, lease).await?;
            if taken {
                self.names(run.id).await.in_scope(
                    || tracing::info!(run = %run.id, schedule = %run.schedule, "took a run over"),
                );
                self.follow(run.id);
            }
        }
        Ok(())
    }

    /// Claims the slots that have come. Returns whether anything was stored about any.
    async fn fire(&self) -> Result<bool, DbError> {
        let now = self.now();
        let due = told(self.core.parts.store.schedules().due(now, BATCH).await?);
        let mut fired = false;
        for schedule in due {
            let (id, name) = (schedule.id, schedule.definition.name.clone());
            match self.fire_one(schedule, now).await {
                Ok(done) => fired |= done,
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(schedule = %id, name, error, "the schedule could not be fired");
                }
            }
        }
        Ok(fired)
    }

    async fn fire_one(&self, schedule: Schedule, now: UnixMillis) -> Result<bool, DbError> {
        let Some(next) = schedule.next else { return Ok(false) };
        let store = &self.core.parts.store;
        let id = schedule.id;
        let timetable = match service::Times::of(&schedule.definition) {
            Ok(plan) => plan.timetable,
            Err(mistake) => {
                let reason =
                    format!("this host cannot reckon its times any more: {}", mistake.problem);
                tracing::error!(schedule = %id, name = schedule.definition.name, reason, "paused");
                let teller = SessionId::generate(&*self.core.parts.ids);
                let pause = self_pause(&schedule, reason, teller);
                let revision = schedule.revision;
                let paused = store.schedules().pause_itself(id, revision, pause, now).await?;
                if let Some(paused) = paused {
                    self.tell_of_pause(id, paused);
                }
                return Ok(paused.is_some());
            }
        };
        let (chats, pause) = (self.core.chat_turns(), self.core.parts.config.schedule.chat_pause);
        if let Some(until) = plan::put_off(&schedule, next, chats, pause, now) {
            let revision = schedule.revision;
            let put_off = store.schedules().put_off(id, revision, next.slot, until).await?;
            tracing::debug!(schedule = %id, put_off, "chat comes first");
            return Ok(put_off);
        }
        let open = told(store.runs().open_of(id).await?);
        let known = Known { open, taken: store.schedules().taken(id, next.slot, now).await? };
        let ids = Arc::clone(&self.core.parts.ids);
        let plan = plan::plan(&schedule, &timetable, next, &known, now, || RunId::generate(&*ids));
        let replaces = !plan.replaces.is_empty();
        let claimed = self.claim(&schedule, next, &known.open, plan, now).await?;
        fault::point(CrashPoint::HostSlotClaimed);
        match claimed {
            Claimed::Done { already } => {
                tracing::info!(schedule = %id, name = schedule.definition.name, slot = %next.slot,
                    already = already.len(), "the schedule fired");
                if replaces {
                    self.core.run_moved(); // others have to make room
                }
            }
            // Read and decided again at the next look.
            lost => {
                tracing::debug!(schedule = %id, ?lost, "the slot was not claimed");
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn claim(
        &self,
        schedule: &Schedule,
        next: Next,
        open: &[Run],
        plan: Plan,
        now: UnixMillis,
    ) -> Result<Claimed, DbError> {
        let claim = SlotClaim {
            schedule: schedule.id,
            revision: schedule.revision,
            slot: next.slot,
            open: open.iter().map(|run| run.id).collect(),
            rows: plan.rows,
            replaces: plan.replaces,
            next: plan.next,
            now,
        };
        self.core.parts.store.schedules().claim_slot(claim).await
    }

    /// Starts runs, each when it is its turn, until there is no room or none left.
    async fn start(self: &Arc<Self>) -> Result<(), DbError> {
        loop {
            let (cap, start) = (self.cap(), self.fresh_start());
            let is_wanted = lock(&self.refused).is_some_and(|when| when.elapsed() < KEPT_FREE);
            let runs = self.core.parts.store.runs();
            let started = match is_wanted {
                true => runs.start_due_now(cap, start),
                false => runs.start_next(cap, start),
            };
            match started.await? {
                Started::Run(run) => {
                    fault::point(CrashPoint::HostRunStarted);
                    self.follow(run.id);
                }
                Started::Full | Started::Nothing => return Ok(()),
            }
        }
    }

    fn cap(&self) -> u32 {
        u32::try_from(self.core.parts.config.schedule.max_concurrent).unwrap_or(u32::MAX)
    }

    fn fresh_start(&self) -> Start {
        let parts = &self.core.parts;
        let lease_ms = i64::try_from(parts.config.schedule.max_run.as_millis()).unwrap_or(i64::MAX);
        let message = format!("run-{}", RunId::generate(&*parts.ids));
        Start {
            owner: self.owner,
            lease_ms,
            session: SessionId::generate(&*parts.ids),
            message: MessageId::parse(&message).expect("a word and a UUID"),
            now: self.now(),
        }
    }
}

/// What could be read of a list; somebody is told of the rest.
fn told<T>(listed: Listed<T>) -> Vec<T> {
    for row in listed.unreadable {
        tracing::error!(id = row.id, error = row.error, "a row of host.db cannot be read");
    }
    listed.rows
}
