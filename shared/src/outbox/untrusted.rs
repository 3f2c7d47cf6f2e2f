//! The host's side: reading what a container wrote, where every value may be an attack.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::{Ack, OutRow, Page, ToolState, ack_from_row, failed};
use crate::columns::{self, Column, column};
use crate::content::{CONTENT_MAX, shorten};
use crate::ids::MessageId;
use crate::inbox::Origin;
use crate::open::{self, BoxError};
use crate::seq::Seq;
use crate::time::UnixMillis;

/// The longest text in any other column of a container's row than `content`, in bytes.
pub const FIELD_MAX: usize = 4096;

const ACK_COLUMNS: &[Column] = &[
    column("message_id"),
    column("status"),
    column("attempt"),
    column("runner_id"),
    column("failure"),
    column("turns"),
    column("status_changed"),
];

const ROW_COLUMNS: &[Column] = &[
    column("id"),
    column("seq"),
    column("in_reply_to"),
    column("timestamp"),
    column("deliver_after"),
    column("recurrence"),
    column("kind"),
    column("platform_id"),
    column("channel_type"),
    column("thread_id"),
    column("content"),
    column("attempt"),
    column("runner_id"),
];

/// A page of rows ends with the row that brings their content to so many bytes.
const PAGE_BYTES: usize = 4 << 20;

/// How much of a tool's name the host keeps, in characters.
const TOOL_NAME_MAX: usize = 200;

/// A read transaction on a database that a container wrote.
#[derive(Debug)]
pub struct UntrustedOutbox<'a> {
    conn: &'a Connection,
}

/// Where and how [`read_untrusted`] reads.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// The file itself.
    Live,
    /// A repaired copy in this empty private folder, within a quota in bytes: only when the runtime
    /// has confirmed that no process of the session lives.
    Copy {
        /// The folder.
        scratch: &'a Path,
        /// Bytes.
        quota: u64,
    },
}

/// Reads a container's outbox in one read transaction, within `patience`. `None` if there is no
/// outbox yet.
///
/// # Errors
/// [`BoxError::Refused`] and others whose remedy is quarantine for anything that an honest runner
/// does not write; [`BoxError::HotJournal`] as for [`open::outbox_reader`].
pub fn read_untrusted<T>(
    path: &Path,
    source: Source<'_>,
    patience: Duration,
    work: impl FnOnce(&UntrustedOutbox<'_>) -> Result<T, BoxError>,
) -> Result<Option<T>, BoxError> {
    // A look before the open only tells "not there yet" from "refused"; it guards nothing.
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(meta) if meta.len() == 0 && meta.is_file() => return Ok(None), // created, not committed
        _ => {}
    }
    let run = |conn: &Connection| {
        refuse_code(conn)?;
        work(&UntrustedOutbox { conn })
    };
    match source {
        Source::Live => open::outbox_reader(path, patience, run),
        Source::Copy { scratch, quota } => open::outbox_copy(path, scratch, quota, patience, run),
    }
    .map(Some)
}

/// Views, triggers, virtual tables and generated columns are code, and an honest runner has none.
/// The words in `sqlite_schema` are the container's own; what SQLite holds it to is that only an
/// ordinary table or index has a root page.
pub(crate) fn refuse_code(conn: &Connection) -> Result<(), BoxError> {
    let refused = |reason: String| Err(BoxError::Refused { reason });
    let foreign: Option<String> = conn
        .query_row(
            "SELECT substr(type || ' ' || name, 1, 100) FROM sqlite_schema
             WHERE type NOT IN ('table', 'index')
                OR typeof(rootpage) <> 'integer' OR rootpage < 1 LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()
        .map_err(failed("read the outbox's schema"))?;
    if let Some(what) = foreign {
        return refused(format!("it contains the {what}"));
    }
    for table in ["messages_out", "processing_ack", "container_state"] {
        let columns = columns::of_table(conn, table).map_err(failed("read the outbox's schema"))?;
        if let Some((name, _)) = columns.iter().find(|(_, hidden)| **hidden != 0) {
            return refused(format!("column {table}.{name} is generated or hidden"));
        }
    }
    Ok(())
}

impl<'a> UntrustedOutbox<'a> {
    /// For the queries of `audit`.
    pub(crate) fn new(conn: &'a Connection) -> Self {
        Self { conn }
    }

    /// For the queries of `dead` and `retention`.
    pub(crate) fn conn(&self) -> &Connection {
        self.conn
    }

    /// The acks of the given messages.
    ///
    /// # Errors
    /// [`BoxError::Refused`] for values of an unexpected type.
    pub fn acks<'m>(
        &self,
        messages: impl IntoIterator<Item = &'m MessageId>,
    ) -> Result<HashMap<MessageId, Ack>, BoxError> {
        let read = failed("read acks");
        let Some(select) =
            columns::select(self.conn, "processing_ack", ACK_COLUMNS).map_err(&read)?
        else {
            return Ok(HashMap::new());
        };
        let mut statement = self
            .conn
            .prepare(&format!("{select} WHERE message_id = :message LIMIT 1"))
            .map_err(&read)?;
        let mut acks = HashMap::new();
        for message in messages {
            let ack = statement
                .query_row(named_params! { ":message": message }, ack_from_row)
                .optional()
                .map_err(refused_value("processing_ack"))?;
            if let Some(ack) = ack {
                acks.insert(message.clone(), ack);
            }
        }
        Ok(acks)
    }

    /// Up to `limit` rows with a number above `after`, in order of their numbers, and fewer if they
    /// are large. Numbers must be plausible above `high_water`, the highest that either side has
    /// used so far.
    ///
    /// # Errors
    /// [`BoxError::Refused`] for a row that no honest runner writes.
    pub fn rows(&self, after: Seq, high_water: Seq, limit: u32) -> Result<Page, BoxError> {
        let read = failed("read rows");
        let Some(select) =
            columns::select(self.conn, "messages_out", ROW_COLUMNS).map_err(&read)?
        else {
            return Ok(Page::default());
        };
        // NULL is greater than nothing and would be lost in silence, as would a number that lies
        // below every cursor. The index, where there is one, answers both at once.
        for lost in ["seq IS NULL", "seq < 1"] {
            let found = self
                .conn
                .prepare(&format!("{select} WHERE {lost} LIMIT 1"))
                .and_then(|mut select| select.exists([]))
                .map_err(&read)?;
            if found {
                return Err(BoxError::Refused {
                    reason: format!("a row in messages_out has {lost}"),
                });
            }
        }
        // A seq that is not a number compares as greater than every number, so it is read here and
        // refused below.
        let mut statement = self
            .conn
            .prepare(&format!("{select} WHERE seq > :after ORDER BY seq LIMIT :limit"))
            .map_err(&read)?;
        let mut rows =
            statement.query(named_params! { ":after": after, ":limit": limit }).map_err(&read)?;
        let mut found: Vec<OutRow> = Vec::new();
        let mut bytes = 0;
        while let Some(row) = rows.next().map_err(&read)? {
            let row = out_row(row, high_water)?;
            if found.last().is_some_and(|last| last.seq >= row.seq) {
                return Err(BoxError::Refused {
                    reason: format!("seq {} is not unique", row.seq.0),
                });
            }
            bytes += row.content.as_ref().map_or(0, String::len);
            found.push(row);
            if bytes >= PAGE_BYTES {
                return Ok(Page { rows: found, more: true });
            }
        }
        let more = found.len() == limit as usize;
        Ok(Page { rows: found, more })
    }

    /// The rows with these ids, held to the same rules as [`UntrustedOutbox::rows`]. Those that are
    /// not there are left out.
    ///
    /// # Errors
    /// As for [`UntrustedOutbox::rows`].
    pub fn rows_of<'m>(
        &self,
        ids: impl IntoIterator<Item = &'m MessageId>,
        high_water: Seq,
    ) -> Result<Vec<OutRow>, BoxError> {
        let read = failed("read rows");
        let Some(select) =
            columns::select(self.conn, "messages_out", ROW_COLUMNS).map_err(&read)?
        else {
            return Ok(Vec::new());
        };
        // The column may have any collation; an id is what it is, byte for byte.
        let mut statement = self
            .conn
            .prepare(&format!("{select} WHERE id = :id COLLATE BINARY LIMIT 1"))
            .map_err(&read)?;
        let mut found = Vec::new();
        for id in ids {
            let mut rows = statement.query(named_params! { ":id": id }).map_err(&read)?;
            if let Some(row) = rows.next().map_err(&read)? {
                found.push(out_row(row, high_water)?);
            }
        }
        Ok(found)
    }

    /// The highest number in the outbox, as it stands there.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`], or [`BoxError::Refused`] for one that is no number.
    pub fn newest(&self) -> Result<Seq, BoxError> {
        let read = failed("find the newest row");
        if columns::of_table(self.conn, "messages_out").map_err(&read)?.is_empty() {
            return Ok(Seq::default());
        }
        self.conn
            .query_row("SELECT max(seq) FROM messages_out", [], |row| row.get::<_, Option<Seq>>(0))
            .map(Option::unwrap_or_default)
            .map_err(refused_value("messages_out"))
    }

    /// What the container says about its tool.
    ///
    /// # Errors
    /// [`BoxError::Refused`] for values of an unexpected type.
    pub fn tool(&self) -> Result<ToolState, BoxError> {
        const COLUMNS: &[Column] =
            &[column("id"), column("current_tool"), column("tool_declared_timeout_ms")];
        let Some(select) = columns::select(self.conn, "container_state", COLUMNS)
            .map_err(failed("read the tool"))?
        else {
            return Ok(ToolState::default());
        };
        self.conn
            .query_row(&format!("{select} WHERE id = 1 LIMIT 1"), [], |row| {
                let timeout_ms: Option<i64> = row.get("tool_declared_timeout_ms")?;
                Ok(ToolState {
                    current: row
                        .get::<_, Option<String>>("current_tool")?
                        .map(|name| shorten(&name, TOOL_NAME_MAX)),
                    declared_timeout: timeout_ms
                        .and_then(|ms| u64::try_from(ms).ok())
                        .map(Duration::from_millis),
                })
            })
            .optional()
            .map(Option::unwrap_or_default)
            .map_err(refused_value("container_state"))
    }
}

fn refused_value(table: &'static str) -> impl Fn(rusqlite::Error) -> BoxError {
    move |source| match source.sqlite_error_code() {
        Some(_) => BoxError::sqlite("read the outbox", source),
        None => BoxError::Refused { reason: format!("{table}: {source}") },
    }
}

fn out_row(row: &Row<'_>, high_water: Seq) -> Result<OutRow, BoxError> {
    let refused = |reason: String| BoxError::Refused { reason };
    let value = refused_value("messages_out");
    let seq = match row.get_ref("seq").map_err(&value)? {
        ValueRef::Integer(seq) => Seq(seq),
        other => return Err(refused(format!("seq is {:?}, not an integer", other.data_type()))),
    };
    if !seq.plausible_outbound(high_water) {
        return Err(refused(format!(
            "seq {} is not an odd number a little above {}",
            seq.0, high_water.0
        )));
    }
    let text = |name: &'static str| -> Result<Option<String>, BoxError> {
        let text = row.get::<_, Option<String>>(name).map_err(&value)?;
        let max = if name == "content" { CONTENT_MAX } else { FIELD_MAX };
        match text {
            Some(long) if long.len() > max => {
                Err(refused(format!("{name} of seq {} is larger than {max} bytes", seq.0)))
            }
            text => Ok(text),
        }
    };
    let time = |name: &'static str| -> Result<Option<UnixMillis>, BoxError> {
        match text(name)? {
            None => Ok(None),
            Some(written) => UnixMillis::parse(&written)
                .map(Some)
                .ok_or_else(|| refused(format!("{name} of seq {} is not a time", seq.0))),
        }
    };
    let required = |name: &'static str| {
        text(name)?.ok_or_else(|| refused(format!("{name} of seq {} is missing", seq.0)))
    };
    let id = MessageId::parse(&required("id")?).map_err(|error| refused(error.to_string()))?;
    if text("recurrence")?.is_some() {
        return Err(refused(format!("row {id} has a recurrence, which no outbox row may have")));
    }
    Ok(OutRow {
        id,
        seq,
        in_reply_to: text("in_reply_to")?,
        timestamp: UnixMillis::parse(&required("timestamp")?),
        deliver_after: time("deliver_after")?,
        kind: required("kind")?,
        destination: Origin {
            channel_type: text("channel_type")?,
            platform_id: text("platform_id")?,
            thread_id: text("thread_id")?,
        },
        content: Some(required("content")?),
        attempt: row.get("attempt").map_err(&value)?,
        runner: text("runner_id")?.and_then(|runner| runner.parse().ok()),
    })
}
