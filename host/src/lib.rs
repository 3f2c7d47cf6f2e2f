//! The Twobox host: the daemon and the command line, as a library that `main` and tests use.
//!
//! The host owns `host.db` and every inbox, and reads every outbox as hostile input. Decisions are
//! pure functions from a view of the world to a list of actions; effects are thin and look at what
//! changed. This crate must not know how an agent thinks: that is `agent-runner` and its providers.

pub mod admission;
pub mod api;
mod blocking;
pub mod book;
mod broken;
pub mod channel;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod daemon;
pub mod data;
pub mod db;
pub mod dead;
pub mod desk;
pub mod fsck;
pub mod identity;
mod inherited;
pub mod logging;
mod modes;
mod owner;
pub mod place;
mod proc;
pub mod program;
mod remove_tree;
mod repeat;
pub mod runtime;
pub mod schedule;
pub mod scheduler;
mod service;
pub mod session;
mod storage;
pub mod trial;
pub mod watch;
