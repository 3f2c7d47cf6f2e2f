//! Runs on a person's word: started now, and ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use twobox_shared::errors::chain;
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::{RunId, ScheduleId};

use super::follow::Brought;
use super::{Scheduler, told};
use twobox_slots::eta;
use twobox_store::DbError;
use twobox_store::schedules::{Cancelled, Capacity, Executed, Run};
use twobox_system::lock::lock;

/// How many past runs an estimate goes by.
const PAST: u32 = 20;

/// Why a schedule was not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError {
    /// There is no such schedule.
    #[error("there is no such schedule")]
    Gone,
    /// As many run as may.
    #[error("as many runs are going on as may (schedule.max_concurrent)")]
    Full {
        /// In how many seconds one of them will probably have ended.
        slot_eta_sec: Option<u64>,
    },
    /// One is going on, and the schedule allows no other beside it, or is part of its conversation.
    #[error(
        "a run of this schedule is going on and it allows no other beside it, or one goes on in the \
         conversation that it is part of"
    )]
    Overlaps,
    /// It could not be made ready, and has ended, or does as soon as that can be recorded.
    #[error("the run could not be prepared: {cause}")]
    PrepareFailed {
        /// Which run.
        run: RunId,
        /// Why, for people.
        cause: String,
    },
    /// The host cannot do it now.
    #[error("{0}")]
    NotNow(String),
}

impl Scheduler {
    /// Runs a schedule now, on a person's word: paused or not, and with `forced_by` whoever wants it
    /// beyond the cap. Returns the run once its message is in its session, or as far as it came if
    /// `host.db` could not be used then. Whoever calls waits for the end: a run that was begun and not
    /// followed would keep its place.
    ///
    /// # Errors
    /// [`ExecuteError`]; except for [`ExecuteError::PrepareFailed`] nothing was stored.
    pub async fn execute(
        self: &Arc<Self>,
        schedule: ScheduleId,
        forced_by: Option<String>,
    ) -> Result<Run, ExecuteError> {
        let not_now = |error: DbError| ExecuteError::NotNow(chain(&error));
        if self.core.is_stopping() {
            return Err(ExecuteError::NotNow("the host is stopping".to_owned()));
        }
        let (cap, start) = (self.cap(), self.fresh_start());
        let id = RunId::generate(&*self.core.parts.ids);
        // Before it is there: from then on somebody else would begin to follow it.
        let following = self.reserve(id);
        let capacity = match forced_by {
            Some(actor) => Capacity::Forced { actor },
            None => Capacity::AtMost(cap),
        };
        let runs = self.core.parts.store.runs();
        let executed = runs.execute(schedule, id, capacity, start).await.map_err(not_now)?;
        let run = match executed {
            Executed::Run(run) => *run,
            Executed::Full => {
                *lock(&self.refused) = Some(tokio::time::Instant::now());
                let slot_eta_sec = self.eta().await.map_err(not_now)?;
                return Err(ExecuteError::Full { slot_eta_sec });
            }
            Executed::Overlaps => return Err(ExecuteError::Overlaps),
            Executed::Gone => return Err(ExecuteError::Gone),
        };
        fault::point(CrashPoint::HostRunStarted);
        *lock(&self.refused) = None;
        let (report, brought) = oneshot::channel();
        let following = following.expect("an id that was just made up is nobody's");
        tokio::spawn(following.see_through(Some(report)));
        if let Ok(Brought::Unprepared(cause)) = brought.await {
            return Err(ExecuteError::PrepareFailed { run: id, cause });
        }
        // It has begun: whatever was in its way, who follows it tries again.
        let now = self.core.parts.store.runs().find(id).await;
        Ok(now.ok().flatten().unwrap_or(run))
    }

    /// In how many seconds a run will probably have ended and made room.
    async fn eta(&self) -> Result<Option<u64>, DbError> {
        let runs = self.core.parts.store.runs();
        let mut running = Vec::new();
        for run in told(runs.running().await?) {
            let Some(hold) = run.hold else { continue };
            let past = runs.past(run.schedule, PAST).await?;
            let span = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
            running.push(eta::Running {
                started_at: hold.started_at,
                lease_until: hold.lease_until,
                past: past.iter().map(|past| span(past.duration_ms)).collect(),
            });
        }
        Ok(eta::seconds(&running, self.now()))
    }

    /// Ends a run that waits or goes on, on a person's word.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn cancel(&self, run: RunId) -> Result<Cancelled, DbError> {
        let now = self.now();
        let cancelled = self.core.parts.store.runs().request_cancel(run, now).await?;
        self.core.run_moved();
        Ok(cancelled)
    }
}
