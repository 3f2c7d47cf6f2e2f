//! The HTTP API, over real TCP.

mod access;
mod description;
mod doctor;
mod limits;
mod runs;
mod schedules;
mod unreadable;
