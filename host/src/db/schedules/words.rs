//! The words that schedules and runs are stored in. Those of the states stand in a `CHECK` too.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::Serialize;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Each of them, in the order in which they are declared.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word in the database.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// What `word` means; `None` for any other.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                self.as_str().to_sql()
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                Self::parse(value.as_str()?).ok_or(FromSqlError::InvalidType)
            }
        }
    };
}

words! {
    /// What becomes of slots at which nobody could fire.
    MissedPolicy {
        /// None of them is run.
        Skip = "skip",
        /// The last one is run.
        Latest = "latest",
        /// Each is run.
        All = "all",
    }
}

words! {
    /// What a slot does while an earlier run of the schedule goes on.
    OverlapPolicy {
        /// It is left out.
        Skip = "skip",
        /// It waits.
        Queue = "queue",
        /// It ends the earlier one.
        Replace = "replace",
        /// It runs beside it.
        Allow = "allow",
    }
}

words! {
    /// What made a run.
    Trigger {
        /// A slot came.
        Scheduled = "scheduled",
        /// A person; it has no slot.
        Manual = "manual",
        /// A person asked for a slot of the past.
        Backfill = "backfill",
    }
}

words! {
    /// How far a run is.
    Status {
        /// It waits for its turn.
        Queued = "queued",
        /// It has an owner.
        Running = "running",
        /// It ended well.
        Completed = "completed",
        /// It ended without success.
        Failed = "failed",
        /// Somebody did not want it any more.
        Cancelled = "cancelled",
        /// Its slot came, and a policy or limit said no.
        Skipped = "skipped",
        /// Nobody was there when its slot came.
        Missed = "missed",
    }
}

words! {
    /// How far a running run is.
    Phase {
        /// It had no effect yet.
        Claimed = "claimed",
        /// Its session is there.
        Prepared = "prepared",
        /// Its message is in the inbox.
        Executing = "executing",
    }
}

words! {
    /// Why a run did not complete.
    Reason {
        /// It used up `max_turns`.
        TurnLimitExceeded = "turn_limit_exceeded",
        /// It went on longer than it may.
        Timeout = "timeout",
        /// A person ended it.
        Aborted = "aborted",
        /// A budget was used up.
        BudgetExceeded = "budget_exceeded",
        /// The provider did not accept the credentials.
        AuthFailed = "auth_failed",
        /// The provider wanted fewer calls.
        RateLimited = "rate_limited",
        /// Nobody extended its lease.
        LeaseExpired = "lease_expired",
        /// Its session could not be made ready.
        PrepareFailed = "prepare_failed",
        /// The provider failed.
        ProviderError = "provider_error",
        /// Its owner died when it had perhaps had effects.
        Interrupted = "interrupted",
        /// An earlier run of the schedule was going on.
        Overlap = "overlap",
        /// A later slot took its place.
        Replaced = "replaced",
        /// Its slot was missed, and the schedule does not run such slots.
        Policy = "policy",
        /// Its slot was missed, longer ago than the schedule's window.
        Window = "window",
        /// Its slot was missed, together with too many others.
        Limit = "limit",
        /// The schedule was paused.
        Paused = "paused",
        /// The schedule was removed.
        Removed = "removed",
    }
}
