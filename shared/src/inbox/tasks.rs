//! The rows of tasks: what an agent asked to be done later, once or again and again.
//!
//! A task is a *series*; each time that it is due is an *occurrence*, a row of `messages_in` with the
//! series' id. One occurrence is live: it is `pending` or `paused` and, unless the task is done once
//! only, carries the recurrence. When it ends, the recurrence passes to the next one in the
//! transaction that takes in its end. An occurrence that was being worked on when its task was
//! changed is finished without one.
//!
//! What is to be done is decided by the host; each statement here repeats its guard.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, named_params};

use super::occurrence::{Amended, COLUMNS, NewOccurrence, NewTask, Occurrence};
use super::{InboxTx, failed};
use crate::content::{KIND_SYSTEM, KIND_TASK};
use crate::ids::MessageId;
use crate::open::BoxError;
use crate::seq::Seq;
use crate::time::UnixMillis;

/// What becomes of a live occurrence that is cancelled.
const CANCELLED: &str = "status = 'cancelled', recurrence = NULL, process_after = NULL";

impl InboxTx<'_> {
    /// The rows that carry a recurrence, oldest first: the live occurrences of series that go on, and
    /// those that have just ended.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn recurring(&self) -> Result<Vec<Occurrence>, BoxError> {
        self.conn()
            .prepare_cached(&format!(
                "{COLUMNS} WHERE recurrence IS NOT NULL AND series_id IS NOT NULL ORDER BY seq"
            ))
            .and_then(|mut select| select.query_map([], Occurrence::from_row)?.collect())
            .map_err(failed("list recurring tasks"))
    }

    /// The occurrences that are pending or paused, each with its content, oldest first.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn live_occurrences(&self) -> Result<Vec<(Occurrence, String)>, BoxError> {
        // A condition for each of two indexes, so that history costs nothing.
        let mut live = Vec::new();
        for state in ["status = 'pending'", "status = 'paused'"] {
            let select = format!("{COLUMNS} WHERE {state} AND series_id IS NOT NULL");
            let mut select =
                self.conn().prepare_cached(&select).map_err(failed("list live tasks"))?;
            let rows = select
                .query_map([], |row| Ok((Occurrence::from_row(row)?, row.get("content")?)))
                .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
                .map_err(failed("list live tasks"))?;
            live.extend(rows);
        }
        live.sort_by_key(|(occurrence, _)| occurrence.seq);
        Ok(live)
    }

    /// The occurrences that are paused, oldest first.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn paused(&self) -> Result<Vec<MessageId>, BoxError> {
        self.conn()
            .prepare_cached(
                "SELECT id FROM messages_in
                 WHERE status = 'paused' AND series_id IS NOT NULL ORDER BY seq",
            )
            .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
            .map_err(failed("list paused tasks"))
    }

    /// Those of `messages` that are cancelled or paused tasks, with their ended attempts.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn withdrawn(&self, messages: &[MessageId]) -> Result<HashMap<MessageId, i64>, BoxError> {
        let read = failed("look for cancelled messages");
        let mut select = self
            .conn()
            .prepare_cached(
                "SELECT tries FROM messages_in
                 WHERE id = :id AND series_id IS NOT NULL AND status IN ('paused', 'cancelled')",
            )
            .map_err(&read)?;
        let mut withdrawn = HashMap::new();
        for id in messages {
            let tries = select.query_row(named_params! { ":id": id }, |row| row.get(0)).optional();
            if let Some(tries) = tries.map_err(&read)? {
                withdrawn.insert(id.clone(), tries);
            }
        }
        Ok(withdrawn)
    }

    /// Begins a series.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn begin_series(&self, task: &NewTask, seen: Seq, now: UnixMillis) -> Result<(), BoxError> {
        let first = &task.first;
        self.must_change(
            "begin a task",
            "INSERT INTO messages_in (id, seq, kind, timestamp, status, process_after, recurrence,
               series_id, platform_id, channel_type, thread_id, content, zone, nominal_at,
               generation)
             VALUES (:id, :seq, :kind, :timestamp, :status, :nominal, :recurrence,
               :series, :platform_id, :channel_type, :thread_id, :content, :zone, :nominal,
               :generation)",
            named_params! {
                ":id": self.free_id(&first.id)?,
                ":seq": self.next_seq(seen)?,
                ":kind": KIND_TASK,
                ":timestamp": now.to_rfc3339(),
                ":status": first.status().as_str(),
                ":nominal": first.nominal.to_rfc3339(),
                ":recurrence": first.recurrence,
                ":series": task.series,
                ":platform_id": task.origin.platform_id,
                ":channel_type": task.origin.channel_type,
                ":thread_id": task.origin.thread_id,
                ":content": task.content,
                ":zone": first.zone,
                ":generation": first.generation,
            },
        )
    }

    /// Makes `next` the live occurrence of the series of `before`, with what that says unless there
    /// is other `content`.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`], also if there is no `before`.
    pub fn continue_series(
        &self,
        before: &MessageId,
        next: &NewOccurrence,
        content: Option<&str>,
        seen: Seq,
        now: UnixMillis,
    ) -> Result<(), BoxError> {
        self.must_change(
            "continue a task",
            "INSERT INTO messages_in (id, seq, kind, timestamp, status, process_after, recurrence,
               series_id, trigger, platform_id, channel_type, thread_id, content,
               source_session_id, zone, nominal_at, generation)
             SELECT :id, :seq, kind, :timestamp, :status, :nominal, :recurrence,
               series_id, trigger, platform_id, channel_type, thread_id,
               coalesce(:content, content), source_session_id, :zone, :nominal, :generation
             FROM messages_in WHERE id = :before",
            named_params! {
                ":before": before,
                ":id": self.free_id(&next.id)?,
                ":seq": self.next_seq(seen)?,
                ":timestamp": now.to_rfc3339(),
                ":status": next.status().as_str(),
                ":nominal": next.nominal.to_rfc3339(),
                ":recurrence": next.recurrence,
                ":content": content,
                ":zone": next.zone,
                ":generation": next.generation,
            },
        )
    }

    /// Takes the recurrence from an occurrence that was answered or failed. Returns whether it had
    /// one: only then there is to be a next occurrence.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn end_occurrence(&self, id: &MessageId) -> Result<bool, BoxError> {
        self.change(
            "end an occurrence",
            "UPDATE messages_in SET recurrence = NULL
             WHERE id = :id AND recurrence IS NOT NULL AND status IN ('completed', 'failed')",
            named_params! { ":id": id },
        )
    }

    /// Takes the recurrence from an occurrence that is being worked on and is to be finished.
    /// Returns whether it had one.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn detach_occurrence(&self, id: &MessageId) -> Result<bool, BoxError> {
        self.change(
            "detach an occurrence",
            "UPDATE messages_in SET recurrence = NULL
             WHERE id = :id AND recurrence IS NOT NULL AND status = 'pending'",
            named_params! { ":id": id },
        )
    }

    /// Cancels a live occurrence.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`], also if it is not live.
    pub fn cancel_occurrence(&self, id: &MessageId) -> Result<(), BoxError> {
        self.must_change(
            "cancel an occurrence",
            "UPDATE messages_in SET status = 'cancelled', recurrence = NULL, process_after = NULL
             WHERE id = :id AND status IN ('pending', 'paused')",
            named_params! { ":id": id },
        )
    }

    /// Lets an occurrence that is being worked on be finished as a message that belongs to no task.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`], also if it is not pending.
    pub fn release_occurrence(&self, id: &MessageId) -> Result<(), BoxError> {
        self.must_change(
            "release an occurrence",
            "UPDATE messages_in SET series_id = NULL, recurrence = NULL
             WHERE id = :id AND status = 'pending' AND series_id IS NOT NULL",
            named_params! { ":id": id },
        )
    }

    /// Cancels every live occurrence, and takes the recurrence from all that have one: no task of this
    /// session is left. Returns how many rows that were.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn end_all_tasks(&self) -> Result<usize, BoxError> {
        let mut ended = 0;
        // A statement for each of three indexes, so that history costs nothing.
        for (set, rows) in [
            (CANCELLED, "status = 'pending' AND series_id IS NOT NULL"),
            (CANCELLED, "status = 'paused' AND series_id IS NOT NULL"),
            ("recurrence = NULL", "recurrence IS NOT NULL"),
        ] {
            let update = format!("UPDATE messages_in SET {set} WHERE {rows}");
            ended += self.conn().execute(&update, []).map_err(failed("end all tasks"))?;
        }
        Ok(ended)
    }

    /// Whether there is anything for [`InboxTx::end_all_tasks`].
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn has_any_task(&self) -> Result<bool, BoxError> {
        self.conn()
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM messages_in WHERE recurrence IS NOT NULL)
                     OR EXISTS (SELECT 1 FROM messages_in
                                WHERE status = 'pending' AND series_id IS NOT NULL)
                     OR EXISTS (SELECT 1 FROM messages_in
                                WHERE status = 'paused' AND series_id IS NOT NULL)",
                [],
                |row| row.get(0),
            )
            .map_err(failed("look for tasks"))
    }

    /// Takes the recurrence from every row of a series: nothing follows. Returns from how many.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn end_series(&self, series: &str) -> Result<usize, BoxError> {
        self.conn()
            .prepare_cached(
                "UPDATE messages_in SET recurrence = NULL
                 WHERE recurrence IS NOT NULL AND series_id = :series",
            )
            .and_then(|mut update| update.execute(named_params! { ":series": series }))
            .map_err(failed("end a task"))
    }

    /// Pauses a pending occurrence.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`], also if it is not pending.
    pub fn pause_occurrence(&self, id: &MessageId) -> Result<(), BoxError> {
        self.must_change(
            "pause an occurrence",
            "UPDATE messages_in SET status = 'paused'
             WHERE id = :id AND status = 'pending' AND series_id IS NOT NULL",
            named_params! { ":id": id },
        )
    }

    /// Lets a paused occurrence go on, at the time that it stands for.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`], also if it is not paused.
    pub fn resume_occurrence(&self, id: &MessageId) -> Result<(), BoxError> {
        self.must_change(
            "resume an occurrence",
            "UPDATE messages_in SET status = 'pending'
             WHERE id = :id AND status = 'paused' AND series_id IS NOT NULL",
            named_params! { ":id": id },
        )
    }

    /// Changes a live occurrence, and not the time that it stands for.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`], also if it is not live.
    pub fn amend_occurrence(&self, id: &MessageId, amended: &Amended) -> Result<(), BoxError> {
        self.must_change(
            "change an occurrence",
            "UPDATE messages_in
             SET content = coalesce(:content, content), recurrence = :recurrence, zone = :zone
             WHERE id = :id AND status IN ('pending', 'paused') AND series_id IS NOT NULL",
            named_params! {
                ":id": id,
                ":content": amended.content,
                ":recurrence": amended.recurrence,
                ":zone": amended.zone,
            },
        )
    }

    /// How many messages of the host wait to be answered by the agent.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn waiting_wakes(&self) -> Result<u32, BoxError> {
        self.conn()
            .prepare_cached(
                "SELECT count(*) FROM messages_in
                 WHERE status = 'pending' AND trigger = 1 AND kind = :kind",
            )
            .and_then(|mut select| {
                select.query_row(named_params! { ":kind": KIND_SYSTEM }, |row| row.get(0))
            })
            .map_err(failed("count what wakes the agent"))
    }

    /// Gives up the oldest note that waits to be told to the agent as context, with what it says.
    /// Returns whether there was one.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn drop_oldest_note(&self) -> Result<bool, BoxError> {
        self.change(
            "drop a note",
            "UPDATE messages_in SET status = 'cancelled', content = '{}'
             WHERE id = (SELECT id FROM messages_in
                         WHERE status = 'pending' AND trigger = 0 AND kind = :kind
                         ORDER BY seq LIMIT 1)",
            named_params! { ":kind": KIND_SYSTEM },
        )
    }

    /// `id`, or one derived from it if a person's message has taken it.
    fn free_id(&self, id: &MessageId) -> Result<MessageId, BoxError> {
        let mut id = id.clone();
        while self.stored(&id)?.is_some() {
            id = super::writer::derived_id(&id, "taken");
        }
        Ok(id)
    }

    fn must_change(
        &self,
        action: &'static str,
        sql: &str,
        params: &[(&str, &dyn rusqlite::ToSql)],
    ) -> Result<(), BoxError> {
        match self.change(action, sql, params)? {
            true => Ok(()),
            false => Err(failed(action)(rusqlite::Error::StatementChangedRows(0))),
        }
    }
}

#[cfg(test)]
#[path = "tasks_tests.rs"]
mod tests;
