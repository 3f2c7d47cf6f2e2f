//! The host's vocabulary: what its rooms say to each other. Values and pure decisions about them; no
//! file, no socket, no clock, and nothing of how anything is stored or sent.

pub mod backoff;
pub mod channel;
pub mod dead;
pub mod errors;
pub mod installation;
pub mod seats;
pub mod words;
