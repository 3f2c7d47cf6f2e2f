//! Where slots are, reckoned once more: plain arithmetic on UTC, for the cadences that the simulation
//! uses. It must not know the product's timetables.

use twobox_schedule::service::WrittenCadence;
use twobox_shared::time::UnixMillis;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A cadence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rhythm {
    /// Each so many seconds from the anchor on.
    Every { seconds: i64 },
    /// Each hour, at this minute.
    Hourly { minute: i64 },
    /// Each day, at this minute of it.
    Daily { minute: i64 },
    /// At this instant.
    Once { at: i64 },
}

impl Rhythm {
    /// As a person writes it.
    pub(super) fn written(self) -> WrittenCadence {
        let (kind, value) = match self {
            Self::Every { seconds } => ("every", format!("{seconds}s")),
            Self::Hourly { minute } => ("hourly", minute.to_string()),
            Self::Daily { minute } => ("daily", format!("{:02}:{:02}", minute / 60, minute % 60)),
            Self::Once { at } => ("once", UnixMillis(at).to_rfc3339()),
        };
        WrittenCadence { kind: kind.to_owned(), value }
    }

    /// Less than the shortest time between two slots, in seconds.
    pub(super) fn shortest(self) -> i64 {
        match self {
            Self::Every { seconds } => seconds,
            Self::Hourly { .. } | Self::Daily { .. } | Self::Once { .. } => HOUR / 1000,
        }
    }
}

/// The slots of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) rhythm: Rhythm,
    /// When the rhythm was said.
    pub(super) anchor: i64,
    pub(super) not_before: Option<i64>,
    pub(super) not_after: Option<i64>,
}

impl Grid {
    /// The first slot later than `instant`.
    pub(super) fn after(&self, instant: i64) -> Option<i64> {
        let instant = self.not_before.map_or(instant, |first| instant.max(first - 1));
        let slot = match self.rhythm {
            Rhythm::Every { seconds } => {
                let first = self.anchor + seconds * 1000;
                first.max(later(instant, seconds * 1000, self.anchor))
            }
            Rhythm::Hourly { minute } => later(instant, HOUR, minute * MINUTE),
            Rhythm::Daily { minute } => later(instant, DAY, minute * MINUTE),
            Rhythm::Once { at } => at,
        };
        (slot > instant && self.not_after.is_none_or(|last| slot <= last)).then_some(slot)
    }

    /// The slots from `from` to `to`, both included.
    pub(super) fn between(&self, from: i64, to: i64) -> Vec<i64> {
        std::iter::successors(self.after(from - 1), |slot| self.after(*slot))
            .take_while(|slot| *slot <= to)
            .collect()
    }
}

/// The first instant later than `instant` that lies whole steps from `origin`.
fn later(instant: i64, step: i64, origin: i64) -> i64 {
    instant + step - (instant - origin).rem_euclid(step)
}

#[test]
fn slots_are_where_a_person_would_count_them() {
    let grid = |rhythm, not_before, not_after| Grid { rhythm, anchor: 500, not_before, not_after };
    let every = grid(Rhythm::Every { seconds: 1 }, Some(2500), Some(4500));
    assert_eq!(every.between(0, 9000), [2500, 3500, 4500]);
    assert_eq!(grid(Rhythm::Every { seconds: 1 }, None, None).after(-9000), Some(1500));
    let daily = grid(Rhythm::Daily { minute: 90 }, None, None);
    assert_eq!(daily.between(0, 2 * DAY), [90 * MINUTE, DAY + 90 * MINUTE]);
    let hourly = grid(Rhythm::Hourly { minute: 0 }, None, None);
    assert_eq!(hourly.after(HOUR), Some(2 * HOUR));
    assert_eq!(grid(Rhythm::Once { at: 7 }, None, None).between(0, 9), [7]);
    assert_eq!(daily.rhythm.written().value, "01:30");
}
