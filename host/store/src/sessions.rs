//! Sessions: who talks to whom, what their container is, and when somebody has to look at them.
//!
//! `next_due_at_ms` is the durable mark that start-up and the safety net go by. It is set before
//! anything is begun that must not be forgotten, and cleared only by a sweep that found nothing
//! left to do.

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use twobox_shared::ids::{AgentGroupId, MessagingGroupId, RunnerId, SessionId};
use twobox_shared::time::UnixMillis;

use super::schedules::exactly_one;
use super::word::word_or_null;
use super::{DbError, Operation, Sessions, failed};
use twobox_model::channel::Address;
use twobox_model::seats::{Seat, Sender};
use twobox_model::words;

/// The mark that says "now".
pub const DUE_NOW: UnixMillis = UnixMillis(0);

words! {
    /// Why the host told a container to leave.
    StopCause {
        /// It broke a limit: the attempt counts.
        Limit = "limit",
        /// The host needed it gone: the attempt is forgiven.
        Host = "host",
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
    /// Whether its agent was removed: what waits there is given up, and nothing is started.
    pub agent_removed: bool,
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
    pub fn reply_address(&self) -> Address {
        Address {
            channel_type: self.channel_type.clone(),
            platform_id: self.platform_id.clone(),
            thread_id: Some(self.thread_id.clone()).filter(|thread| !thread.is_empty()),
        }
    }

    /// For whom a place for its container is.
    pub fn seat(&self, sender: Option<Sender>) -> Seat {
        Seat { group: self.agent_group, chat: self.messaging_group, sender }
    }

    const SELECT: &str = "
        SELECT s.id, s.agent_group_id, g.folder, s.messaging_group_id, m.channel_type,
               m.platform_id, s.thread_id, s.quarantine_reason, s.next_due_at_ms, s.runner_id,
               s.stop_requested, s.failed_starts, s.start_after_ms, s.status = 'closed' AS closed,
               g.removed_at_ms IS NOT NULL AS agent_removed
        FROM sessions s
        JOIN agent_groups g ON g.id = s.agent_group_id
        JOIN messaging_groups m ON m.id = s.messaging_group_id";

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
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
            agent_removed: row.get("agent_removed")?,
            next_due_at: row.get("next_due_at_ms")?,
            runner: row.get("runner_id")?,
            stop_cause: word_or_null(row, "stop_requested")?,
            failed_starts: row.get("failed_starts")?,
            start_after: row.get("start_after_ms")?,
        })
    }
}

impl Sessions<'_> {
    /// The session with this id.
    pub fn find(&self, id: SessionId) -> Operation<Option<SessionRecord>> {
        self.0.compound(move |db| find(db, id))
    }

    /// Whether the agent of a session was removed.
    pub fn agent_removed(&self, id: SessionId) -> Operation<bool> {
        self.0.operation("look whether an agent was removed", move |db| {
            db.prepare_cached(
                "SELECT g.removed_at_ms IS NOT NULL FROM sessions s
                 JOIN agent_groups g ON g.id = s.agent_group_id WHERE s.id = :id",
            )
            .and_then(|mut select| {
                select.query_row(named_params! { ":id": id }, |row| row.get(0)).optional()
            })
            .map(|removed| removed.unwrap_or(true))
        })
    }

    /// The sessions of removed agents that somebody has to look at.
    pub fn of_removed_agents(&self) -> Operation<Vec<SessionId>> {
        self.0.operation("list the sessions of removed agents", move |db| {
            db.prepare_cached(
                "SELECT s.id FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id
                 WHERE g.removed_at_ms IS NOT NULL AND s.next_due_at_ms IS NOT NULL",
            )
            .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        })
    }

    /// The sessions that somebody has to look at before `until`, most urgent first. One with a notice
    /// that nobody looks after is due: it was stored beside a task that cleared the mark just then.
    pub fn due(&self, until: UnixMillis) -> Operation<Vec<SessionId>> {
        self.0.compound(move |db| due(db, until))
    }

    /// The sessions with anything outstanding at all, now or later.
    pub fn outstanding(&self) -> Operation<Vec<SessionId>> {
        self.0.compound(move |db| due(db, UnixMillis(i64::MAX)))
    }

    /// Says when somebody has to look at a session next; `None` if nothing is left to do.
    pub fn mark(&self, id: SessionId, next: Option<UnixMillis>) -> Operation<()> {
        self.0.compound(move |db| mark(db, id, next))
    }

    /// Records that `runner` is about to be started, and marks the session as due until its end is
    /// recorded.
    pub fn record_start(&self, id: SessionId, runner: RunnerId, now: UnixMillis) -> Operation<()> {
        self.0.operation("record a start", move |db| {
            change(
                db,
                "UPDATE sessions
                 SET runner_id = :runner, runner_started_at_ms = :now, stop_requested = NULL,
                     next_due_at_ms = 0, last_active_at_ms = :now
                 WHERE id = :id",
                named_params! { ":id": id, ":runner": runner, ":now": now },
            )
        })
    }

    /// Records that the session's incarnation is being told to leave, and why.
    pub fn record_stop(&self, id: SessionId, runner: RunnerId, cause: StopCause) -> Operation<()> {
        self.0.operation("record a stop", move |db| {
            let params = named_params! { ":id": id, ":runner": runner, ":cause": cause.as_str() };
            change(db, RECORD_STOP, params)
        })
    }

    /// Records that the session's incarnation is gone and its files were read after that.
    pub fn record_end(&self, id: SessionId, trouble: &StartTrouble) -> Operation<()> {
        let trouble = trouble.to_owned();
        self.0.operation("record a container's end", move |db| {
            change(
                db,
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
        })
    }

    /// Records that a runner does its work, so that earlier failed starts are history.
    pub fn clear_start_trouble(&self, id: SessionId) -> Operation<()> {
        self.0.operation("clear a session's failed starts", move |db| {
            change(
                db,
                "UPDATE sessions SET failed_starts = 0, start_after_ms = NULL, start_error = NULL
                 WHERE id = :id",
                named_params! { ":id": id },
            )
        })
    }

    /// Takes a session out of use, with the reason; the first reason stays. `false` for one that is closed:
    /// it is out of use, and its deletion must not wait for a person.
    pub fn quarantine(&self, id: SessionId, reason: &str) -> Operation<bool> {
        let reason = reason.to_owned();
        self.0.operation("quarantine a session", move |db| {
            let changed = db
                .prepare_cached(
                    "UPDATE sessions
                     SET status = 'quarantined', quarantine_reason = coalesce(quarantine_reason, :reason)
                     WHERE id = :id AND status <> 'closed'",
                )
                .and_then(|mut update| {
                    update.execute(named_params! { ":id": id, ":reason": reason })
                })?;
            Ok(changed == 1)
        })
    }

    /// Puts a quarantined session back into use, on a person's word. `false` for one that is closed: what
    /// is half deleted is never used again.
    pub fn release(&self, id: SessionId) -> Operation<bool> {
        self.0.operation("release a session", move |db| {
            let changed = db
                .prepare_cached(
                    "UPDATE sessions
                     SET status = 'active', quarantine_reason = NULL, next_due_at_ms = 0,
                         failed_starts = 0, start_after_ms = NULL, start_error = NULL
                     WHERE id = :id AND status <> 'closed'",
                )
                .and_then(|mut update| update.execute(named_params! { ":id": id }))?;
            Ok(changed == 1)
        })
    }
}

const RECORD_STOP: &str = "
    UPDATE sessions SET stop_requested = :cause WHERE id = :id AND runner_id = :runner";

pub(crate) fn find(db: &Connection, id: SessionId) -> Result<Option<SessionRecord>, DbError> {
    db.prepare_cached(&format!("{} WHERE s.id = :id", SessionRecord::SELECT))
        .and_then(|mut select| {
            select.query_row(named_params! { ":id": id }, SessionRecord::from_row).optional()
        })
        .map_err(failed("find a session"))
}

pub(crate) fn due(db: &Connection, until: UnixMillis) -> Result<Vec<SessionId>, DbError> {
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

pub(crate) fn mark(
    db: &Connection,
    id: SessionId,
    next: Option<UnixMillis>,
) -> Result<(), DbError> {
    change(
        db,
        "UPDATE sessions SET next_due_at_ms = :next WHERE id = :id",
        named_params! { ":id": id, ":next": next },
    )
    .map_err(failed("mark a session"))
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

fn change(
    db: &Connection,
    sql: &str,
    params: &[(&str, &dyn rusqlite::ToSql)],
) -> rusqlite::Result<()> {
    exactly_one(db.prepare_cached(sql)?.execute(params)?)
}
