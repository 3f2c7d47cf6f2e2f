//! The runner's side: claiming messages, and answering them in fenced transactions.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, named_params};

use super::{Ack, AckStatus, Claim, NewRow, TurnEnd, ack_from_row, failed};
use crate::content::Chat;
use crate::ids::{MessageId, RunnerId};
use crate::open::{self, BoxError};
use crate::seq::Seq;
use crate::time::UnixMillis;

/// The runner's hand on its outbox, for one operation.
#[derive(Debug)]
pub struct OutboxWriter {
    conn: Connection,
    runner: RunnerId,
}

impl OutboxWriter {
    /// Opens, creates, migrates or repairs the outbox at `path`, in the name of `runner`.
    ///
    /// # Errors
    /// [`BoxError`] as for [`open::outbox_writer`].
    pub fn open(path: &Path, runner: RunnerId) -> Result<Self, BoxError> {
        Ok(Self { conn: open::outbox_writer(path)?, runner })
    }

    /// As [`OutboxWriter::open`]. An outbox that is not there yet is made of pages of `page_size` bytes.
    ///
    /// # Errors
    /// As for [`OutboxWriter::open`].
    pub fn open_with_pages(
        path: &Path,
        runner: RunnerId,
        page_size: Option<u32>,
    ) -> Result<Self, BoxError> {
        Ok(Self { conn: open::outbox_writer_with_pages(path, page_size)?, runner })
    }

    /// As [`OutboxWriter::open_with_pages`], for an operation that only reads, so that the host is not
    /// woken by its end. A write then fails.
    ///
    /// # Errors
    /// As for [`OutboxWriter::open`].
    pub fn open_to_read(
        path: &Path,
        runner: RunnerId,
        page_size: Option<u32>,
    ) -> Result<Self, BoxError> {
        Ok(Self { conn: open::outbox_owner(path, page_size)?, runner })
    }

    /// In whose name it writes.
    pub(super) fn runner(&self) -> RunnerId {
        self.runner
    }

    /// For the statements of `retention` and `used`.
    pub(crate) fn conn(&self) -> &Connection {
        &self.conn
    }

    /// As [`OutboxWriter::conn`].
    pub(crate) fn conn_mut(&mut self) -> &mut Connection {
        &mut self.conn
    }

    pub(super) fn begin(&mut self) -> Result<Transaction<'_>, BoxError> {
        self.conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed("begin an outbox transaction"))
    }

    /// The ack of `message`, if there is one.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn ack(&self, message: &MessageId) -> Result<Option<Ack>, BoxError> {
        self.conn
            .prepare_cached(
                "SELECT status, attempt, runner_id, failure, turns, status_changed
                 FROM processing_ack
                 WHERE message_id = :message",
            )
            .and_then(|mut select| {
                select.query_row(named_params! { ":message": message }, ack_from_row).optional()
            })
            .map_err(failed("read an ack"))
    }

    /// Claims messages for this runner. The claim rule is repeated in the statement, so what was
    /// completed or claimed in the meantime is left alone. Returns the claims that this runner now
    /// has, also those that it had before: a commit may be durable and yet report an error.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn claim(&mut self, wanted: &[Claim], now: UnixMillis) -> Result<Vec<Claim>, BoxError> {
        let runner = self.runner;
        let tx = self.begin()?;
        let mut made = Vec::with_capacity(wanted.len());
        for claim in wanted {
            let changed = tx
                .prepare_cached(
                    "INSERT INTO processing_ack
                       (message_id, status, status_changed, attempt, runner_id)
                     VALUES (:message, 'processing', :now, :attempt, :runner)
                     ON CONFLICT (message_id) DO UPDATE
                     SET status = 'processing', status_changed = excluded.status_changed,
                         attempt = excluded.attempt, runner_id = excluded.runner_id,
                         failure = NULL, turns = NULL
                     WHERE status <> 'completed' AND coalesce(attempt, 0) < excluded.attempt
                        OR status = 'processing' AND attempt = excluded.attempt
                           AND runner_id = excluded.runner_id",
                )
                .and_then(|mut upsert| {
                    upsert.execute(named_params! {
                        ":message": claim.message,
                        ":now": now.to_rfc3339(),
                        ":attempt": claim.attempt,
                        ":runner": runner,
                    })
                })
                .map_err(failed("claim a message"))?;
            if changed == 1 {
                made.push(claim.clone());
            }
        }
        tx.commit().map_err(failed("commit a claim"))?;
        Ok(made)
    }

    /// Sends one row in the middle of a turn. `floor` is the highest number read from the inbox. A row
    /// that is there already is not sent again: its commit was durable and yet reported an error.
    ///
    /// # Errors
    /// [`BoxError::Fenced`] if `claims` are no longer this runner's: nothing was sent, leave.
    pub fn send(
        &mut self,
        claims: &[Claim],
        row: &NewRow,
        floor: Seq,
        now: UnixMillis,
    ) -> Result<Seq, BoxError> {
        let runner = self.runner;
        let tx = self.begin()?;
        for claim in claims {
            require_claim(&tx, claim, runner)?;
        }
        let there = tx
            .prepare_cached("SELECT seq FROM messages_out WHERE id = :id")
            .and_then(|mut select| {
                select.query_row(named_params! { ":id": row.id }, |found| found.get(0)).optional()
            })
            .map_err(failed("look for a row"))?;
        if let Some(seq) = there {
            return Ok(seq);
        }
        let seq = insert_row(&tx, row, runner, floor, now)?;
        tx.commit().map_err(failed("commit a row"))?;
        Ok(seq)
    }

    /// Ends a turn in one transaction: all of its replies and acks, or nothing.
    ///
    /// # Errors
    /// [`BoxError::Fenced`] if a claim is no longer this runner's: the turn is discarded, leave.
    pub fn end_turn(
        &mut self,
        end: &TurnEnd<'_>,
        floor: Seq,
        now: UnixMillis,
    ) -> Result<(), BoxError> {
        let runner = self.runner;
        let tx = self.begin()?;
        let (status, failure) = match end.outcome {
            Ok(_) => (AckStatus::Completed, None),
            Err(failure) => (AckStatus::Failed, Some(failure.to_json())),
        };
        for claim in end.claims {
            require_claim(&tx, claim, runner)?;
            tx.prepare_cached(
                "UPDATE processing_ack
                 SET status = :status, status_changed = :now, failure = :failure, turns = :turns
                 WHERE message_id = :message",
            )
            .and_then(|mut update| {
                update.execute(named_params! {
                    ":status": status.as_str(),
                    ":now": now.to_rfc3339(),
                    ":failure": failure,
                    ":turns": (end.turns > 0).then_some(end.turns),
                    ":message": claim.message,
                })
            })
            .map_err(failed("ack a message"))?;
        }
        if let Ok(replies) = end.outcome {
            for reply in replies {
                insert_row(&tx, reply, runner, floor, now)?;
            }
            if let Some(continuation) = end.continuation {
                put_state(&tx, CONTINUATION, continuation, now)?;
            }
        }
        tx.commit().map_err(failed("commit a turn"))
    }

    /// Says which tool runs and for how long it may, or with `None` that none does, which costs no
    /// commit where none did.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn set_tool(
        &mut self,
        tool: Option<(&str, Duration)>,
        now: UnixMillis,
    ) -> Result<(), BoxError> {
        let Some((name, span)) = tool else {
            return self
                .conn
                .execute(
                    "UPDATE container_state
                     SET current_tool = NULL, tool_declared_timeout_ms = NULL,
                         tool_started_at = NULL, updated_at = :now
                     WHERE id = 1 AND current_tool IS NOT NULL",
                    named_params! { ":now": now.to_rfc3339() },
                )
                .map(|_| ())
                .map_err(failed("record that no tool runs"));
        };
        self.conn
            .execute(
                "INSERT INTO container_state
                   (id, current_tool, tool_declared_timeout_ms, tool_started_at, updated_at)
                 VALUES (1, :tool, :timeout_ms, :now, :now)
                 ON CONFLICT (id) DO UPDATE
                 SET current_tool = excluded.current_tool,
                     tool_declared_timeout_ms = excluded.tool_declared_timeout_ms,
                     tool_started_at = excluded.tool_started_at, updated_at = excluded.updated_at",
                named_params! {
                    ":tool": name,
                    ":timeout_ms": i64::try_from(span.as_millis()).unwrap_or(i64::MAX),
                    ":now": now.to_rfc3339(),
                },
            )
            .map(|_| ())
            .map_err(failed("record the tool"))
    }

    /// What the provider left under [`TurnEnd::continuation`].
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn continuation(&self) -> Result<Option<String>, BoxError> {
        self.conn
            .query_row("SELECT value FROM session_state WHERE key = ?1", [CONTINUATION], |row| {
                row.get(0)
            })
            .optional()
            .map_err(failed("read the continuation"))
    }

    /// Forgets the continuation, so that the next turn starts afresh.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn clear_continuation(&mut self) -> Result<(), BoxError> {
        self.conn
            .execute("DELETE FROM session_state WHERE key = ?1", [CONTINUATION])
            .map(|_| ())
            .map_err(failed("clear the continuation"))
    }

    /// What attempts before `claim` have already sent: rows of earlier attempts that answer the
    /// message, alone or among others. `seq` is the message's own number, below which no answer to
    /// it lies.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn already_sent(&self, claim: &Claim, seq: Seq) -> Result<Vec<Chat>, BoxError> {
        let read = failed("list what was sent");
        let mut select = self
            .conn
            .prepare_cached(
                "SELECT in_reply_to, content FROM messages_out
                 WHERE seq > :seq AND coalesce(attempt, 0) < :attempt AND kind <> 'system'
                 ORDER BY seq",
            )
            .map_err(&read)?;
        let params = named_params! { ":seq": seq, ":attempt": claim.attempt };
        let mut rows = select.query(params).map_err(&read)?;
        let mut sent = Vec::new();
        while let Some(row) = rows.next().map_err(&read)? {
            let named: Option<String> = row.get("in_reply_to").map_err(&read)?;
            let chat = Chat::from_content(&row.get::<_, String>("content").map_err(&read)?);
            let message = claim.message.as_str();
            if named.as_deref() == Some(message) || chat.answers.iter().any(|id| id == message) {
                sent.push(chat);
            }
        }
        Ok(sent)
    }
}

const CONTINUATION: &str = "continuation";

pub(super) fn require_claim(
    tx: &Transaction<'_>,
    claim: &Claim,
    runner: RunnerId,
) -> Result<(), BoxError> {
    let held: Option<i64> = tx
        .prepare_cached(
            "SELECT 1 FROM processing_ack
             WHERE message_id = :message AND status = 'processing'
               AND attempt = :attempt AND runner_id = :runner",
        )
        .and_then(|mut select| {
            let params = named_params! {
                ":message": claim.message,
                ":attempt": claim.attempt,
                ":runner": runner,
            };
            select.query_row(params, |row| row.get(0)).optional()
        })
        .map_err(failed("check a claim"))?;
    match held {
        Some(_) => Ok(()),
        None => Err(BoxError::Fenced { message: claim.message.to_string() }),
    }
}

fn insert_row(
    tx: &Transaction<'_>,
    row: &NewRow,
    runner: RunnerId,
    floor: Seq,
    now: UnixMillis,
) -> Result<Seq, BoxError> {
    let newest: Option<Seq> = tx
        .prepare_cached("SELECT max(seq) FROM messages_out")
        .and_then(|mut select| select.query_row([], |row| row.get(0)))
        .map_err(failed("find the newest row"))?;
    let seq = newest.unwrap_or_default().max(floor).next_odd();
    tx.prepare_cached(
        "INSERT INTO messages_out (id, seq, in_reply_to, timestamp, deliver_after, kind,
           platform_id, channel_type, thread_id, content, attempt, runner_id)
         VALUES (:id, :seq, :in_reply_to, :timestamp, :deliver_after, :kind,
           :platform_id, :channel_type, :thread_id, :content, :attempt, :runner)",
    )
    .and_then(|mut insert| {
        insert.execute(named_params! {
            ":id": row.id,
            ":seq": seq,
            ":in_reply_to": row.in_reply_to,
            ":timestamp": now.to_rfc3339(),
            ":deliver_after": row.deliver_after.map(UnixMillis::to_rfc3339),
            ":kind": row.kind,
            ":platform_id": row.destination.platform_id,
            ":channel_type": row.destination.channel_type,
            ":thread_id": row.destination.thread_id,
            ":content": row.content,
            ":attempt": row.attempt,
            ":runner": runner,
        })
    })
    .map_err(failed("write a row"))?;
    Ok(seq)
}

fn put_state(
    tx: &Transaction<'_>,
    key: &str,
    value: &str,
    now: UnixMillis,
) -> Result<(), BoxError> {
    tx.execute(
        "INSERT INTO session_state (key, value, updated_at) VALUES (:key, :value, :now)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        named_params! { ":key": key, ":value": value, ":now": now.to_rfc3339() },
    )
    .map(|_| ())
    .map_err(failed("save the provider's state"))
}
