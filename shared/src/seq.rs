//! `seq`: a Lamport clock over the two boxes of a session.
//!
//! The host takes even numbers, the container odd ones, each greater than every number that it has
//! read from the other box. Numbers so never collide and sort in causal order.

use serde::Serialize;

/// The number of a message inside its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Seq(pub i64);

/// The largest number that every reader can hold exactly (IEEE 754 doubles included): 2^53.
pub const SEQ_MAX: i64 = 1 << 53;

/// How far above both high-water marks a container's number may lie before it is taken as an
/// attempt to exhaust the numbers.
pub const SEQ_LEAP_MAX: i64 = 1_000_000;

impl Seq {
    /// The next number for the host: the smallest even one above `self`.
    pub const fn next_even(self) -> Self {
        Self(self.0 + 2 - self.0.rem_euclid(2))
    }

    /// The next number for the container: the smallest odd one above `self`.
    pub const fn next_odd(self) -> Self {
        Self(self.0 + 1 + self.0.rem_euclid(2))
    }

    /// Whether a container that has seen at most `high_water` may have used this number.
    pub const fn plausible_outbound(self, high_water: Self) -> bool {
        self.0 > 0
            && self.0 % 2 == 1
            && self.0 <= SEQ_MAX
            && self.0 <= high_water.0.saturating_add(SEQ_LEAP_MAX)
    }
}

impl rusqlite::ToSql for Seq {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl rusqlite::types::FromSql for Seq {
    fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        i64::column_result(value).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn next_numbers_grow_and_keep_their_parity(n in 0..SEQ_MAX) {
            let (even, odd) = (Seq(n).next_even(), Seq(n).next_odd());
            prop_assert!(even > Seq(n) && even.0 % 2 == 0 && even.0 - n <= 2);
            prop_assert!(odd > Seq(n) && odd.0 % 2 == 1 && odd.0 - n <= 2);
        }
    }

    #[test]
    fn numbers_that_would_exhaust_the_clock_are_implausible() {
        assert!(Seq(1).plausible_outbound(Seq(0)));
        for bad in [-1, 0, 2, SEQ_MAX + 1, SEQ_LEAP_MAX + 1, i64::MAX] {
            assert!(!Seq(bad).plausible_outbound(Seq(0)), "{bad}");
        }
    }
}
