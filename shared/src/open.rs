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

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use crate::durability::Durability;
use crate::header;
use crate::migrate::{self, Shape};
use crate::syscalls::{self, Denial, Guard};

/// How long a writer waits for the other side's locks. A host write that is busy for longer means
/// that a container holds a lock, and the host stops that container.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a runner's reader waits for the host's commit.
pub const READ_PATIENCE: Duration = Duration::from_secs(5);

/// The longest text or blob that is read from a container's database, in bytes.
const UNTRUSTED_LENGTH_MAX: i32 = 4 << 20;

/// Why an operation on a session database did not happen. Callers ask for the [`Remedy`]; people
/// read the chain.
#[derive(Debug, thiserror::Error)]
pub enum BoxError {
    /// The file is locked, or in the middle of a commit.
    #[error("the database is busy: {detail}")]
    Busy {
        /// What SQLite said.
        detail: String,
    },
    /// A commit was interrupted and only the file's owner may undo it.
    #[error("the database has a hot journal that only its owner may roll back")]
    HotJournal,
    /// The file is not in `journal_mode=DELETE`.
    #[error(
        "{path} is in WAL mode, which does not work across a mount; its owner has to run PRAGMA \
         journal_mode=DELETE"
    )]
    NotDeleteMode {
        /// The database.
        path: PathBuf,
    },
    /// The file was written by a newer build.
    #[error("the database has version {found}, this build knows up to {known}: update Twobox")]
    Newer {
        /// The file's `user_version`.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The content breaks a rule of the protocol.
    #[error("the database was refused: {reason}")]
    Refused {
        /// Which rule.
        reason: String,
    },
    /// The claim rows no longer carry this runner's id and attempt.
    #[error("the claim on message {message} is no longer this runner's: the turn is discarded")]
    Fenced {
        /// The message that was claimed.
        message: String,
    },
    /// SQLite refused.
    #[error("could not {action}")]
    Sqlite {
        /// What was tried.
        action: &'static str,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// The operating system refused.
    #[error("could not {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// What helps against a [`BoxError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The same call again, a little later.
    TryAgain,
    /// The owner of the file has to repair it.
    Repair,
    /// Nothing: the file breaks the protocol and must not be used.
    Quarantine,
    /// A person: the disk, the permissions or this build.
    Operator,
}

impl BoxError {
    /// Sorts an error of SQLite: busy files and hot journals have variants of their own, and a file
    /// that could not be read is not called corrupt.
    pub fn sqlite(action: &'static str, source: rusqlite::Error) -> Self {
        let Some(error) = source.sqlite_error() else {
            return Self::Sqlite { action, source };
        };
        match error.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                Self::Busy { detail: source.to_string() }
            }
            _ if error.extended_code == ffi::SQLITE_READONLY_ROLLBACK
                || error.extended_code == ffi::SQLITE_READONLY_RECOVERY =>
            {
                Self::HotJournal
            }
            // What was read may be corrupt; what could not be read is only unknown.
            ErrorCode::DatabaseCorrupt if syscalls::read_failed() => {
                let error = ffi::Error::new(ffi::SQLITE_IOERR_READ);
                Self::Sqlite { action, source: rusqlite::Error::SqliteFailure(error, None) }
            }
            _ => Self::Sqlite { action, source },
        }
    }

    /// What helps.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Busy { .. } => Remedy::TryAgain,
            Self::HotJournal => Remedy::Repair,
            Self::NotDeleteMode { .. } | Self::Refused { .. } => Remedy::Quarantine,
            Self::Newer { .. } | Self::Fenced { .. } | Self::Io { .. } => Remedy::Operator,
            Self::Sqlite { source, .. } => match source.sqlite_error_code() {
                Some(ErrorCode::OperationInterrupted) => Remedy::TryAgain,
                Some(
                    ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::TooBig
                    | ErrorCode::TypeMismatch,
                ) => Remedy::Quarantine,
                None => Remedy::Quarantine, // a value of the wrong type, or text that is not UTF-8
                Some(_) => Remedy::Operator,
            },
        }
    }
}

/// The host's side of the inbox: creates and migrates it.
///
/// # Errors
/// [`BoxError::Busy`] after [`WRITE_PATIENCE`] if the container holds a lock.
pub fn inbox_writer(path: &Path) -> Result<Connection, BoxError> {
    owner(path, &migrate::INBOUND)
}

/// The runner's side of the outbox: creates, migrates and, after a crash, rolls it back.
///
/// # Errors
/// [`BoxError::Busy`] after [`WRITE_PATIENCE`].
pub fn outbox_writer(path: &Path) -> Result<Connection, BoxError> {
    owner(path, &migrate::OUTBOUND)
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
    owner_to_read(path, &migrate::INBOUND)
}

/// The runner's side of the outbox, for an operation that only reads; as [`inbox_owner`].
///
/// # Errors
/// As for [`outbox_writer`].
pub fn outbox_owner(path: &Path) -> Result<Connection, BoxError> {
    owner_to_read(path, &migrate::OUTBOUND)
}

fn owner_to_read(path: &Path, shape: &Shape) -> Result<Connection, BoxError> {
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
        Ok(None) | Err(_) => owner(path, shape),
    }
}

fn owner(path: &Path, shape: &Shape) -> Result<Connection, BoxError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    syscalls::begin();
    let mut conn = Connection::open_with_flags(path, flags)
        .map_err(|source| BoxError::sqlite("open the database", source))?;
    configure_owner(&mut conn, path)?;
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

/// Opens `path` for reading if it is a regular file with one link, without following a symbolic
/// link and without waiting.
pub(crate) fn regular_file(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW)
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.nlink() != 1 {
        return Err(io::Error::from_raw_os_error(nix::libc::ELOOP)); // as for a symbolic link
    }
    Ok(file)
}

/// Runs `work` on one read transaction of a database that a container wrote, within `patience`.
///
/// The connection never follows a link, never waits for a FIFO, maps no file, runs no code from the
/// schema, and stops at the deadline wherever it is. `path` must be canonical down to its last
/// component.
///
/// # Errors
/// [`BoxError::HotJournal`] if a commit was interrupted: only the container, or [`outbox_copy`]
/// once no process of the session lives, may go on. Otherwise whatever `work` returns.
pub fn outbox_reader<T>(
    path: &Path,
    patience: Duration,
    work: impl FnOnce(&Connection) -> Result<T, BoxError>,
) -> Result<T, BoxError> {
    let guard = Guard::untrusted();
    let result = (|| {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(path, flags)
            .map_err(|source| BoxError::sqlite("open the outbox", source))?;
        distrust(&mut conn, Instant::now() + patience)?;
        prepare_reader(&conn, path, &migrate::OUTBOUND)?;
        work(&conn)
    })();
    result.map_err(|error| suspect(error, &guard, path))
}

/// As [`outbox_reader`], on a repaired copy in `scratch` (a private folder that exists and is
/// empty, by its canonical path): for an outbox whose container was killed inside a commit.
///
/// Only when the runtime has confirmed that no process of the session lives: a copy of a live
/// database is torn and looks healthy.
///
/// # Errors
/// [`BoxError::Refused`] if the journal is not one that an honest runner leaves behind, or the files
/// are larger than `quota` bytes.
pub fn outbox_copy<T>(
    path: &Path,
    scratch: &Path,
    quota: u64,
    patience: Duration,
    work: impl FnOnce(&Connection) -> Result<T, BoxError>,
) -> Result<T, BoxError> {
    let scratch = &scratch.canonicalize().map_err(|source| BoxError::Io {
        action: "find the folder",
        path: scratch.to_owned(),
        source,
    })?;
    let copy = crate::recover::copy(path, scratch, quota)?;
    let guard = Guard::confined(scratch);
    let result = (|| {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(&copy, flags)
            .map_err(|source| BoxError::sqlite("open the copy of the outbox", source))?;
        distrust(&mut conn, Instant::now() + patience)?;
        prepare_reader(&conn, &copy, &migrate::OUTBOUND)?;
        work(&conn)
    })();
    result.map_err(|error| suspect(error, &guard, &copy))
}

/// Tells an attack from the host's own trouble, which SQLite reports alike. In a file that an honest
/// runner wrote every statement of ours compiles and runs, so a plain SQL error is an attack too.
fn suspect(error: BoxError, guard: &Guard, path: &Path) -> BoxError {
    let code = match &error {
        BoxError::Sqlite { source, .. } => source.sqlite_error_code(),
        // SQLite takes a journal that it cannot open for a hot one.
        BoxError::HotJournal => Some(ErrorCode::CannotOpen),
        _ => None,
    };
    let refused = |reason: String| BoxError::Refused { reason };
    match code {
        Some(ErrorCode::CannotOpen) => match guard.denial() {
            Some(Denial::Hostile(file)) => refused(no_plain_file(&file)),
            // SQLite looks for links itself, before it opens anything.
            None if is_symlink(&error) => refused(no_plain_file(path)),
            Some(Denial::System(path, source)) => BoxError::Io { action: "open", path, source },
            None if matches!(error, BoxError::HotJournal) => error,
            None => match path.symlink_metadata() {
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => {
                    BoxError::Busy { detail: "the file vanished".to_owned() }
                }
                Err(source) => BoxError::Io { action: "open", path: path.to_owned(), source },
                Ok(_) => refused(describe(&error)),
            },
        },
        Some(ErrorCode::SystemIoFailure) => match &error {
            BoxError::Sqlite { source, .. }
                if source
                    .sqlite_error()
                    .is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHORT_READ) =>
            {
                refused(describe(&error)) // cut short while we read
            }
            _ => error,
        },
        Some(ErrorCode::Unknown) => refused(describe(&error)),
        _ => error,
    }
}

fn is_symlink(error: &BoxError) -> bool {
    let BoxError::Sqlite { source, .. } = error else { return false };
    source.sqlite_error().is_some_and(|it| it.extended_code == ffi::SQLITE_CANTOPEN_SYMLINK)
}

/// Why something that a container put in a file's place is refused.
pub(crate) fn no_plain_file(path: &Path) -> String {
    format!("{} is not a regular file with one link and no symbolic link", path.display())
}

fn describe(error: &BoxError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Everything that keeps hostile content from running code, using memory, or taking time.
fn distrust(conn: &mut Connection, deadline: Instant) -> Result<(), BoxError> {
    let configure = |source| BoxError::sqlite("configure the outbox", source);
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(configure)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(configure)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).map_err(configure)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false).map_err(configure)?;
    let limits = [
        (Limit::SQLITE_LIMIT_LENGTH, UNTRUSTED_LENGTH_MAX),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 100_000),
        (Limit::SQLITE_LIMIT_COLUMN, 100),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 50),
        (Limit::SQLITE_LIMIT_VDBE_OP, 25_000),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1),
    ];
    for (limit, value) in limits {
        conn.set_limit(limit, value).map_err(configure)?;
    }
    // One deadline for the whole operation, in both places where SQLite may spend time: a lock
    // held for ever never calls the progress handler.
    conn.progress_handler(100, Some(move || Instant::now() >= deadline)).map_err(configure)?;
    conn.busy_handler(Some(move |tries| pause_before(deadline, tries))).map_err(configure)
}
