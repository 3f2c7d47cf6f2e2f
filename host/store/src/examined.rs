//! Sessions and notices as an examiner looks at them.

use rusqlite::{OptionalExtension, Row, named_params};
use serde::Serialize;
use twobox_shared::ids::{AgentGroupId, RunnerId, SessionId};
use twobox_shared::time::UnixMillis;

use super::refused::{self, Refused};
use super::{Notices, Operation, Sessions, failed};

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

impl Sessions<'_> {
    /// What the checks need to know of a session.
    pub fn facts(&self, session: SessionId) -> Operation<Option<SessionFacts>> {
        self.0.compound(move |db| {
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
        })
    }

    /// Every session, with the agent group in whose folder it lies.
    pub fn folders(&self) -> Operation<Vec<(AgentGroupId, SessionId)>> {
        self.0.operation("list sessions", move |db| {
            db.prepare("SELECT agent_group_id, id FROM sessions ORDER BY id").and_then(
                |mut select| select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect(),
            )
        })
    }

    /// Marks a session as due now, unless it is. Returns whether it was not.
    pub fn mark_due(&self, session: SessionId) -> Operation<bool> {
        self.0.operation("mark a session", move |db| {
            db.execute(
                "UPDATE sessions SET next_due_at_ms = 0 WHERE id = :id AND next_due_at_ms IS NOT 0",
                named_params! { ":id": session },
            )
            .map(|changed| changed == 1)
        })
    }
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

impl Notices<'_> {
    /// The notices of a session that failed or whose end is unknown and that nobody has dropped, oldest
    /// first.
    pub fn dead(&self, session: SessionId) -> Operation<Vec<DeadNotice>> {
        self.0.operation("list notices", move |db| {
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
        })
    }
}
