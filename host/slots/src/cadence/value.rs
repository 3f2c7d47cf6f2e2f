//! The values that cadences are made of. Each has one text form, which is its form in JSON too; there
//! a minute of the hour is a number.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use twobox_shared::time::UnixMillis;

use super::CadenceError;
use super::cron::Cron;
use super::pattern::Pattern;

/// A minute of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay {
    hour: i8,
    minute: i8,
}

/// A minute of the hour, 0 to 59.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i8")]
pub struct MinuteOfHour(i8);

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "their names say it")]
pub enum Day {
    Sunday,
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
}

/// A time between slots: whole milliseconds, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interval {
    millis: i64,
}

/// Two digits, or one: `7` and `07`.
fn parse_number(text: &str) -> Option<i8> {
    let digits = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

impl FromStr for TimeOfDay {
    type Err = CadenceError;

    fn from_str(text: &str) -> Result<Self, CadenceError> {
        let bad = || {
            let problem = "is not a time of day: write HH:MM, from 00:00 to 23:59";
            CadenceError::bad_value(text, problem)
        };
        let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
        match (parse_number(hour), parse_number(minute)) {
            (Some(hour @ 0..=23), Some(number @ 0..=59)) if minute.len() == 2 => {
                Ok(Self { hour, minute: number })
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour, self.minute)
    }
}

impl TimeOfDay {
    /// This minute of each day.
    pub(super) fn pattern(self) -> Pattern {
        Pattern::daily(self.hour, self.minute)
    }
}

impl TryFrom<i64> for MinuteOfHour {
    type Error = CadenceError;

    fn try_from(number: i64) -> Result<Self, CadenceError> {
        number.to_string().parse()
    }
}

impl From<MinuteOfHour> for i8 {
    fn from(minute: MinuteOfHour) -> Self {
        minute.0
    }
}

impl FromStr for MinuteOfHour {
    type Err = CadenceError;

    fn from_str(text: &str) -> Result<Self, CadenceError> {
        match parse_number(text) {
            Some(number @ 0..=59) => Ok(Self(number)),
            _ => Err(CadenceError::bad_value(text, "is not a minute of the hour: write 0 to 59")),
        }
    }
}

impl fmt::Display for MinuteOfHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl MinuteOfHour {
    /// Its number.
    pub(super) const fn get(self) -> i8 {
        self.0
    }
}

impl FromStr for Day {
    type Err = CadenceError;

    /// Reads a name, whole or its first three letters, in whichever case.
    fn from_str(text: &str) -> Result<Self, CadenceError> {
        let is_meant = |day: &Self| {
            let name = day.name();
            text.eq_ignore_ascii_case(name) || text.eq_ignore_ascii_case(&name[..3])
        };
        let problem = "is not a day: write monday to sunday";
        Self::ALL.into_iter().find(is_meant).ok_or_else(|| CadenceError::bad_value(text, problem))
    }
}

impl Day {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Sunday,
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
    ];

    /// Its English name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sunday => "Sunday",
            Self::Monday => "Monday",
            Self::Tuesday => "Tuesday",
            Self::Wednesday => "Wednesday",
            Self::Thursday => "Thursday",
            Self::Friday => "Friday",
            Self::Saturday => "Saturday",
        }
    }

    /// The set of days of the week in which it is alone.
    pub(super) const fn set(self) -> u64 {
        1 << self as u32
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Interval {
    type Err = CadenceError;

    fn from_str(text: &str) -> Result<Self, CadenceError> {
        let bad = |problem| CadenceError::bad_value(text, problem);
        let duration = humantime::parse_duration(text)
            .map_err(|_| bad("is not an interval: write it like 90m, 2h 30m or 7days"))?;
        if duration.is_zero() || duration.subsec_nanos() % 1_000_000 != 0 {
            return Err(bad("is not an interval of one or more whole milliseconds"));
        }
        let millis = i64::try_from(duration.as_millis()).map_err(|_| bad("is too long"))?;
        Ok(Self { millis })
    }
}

impl Interval {
    /// How long it is.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.millis.unsigned_abs())
    }

    /// How long it is, in milliseconds; at least one.
    pub const fn millis(self) -> i64 {
        self.millis
    }
}

/// In days and less: a month and a year are not always as long, and would be read as what they are on
/// average.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: u64 = 24 * 60 * 60;
        let all = self.duration();
        let days = all.as_secs() / DAY;
        let rest = all - Duration::from_secs(days * DAY);
        match (days, rest.is_zero()) {
            (0, _) => humantime::format_duration(rest).fmt(f),
            (1, true) => f.write_str("1day"),
            (1, false) => write!(f, "1day {}", humantime::format_duration(rest)),
            (days, true) => write!(f, "{days}days"),
            (days, false) => write!(f, "{days}days {}", humantime::format_duration(rest)),
        }
    }
}

/// Refuses a length of time that counts in months or years, which people take for a date on the
/// calendar, or write for minutes.
///
/// # Errors
/// What to say instead.
pub fn refuse_months(text: &str) -> Result<(), &'static str> {
    let units = text.split(|c: char| !c.is_alphabetic());
    for unit in units {
        match unit {
            "M" => {
                return Err(
                    "counts in months of 30.44 days: write 30m for minutes; for each month a \
                            calendar is needed, as in --cron '0 9 1 * *', the first at 09:00",
                );
            }
            "month" | "months" => {
                return Err(
                    "would be 30.44 days each time, and not the same day of each month: that is \
                            --cron '0 9 1 * *', the first at 09:00, or @monthly",
                );
            }
            "y" | "year" | "years" | "yr" | "yrs" => {
                return Err(
                    "would be 365.25 days each time, and not the same day of each year: that is \
                            --cron '0 9 1 1 *', 1 January at 09:00, or @yearly",
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads a date and a time without an offset, as a clock on the wall shows them, such as
/// `2026-12-01 09:00`.
pub fn parse_reading(text: &str) -> Option<DateTime> {
    // An offset would be passed over.
    let plain = |c: char| c.is_ascii_digit() || "-:. T".contains(c);
    let is_plain = text.chars().all(plain) && text.matches('-').count() == 2;
    (is_plain && text.contains(':')).then(|| text.parse().ok())?
}

/// Reads an RFC 3339 instant. Its offset is required: a time without one would be another instant in
/// each zone. What is finer than a millisecond is cut off.
///
/// # Errors
/// [`CadenceError::BadValue`].
pub fn parse_instant(text: &str) -> Result<UnixMillis, CadenceError> {
    match text.parse::<Timestamp>() {
        Ok(instant) if instant >= Timestamp::UNIX_EPOCH => Ok(UnixMillis(instant.as_millisecond())),
        _ => {
            let problem = "is not an instant from 1970 on with its offset from UTC: write it like \
                           2026-11-01T09:00:00+01:00";
            Err(CadenceError::bad_value(text, problem))
        }
    }
}

/// Reads the instant of JSON as [`parse_instant`] does.
pub(super) fn deserialize_instant<'de, D>(deserializer: D) -> Result<UnixMillis, D::Error>
where
    D: serde::Deserializer<'de>,
{
    parse_instant(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// JSON has the text form of a value.
macro_rules! text_in_json {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = <Self as FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )*};
}

text_in_json!(Cron, TimeOfDay, Interval);
