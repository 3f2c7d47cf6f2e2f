//! The disk beneath a commit.

use crate::dice::Dice;

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
    pub(crate) fn roll(faults: bool, dice: &mut Dice) -> Self {
        match faults {
            true => [Self::Failed, Self::Doubtful, Self::Done][dice.weighted(&[5, 5, 246])],
            false => Self::Done,
        }
    }

    /// Whether it is there.
    pub(crate) fn holds(self) -> bool {
        self != Self::Failed
    }
}
