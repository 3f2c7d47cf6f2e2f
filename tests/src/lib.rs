//! Whole-system tests: the real binaries on real files, in both runtimes. This library is the
//! harness; the scenarios are in `tests/tests/system`.
//!
//! A [`World`] is one installation with its host, a [`Chat`] is a person at a terminal, a
//! [`Container`] is a runner that lives. Nothing here knows the host's code: what is looked at are
//! the files, the socket, and the processes or containers that exist. [`faults`] is what may go wrong
//! around it. Waiting is always for a
//! condition, with a deadline.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod attack;
mod binaries;
mod boxes;
mod bridge;
mod chat;
mod clis;
mod container;
mod courier;
mod description;
pub mod discord;
mod engine;
mod evidence;
pub mod faults;
mod http;
mod irc;
pub mod ledger;
mod mail;
pub mod models;
mod money;
mod promises;
mod reach;
mod receiver;
mod scenario;
mod schedules;
mod setup;
pub mod slack;
mod synapse;
pub mod telegram;
mod wait;
mod world;

pub use binaries::binary;
pub use boxes::{Ack, Delivery, Message, Row, Session};
pub use bridge::Bridge;
pub use chat::{Chat, Outbound};
pub use clis::cli;
pub use container::Container;
pub use courier::{Call, Courier};
pub use description::{Description, METHODS};
pub use engine::{agent_image, docker, image, image_with};
pub use http::{Answer, Client, read_answer, read_one_answer};
pub use irc::{IrcPerson, Ircd, Software};
pub use mail::{AUTHSERV, Mail, MailServers, Parted, Parting, Secrecy};
pub use reach::Try;
pub use receiver::{Post, Receiver};
pub use scenario::{Runtime, play, play_where, skipped};
pub use schedules::StoredSchedule;
pub use setup::{Lifetime, Mode, Setup};
pub use synapse::{Pace, Person, Synapse};
pub use wait::{PATIENCE, holds_for, wait_for, wait_within};
pub use world::World;
