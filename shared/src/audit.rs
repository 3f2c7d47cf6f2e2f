//! The two boxes as an examiner looks at them: every row, also those that break a rule. Nothing
//! decides by this, and nothing here judges: `sessions fsck` of the host does.
//!
//! Both looks are one read transaction within a deadline, so that they hold up nobody for long, and
//! change nothing. A value of an unexpected type reads as absent.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::columns::{self, Column, column, column_or};
use crate::ids::RunnerId;
use crate::inbox::Cursor;
use crate::migrate;
use crate::open::{self, BoxError};
use crate::outbox::{UntrustedOutbox, refuse_code};
use crate::retention::{self, Forgotten};
use crate::seq::{SEQ_MAX, Seq};
use crate::time::UnixMillis;

/// How many rows of a table are looked at, the newest ones.
pub const ROWS_MAX: usize = 200_000;

/// How many complaints of SQLite about one file are kept.
const COMPLAINTS_MAX: u32 = 10;

/// A row of `messages_in`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageRow {
    /// Its id.
    pub id: String,
    /// Its number, if it is one.
    pub seq: Option<i64>,
    /// The word for its state.
    pub status: String,
    /// Ended attempts.
    pub tries: i64,
    /// Of these, the ones that do not count.
    pub forgiven: i64,
    /// Whether it starts a turn.
    pub trigger: bool,
    /// The task that it is an occurrence of.
    pub series: Option<String>,
    /// When that goes on after it.
    pub recurrence: Option<String>,
    /// The zone that this is read in.
    pub zone: Option<String>,
}

/// A row of `delivered`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryRow {
    /// The row of the outbox.
    pub row: String,
    /// The word for how far it has come.
    pub status: String,
    /// When that was recorded.
    pub changed_at: Option<UnixMillis>,
}

/// A row of `messages_out`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplyRow {
    /// Its id.
    pub id: String,
    /// Its number, if it is one.
    pub seq: Option<i64>,
    /// The message that it answers.
    pub in_reply_to: Option<String>,
    /// When it was written, by the container's word.
    pub timestamp: Option<UnixMillis>,
}

/// A row of `processing_ack`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AckRow {
    /// The message.
    pub message: String,
    /// The word for how far it is.
    pub status: String,
    /// Which attempt.
    pub attempt: Option<i64>,
    /// Whose.
    pub runner: Option<RunnerId>,
}

/// An inbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InboxAudit {
    /// `user_version`.
    pub version: u32,
    /// What `PRAGMA integrity_check` complains about.
    pub complaints: Vec<String>,
    /// Its messages, by number.
    pub messages: Vec<MessageRow>,
    /// Its delivery records.
    pub deliveries: Vec<DeliveryRow>,
    /// The cursor; `None` without a row.
    pub cursor: Option<Cursor>,
    /// How far history may be gone.
    pub forgotten: Forgotten,
    /// Whether there are more rows than [`ROWS_MAX`].
    pub cut: bool,
}

/// An outbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutboxAudit {
    /// `user_version`.
    pub version: u32,
    /// What `PRAGMA integrity_check` complains about.
    pub complaints: Vec<String>,
    /// Its rows, by number.
    pub rows: Vec<ReplyRow>,
    /// Its acks.
    pub acks: Vec<AckRow>,
    /// Why the host would refuse to read it, leaving plausibility aside.
    pub refusal: Option<String>,
    /// Whether there are more rows than [`ROWS_MAX`].
    pub cut: bool,
}

/// Looks at the inbox at `path` within `patience`. `None` if nothing was ever committed to it.
///
/// # Errors
/// [`BoxError::HotJournal`] if a commit was interrupted: the host undoes it at its next look.
/// Whatever else keeps the file from being read; its remedy tells what it is.
pub fn inbox(path: &Path, patience: Duration) -> Result<Option<InboxAudit>, BoxError> {
    if is_empty(path) {
        return Ok(None);
    }
    let read = |source| BoxError::sqlite("read the inbox", source);
    let mut conn = open::inbox_reader_within(path, patience)?;
    let deadline = Instant::now() + patience;
    conn.progress_handler(1000, Some(move || Instant::now() >= deadline)).map_err(read)?;
    (|| {
        let (messages, more) = select(&conn, "messages_in", MESSAGES, "seq", message_row)?;
        let (deliveries, most) = select(&conn, "delivered", DELIVERIES, "rowid", delivery_row)?;
        Ok(Some(InboxAudit {
            version: migrate::version_of(&conn).unwrap_or_default(),
            cursor: cursor(&conn)?,
            forgotten: match columns::of_table(&conn, "forgotten")?.is_empty() {
                true => Forgotten::default(),
                false => retention::forgotten(&conn)?,
            },
            complaints: complaints(&conn)?,
            messages,
            deliveries,
            cut: more || most,
        }))
    })()
    .map_err(read)
}

/// Looks at the container's outbox at `path` within `patience`, as hostile input. `None` if nothing
/// was ever committed to it.
///
/// # Errors
/// As for [`open::outbox_reader`].
pub fn outbox(path: &Path, patience: Duration) -> Result<Option<OutboxAudit>, BoxError> {
    if is_empty(path) {
        return Ok(None);
    }
    open::outbox_reader(path, patience, |conn| {
        refuse_code(conn)?;
        let read = |source| BoxError::sqlite("read the outbox", source);
        let complaints = complaints(conn).map_err(read)?;
        let (rows, more) = select(conn, "messages_out", ROWS, "seq", reply_row).map_err(read)?;
        let (acks, most) = select(conn, "processing_ack", ACKS, "rowid", ack_row).map_err(read)?;
        Ok(Some(OutboxAudit {
            version: migrate::version_of(conn)?,
            refusal: refusal(conn)?,
            complaints,
            rows,
            acks,
            cut: more || most,
        }))
    })
}

/// Whether there is nothing, or a file to which nothing was committed yet.
fn is_empty(path: &Path) -> bool {
    match path.symlink_metadata() {
        Ok(meta) => meta.is_file() && meta.len() == 0,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Without the CHECK constraints, which a file of another version may lack: the examiner names what
/// they guard.
fn complaints(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    conn.pragma_update(None, "ignore_check_constraints", true)?;
    let mut complaints: Vec<String> = conn
        .prepare(&format!("PRAGMA integrity_check({COMPLAINTS_MAX})"))?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    complaints.retain(|complaint| complaint != "ok");
    Ok(complaints)
}

/// Reads all rows as the host does, but from the start and without a high-water mark.
fn refusal(conn: &Connection) -> Result<Option<String>, BoxError> {
    const PAGE: u32 = 1000;
    let outbox = UntrustedOutbox::new(conn);
    let (mut after, mut read) = (Seq(0), 0);
    while read < ROWS_MAX {
        match outbox.rows(after, Seq(SEQ_MAX), PAGE) {
            Ok(page) if !page.more => return Ok(None),
            Ok(page) => {
                read += page.rows.len();
                after = page.rows.last().map_or(after, |row| row.seq);
            }
            Err(BoxError::Refused { reason }) => return Ok(Some(reason)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn cursor(conn: &Connection) -> rusqlite::Result<Option<Cursor>> {
    if columns::of_table(conn, "outbound_cursor")?.is_empty() {
        return Ok(None);
    }
    conn.query_row("SELECT seq, seen FROM outbound_cursor WHERE id = 1", [], |row| {
        Ok(Cursor { seq: row.get(0)?, seen: row.get(1)? })
    })
    .optional()
}

/// The newest rows of `table`, oldest first, and whether there are more.
fn select<T>(
    conn: &Connection,
    table: &'static str,
    wanted: &[Column],
    order: &'static str,
    from_row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<(Vec<T>, bool)> {
    let Some(select) = columns::select(conn, table, wanted)? else {
        return Ok((Vec::new(), false));
    };
    let limit = ROWS_MAX + 1;
    let mut rows: Vec<T> = conn
        .prepare(&format!("{select} ORDER BY {order} DESC LIMIT {limit}"))?
        .query_map([], |row| from_row(row))?
        .collect::<rusqlite::Result<_>>()?;
    let cut = rows.len() > ROWS_MAX;
    rows.truncate(ROWS_MAX);
    rows.reverse();
    Ok((rows, cut))
}

const MESSAGES: &[Column] = &[
    column("id"),
    column("seq"),
    column_or("status", "'pending'"),
    column_or("tries", "0"),
    column_or("forgiven", "0"),
    column_or("trigger", "1"),
    column("series_id"),
    column("recurrence"),
    column("zone"),
];
const DELIVERIES: &[Column] =
    &[column("message_out_id"), column_or("status", "'delivered'"), column("delivered_at")];
const ROWS: &[Column] = &[column("id"), column("seq"), column("in_reply_to"), column("timestamp")];
const ACKS: &[Column] =
    &[column("message_id"), column("status"), column("attempt"), column("runner_id")];

fn message_row(row: &Row<'_>) -> rusqlite::Result<MessageRow> {
    Ok(MessageRow {
        id: text(row, "id")?.unwrap_or_default(),
        seq: number(row, "seq")?,
        status: text(row, "status")?.unwrap_or_else(|| "pending".to_owned()),
        tries: number(row, "tries")?.unwrap_or(0),
        forgiven: number(row, "forgiven")?.unwrap_or(0),
        trigger: number(row, "trigger")?.unwrap_or(1) != 0,
        series: text(row, "series_id")?,
        recurrence: text(row, "recurrence")?,
        zone: text(row, "zone")?,
    })
}

fn delivery_row(row: &Row<'_>) -> rusqlite::Result<DeliveryRow> {
    Ok(DeliveryRow {
        row: text(row, "message_out_id")?.unwrap_or_default(),
        status: text(row, "status")?.unwrap_or_else(|| "delivered".to_owned()),
        changed_at: text(row, "delivered_at")?.and_then(|time| UnixMillis::parse(&time)),
    })
}

fn reply_row(row: &Row<'_>) -> rusqlite::Result<ReplyRow> {
    Ok(ReplyRow {
        id: text(row, "id")?.unwrap_or_default(),
        seq: number(row, "seq")?,
        in_reply_to: text(row, "in_reply_to")?,
        timestamp: text(row, "timestamp")?.and_then(|time| UnixMillis::parse(&time)),
    })
}

fn ack_row(row: &Row<'_>) -> rusqlite::Result<AckRow> {
    Ok(AckRow {
        message: text(row, "message_id")?.unwrap_or_default(),
        status: text(row, "status")?.unwrap_or_default(),
        attempt: number(row, "attempt")?,
        runner: text(row, "runner_id")?.and_then(|runner| runner.parse().ok()),
    })
}

/// The longest id that is looked at, in bytes: a little more than an id may have.
const TEXT_MAX: usize = 300;

fn text(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(name)? {
        ValueRef::Text(bytes) => {
            Some(String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_MAX)]).into_owned())
        }
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Blob(_) => None,
    })
}

fn number(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<i64>> {
    Ok(match row.get_ref(name)? {
        ValueRef::Integer(number) => Some(number),
        ValueRef::Null | ValueRef::Text(_) | ValueRef::Real(_) | ValueRef::Blob(_) => None,
    })
}
