//! What ended without success: failed messages, deliveries that failed or whose end is unknown, and
//! what their rows say. And what a person has done about it: each is tried once more, or dropped,
//! which it stays.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Row, named_params};
use serde::Serialize;

use crate::columns::{self, Column, column, column_or};
use crate::content::{CONTENT_MAX, Failure};
use crate::ids::MessageId;
use crate::inbox::{DeliveryStatus, InboxReader, InboxTx, Origin, instant};
use crate::open::BoxError;
use crate::outbox::UntrustedOutbox;
use crate::time::UnixMillis;

/// How the error of a row begins that is sent once more, and of which the agent was told that it did
/// not arrive, or perhaps not. Behind it stands why it failed last. A final record does not have it.
pub const ONCE_MORE: &str = "sent once more after: ";

/// A message that ended as failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadMessage {
    /// Its id.
    pub id: MessageId,
    /// When it was accepted.
    pub timestamp: Option<UnixMillis>,
    /// Ended attempts.
    pub tries: i64,
    /// Where it came from.
    pub origin: Origin,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// JSON.
    pub content: String,
}

/// A row of the outbox that was not delivered, or perhaps was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadDelivery {
    /// The row's id.
    pub id: MessageId,
    /// `failed` or `uncertain`.
    pub status: String,
    /// When that was recorded.
    pub changed_at: Option<UnixMillis>,
    /// Calls of the channel without success.
    pub attempts: i64,
    /// Why.
    pub error: Option<String>,
}

/// What a row of the outbox says, by the container's word.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Payload {
    /// The message that it answers.
    pub in_reply_to: Option<String>,
    /// Where it wants to go.
    pub destination: Origin,
    /// JSON.
    pub content: Option<String>,
}

/// What has become of something that may have ended without success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Work on it goes on.
    Open,
    /// It was answered, or delivered.
    Succeeded,
    /// It ended without success.
    Dead {
        /// Whether it may have arrived all the same.
        uncertain: bool,
        /// Why.
        error: Option<String>,
    },
    /// So it did, and a person has given it up.
    Dropped,
}

impl Fate {
    /// The fate of what is delivered.
    pub fn of_delivery(status: DeliveryStatus, error: Option<String>, dropped: bool) -> Self {
        match status {
            DeliveryStatus::Held | DeliveryStatus::Sending => Self::Open,
            DeliveryStatus::Delivered => Self::Succeeded,
            DeliveryStatus::Failed | DeliveryStatus::Uncertain if dropped => Self::Dropped,
            DeliveryStatus::Failed => Self::Dead { uncertain: false, error },
            DeliveryStatus::Uncertain => Self::Dead { uncertain: true, error },
        }
    }
}

/// What a person's word does. Each change repeats its guard and reports whether a row changed;
/// failed messages are given new attempts by [`InboxTx::revive`].
impl InboxTx<'_> {
    /// What has become of a message; `None` if there is none.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn fate_of_message(&self, id: &MessageId) -> Result<Option<Fate>, BoxError> {
        let status: Option<String> = self.one(
            "look for a message",
            "SELECT status FROM messages_in WHERE id = :id",
            id,
            |row| row.get(0),
        )?;
        Ok(status.map(|status| match status.as_str() {
            "completed" => Fate::Succeeded,
            "failed" => Fate::Dead { uncertain: false, error: None },
            "cancelled" => Fate::Dropped,
            _ => Fate::Open,
        }))
    }

    /// What has become of a row of the outbox; `None` if nothing was ever recorded of it.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn fate_of_delivery(&self, row: &MessageId) -> Result<Option<Fate>, BoxError> {
        self.one(
            "read a delivery record",
            "SELECT status, error, dropped_at IS NOT NULL FROM delivered
             WHERE message_out_id = :id",
            row,
            |row| {
                let word: String = row.get(0)?;
                let status = DeliveryStatus::parse(&word).unwrap_or(DeliveryStatus::Failed);
                Ok(Fate::of_delivery(status, row.get(1)?, row.get(2)?))
            },
        )
    }

    /// Up to `limit` rows that are [`Fate::Dead`], in the order in which they were recorded.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn dead_rows(&self, limit: usize) -> Result<Vec<MessageId>, BoxError> {
        self.conn()
            .prepare(
                "SELECT message_out_id FROM delivered
                 WHERE status IN ('failed', 'uncertain') AND dropped_at IS NULL
                 ORDER BY rowid LIMIT :limit",
            )
            .and_then(|mut select| {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                select.query_map(named_params! { ":limit": limit }, |row| row.get(0))?.collect()
            })
            .map_err(|source| BoxError::sqlite("list what failed", source))
    }

    /// Lets a row be sent once more: its record is as if it had never been tried, but for the error,
    /// which says [`ONCE_MORE`] that the agent believes it lost. It does not where the error was
    /// `untold`, of which agents hear nothing. Returns whether the row had failed, or perhaps, and was
    /// not dropped.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn redrive_delivery(
        &self,
        row: &MessageId,
        untold: &str,
        now: UnixMillis,
    ) -> Result<bool, BoxError> {
        self.change(
            "redrive a delivery",
            "UPDATE delivered
             SET status = 'held', delivered_at = :now, attempts = 0, next_attempt_at = NULL,
                 error = CASE WHEN error = :untold THEN NULL
                              ELSE :once_more || coalesce(error, 'nobody knows why') END
             WHERE message_out_id = :id AND status IN ('failed', 'uncertain')
               AND dropped_at IS NULL",
            named_params! {
                ":id": row,
                ":untold": untold,
                ":once_more": ONCE_MORE,
                ":now": now.to_rfc3339(),
            },
        )
    }

    /// Gives a row up. Returns whether it had failed, or perhaps, and was not dropped before.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn drop_delivery(&self, row: &MessageId, now: UnixMillis) -> Result<bool, BoxError> {
        self.change(
            "drop a delivery",
            "UPDATE delivered SET dropped_at = :now
             WHERE message_out_id = :id AND status IN ('failed', 'uncertain')
               AND dropped_at IS NULL",
            named_params! { ":id": row, ":now": now.to_rfc3339() },
        )
    }

    /// Gives a message up. Returns whether it had failed.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn drop_message(&self, id: &MessageId) -> Result<bool, BoxError> {
        self.change(
            "drop a message",
            "UPDATE messages_in SET status = 'cancelled' WHERE id = :id AND status = 'failed'",
            named_params! { ":id": id },
        )
    }

    fn one<T>(
        &self,
        action: &'static str,
        sql: &str,
        id: &MessageId,
        from_row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, BoxError> {
        self.conn()
            .prepare_cached(sql)
            .and_then(|mut select| {
                select.query_row(named_params! { ":id": id }, from_row).optional()
            })
            .map_err(|source| BoxError::sqlite(action, source))
    }
}

impl InboxReader {
    /// Up to `limit` failed messages, the newest, in order of their numbers.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn dead_messages(&self, limit: u32) -> Result<Vec<DeadMessage>, BoxError> {
        const COLUMNS: &[Column] = &[
            column("id"),
            column("timestamp"),
            column_or("tries", "0"),
            column("channel_type"),
            column("platform_id"),
            column("thread_id"),
            column("failure"),
            column("content"),
        ];
        let from_row = |row: &Row<'_>| {
            let failure: Option<String> = row.get("failure")?;
            Ok(DeadMessage {
                id: row.get("id")?,
                timestamp: instant(row, "timestamp")?,
                tries: row.get::<_, Option<i64>>("tries")?.unwrap_or(0),
                origin: Origin::from_row(row)?,
                failure: failure.map(|failure| Failure::from_json(&failure)),
                content: row.get("content")?,
            })
        };
        self.dead("messages_in", COLUMNS, "status = 'failed' ORDER BY seq", limit, from_row)
    }

    /// Up to `limit` deliveries that failed or whose end is unknown and that nobody has dropped, the
    /// last ones, in the order in which that was recorded.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn dead_deliveries(&self, limit: u32) -> Result<Vec<DeadDelivery>, BoxError> {
        const COLUMNS: &[Column] = &[
            column("message_out_id"),
            column_or("status", "'delivered'"),
            column("delivered_at"),
            column_or("attempts", "0"),
            column("error"),
            column("dropped_at"),
        ];
        let from_row = |row: &Row<'_>| {
            Ok(DeadDelivery {
                id: row.get("message_out_id")?,
                status: row.get("status")?,
                changed_at: instant(row, "delivered_at")?,
                attempts: row.get::<_, Option<i64>>("attempts")?.unwrap_or(0),
                error: row.get("error")?,
            })
        };
        let filter =
            "status IN ('failed', 'uncertain') AND dropped_at IS NULL ORDER BY delivered_at";
        self.dead("delivered", COLUMNS, filter, limit, from_row)
    }

    fn dead<T>(
        &self,
        table: &'static str,
        wanted: &[Column],
        filter: &'static str,
        limit: u32,
        from_row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, BoxError> {
        let read = |source| BoxError::sqlite("list what failed", source);
        let Some(select) = columns::select(self.conn(), table, wanted).map_err(read)? else {
            return Ok(Vec::new());
        };
        let mut rows: Vec<T> = self
            .conn()
            .prepare(&format!("{select} WHERE {filter} DESC LIMIT :limit"))
            .and_then(|mut select| {
                select.query_map(named_params! { ":limit": limit }, |row| from_row(row))?.collect()
            })
            .map_err(read)?;
        rows.reverse();
        Ok(rows)
    }
}

impl UntrustedOutbox<'_> {
    /// What the given rows say. A row that is not there, or says something other than text, is left
    /// out.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn payloads<'m>(
        &self,
        rows: impl IntoIterator<Item = &'m MessageId>,
    ) -> Result<HashMap<MessageId, Payload>, BoxError> {
        const COLUMNS: &[Column] = &[
            column("in_reply_to"),
            column("channel_type"),
            column("platform_id"),
            column("thread_id"),
            column("content"),
        ];
        let read = |source| BoxError::sqlite("read the outbox", source);
        let mut payloads = HashMap::new();
        let Some(select) = columns::select(self.conn(), "messages_out", COLUMNS).map_err(read)?
        else {
            return Ok(payloads);
        };
        let mut select =
            self.conn().prepare(&format!("{select} WHERE id = :id LIMIT 1")).map_err(read)?;
        for id in rows {
            let found = select.query_row(named_params! { ":id": id }, |row| {
                Ok(Payload {
                    in_reply_to: row.get("in_reply_to")?,
                    destination: Origin::from_row(row)?,
                    content: row
                        .get::<_, Option<String>>("content")?
                        .filter(|content| content.len() <= CONTENT_MAX),
                })
            });
            match found.optional() {
                Ok(Some(payload)) => drop(payloads.insert(id.clone(), payload)),
                Ok(None) => {}
                Err(error) if error.sqlite_error_code().is_none() => {} // not text
                Err(error) => return Err(read(error)),
            }
        }
        Ok(payloads)
    }
}
