//! The host's clocks. Limits are measured on one that counts only the time for which this process
//! ran: while it stood still, in a paused virtual machine, under a debugger or starved, a container
//! may have stood still as well, and a sign of life that it gave was seen by nobody.

use std::sync::Mutex;
use std::time::Duration;

use twobox_shared::clock::{Clock, Monotonic, SystemClock};
use twobox_shared::time::UnixMillis;

use crate::lock::lock;

/// How often somebody has to ask for the time, so that it goes on.
pub const TICK: Duration = Duration::from_secs(2);

/// The longest time between two questions that counts in full: a busy machine is late for some ticks.
const GAP_MAX: Duration = Duration::from_secs(5);
const _: () = assert!(GAP_MAX.as_secs() > 2 * TICK.as_secs());

/// The clocks of a running host. Somebody has to ask it once in a [`TICK`].
#[derive(Debug, Default)]
pub struct HostClock {
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    last: Monotonic,
    total: Monotonic,
}

impl Counted {
    /// Takes in what the system's clock shows.
    fn advance(&mut self, now: Monotonic) -> Monotonic {
        self.total = self.total + now.since(self.last).min(GAP_MAX);
        self.last = self.last.max(now);
        self.total
    }
}

impl Clock for HostClock {
    fn now(&self) -> UnixMillis {
        SystemClock.now()
    }

    fn monotonic(&self) -> Monotonic {
        // Read under the lock, so that nobody brings an older time than the one before.
        let mut counted = lock(&self.counted);
        counted.advance(SystemClock.monotonic())
    }
}

/// Whether the wall clock was set back between two looks at both clocks, by more than it may waver.
pub fn was_set_back(before: (UnixMillis, Monotonic), now: (UnixMillis, Monotonic)) -> bool {
    const WAVER: Duration = Duration::from_secs(1);
    now.0 + WAVER < before.0 + now.1.since(before.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_host_stood_still_hardly_counts() {
        let mut counted = Counted::default();
        let begin = counted.advance(Monotonic(1_000_000));
        assert_eq!(counted.advance(Monotonic(1_003_000)).since(begin), Duration::from_secs(3));
        let before = counted.advance(Monotonic(1_003_000));
        let after = counted.advance(Monotonic(9_000_000));
        assert_eq!(after.since(before), GAP_MAX);
        assert_eq!(counted.advance(Monotonic(8_000_000)), after, "it never goes back");
    }

    #[test]
    fn a_clock_that_was_set_back_is_noticed_though_it_went_on_since() {
        let at = |wall, monotonic| (UnixMillis(wall), Monotonic(monotonic));
        let cases = [
            ("a minute passed", at(160_000, 60_000), false),
            ("it wavered", at(159_500, 60_000), false),
            ("it went ahead", at(9_999_000, 60_000), false),
            ("it was set back by ten seconds", at(150_000, 60_000), true),
            ("it was set back below where it was", at(50_000, 60_000), true),
        ];
        for (case, now, expected) in cases {
            assert_eq!(was_set_back(at(100_000, 0), now), expected, "{case}");
        }
    }
}
