//! The outbox: every statement on `outbound.db`.
//!
//! The runner is its only writer and holds an [`OutboxWriter`]. The host reads it through
//! [`read_untrusted`], which takes every value for an attack: a wrong type, an impossible number or
//! a database that brings code of its own is refused, and the session quarantined.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{
    Connection, OptionalExtension, Row, Transaction, TransactionBehavior, named_params,
};

use crate::columns::{self, Column, column};
use crate::content::{CONTENT_MAX, Chat, Failure, shorten};
use crate::ids::{IdSource, MessageId, RunnerId};
use crate::inbox::{Origin, instant};
use crate::open::{self, BoxError};
use crate::seq::Seq;
use crate::time::UnixMillis;

/// How far a runner has come with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AckStatus {
    /// A claim: this attempt is being worked on.
    #[default]
    Processing,
    /// Answered; the replies are committed with the ack.
    Completed,
    /// This attempt ended without an answer.
    Failed,
}

impl AckStatus {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Processing, Self::Completed, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

/// A row of `processing_ack`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ack {
    /// How far.
    pub status: AckStatus,
    /// Which attempt; `None` from another implementation's runner.
    pub attempt: Option<i64>,
    /// Which incarnation; `None` from another implementation's runner.
    pub runner: Option<RunnerId>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// How many model turns it took.
    pub turns: Option<i64>,
    /// When it was written, by the container's word.
    pub changed_at: Option<UnixMillis>,
}

/// A row of `messages_out`, as the host takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutRow {
    /// Its id, unique in this outbox only.
    pub id: MessageId,
    /// Its number.
    pub seq: Seq,
    /// The message that it answers.
    pub in_reply_to: Option<String>,
    /// When it was written, by the container's word.
    pub timestamp: Option<UnixMillis>,
    /// Not before this instant.
    pub deliver_after: Option<UnixMillis>,
    /// `chat` or `system`.
    pub kind: String,
    /// Where it wants to go; all empty means where the session answers by default.
    pub destination: Origin,
    /// JSON.
    pub content: String,
    /// Which incarnation wrote it.
    pub runner: Option<RunnerId>,
}

/// What the container says about the tool that it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolState {
    /// The tool's name, while one runs.
    pub current: Option<String>,
    /// For how long it may run, as declared.
    pub declared_timeout: Option<Duration>,
}

fn failed(action: &'static str) -> impl Fn(rusqlite::Error) -> BoxError {
    move |source| BoxError::sqlite(action, source)
}

/// The claim on one message: what a fenced commit requires to be still true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The message.
    pub message: MessageId,
    /// The attempt.
    pub attempt: i64,
}

/// A row that the runner wants to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRow {
    /// The message that it answers.
    pub in_reply_to: Option<MessageId>,
    /// `chat` or `system`.
    pub kind: String,
    /// Where it goes.
    pub destination: Origin,
    /// JSON.
    pub content: String,
    /// Not before this instant.
    pub deliver_after: Option<UnixMillis>,
    /// The attempt that sends it.
    pub attempt: i64,
    /// Its id; a fresh one when the runner has no file of that name to keep.
    pub id: MessageId,
}

/// How a turn ended, for [`OutboxWriter::end_turn`].
#[derive(Debug)]
pub struct TurnEnd<'a> {
    /// The messages whose turn it was.
    pub claims: &'a [Claim],
    /// Its replies, or why there are none.
    pub outcome: Result<&'a [NewRow], &'a Failure>,
    /// Model turns used.
    pub turns: i64,
    /// What the provider wants to find again next time. Ignored for a failed turn.
    pub continuation: Option<&'a str>,
}

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

    /// Opens the outbox at `path` for an operation that only reads, so that the host is not woken
    /// by its end. A write then fails.
    ///
    /// # Errors
    /// As for [`OutboxWriter::open`].
    pub fn open_to_read(path: &Path, runner: RunnerId) -> Result<Self, BoxError> {
        Ok(Self { conn: open::outbox_owner(path)?, runner })
    }

    fn begin(&mut self) -> Result<Transaction<'_>, BoxError> {
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

    /// Sends one row in the middle of a turn. `floor` is the highest number read from the inbox.
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
                    ":turns": end.turns,
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
                 WHERE seq > :seq AND coalesce(attempt, 0) < :attempt ORDER BY seq",
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

/// How much of a tool's name the host keeps, in characters.
const TOOL_NAME_MAX: usize = 200;

const CONTINUATION: &str = "continuation";

/// A fresh row id.
pub fn new_row_id(ids: &(impl IdSource + ?Sized)) -> MessageId {
    MessageId::from(ids.uuid())
}

fn require_claim(tx: &Transaction<'_>, claim: &Claim, runner: RunnerId) -> Result<(), BoxError> {
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

fn ack_from_row(row: &Row<'_>) -> rusqlite::Result<Ack> {
    let word: String = row.get("status")?;
    let failure: Option<String> = row.get("failure")?;
    let runner: Option<String> = row.get("runner_id")?;
    Ok(Ack {
        // A word that nobody knows is no answer; it blocks like a claim until it is charged.
        status: AckStatus::parse(&word).unwrap_or(AckStatus::Processing),
        attempt: row.get("attempt")?,
        runner: runner.and_then(|text| text.parse().ok()),
        failure: failure.map(|text| Failure::from_json(&text)),
        turns: row.get("turns")?,
        changed_at: instant(row, "status_changed")?,
    })
}

/// The longest text in any other column of a container's row than `content`, in bytes.
pub const FIELD_MAX: usize = 4096;

const ACK_COLUMNS: &[Column] = &[
    column("message_id"),
    column("status"),
    column("attempt"),
    column("runner_id"),
    column("failure"),
    column("turns"),
    column("status_changed"),
];

const ROW_COLUMNS: &[Column] = &[
    column("id"),
    column("seq"),
    column("in_reply_to"),
    column("timestamp"),
    column("deliver_after"),
    column("recurrence"),
    column("kind"),
    column("platform_id"),
    column("channel_type"),
    column("thread_id"),
    column("content"),
    column("runner_id"),
];

/// A read transaction on a database that a container wrote.
#[derive(Debug)]
pub struct UntrustedOutbox<'a> {
    conn: &'a Connection,
}

/// Where and how [`read_untrusted`] reads.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// The file itself.
    Live,
    /// A repaired copy in this empty private folder, within a quota in bytes: only when the runtime
    /// has confirmed that no process of the session lives.
    Copy {
        /// The folder.
        scratch: &'a Path,
        /// Bytes.
        quota: u64,
    },
}

/// Reads a container's outbox in one read transaction, within `patience`. `None` if there is no
/// outbox yet.
///
/// # Errors
/// [`BoxError::Refused`] and others whose remedy is quarantine for anything that an honest runner
/// does not write; [`BoxError::HotJournal`] as for [`open::outbox_reader`].
pub fn read_untrusted<T>(
    path: &Path,
    source: Source<'_>,
    patience: Duration,
    work: impl FnOnce(&UntrustedOutbox<'_>) -> Result<T, BoxError>,
) -> Result<Option<T>, BoxError> {
    // A look before the open only tells "not there yet" from "refused"; it guards nothing.
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(meta) if meta.len() == 0 && meta.is_file() => return Ok(None), // created, not committed
        _ => {}
    }
    let run = |conn: &Connection| {
        refuse_code(conn)?;
        work(&UntrustedOutbox { conn })
    };
    match source {
        Source::Live => open::outbox_reader(path, patience, run),
        Source::Copy { scratch, quota } => open::outbox_copy(path, scratch, quota, patience, run),
    }
    .map(Some)
}

/// Views, triggers, virtual tables and generated columns are code, and an honest runner has none.
/// The words in `sqlite_schema` are the container's own; what SQLite holds it to is that only an
/// ordinary table or index has a root page.
fn refuse_code(conn: &Connection) -> Result<(), BoxError> {
    let refused = |reason: String| Err(BoxError::Refused { reason });
    let foreign: Option<String> = conn
        .query_row(
            "SELECT substr(type || ' ' || name, 1, 100) FROM sqlite_schema
             WHERE type NOT IN ('table', 'index')
                OR typeof(rootpage) <> 'integer' OR rootpage < 1 LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()
        .map_err(failed("read the outbox's schema"))?;
    if let Some(what) = foreign {
        return refused(format!("it contains the {what}"));
    }
    for table in ["messages_out", "processing_ack", "container_state"] {
        let columns = columns::of_table(conn, table).map_err(failed("read the outbox's schema"))?;
        if let Some((name, _)) = columns.iter().find(|(_, hidden)| **hidden != 0) {
            return refused(format!("column {table}.{name} is generated or hidden"));
        }
    }
    Ok(())
}

impl UntrustedOutbox<'_> {
    /// The acks of the given messages.
    ///
    /// # Errors
    /// [`BoxError::Refused`] for values of an unexpected type.
    pub fn acks<'m>(
        &self,
        messages: impl IntoIterator<Item = &'m MessageId>,
    ) -> Result<HashMap<MessageId, Ack>, BoxError> {
        let read = failed("read acks");
        let Some(select) =
            columns::select(self.conn, "processing_ack", ACK_COLUMNS).map_err(&read)?
        else {
            return Ok(HashMap::new());
        };
        let mut statement = self
            .conn
            .prepare(&format!("{select} WHERE message_id = :message LIMIT 1"))
            .map_err(&read)?;
        let mut acks = HashMap::new();
        for message in messages {
            let ack = statement
                .query_row(named_params! { ":message": message }, ack_from_row)
                .optional()
                .map_err(refused_value("processing_ack"))?;
            if let Some(ack) = ack {
                acks.insert(message.clone(), ack);
            }
        }
        Ok(acks)
    }

    /// Up to `limit` rows with a number above `after`, in order of their numbers. Numbers must be
    /// plausible above `high_water`, the highest that either side has used so far.
    ///
    /// # Errors
    /// [`BoxError::Refused`] for a row that no honest runner writes.
    pub fn rows(&self, after: Seq, high_water: Seq, limit: u32) -> Result<Vec<OutRow>, BoxError> {
        let read = failed("read rows");
        let Some(select) =
            columns::select(self.conn, "messages_out", ROW_COLUMNS).map_err(&read)?
        else {
            return Ok(Vec::new());
        };
        // NULL is greater than nothing and would be lost in silence, as would a number that lies
        // below every cursor. The index, where there is one, answers both at once.
        for lost in ["seq IS NULL", "seq < 1"] {
            let found = self
                .conn
                .prepare(&format!("{select} WHERE {lost} LIMIT 1"))
                .and_then(|mut select| select.exists([]))
                .map_err(&read)?;
            if found {
                return Err(BoxError::Refused {
                    reason: format!("a row in messages_out has {lost}"),
                });
            }
        }
        // A seq that is not a number compares as greater than every number, so it is read here and
        // refused below.
        let mut statement = self
            .conn
            .prepare(&format!("{select} WHERE seq > :after ORDER BY seq LIMIT :limit"))
            .map_err(&read)?;
        let mut rows =
            statement.query(named_params! { ":after": after, ":limit": limit }).map_err(&read)?;
        let mut found: Vec<OutRow> = Vec::new();
        while let Some(row) = rows.next().map_err(&read)? {
            let row = out_row(row, high_water)?;
            if found.last().is_some_and(|last| last.seq >= row.seq) {
                return Err(BoxError::Refused {
                    reason: format!("seq {} is not unique", row.seq.0),
                });
            }
            found.push(row);
        }
        Ok(found)
    }

    /// What the container says about its tool.
    ///
    /// # Errors
    /// [`BoxError::Refused`] for values of an unexpected type.
    pub fn tool(&self) -> Result<ToolState, BoxError> {
        const COLUMNS: &[Column] =
            &[column("id"), column("current_tool"), column("tool_declared_timeout_ms")];
        let Some(select) = columns::select(self.conn, "container_state", COLUMNS)
            .map_err(failed("read the tool"))?
        else {
            return Ok(ToolState::default());
        };
        self.conn
            .query_row(&format!("{select} WHERE id = 1 LIMIT 1"), [], |row| {
                let timeout_ms: Option<i64> = row.get("tool_declared_timeout_ms")?;
                Ok(ToolState {
                    current: row
                        .get::<_, Option<String>>("current_tool")?
                        .map(|name| shorten(&name, TOOL_NAME_MAX)),
                    declared_timeout: timeout_ms
                        .and_then(|ms| u64::try_from(ms).ok())
                        .map(Duration::from_millis),
                })
            })
            .optional()
            .map(Option::unwrap_or_default)
            .map_err(refused_value("container_state"))
    }
}

fn refused_value(table: &'static str) -> impl Fn(rusqlite::Error) -> BoxError {
    move |source| match source.sqlite_error_code() {
        Some(_) => BoxError::sqlite("read the outbox", source),
        None => BoxError::Refused { reason: format!("{table}: {source}") },
    }
}

fn out_row(row: &Row<'_>, high_water: Seq) -> Result<OutRow, BoxError> {
    let refused = |reason: String| BoxError::Refused { reason };
    let value = refused_value("messages_out");
    let seq = match row.get_ref("seq").map_err(&value)? {
        ValueRef::Integer(seq) => Seq(seq),
        other => return Err(refused(format!("seq is {:?}, not an integer", other.data_type()))),
    };
    if !seq.plausible_outbound(high_water) {
        return Err(refused(format!(
            "seq {} is not an odd number a little above {}",
            seq.0, high_water.0
        )));
    }
    let text = |name: &'static str| -> Result<Option<String>, BoxError> {
        let text = row.get::<_, Option<String>>(name).map_err(&value)?;
        let max = if name == "content" { CONTENT_MAX } else { FIELD_MAX };
        match text {
            Some(long) if long.len() > max => {
                Err(refused(format!("{name} of seq {} is larger than {max} bytes", seq.0)))
            }
            text => Ok(text),
        }
    };
    let time = |name: &'static str| -> Result<Option<UnixMillis>, BoxError> {
        match text(name)? {
            None => Ok(None),
            Some(written) => UnixMillis::parse(&written)
                .map(Some)
                .ok_or_else(|| refused(format!("{name} of seq {} is not a time", seq.0))),
        }
    };
    let required = |name: &'static str| {
        text(name)?.ok_or_else(|| refused(format!("{name} of seq {} is missing", seq.0)))
    };
    let id = MessageId::parse(&required("id")?).map_err(|error| refused(error.to_string()))?;
    if text("recurrence")?.is_some() {
        return Err(refused(format!("row {id} has a recurrence, which no outbox row may have")));
    }
    Ok(OutRow {
        id,
        seq,
        in_reply_to: text("in_reply_to")?,
        timestamp: UnixMillis::parse(&required("timestamp")?),
        deliver_after: time("deliver_after")?,
        kind: required("kind")?,
        destination: Origin {
            channel_type: text("channel_type")?,
            platform_id: text("platform_id")?,
            thread_id: text("thread_id")?,
        },
        content: required("content")?,
        runner: text("runner_id")?.and_then(|runner| runner.parse().ok()),
    })
}
