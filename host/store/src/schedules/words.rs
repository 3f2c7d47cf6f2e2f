//! The words that runs are stored in. Those of the states stand in a `CHECK` too.

use twobox_model::words;

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
