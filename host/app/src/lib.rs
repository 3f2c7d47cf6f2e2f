//! What the host does for whoever comes through one of its doors, the command line, the socket or
//! HTTP: operations over sessions, schedules and the store. It must not know how a wish was written
//! down, nor print anything.

pub mod alerts;
pub mod fsck;
pub mod identity;
pub mod intake;
pub mod operations;
pub mod place;
pub mod sent_parts;
pub mod token;
pub mod trial;
