//! `host.db`: opening, migrating, and the error that every query returns. One module for each
//! thing that is stored; each statement stands beside the type that it fills.
//!
//! WAL with `synchronous=FULL` on a local disk: a commit is durable when it returns, unless the
//! process has chosen a lesser [`Durability`]. Several processes may have the file open (the daemon and
//! commands); every write is one short `BEGIN IMMEDIATE` transaction. Nothing here touches a session's
//! folder.

pub mod agents;
pub mod audit;
mod handle;
pub mod identity;
pub mod messaging;
pub mod notices;
pub mod overview;
pub mod place;
pub mod refused;
pub mod schedules;
pub mod sessions;
pub mod storage;
pub mod wirings;

pub use handle::Db;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use twobox_shared::durability::Durability;
use twobox_shared::ids::{IdSource, InstallId};
use twobox_shared::time::UnixMillis;

/// Why an operation on `host.db` did not happen.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// SQLite refused.
    #[error("could not {action} in host.db")]
    Sqlite {
        /// What was tried.
        action: &'static str,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// There is no table in it.
    #[error(
        "host.db is empty: an installation was there, or `init` broke off. Restore it from a backup; \
         without one, `twobox sessions fsck --rebuild` makes a new one of what the sessions' folders \
         tell, and where there are none, `twobox init` a fresh one"
    )]
    Empty,
    /// The file was written by a newer build.
    #[error("host.db has version {found}, this build knows up to {known}: update Twobox")]
    Newer {
        /// The file's version.
        found: u32,
        /// Ours.
        known: u32,
    },
}

impl DbError {
    /// Whether somebody else held the write lock for longer than this connection waits: nothing was
    /// changed, and the same may be tried again.
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => {
                source.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
            }
            Self::Newer { .. } | Self::Empty => false,
        }
    }

    /// Whether it is of no use to try again before a person has changed something.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Empty | Self::Newer { .. })
    }

    /// Whether a row was found that has a value which no build of this version writes.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Sqlite { source, .. } if is_unreadable(source))
    }
}

/// Whether a value is not one that this version writes.
pub fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(
        error,
        FromSqlConversionFailure(..) | InvalidColumnType(..) | IntegralValueOutOfRange(..)
    )
}

/// Names the action of a failed statement.
pub fn failed(action: &'static str) -> impl Fn(rusqlite::Error) -> DbError {
    move |source| DbError::Sqlite { action, source }
}

/// Opens or migrates `host.db`. An empty one is no installation but what is left of one.
///
/// # Errors
/// [`DbError::Newer`] for a file of a newer build, [`DbError::Empty`] for one without tables.
pub fn open(path: &Path) -> Result<Connection, DbError> {
    match is_blank(path)? {
        true => Err(DbError::Empty),
        false => open_with(path, OpenFlags::empty()),
    }
}

/// As [`open`], and makes a new one where there is none or an empty one. Whoever calls this knows that
/// nothing is lost there.
///
/// # Errors
/// [`DbError::Newer`] for a file of a newer build.
pub fn create(path: &Path) -> Result<Connection, DbError> {
    open_with(path, OpenFlags::SQLITE_OPEN_CREATE)
}

/// Whether the file is missing, or has no tables. Nothing is changed.
///
/// # Errors
/// [`DbError::Sqlite`] if it is no database, or cannot be read.
pub fn is_blank(path: &Path) -> Result<bool, DbError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        _ => {} // SQLite says what is wrong
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let look = || {
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(Duration::from_secs(10))?;
        has_no_tables(&db)
    };
    look().map_err(failed("open the database"))
}

fn has_no_tables(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
}

fn open_with(path: &Path, create: OpenFlags) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let mut db = Connection::open_with_flags(path, flags).map_err(failed("open the database"))?;
    let configure = failed("configure the database");
    db.busy_timeout(Duration::from_secs(10)).map_err(&configure)?;
    db.pragma_update(None, "journal_mode", "WAL").map_err(&configure)?;
    let synchronous = match Durability::chosen() {
        Durability::PowerLoss => "FULL",
        Durability::ProcessCrash => "OFF",
    };
    db.pragma_update(None, "synchronous", synchronous).map_err(&configure)?;
    db.pragma_update(None, "foreign_keys", true).map_err(&configure)?;
    migrate(&mut db)?;
    Ok(db)
}

fn migrate(db: &mut Connection) -> Result<(), DbError> {
    let step = failed("migrate");
    let known = u32::try_from(twobox_schema::HOST.len()).expect("a handful of migrations");
    if version(db).map_err(&step)? == known {
        return Ok(());
    }
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
    let found = version(&tx).map_err(&step)?;
    if found > known {
        return Err(DbError::Newer { found, known });
    }
    for migration in &twobox_schema::HOST[found as usize..] {
        tx.execute_batch(migration).map_err(&step)?;
    }
    tx.pragma_update(None, "user_version", known).map_err(&step)?;
    tx.commit().map_err(&step)
}

fn version(db: &Connection) -> rusqlite::Result<u32> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// The id of this installation, made at the first call.
///
/// # Errors
/// [`DbError::Sqlite`].
pub fn install_id(
    db: &Connection,
    ids: &(impl IdSource + ?Sized),
    now: UnixMillis,
) -> Result<InstallId, DbError> {
    let fresh = InstallId::generate(ids);
    db.execute(
        "INSERT INTO install (id, install_id, created_at_ms) VALUES (1, ?1, ?2)
         ON CONFLICT (id) DO NOTHING",
        rusqlite::params![fresh, now],
    )
    .map_err(failed("name the installation"))?;
    db.query_row("SELECT install_id FROM install WHERE id = 1", [], |row| row.get(0))
        .map_err(failed("read the installation's id"))
}

/// Reads a little.
///
/// # Errors
/// [`DbError::Sqlite`] if that does not work.
pub fn is_readable(db: &Connection) -> Result<(), DbError> {
    db.query_row("SELECT count(*) FROM install", [], |_| Ok(())).map_err(failed("read"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::ids::SystemIds;

    #[test]
    fn a_newer_file_is_refused_and_an_install_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.db");
        assert!(is_blank(&path).unwrap() && open(&path).is_err());
        std::fs::write(&path, "").unwrap();
        let refusal = open(&path).unwrap_err().to_string();
        assert!(refusal.contains("fsck --rebuild"), "{refusal}");
        let db = create(&path).unwrap();
        let first = install_id(&db, &SystemIds, UnixMillis(1)).unwrap();
        assert_eq!(install_id(&db, &SystemIds, UnixMillis(2)).unwrap(), first);
        db.pragma_update(None, "user_version", 1000).unwrap();
        drop(db);
        let refusal = open(&path).unwrap_err().to_string();
        assert!(refusal.contains("update Twobox"), "{refusal}");
    }
}
