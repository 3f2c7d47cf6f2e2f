//! A task's occurrences as values: how one stands in its row, and what makes or changes one.

use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use serde::Serialize;

use super::{Origin, instant};
use crate::ids::MessageId;
use crate::seq::Seq;
use crate::time::UnixMillis;

/// The state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It waits, or is worked on.
    Pending,
    /// It is answered.
    Completed,
    /// It never will be.
    Failed,
    /// It waits until somebody lets it go on.
    Paused,
    /// Nobody wants it any more.
    Cancelled,
}

impl Status {
    const ALL: [Self; 5] =
        [Self::Pending, Self::Completed, Self::Failed, Self::Paused, Self::Cancelled];

    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether something may still become of the message.
    pub const fn is_live(self) -> bool {
        match self {
            Self::Pending | Self::Paused => true,
            Self::Completed | Self::Failed | Self::Cancelled => false,
        }
    }
}

impl FromSql for Status {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word = value.as_str()?;
        let known = Self::ALL.into_iter().find(|status| status.as_str() == word);
        known.ok_or(FromSqlError::InvalidType)
    }
}

/// A row of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// Its id.
    pub id: MessageId,
    /// Its number.
    pub seq: Seq,
    /// The series.
    pub series: String,
    /// Its state.
    pub status: Status,
    /// Ended attempts.
    pub tries: i64,
    /// Not before this instant.
    pub process_after: Option<UnixMillis>,
    /// When the series goes on after it, as the host wrote it.
    pub recurrence: Option<String>,
    /// The IANA name of the zone that the recurrence is read in; `None` is UTC.
    pub zone: Option<String>,
    /// The time that it stands for, whatever its retries wait for; `None` in rows of older versions.
    pub nominal: Option<UnixMillis>,
    /// How often the series was changed before.
    pub generation: i64,
}

/// The first occurrence of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// The series' id.
    pub series: String,
    /// JSON.
    pub content: String,
    /// Where its answers go.
    pub origin: Origin,
    /// Its first occurrence.
    pub first: NewOccurrence,
}

/// An occurrence that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOccurrence {
    /// Its id.
    pub id: MessageId,
    /// The time that it stands for, and before which nobody works on it.
    pub nominal: UnixMillis,
    /// When the series goes on after it.
    pub recurrence: Option<String>,
    /// The zone that this is read in; `None` is UTC.
    pub zone: Option<String>,
    /// How often the series was changed before.
    pub generation: i64,
    /// Whether it waits until somebody lets it go on.
    pub paused: bool,
}

/// What an occurrence says from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amended {
    /// JSON; `None` leaves it as it is.
    pub content: Option<String>,
    /// When the series goes on after it.
    pub recurrence: Option<String>,
    /// The zone that this is read in; `None` is UTC.
    pub zone: Option<String>,
}

impl NewOccurrence {
    pub(super) const fn status(&self) -> Status {
        if self.paused { Status::Paused } else { Status::Pending }
    }
}

pub(super) const COLUMNS: &str = "
    SELECT id, seq, series_id, status, tries, process_after, recurrence, zone, nominal_at,
           generation, content
    FROM messages_in ";

impl Occurrence {
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            seq: row.get("seq")?,
            series: row.get("series_id")?,
            status: row.get("status")?,
            tries: row.get("tries")?,
            process_after: instant(row, "process_after")?,
            recurrence: row.get("recurrence")?,
            zone: row.get("zone")?,
            nominal: instant(row, "nominal_at")?,
            generation: row.get("generation")?,
        })
    }
}
