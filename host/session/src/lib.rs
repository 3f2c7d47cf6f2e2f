//! Sessions: the table of those that are awake (`core`), the pure decisions about one
//! (`machine`, `decide`, `limits`, `delivery`, `compose`, `fence`, `requests`, `recurrence`) and about all
//! (`admission`, `waiting`), and the task that owns a session's folder and its container and carries them
//! out. It must not know what makes runs, nor through which door anybody came.

mod accept;
pub mod admission;
mod allowance;
pub mod approvals;
pub mod boxes;
mod broken;
mod closing;
pub mod command;
mod compose;
mod container;
pub mod core;
pub mod decide;
pub mod delivery;
mod door;
pub mod fence;
mod fit;
mod folding;
mod forgetting;
pub mod held;
mod leaving;
pub mod limits;
mod look_around;
mod looks;
pub mod machine;
mod mark;
mod notices;
mod onlookers;
mod outgoing;
mod over_budget;
pub mod recurrence;
mod redrive;
mod refusals;
mod reports;
pub mod requests;
pub mod run;
mod serving;
pub mod signal;
pub mod stamp;
mod starting;
mod sweep;
mod sweep_budget;
pub mod task;
mod tasking;
mod trouble;
pub mod waiting;
pub mod watch;
mod word;
