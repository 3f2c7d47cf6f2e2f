//! What a hostile container does to its half of the session, in one table for everybody: the
//! program `attacker` carries the attacks out from inside, and a test or a benchmark says which and
//! knows how each has to end.
//!
//! An attacker is an agent whose program is `attacker`. A message `NAME VICTIM` makes it carry out
//! the attack of that name, once in its life; every other message it answers, so a session that was
//! put back shows that it works.

mod content;
mod files;
mod forgery;
mod lies;
mod locks;
mod pester;
mod races;
mod takeover;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::error::Error;
use std::path::{Path, PathBuf};

/// A file that the attacker leaves in its agent's shared folder once the attack is carried out.
pub const DONE: &str = "done";

/// Where an attack takes place, as the container sees it.
#[derive(Debug)]
pub struct Ground {
    /// The outbox half.
    pub out: PathBuf,
    /// The inbox half.
    pub inbox: PathBuf,
    /// A file of somebody else, by the name that it has for the host.
    pub victim: PathBuf,
    /// The message that is being worked on.
    pub message: String,
}

impl Ground {
    pub(crate) fn outbox(&self) -> PathBuf {
        self.out.join("outbound.db")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.out.join("outbound.db-journal")
    }

    /// Makes the host look, as a commit does. Drops this process's locks on the outbox.
    pub(crate) fn poke(&self) -> std::io::Result<()> {
        std::fs::OpenOptions::new().write(true).open(self.outbox()).map(drop)
    }

    /// As [`Ground::poke`], without touching the outbox.
    pub(crate) fn nudge(&self) -> std::io::Result<()> {
        match std::fs::File::create_new(self.journal()) {
            Ok(_) => std::fs::remove_file(self.journal()),
            // The runner is committing, so the host will look anyway.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Puts what `make` makes in the outbox's place, at once: the host never finds nothing there.
    pub(crate) fn replace(&self, make: impl FnOnce(&Path) -> Done) -> Done {
        let fresh = self.out.join("fresh");
        make(&fresh)?;
        let exchange = RenameFlags::RENAME_EXCHANGE;
        renameat2(AT_FDCWD, &fresh, AT_FDCWD, &self.outbox(), exchange)?;
        Ok(std::fs::remove_file(fresh)?)
    }
}

/// Whether an attack could be carried out.
pub(crate) type Done = Result<(), Box<dyn Error>>;

/// What becomes of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is taken out of use for a reason that contains `because`, and `sessions fsck` tells
    /// `finding`.
    Quarantined {
        /// A part of the reason.
        because: &'static str,
        /// The name of a finding.
        finding: &'static str,
    },
    /// Its container is stopped, or leaves, and its message is tried again.
    Stopped,
    /// It goes on: its message is answered, nothing else arrives, and so many rows are recorded as
    /// failed.
    Unmoved {
        /// How many.
        refused: usize,
    },
    /// What it does to itself is its own affair.
    Endured,
}

/// What the attacker does after it has attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It stays in its turn.
    Hangs,
    /// It answers.
    Answers,
    /// It kills the runner.
    KillsTheRunner,
    /// It makes the runner stand still, so that nobody repairs anything or gives a sign of life.
    FreezesTheRunner,
}

/// One attack.
#[derive(Debug)]
pub struct Attack {
    /// Its name.
    pub name: &'static str,
    /// What the container does.
    pub act: fn(&Ground) -> Done,
    /// And after that.
    pub then: Then,
    /// What has to come of it.
    pub end: End,
}

impl Attack {
    /// One that costs the session its place until a person has looked.
    const fn quarantined(
        name: &'static str,
        because: &'static str,
        finding: &'static str,
        act: fn(&Ground) -> Done,
    ) -> Self {
        Self { name, act, then: Then::Hangs, end: End::Quarantined { because, finding } }
    }

    const fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }
}

pub use content::CONTENT;
pub use files::{DEVICES, FILES};
pub use forgery::FORGERY;
pub use lies::LIES;
pub use locks::LOCKS;
pub use pester::PESTER;
pub use races::RACES;
pub use takeover::TAKEOVER;

/// The attack of this name.
pub fn named(name: &str) -> Option<&'static Attack> {
    let all = [FILES, DEVICES, CONTENT, FORGERY, LIES, LOCKS, RACES, PESTER, TAKEOVER];
    all.into_iter().flatten().find(|attack| attack.name == name)
}
