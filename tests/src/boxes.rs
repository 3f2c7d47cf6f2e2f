//! The two boxes of a session, as they lie on disk. Read-only: the tests are neither side.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row as SqlRow};
use serde_json::Value;
use twobox_shared::paths::SessionPaths;

use crate::chat::place;
use crate::wait::wait_for;

/// A session, as `host.db` describes it.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Its agent's name.
    pub agent: String,
    /// Its thread; empty for the chat itself.
    pub thread: String,
    /// `active` or `quarantined`.
    pub status: String,
    /// Why it is quarantined.
    pub quarantine_reason: Option<String>,
    /// Whether a container was recorded for it and not yet seen to end.
    pub running: bool,
    /// When the host wants to look at it next; 0 is now.
    pub next_due_ms: Option<i64>,
    /// Its folder.
    pub folder: PathBuf,
}

/// A row of `messages_in`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the protocol")]
pub struct Message {
    pub id: String,
    pub seq: i64,
    pub status: String,
    pub tries: i64,
    pub forgiven: i64,
    pub content: String,
    pub failure: Option<String>,
    pub kind: String,
}

/// A row of `processing_ack`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the protocol")]
pub struct Ack {
    pub message: String,
    pub status: String,
    pub attempt: Option<i64>,
    pub runner: Option<String>,
    pub changed: String,
}

/// A row of `messages_out`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the protocol")]
pub struct Row {
    pub id: String,
    pub seq: i64,
    pub in_reply_to: Option<String>,
    pub content: String,
    pub timestamp: String,
}

/// A row of `delivered`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the protocol")]
pub struct Delivery {
    pub row: String,
    pub status: String,
    pub platform_message_id: Option<String>,
    pub error: Option<String>,
}

/// All sessions of the installation whose data directory is `data`.
pub(crate) fn sessions(data: &Path) -> Vec<Session> {
    let select =
        "SELECT s.id, s.agent_group_id, a.name, s.thread_id, s.status, s.quarantine_reason,
                         s.runner_id IS NOT NULL, s.next_due_at_ms
                  FROM sessions s JOIN agent_groups a ON a.id = s.agent_group_id ORDER BY s.id";
    query(&data.join("host.db"), select, |row| {
        let (id, group): (String, String) = (row.get(0)?, row.get(1)?);
        Ok(Session {
            folder: data.join("sessions").join(group).join(&id),
            id,
            agent: row.get(2)?,
            thread: row.get(3)?,
            status: row.get(4)?,
            quarantine_reason: row.get(5)?,
            running: row.get(6)?,
            next_due_ms: row.get(7)?,
        })
    })
}

/// The sessions that somebody has to look at.
pub(crate) fn marked(data: &Path) -> Vec<String> {
    let select = "SELECT id FROM sessions WHERE next_due_at_ms IS NOT NULL";
    query(&data.join("host.db"), select, |row| row.get(0))
}

/// The id of the installation.
pub(crate) fn install(data: &Path) -> String {
    query(&data.join("host.db"), "SELECT install_id FROM install", |row| row.get(0)).remove(0)
}

impl Session {
    /// Where it is talked to, as ledgers call it.
    pub fn place(&self) -> String {
        place(&self.agent, Some(self.thread.as_str()))
    }

    /// Where its files are.
    pub fn paths(&self) -> SessionPaths {
        SessionPaths::of_folder(&self.folder)
    }

    /// The inbox, in order.
    pub fn messages(&self) -> Vec<Message> {
        let select = "SELECT id, seq, status, tries, forgiven, content, failure, kind
                      FROM messages_in ORDER BY seq";
        query(&self.paths().inbound_db(), select, |row| {
            Ok(Message {
                id: row.get(0)?,
                seq: row.get(1)?,
                status: row.get(2)?,
                tries: row.get(3)?,
                forgiven: row.get(4)?,
                content: row.get(5)?,
                failure: row.get(6)?,
                kind: row.get(7)?,
            })
        })
    }

    /// One message of the inbox.
    #[track_caller]
    pub fn message(&self, id: &str) -> Message {
        let found = self.messages().into_iter().find(|message| message.id == id);
        found.unwrap_or_else(|| panic!("the inbox has no message {id}"))
    }

    /// What became of messages, by the runner's word.
    pub fn acks(&self) -> Vec<Ack> {
        let select = "SELECT message_id, status, attempt, runner_id, status_changed
                      FROM processing_ack ORDER BY message_id";
        query(&self.paths().outbound_db(), select, |row| {
            Ok(Ack {
                message: row.get(0)?,
                status: row.get(1)?,
                attempt: row.get(2)?,
                runner: row.get(3)?,
                changed: row.get(4)?,
            })
        })
    }

    /// Whether a runner says that it works on `message`.
    pub fn is_claimed(&self, message: &str) -> bool {
        self.acks().iter().any(|ack| ack.message == message && ack.status == "processing")
    }

    /// Waits until a runner works on `message`.
    #[track_caller]
    pub fn wait_claimed(&self, message: &str) {
        wait_for("the message to be claimed", || self.is_claimed(message).then_some(()));
    }

    /// Waits until the inbox says `status` of `message`.
    #[track_caller]
    pub fn wait_status(&self, message: &str, status: &str) -> Message {
        wait_for(&format!("the message to be {status}"), || {
            Some(self.message(message)).filter(|message| message.status == status)
        })
    }

    /// The outbox, in order.
    pub fn rows(&self) -> Vec<Row> {
        let select = "SELECT id, seq, in_reply_to, content, timestamp FROM messages_out
                      ORDER BY seq";
        query(&self.paths().outbound_db(), select, |row| {
            Ok(Row {
                id: row.get(0)?,
                seq: row.get(1)?,
                in_reply_to: row.get(2)?,
                content: row.get(3)?,
                timestamp: row.get(4)?,
            })
        })
    }

    /// What became of the outbox's rows, by the host's word.
    pub fn deliveries(&self) -> Vec<Delivery> {
        let select = "SELECT message_out_id, status, platform_message_id, error FROM delivered
                      ORDER BY message_out_id";
        query(&self.paths().inbound_db(), select, |row| {
            Ok(Delivery {
                row: row.get(0)?,
                status: row.get(1)?,
                platform_message_id: row.get(2)?,
                error: row.get(3)?,
            })
        })
    }

    /// What became of the row that says `text`, if the host has recorded anything of it.
    #[track_caller]
    pub fn delivery_of(&self, text: &str) -> Option<Delivery> {
        let row = self.rows().into_iter().find(|row| {
            let content: Value = serde_json::from_str(&row.content).unwrap();
            content["text"] == text
        })?;
        self.deliveries().into_iter().find(|delivery| delivery.row == row.id)
    }

    /// Waits until the host has recorded `status` of the row that says `text`.
    #[track_caller]
    pub fn wait_delivery(&self, text: &str, status: &str) -> Delivery {
        wait_for(&format!("{text:?} to be {status}"), || {
            self.delivery_of(text).filter(|delivery| delivery.status == status)
        })
    }

    /// The tool that the container says it runs.
    pub fn tool(&self) -> Option<String> {
        query(&self.paths().outbound_db(), "SELECT current_tool FROM container_state", |row| {
            row.get(0)
        })
        .pop()
        .flatten()
    }

    /// Whether nothing is left to do: no message waits and every row is settled.
    pub fn is_settled(&self) -> bool {
        self.messages().iter().all(|message| message.status != "pending")
            && self.undelivered().is_empty()
    }

    /// Rows of the outbox that are not settled.
    pub fn undelivered(&self) -> Vec<Row> {
        let mut rows = self.rows();
        let settled: HashSet<String> = self
            .deliveries()
            .into_iter()
            .filter(|it| ["delivered", "failed", "uncertain"].contains(&it.status.as_str()))
            .map(|delivery| delivery.row)
            .collect();
        rows.retain(|row| !settled.contains(&row.id));
        rows
    }

    /// Waits until nothing is left to do.
    #[track_caller]
    pub fn wait_settled(&self) {
        wait_for("the session to be settled", || self.is_settled().then_some(()));
    }
}

/// The rows of `select` in the database at `path`; none while it or its tables do not exist. Whatever
/// its owner is doing at this moment is waited for.
pub(crate) fn query<T>(
    path: &Path,
    select: &str,
    read: impl Fn(&SqlRow<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    wait_for(&format!("{} to be readable", path.display()), || {
        if !path.exists() {
            return Some(Vec::new());
        }
        try_query(path, select, &read).ok()
    })
}

fn try_query<T>(
    path: &Path,
    select: &str,
    read: impl Fn(&SqlRow<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    let table = select.split_once("FROM ").unwrap().1.split_whitespace().next().unwrap();
    let exists = "SELECT 1 FROM sqlite_schema WHERE name = ?1";
    if conn.query_row(exists, [table], |_| Ok(())).optional()?.is_none() {
        return Ok(Vec::new());
    }
    conn.prepare(select)?.query_map([], |row| read(row))?.collect()
}
