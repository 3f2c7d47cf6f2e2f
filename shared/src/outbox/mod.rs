//! The outbox: every statement on `outbound.db`.
//!
//! The runner is its only writer and holds an [`OutboxWriter`]. The host reads it through
//! [`read_untrusted`], which takes every value for an attack: a wrong type, an impossible number or
//! a database that brings code of its own is refused, and the session quarantined.

mod untrusted;
mod used;
mod writer;

use std::time::Duration;

use rusqlite::Row;

use crate::content::{Chat, Failure};
use crate::ids::{IdSource, MessageId, RunnerId};
use crate::inbox::{Origin, instant};
use crate::open::BoxError;
use crate::seq::Seq;
use crate::time::UnixMillis;

pub(crate) use untrusted::refuse_code;
pub use untrusted::{FIELD_MAX, Source, UntrustedOutbox, read_untrusted};
pub use used::Use;
pub use writer::OutboxWriter;

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
    /// JSON; `None` where whoever read the row let go of it to save memory.
    pub content: Option<String>,
    /// The attempt that wrote it.
    pub attempt: Option<i64>,
    /// Which incarnation wrote it.
    pub runner: Option<RunnerId>,
}

impl OutRow {
    /// Its content, which is empty where it is not known.
    pub fn chat(&self) -> Chat {
        Chat::from_content(self.content.as_deref().unwrap_or_default())
    }
}

/// Rows of `messages_out` in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The rows.
    pub rows: Vec<OutRow>,
    /// Whether there may be rows behind these.
    pub more: bool,
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
    /// Model turns used; 0 if nobody has counted them, which is kept as nothing known.
    pub turns: i64,
    /// What the provider wants to find again next time. Ignored for a failed turn.
    pub continuation: Option<&'a str>,
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

/// A fresh row id.
pub fn new_row_id(ids: &(impl IdSource + ?Sized)) -> MessageId {
    MessageId::from(ids.uuid())
}
