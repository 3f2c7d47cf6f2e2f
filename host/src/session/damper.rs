//! The damper: how often a session may sweep, and how long it rests after looks that took long.

use std::time::Duration;

use tokio::time::Instant;

/// Keeps a container that commits without end from keeping a core busy: a session may sweep
/// [`Damper::BURST`] times in a row, and after that so often in a second.
///
/// A look at a container's outbox that takes long, such as one that ends at its deadline, is followed
/// by a rest, and each further one by a longer rest: whatever a container makes the host read, it
/// gets a small share of the host's time.
#[derive(Debug)]
pub(super) struct Damper {
    budget: f64,
    filled: Option<Instant>,
    long_looks: u32,
    rested_at: Option<Instant>,
}

impl Default for Damper {
    fn default() -> Self {
        Self { budget: Self::BURST, filled: None, long_looks: 0, rested_at: None }
    }
}

impl Damper {
    const BURST: f64 = 300.0;
    const PER_SECOND: f64 = 300.0;

    /// A look of an honest outbox takes some milliseconds.
    const LONG: Duration = Duration::from_millis(500);

    /// How many times as long as the first long look the first rest is.
    const REST: u32 = 4;

    const REST_MAX: Duration = Duration::from_secs(30);

    /// How long to wait before the sweep that is to begin at `now`.
    pub(super) fn pause(&mut self, now: Instant) -> Option<Duration> {
        let since = self.filled.map_or(Duration::ZERO, |filled| now - filled);
        self.filled = Some(now);
        self.budget = (self.budget + since.as_secs_f64() * Self::PER_SECOND).min(Self::BURST) - 1.0;
        (self.budget < 0.0).then(|| Duration::from_secs_f64(-self.budget / Self::PER_SECOND))
    }

    /// Takes in how long a look took that ended at `now`.
    pub(super) fn looked(&mut self, took: Duration, now: Instant) {
        if took < Self::LONG {
            self.wake();
            return;
        }
        let rest = took * Self::REST * 2_u32.pow(self.long_looks.min(10));
        self.long_looks += 1;
        self.rested_at = Some(now + rest.min(Self::REST_MAX));
    }

    /// How much of a rest is left at `now`.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        self.rested_at.map(|end| end - now).filter(|left| !left.is_zero())
    }

    /// Ends the rest: something was done about the outbox.
    pub(super) fn wake(&mut self) {
        self.long_looks = 0;
        self.rested_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_long_again_and_again_gets_ever_less_time() {
        let mut damper = Damper::default();
        let mut now = Instant::now();
        damper.looked(Duration::from_millis(5), now);
        assert_eq!(damper.rest(now), None);
        let mut rests = Vec::new();
        for _ in 0..4 {
            damper.looked(Duration::from_secs(2), now);
            let rest = damper.rest(now).unwrap();
            rests.push(rest.as_secs());
            now += rest;
            assert_eq!(damper.rest(now), None);
        }
        assert_eq!(rests, [8, 16, 30, 30]);
        damper.looked(Duration::from_millis(5), now);
        damper.looked(Duration::from_secs(1), now);
        assert_eq!(damper.rest(now), Some(Duration::from_secs(4)), "a quick look made it good");
        damper.wake();
        assert_eq!(damper.rest(now), None);
    }
}
