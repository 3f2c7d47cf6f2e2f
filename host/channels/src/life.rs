//! The life of an instance of a channel, as a value: `starting → up ⇄ down → stopped`. Pure.

use std::time::Duration;

use serde::Serialize;
use twobox_shared::time::UnixMillis;

/// How far it has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Life {
    /// It has not been up yet.
    #[default]
    Starting,
    /// It takes messages.
    Up {
        /// Since when.
        up_since: UnixMillis,
    },
    /// It takes none, and is tried again for ever.
    Down {
        /// Why.
        reason: String,
        /// Since when.
        down_since: UnixMillis,
        /// When it is begun anew; `None` while it tries by itself.
        next_try: Option<UnixMillis>,
    },
    /// It was told to stop.
    Stopped,
}

/// What happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It takes messages from now on.
    Up,
    /// It takes none.
    Down {
        /// Why.
        reason: String,
        /// When it is begun anew, if it is.
        next_try: Option<UnixMillis>,
    },
    /// The host stops it.
    Stop,
}

impl Life {
    /// What it is after `change`.
    #[must_use]
    pub fn after(&self, change: Change, now: UnixMillis) -> Self {
        match (self, change) {
            (Self::Stopped, Change::Up | Change::Down { .. } | Change::Stop)
            | (Self::Starting | Self::Up { .. } | Self::Down { .. }, Change::Stop) => Self::Stopped,
            (Self::Up { .. }, Change::Up) => self.clone(),
            (Self::Starting | Self::Down { .. }, Change::Up) => Self::Up { up_since: now },
            (Self::Starting | Self::Up { .. }, Change::Down { reason, next_try }) => {
                Self::Down { reason, down_since: now, next_try }
            }
            (Self::Down { down_since, .. }, Change::Down { reason, next_try }) => {
                Self::Down { reason, down_since: *down_since, next_try }
            }
        }
    }

    /// Whether it takes messages.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// How many runs in a row have failed, after one that `lasted` so long and ended by itself. One that
/// lasted as long as the `longest_pause` is the first of a row: however often such runs end, the channel
/// is begun anew no more often than if every one of them failed at once.
#[must_use]
pub fn failures_after(failures: i64, lasted: Duration, longest_pause: Duration) -> i64 {
    if lasted >= longest_pause { 1 } else { failures.saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_lasted_as_long_as_the_longest_pause_is_the_first_failure_of_a_row() {
        let cases = [
            ("the first, at once", 0, 0, 1),
            ("the first, after long", 0, 1_000, 1),
            ("at once again", 1, 0, 2),
            ("not quite as long", 7, 299, 8),
            ("just as long", 7, 300, 1),
            ("longer", 7, 301, 1),
            ("without end", i64::MAX, 0, i64::MAX),
        ];
        for (case, failures, seconds, expected) in cases {
            let found =
                failures_after(failures, Duration::from_secs(seconds), Duration::from_secs(300));
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn a_life_goes_up_and_down_until_it_is_stopped() {
        let down = |why: &str, next| Change::Down { reason: why.to_owned(), next_try: next };
        let mut life = Life::default();
        let mut then = |change, at| {
            life = life.after(change, UnixMillis(at));
            life.clone()
        };
        let is_down = |why: &str, since, next: Option<i64>| Life::Down {
            reason: why.to_owned(),
            down_since: UnixMillis(since),
            next_try: next.map(UnixMillis),
        };
        assert_eq!(then(down("a", None), 1), is_down("a", 1, None));
        assert_eq!(
            then(down("b", Some(UnixMillis(9))), 2),
            is_down("b", 1, Some(9)),
            "all the while"
        );
        assert_eq!(then(Change::Up, 3), Life::Up { up_since: UnixMillis(3) });
        assert_eq!(then(Change::Up, 4), Life::Up { up_since: UnixMillis(3) }, "it was");
        assert_eq!(then(down("c", None), 5), is_down("c", 5, None), "anew");
        assert_eq!(then(Change::Stop, 6), Life::Stopped);
        assert_eq!(then(Change::Up, 7), Life::Stopped);
        assert_eq!(then(down("d", None), 8), Life::Stopped);
    }
}
