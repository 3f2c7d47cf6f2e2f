//! Why an operation on a session database did not happen, and what helps.

use std::io;
use std::path::PathBuf;

use rusqlite::{ErrorCode, ffi};

use crate::syscalls;

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
