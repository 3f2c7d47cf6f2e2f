//! When something was said on Slack, which is also its name in its conversation.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use twobox_shared::time::UnixMillis;

/// A `ts`: seconds, a point, and six digits. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ts(u64);

const SECOND: u64 = 1_000_000;

impl Ts {
    /// Reads one; `None` for what is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (seconds, rest) = text.split_once('.')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(seconds) || !digits(rest) || rest.len() != 6 || seconds.is_empty() {
            return None;
        }
        let seconds: u64 = seconds.parse().ok()?;
        let micros: u64 = rest.parse().ok()?;
        Some(Self(seconds.checked_mul(SECOND)?.checked_add(micros)?))
    }

    /// What would be said at `at`.
    pub(super) fn at(at: UnixMillis) -> Self {
        Self(u64::try_from(at.0).unwrap_or_default().saturating_mul(1_000))
    }

    /// Its time.
    pub(super) fn time(self) -> UnixMillis {
        UnixMillis(i64::try_from(self.0 / 1_000).unwrap_or(i64::MAX))
    }

    /// So much earlier.
    pub(super) fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Ts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / SECOND, self.0 % SECOND)
    }
}

impl Serialize for Ts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no ts of Slack's"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written_and_in_order() {
        let ts = |text: &str| Ts::parse(text).unwrap();
        for text in ["1712345678.000100", "0.000000", "99999999999.999999"] {
            assert_eq!(ts(text).to_string(), text);
        }
        assert!(ts("9.000001") < ts("10.000000") && ts("10.000000") < ts("10.000001"));
        assert_eq!(ts("1712345678.123456").time(), UnixMillis(1_712_345_678_123));
        assert_eq!(Ts::at(UnixMillis(1_500)).to_string(), "1.500000");
        assert_eq!(ts("10.000001").before(Duration::from_secs(4)), ts("6.000001"));
        for none in ["", "1", "1.", ".000001", "1.1", "-1.000000", "1.00000x", "1.0000000"] {
            assert_eq!(Ts::parse(none), None, "{none}");
        }
    }
}
