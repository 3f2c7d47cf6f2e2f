//! One session: the pure decisions (`decide`, `limits`, `delivery`) and the task that owns its
//! folder and its container and carries them out.

mod accept;
pub mod boxes;
mod container;
mod damper;
pub mod decide;
pub mod delivery;
pub mod fence;
mod forgetting;
pub mod limits;
mod notices;
mod outgoing;
mod redrive;
pub mod run;
pub mod signal;
mod sweep;
pub mod task;
