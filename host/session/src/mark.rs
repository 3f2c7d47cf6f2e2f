//! The session's mark in `host.db`, as its task knows it.

use twobox_shared::time::UnixMillis;

/// When somebody has to look at the session, durably. `None` within is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// This stands there.
    Known(Option<UnixMillis>),
    /// Nobody knows what does: a commit has failed that may have been one all the same, or somebody else has
    /// written. This stood there before.
    InDoubt(Option<UnixMillis>),
}

impl Mark {
    /// Whether it has to be written, so that `next` stands there.
    pub(crate) fn differs(self, next: Option<UnixMillis>) -> bool {
        self != Self::Known(next)
    }

    /// The same, when it is about to be written or somebody else has.
    pub(crate) fn doubted(self) -> Self {
        Self::InDoubt(self.last())
    }

    /// What was known last.
    pub(crate) fn last(self) -> Option<UnixMillis> {
        match self {
            Self::Known(last) | Self::InDoubt(last) => last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_doubt_is_written_whatever_it_was() {
        let (never, now) = (None, Some(UnixMillis(0)));
        let cases = [
            ("it stands there", Mark::Known(now), now, false),
            ("another one does", Mark::Known(never), now, true),
            ("it is not due any more", Mark::Known(now), never, true),
            ("its commit failed", Mark::Known(never).doubted(), now, true),
            ("as before, but nobody knows", Mark::Known(now).doubted(), now, true),
            ("and still nobody knows", Mark::Known(now).doubted().doubted(), now, true),
        ];
        for (case, mark, next, expected) in cases {
            assert_eq!(mark.differs(next), expected, "{case}");
        }
        assert_eq!(Mark::Known(now).doubted().last(), now);
    }
}
