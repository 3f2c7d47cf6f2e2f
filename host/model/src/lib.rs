//! The host's vocabulary: what its rooms say to each other. Values and pure decisions about them; no
//! file, no socket, no clock. Where anything is stored and how it is sent is elsewhere; but enums of
//! words (`words!`) know their words, which are the same in `host.db`, in JSON and on the command line.

pub mod alert;
pub mod approval;
pub mod backoff;
pub mod channel;
pub mod chat_word;
pub mod dead_letter;
pub mod egress;
pub mod incoming;
pub mod installation;
pub mod people;
pub mod seats;
pub mod words;
