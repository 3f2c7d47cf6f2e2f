//! Cadences: how often a schedule fires, as people write it, as `host.db` and JSON keep it, and what
//! it names on the calendar.
//!
//! The words of the command line and the columns of `host.db` are the same: a kind (`--daily`) and a
//! value (`23:30`). Reading back what [`Cadence::kind`] and [`Cadence::value`] gave yields an equal
//! cadence.

pub mod cron;
pub mod pattern;
pub mod value;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use twobox_shared::time::UnixMillis;

use cron::{Cron, CronError};
use pattern::{Follows, Pattern, span};
use value::{Day, Interval, MinuteOfHour, TimeOfDay};
pub use value::{parse_instant, parse_reading, refuse_months};

/// How often a schedule fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Cadence {
    /// Whenever a cron expression says.
    Cron {
        /// The expression.
        expression: Cron,
    },
    /// Once on each day.
    Daily {
        /// When.
        at: TimeOfDay,
    },
    /// Once on each day from Monday to Friday.
    Weekdays {
        /// When.
        at: TimeOfDay,
    },
    /// Once on one day of each week.
    Weekly {
        /// On which day.
        day: Day,
        /// When.
        at: TimeOfDay,
    },
    /// Once in each hour.
    Hourly {
        /// At which minute.
        minute: MinuteOfHour,
    },
    /// After each interval, counted from an anchor.
    Every {
        /// The interval.
        interval: Interval,
    },
    /// Once.
    Once {
        /// When.
        #[serde(deserialize_with = "value::deserialize_instant")]
        at: UnixMillis,
    },
}

/// What a cadence comes down to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Minutes of the calendar.
    Calendar(Pattern),
    /// Real time, counted from an anchor.
    Every(Interval),
    /// One instant.
    Once(UnixMillis),
}

/// The kinds of cadences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// [`Cadence::Cron`].
    Cron,
    /// [`Cadence::Daily`].
    Daily,
    /// [`Cadence::Weekdays`].
    Weekdays,
    /// [`Cadence::Weekly`].
    Weekly,
    /// [`Cadence::Hourly`].
    Hourly,
    /// [`Cadence::Every`].
    Every,
    /// [`Cadence::Once`].
    Once,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Cron,
        Self::Daily,
        Self::Weekdays,
        Self::Weekly,
        Self::Hourly,
        Self::Every,
        Self::Once,
    ];

    /// The word for it in `host.db`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Daily => "daily",
            Self::Weekdays => "weekdays",
            Self::Weekly => "weekly",
            Self::Hourly => "hourly",
            Self::Every => "every",
            Self::Once => "once",
        }
    }

    /// The kind with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Why a cadence was refused. People read it after the words that they gave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CadenceError {
    /// Not a cron expression that can fire.
    #[error("cron expression {expression:?}: {problem}")]
    BadCron {
        /// What was given, shortened.
        expression: String,
        /// What is wrong with it.
        problem: CronError,
    },
    /// Another value that makes no sense.
    #[error("{given:?} {problem}")]
    BadValue {
        /// What was given, shortened.
        given: String,
        /// What is wrong with it, and what is right.
        problem: &'static str,
    },
    /// It fires more often than is allowed.
    #[error(
        "{cadence} is too often: it may fire {} apart, and at least {} are required",
        humantime::format_duration(*.shortest),
        humantime::format_duration(*.least)
    )]
    TooOften {
        /// The cadence, for people.
        cadence: String,
        /// The shortest time between two of its slots.
        shortest: Duration,
        /// The shortest time that is allowed.
        least: Duration,
    },
}

impl CadenceError {
    fn bad_value(given: &str, problem: &'static str) -> Self {
        Self::BadValue { given: shorten(given), problem }
    }
}

/// At most 64 characters of `text`, for an error message.
fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

impl Cadence {
    /// Reads a cadence of `kind` from its value, as a person typed it or [`Cadence::value`] wrote it.
    ///
    /// # Errors
    /// [`CadenceError::BadCron`] and [`CadenceError::BadValue`], with what to write instead.
    pub fn parse(kind: Kind, value: &str) -> Result<Self, CadenceError> {
        let value = value.trim();
        Ok(match kind {
            Kind::Cron => {
                let bad = |problem| CadenceError::BadCron { expression: shorten(value), problem };
                Self::Cron { expression: value.parse().map_err(bad)? }
            }
            Kind::Daily => Self::Daily { at: value.parse()? },
            Kind::Weekdays => Self::Weekdays { at: value.parse()? },
            Kind::Weekly => match value.split_once('@') {
                Some((day, at)) => Self::Weekly { day: day.parse()?, at: at.parse()? },
                None => {
                    let problem = "has no day or no time: write DAY@HH:MM, like sunday@23:30";
                    return Err(CadenceError::bad_value(value, problem));
                }
            },
            Kind::Hourly => Self::Hourly { minute: value.parse()? },
            Kind::Every => Self::Every { interval: value.parse()? },
            Kind::Once => Self::Once { at: parse_instant(value)? },
        })
    }

    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Cron { .. } => Kind::Cron,
            Self::Daily { .. } => Kind::Daily,
            Self::Weekdays { .. } => Kind::Weekdays,
            Self::Weekly { .. } => Kind::Weekly,
            Self::Hourly { .. } => Kind::Hourly,
            Self::Every { .. } => Kind::Every,
            Self::Once { .. } => Kind::Once,
        }
    }

    /// What makes it different from others of its kind; [`Cadence::parse`] reads it.
    pub fn value(&self) -> String {
        match self {
            Self::Cron { expression } => expression.to_string(),
            Self::Daily { at } | Self::Weekdays { at } => at.to_string(),
            Self::Weekly { day, at } => format!("{}@{at}", day.name().to_ascii_lowercase()),
            Self::Hourly { minute } => minute.to_string(),
            Self::Every { interval } => interval.to_string(),
            Self::Once { at } => at.to_string(),
        }
    }

    /// Refuses a cadence that fires at intervals shorter than `least` on days without clock changes.
    ///
    /// # Errors
    /// [`CadenceError::TooOften`].
    pub fn check_interval(&self, least: Duration) -> Result<(), CadenceError> {
        match self.shortest_interval() {
            Some(shortest) if shortest < least => {
                Err(CadenceError::TooOften { cadence: self.to_string(), shortest, least })
            }
            _ => Ok(()),
        }
    }

    /// The shortest time between two of its slots on days without clock changes; `None` if it has
    /// one slot at most.
    pub fn shortest_interval(&self) -> Option<Duration> {
        match self.shape() {
            Shape::Calendar(pattern) => pattern.shortest_interval(),
            Shape::Every(interval) => Some(interval.duration()),
            Shape::Once(_) => None,
        }
    }

    /// What decides where its slots are.
    pub fn shape(&self) -> Shape {
        match self {
            Self::Cron { expression } => Shape::Calendar(expression.pattern().clone()),
            Self::Daily { at } => Shape::Calendar(at.pattern()),
            Self::Weekdays { at } => {
                Shape::Calendar(Pattern { weekdays: span(1, 5), ..at.pattern() })
            }
            Self::Weekly { day, at } => {
                Shape::Calendar(Pattern { weekdays: day.set(), ..at.pattern() })
            }
            Self::Hourly { minute } => Shape::Calendar(Pattern {
                hours: span(0, 23),
                follows: Follows::ElapsedTime,
                ..Pattern::daily(0, minute.get())
            }),
            Self::Every { interval } => Shape::Every(*interval),
            Self::Once { at } => Shape::Once(*at),
        }
    }
}

/// As people say it, like `every Sunday at 23:30`.
impl fmt::Display for Cadence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron { expression } => write!(f, "cron {expression}"),
            Self::Daily { at } => write!(f, "every day at {at}"),
            Self::Weekdays { at } => write!(f, "every day from Monday to Friday at {at}"),
            Self::Weekly { day, at } => write!(f, "every {day} at {at}"),
            Self::Hourly { minute } => write!(f, "every hour at minute {minute}"),
            Self::Every { interval } => write!(f, "every {interval}"),
            Self::Once { at } => write!(f, "once at {at}"),
        }
    }
}

#[cfg(test)]
#[path = "cadence_tests.rs"]
mod tests;
