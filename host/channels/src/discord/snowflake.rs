//! Discord's ids, which are numbers with the time in them: a larger one is a later one.
//!
//! Source: "Snowflakes" in <https://docs.discord.com/developers/reference>.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use twobox_shared::time::UnixMillis;

/// The first millisecond of 2015, from which on Discord counts.
const EPOCH: i64 = 1_420_070_400_000;

/// What of an id is not the time, in bits.
const REST: u32 = 22;

/// An id of Discord's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Snowflake(pub(super) u64);

impl Snowflake {
    /// Reads it as Discord writes it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let plain = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse().ok().map(Self)).flatten()
    }

    /// The first id that may be made at `at`.
    pub(super) fn at(at: UnixMillis) -> Self {
        let since = u64::try_from(at.0.saturating_sub(EPOCH)).unwrap_or(0);
        Self(since.checked_shl(REST).unwrap_or(u64::MAX))
    }

    /// When it was made, by Discord's clock.
    pub(super) fn made_at(self) -> UnixMillis {
        UnixMillis(i64::try_from(self.0 >> REST).unwrap_or(i64::MAX).saturating_add(EPOCH))
    }

    /// The one before it.
    pub(super) const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Snowflake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Snowflake {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Snowflake {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("it is no id of Discord's"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_time_and_a_time_an_id() {
        // The example of Discord's own documentation.
        let id = Snowflake::parse("175928847299117063").unwrap();
        assert_eq!(id.made_at(), UnixMillis(1_462_015_105_796));
        let first = Snowflake::at(id.made_at());
        assert!(first <= id && Snowflake::at(UnixMillis(1_462_015_105_797)) > id);
        assert_eq!(Snowflake::at(UnixMillis(0)), Snowflake(0));
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"175928847299117063\"");
        assert_eq!(serde_json::from_str::<Snowflake>("\"175928847299117063\"").unwrap(), id);
        for bad in ["", "-1", "1.5", "abc", "+1", "99999999999999999999", "1/2"] {
            assert_eq!(Snowflake::parse(bad), None, "{bad}");
        }
    }
}
