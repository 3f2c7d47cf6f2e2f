//! `host.db` as an examiner looks at it: nothing is created, migrated or written.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, named_params};
use serde::Serialize;
use twobox_shared::ids::{AgentGroupId, RunnerId, SessionId};
use twobox_shared::time::UnixMillis;

use super::refused::{self, Refused};
use super::{DbError, failed};

/// What `host.db` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFacts {
    /// Why it must not be used.
    pub quarantine: Option<String>,
    /// When somebody has to look.
    pub next_due: Option<UnixMillis>,
    /// The incarnation whose end was not recorded.
    pub runner: Option<RunnerId>,
    /// When something last happened.
    pub last_active: UnixMillis,
    /// Rows that were refused and are only counted.
    pub refused: Vec<Refused>,
}

/// Opens `host.db` to look at it. What a killed host left in the write-ahead log stays there.
///
/// # Errors
/// [`DbError::Newer`] for a file of a newer build; [`DbError::Sqlite`] for one of an older build
/// that the host has not brought up to date yet.
pub fn open(path: &Path) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let left_behind = Path::new(&log).exists();
    let db = Connection::open_with_flags(path, flags).map_err(failed("open the database"))?;
    let configure = failed("configure the database");
    db.busy_timeout(Duration::from_secs(10)).map_err(&configure)?;
    db.pragma_update(None, "query_only", true).map_err(&configure)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, left_behind)
        .map_err(&configure)?;
    if super::has_no_tables(&db).map_err(&configure)? {
        return Err(DbError::Empty);
    }
    let found = super::version(&db).map_err(&configure)?;
    let known = u32::try_from(twobox_schema::HOST.len()).expect("a handful of migrations");
    match found {
        found if found > known => Err(DbError::Newer { found, known }),
        found if found < known => Err(DbError::Sqlite {
            action: "find the tables of this version; start the host once, it brings them up to \
                     date",
            source: rusqlite::Error::InvalidQuery,
        }),
        _ => Ok(db),
    }
}

/// What the checks need to know of a session.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn facts(db: &Connection, session: SessionId) -> Result<Option<SessionFacts>, DbError> {
    let from_row = |row: &Row<'_>| {
        Ok(SessionFacts {
            quarantine: row.get("quarantine_reason")?,
            next_due: row.get("next_due_at_ms")?,
            runner: row.get("runner_id")?,
            last_active: row.get("last_active_at_ms")?,
            refused: Vec::new(),
        })
    };
    let found = db
        .query_row(
            "SELECT quarantine_reason, next_due_at_ms, runner_id, last_active_at_ms
         FROM sessions WHERE id = :id",
            named_params! { ":id": session },
            from_row,
        )
        .optional()
        .map_err(failed("read a session"))?;
    let Some(facts) = found else { return Ok(None) };
    Ok(Some(SessionFacts { refused: refused::of_session(db, session)?, ..facts }))
}

/// Every session, with the agent group in whose folder it lies.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn folders(db: &Connection) -> Result<Vec<(AgentGroupId, SessionId)>, DbError> {
    db.prepare("SELECT agent_group_id, id FROM sessions ORDER BY id")
        .and_then(|mut select| {
            select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(failed("list sessions"))
}

/// Marks a session as due now, unless it is. Returns whether it was not.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn mark_due(db: &Connection, session: SessionId) -> Result<bool, DbError> {
    db.execute(
        "UPDATE sessions SET next_due_at_ms = 0 WHERE id = :id AND next_due_at_ms IS NOT 0",
        named_params! { ":id": session },
    )
    .map(|changed| changed == 1)
    .map_err(failed("mark a session"))
}

/// A notice that was not delivered, or perhaps was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadNotice {
    /// What it was about; unique in its session.
    pub cause: String,
    /// `failed` or `uncertain`.
    pub status: String,
    /// Where it was to go.
    pub channel_type: String,
    /// The chat.
    pub platform_id: String,
    /// The thread.
    pub thread_id: Option<String>,
    /// What it says.
    pub text: String,
    /// Calls of the channel without success.
    pub attempts: i64,
    /// Why.
    pub error: Option<String>,
    /// When it was written.
    pub created_at: UnixMillis,
}

/// The notices of a session that failed or whose end is unknown and that nobody has dropped, oldest
/// first.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn dead_notices(db: &Connection, session: SessionId) -> Result<Vec<DeadNotice>, DbError> {
    let from_row = |row: &Row<'_>| {
        Ok(DeadNotice {
            cause: row.get("cause")?,
            status: row.get("status")?,
            channel_type: row.get("channel_type")?,
            platform_id: row.get("platform_id")?,
            thread_id: row.get("thread_id")?,
            text: row.get("text")?,
            attempts: row.get("attempts")?,
            error: row.get("error")?,
            created_at: row.get("created_at_ms")?,
        })
    };
    db.prepare(
        "SELECT cause, status, channel_type, platform_id, thread_id, text, attempts, error,
                created_at_ms
         FROM notices
         WHERE session_id = :session AND status IN ('failed', 'uncertain')
           AND dropped_at_ms IS NULL
         ORDER BY created_at_ms, cause",
    )
    .and_then(|mut select| {
        select.query_map(named_params! { ":session": session }, from_row)?.collect()
    })
    .map_err(failed("list notices"))
}
