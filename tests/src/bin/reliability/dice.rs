//! Everything that is left to chance, from one seed.

use std::time::Duration;

/// A stream of decisions.
#[derive(Debug, Clone)]
pub(crate) struct Dice(fastrand::Rng);

impl Dice {
    /// The stream of `what` for a seed: other scenarios and other threads do not change it.
    pub(crate) fn new(seed: u64, what: &str) -> Self {
        // FNV-1a: the same on every machine and with every compiler.
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(fastrand::Rng::with_seed(what.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, mix)))
    }

    /// Whether something happens that does so in `percent` of all cases.
    pub(crate) fn happens(&mut self, percent: u32) -> bool {
        self.0.u32(..100) < percent
    }

    /// A span of `from` to `to` milliseconds.
    pub(crate) fn span_ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.0.u64(from..=to))
    }

    /// One of these.
    pub(crate) fn choose<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        self.0.choice(all)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_the_same_again_and_something_else_to_everybody() {
        let throws = |seed, what| {
            let mut dice = Dice::new(seed, what);
            (0..20).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(throws(1, "ada"), throws(1, "ada"));
        assert_ne!(throws(1, "ada"), throws(2, "ada"));
        assert_ne!(throws(1, "ada"), throws(1, "bob"));
    }
}
