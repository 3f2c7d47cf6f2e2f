//! What the host and the agent-runner must agree on: ids, time, paths, how the two session
//! databases are opened, the typed rows in them and every statement that touches them, and the
//! named places where a test lets a process die.
//!
//! This crate must not know about channels, containers, providers or `host.db`, and it has no
//! async code: it is linked into a runner that has to stay small.

pub mod agent_config;
pub mod audit;
pub mod bounds;
pub mod claim;
pub mod clock;
pub mod content;
pub mod dead_letter;
pub mod durability;
pub mod errors;
pub mod fault;
pub mod history;
pub mod ids;
pub mod inbox;
pub mod mend;
pub mod open;
pub mod outbox;
pub mod outside;
pub mod paths;
pub mod private;
pub mod probe;
pub mod progress;
pub mod retention;
pub mod seq;
pub mod time;
pub mod visible;

mod columns;
mod header;
mod migrate;
mod recover;
mod syscalls;
