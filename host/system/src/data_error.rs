//! Why a data directory cannot be used, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::data::SOCKET_PATH_MAX;
use crate::errno::is_forbidden;
use crate::owner;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// There is no such directory, or it was never initialised.
    #[error("{path} is not a Twobox data directory: run `twobox --data {path} init` first")]
    NotInitialised {
        /// What was given.
        path: PathBuf,
    },
    /// Its database is gone, and other files are there.
    #[error(
        "host.db is missing or empty in {path}, where an installation was: restore it from a backup; \
         without one, `twobox --data {path} sessions fsck --rebuild` makes a new one of what the \
         sessions' folders tell"
    )]
    Lost {
        /// The data directory.
        path: PathBuf,
    },
    /// Another host holds it.
    #[error("{path} belongs to a running host ({holder}): stop that one first")]
    Held {
        /// The data directory.
        path: PathBuf,
        /// What the other host wrote about itself.
        holder: String,
    },
    /// It is another user's.
    #[error(
        "{path} belongs to user {owner}, and you are user {us}: run it as that user, like \
         `{sudo} twobox --data {path} …`"
    )]
    Foreign {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who we are.
        us: String,
        /// How to become that user for one command.
        sudo: String,
    },
    /// Others may write in it, so nothing in it can be believed.
    #[error(
        "other users may write in {path} (mode {mode:04o}), and the host believes what lies there: \
         look at what is in it, then `chmod 700 {path}`"
    )]
    Writable {
        /// The data directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A folder above it is closed to us.
    #[error(
        "user {us} cannot look at {path}, because {closed} is closed to others than user {owner}: run \
         it as that user, like `{sudo} twobox --data {path} …`"
    )]
    Closed {
        /// The data directory.
        path: PathBuf,
        /// The folder.
        closed: PathBuf,
        /// Whose that is.
        owner: String,
        /// Who we are.
        us: String,
        /// How to become that user for one command.
        sudo: String,
    },
    /// It is not there, and we may not make it.
    #[error(
        "user {us} may not make {path}: as root, `install -d -m 700 -o {us} {path}` makes it for that \
         user"
    )]
    NotMade {
        /// The data directory.
        path: PathBuf,
        /// Who we are.
        us: String,
    },
    /// The database in it is somebody else's.
    #[error(
        "{file} belongs to user {owner}, and the data directory to user {us}: `chown -h {us} {file}` \
         as root gives it back; `twobox doctor` says what else is"
    )]
    Stray {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        owner: String,
        /// Whose it should be.
        us: String,
    },
    /// No socket in it could be reached.
    #[error(
        "{path} is too long a name for a data directory: a socket in it would have {length} bytes, and \
         at most {SOCKET_PATH_MAX} are possible: take a shorter one"
    )]
    TooLong {
        /// The directory.
        path: PathBuf,
        /// How long the path of a socket would be.
        length: usize,
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

impl DataError {
    /// Whether it is of no use to try again before a person has changed something: all of it but a host
    /// that leaves one day, and what the system may give later.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::NotInitialised { .. }
            | Self::Lost { .. }
            | Self::Foreign { .. }
            | Self::Writable { .. }
            | Self::Closed { .. }
            | Self::NotMade { .. }
            | Self::Stray { .. }
            | Self::TooLong { .. } => true,
            Self::Held { .. } => false,
            Self::Io { source, .. } => is_forbidden(source),
        }
    }
}

/// Why `path` could not be made: for want of a right, what root can do about it.
pub(crate) fn cannot_create(path: &Path, error: DataError) -> DataError {
    let source = match error {
        DataError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => source,
        error => return error,
    };
    if owner::closed_by(path).is_some() {
        return unreachable(path, source);
    }
    DataError::NotMade { path: path.to_owned(), us: owner::name(owner::us()) }
}

/// Why `path` cannot be looked at: for want of a right, whose folder it is that is closed.
pub(crate) fn unreachable(path: &Path, error: io::Error) -> DataError {
    match owner::closed_by(path) {
        Some((closed, uid)) if error.kind() == io::ErrorKind::PermissionDenied => {
            DataError::Closed {
                path: path.to_owned(),
                closed,
                owner: owner::name(uid),
                us: owner::name(owner::us()),
                sudo: owner::sudo(uid),
            }
        }
        _ => io_error("look at", path)(error),
    }
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_owned();
    move |source| DataError::Io { action, path, source }
}
