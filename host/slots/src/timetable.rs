//! Timetables: where the slots of a schedule are.
//!
//! The slots of a timetable are a fixed set of instants, whoever asks and whenever: the next one
//! follows from the one before, never from the clock, and they strictly increase.
//!
//! What the calendar names is read in the schedule's zone. A clock that is put forward leaves
//! readings out (a gap), one that is put back shows readings twice (an overlap):
//!
//! - A cadence that **follows the calendar** fires once for each time that it names. What it names in
//!   a gap fires at the gap's end, once however much it is, and is no slot of its own if that instant
//!   is named anyway. What it names in an overlap fires when the clock shows it first. These are
//!   `daily`, `weekdays`, `weekly`, and cron expressions of which neither the minute nor the hour
//!   begins with `*`.
//! - A cadence that **follows elapsed time** fires in each real minute in which the clock shows what
//!   it names: in both halves of an overlap, and not for readings in a gap. No real hour is left out
//!   by `hourly` and by expressions whose hour is `*`. These are `hourly` and all other cron
//!   expressions.
//! - `every` counts real time from the anchor, which is no slot itself; `once` is an instant. Neither
//!   knows of zones.
//!
//! This is close to what Vixie cron says of itself (cron(8): jobs without wildcards run right after a gap
//! and are not repeated in an overlap; OCPS 1.4, §4.3.1, agrees about overlaps), with its reading of what
//! a wildcard is: lists and stepped ranges without `*` follow the calendar. But of two fixed times in a
//! gap Debian's cron runs both, one after the other, which are one slot here; and it knows clock
//! changes only up to three hours, and here their size plays no part. Lord Howe's are 30 minutes:
//! `hourly` at minute 45 fires twice within half an hour in autumn, and in spring 90 minutes lie
//! between two slots whose minute the gap left out. Apia had no 30 December 2011: what the calendar
//! names on it fires as the 31st begins. Casablanca's two changes around Ramadan are like any others.

use jiff::civil::Time;
use jiff::{Timestamp, ToSpan};
use twobox_shared::time::UnixMillis;

use super::Slot;
use super::cadence::pattern::{Follows, Pattern, next_minute, round_down};
use super::cadence::value::Interval;
use super::cadence::{Cadence, Shape};
use super::zone::{Zone, nearest_timestamp};

/// Between which instants slots count, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// No slot before this.
    pub not_before: Option<UnixMillis>,
    /// No slot after this.
    pub not_after: Option<UnixMillis>,
}

/// The slots of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    shape: Shape,
    zone: Zone,
    anchor: UnixMillis,
    bounds: Bounds,
}

impl Timetable {
    /// The slots of `cadence` in `zone`. `anchor` is when the schedule was created or its cadence was
    /// edited last; only `every` counts from it.
    pub fn new(cadence: &Cadence, zone: Zone, anchor: UnixMillis, bounds: Bounds) -> Self {
        Self { shape: cadence.shape(), zone, anchor, bounds }
    }

    /// The first slot after `instant`: the next slot of a schedule that was created, edited or
    /// resumed then. `None` if there is none: such a schedule must not be created, and one that is
    /// resumed has come to its end.
    pub fn first_after(&self, instant: UnixMillis) -> Option<Slot> {
        let after = self.bounds.not_before.map_or(instant, |first| instant.max(just_before(first)));
        let slot = match &self.shape {
            Shape::Calendar(pattern) => self.calendar_after(pattern, after)?,
            Shape::Every(interval) => {
                let elapsed = interval.millis().checked_mul(self.index_after(*interval, after))?;
                UnixMillis(self.anchor.0.checked_add(elapsed)?)
            }
            Shape::Once(at) => *at,
        };
        let is_inside = self.bounds.not_after.is_none_or(|last| slot <= last);
        (is_inside && slot > after && slot.0 <= Timestamp::MAX.as_millisecond())
            .then_some(Slot(slot))
    }

    /// The slot after `slot`; `None` if that is the last one.
    pub fn next_after(&self, slot: Slot) -> Option<Slot> {
        self.first_after(slot.0)
    }

    /// The slots from `from` up to but without `before`.
    pub fn slots(&self, from: UnixMillis, before: UnixMillis) -> impl Iterator<Item = Slot> {
        std::iter::successors(self.first_after(just_before(from)), |slot| self.next_after(*slot))
            .take_while(move |slot| slot.0 < before)
    }

    /// How many slots there are from `from` up to but without `before`. The work grows with the days
    /// between them, not with the slots.
    pub fn count(&self, from: UnixMillis, before: UnixMillis) -> u64 {
        let Bounds { not_before, not_after } = self.bounds;
        let from = not_before.map_or(from, |first| from.max(first));
        let before = not_after.map_or(before, |last| before.min(just_after(last)));
        if from >= before {
            return 0;
        }
        match &self.shape {
            Shape::Calendar(pattern) => self.count_calendar(pattern, from, before),
            Shape::Every(interval) => {
                let index = |instant| self.index_after(*interval, just_before(instant));
                index(before).abs_diff(index(from))
            }
            Shape::Once(at) => u64::from((from..before).contains(at)),
        }
    }

    /// The zone in which it is read.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Which minute of the hour the clock of its zone shows at `slot`.
    pub fn minute_of_hour(&self, slot: Slot) -> i8 {
        self.zone.reading(nearest_timestamp(slot.0)).minute()
    }

    /// The number of the first slot of `interval` that lies after `instant`, counted from 1.
    fn index_after(&self, interval: Interval, instant: UnixMillis) -> i64 {
        let elapsed = instant.0.saturating_sub(self.anchor.0);
        elapsed.div_euclid(interval.millis()).saturating_add(1).max(1)
    }

    fn calendar_after(&self, pattern: &Pattern, after: UnixMillis) -> Option<UnixMillis> {
        let after = nearest_timestamp(after);
        let slot = match pattern.follows() {
            Follows::Calendar => self.first_shown_after(pattern, after),
            Follows::ElapsedTime => self.shown_after(pattern, after),
        };
        slot.map(|slot| UnixMillis(slot.as_millisecond()))
    }

    /// The first instant after `after` at which the clock shows what `pattern` names for the first
    /// time, or has jumped over it.
    fn first_shown_after(&self, pattern: &Pattern, after: Timestamp) -> Option<Timestamp> {
        // A later reading never has an earlier first instant, so no reading before this one counts.
        let mut reading = round_down(self.zone.reading(after));
        loop {
            reading = pattern.next(reading)?;
            let instant = self.zone.first_instant(reading)?;
            if instant > after {
                return Some(instant);
            }
            reading = next_minute(reading)?;
        }
    }

    /// The first instant after `after` at which the clock shows what `pattern` names.
    fn shown_after(&self, pattern: &Pattern, after: Timestamp) -> Option<Timestamp> {
        let mut from = after.checked_add(1.millisecond()).ok()?;
        loop {
            let (offset, until) = self.zone.stretch(from);
            let instant = offset.to_timestamp(pattern.next(offset.to_datetime(from))?).ok()?;
            if instant < until {
                return Some(instant);
            }
            from = until;
        }
    }

    /// Counts whole days in a stretch without clock changes by what the calendar names in them, and
    /// walks over the rest: at most three days of each stretch.
    fn count_calendar(&self, pattern: &Pattern, from: UnixMillis, before: UnixMillis) -> u64 {
        let midnight = Time::midnight();
        let walk = |from, before| self.slots(from, before).map(|_| 1).sum::<u64>();
        let mut count = 0;
        let mut start = from;
        while start < before {
            let (offset, until) = self.zone.stretch(nearest_timestamp(start));
            let end = before.min(UnixMillis(until.as_millisecond()));
            // What an overlap shows again is over at the second midnight.
            let first =
                offset.to_datetime(nearest_timestamp(start)).date().saturating_add(2.days());
            let last = offset.to_datetime(nearest_timestamp(end)).date();
            let instant = |date: jiff::civil::Date| offset.to_timestamp(date.to_datetime(midnight));
            count += match (instant(first), instant(last)) {
                (Ok(first_midnight), Ok(last_midnight)) if first < last => {
                    let dates = pattern.dates(first, last).map(|_| 1).sum::<u64>();
                    walk(start, UnixMillis(first_midnight.as_millisecond()))
                        + dates * u64::from(pattern.times_a_day())
                        + walk(UnixMillis(last_midnight.as_millisecond()), end)
                }
                _ => walk(start, end),
            };
            start = end;
        }
        count
    }
}

fn just_before(instant: UnixMillis) -> UnixMillis {
    UnixMillis(instant.0.saturating_sub(1))
}

fn just_after(instant: UnixMillis) -> UnixMillis {
    UnixMillis(instant.0.saturating_add(1))
}

#[cfg(test)]
#[path = "timetable_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "timetable_oracle_tests.rs"]
mod oracle_tests;
