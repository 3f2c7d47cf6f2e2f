//! What Twobox promises, shown on the real binaries. Each scenario is named for the fact that it
//! shows; the harness is `twobox_tests`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod confinement;
mod conversation;
mod crash_points;
mod failure;
mod hostile;
mod limits;
mod places;
mod restart;
mod scripts;
