//! What really happened, written down outside of the system under test.
//!
//! Three kinds of witnesses append [`Record`]s to files of their own, each line durable before its
//! writer goes on: whoever hands messages in ([`crate::Chat`]: tries, receipts, refusals), an agent
//! that notes each turn before it begins (the binary `recording-agent`), and whoever is shown
//! messages (again [`crate::Chat`], which honours keys). A channel that cannot honour them records
//! [`Record::Shown`] with `keyed: false`: then each call is an effect. [`judge`] compares all of it
//! with what the installation shows in the end, [`judge_slots`] does the same for schedules, and
//! [`recoveries`] tells how long faults were felt. All of them are pure.

mod file;
mod record;
mod recovery;
mod runs;
mod said;
mod verdict;

pub use file::{Ledger, read};
pub use record::{Given, Record, now_us};
pub use recovery::{Recovery, recoveries};
pub use runs::{Run, Schedule, add_failed, as_messages, judge_slots};
pub use said::{Said, Saying, TASK_OF};
pub use verdict::{EndState, Verdict, Violation, judge};
