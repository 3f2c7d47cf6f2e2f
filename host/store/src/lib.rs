//! `host.db`: a [`Store`] is a handle on it, with named operations by aggregate, and nobody who has one
//! sees SQLite. One module for each thing that is stored; each statement stands beside the type that it
//! fills.
//!
//! WAL with `synchronous=FULL` on a local disk: a commit is durable when it returns, unless the
//! process has chosen a lesser [`Durability`](twobox_shared::durability::Durability). Several processes
//! may have the file open (the daemon and commands); every write is one short `BEGIN IMMEDIATE`
//! transaction. Nothing here touches a session's folder.

pub mod agents;
pub mod alerts;
pub mod approvals;
mod audit;
pub mod examined;
pub mod identity;
pub mod messaging;
pub mod notices;
mod open;
mod operation;
pub mod overview;
pub mod ownership;
pub mod parts;
pub mod people;
pub mod place;
pub mod recovered;
pub mod refused;
pub mod routing;
pub mod schedules;
pub mod sessions;
pub mod storage;
mod store;
pub mod usage;
pub mod wirings;
mod word;

pub use open::{DbHealth, LOCK_WAIT, health, install_of, is_blank};
pub use operation::Operation;
pub use store::{
    Agents, Alerts, Approvals, Installation, Notices, Parts, People, Refusals, Runs, Schedules,
    Sessions, Store, Usage, Wirings,
};

use rusqlite::ErrorCode;

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
    /// Another host has taken over from this one: nothing was changed, and nothing that it tries from now
    /// on will be. It has to end.
    #[error(
        "could not {action}: another host has taken host.db over, and this one may change nothing there \
         any more"
    )]
    Fenced {
        /// What was tried.
        action: &'static str,
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
            Self::Newer { .. } | Self::Empty | Self::Fenced { .. } => false,
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
pub(crate) fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(
        error,
        FromSqlConversionFailure(..) | InvalidColumnType(..) | IntegralValueOutOfRange(..)
    )
}

/// Names the action of a failed statement.
pub(crate) fn failed(action: &'static str) -> impl Fn(rusqlite::Error) -> DbError {
    move |source| match ownership::is_over(&source) {
        true => DbError::Fenced { action },
        false => DbError::Sqlite { action, source },
    }
}
