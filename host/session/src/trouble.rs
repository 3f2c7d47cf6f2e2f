//! What a session's task does about trouble: it tries again, takes itself out of use, or calls for a person;
//! and what brings it back into use.

use std::sync::Arc;
use std::time::Duration;

use twobox_shared::errors::{chain, for_a_terminal};
use twobox_shared::ids::MessageId;
use twobox_shared::open::{BoxError, Remedy};
use twobox_store::DbError;
use twobox_store::sessions::DUE_NOW;
use twobox_store::storage::explain;
use twobox_system::blocking::blocking;

use super::signal::Reason;
use super::task::Task;

/// The pause before the same thing is tried again that needed an operator, such as a full disk.
pub(super) const OPERATOR_PAUSE: Duration = Duration::from_secs(5);

/// Why a sweep ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Box(#[from] BoxError),
    #[error(transparent)]
    Db(#[from] DbError),
    #[error("the container may still live: the runtime did not confirm its end")]
    Lives,
    #[error("the session was closed, and is being deleted")]
    Closed,
}

impl Task {
    /// Gives failed messages new attempts, or one of them, and lifts a quarantine. Returns how many will be
    /// tried again.
    pub(super) async fn retry(&mut self, message: Option<MessageId>) -> Result<usize, Trouble> {
        if self.record.closed {
            return Err(Trouble::Closed);
        }
        self.mark(Some(DUE_NOW)).await?;
        self.restart().await?; // whatever was mended, what runs now is what failed
        let boxes = Arc::clone(&self.boxes);
        let torn = self.record.quarantine.as_deref().is_some_and(crate::held::is_torn);
        let now = self.now();
        let revived = blocking(move || match torn {
            // What is open there is still the original's, and waits for a word of its own.
            true => boxes.hold(now).map(|_| 0),
            false => boxes.revive(message.as_ref()),
        })
        .await?;
        if !self.core.parts.store.sessions().release(self.id).await? {
            return Err(Trouble::Closed);
        }
        self.record.quarantine = None;
        self.record.failed_starts = 0;
        self.record.start_after = None;
        self.sweep_budget.wake();
        self.handle.signal.raise(Reason::Runtime);
        Ok(revived)
    }

    /// What to do about trouble: try again soon, quarantine, or call for an operator. A container
    /// that holds a lock against its host is stopped.
    pub(super) async fn cope(&mut self, trouble: Trouble) {
        let remedy = match &trouble {
            Trouble::Box(error) => error.remedy(),
            Trouble::Db(_) => Remedy::Operator,
            Trouble::Lives => Remedy::TryAgain,
            Trouble::Closed => Remedy::Operator,
        };
        match remedy {
            Remedy::Quarantine => return self.quarantine(&chain(&trouble)).await,
            Remedy::TryAgain | Remedy::Repair => {
                if remedy == Remedy::TryAgain {
                    self.complain(&trouble);
                }
                if let Trouble::Box(BoxError::Busy { .. }) = &trouble {
                    self.stop_offender(&chain(&trouble)).await;
                }
                self.look_in(Duration::from_millis(100));
            }
            Remedy::Operator => {
                self.complain(&trouble);
                self.look_in(OPERATOR_PAUSE);
            }
        }
    }

    async fn quarantine(&mut self, reason: &str) {
        let reason = for_a_terminal(reason);
        tracing::error!(session = %self.id, reason, "the session is quarantined");
        match self.core.parts.store.sessions().quarantine(self.id, &reason).await {
            Ok(false) => self.complain(&Trouble::Closed), // whoever deletes it needs none of it
            Ok(true) => {
                self.record.quarantine = Some(reason);
                self.handle.signal.raise(Reason::Runtime); // the next sweep stops its container
                self.core.run_moved();
            }
            Err(error) => {
                self.complain(&error);
                self.look_in(OPERATOR_PAUSE);
            }
        }
    }

    /// Logs a complaint once, until a sweep succeeds or the complaint changes.
    pub(crate) fn complain(&mut self, error: &(dyn std::error::Error + 'static)) {
        let text = explain(error, self.core.parts.data.root());
        if self.complaint.as_ref() != Some(&text) {
            tracing::warn!(session = %self.id, error = text, "the session needs attention");
            self.complaint = Some(text);
        }
    }
}
