//! A stand-in for Discord: its gateway and the part of its REST API that a bot needs to talk, in this process or as
//! the program `discord-stand-in`. Bots speak to it; people are [`Discord::say`] and [`Discord::press`].
//!
//! It keeps the published rules (<https://docs.discord.com/developers>): a session begins with an introduction, goes on
//! behind a number, and is refused when it is over; who gives no sign of life is cut off; intents decide what is told,
//! and content is told to those who may read it alone; a nonce that is enforced makes one message; pages of history;
//! buckets of questions; numbers of errors. `discord.py` judges it: `scripts/test-sdks`.
//!
//! Guesses, where nothing is published:
//!
//! - how large the buckets are (Discord says that nobody shall count on it), and that only messages, reactions of
//!   typing and pages have one;
//! - for how long a nonce and a session are remembered: "a few minutes" are [`options::Options::nonce_known`] and
//!   [`options::Options::session_known`];
//! - that history says no nonces, as `discord.py` has it ("not stored long term");
//! - that a text is counted in characters, and spaces at its ends are dropped;
//! - what is said with a close code beside it, and the order of keys.
//!
//! Not here: voice, reactions, slash commands, permissions but for channels that a test closes, more than one shard.
//!
//! | request | does |
//! |---|---|
//! | `POST /_stand-in/say` | somebody says something: `channel`, `text`, and perhaps `by`, `reply_to` |
//! | `POST /_stand-in/press` | somebody presses a button: `message`, `custom_id`; the answer is its interaction |
//! | `POST /_stand-in/drop`, `/reconnect`, `/invalidate`, `/beat` | cuts all connections off; wants them anew; ends all sessions; wants a sign of life |
//! | `POST /_stand-in/fault` | what becomes of the next message: `unsent`, `silent`, `broken` |
//! | `GET /_stand-in/place` | ids of what is there |
//! | `GET /_stand-in/messages?channel=ID` | what was said there, oldest first |
//! | `GET /_stand-in/counts` | how often somebody introduced themselves, went on, and was refused |

mod check;
mod control;
mod gateway;
mod limits;
pub mod options;
mod rest;
mod say;
mod server;
mod state;

pub use options::Options;
pub use server::{Discord, Fault};
