//! The doors of the host: the command line and HTTP, and the daemon, which builds the parts and ends
//! them. What is done behind the doors is `twobox-app`, and what lies below it.

pub mod api;
mod channel_secrets;
pub mod cli;
pub mod daemon;
mod inherited;
pub mod logging;
mod service;
mod unpriced;
