//! What Twobox promises, shown on the real binaries. Each scenario is named for the fact that it
//! shows; the harness is `twobox_tests`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent_image;
mod agents;
mod alerts;
mod api;
mod approvals;
mod bench;
mod bridge;
mod channels;
mod confinement;
mod conversation;
mod copies;
mod crash_points;
mod disk;
mod egress;
mod eio;
mod email;
mod engine;
mod failure;
mod fencing;
mod hostile;
mod init;
mod irc;
mod limits;
mod logs;
mod matrix;
mod models;
mod places;
mod process;
mod profiles;
mod progress;
mod reach;
mod rebuild;
mod redrive;
mod restart;
mod schedules;
mod scripts;
mod service;
mod strangers;
mod tasks;
mod telegram;
mod time;
mod webhook;
mod words;
mod workspace;
