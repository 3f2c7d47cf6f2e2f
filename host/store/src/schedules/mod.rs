//! Schedules, their runs, and what each run cost.
//!
//! A *slot* is one nominal firing time of a schedule. Whatever the number of hosts on one `host.db`
//! and whenever one of them dies: each slot has at most one run ([`claim_slot`]), at most so many
//! runs go at once ([`start_next`]), and a run is ended once, by its owner ([`finish`]). Each of
//! these is one `BEGIN IMMEDIATE` transaction whose statements repeat what they rely on and look at
//! how many rows changed; who loses leaves no trace.
//!
//! Nothing is reckoned here: slots, jitter, missed slots, overlap and streaks arrive as values, or
//! from a function that is called inside the transaction. So do time and ids.

mod changes;
mod claims;
mod definitions;
mod ends;
mod life;
mod listed;
mod manual;
mod metrics;
mod outlived;
mod prepare;
mod runs;
mod self_pause;
mod starts;
mod words;

pub use changes::{Added, Edited, NextSlot, Paused, Removed, Resumed};
pub use claims::{Claimed, SlotClaim, SlotFate, SlotRow};
pub use definitions::{Definition, Next, Schedule};
pub use ends::{End, Finished, News, RunOutcome, Verdict};
pub use life::Cancelled;
pub use listed::{Listed, Unreadable};
pub use manual::{Backfilled, Enqueued, PastSlot};
pub use metrics::{Load, MetricsPage, RunMetrics};
pub use prepare::Prepared;
pub use runs::{Counts, Hold, Names, Past, Run};
pub use self_pause::{PausedItself, SelfPause};
pub use starts::{Capacity, Executed, Start, Started};
pub use words::{Phase, Status, Trigger};

pub use twobox_slots::reason::Reason;
pub use twobox_slots::streak::Streaks;

pub(super) use changes::{exactly_one, pause_all_of};

#[cfg(test)]
#[path = "plan_tests.rs"]
mod plans;
