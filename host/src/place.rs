//! Where an installation lives: what `host.db` remembers of its place, compared with what is seen
//! there now. A copy of a data directory has the same id as its original, and two hosts under one id
//! would take each other's containers and letters for their own.
//!
//! What may change by itself: the numbers of devices, at any start of the machine; the name of the
//! directory, when somebody renames it. What does not: the directory and `host.db` themselves, which
//! are told by their inodes and the times at which these were made, and the machine. A clone of a
//! whole machine that keeps its machine id cannot be told from it, nor can a disk that was put back
//! to an earlier state.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rusqlite::Connection;
use twobox_shared::content::digest16;
use twobox_shared::time::UnixMillis;

use crate::data::{DataDir, is_forbidden};
use crate::db::DbError;
use crate::db::place as stored;

/// Where a machine's id stands: of systemd, and of D-Bus where there is none.
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// A file or folder that cannot be mistaken for another one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its number on its file system.
    pub inode: u64,
    /// When that was made, in nanoseconds since 1970; `None` where the file system does not say.
    pub born: Option<i64>,
}

/// Where an installation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The canonical path of the data directory.
    pub path: PathBuf,
    /// The device that it is on, by its number until the machine is started anew.
    pub device: u64,
    /// The data directory.
    pub folder: Mark,
    /// `host.db`.
    pub database: Mark,
    /// A digest of the machine's id; `None` where it has none, as in many containers.
    pub machine: Option<String>,
}

/// Whether an installation is where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is, perhaps under another name.
    Same,
    /// It is not, or nobody can tell.
    Elsewhere(Why),
}

/// Why an installation is taken to be elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The machine is another one.
    Machine,
    /// The directory is another one.
    Folder,
    /// The directory is the same, and `host.db` was put into it.
    Database,
    /// Path and device have both changed, and everything else is the same: the same disk in another
    /// place, or a snapshot or clone of it.
    Disk,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "this is another machine",
            Self::Folder => "the directory is another one",
            Self::Database => "another host.db was put into the directory",
            Self::Disk => "it is on another disk, or on a snapshot or clone of its disk",
        })
    }
}

/// Decides whether the installation that was at `remembered` is the one that is seen.
pub fn judge(remembered: &Place, seen: &Place) -> Verdict {
    let machines = (&remembered.machine, &seen.machine);
    if let (Some(before), Some(now)) = machines
        && before != now
    {
        return Verdict::Elsewhere(Why::Machine);
    }
    if !remembered.folder.may_be(seen.folder) {
        return Verdict::Elsewhere(Why::Folder);
    }
    if !remembered.database.may_be(seen.database) {
        return Verdict::Elsewhere(Why::Database);
    }
    // One of the two changes by itself: the number at a start of the machine, the path when the
    // directory is renamed or reached by another name.
    if remembered.path != seen.path && remembered.device != seen.device {
        return Verdict::Elsewhere(Why::Disk);
    }
    Verdict::Same
}

impl Mark {
    /// Whether both may be one file: numbers are given out again, times of birth are not.
    fn may_be(self, other: Self) -> bool {
        let born_apart = self.born.zip(other.born).is_some_and(|(before, now)| before != now);
        self.inode == other.inode && !born_apart
    }

    fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born = born.and_then(|since| i64::try_from(since.as_nanos()).ok());
        Self { inode: metadata.ino(), born }
    }
}

impl Place {
    /// Where `data` is now. Blocks.
    ///
    /// # Errors
    /// The system's reason.
    pub fn see(data: &DataDir) -> io::Result<Self> {
        let folder = data.root().metadata()?;
        Ok(Self {
            path: data.root().to_owned(),
            device: folder.dev(),
            folder: Mark::of(&folder),
            database: Mark::of(&data.host_db().metadata()?),
            machine: MACHINE_IDS.iter().find_map(|path| machine(Path::new(path))),
        })
    }
}

/// A digest of the id in a file: the id itself is nobody else's business (machine-id(5)).
fn machine(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let id = text.trim();
    let is_one = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| digest16(&format!("twobox\0{}", id.to_ascii_lowercase())))
}

/// Why a data directory is not worked on.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It is not where its host left it.
    #[error(
        "{} is not where this installation last ran, which was {}: {why}. A host that runs on both \
         would fight with itself. If the installation has moved here, or was restored here, and the \
         old one is gone: `twobox --data {} init --moved`. If this is a copy, and the original goes \
         on: `twobox --data {} init --copy`",
        seen.display(), remembered.display(), seen.display(), seen.display()
    )]
    Elsewhere {
        /// Where it is.
        seen: PathBuf,
        /// Where it was.
        remembered: PathBuf,
        /// What shows that.
        why: Why,
    },
    /// `host.db` refused.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The system does not say.
    #[error("could not look where {path} is")]
    Io {
        /// The data directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl PlaceError {
    /// Whether it is of no use to try again before a person has changed something.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Elsewhere { .. } => true,
            Self::Db(error) => error.is_configuration(),
            Self::Io { source, .. } => is_forbidden(source),
        }
    }
}

/// What is remembered and what is seen.
///
/// # Errors
/// [`PlaceError::Db`] or [`PlaceError::Io`].
pub fn compare(db: &Connection, data: &DataDir) -> Result<(Option<Place>, Place), PlaceError> {
    let seen = Place::see(data)
        .map_err(|source| PlaceError::Io { path: data.root().to_owned(), source })?;
    Ok((stored::remembered(db)?, seen))
}

/// Refuses a data directory that is not where its host left it. One whose host has never said where
/// it is, because it has not started since that is asked, passes.
///
/// # Errors
/// [`PlaceError`].
pub fn confirm(db: &Connection, data: &DataDir) -> Result<(), PlaceError> {
    let (remembered, seen) = compare(db, data)?;
    match remembered {
        Some(remembered) => same(&remembered, &seen),
        None => Ok(()),
    }
}

/// As [`confirm`], and remembers where it is from now on.
///
/// # Errors
/// [`PlaceError`].
pub fn settle(db: &Connection, data: &DataDir, now: UnixMillis) -> Result<(), PlaceError> {
    let (remembered, seen) = compare(db, data)?;
    if let Some(remembered) = &remembered {
        same(remembered, &seen)?;
    }
    if remembered.as_ref() != Some(&seen) {
        stored::remember(db, &seen, now)?;
    }
    Ok(())
}

fn same(remembered: &Place, seen: &Place) -> Result<(), PlaceError> {
    match judge(remembered, seen) {
        Verdict::Same => Ok(()),
        Verdict::Elsewhere(why) => Err(PlaceError::Elsewhere {
            seen: seen.path.clone(),
            remembered: remembered.path.clone(),
            why,
        }),
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
