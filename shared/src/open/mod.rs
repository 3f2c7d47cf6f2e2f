//! Opening the two session databases: one function for each role.
//!
//! | role | opened by | may |
//! |---|---|---|
//! | [`inbox_writer`], [`inbox_owner`] | host | create, migrate, write |
//! | [`inbox_reader`] | runner | read |
//! | [`outbox_writer`], [`outbox_owner`] | runner | create, migrate, repair, write |
//! | [`outbox_reader`] | host | read hostile input, within a deadline |
//!
//! Every connection is opened for one operation and closed after it: a cached page of a file that
//! the other side writes is a message never seen. All roles want `journal_mode=DELETE` and refuse a
//! file in another mode. Only one connection per file and process may be open at a time, because
//! closing any descriptor of a file drops all POSIX locks of the process on it.

mod error;
mod untrusted;

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use crate::durability::Durability;
use crate::header;
use crate::migrate::{self, Shape};
use crate::syscalls;

pub use error::{BoxError, Remedy};
pub(crate) use untrusted::no_plain_file;
pub use untrusted::{outbox_copy, outbox_reader};

/// How long a writer waits for the other side's locks. A host write that is busy for longer means
/// that a container holds a lock, and the host stops that container.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a runner's reader waits for the host's commit.
pub const READ_PATIENCE: Duration = Duration::from_secs(5);

/// The size of a page of a box that is not expected to grow, in bytes: the smallest that SQLite has. A
/// box has some twenty tables and indexes, each of which takes a page as soon as it exists. With small
/// pages a large content takes more reads, so what is talked in for long has SQLite's own size.
pub const SMALL_PAGE: u32 = 512;

/// The host's side of the inbox: creates and migrates it.
///
/// # Errors
/// [`BoxError::Busy`] after [`WRITE_PATIENCE`] if the container holds a lock.
pub fn inbox_writer(path: &Path) -> Result<Connection, BoxError> {
    owner(path, &migrate::INBOUND, None)
}

/// As [`inbox_writer`]. An inbox that is not there yet is made of pages of `page_size` bytes.
///
/// # Errors
/// As for [`inbox_writer`].
pub fn inbox_writer_with_pages(
    path: &Path,
    page_size: Option<u32>,
) -> Result<Connection, BoxError> {
    owner(path, &migrate::INBOUND, page_size)
}

/// The runner's side of the outbox: creates, migrates and, after a crash, rolls it back.
///
/// # Errors
/// [`BoxError::Busy`] after [`WRITE_PATIENCE`].
pub fn outbox_writer(path: &Path) -> Result<Connection, BoxError> {
    owner(path, &migrate::OUTBOUND, None)
}

/// As [`outbox_writer`]. An outbox that is not there yet is made of pages of `page_size` bytes.
///
/// # Errors
/// As for [`outbox_writer`].
pub fn outbox_writer_with_pages(
    path: &Path,
    page_size: Option<u32>,
) -> Result<Connection, BoxError> {
    owner(path, &migrate::OUTBOUND, page_size)
}

/// How large the pages of the inbox at `path` are, in bytes, so that the outbox beside it is made alike;
/// `None` if that cannot be known now.
pub fn page_size_of_inbox(path: &Path) -> Option<u32> {
    let inbox = inbox_reader_within(path, Duration::ZERO).ok()?;
    inbox.query_row("PRAGMA page_size", [], |row| row.get(0)).ok()
}

/// The runner's side of the inbox.
///
/// # Errors
/// [`BoxError::HotJournal`] if the host died in a commit: wait, the host repairs it.
pub fn inbox_reader(path: &Path) -> Result<Connection, BoxError> {
    inbox_reader_within(path, READ_PATIENCE)
}

/// As [`inbox_reader`], waiting for locks for at most `patience`.
pub(crate) fn inbox_reader_within(path: &Path, patience: Duration) -> Result<Connection, BoxError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    syscalls::begin();
    let mut conn = Connection::open_with_flags(path, flags)
        .map_err(|source| BoxError::sqlite("open the inbox", source))?;
    wait_for_locks(&mut conn, patience)?;
    prepare_reader(&conn, path, &migrate::INBOUND)?;
    Ok(conn)
}

/// The host's side of the inbox, for an operation that only reads. The file is not opened for
/// writing unless it has to be created, migrated or rolled back: the close of a file that was open
/// for writing is what wakes the other side.
///
/// # Errors
/// As for [`inbox_writer`].
pub fn inbox_owner(path: &Path) -> Result<Connection, BoxError> {
    owner_to_read(path, &migrate::INBOUND, None)
}

/// The runner's side of the outbox, for an operation that only reads; as [`inbox_owner`]. An outbox that
/// is not there yet is made of pages of `page_size` bytes.
///
/// # Errors
/// As for [`outbox_writer`].
pub fn outbox_owner(path: &Path, page_size: Option<u32>) -> Result<Connection, BoxError> {
    owner_to_read(path, &migrate::OUTBOUND, page_size)
}

fn owner_to_read(
    path: &Path,
    shape: &Shape,
    page_size: Option<u32>,
) -> Result<Connection, BoxError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    syscalls::begin();
    let current = Connection::open_with_flags(path, flags)
        .map_err(|source| BoxError::sqlite("open the database", source))
        .and_then(|mut conn| {
            configure_owner(&mut conn, path)?;
            Ok((migrate::version_of(&conn)? == shape.version).then_some(conn))
        });
    match current {
        Ok(Some(conn)) => Ok(conn),
        // Missing, older, newer or hot: the writer knows what to do, or says what is wrong.
        Ok(None) | Err(_) => owner(path, shape, page_size),
    }
}

fn owner(path: &Path, shape: &Shape, page_size: Option<u32>) -> Result<Connection, BoxError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    syscalls::begin();
    let mut conn = Connection::open_with_flags(path, flags)
        .map_err(|source| BoxError::sqlite("open the database", source))?;
    configure_owner(&mut conn, path)?;
    if let Some(page_size) = page_size {
        // A file that has pages already keeps them.
        conn.pragma_update(None, "page_size", page_size)
            .map_err(|source| BoxError::sqlite("configure the database", source))?;
    }
    migrate::bring_up(&mut conn, shape)?;
    Ok(conn)
}

/// Waits for the other side's locks for at most `patience` at a time. The other side holds them for
/// about a millisecond, so the first pauses are shorter than that: SQLite's own handler would begin
/// with a whole one.
fn wait_for_locks(conn: &mut Connection, patience: Duration) -> Result<(), BoxError> {
    let mut deadline = Instant::now();
    conn.busy_handler(Some(move |tries: i32| {
        if tries == 0 {
            deadline = Instant::now() + patience;
        }
        pause_before(deadline, tries)
    }))
    .map_err(|source| BoxError::sqlite("configure the database", source))
}

/// The pause after the `tries`-th look at a lock, unless the deadline has come: `false`.
fn pause_before(deadline: Instant, tries: i32) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let pause = Duration::from_micros(100 << tries.clamp(0, 6));
    std::thread::sleep(left.min(pause));
    !left.is_zero()
}

fn configure_owner(conn: &mut Connection, path: &Path) -> Result<(), BoxError> {
    let configure = |source| BoxError::sqlite("configure the database", source);
    wait_for_locks(conn, WRITE_PATIENCE)?;
    conn.pragma_update(None, "mmap_size", 0).map_err(configure)?;
    refuse_wal(conn, path)?;
    let synchronous = match Durability::chosen() {
        // Syncs the folder after the journal's unlink, before the locks are dropped: what the other
        // side can see is durable.
        Durability::PowerLoss => "EXTRA",
        Durability::ProcessCrash => "OFF",
    };
    conn.pragma_update(None, "synchronous", synchronous).map_err(configure)
}

/// Refuses a WAL file before SQLite has read from it, so that it stays as it is and no file is
/// created beside it.
fn refuse_wal(conn: &Connection, path: &Path) -> Result<(), BoxError> {
    match header::says_wal(conn, path) {
        true => Err(BoxError::NotDeleteMode { path: path.to_owned() }),
        false => Ok(()),
    }
}

fn prepare_reader(conn: &Connection, path: &Path, shape: &Shape) -> Result<(), BoxError> {
    refuse_wal(conn, path)?;
    // It may have become a WAL file just now; in exclusive mode that is an I/O error.
    let found =
        configure_reader(conn).and_then(|()| migrate::version_of(conn)).map_err(|error| {
            match header::says_wal(conn, path) {
                true => BoxError::NotDeleteMode { path: path.to_owned() },
                false => error,
            }
        })?;
    if found > shape.version {
        return Err(BoxError::Newer { found, known: shape.version });
    }
    Ok(())
}

/// Settings of both readers. Exclusive locking comes first: in that mode SQLite never maps a
/// shared-memory file, which the other side could truncate under it, should it make a WAL file of
/// the database just now. A read-only connection then fails for want of a write lock.
fn configure_reader(conn: &Connection) -> Result<(), BoxError> {
    let configure = |source| BoxError::sqlite("configure the database", source);
    conn.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(configure)?;
    conn.pragma_update(None, "mmap_size", 0).map_err(configure)?;
    conn.pragma_update(None, "temp_store", "MEMORY").map_err(configure)?;
    // One read transaction for everything that follows; dropping the connection ends it.
    conn.execute_batch("BEGIN").map_err(configure)
}
