//! The inbox: every statement on `inbound.db`.
//!
//! The host is its only writer and holds an [`Inbox`]; a runner holds an [`InboxReader`], which
//! cannot write. Every change of a message repeats its guard and reports whether a row changed, so
//! that applying a decision twice changes nothing.

mod context;
mod held;
mod occurrence;
mod progress;
mod reader;
mod routing;
mod stored;
mod stored_tasks;
mod tasks;
mod writer;

use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;

use crate::content::{Failure, KIND_SYSTEM};
use crate::dead_letter::ONCE_MORE;
use crate::ids::{MessageId, SessionId};
use crate::open::BoxError;
use crate::seq::Seq;
use crate::time::UnixMillis;

pub use context::{CONTEXT_AGE, CONTEXT_KEPT};
pub use occurrence::{Amended, NewOccurrence, NewTask, Occurrence, Status};
pub(crate) use reader::MESSAGE_COLUMNS;
pub use reader::{InboxReader, Look, Purpose};
pub use stored_tasks::StoredTask;
pub use writer::{Inbox, InboxTx};

/// Where a message came from, which is where its answer goes. All empty for a message that no chat
/// sent, such as a notice of the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
pub struct Origin {
    /// The channel's id, such as `terminal`.
    pub channel_type: Option<String>,
    /// The chat on that channel.
    pub platform_id: Option<String>,
    /// The thread in that chat.
    pub thread_id: Option<String>,
}

/// A message that a runner may work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundMessage {
    /// Its id.
    pub id: MessageId,
    /// Its number.
    pub seq: Seq,
    /// `chat`, `task`, `system`, …
    pub kind: String,
    /// When it was accepted.
    pub timestamp: UnixMillis,
    /// Ended attempts; the number of the attempt that a claim now begins.
    pub tries: i64,
    /// Whether it starts a turn; `false` is context only.
    pub trigger: bool,
    /// Whether only the first look of a fresh runner may see it.
    pub on_wake: bool,
    /// Where its answer goes.
    pub origin: Origin,
    /// JSON, usually a [`crate::content::Chat`].
    pub content: String,
    /// The scheduled run that it belongs to.
    pub run_id: Option<String>,
}

impl Origin {
    pub(crate) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            channel_type: row.get("channel_type")?,
            platform_id: row.get("platform_id")?,
            thread_id: row.get("thread_id")?,
        })
    }
}

/// A time column; text that is no time reads as `None`, as if nothing stood there.
pub(crate) fn instant(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<UnixMillis>> {
    Ok(row.get::<_, Option<String>>(name)?.and_then(|text| UnixMillis::parse(&text)))
}

fn failed(action: &'static str) -> impl Fn(rusqlite::Error) -> BoxError {
    move |source| BoxError::sqlite(action, source)
}

/// What a channel hands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// The platform's id for it.
    pub id: MessageId,
    /// `chat`, `task`, …
    pub kind: String,
    /// JSON.
    pub content: String,
    /// Where it came from.
    pub origin: Origin,
    /// Whether it starts a turn.
    pub trigger: bool,
    /// Not before this instant.
    pub process_after: Option<UnixMillis>,
    /// The session of another agent that sent it.
    pub source_session: Option<SessionId>,
    /// The scheduled run that it belongs to.
    pub run_id: Option<String>,
}

impl NewMessage {
    /// What the host tells the agent: context of its next turn, which starts none and comes from no
    /// chat. `content` is JSON.
    pub fn note(id: MessageId, content: String) -> Self {
        Self {
            id,
            kind: KIND_SYSTEM.to_owned(),
            content,
            origin: Origin::default(),
            trigger: false,
            process_after: None,
            source_session: None,
            run_id: None,
        }
    }
}

/// What became of a [`NewMessage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The id under which it is stored: the given one, or a derived one if that id already stood
    /// for other content.
    pub id: MessageId,
    /// Its number.
    pub seq: Seq,
    /// Whether it was there before, so that nothing changed.
    pub duplicate: bool,
}

/// How far a stored message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub seq: Seq,
    /// The word in its `status` column.
    pub status: String,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

/// A pending message, as the sweep looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingMessage {
    /// Its id.
    pub id: MessageId,
    /// Its number.
    pub seq: Seq,
    /// `chat`, `task`, `system`, …
    pub kind: String,
    /// Ended attempts.
    pub tries: i64,
    /// Of these, the ones that the host or a person ended.
    pub forgiven: i64,
    /// Whether it wakes a container.
    pub trigger: bool,
    /// Not before this instant.
    pub process_after: Option<UnixMillis>,
    /// Where its answer goes.
    pub origin: Origin,
    /// Whether it belongs to a scheduled run, which is told of its end instead of a person.
    pub of_run: bool,
    /// Whether it is an occurrence of a task, for which nobody waits in the chat.
    pub of_task: bool,
}

/// How far the host has come in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Cursor {
    /// The last number before the first unsettled row.
    pub seq: Seq,
    /// The highest number that was read.
    pub seen: Seq,
}

/// How far the delivery of an outbox row has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// Not sent yet; perhaps tried.
    Held,
    /// Announced; whether the channel was called is unknown after a crash.
    Sending,
    /// The channel said so.
    Delivered,
    /// It never will be.
    Failed,
    /// It may or may not have been, and may not be tried again.
    Uncertain,
}

impl DeliveryStatus {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Sending => "sending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Uncertain => "uncertain",
        }
    }

    /// The word read back.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Held, Self::Sending, Self::Delivered, Self::Failed, Self::Uncertain]
            .into_iter()
            .find(|status| status.as_str() == word)
    }

    /// Whether nothing more will happen to the row.
    pub const fn is_settled(self) -> bool {
        match self {
            Self::Held | Self::Sending => false,
            Self::Delivered | Self::Failed | Self::Uncertain => true,
        }
    }
}

/// The delivery record of one outbox row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// How far it has come.
    pub status: DeliveryStatus,
    /// How often the channel was called without success.
    pub attempts: i64,
    /// Not again before this instant.
    pub next_attempt_at: Option<UnixMillis>,
    /// When the record was first written or last changed.
    pub changed_at: UnixMillis,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// The platform's id for the message, once delivered.
    pub platform_message_id: Option<String>,
}

impl Delivery {
    /// Whether the agent believes that the row did not arrive, or perhaps not, while it is being sent
    /// once more.
    pub fn is_believed_lost(&self) -> bool {
        self.error.as_deref().is_some_and(|error| error.starts_with(ONCE_MORE))
    }

    /// Why it failed last.
    pub fn last_error(&self) -> Option<&str> {
        let error = self.error.as_deref()?;
        Some(error.strip_prefix(ONCE_MORE).unwrap_or(error))
    }
}

/// A place that an agent may name in a `send`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The name that the agent uses.
    pub name: String,
    /// The channel's id.
    pub channel_type: String,
    /// The chat.
    pub platform_id: String,
}

fn routing(conn: &Connection) -> rusqlite::Result<(Origin, Vec<Destination>)> {
    let routing = conn
        .query_row(
            "SELECT channel_type, platform_id, thread_id FROM session_routing WHERE id = 1",
            [],
            Origin::from_row,
        )
        .optional()?
        .unwrap_or_default();
    let destinations = conn
        .prepare(
            "SELECT name, channel_type, platform_id FROM destinations
             WHERE channel_type IS NOT NULL AND platform_id IS NOT NULL ORDER BY name",
        )?
        .query_map([], |row| {
            Ok(Destination {
                name: row.get(0)?,
                channel_type: row.get(1)?,
                platform_id: row.get(2)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok((routing, destinations))
}
