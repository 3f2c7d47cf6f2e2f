//! What the host reads of its own messages: how far they are, where they were said, and which are open.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Row, named_params};

use super::{InboxTx, Origin, PendingMessage, Stored, failed, instant};
use crate::content::{Failure, KIND_CHAT, KIND_SYSTEM};
use crate::ids::MessageId;
use crate::open::BoxError;
use crate::seq::Seq;

impl PendingMessage {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            seq: row.get("seq")?,
            kind: row.get("kind")?,
            tries: row.get("tries")?,
            forgiven: row.get("forgiven")?,
            trigger: row.get::<_, i64>("trigger")? != 0,
            process_after: instant(row, "process_after")?,
            origin: Origin::from_row(row)?,
            of_run: row.get("of_run")?,
            of_task: row.get("of_task")?,
        })
    }
}

impl InboxTx<'_> {
    /// How far the message `id` is; `None` if it is not there.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn find(&self, id: &MessageId) -> Result<Option<Stored>, BoxError> {
        let from_row = |row: &Row<'_>| {
            let failure: Option<String> = row.get("failure")?;
            Ok(Stored {
                seq: row.get("seq")?,
                status: row.get("status")?,
                failure: failure.as_deref().map(Failure::from_json),
            })
        };
        self.conn()
            .prepare_cached("SELECT seq, status, failure FROM messages_in WHERE id = :id")
            .and_then(|mut select| {
                select.query_row(named_params! { ":id": id }, from_row).optional()
            })
            .map_err(failed("look for a message"))
    }

    /// Where each of `messages` was said that a channel handed in. Left out is what is not there, or not
    /// any more, and what the host made: tasks, runs and notes have an answer that goes somewhere, but
    /// nobody said them there, and the chat knows no message of their ids.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn origins(
        &self,
        messages: impl IntoIterator<Item = MessageId>,
    ) -> Result<HashMap<MessageId, Origin>, BoxError> {
        let read = failed("look for where messages were said");
        let mut select = self
            .conn()
            .prepare_cached(
                "SELECT channel_type, platform_id, thread_id FROM messages_in
                 WHERE id = :id AND kind = :kind
                   AND run_id IS NULL AND series_id IS NULL AND source_session_id IS NULL",
            )
            .map_err(&read)?;
        let mut origins = HashMap::new();
        for id in messages {
            let params = named_params! { ":id": id, ":kind": KIND_CHAT };
            let origin = select.query_row(params, Origin::from_row);
            if let Some(origin) = origin.optional().map_err(&read)? {
                origins.insert(id, origin);
            }
        }
        Ok(origins)
    }

    /// All pending messages, oldest first.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn pending(&self) -> Result<Vec<PendingMessage>, BoxError> {
        const SELECT: &str = "
            SELECT id, seq, kind, tries, forgiven, trigger, process_after,
                   channel_type, platform_id, thread_id, run_id IS NOT NULL AS of_run,
                   series_id IS NOT NULL AS of_task
            FROM messages_in WHERE status = 'pending' ORDER BY seq";
        self.conn()
            .prepare_cached(SELECT)
            .and_then(|mut select| select.query_map([], PendingMessage::from_row)?.collect())
            .map_err(failed("list pending messages"))
    }

    /// The `limit` newest messages that were taken back, oldest first, without tasks, scheduled runs and context. A
    /// container may still work on one.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn taken_back(&self, limit: u32) -> Result<Vec<PendingMessage>, BoxError> {
        const SELECT: &str = "
            SELECT id, seq, kind, tries, forgiven, trigger, process_after,
                   channel_type, platform_id, thread_id, run_id IS NOT NULL AS of_run,
                   series_id IS NOT NULL AS of_task
            FROM messages_in
            WHERE status = 'cancelled' AND trigger = 1 AND run_id IS NULL AND series_id IS NULL
            ORDER BY seq DESC LIMIT :limit";
        let params = named_params! { ":limit": limit };
        let mut taken_back: Vec<PendingMessage> = self
            .conn()
            .prepare_cached(SELECT)
            .and_then(|mut select| select.query_map(params, PendingMessage::from_row)?.collect())
            .map_err(failed("list messages that were taken back"))?;
        taken_back.reverse();
        Ok(taken_back)
    }

    /// How many messages from the host wait to be told to the agent as context.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn waiting_notes(&self) -> Result<u32, BoxError> {
        self.conn()
            .prepare_cached(
                "SELECT count(*) FROM messages_in
                 WHERE status = 'pending' AND trigger = 0 AND kind = :kind",
            )
            .and_then(|mut select| {
                select.query_row(named_params! { ":kind": KIND_SYSTEM }, |row| row.get(0))
            })
            .map_err(failed("count notes"))
    }

    /// The messages that ended as failed and can be retried, oldest first.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn failed(&self) -> Result<Vec<(MessageId, Failure)>, BoxError> {
        let from_row = |row: &Row<'_>| {
            let failure: Option<String> = row.get(1)?;
            Ok((row.get(0)?, Failure::from_json(failure.as_deref().unwrap_or_default())))
        };
        self.conn()
            .prepare(
                "SELECT id, failure FROM messages_in
                 WHERE status = 'failed' AND run_id IS NULL ORDER BY seq",
            )
            .and_then(|mut select| select.query_map([], from_row)?.collect())
            .map_err(failed("list failed messages"))
    }

    /// The highest number in the inbox.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn high_water(&self) -> Result<Seq, BoxError> {
        self.conn()
            .prepare_cached("SELECT max(seq) FROM messages_in")
            .and_then(|mut select| select.query_row([], |row| row.get::<_, Option<Seq>>(0)))
            .map(Option::unwrap_or_default)
            .map_err(failed("find the newest message"))
    }
}
