//! The clocks, as a value that loops hold and decisions do not.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::time::UnixMillis;

/// An instant on a clock that never jumps and stands still while the machine is suspended, in
/// milliseconds since an arbitrary start. Only differences mean anything, and only on one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// How long after `earlier` this instant is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Where the time comes from, chosen by `main`.
pub trait Clock: Send + Sync {
    /// The wall clock, for what people and files see.
    fn now(&self) -> UnixMillis;
    /// The clock that limits are measured on.
    fn monotonic(&self) -> Monotonic;
}

/// The operating system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let time = read(ClockId::CLOCK_REALTIME);
        UnixMillis(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
    }

    /// `CLOCK_MONOTONIC`, which on Linux does not count suspend (clock_gettime(2)).
    fn monotonic(&self) -> Monotonic {
        Monotonic(u64::try_from(read(ClockId::CLOCK_MONOTONIC).as_millis()).unwrap_or(u64::MAX))
    }
}

fn read(clock: ClockId) -> Duration {
    Duration::from(clock_gettime(clock).expect("the kernel has this clock"))
}
