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

pub use changes::{
    Added, Edited, NextSlot, Paused, Removed, Resumed, add, edit, pause, remove, resume,
};
pub use claims::{Claim, Claimed, Fate, SlotRow, claim_slot, put_off, taken};
pub use definitions::{Definition, Next, Schedule, due, find, list, next_due};
pub use ends::{End, Finished, News, Outcome, Verdict, finish};
pub use life::{Cancelled, advance, end_unreadable, of_other_owners, request_cancel, take_over};
pub use listed::{Listed, Unreadable};
pub use manual::{Backfilled, Enqueued, PastSlot, enqueue_backfill, enqueue_manual};
pub use metrics::{Load, MetricsPage, RunMetrics, metrics, prune_metrics};
pub use outlived::{close_session, forget_session, outlived, was_made_for};
pub use prepare::{Prepared, prepare};
pub use runs::{
    Counts, Hold, Names, Past, Run, counts, names, open_runs, page, past, prune, run, running,
};
pub use self_pause::{PausedItself, SelfPause, pause_itself};
pub use starts::{
    Capacity, Executed, Start, Started, execute, start_due_now, start_next, start_run,
};
pub use words::{Phase, Status, Trigger};

pub use twobox_slots::reason::Reason;
pub use twobox_slots::streak::Streaks;

pub(super) use changes::pause_all_of;

#[cfg(test)]
#[path = "plan_tests.rs"]
mod plans;
