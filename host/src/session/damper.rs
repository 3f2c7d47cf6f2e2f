//! The damper: how often a session may sweep.

use std::time::Duration;

use tokio::time::Instant;

/// Keeps a container that commits without end from keeping a core busy: a session may sweep
/// [`Damper::BURST`] times in a row, and after that so often in a second.
#[derive(Debug)]
pub(super) struct Damper {
    budget: f64,
    filled: Option<Instant>,
}

impl Default for Damper {
    fn default() -> Self {
        Self { budget: Self::BURST, filled: None }
    }
}

impl Damper {
    const BURST: f64 = 300.0;
    const PER_SECOND: f64 = 300.0;

    /// How long to wait before the sweep that is to begin at `now`.
    pub(super) fn pause(&mut self, now: Instant) -> Option<Duration> {
        let since = self.filled.map_or(Duration::ZERO, |filled| now - filled);
        self.filled = Some(now);
        self.budget = (self.budget + since.as_secs_f64() * Self::PER_SECOND).min(Self::BURST) - 1.0;
        (self.budget < 0.0).then(|| Duration::from_secs_f64(-self.budget / Self::PER_SECOND))
    }
}
