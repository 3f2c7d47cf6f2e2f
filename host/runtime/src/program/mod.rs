//! What an agent is: its program and what belongs to it, in a folder that no container can write.
//!
//! Everything gets in by a stage beside it and a rename, so that a reader, or a crash, finds the old
//! or the new and never half of it.

mod copy;
mod exposed;
mod migrate;
mod put;
mod readers;
mod stage;

use std::io;
use std::path::{Path, PathBuf};

pub use self::copy::Refusal;
pub use self::exposed::{EXPOSED_HELP, exposed};
pub use self::migrate::{Migrated, migrate, migrate_all};
pub use self::put::{put, read, write};
pub use self::readers::open_to_readers;

/// Why an agent's program stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Something that cannot be taken over.
    #[error("{}: {refusal}", .path.display())]
    Refused {
        /// What was to be copied.
        path: PathBuf,
        /// Why it is not.
        refusal: Refusal,
    },
    /// A place that cannot be in the program folder.
    #[error(
        "{:?} is no place in the program folder: name one with a path from there, without \"..\"",
        .path
    )]
    NoPlace {
        /// What was asked for.
        path: PathBuf,
    },
    /// Two files would have the same name.
    #[error("two of these would be {}: put them one after the other, with --as", .path.display())]
    Twice {
        /// The name.
        path: PathBuf,
    },
    /// Something in the program folder that is in the way.
    #[error("{} is not a folder: move it away first", .path.display())]
    InTheWay {
        /// Where.
        path: PathBuf,
    },
    /// Somebody else changes programs just now.
    #[error("another command is changing programs in {}: wait until it has ended", .path.display())]
    Busy {
        /// The folder with all programs.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> ProgramError {
    move |source| ProgramError::Io { action, path: path.to_owned(), source: source.into() }
}
