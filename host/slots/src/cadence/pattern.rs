//! Patterns: which minutes of the calendar a cadence names. Civil arithmetic only: no zone, no
//! instant, no clock change.

use std::time::Duration;

use jiff::civil::{Date, DateTime};

const HOURS: u32 = 24;
const MINUTES: u32 = 60;
const DAY: u32 = HOURS * MINUTES;

/// How the days of the month and the days of the week go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayRule {
    /// A date has to be among both: one of the two says `*`.
    Both,
    /// A date has to be among either: both are restricted.
    Either,
}

/// How a pattern gets along with clock changes; see [`crate::timetable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Each named time of a date fires once.
    Calendar,
    /// Each real minute fires whose local reading is named.
    ElapsedTime,
}

/// A set of calendar minutes. Each field is a set of numbers, bit n for the number n.
///
/// It names at least one date that exists: whoever makes one asks `has_date`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// 0 to 59.
    pub(super) minutes: u64,
    /// 0 to 23.
    pub(super) hours: u64,
    /// Days of the month, 1 to 31.
    pub(super) days: u64,
    /// 1 to 12.
    pub(super) months: u64,
    /// Days of the week, 0 (Sunday) to 6.
    pub(super) weekdays: u64,
    pub(super) day_rule: DayRule,
    pub(super) follows: Follows,
}

/// The set of all numbers from `low` to `high`.
pub(super) const fn span(low: u32, high: u32) -> u64 {
    (u64::MAX >> (63 - high)) & (u64::MAX << low)
}

const fn contains(set: u64, number: u32) -> bool {
    set >> number & 1 == 1
}

/// The lowest number in `set` that is not below `from`.
fn lowest(set: u64, from: u32) -> Option<u32> {
    let rest = set.checked_shr(from)?;
    (rest != 0).then(|| from + rest.trailing_zeros())
}

/// A component of a date as a number of a set.
fn number(component: i8) -> u32 {
    u32::from(component.unsigned_abs())
}

impl Pattern {
    /// One minute of each day.
    pub(super) fn daily(hour: i8, minute: i8) -> Self {
        Self {
            minutes: 1 << number(minute),
            hours: 1 << number(hour),
            days: span(1, 31),
            months: span(1, 12),
            weekdays: span(0, 6),
            day_rule: DayRule::Both,
            follows: Follows::Calendar,
        }
    }

    /// What becomes of it when the clock changes.
    pub const fn follows(&self) -> Follows {
        self.follows
    }

    /// Whether there is any date that it names, in any year.
    pub(super) fn has_date(&self) -> bool {
        let longest = |month| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let first_day = self.days.trailing_zeros();
        self.day_rule == DayRule::Either
            || (1..=12).any(|month| contains(self.months, month) && first_day <= longest(month))
    }

    /// The first minute that it names, at or after `from`; `None` beyond the calendar's end.
    pub fn next(&self, from: DateTime) -> Option<DateTime> {
        let from = round_up(from)?;
        let date = self.next_date(from.date())?;
        let time = match date == from.date() {
            true => self.next_time(number(from.hour()) * MINUTES + number(from.minute())),
            false => self.next_time(0),
        };
        match time {
            Some(time) => at(date, time),
            None => at(self.next_date(date.tomorrow().ok()?)?, self.next_time(0)?),
        }
    }

    /// Whether it names minutes of `date`.
    fn names_date(&self, date: Date) -> bool {
        let day = contains(self.days, number(date.day()));
        let weekday = contains(self.weekdays, number(date.weekday().to_sunday_zero_offset()));
        let named = match self.day_rule {
            DayRule::Both => day && weekday,
            DayRule::Either => day || weekday,
        };
        named && contains(self.months, number(date.month()))
    }

    /// How many minutes it names of a date that it names.
    pub fn times_a_day(&self) -> u32 {
        self.minutes.count_ones() * self.hours.count_ones()
    }

    /// The shortest time between two of its minutes in a stretch without clock changes; `None` if it
    /// fires once in a generation.
    pub(super) fn shortest_interval(&self) -> Option<Duration> {
        let times: Vec<u32> =
            std::iter::successors(self.next_time(0), |time| self.next_time(time + 1)).collect();
        let within = times.windows(2).map(|pair| pair[1] - pair[0]).min();
        let across = self.shortest_days().zip(times.first().zip(times.last()));
        let across = across.map(|(days, (first, last))| days * DAY - last + first);
        let minutes = within.into_iter().chain(across).min()?;
        Some(Duration::from_secs(60 * u64::from(minutes)))
    }

    /// The fewest days between two dates that it names. Weekdays and leap years repeat after 28
    /// years.
    fn shortest_days(&self) -> Option<u32> {
        let dates: Vec<Date> =
            self.dates(Date::constant(2000, 1, 1), Date::constant(2029, 1, 1)).collect();
        let between = |pair: &[Date]| (pair[1] - pair[0]).get_days().unsigned_abs();
        dates.windows(2).map(between).min()
    }

    /// The dates that it names, from `from` to the day before `before`.
    pub fn dates(&self, from: Date, before: Date) -> impl Iterator<Item = Date> {
        let next = |date: &Date| self.next_date(date.tomorrow().ok()?);
        std::iter::successors(self.next_date(from), next).take_while(move |date| *date < before)
    }

    /// The first date that it names, at or after `date`.
    fn next_date(&self, mut date: Date) -> Option<Date> {
        while !self.names_date(date) {
            let month = contains(self.months, number(date.month()));
            let last = if month { date } else { date.last_of_month() };
            date = last.tomorrow().ok()?;
        }
        Some(date)
    }

    /// The first minute of a day that it names, at or after `from`, both counted from midnight.
    fn next_time(&self, from: u32) -> Option<u32> {
        let hour = lowest(self.hours, from / MINUTES)?;
        let minute = if hour == from / MINUTES { from % MINUTES } else { 0 };
        match lowest(self.minutes, minute) {
            Some(minute) => Some(hour * MINUTES + minute),
            None => Some(lowest(self.hours, hour + 1)? * MINUTES + lowest(self.minutes, 0)?),
        }
    }
}

/// The first whole minute at or after `reading`.
fn round_up(reading: DateTime) -> Option<DateTime> {
    let minute = round_down(reading);
    match minute == reading {
        true => Some(reading),
        false => next_minute(minute),
    }
}

/// The whole minute that `reading` is in.
pub fn round_down(reading: DateTime) -> DateTime {
    reading.date().at(reading.hour(), reading.minute(), 0, 0)
}

/// The minute after `reading`.
pub fn next_minute(reading: DateTime) -> Option<DateTime> {
    reading.checked_add(jiff::SignedDuration::from_mins(1)).ok()
}

fn at(date: Date, minute_of_day: u32) -> Option<DateTime> {
    let hour = i8::try_from(minute_of_day / MINUTES).ok()?;
    let minute = i8::try_from(minute_of_day % MINUTES).ok()?;
    Some(date.at(hour, minute, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cadence::cron::Cron;

    fn pattern(expression: &str) -> Pattern {
        expression.parse::<Cron>().unwrap().pattern().clone()
    }

    #[test]
    fn the_next_minute_is_found_across_days_months_and_years() {
        let cases = [
            ("*/15 * * * *", "2026-01-01T00:00", "2026-01-01T00:00"),
            ("*/15 * * * *", "2026-01-01T00:00:01", "2026-01-01T00:15"),
            ("30 2 * * *", "2026-12-31T02:31", "2027-01-01T02:30"),
            ("0 0 31 * *", "2026-02-01T00:00", "2026-03-31T00:00"),
            ("0 0 29 2 *", "2096-03-01T00:00", "2104-02-29T00:00"),
            ("0 12 13 * 5", "2026-11-07T00:00", "2026-11-13T12:00"), // the 13th or a Friday
            ("0 12 13 * 5", "2026-11-14T00:00", "2026-11-20T12:00"),
            ("0 12 */13 * 5", "2026-11-28T00:00", "2027-01-01T12:00"), // the 1st and a Friday
            ("59 23 * 6 0", "2026-11-14T00:00", "2027-06-06T23:59"),
        ];
        for (expression, from, expected) in cases {
            let next = pattern(expression).next(from.parse().unwrap());
            assert_eq!(next, Some(expected.parse().unwrap()), "{expression} from {from}");
        }
        assert_eq!(pattern("0 0 1 1 *").next("9999-01-02T00:00".parse().unwrap()), None);
    }

    #[test]
    fn the_shortest_interval_spans_midnight_and_skipped_days() {
        const HOUR: u64 = 3600;
        let cases = [
            ("* * * * *", Some(60)),
            ("0,20 * * * *", Some(20 * 60)),
            ("50 * * * *", Some(HOUR)),
            ("0,59 0,23 * * *", Some(60)),        // 23:59 and 00:00
            ("0,59 0,23 * * 1,3", Some(59 * 60)), // 00:00 never follows 23:59
            ("30 9 * * *", Some(24 * HOUR)),
            ("30 9 * * 2,5", Some(3 * 24 * HOUR)),
            ("30 9 1 1 *", Some(365 * 24 * HOUR)),
            ("30 9 29 2 */7", None), // a 29 February that is a Sunday
        ];
        for (expression, seconds) in cases {
            let shortest = pattern(expression).shortest_interval();
            assert_eq!(shortest, seconds.map(Duration::from_secs), "{expression}");
        }
    }
}
