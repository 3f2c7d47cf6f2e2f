//! Reading a database that a container wrote: as it lies there, or a repaired copy of it. Whatever is
//! in it, or stands in its place, is refused or costs no more than the deadline.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::{BoxError, pause_before, prepare_reader};
use crate::migrate;
use crate::recover;
use crate::syscalls::{Denial, Guard};

/// The longest text or blob that is read from a container's database, in bytes.
const UNTRUSTED_LENGTH_MAX: i32 = 4 << 20;

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
    read(path, OpenFlags::SQLITE_OPEN_READ_ONLY, &Guard::untrusted(), patience, work)
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
    let copy = recover::copy(path, scratch, quota)?;
    // To be rolled back it has to be written to.
    read(&copy, OpenFlags::SQLITE_OPEN_READ_WRITE, &Guard::confined(scratch), patience, work)
}

fn read<T>(
    path: &Path,
    access: OpenFlags,
    guard: &Guard,
    patience: Duration,
    work: impl FnOnce(&Connection) -> Result<T, BoxError>,
) -> Result<T, BoxError> {
    let result = (|| {
        let safely = OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(path, access | safely)
            .map_err(|source| BoxError::sqlite("open the outbox", source))?;
        distrust(&mut conn, Instant::now() + patience)?;
        prepare_reader(&conn, path, &migrate::OUTBOUND)?;
        work(&conn)
    })();
    result.map_err(|error| suspect(error, guard, path))
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
