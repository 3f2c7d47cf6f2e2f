//! Why the runner leaves, as an exit code. The numbers are those of `sysexits.h` where one fits.

use std::process::ExitCode;

/// A reason to leave other than being idle or told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Wrong options.
    Usage,
    /// A database is corrupt, or breaks the protocol.
    Data,
    /// The provider did not stop when its turn was over. A fresh process is the only cure.
    Stuck,
    /// The boxes could not be read or written, and there was no time left to try again.
    Write,
    /// The session's folder is gone, or is another one.
    Gone,
    /// The agent's configuration or program cannot be used, and has to change first.
    Broken,
    /// Another runner serves this session.
    Locked,
    /// The claims are no longer ours: somebody has decided that we are gone.
    Fenced,
    /// The operating system refused something that the runner cannot do without.
    System,
    /// What a script asked for.
    Asked(u8),
}

impl Exit {
    /// What the process ends with.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Data => 65,
            Self::Stuck => 70,
            Self::System => 71,
            Self::Gone => 72,
            Self::Write => 74,
            Self::Locked => 75,
            Self::Fenced => 76,
            Self::Broken => 78,
            Self::Asked(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
