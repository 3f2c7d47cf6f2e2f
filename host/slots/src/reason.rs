//! Why runs did not complete, and why slots were left out: one word each, the same in decisions, in
//! `host.db` and for people.

use twobox_model::words;

words! {
    /// Why a run did not complete.
    Reason {
        /// It used up `max_turns`.
        TurnLimitExceeded = "turn_limit_exceeded",
        /// It went on longer than it may.
        Timeout = "timeout",
        /// A person or the host ended it.
        Aborted = "aborted",
        /// A budget was used up.
        BudgetExceeded = "budget_exceeded",
        /// The provider did not accept the credentials.
        AuthFailed = "auth_failed",
        /// The provider wanted fewer calls.
        RateLimited = "rate_limited",
        /// Its lease ran out.
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
        /// The schedule was edited before its slot was run, and has other slots since.
        Edited = "edited",
        /// The schedule was paused.
        Paused = "paused",
        /// The schedule was removed.
        Removed = "removed",
    }
}
