//! Pauses that upstreams ask for, which hold for all sessions.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use twobox_system::lock::lock;

use crate::retry::WAIT_MAX;

/// Over how long those are spread who have waited for the same pause.
const SPREAD: Duration = Duration::from_millis(500);

/// Until when nobody asks an upstream, by its name.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<HashMap<String, Instant>>);

impl Pauses {
    /// Has everybody wait for `name` until `until`, or as long as was asked for before, if that is longer.
    pub(crate) fn note(&self, name: &str, until: Instant) {
        let mut pauses = lock(&self.0);
        let known = pauses.entry(name.to_owned()).or_insert(until);
        *known = until.max(*known);
    }

    /// Waits as long as `name` has asked everybody to, and a little more by `jitter`, which returns numbers
    /// from 0 to 1, so that not all come at once. One that always asks for more is asked all the same in
    /// the end.
    pub(crate) async fn over(&self, name: &str, jitter: impl Fn() -> f64) {
        let last = Instant::now() + WAIT_MAX;
        loop {
            let now = Instant::now();
            match self.until(name, now, jitter()) {
                Some(until) if now < last => tokio::time::sleep_until(until.into()).await,
                Some(_) | None => return,
            }
        }
    }

    /// Until when whoever comes at `now` waits for `name`.
    fn until(&self, name: &str, now: Instant, jitter: f64) -> Option<Instant> {
        let until = lock(&self.0).get(name).copied().filter(|until| *until > now);
        until.map(|until| until + SPREAD.mul_f64(jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_pause_ends_no_longer_one_and_those_who_wait_are_spread() {
        let (pauses, now) = (Pauses::default(), Instant::now());
        let s = Duration::from_secs;
        pauses.note("a", now + s(8));
        pauses.note("a", now + s(1));
        let cases = [
            ("a", now, 0.0, Some(now + s(8))),
            ("a", now + s(7), 0.0, Some(now + s(8))),
            ("a", now, 1.0, Some(now + s(8) + SPREAD)),
            ("a", now + s(8), 0.0, None),
            ("another upstream's", now, 0.0, None),
        ];
        for (name, now, jitter, expected) in cases {
            assert_eq!(pauses.until(name, now, jitter), expected, "{name} {jitter}");
        }
    }
}
