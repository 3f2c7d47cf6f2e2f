//! Waiting for a condition, never for a while.

use std::time::{Duration, Instant};

/// How long a condition may take that has no reason to take long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(15);

/// Waits until `look` finds something, and fails with what it waited for after [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, look)
}

/// As [`wait_for`], with another limit.
#[track_caller]
pub fn wait_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {limit:?} for {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Shows that something stays true for `span`. For what must *not* happen there is no event to wait
/// for.
#[track_caller]
pub fn holds_for(span: Duration, what: &str, mut look: impl FnMut() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < span {
        assert!(look(), "{what}: no longer so after {:?}", begin.elapsed());
        std::thread::sleep(PAUSE);
    }
}
