//! Opening and migrating `host.db`.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use twobox_shared::durability::Durability;
use twobox_shared::ids::InstallId;

use crate::{DbError, failed, identity};

/// How long a statement waits for a lock that another process holds.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Opens or migrates `host.db`. An empty one is no installation but what is left of one.
///
/// # Errors
/// [`DbError::Newer`] for a file of a newer build, [`DbError::Empty`] for one without tables.
pub(crate) fn open(path: &Path) -> Result<Connection, DbError> {
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
pub(crate) fn create(path: &Path) -> Result<Connection, DbError> {
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
        db.busy_timeout(LOCK_WAIT)?;
        has_no_tables(&db)
    };
    look().map_err(failed("open the database"))
}

/// Whose `host.db` that is, of whatever version; `None` if it has no installation yet. Nothing is changed.
///
/// # Errors
/// [`DbError::Sqlite`] if it is no database of ours, or cannot be read.
pub fn install_of(path: &Path) -> Result<Option<InstallId>, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(failed("open the database"))?;
    db.pragma_update(None, "query_only", true).map_err(failed("open the database"))?;
    identity::install(&db)
}

/// What SQLite says about a file of whatever version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DbHealth {
    /// There is no table in it.
    Empty,
    /// A newer build wrote it.
    Newer {
        /// Its version.
        found: u32,
        /// The newest that this build knows.
        known: u32,
    },
    /// No damage was found.
    Sound {
        /// Its version.
        version: u32,
    },
    /// What is damaged.
    Damaged(String),
}

/// Examines the whole file and changes nothing.
///
/// # Errors
/// [`DbError::Sqlite`] if it cannot be read, or is no database.
pub fn health(path: &Path) -> Result<DbHealth, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let examine = || {
        let db = Connection::open_with_flags(path, flags)?;
        let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        Ok((version(&db)?, verdict))
    };
    let (found, verdict) = examine().map_err(failed("examine the database"))?;
    let known = known();
    Ok(match (found, verdict) {
        (found, _) if found > known => DbHealth::Newer { found, known },
        (0, _) => DbHealth::Empty,
        (version, verdict) if verdict == "ok" => DbHealth::Sound { version },
        (_, damage) => DbHealth::Damaged(damage),
    })
}

/// The newest version that this build knows.
fn known() -> u32 {
    u32::try_from(twobox_schema::HOST.len()).expect("a handful of migrations")
}

fn has_no_tables(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
}

fn open_with(path: &Path, create: OpenFlags) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
    let mut db = Connection::open_with_flags(path, flags).map_err(failed("open the database"))?;
    let configure = failed("configure the database");
    db.busy_timeout(LOCK_WAIT).map_err(&configure)?;
    db.pragma_update(None, "journal_mode", "WAL").map_err(&configure)?;
    let synchronous = match Durability::chosen() {
        Durability::PowerLoss => "FULL",
        Durability::ProcessCrash => "OFF",
    };
    db.pragma_update(None, "synchronous", synchronous).map_err(&configure)?;
    db.pragma_update(None, "foreign_keys", true).map_err(&configure)?;
    // What is temporary is a fence (`ownership`), and needs no file.
    db.pragma_update(None, "temp_store", "MEMORY").map_err(&configure)?;
    migrate(&mut db)?;
    Ok(db)
}

fn migrate(db: &mut Connection) -> Result<(), DbError> {
    let step = failed("migrate");
    let known = known();
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

/// Opens `host.db` to look at it. What a killed host left in the write-ahead log stays there.
///
/// # Errors
/// [`DbError::Newer`] for a file of a newer build; [`DbError::Sqlite`] for one of an older build
/// that the host has not brought up to date yet.
pub(crate) fn look(path: &Path) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let left_behind = Path::new(&log).exists();
    let db = Connection::open_with_flags(path, flags).map_err(failed("open the database"))?;
    let configure = failed("configure the database");
    db.busy_timeout(LOCK_WAIT).map_err(&configure)?;
    db.pragma_update(None, "query_only", true).map_err(&configure)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, left_behind)
        .map_err(&configure)?;
    if has_no_tables(&db).map_err(&configure)? {
        return Err(DbError::Empty);
    }
    let found = version(&db).map_err(&configure)?;
    let known = known();
    match found {
        found if found > known => Err(DbError::Newer { found, known }),
        found if found < known => Err(DbError::Sqlite {
            action: "find the tables of this version; start the host once, it brings them up to \
                     date",
            source: rusqlite::Error::InvalidQuery,
        }),
        _ => Ok(db),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::ids::SystemIds;
    use twobox_shared::time::UnixMillis;

    #[test]
    fn a_newer_file_is_refused_and_an_install_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.db");
        assert!(is_blank(&path).unwrap() && open(&path).is_err());
        std::fs::write(&path, "").unwrap();
        let refusal = open(&path).unwrap_err().to_string();
        assert!(refusal.contains("fsck --rebuild"), "{refusal}");
        let db = crate::Store::create(&path).unwrap();
        let first = db.installation().id_or_new(&SystemIds, UnixMillis(1)).wait().unwrap();
        let again = db.installation().id_or_new(&SystemIds, UnixMillis(2)).wait().unwrap();
        assert_eq!((again, install_of(&path).unwrap()), (first, Some(first)));
        db.raw().pragma_update(None, "user_version", 1000).unwrap();
        drop(db);
        let refusal = open(&path).unwrap_err().to_string();
        assert!(refusal.contains("update Twobox"), "{refusal}");
    }
}
