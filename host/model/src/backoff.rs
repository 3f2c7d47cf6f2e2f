//! How long something waits before it is tried once more: twice as long after each failure.

use std::time::Duration;

/// A pause that doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most, however many there were.
    pub most: Duration,
}

impl Backoff {
    /// The pause after so many failures in a row; none after none.
    pub fn after(self, failures: i64) -> Duration {
        match u32::try_from(failures - 1) {
            Ok(doublings) => {
                self.first.saturating_mul(2_u32.saturating_pow(doublings)).min(self.most)
            }
            Err(_) if failures > 0 => self.most,
            Err(_) => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_its_most() {
        let backoff = Backoff { first: Duration::from_secs(2), most: Duration::from_secs(60) };
        let cases = [(-1, 0), (0, 0), (1, 2), (2, 4), (5, 32), (6, 60), (64, 60), (i64::MAX, 60)];
        for (failures, seconds) in cases {
            assert_eq!(backoff.after(failures), Duration::from_secs(seconds), "{failures}");
        }
    }
}
