//! Sessions: who talks to whom, what their container is, and when somebody has to look at them.
//!
//! `next_due_at_ms` is the durable mark that start-up and the safety net go by. It is set before
//! anything is begun that must not be forgotten, and cleared only by a sweep that found nothing
//! left to do.

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use twobox_shared::ids::{AgentGroupId, MessagingGroupId, RunnerId, SessionId};
use twobox_shared::time::UnixMillis;

use super::{DbError, failed};
use crate::channel::Place;

/// The mark that says "now".
pub const DUE_NOW: UnixMillis = UnixMillis(0);

/// Why the host told a container to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// It broke a limit: the attempt counts.
    Limit,
    /// The host needed it gone: the attempt is forgiven.
    Host,
}

impl StopCause {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Host => "host",
        }
    }
}

/// A session, as its task needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Whose conversation.
    pub agent_group: AgentGroupId,
    /// The agent group's folder name.
    pub agent_folder: String,
    /// With which chat.
    pub messaging_group: MessagingGroupId,
    /// The chat's channel.
    pub channel_type: String,
    /// The chat on that channel.
    pub platform_id: String,
    /// The thread, or empty.
    pub thread_id: String,
    /// Why it must not be used, if it must not.
    pub quarantine: Option<String>,
    /// Whether it is being deleted: nothing may be stored there any more.
    pub closed: bool,
    /// When somebody has to look.
    pub next_due_at: Option<UnixMillis>,
    /// The incarnation that was started last and whose end was not recorded yet.
    pub runner: Option<RunnerId>,
    /// Why that incarnation was told to leave, if it was.
    pub stop_cause: Option<StopCause>,
    /// Starts in a row that led to nothing.
    pub failed_starts: i64,
    /// No start before this instant.
    pub start_after: Option<UnixMillis>,
}

impl SessionRecord {
    /// Where its agent answers.
    pub fn home(&self) -> Place {
        Place {
            channel_type: self.channel_type.clone(),
            platform_id: self.platform_id.clone(),
            thread_id: Some(self.thread_id.clone()).filter(|thread| !thread.is_empty()),
        }
    }

    const SELECT: &str = "
        SELECT s.id, s.agent_group_id, g.folder, s.messaging_group_id, m.channel_type,
               m.platform_id, s.thread_id, s.quarantine_reason, s.next_due_at_ms, s.runner_id,
               s.stop_requested, s.failed_starts, s.start_after_ms, s.status = 'closed' AS closed
        FROM sessions s
        JOIN agent_groups g ON g.id = s.agent_group_id
        JOIN messaging_groups m ON m.id = s.messaging_group_id";

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let cause: Option<String> = row.get("stop_requested")?;
        Ok(Self {
            id: row.get("id")?,
            agent_group: row.get("agent_group_id")?,
            agent_folder: row.get("folder")?,
            messaging_group: row.get("messaging_group_id")?,
            channel_type: row.get("channel_type")?,
            platform_id: row.get("platform_id")?,
            thread_id: row.get("thread_id")?,
            quarantine: row.get("quarantine_reason")?,
            closed: row.get("closed")?,
            next_due_at: row.get("next_due_at_ms")?,
            runner: row.get("runner_id")?,
            stop_cause: cause.map(|word| match word.as_str() {
                "host" => StopCause::Host,
                _ => StopCause::Limit,
            }),
            failed_starts: row.get("failed_starts")?,
            start_after: row.get("start_after_ms")?,
        })
    }
}

/// The session with this id.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn find(db: &Connection, id: SessionId) -> Result<Option<SessionRecord>, DbError> {
    db.prepare_cached(&format!("{} WHERE s.id = :id", SessionRecord::SELECT))
        .and_then(|mut select| {
            select.query_row(named_params! { ":id": id }, SessionRecord::from_row).optional()
        })
        .map_err(failed("find a session"))
}

/// The session of `agent` with the chat `messaging_group` and thread key `thread`, created as `fresh`
/// if it is new. Two callers at once get the same one.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn resolve(
    db: &Connection,
    agent: AgentGroupId,
    messaging_group: MessagingGroupId,
    thread: &str,
    fresh: SessionId,
    now: UnixMillis,
) -> Result<SessionId, DbError> {
    let select = |db: &Connection| {
        db.prepare_cached(
            "SELECT id FROM sessions
             WHERE agent_group_id = :agent AND messaging_group_id = :chat AND thread_id = :thread",
        )
        .and_then(|mut select| {
            let params =
                named_params! { ":agent": agent, ":chat": messaging_group, ":thread": thread };
            select.query_row(params, |row| row.get(0)).optional()
        })
        .map_err(failed("look for a session"))
    };
    if let Some(id) = select(db)? {
        return Ok(id);
    }
    db.execute(
        "INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, created_at_ms,
           last_active_at_ms)
         VALUES (:id, :agent, :chat, :thread, :now, :now)
         ON CONFLICT (agent_group_id, messaging_group_id, thread_id) DO NOTHING",
        named_params! {
            ":id": fresh,
            ":agent": agent,
            ":chat": messaging_group,
            ":thread": thread,
            ":now": now,
        },
    )
    .map_err(failed("create a session"))?;
    select(db)?.ok_or(DbError::Sqlite {
        action: "find the session that was just created",
        source: rusqlite::Error::QueryReturnedNoRows,
    })
}

/// The sessions that somebody has to look at before `until`, most urgent first. One with a notice
/// that nobody looks after is due: it was stored beside a task that cleared the mark just then.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn due(db: &Connection, until: UnixMillis) -> Result<Vec<SessionId>, DbError> {
    db.prepare_cached(
        "SELECT id, next_due_at_ms AS due FROM sessions
         WHERE next_due_at_ms IS NOT NULL AND next_due_at_ms <= :until
         UNION
         SELECT id, 0 FROM sessions
         WHERE next_due_at_ms IS NULL
           AND id IN (SELECT session_id FROM notices WHERE status IN ('held', 'sending'))
         ORDER BY due",
    )
    .and_then(|mut select| {
        select.query_map(named_params! { ":until": until }, |row| row.get(0))?.collect()
    })
    .map_err(failed("list due sessions"))
}

/// The sessions with anything outstanding at all, now or later.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn outstanding(db: &Connection) -> Result<Vec<SessionId>, DbError> {
    due(db, UnixMillis(i64::MAX))
}

/// Says when somebody has to look at a session next; `None` if nothing is left to do.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn mark(db: &Connection, id: SessionId, next: Option<UnixMillis>) -> Result<(), DbError> {
    change(
        db,
        "mark a session",
        "UPDATE sessions SET next_due_at_ms = :next WHERE id = :id",
        named_params! { ":id": id, ":next": next },
    )
}

/// Records that `runner` is about to be started, and marks the session as due until its end is
/// recorded.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn record_start(
    db: &Connection,
    id: SessionId,
    runner: RunnerId,
    now: UnixMillis,
) -> Result<(), DbError> {
    change(
        db,
        "record a start",
        "UPDATE sessions
         SET runner_id = :runner, runner_started_at_ms = :now, stop_requested = NULL,
             next_due_at_ms = 0, last_active_at_ms = :now
         WHERE id = :id",
        named_params! { ":id": id, ":runner": runner, ":now": now },
    )
}

/// Records that the session's incarnation is being told to leave, and why.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn record_stop(
    db: &Connection,
    id: SessionId,
    runner: RunnerId,
    cause: StopCause,
) -> Result<(), DbError> {
    change(
        db,
        "record a stop",
        "UPDATE sessions SET stop_requested = :cause WHERE id = :id AND runner_id = :runner",
        named_params! { ":id": id, ":runner": runner, ":cause": cause.as_str() },
    )
}

/// What is kept about starts that led to nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartTrouble {
    /// How many in a row.
    pub failed_starts: i64,
    /// No start before this instant.
    pub start_after: Option<UnixMillis>,
    /// Why the last one failed.
    pub error: Option<String>,
}

/// Records that the session's incarnation is gone and its files were read after that.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn record_end(db: &Connection, id: SessionId, trouble: &StartTrouble) -> Result<(), DbError> {
    change(
        db,
        "record a container's end",
        "UPDATE sessions
         SET runner_id = NULL, runner_started_at_ms = NULL, stop_requested = NULL,
             failed_starts = :failed_starts, start_after_ms = :start_after, start_error = :error
         WHERE id = :id",
        named_params! {
            ":id": id,
            ":failed_starts": trouble.failed_starts,
            ":start_after": trouble.start_after,
            ":error": trouble.error,
        },
    )
}

/// Records that a runner does its work, so that earlier failed starts are history.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn clear_start_trouble(db: &Connection, id: SessionId) -> Result<(), DbError> {
    change(
        db,
        "clear a session's failed starts",
        "UPDATE sessions SET failed_starts = 0, start_after_ms = NULL, start_error = NULL
         WHERE id = :id",
        named_params! { ":id": id },
    )
}

/// Takes a session out of use, with the reason; the first reason stays.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn quarantine(db: &Connection, id: SessionId, reason: &str) -> Result<(), DbError> {
    change(
        db,
        "quarantine a session",
        "UPDATE sessions
         SET status = 'quarantined', quarantine_reason = coalesce(quarantine_reason, :reason)
         WHERE id = :id",
        named_params! { ":id": id, ":reason": reason },
    )
}

/// Puts a quarantined session back into use, on a person's word.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn release(db: &Connection, id: SessionId) -> Result<(), DbError> {
    change(
        db,
        "release a session",
        "UPDATE sessions
         SET status = 'active', quarantine_reason = NULL, next_due_at_ms = 0, failed_starts = 0,
             start_after_ms = NULL, start_error = NULL
         WHERE id = :id",
        named_params! { ":id": id },
    )
}

fn change(
    db: &Connection,
    action: &'static str,
    sql: &str,
    params: &[(&str, &dyn rusqlite::ToSql)],
) -> Result<(), DbError> {
    let changed = db
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(params))
        .map_err(failed(action))?;
    match changed {
        1 => Ok(()),
        _ => {
            Err(DbError::Sqlite { action, source: rusqlite::Error::StatementChangedRows(changed) })
        }
    }
}
