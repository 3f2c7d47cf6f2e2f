//! Estimates of when a capacity slot becomes free, for a person whose run found none.

use std::time::Duration;

use twobox_shared::time::UnixMillis;

/// A run that holds a capacity slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// When it began.
    pub started_at: UnixMillis,
    /// When its lease ends, and with it the run.
    pub lease_until: UnixMillis,
    /// How long earlier runs of its schedule lasted, in any order.
    pub past: Vec<Duration>,
}

impl Running {
    /// When it will probably have ended: it lasts as long as the median of the earlier runs that
    /// lasted longer than it has until now, and until its lease ends if none did. Without earlier runs
    /// nothing is known before its lease has ended: that is a limit and no estimate.
    fn ends_at(&self, now: UnixMillis) -> Option<UnixMillis> {
        if self.past.is_empty() {
            return (self.lease_until <= now).then_some(self.lease_until);
        }
        let elapsed = now.since(self.started_at);
        let mut longer: Vec<Duration> =
            self.past.iter().copied().filter(|past| *past > elapsed).collect();
        longer.sort_unstable();
        let median = longer.get(longer.len() / 2);
        Some(median.map_or(self.lease_until, |past| self.lease_until.min(self.started_at + *past)))
    }
}

/// In how many seconds the first of the runs that hold all capacity will probably have ended: at
/// least one. `None` if there are none to wait for, or nothing is known of any.
pub fn seconds(running: &[Running], now: UnixMillis) -> Option<u64> {
    let ends_at = running.iter().filter_map(|run| run.ends_at(now)).min()?;
    let wait = ends_at.since(now);
    Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).map(|seconds| seconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    /// A run that began `elapsed` s ago, with a lease of 1200 s and earlier runs of `past` s.
    fn running(elapsed: u64, past: &[u64]) -> Running {
        let started_at = NOW - Duration::from_secs(elapsed);
        Running {
            started_at,
            lease_until: started_at + Duration::from_secs(1200),
            past: past.iter().copied().map(Duration::from_secs).collect(),
        }
    }

    #[test]
    fn a_run_lasts_as_long_as_those_that_lasted_longer_than_it_did_until_now() {
        let cases = [
            ("the median", running(10, &[300, 60, 90]), 80),
            ("only longer ones", running(70, &[300, 60, 90]), 230),
            ("none was longer: the lease", running(400, &[300, 60, 90]), 800),
            ("longer than its lease", running(200, &[9000]), 1000),
            ("the lease has ended", running(1300, &[]), 1),
            ("and did before anything was known", running(1300, &[9000]), 1),
        ];
        for (case, run, expected) in cases {
            assert_eq!(seconds(&[run], NOW), Some(expected), "{case}");
        }
    }

    #[test]
    fn the_run_that_ends_first_makes_room() {
        let runs = [running(0, &[500]), running(100, &[200]), running(0, &[])];
        assert_eq!(seconds(&runs, NOW), Some(100));
        assert_eq!(seconds(&[], NOW), None);
    }

    #[test]
    fn of_runs_without_a_past_nothing_is_said() {
        assert_eq!(seconds(&[running(200, &[]), running(0, &[])], NOW), None);
        assert_eq!(seconds(&[running(200, &[]), running(0, &[60])], NOW), Some(60));
    }

    #[test]
    fn a_started_second_counts() {
        let run = Running { past: vec![Duration::from_millis(1_500)], ..running(0, &[]) };
        assert_eq!(seconds(&[run], NOW), Some(2));
    }
}
