//! The session tasks against real files, with a runtime whose containers are closures.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod approvals;
mod budgets;
mod fencing;
mod followed;
mod redrive;
mod requests;
mod task;
mod world;
