//! Deleting from the outbox what was settled long ago, as far as the host says
//! ([`twobox_shared::retention`]).

use std::time::Duration;

use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::inbox::InboxReader;
use twobox_shared::open::BoxError;

use crate::run::Runner;

/// How often to look for something to delete, at most.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// How many passes to make at once. What is left then waits for the next time.
const PASSES_MAX: u32 = 20;

impl Runner<'_> {
    /// Deletes what can be forgotten, when there is nothing else to do and it is time. An error is
    /// no trouble: nothing was deleted, and the next time is soon enough.
    pub(crate) fn tidy(&mut self) {
        let now = self.clock.monotonic();
        if self.tidied.is_some_and(|last| now.since(last) < EVERY) {
            return;
        }
        self.tidied = Some(now);
        for _ in 0..PASSES_MAX {
            if self.stop.requested() || !self.forget_some().unwrap_or(false) {
                return;
            }
        }
    }

    /// One pass. Returns whether it found anything.
    fn forget_some(&self) -> Result<bool, BoxError> {
        let chosen = self.outbox.read(|outbox| {
            outbox.forgettable(&InboxReader::open(&self.options.paths.inbound_db())?)
        })?;
        if chosen.is_empty() {
            return Ok(false);
        }
        for row in &chosen.rows {
            // Most rows have no files. Where they cannot be removed, they cost space and no more.
            drop(std::fs::remove_dir_all(self.options.paths.outbox_files().join(row.as_str())));
        }
        self.outbox.with(|outbox| outbox.forget(&chosen))?;
        fault::point(CrashPoint::RunnerForgot);
        Ok(true)
    }
}
