//! Deleting from the inbox what was settled long ago, so that a session's history stays bounded. The
//! rules, and the runner's part, are in [`twobox_shared::retention`].

use std::sync::Arc;
use std::time::Duration;

use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::Inbox;
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{self, Source};
use twobox_shared::retention::Forgotten;
use twobox_shared::time::UnixMillis;

use super::boxes::{Boxes, READ_PATIENCE};
use super::task::Task;
use twobox_shared::errors::chain;
use twobox_system::blocking::blocking;

/// How often a session that stays awake is looked over for what can be forgotten.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// How many passes are made at once. What is left then waits for the next time.
const PASSES_MAX: u32 = 20;

impl Task {
    /// Deletes what was settled before `history.keep`: when a container has ended, and once a day
    /// while it has not. An error is no trouble: nothing was deleted, and the next time is soon
    /// enough.
    pub(crate) async fn forget_old(&mut self, container_ended: bool, now: UnixMillis) {
        let monotonic = self.core.parts.clock.monotonic();
        let last = *self.looked_over.get_or_insert(monotonic);
        if !container_ended && monotonic.since(last) < EVERY {
            return;
        }
        self.looked_over = Some(monotonic);
        let keep = self.core.parts.config.history.keep;
        let horizon =
            UnixMillis(now.0.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)));
        let boxes = Arc::clone(&self.boxes);
        let forgotten = blocking(move || {
            for _ in 0..PASSES_MAX {
                if !boxes.forget(horizon)? {
                    break;
                }
            }
            Ok::<_, BoxError>(())
        });
        if let Err(error) = self.core.parts.store.approvals().forget(self.id, horizon, now).await {
            tracing::debug!(session = %self.id, error = chain(&error),
                "old approvals were not deleted");
        }
        if let Err(error) = forgotten.await {
            tracing::debug!(session = %self.id, error = chain(&error),
                "old history was not deleted");
        }
    }
}

/// What one pass deletes.
#[derive(Debug, Default)]
struct Old {
    messages: Vec<MessageId>,
    deliveries: Vec<MessageId>,
    reach: Forgotten,
}

impl Boxes {
    /// One pass over what was settled before `horizon`. Returns whether it deleted anything.
    ///
    /// # Errors
    /// As for [`Boxes::look`] and [`Boxes::accept`].
    pub fn forget(&self, horizon: UnixMillis) -> Result<bool, BoxError> {
        let Some(old) = self.find_old(horizon)? else { return Ok(false) };
        for message in &old.messages {
            // Files go first: a message without its files is history, files without one are litter.
            drop(std::fs::remove_dir_all(self.paths().inbox_files().join(message.as_str())));
        }
        let mut inbox = Inbox::open(&self.paths().inbound_db())?;
        let tx = inbox.write()?;
        let mut deleted = false;
        for message in &old.messages {
            deleted |= tx.forget_message(message)?;
        }
        for row in &old.deliveries {
            deleted |= tx.forget_delivery(row)?;
        }
        tx.forget_up_to(old.reach)?;
        tx.commit()?;
        fault::point(CrashPoint::HostForgot);
        Ok(deleted)
    }

    /// `None` if there is nothing to delete or to say.
    fn find_old(&self, horizon: UnixMillis) -> Result<Option<Old>, BoxError> {
        if !self.has_inbox() {
            return Ok(None);
        }
        let mut inbox = Inbox::open_to_read(&self.paths().inbound_db())?;
        let tx = inbox.read()?;
        let told = tx.forgotten()?;
        let reach = Forgotten { messages: tx.messages_before(horizon, told.messages)?, ..told };
        let mut old = Old {
            messages: tx.settled_messages(reach.messages)?,
            deliveries: tx.settled_deliveries(horizon)?,
            reach,
        };
        let cursor = tx.cursor()?.seq;
        if !old.messages.is_empty() || !old.deliveries.is_empty() {
            outbox::read_untrusted(
                &self.paths().outbound_db(),
                Source::Live,
                READ_PATIENCE,
                |outbox| {
                    let acks = outbox.acks(&old.messages)?;
                    old.messages.retain(|message| !acks.contains_key(message));
                    let numbers = outbox.numbers_of(&old.deliveries)?;
                    // Beyond the cursor the record is what keeps a row from being sent again.
                    old.deliveries
                        .retain(|row| numbers.get(row).is_none_or(|number| *number <= cursor));
                    let behind = old.deliveries.iter().filter_map(|row| numbers.get(row)).max();
                    old.reach.rows = old.reach.rows.max(behind.copied().unwrap_or_default());
                    Ok(())
                },
            )?;
        }
        let nothing = old.messages.is_empty() && old.deliveries.is_empty() && old.reach == told;
        Ok((!nothing).then_some(old))
    }
}
