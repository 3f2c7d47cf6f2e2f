//! How fast one session may ask: pure.

use std::time::Instant;

/// How many requests a session may make a second, over time,
const A_SECOND: f64 = 20.0;

/// and how many at once after a silence.
const AT_ONCE: f64 = 60.0;

/// The requests that a session may still make.
#[derive(Debug)]
pub(crate) struct Pace {
    left: f64,
    at: Instant,
}

impl Pace {
    /// That of a session that asks for the first time at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: AT_ONCE, at: now }
    }

    /// Whether one more may be made at `now`.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * A_SECOND).min(AT_ONCE);
        self.at = now;
        let one = self.left >= 1.0;
        if one {
            self.left -= 1.0;
        }
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_session_may_ask_fast_for_a_moment_and_not_for_long() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        let mut made = |after: u64| {
            (0..1000).filter(|_| pace.take(begun + Duration::from_millis(after))).count()
        };
        assert_eq!([made(0), made(0), made(100), made(1100)], [60, 0, 2, 20]);
        assert_eq!(made(60_000), 60, "no more is saved up");
        assert_eq!(made(0), 0, "a clock that goes back gives nothing");
    }
}
