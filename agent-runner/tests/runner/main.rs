//! The real runner, with a test in the host's place.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod asks;
mod claims;
mod claude;
mod claude_undone;
mod clis;
mod command;
mod far;
mod gateway;
mod hosted;
mod life;
mod mcp;
mod model;
mod servers;
mod session;
mod turns;
