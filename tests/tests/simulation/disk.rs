//! The disk beneath a commit.

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    /// All of it is there, and its writer knows.
    Done,
    /// Nothing of it is there.
    Failed,
    /// All of it is there, and its writer was told that it failed.
    Doubtful,
}

impl Commit {
    /// What the dice say.
    pub(crate) fn roll(faults: bool, rng: &mut fastrand::Rng) -> Self {
        match rng.u8(..) {
            0..=4 if faults => Self::Failed,
            5..=9 if faults => Self::Doubtful,
            _ => Self::Done,
        }
    }

    /// Whether it is there.
    pub(crate) fn holds(self) -> bool {
        self != Self::Failed
    }
}
