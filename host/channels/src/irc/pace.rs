//! How fast a host may speak before a server takes it for a flood: a few lines at once, and then one after the other.
//! Pure.

use std::time::Instant;

use super::settings::Pace;

/// What may be said.
#[derive(Debug)]
pub(super) struct Pacer {
    pace: Pace,
    /// When as much may be said at once as ever; later the more was said.
    full_at: Instant,
}

impl Pacer {
    /// Nothing was said yet, at `now`.
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, full_at: now }
    }

    /// Has room made for a line. Returns when it may be said.
    pub(super) fn reserve(&mut self, now: Instant) -> Instant {
        let room = self.pace.pause.saturating_mul(self.pace.burst - 1);
        let wait = self.full_at.saturating_duration_since(now).saturating_sub(room);
        self.full_at = self.full_at.max(now) + self.pace.pause;
        now + wait
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn some_lines_leave_at_once_and_then_one_in_each_pause() {
        let second = Duration::from_secs(1);
        let mut now = Instant::now();
        let begin = now;
        let mut pacer = Pacer::new(Pace { burst: 2, pause: second }, now);
        let mut said = Vec::new();
        for _ in 0..5 {
            now = pacer.reserve(now);
            said.push((now - begin).as_secs());
        }
        assert_eq!(said, [0, 0, 1, 2, 3]);
        now += Duration::from_secs(60);
        for expected in [0, 0, 1] {
            let at = pacer.reserve(now);
            assert_eq!(
                (at - now).as_secs(),
                expected,
                "a long silence is no more than the beginning"
            );
        }
    }
}
