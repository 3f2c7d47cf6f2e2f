//! Tasks as people look at them, whatever became of them. Nothing decides by this.

use rusqlite::{Row, named_params};
use serde::Serialize;

use super::{InboxReader, Status, failed, instant};
use crate::columns::{self, Column, column, column_or};
use crate::content::Failure;
use crate::ids::MessageId;
use crate::open::BoxError;
use crate::time::UnixMillis;

/// A row of a series, as people look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredTask {
    /// Its id.
    pub id: MessageId,
    /// The series.
    pub series: String,
    /// Its state.
    pub status: Status,
    /// When it was made.
    pub timestamp: Option<UnixMillis>,
    /// Not before this instant.
    pub process_after: Option<UnixMillis>,
    /// The time that it stands for.
    pub nominal: Option<UnixMillis>,
    /// When the series goes on after it.
    pub recurrence: Option<String>,
    /// The zone that this is read in.
    pub zone: Option<String>,
    /// Ended attempts.
    pub tries: i64,
    /// JSON.
    pub content: String,
    /// Why it failed.
    pub failure: Option<Failure>,
}

impl StoredTask {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            series: row.get("series_id")?,
            status: row.get("status")?,
            timestamp: instant(row, "timestamp")?,
            process_after: instant(row, "process_after")?,
            nominal: instant(row, "nominal_at")?,
            recurrence: row.get("recurrence")?,
            zone: row.get("zone")?,
            tries: row.get("tries")?,
            content: row.get("content")?,
            failure: row
                .get::<_, Option<String>>("failure")?
                .map(|failure| Failure::from_json(&failure)),
        })
    }
}

impl InboxReader {
    /// The occurrences that are live, and up to `limit` of the newest others, in order of their
    /// numbers.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn tasks(&self, limit: u32) -> Result<Vec<StoredTask>, BoxError> {
        const WANTED: &[Column] = &[
            column("id"),
            column("seq"),
            column("series_id"),
            column_or("status", "'pending'"),
            column("timestamp"),
            column("process_after"),
            column("nominal_at"),
            column("recurrence"),
            column("zone"),
            column_or("tries", "0"),
            column("content"),
            column("failure"),
        ];
        let read = failed("list tasks");
        let select = columns::select(self.conn(), "messages_in", WANTED).map_err(&read)?;
        let Some(select) = select else { return Ok(Vec::new()) };
        let of_series = format!("SELECT * FROM ({select}) WHERE series_id IS NOT NULL");
        let sql = format!(
            "SELECT * FROM ({of_series} AND status IN ('pending', 'paused'))
             UNION ALL
             SELECT * FROM ({of_series} AND status NOT IN ('pending', 'paused')
                            ORDER BY seq DESC LIMIT :limit)
             ORDER BY seq"
        );
        self.conn()
            .prepare(&sql)
            .and_then(|mut select| {
                let params = named_params! { ":limit": limit };
                select.query_map(params, StoredTask::from_row)?.collect()
            })
            .map_err(read)
    }
}
