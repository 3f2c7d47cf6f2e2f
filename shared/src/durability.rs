//! What a commit survives: one choice for each process, made by `main` before any database is
//! opened, because all commits of a conversation are worth what the weakest of them is.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// The end of the process and of the machine: everything is synced to the disk before anybody
    /// is told.
    #[default]
    PowerLoss,
    /// The end of the process, even in the middle of a commit, but not that of the machine: what
    /// was written is in the kernel's memory and no commit waits for a disk. After a power cut the
    /// last seconds may be missing, and databases damaged.
    ProcessCrash,
}

static WITHOUT_SYNC: AtomicBool = AtomicBool::new(false);

impl Durability {
    /// The words for it in the configuration and among a runner's options.
    pub const WORDS: [&str; 2] = ["power-loss", "process-crash"];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::PowerLoss => Self::WORDS[0],
            Self::ProcessCrash => Self::WORDS[1],
        }
    }

    /// The word read back.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::PowerLoss, Self::ProcessCrash].into_iter().find(|choice| choice.word() == word)
    }

    /// Makes it the choice of this process, for the databases that are opened from now on.
    pub fn choose(self) {
        WITHOUT_SYNC.store(self == Self::ProcessCrash, Ordering::Relaxed);
    }

    /// The choice of this process.
    pub fn chosen() -> Self {
        match WITHOUT_SYNC.load(Ordering::Relaxed) {
            true => Self::ProcessCrash,
            false => Self::PowerLoss,
        }
    }
}
