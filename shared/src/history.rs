//! An inbox as people look at it: every row, whatever became of it. Nothing decides by this.

use rusqlite::{Row, named_params};
use serde::Serialize;

use crate::columns;
use crate::content::Failure;
use crate::ids::MessageId;
use crate::inbox::{InboxReader, MESSAGE_COLUMNS, Origin, instant};
use crate::open::BoxError;
use crate::seq::Seq;
use crate::time::UnixMillis;

/// A row of `messages_in`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredMessage {
    /// Its id.
    pub id: MessageId,
    /// Its number.
    pub seq: Seq,
    /// `chat`, `task`, `system`, …
    pub kind: String,
    /// When it was accepted.
    pub timestamp: Option<UnixMillis>,
    /// `pending`, `completed`, `failed`, `paused` or `cancelled`.
    pub status: String,
    /// Not before this instant.
    pub process_after: Option<UnixMillis>,
    /// Ended attempts.
    pub tries: i64,
    /// Where it came from.
    pub origin: Origin,
    /// JSON.
    pub content: String,
    /// Why it failed.
    pub failure: Option<Failure>,
}

impl StoredMessage {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            seq: row.get("seq")?,
            kind: row.get("kind")?,
            timestamp: instant(row, "timestamp")?,
            status: row.get::<_, Option<String>>("status")?.unwrap_or_default(),
            process_after: instant(row, "process_after")?,
            tries: row.get::<_, Option<i64>>("tries")?.unwrap_or(0),
            origin: Origin::from_row(row)?,
            content: row.get("content")?,
            failure: row
                .get::<_, Option<String>>("failure")?
                .map(|failure| Failure::from_json(&failure)),
        })
    }
}

impl InboxReader {
    /// Up to `limit` rows with a number above `after`: the newest ones, in order of their numbers.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn newest(&self, after: Seq, limit: u32) -> Result<Vec<StoredMessage>, BoxError> {
        let read = |source| BoxError::sqlite("read the inbox", source);
        let select = columns::select(self.conn(), "messages_in", MESSAGE_COLUMNS).map_err(read)?;
        let Some(select) = select else { return Ok(Vec::new()) };
        let params = named_params! { ":after": after, ":limit": limit };
        let mut rows: Vec<StoredMessage> = self
            .conn()
            .prepare(&format!("{select} WHERE seq > :after ORDER BY seq DESC LIMIT :limit"))
            .and_then(|mut select| select.query_map(params, StoredMessage::from_row)?.collect())
            .map_err(read)?;
        rows.reverse();
        Ok(rows)
    }

    /// How many rows there are in each state, by the state's word.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn count_by_status(&self) -> Result<Vec<(String, i64)>, BoxError> {
        self.conn()
            .prepare(
                "SELECT coalesce(status, 'pending'), count(*) FROM messages_in
                 GROUP BY 1 ORDER BY 1",
            )
            .and_then(|mut select| {
                select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            })
            .map_err(|source| BoxError::sqlite("count the inbox", source))
    }

    /// The highest number that either side is known to have used.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn high_water(&self) -> Result<Seq, BoxError> {
        self.seq_floor().map_err(|source| BoxError::sqlite("read the cursor", source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::{Inbox, NewMessage};

    #[test]
    fn the_newest_rows_come_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inbound.db");
        let mut inbox = Inbox::open(&path).unwrap();
        let tx = inbox.write().unwrap();
        for n in 1..=5 {
            let message = NewMessage {
                id: MessageId::parse(&n.to_string()).unwrap(),
                kind: "chat".to_owned(),
                content: "{}".to_owned(),
                origin: Origin::default(),
                trigger: true,
                process_after: None,
                source_session: None,
                run_id: None,
            };
            tx.accept(&message, Seq(0), UnixMillis(0)).unwrap();
        }
        tx.complete(&MessageId::parse("1").unwrap()).unwrap();
        tx.commit().unwrap();
        drop(inbox);
        let reader = InboxReader::open(&path).unwrap();
        let seqs = |after, limit| -> Vec<i64> {
            reader.newest(Seq(after), limit).unwrap().iter().map(|row| row.seq.0).collect()
        };
        assert_eq!(seqs(0, 2), [8, 10]);
        assert_eq!(seqs(6, 10), [8, 10]);
        let counts = [("completed".to_owned(), 1), ("pending".to_owned(), 4)];
        assert_eq!(reader.count_by_status().unwrap(), counts);
        assert_eq!(reader.high_water().unwrap(), Seq(10));
    }
}
