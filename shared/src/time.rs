//! Instants: how they are written in the two boxes, and how they are read back.
//!
//! Written: RFC 3339, UTC, milliseconds, `Z`. Read: that, any RFC 3339 offset, and SQLite's
//! `YYYY-MM-DD HH:MM:SS` (UTC). Instants are compared as numbers, never as text.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A wall-clock instant in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub i64);

/// The last instant that the text form can carry: 9999-12-31T23:59:59.999Z.
const MAX: i64 = 253_402_300_799_999;

impl UnixMillis {
    /// The instant as the two boxes write it.
    pub fn to_rfc3339(self) -> String {
        let instant = Timestamp::from_millisecond(self.0.clamp(0, MAX))
            .expect("an instant between 1970 and 9999 is in range");
        format!("{instant:.3}")
    }

    /// Reads either accepted text form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let instant = text.parse::<Timestamp>().ok().or_else(|| {
            ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
                .iter()
                .find_map(|form| DateTime::strptime(form, text).ok())
                .and_then(|utc| Offset::UTC.to_timestamp(utc).ok())
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
            ("2026-02-28", None),
            ("2026-02-28T10:00", None),
            ("yesterday", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(UnixMillis::parse(text).map(|t| t.0), expected, "{text:?}");
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
