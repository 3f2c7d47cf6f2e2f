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
    /// The outbox could not be written, and there was no time left to try again.
    Write,
    /// Another runner serves this session.
    Locked,
    /// The claims are no longer ours: somebody has decided that we are gone.
    Fenced,
    /// The operating system refused something that the runner cannot do without.
    System,
    /// What a script asked for.
    Asked(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Usage => 2,
            Exit::Data => 65,
            Exit::Stuck => 70,
            Exit::System => 71,
            Exit::Write => 74,
            Exit::Locked => 75,
            Exit::Fenced => 76,
            Exit::Asked(code) => code,
        })
    }
}
