//! Saying once what could be said every second: the first time in words, and later how often.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// How long a cause that was told is only counted.
const PAUSE: Duration = Duration::from_secs(600);

/// How many causes are told apart. Causes may be named by others; beyond this they are counted
/// together, so that nobody fills the memory or the log with ever new ones.
const CAUSES_MAX: usize = 64;

/// What this process has warned of. There is one log, so there is one of these.
static WARNED: LazyLock<Repeats> = LazyLock::new(Repeats::default);

/// As [`Repeats::tell`], now, for the log of this process: `what` is the warning, and `cause` what
/// makes it another one.
pub fn warned(what: &str, cause: &str) -> Option<u64> {
    WARNED.tell(&format!("{what}: {cause}"), Instant::now())
}

/// Which causes of warnings were told when.
#[derive(Debug, Default)]
pub struct Repeats(Mutex<HashMap<String, Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    since: u64,
}

impl Repeats {
    /// Whether `cause`, which is there at `now`, is to be told, and if so, how often it was there
    /// since it was told last: 0 for the first time.
    pub fn tell(&self, cause: &str, now: Instant) -> Option<u64> {
        // A panic elsewhere leaves the table whole: an entry is one value.
        let mut causes = lock(&self.0);
        if !causes.contains_key(cause) && causes.len() >= CAUSES_MAX {
            causes.retain(|_, told| now.saturating_duration_since(told.at) < PAUSE);
        }
        let known = causes.contains_key(cause) || causes.len() < CAUSES_MAX;
        let told = causes.entry(if known { cause } else { "" }.to_owned());
        let mut first = false;
        let told = told.or_insert_with(|| {
            first = true;
            Told { at: now, since: 0 }
        });
        if first {
            return Some(0);
        }
        told.since += 1;
        if now.saturating_duration_since(told.at) < PAUSE {
            return None;
        }
        told.at = now;
        Some(std::mem::take(&mut told.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_and_later_with_a_count() {
        let repeats = Repeats::default();
        let began = Instant::now();
        assert_eq!(repeats.tell("disk", began), Some(0));
        for second in 1..=500 {
            assert_eq!(repeats.tell("disk", began + Duration::from_secs(second)), None);
        }
        assert_eq!(repeats.tell("engine", began), Some(0), "another cause");
        assert_eq!(repeats.tell("disk", began + PAUSE), Some(501));
        assert_eq!(repeats.tell("disk", began + PAUSE + Duration::from_secs(1)), None);
        assert_eq!(repeats.tell("disk", began + PAUSE * 3), Some(2));
    }

    #[test]
    fn ever_new_causes_fill_neither_the_log_nor_the_memory() {
        let repeats = Repeats::default();
        let began = Instant::now();
        let tell = |cause: u32, now| repeats.tell(&cause.to_string(), now);
        let told = (0..10_000).filter(|cause| tell(*cause, began).is_some()).count();
        assert_eq!(told, CAUSES_MAX + 1, "one for all the others");
        assert!(repeats.0.lock().unwrap().len() <= CAUSES_MAX + 1);
        assert_eq!(tell(20_000, began + PAUSE), Some(0), "old ones make place");
    }
}
