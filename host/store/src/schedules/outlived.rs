//! Sessions that were made for one run and are not needed any more.
//!
//! A session goes in three steps, of which each can be repeated: it is closed, its folder is deleted,
//! its rows are. A closed one takes no message, so nothing is lost between them.

use rusqlite::{TransactionBehavior, named_params};
use twobox_shared::ids::{RunId, SessionId};

use crate::{Operation, Runs, Sessions};
use twobox_model::channel::SCHEDULE_CHANNEL;

impl Runs<'_> {
    /// Whether `session` was made for `run` alone.
    pub fn was_made_for(&self, session: SessionId, run: RunId) -> Operation<bool> {
        self.0.operation("look whose session it is", move |db| {
            db.query_row(
                "SELECT EXISTS (
                 SELECT 1 FROM sessions s JOIN messaging_groups m ON m.id = s.messaging_group_id
                 WHERE s.id = :session AND s.thread_id = :run AND m.channel_type = :channel)",
                named_params! { ":session": session, ":run": run, ":channel": SCHEDULE_CHANNEL },
                |row| row.get(0),
            )
        })
    }
}

pub(super) const OUTLIVED: &str = "
    SELECT s.id FROM sessions s JOIN messaging_groups m ON m.id = s.messaging_group_id
    WHERE m.channel_type = :channel AND s.id > coalesce(:after, '')
      AND s.status IN ('active', 'closed')
      AND s.runner_id IS NULL AND s.next_due_at_ms IS NULL
      AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = s.thread_id)
      AND NOT EXISTS (SELECT 1 FROM schedules c WHERE c.session_id = s.id)
    ORDER BY s.id LIMIT :limit";

pub(super) const CLOSE: &str = "
    UPDATE sessions SET status = 'closed'
    WHERE id = :session AND status IN ('active', 'closed')
      AND runner_id IS NULL AND next_due_at_ms IS NULL
      AND messaging_group_id IN (SELECT id FROM messaging_groups WHERE channel_type = :channel)
      AND NOT EXISTS (SELECT 1 FROM schedules c WHERE c.session_id = sessions.id)
      AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = sessions.thread_id
                        AND r.ended_at_ms IS NULL AND r.phase = 'executing')";

impl Sessions<'_> {
    /// At most `limit` sessions at rest, after `after` in the order of their ids, whose runs are
    /// forgotten and which no schedule names.
    pub fn outlived(&self, after: Option<SessionId>, limit: u32) -> Operation<Vec<SessionId>> {
        self.0.operation("list sessions of runs that are forgotten", move |db| {
            db.prepare_cached(OUTLIVED)
        .and_then(|mut select| {
            let params =
                named_params! { ":channel": SCHEDULE_CHANNEL, ":after": after, ":limit": limit };
            select.query_map(params, |row| row.get(0))?.collect()
        })
        })
    }

    /// Closes a session that was made for a run, if it is at rest, no schedule names it, and its run does
    /// not go on there. Returns whether it is closed now.
    pub fn close(&self, session: SessionId) -> Operation<bool> {
        self.0.operation("close a session", move |db| {
            db.execute(CLOSE, named_params! { ":session": session, ":channel": SCHEDULE_CHANNEL })
                .map(|changed| changed == 1)
        })
    }

    /// Deletes what is stored of a closed session whose folder is gone. Returns whether it was closed.
    ///
    /// # Errors
    /// [`DbError::Sqlite`](crate::DbError::Sqlite): nothing was deleted.
    pub fn forget(&self, session: SessionId) -> Operation<bool> {
        self.0.operation("forget a session", move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let params = named_params! { ":session": session };
            tx.execute("DELETE FROM notices WHERE session_id = :session", params)?;
            tx.execute("DELETE FROM approvals WHERE session_id = :session", params)?;
            tx.execute("DELETE FROM refused WHERE session_id = :session", params)?;
            tx.execute("DELETE FROM applied WHERE session_id = :session", params)?;
            let deleted = tx.execute(
                "DELETE FROM sessions WHERE id = :session AND status = 'closed'",
                params,
            )?;
            if deleted == 0 {
                return Ok(false);
            }
            tx.commit()?;
            Ok(true)
        })
    }
}
