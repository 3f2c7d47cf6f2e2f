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
        while let Some(until) = self.until(name)
            && Instant::now() < last
        {
            tokio::time::sleep_until((until + SPREAD.mul_f64(jitter())).into()).await;
        }
    }

    fn until(&self, name: &str) -> Option<Instant> {
        lock(&self.0).get(name).copied().filter(|until| *until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shorter_pause_ends_no_longer_one_and_those_who_wait_are_spread() {
        let (pauses, begun) = (Pauses::default(), Instant::now());
        let ms = Duration::from_millis;
        pauses.note("a", begun + ms(80));
        pauses.note("a", begun + ms(10));
        pauses.over("b", || 0.0).await;
        assert!(begun.elapsed() < ms(80), "another upstream's");
        pauses.over("a", || 0.1).await;
        assert!(begun.elapsed() >= ms(130), "{:?}", begun.elapsed());
    }
}
