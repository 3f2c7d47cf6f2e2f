//! One session: the pure decisions (`decide`, `limits`, `delivery`, `requests`, `recurrence`) and the
//! task that owns its folder and its container and carries them out.

mod accept;
pub mod boxes;
mod closing;
pub mod command;
mod container;
mod damper;
pub mod decide;
pub mod delivery;
pub mod fence;
mod fit;
mod folding;
mod forgetting;
pub mod held;
pub mod limits;
mod notices;
pub(crate) mod outgoing;
pub mod recurrence;
mod redrive;
mod refusals;
pub mod requests;
pub mod run;
mod serving;
pub mod signal;
pub(crate) mod stamp;
mod sweep;
pub mod task;
mod tasking;
