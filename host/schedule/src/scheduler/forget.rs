//! Forgetting what has ended long ago: runs, what they cost, and the sessions that were made for them. Of
//! what models used, the conversations are forgotten, and the sums of each day stay.

use std::time::Duration;

use tokio::sync::oneshot;
use twobox_shared::ids::SessionId;

use super::Scheduler;
use twobox_session::command::Command;
use twobox_shared::errors::chain;
use twobox_slots::zone::Zone;
use twobox_store::DbError;
use twobox_store::usage::Day;

/// How much is forgotten at once.
const BATCH: u32 = 1000;

/// For how long metrics are kept.
const METRICS_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Scheduler {
    /// Forgets what is old enough. What cannot be forgotten now is tried again the next time.
    pub(super) async fn forget(&self) {
        if let Err(error) = self.try_forget().await {
            tracing::warn!(error = chain(&error), "old runs could not be forgotten");
        }
    }

    async fn try_forget(&self) -> Result<(), DbError> {
        let store = &self.core.parts.store;
        let now = self.now();
        let config = &self.core.parts.config;
        let (runs, metrics) = (now - config.schedule.history, now - METRICS_KEPT);
        loop {
            let forgotten = store.runs().prune(runs, BATCH).await?;
            let forgotten = forgotten.max(store.runs().prune_metrics(metrics, BATCH).await?);
            if forgotten < BATCH as usize {
                break;
            }
        }
        let zone: Zone = config.schedule.timezone.parse().unwrap_or(Zone::UTC);
        let kept = config.history.keep.as_secs() / (24 * 60 * 60);
        let kept = u32::try_from(kept).unwrap_or(u32::MAX);
        while store.usage().fold(Day::before(&zone, now, kept)).await? {}
        let mut after = None;
        loop {
            let sessions = store.sessions().outlived(after, BATCH).await?;
            let Some(last) = sessions.last() else { return Ok(()) };
            after = Some(*last);
            for session in sessions {
                if let Err(error) = self.forget_session(session).await {
                    let names = self.core.names_of(session).await;
                    names.in_scope(|| {
                        tracing::warn!(%session, error, "the session of an old run is still there");
                    });
                }
            }
        }
    }

    /// Deletes a session that was made for a run. `false` if it is not at rest, or needed.
    ///
    /// # Errors
    /// Why it is still there.
    pub(super) async fn forget_session(&self, session: SessionId) -> Result<bool, String> {
        let (reply, answer) = oneshot::channel();
        self.core.send(session, Command::Forget { reply }).await;
        answer.await.unwrap_or(Ok(false)) // the session's task went away
    }
}
