//! Where an installation lives: what `host.db` remembers of its place, compared with what is seen
//! there now. A copy of a data directory has the same id as its original, and two hosts under one id
//! would take each other's containers and messages for their own.
//!
//! What may change by itself: the numbers of devices, at any start of the machine; the name of the
//! directory, when somebody renames it. What does not: the directory and `host.db` themselves, which
//! are told by their inodes and the times at which these were made, and the machine. A clone of a
//! whole machine that keeps its machine id cannot be told from it, nor can a disk that was put back
//! to an earlier state.

use std::fmt;
use std::path::PathBuf;

/// A file or folder that cannot be mistaken for another one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
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
    pub folder: FileIdentity,
    /// `host.db`.
    pub database: FileIdentity,
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

impl FileIdentity {
    /// Whether both may be one file: numbers are given out again, times of birth are not.
    fn may_be(self, other: Self) -> bool {
        let born_apart = self.born.zip(other.born).is_some_and(|(before, now)| before != now);
        self.inode == other.inode && !born_apart
    }
}

#[cfg(test)]
#[path = "installation_tests.rs"]
mod tests;
