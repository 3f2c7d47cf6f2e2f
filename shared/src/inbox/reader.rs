//! The runner's side: finding what may be worked on.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row};

use super::{Destination, InboundMessage, Origin, failed, instant, routing};
use crate::claim::{self, Chooser};
use crate::columns::{self, Column, column, column_or};
use crate::ids::MessageId;
use crate::open::{self, BoxError};
use crate::outbox::OutboxWriter;
use crate::seq::Seq;
use crate::time::UnixMillis;

/// Every column of a message that this build reads.
pub(crate) const MESSAGE_COLUMNS: &[Column] = &[
    column("id"),
    column("seq"),
    column("kind"),
    column("timestamp"),
    column_or("status", "'pending'"),
    column("process_after"),
    column_or("tries", "0"),
    column_or("forgiven", "0"),
    column_or("trigger", "1"),
    column("platform_id"),
    column("channel_type"),
    column("thread_id"),
    column("content"),
    column_or("on_wake", "0"),
    column("run_id"),
    column("failure"),
];

impl InboundMessage {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            seq: row.get("seq")?,
            kind: row.get("kind")?,
            timestamp: instant(row, "timestamp")?.unwrap_or_default(),
            tries: row.get::<_, Option<i64>>("tries")?.unwrap_or(0),
            trigger: row.get::<_, Option<i64>>("trigger")?.unwrap_or(1) != 0,
            on_wake: row.get::<_, Option<i64>>("on_wake")?.unwrap_or(0) != 0,
            origin: Origin::from_row(row)?,
            content: row.get("content")?,
            run_id: row.get("run_id")?,
        })
    }
}

/// The runner's look at the inbox: one read transaction.
#[derive(Debug)]
pub struct InboxReader {
    conn: Connection,
}

/// What a runner's look found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// The messages for one turn, oldest first; empty if there is nothing to do now.
    pub chosen: Vec<InboundMessage>,
    /// The highest number in the inbox or known to the host: the runner's next must be greater.
    pub seq_floor: Seq,
    /// When the earliest message that is not due yet becomes due.
    pub next_due: Option<UnixMillis>,
}

/// What a look is for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose<'a> {
    /// A new turn. `first` is the first look of this runner, which also sees `on_wake` rows.
    Turn {
        /// Whether this runner has not looked before.
        first: bool,
    },
    /// Messages to push into a running turn for this origin.
    FollowUp(&'a Origin),
}

impl InboxReader {
    /// Opens the inbox for one look.
    ///
    /// # Errors
    /// [`BoxError::HotJournal`] if the host died in a commit: wait for it.
    pub fn open(path: &Path) -> Result<Self, BoxError> {
        Ok(Self { conn: open::inbox_reader(path)? })
    }

    /// Finds what a runner may work on at `now`. Filters before it limits: rows that cannot be
    /// claimed never hide one that can.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`], or whatever reading an ack from `outbox` returns.
    pub fn look(
        &self,
        outbox: &OutboxWriter,
        purpose: Purpose<'_>,
        now: UnixMillis,
    ) -> Result<Look, BoxError> {
        let read = failed("read the inbox");
        let mut look = Look { seq_floor: self.seq_floor().map_err(&read)?, ..Look::default() };
        let Some(select) =
            columns::select(&self.conn, "messages_in", MESSAGE_COLUMNS).map_err(&read)?
        else {
            return Ok(look);
        };
        let mut statement = self
            .conn
            .prepare(&format!("{select} WHERE status = 'pending' ORDER BY seq"))
            .map_err(&read)?;
        let mut rows = statement.query([]).map_err(&read)?;
        let mut chooser = Chooser::default();
        while let Some(row) = rows.next().map_err(&read)? {
            if let Some(due) = instant(row, "process_after").map_err(&read)?
                && due > now
            {
                look.next_due = Some(look.next_due.map_or(due, |earliest| earliest.min(due)));
                continue;
            }
            let message = InboundMessage::from_row(row).map_err(&read)?;
            let wanted = match purpose {
                Purpose::Turn { first } => first || !message.on_wake,
                Purpose::FollowUp(origin) => {
                    !message.on_wake && claim::may_follow_up(&message, origin)
                }
            };
            if wanted
                && claim::claimable(message.tries, outbox.ack(&message.id)?.as_ref())
                && let ControlFlow::Break(()) = chooser.offer(message)
            {
                break;
            }
        }
        look.chosen = chooser.finish();
        Ok(look)
    }

    /// Whether a message is still to be worked on: the host may have taken it back.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn is_pending(&self, message: &MessageId) -> Result<bool, BoxError> {
        self.conn
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM messages_in WHERE id = ?1 AND status = 'pending')",
                [message],
                |row| row.get(0),
            )
            .map_err(failed("look for a message"))
    }

    /// What the host itself has said to the agent in the message `id`; `None` if there is no such message,
    /// or it is somebody else's.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn system_message(&self, id: &MessageId) -> Result<Option<String>, BoxError> {
        self.conn
            .query_row(
                "SELECT content FROM messages_in WHERE id = ?1 AND kind = 'system'",
                [id],
                |row| row.get(0),
            )
            .optional()
            .map_err(failed("look for an answer"))
    }

    /// For the queries of `history`, `dead` and `retention`.
    pub(crate) fn conn(&self) -> &Connection {
        &self.conn
    }

    pub(crate) fn seq_floor(&self) -> rusqlite::Result<Seq> {
        let newest: Option<Seq> =
            self.conn.query_row("SELECT max(seq) FROM messages_in", [], |row| row.get(0))?;
        let cursor: Option<Seq> = match columns::of_table(&self.conn, "outbound_cursor")?.is_empty()
        {
            true => None,
            false => self
                .conn
                .query_row("SELECT max(seq, seen) FROM outbound_cursor WHERE id = 1", [], |row| {
                    row.get(0)
                })
                .optional()?,
        };
        Ok(newest.unwrap_or_default().max(cursor.unwrap_or_default()))
    }

    /// Where the agent answers by default, and what it may name.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn routing(&self) -> Result<(Origin, Vec<Destination>), BoxError> {
        let read = failed("read the routing");
        for table in ["session_routing", "destinations"] {
            if columns::of_table(&self.conn, table).map_err(&read)?.is_empty() {
                return Ok((Origin::default(), Vec::new())); // another implementation's host
            }
        }
        routing(&self.conn).map_err(read)
    }

    /// The ids of all messages, for tests and for people.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn ids(&self) -> Result<HashSet<String>, BoxError> {
        self.conn
            .prepare("SELECT id FROM messages_in")
            .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
            .map_err(failed("list the inbox"))
    }
}
