//! Instants: how they are written in the two boxes, and how they are read back.
//!
//! Written: RFC 3339, UTC, milliseconds, `Z`. Read: that, any RFC 3339 offset, and SQLite's
//! `YYYY-MM-DD HH:MM:SS` (UTC). Instants are compared as numbers, never as text.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A wall-clock instant in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub i64);

/// The last instant that the text form can carry: 9999-12-30T22:00:00.999Z, the last one that is in the
/// year 9999 or before wherever people live (`jiff::Timestamp::MAX`).
const MAX: i64 = 253_402_207_200_999;

/// From here on an instant is [`MAX`] where it would be after it.
const NEVER: DateTime = DateTime::constant(9999, 12, 30, 0, 0, 0, 0);

impl UnixMillis {
    /// The instant as the two boxes write it.
    pub fn to_rfc3339(self) -> String {
        let instant = Timestamp::from_millisecond(self.0.clamp(0, MAX));
        format!("{:.3}", instant.unwrap_or(Timestamp::MAX))
    }

    /// Reads either accepted text form; `None` for anything else. The last two days of the year 9999, which
    /// people write for "never", are its end.
    pub fn parse(text: &str) -> Option<Self> {
        let instant = text.parse::<Timestamp>().ok().or_else(|| {
            let utc = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
                .iter()
                .find_map(|form| DateTime::strptime(form, text).ok())
                .or_else(|| {
                    let pieces = Pieces::parse(text).ok()?;
                    pieces.offset()?;
                    Some(pieces.date().to_datetime(pieces.time()?)).filter(|it| *it >= NEVER)
                })?;
            let end = (utc >= NEVER).then_some(Timestamp::MAX);
            Offset::UTC.to_timestamp(utc).ok().or(end)
        })?;
        Some(Self(instant.as_millisecond()))
    }

    /// How long after `earlier` this instant is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for UnixMillis {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for UnixMillis {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl Serialize for UnixMillis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for UnixMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a time")))
    }
}

/// `host.db` keeps instants as integers; the two boxes bind [`UnixMillis::to_rfc3339`] instead.
impl ToSql for UnixMillis {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.0))
    }
}

impl FromSql for UnixMillis {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_text_forms_mean_utc() {
        let cases = [
            ("1970-01-01T00:00:00.000Z", Some(0)),
            ("1970-01-01 00:00:01", Some(1000)),
            ("1970-01-01T00:00:01", Some(1000)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1970-01-01 00:00:01.25", Some(1250)),
            ("2026-02-30 00:00:00", None),
            ("9999-12-30T21:00:00Z", Some(MAX - 3_600_999)),
            ("9999-12-31T00:00:00Z", Some(MAX)),
            ("9999-12-31T23:59:59.999+02:00", Some(MAX)),
            ("9999-12-31 23:59:59", Some(MAX)),
            ("-009999-01-01T00:00:00+23:00", None),
            ("2026-02-28", None),
            ("2026-02-28T10:00", None),
            ("yesterday", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(UnixMillis::parse(text).map(|t| t.0), expected, "{text:?}");
        }
    }

    #[test]
    fn every_instant_can_be_written() {
        for (ms, text) in [
            (i64::MIN, "1970-01-01T00:00:00.000Z"),
            (MAX, "9999-12-30T22:00:00.999Z"),
            (MAX + 1, "9999-12-30T22:00:00.999Z"),
            (i64::MAX, "9999-12-30T22:00:00.999Z"),
        ] {
            assert_eq!(UnixMillis(ms).to_rfc3339(), text, "{ms}");
        }
    }

    proptest! {
        #[test]
        fn writing_and_reading_keeps_the_millisecond(ms in 0..MAX) {
            let text = UnixMillis(ms).to_rfc3339();
            prop_assert_eq!(text.len(), 24);
            prop_assert_eq!(UnixMillis::parse(&text), Some(UnixMillis(ms)));
        }
    }
}
