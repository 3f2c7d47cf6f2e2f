//! Cron expressions: five fields, read as Vixie cron and its descendants read them.
//!
//! A field is `*`, or a comma-separated list of numbers and ranges; `*` and ranges may have a step.
//! Months and days of the week also have names of three letters, and 7 is Sunday, as 0 is. If the
//! days of the month and the days of the week are both restricted (neither field begins with `*`), a
//! date that is among either fires. An expression follows elapsed time if its minute or hour field
//! begins with `*`, and the calendar otherwise.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::pattern::{DayRule, Follows, Pattern, span};

/// An expression, as it was written, and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    pattern: Pattern,
}

/// One of the five fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// 1 to 31.
    DayOfMonth,
    /// 1 to 12.
    Month,
    /// 0 to 7.
    DayOfWeek,
}

/// Why a text is not an expression that can fire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Too many fields or too few.
    #[error(
        "{found} fields were given, and there are five: minute, hour, day of month, month, day of \
         week{}",
        if *found == 6 { "; there is no field for seconds, cron is as fine as one minute" } else { "" }
    )]
    FieldCount {
        /// How many there are.
        found: usize,
    },
    /// An `@word` that is none of ours.
    #[error(
        "{given:?} is unknown: there are @hourly, @daily or @midnight, @weekly, @monthly, and @yearly or @annually"
    )]
    UnknownMacro {
        /// What was given.
        given: String,
    },
    /// A part of a field makes no sense.
    #[error("{item:?} {problem} in the field for the {field}, where {} are allowed", field.allowed())]
    BadItem {
        /// In which field.
        field: Field,
        /// The part of the list.
        item: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// No month has such a day.
    #[error("it never fires: no month that it names has such a day")]
    NeverFires,
}

/// What is wrong with a part of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Neither a number nor a name that the field knows.
    Unknown,
    /// Outside of what the field allows.
    OutOfRange,
    /// A range that ends before it starts.
    Reversed,
    /// A step that is not a positive number.
    BadStep,
    /// A step on a single number.
    StepWithoutRange,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "makes no sense",
            Self::OutOfRange => "is out of range",
            Self::Reversed => "ends before it starts",
            Self::BadStep => "has a step that is not a positive number",
            Self::StepWithoutRange => "has a step but no range (write a-b/step or */step)",
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
        })
    }
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Field {
    const fn bounds(self) -> (u32, u32) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (0, 7),
        }
    }

    const fn allowed(self) -> &'static str {
        match self {
            Self::Minute => "0 to 59",
            Self::Hour => "0 to 23",
            Self::DayOfMonth => "1 to 31",
            Self::Month => "1 to 12 and jan to dec",
            Self::DayOfWeek => "0 to 7 and sun to sat",
        }
    }

    /// The names of its numbers, from its lowest on.
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Minute | Self::Hour | Self::DayOfMonth => &[],
            Self::Month => &MONTHS,
            Self::DayOfWeek => &WEEKDAYS,
        }
    }

    /// The set of numbers that the field `text` names.
    fn parse(self, text: &str) -> Result<u64, CronError> {
        text.split(',').try_fold(0, |set, item| {
            let bad = |problem| CronError::BadItem { field: self, item: item.to_owned(), problem };
            Ok(set | self.parse_item(item).map_err(bad)?)
        })
    }

    fn parse_item(self, item: &str) -> Result<u64, Problem> {
        let (low, high) = self.bounds();
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(parse_step(step)?)),
            None => (item, None),
        };
        let (start, end) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((start, end)) => self.parse_range(start, end)?,
            None if step.is_some() => return Err(Problem::StepWithoutRange),
            None => {
                let single = self.parse_number(range)?;
                (single, single)
            }
        };
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX);
        let set = (start..=end).step_by(step).fold(0, |set, number| set | 1_u64 << number);
        Ok(match self {
            // 7 is Sunday, as 0 is.
            Self::DayOfWeek => (set | set >> 7) & span(0, 6),
            Self::Minute | Self::Hour | Self::DayOfMonth | Self::Month => set,
        })
    }

    fn parse_range(self, start: &str, end: &str) -> Result<(u32, u32), Problem> {
        let (start, end) = (self.parse_number(start)?, self.parse_number(end)?);
        match start <= end {
            true => Ok((start, end)),
            // A week may end with Sunday, as in `sat-sun`.
            false if self == Self::DayOfWeek && end == 0 => Ok((start, 7)),
            false => Err(Problem::Reversed),
        }
    }

    fn parse_number(self, text: &str) -> Result<u32, Problem> {
        let (low, high) = self.bounds();
        if let Some(at) = self.names().iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return u32::try_from(at).map(|at| low + at).map_err(|_| Problem::OutOfRange);
        }
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Problem::Unknown);
        }
        match text.parse() {
            Ok(number) if (low..=high).contains(&number) => Ok(number),
            _ => Err(Problem::OutOfRange),
        }
    }
}

fn parse_step(text: &str) -> Result<u32, Problem> {
    match text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse()) {
        Some(Ok(step)) if step > 0 => Ok(step),
        _ => Err(Problem::BadStep),
    }
}

/// The fields that an `@word` stands for.
fn expand(text: &str) -> Result<&str, CronError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    match text.to_ascii_lowercase().as_str() {
        "@hourly" => Ok("0 * * * *"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@monthly" => Ok("0 0 1 * *"),
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        _ => Err(CronError::UnknownMacro { given: text.chars().take(64).collect() }),
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = expand(text.trim())?.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(CronError::FieldCount { found: fields.len() });
        };
        let any = |field: &str| field.starts_with('*');
        let pattern = Pattern {
            minutes: Field::Minute.parse(minute)?,
            hours: Field::Hour.parse(hour)?,
            days: Field::DayOfMonth.parse(day)?,
            months: Field::Month.parse(month)?,
            weekdays: Field::DayOfWeek.parse(weekday)?,
            day_rule: match any(day) || any(weekday) {
                true => DayRule::Both,
                false => DayRule::Either,
            },
            follows: match any(minute) || any(hour) {
                true => Follows::ElapsedTime,
                false => Follows::Calendar,
            },
        };
        if !pattern.has_date() {
            return Err(CronError::NeverFires);
        }
        Ok(Self { text: text.split_whitespace().collect::<Vec<_>>().join(" "), pattern })
    }
}

impl Cron {
    /// What it means.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }
}

/// The expression as it was written, with single spaces.
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: impl IntoIterator<Item = u32>) -> u64 {
        numbers.into_iter().fold(0, |set, number| set | 1 << number)
    }

    #[test]
    fn a_field_is_a_list_of_numbers_names_ranges_and_steps() {
        let cases = [
            (Field::Minute, "*", set(0..60)),
            (Field::Minute, "*/20", set([0, 20, 40])),
            (Field::Minute, "5-20/7,59", set([5, 12, 19, 59])),
            (Field::Minute, "*/99", set([0])),
            (Field::Hour, "9-17", set(9..18)),
            (Field::Hour, "007", set([7])),
            (Field::DayOfMonth, "1,15,31", set([1, 15, 31])),
            (Field::Month, "jan,Mar-MAY", set([1, 3, 4, 5])),
            (Field::DayOfWeek, "0", set([0])),
            (Field::DayOfWeek, "7", set([0])),
            (Field::DayOfWeek, "5-7", set([0, 5, 6])),
            (Field::DayOfWeek, "sat-sun", set([0, 6])),
            (Field::DayOfWeek, "sun-sun", set([0])),
            (Field::DayOfWeek, "*/7", set([0])),
            (Field::DayOfWeek, "*", set(0..7)),
        ];
        for (field, text, expected) in cases {
            assert_eq!(field.parse(text), Ok(expected), "{field}: {text}");
        }
    }

    #[test]
    fn a_part_that_makes_no_sense_is_named_with_its_field() {
        use Problem::{BadStep, OutOfRange, Reversed, StepWithoutRange, Unknown};
        let cases = [
            ("60 * * * *", Field::Minute, "60", OutOfRange),
            ("* 24 * * *", Field::Hour, "24", OutOfRange),
            ("* * 0 * *", Field::DayOfMonth, "0", OutOfRange),
            ("* * * 13 *", Field::Month, "13", OutOfRange),
            ("* * * * 8", Field::DayOfWeek, "8", OutOfRange),
            ("0 9-8 * * *", Field::Hour, "9-8", Reversed),
            ("1,9-8 * * * *", Field::Minute, "9-8", Reversed),
            ("*/0 * * * *", Field::Minute, "*/0", BadStep),
            ("*/x * * * *", Field::Minute, "*/x", BadStep),
            ("5/15 * * * *", Field::Minute, "5/15", StepWithoutRange),
            ("1,,2 * * * *", Field::Minute, "", Unknown),
            ("-5 * * * *", Field::Minute, "-5", Unknown),
            ("+5 * * * *", Field::Minute, "+5", Unknown),
            ("0 0 L * *", Field::DayOfMonth, "L", Unknown),
            ("0 0 ? * 1", Field::DayOfMonth, "?", Unknown),
            ("0 0 * * monday", Field::DayOfWeek, "monday", Unknown),
            ("0 0 * mon *", Field::Month, "mon", Unknown),
            ("jan * * * *", Field::Minute, "jan", Unknown),
            ("0 0 99999999999 * *", Field::DayOfMonth, "99999999999", OutOfRange),
        ];
        for (expression, field, item, problem) in cases {
            let expected = CronError::BadItem { field, item: item.to_owned(), problem };
            assert_eq!(expression.parse::<Cron>(), Err(expected), "{expression}");
        }
    }

    #[test]
    fn an_error_says_what_is_wrong_where_and_what_is_allowed() {
        let cases = [
            (
                "0 25 * * *",
                "\"25\" is out of range in the field for the hour, where 0 to 23 are allowed",
            ),
            (
                "0 0 9 * * *",
                "6 fields were given, and there are five: minute, hour, day of month, month, day \
                 of week; there is no field for seconds, cron is as fine as one minute",
            ),
            (
                "",
                "0 fields were given, and there are five: minute, hour, day of month, month, day \
                 of week",
            ),
            (
                "@reboot",
                "\"@reboot\" is unknown: there are @hourly, @daily or @midnight, @weekly, @monthly, and @yearly or @annually",
            ),
            ("0 0 31 2 *", "it never fires: no month that it names has such a day"),
        ];
        for (expression, message) in cases {
            assert_eq!(expression.parse::<Cron>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn only_what_can_fire_is_accepted() {
        for never in ["0 0 31 2 *", "0 0 30,31 feb *", "0 0 31 4,6,9,11 *", "0 0 30 2 */2"] {
            assert_eq!(never.parse::<Cron>(), Err(CronError::NeverFires), "{never}");
        }
        for seldom in ["0 0 29 2 *", "0 0 31 2,3 *", "0 0 31 2 mon", "0 0 29 2 */7"] {
            assert!(seldom.parse::<Cron>().is_ok(), "{seldom}");
        }
    }

    #[test]
    fn what_begins_with_a_star_counts_as_unrestricted() {
        use {DayRule::*, Follows::*};
        let cases = [
            ("0 9 * * *", Both, Calendar),
            ("0 9 1 * *", Both, Calendar),
            ("0 9 */2 * 1", Both, Calendar),
            ("0 9 1 * 1", Either, Calendar),
            ("0,30 2-4 1-31 * 1", Either, Calendar),
            ("0-58/2 0-23 * * *", Both, Calendar),
            ("0 * * * *", Both, ElapsedTime),
            ("*/5 2 * * *", Both, ElapsedTime),
            ("0 */2 1 * 1", Either, ElapsedTime),
            ("@hourly", Both, ElapsedTime),
            ("@weekly", Both, Calendar),
        ];
        for (expression, day_rule, follows) in cases {
            let cron: Cron = expression.parse().unwrap();
            let pattern = cron.pattern();
            assert_eq!((pattern.day_rule, pattern.follows), (day_rule, follows), "{expression}");
        }
    }
}
