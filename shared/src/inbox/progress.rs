//! How far the host has come with the outbox: the cursor, and a record for each delivery.

use rusqlite::{OptionalExtension, Row, named_params};

use super::{Cursor, Delivery, DeliveryStatus, InboxReader, InboxTx, failed, instant};
use crate::ids::MessageId;
use crate::open::BoxError;
use crate::seq::Seq;
use crate::time::UnixMillis;

impl InboxTx<'_> {
    /// How far the host has come in the outbox.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn cursor(&self) -> Result<Cursor, BoxError> {
        self.conn()
            .prepare_cached("SELECT seq, seen FROM outbound_cursor WHERE id = 1")
            .and_then(|mut select| {
                select
                    .query_row([], |row| Ok(Cursor { seq: row.get(0)?, seen: row.get(1)? }))
                    .optional()
            })
            .map(Option::unwrap_or_default)
            .map_err(failed("read the cursor"))
    }

    /// Moves the cursor forward; neither number ever goes back.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn advance(&self, cursor: Cursor) -> Result<bool, BoxError> {
        self.change(
            "move the cursor",
            "INSERT INTO outbound_cursor (id, seq, seen) VALUES (1, :seq, max(:seq, :seen))
             ON CONFLICT (id) DO UPDATE
             SET seq = max(seq, excluded.seq), seen = max(seen, excluded.seen, excluded.seq)
             WHERE excluded.seq > seq OR excluded.seen > seen",
            named_params! { ":seq": cursor.seq, ":seen": cursor.seen },
        )
    }

    /// The highest number in the outbox when an attempt was charged last.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn charged(&self) -> Result<Seq, BoxError> {
        self.conn()
            .prepare_cached("SELECT charged FROM outbound_cursor WHERE id = 1")
            .and_then(|mut select| select.query_row([], |row| row.get(0)).optional())
            .map(Option::unwrap_or_default)
            .map_err(failed("read the fence"))
    }

    /// Says what it was; it never goes back.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn raise_charged(&self, charged: Seq) -> Result<bool, BoxError> {
        self.change(
            "move the fence",
            "UPDATE outbound_cursor SET charged = :charged WHERE id = 1 AND charged < :charged",
            named_params! { ":charged": charged },
        )
    }

    /// The delivery record of the outbox row `row`, which is a container's word and so any text.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn delivery(&self, row: &MessageId) -> Result<Option<Delivery>, BoxError> {
        const SELECT: &str = "
            SELECT status, attempts, next_attempt_at, delivered_at, error, platform_message_id
            FROM delivered WHERE message_out_id = :row";
        self.conn()
            .prepare_cached(SELECT)
            .and_then(|mut select| {
                select.query_row(named_params! { ":row": row }, record_of).optional()
            })
            .map_err(failed("read a delivery record"))
    }

    /// Up to `limit` rows whose records say that they are still to be sent, in no order that means
    /// anything.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn open_deliveries(&self, limit: usize) -> Result<Vec<MessageId>, BoxError> {
        // The condition is that of the index `delivered_open`, so that history costs nothing.
        self.conn()
            .prepare_cached(
                "SELECT message_out_id FROM delivered WHERE status IN ('held', 'sending')
                 LIMIT :limit",
            )
            .and_then(|mut select| {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                select.query_map(named_params! { ":limit": limit }, |row| row.get(0))?.collect()
            })
            .map_err(failed("list what is to be sent"))
    }

    /// Writes the delivery record of `row`. A settled record is final: returns `false` and changes
    /// nothing.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn record_delivery(&self, row: &MessageId, record: &Delivery) -> Result<bool, BoxError> {
        self.change(
            "record a delivery",
            "INSERT INTO delivered (message_out_id, platform_message_id, status, delivered_at,
               attempts, next_attempt_at, error)
             VALUES (:row, :platform_message_id, :status, :changed_at, :attempts,
               :next_attempt_at, :error)
             ON CONFLICT (message_out_id) DO UPDATE
             SET platform_message_id = excluded.platform_message_id, status = excluded.status,
                 delivered_at = excluded.delivered_at, attempts = excluded.attempts,
                 next_attempt_at = excluded.next_attempt_at, error = excluded.error
             WHERE status IN ('held', 'sending')",
            named_params! {
                ":row": row,
                ":platform_message_id": record.platform_message_id,
                ":status": record.status.as_str(),
                ":changed_at": record.changed_at.to_rfc3339(),
                ":attempts": record.attempts,
                ":next_attempt_at": record.next_attempt_at.map(UnixMillis::to_rfc3339),
                ":error": record.error,
            },
        )
    }
}

impl InboxReader {
    /// Up to `limit` rows that wait for their channel, with their records, the longest waiting first.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn waiting_deliveries(&self, limit: u32) -> Result<Vec<(MessageId, Delivery)>, BoxError> {
        self.conn()
            .prepare(
                "SELECT message_out_id, status, attempts, next_attempt_at, delivered_at, error,
                        platform_message_id
                 FROM delivered WHERE status IN ('held', 'sending')
                 ORDER BY delivered_at, message_out_id LIMIT :limit",
            )
            .and_then(|mut select| {
                let row = |row: &Row<'_>| Ok((row.get("message_out_id")?, record_of(row)?));
                select.query_map(named_params! { ":limit": limit }, row)?.collect()
            })
            .map_err(failed("list what waits for its channel"))
    }
}

fn record_of(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    let word: String = row.get("status")?;
    Ok(Delivery {
        status: DeliveryStatus::parse(&word).unwrap_or(DeliveryStatus::Failed),
        attempts: row.get::<_, Option<i64>>("attempts")?.unwrap_or(0),
        next_attempt_at: instant(row, "next_attempt_at")?,
        changed_at: instant(row, "delivered_at")?.unwrap_or_default(),
        error: row.get("error")?,
        platform_message_id: row.get("platform_message_id")?,
    })
}
