//! Whether a data directory is where its host left it, as the system shows it: what is seen there and
//! what `host.db` remembers. The decision is [`twobox_model::installation::judge`].

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use twobox_shared::content::digest16;
use twobox_shared::time::UnixMillis;

use twobox_model::installation::{FileIdentity, Place, Verdict, Why, judge};
use twobox_store::DbError;
use twobox_store::Store;
use twobox_system::data::DataDir;
use twobox_system::errno::is_forbidden;

/// Where a machine's id stands: of systemd, and of D-Bus where there is none.
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// Where `data` is now. Blocks.
///
/// # Errors
/// The system's reason.
pub fn see(data: &DataDir) -> io::Result<Place> {
    let folder = data.root().metadata()?;
    Ok(Place {
        path: data.root().to_owned(),
        device: folder.dev(),
        folder: mark_of(&folder),
        database: mark_of(&data.host_db().metadata()?),
        machine: MACHINE_IDS.iter().find_map(|path| machine(Path::new(path))),
    })
}

fn mark_of(metadata: &Metadata) -> FileIdentity {
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born = born.and_then(|since| i64::try_from(since.as_nanos()).ok());
    FileIdentity { inode: metadata.ino(), born }
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
pub fn compare(store: &Store, data: &DataDir) -> Result<(Option<Place>, Place), PlaceError> {
    let seen =
        see(data).map_err(|source| PlaceError::Io { path: data.root().to_owned(), source })?;
    Ok((store.installation().place().wait()?, seen))
}

/// Refuses a data directory that is not where its host left it. One whose host has never said where
/// it is, because it has not started since that is asked, passes.
///
/// # Errors
/// [`PlaceError`].
pub fn confirm(store: &Store, data: &DataDir) -> Result<(), PlaceError> {
    let (remembered, seen) = compare(store, data)?;
    match remembered {
        Some(remembered) => same(&remembered, &seen),
        None => Ok(()),
    }
}

/// As [`confirm`], and remembers where it is from now on.
///
/// # Errors
/// [`PlaceError`].
pub fn settle(store: &Store, data: &DataDir, now: UnixMillis) -> Result<(), PlaceError> {
    let (remembered, seen) = compare(store, data)?;
    if let Some(remembered) = &remembered {
        same(remembered, &seen)?;
    }
    if remembered.as_ref() != Some(&seen) {
        store.installation().remember_place(&seen, now).wait()?;
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
