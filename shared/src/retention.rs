//! Forgetting what was settled long ago, so that a session's files do not grow for ever. Each side
//! deletes from its own file only, and the two follow each other without a word between them:
//!
//! 1. The host goes by the age of its own rows, and writes down how far that reached
//!    ([`Forgotten`]). It deletes the delivery records of rows that lie behind its cursor.
//! 2. The runner deletes what lies within that reach: acks of messages that are settled, and rows
//!    without a delivery record, but none that a message's next attempt has to be told of.
//! 3. The host deletes settled messages without an ack. While the ack is there, the message stays:
//!    a platform that hands the same id in again would otherwise find it answered already.
//!
//! Each side keeps its newest row, for numbers go on above it. What is pending, claimed,
//! undelivered or not acked is touched by nobody.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};

use crate::columns;
use crate::ids::MessageId;
use crate::inbox::{DeliveryStatus, InboxReader, InboxTx};
use crate::open::BoxError;
use crate::outbox::{OutboxWriter, UntrustedOutbox};
use crate::seq::Seq;
use crate::time::UnixMillis;

/// How many rows of a table one pass looks at.
pub const PASS_MAX: u32 = 500;

/// Up to which numbers what was settled may be gone. Neither number ever goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// Messages of the inbox, with their acks.
    pub messages: Seq,
    /// Delivery records of rows of the outbox, with the rows.
    pub rows: Seq,
}

fn failed(action: &'static str) -> impl Fn(rusqlite::Error) -> BoxError {
    move |source| BoxError::sqlite(action, source)
}

const SETTLED: &str = "status IN ('completed', 'failed', 'cancelled')";

pub(crate) fn forgotten(conn: &Connection) -> rusqlite::Result<Forgotten> {
    conn.prepare_cached("SELECT messages, rows FROM forgotten WHERE id = 1")?
        .query_row([], |row| Ok(Forgotten { messages: row.get(0)?, rows: row.get(1)? }))
        .optional()
        .map(Option::unwrap_or_default)
}

/// The host's half.
impl InboxTx<'_> {
    /// Up to where something may be gone.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn forgotten(&self) -> Result<Forgotten, BoxError> {
        forgotten(self.conn()).map_err(failed("read how far history reaches"))
    }

    /// Says so; neither number goes back. Returns whether that changed anything.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn forget_up_to(&self, reach: Forgotten) -> Result<bool, BoxError> {
        self.conn()
            .execute(
                "INSERT INTO forgotten (id, messages, rows) VALUES (1, :messages, :rows)
                 ON CONFLICT (id) DO UPDATE
                 SET messages = max(messages, excluded.messages), rows = max(rows, excluded.rows)
                 WHERE excluded.messages > messages OR excluded.rows > rows",
                named_params! { ":messages": reach.messages, ":rows": reach.rows },
            )
            .map(|changed| changed == 1)
            .map_err(failed("say how far history reaches"))
    }

    /// The number before the first of the next [`PASS_MAX`] messages behind `from` that was accepted
    /// at or after `horizon`.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn messages_before(&self, horizon: UnixMillis, from: Seq) -> Result<Seq, BoxError> {
        let read = failed("look for old messages");
        let mut select = self
            .conn()
            .prepare_cached(
                "SELECT seq, timestamp FROM messages_in WHERE seq > :from ORDER BY seq LIMIT :max",
            )
            .map_err(&read)?;
        let params = named_params! { ":from": from, ":max": PASS_MAX };
        let mut rows = select.query(params).map_err(&read)?;
        let mut last = from;
        while let Some(row) = rows.next().map_err(&read)? {
            let accepted = UnixMillis::parse(&row.get::<_, String>(1).map_err(&read)?);
            if accepted.is_some_and(|accepted| accepted >= horizon) {
                break;
            }
            last = row.get(0).map_err(&read)?;
        }
        Ok(last)
    }

    /// The oldest settled messages up to number `until`, without the newest message of all.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn settled_messages(&self, until: Seq) -> Result<Vec<MessageId>, BoxError> {
        self.conn()
            .prepare_cached(&format!(
                "SELECT id FROM messages_in
                 WHERE seq <= :until AND {SETTLED} AND seq < (SELECT max(seq) FROM messages_in)
                 ORDER BY seq LIMIT :max"
            ))
            .and_then(|mut select| {
                let params = named_params! { ":until": until, ":max": PASS_MAX };
                select.query_map(params, |row| row.get(0))?.collect()
            })
            .map_err(failed("look for settled messages"))
    }

    /// Deletes a settled message. Returns whether it was one.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn forget_message(&self, id: &MessageId) -> Result<bool, BoxError> {
        self.conn()
            .prepare_cached(&format!("DELETE FROM messages_in WHERE id = :id AND {SETTLED}"))
            .and_then(|mut delete| delete.execute(named_params! { ":id": id }))
            .map(|changed| changed == 1)
            .map_err(failed("forget a message"))
    }

    /// Of the [`PASS_MAX`] oldest delivery records, the settled ones from before `horizon`.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn settled_deliveries(&self, horizon: UnixMillis) -> Result<Vec<MessageId>, BoxError> {
        let read = failed("look for old delivery records");
        let mut select = self
            .conn()
            .prepare_cached(
                "SELECT message_out_id, status, delivered_at FROM delivered
                 ORDER BY rowid LIMIT :max",
            )
            .map_err(&read)?;
        let mut rows = select.query(named_params! { ":max": PASS_MAX }).map_err(&read)?;
        let mut old = Vec::new();
        while let Some(row) = rows.next().map_err(&read)? {
            let status: String = row.get(1).map_err(&read)?;
            let changed = UnixMillis::parse(&row.get::<_, String>(2).map_err(&read)?);
            if DeliveryStatus::parse(&status).is_some_and(DeliveryStatus::is_settled)
                && changed.is_some_and(|changed| changed < horizon)
            {
                old.push(row.get(0).map_err(&read)?);
            }
        }
        Ok(old)
    }

    /// Deletes a settled delivery record. Returns whether it was one.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn forget_delivery(&self, row: &MessageId) -> Result<bool, BoxError> {
        self.conn()
            .prepare_cached(
                "DELETE FROM delivered
                 WHERE message_out_id = :row AND status NOT IN ('held', 'sending')",
            )
            .and_then(|mut delete| delete.execute(named_params! { ":row": row }))
            .map(|changed| changed == 1)
            .map_err(failed("forget a delivery record"))
    }
}

/// What the host has to know of the outbox for its half.
impl UntrustedOutbox<'_> {
    /// The numbers of the given rows; those that are not there are left out. They are the
    /// container's word: compare them, trust them with nothing.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`], or [`BoxError::Refused`] for a number that is none.
    pub fn numbers_of<'m>(
        &self,
        rows: impl IntoIterator<Item = &'m MessageId>,
    ) -> Result<HashMap<MessageId, Seq>, BoxError> {
        let read = failed("look for rows of the outbox");
        let mut numbers = HashMap::new();
        if columns::of_table(self.conn(), "messages_out").map_err(&read)?.is_empty() {
            return Ok(numbers);
        }
        let mut select = self
            .conn()
            .prepare("SELECT seq FROM messages_out WHERE id = :id LIMIT 1")
            .map_err(&read)?;
        for id in rows {
            let seq = select.query_row(named_params! { ":id": id }, |row| row.get(0)).optional();
            if let Some(seq) = seq.map_err(&read)? {
                numbers.insert(id.clone(), seq);
            }
        }
        Ok(numbers)
    }
}

/// What one pass of the runner would delete.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forgettable {
    /// The messages whose acks can go.
    pub acks: Vec<MessageId>,
    /// The rows that can go, and their attachments with them.
    pub rows: Vec<MessageId>,
}

impl Forgettable {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.acks.is_empty() && self.rows.is_empty()
    }
}

/// The runner's half.
impl OutboxWriter {
    /// What a pass would delete, within the reach that `inbox` tells.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn forgettable(&self, inbox: &InboxReader) -> Result<Forgettable, BoxError> {
        let read = failed("look for what can be forgotten");
        let Some(reach) = inbox.reach()? else { return Ok(Forgettable::default()) };
        let mut acked = self
            .conn()
            .prepare_cached("SELECT 1 FROM processing_ack WHERE message_id = :id")
            .map_err(&read)?;
        let mut acks = Vec::new();
        for message in inbox.settled_up_to(reach.messages)? {
            if acked.exists(named_params! { ":id": message }).map_err(&read)? {
                acks.push(message);
            }
        }
        let mut select = self
            .conn()
            .prepare_cached(
                "SELECT id FROM messages_out
                 WHERE seq <= :until AND seq < (SELECT max(seq) FROM messages_out)
                 ORDER BY seq LIMIT :max",
            )
            .map_err(&read)?;
        let params = named_params! { ":until": reach.rows, ":max": PASS_MAX };
        let mut found = select.query(params).map_err(&read)?;
        let mut rows = Vec::new();
        while let Some(row) = found.next().map_err(&read)? {
            let row: MessageId = row.get(0).map_err(&read)?;
            if !inbox.has_record(&row)? {
                rows.push(row);
            }
        }
        Ok(Forgettable { acks, rows })
    }

    /// Deletes acks of settled messages, and rows, as [`OutboxWriter::forgettable`] chose them.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`]: nothing was deleted.
    pub fn forget(&mut self, chosen: &Forgettable) -> Result<(), BoxError> {
        let failed = failed("forget what is settled");
        let tx = self
            .conn_mut()
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&failed)?;
        for message in &chosen.acks {
            tx.prepare_cached("DELETE FROM processing_ack WHERE message_id = :id")
                .and_then(|mut delete| delete.execute(named_params! { ":id": message }))
                .map_err(&failed)?;
            // What was used of what people allowed for it. Who has used it stands in a second line.
            tx.prepare_cached(
                "DELETE FROM session_state WHERE key LIKE 'used:%'
                   AND substr(value || char(10), 1, length(:id) + 1) = :id || char(10)",
            )
            .and_then(|mut delete| delete.execute(named_params! { ":id": message }))
            .map_err(&failed)?;
        }
        for row in &chosen.rows {
            tx.prepare_cached("DELETE FROM messages_out WHERE id = :id")
                .and_then(|mut delete| delete.execute(named_params! { ":id": row }))
                .map_err(&failed)?;
        }
        tx.commit().map_err(failed)
    }
}

/// What the runner has to know of the inbox for its half.
impl InboxReader {
    /// How far the runner may forget; `None` with a host that does not. Rows end at the host's cursor,
    /// and before the oldest message that has been tried: its next attempt is told what was sent.
    fn reach(&self) -> Result<Option<Forgotten>, BoxError> {
        let read = failed("read how far history reaches");
        if columns::of_table(self.conn(), "forgotten").map_err(&read)?.is_empty() {
            return Ok(None);
        }
        let told = forgotten(self.conn()).map_err(&read)?;
        let rows_end: Seq = self
            .conn()
            .query_row(
                "SELECT min(coalesce((SELECT seq FROM outbound_cursor WHERE id = 1), 0),
                            coalesce((SELECT min(seq) FROM messages_in
                                      WHERE status = 'pending' AND tries > 0), :forgotten),
                            coalesce((SELECT min(seq) FROM messages_in
                                      WHERE status = 'paused' AND tries > 0), :forgotten))",
                named_params! { ":forgotten": told.rows },
                |row| row.get(0),
            )
            .map_err(&read)?;
        Ok(Some(Forgotten { rows: told.rows.min(rows_end), ..told }))
    }

    fn settled_up_to(&self, until: Seq) -> Result<Vec<MessageId>, BoxError> {
        self.conn()
            .prepare(&format!(
                "SELECT id FROM messages_in WHERE seq <= :until AND {SETTLED}
                 ORDER BY seq LIMIT :max"
            ))
            .and_then(|mut select| {
                let params = named_params! { ":until": until, ":max": PASS_MAX };
                select.query_map(params, |row| row.get(0))?.collect()
            })
            .map_err(failed("look for settled messages"))
    }

    fn has_record(&self, row: &MessageId) -> Result<bool, BoxError> {
        self.conn()
            .prepare_cached("SELECT 1 FROM delivered WHERE message_out_id = :row")
            .and_then(|mut select| select.exists(named_params! { ":row": row }))
            .map_err(failed("look for a delivery record"))
    }
}
