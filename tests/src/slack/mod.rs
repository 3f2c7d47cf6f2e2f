//! A stand-in for Slack: one workspace with people, conversations and an app, in this process or as the program
//! `slack-stand-in`.
//!
//! It keeps what Slack publishes of the Web API's methods that a bot needs ([`web`]), of Socket Mode ([`socket`]),
//! and of events: each goes to one of the app's connections, is handed over again when it is not acknowledged
//! within three seconds (at once, after a minute, after five), and then never; a history begins with the newest,
//! and knows of a thread only where it was begun; what is sent twice is shown twice. Slack's own Python libraries judge it:
//! `scripts/test-sdks`.
//!
//! Guesses: how events go to several connections (in turn); that what happens while there is no connection is
//! tried as often as what is not acknowledged; how many messages a conversation takes at once before it takes one
//! in a second (eight; tests are not about that, and lift it); the ids, which Slack says are of no form; that a
//! thread's first message stands at the head of each page of it; the codes with which a connection is closed.
//!
//! | request | does |
//! |---|---|
//! | `POST /api/METHOD` | what Slack's method does |
//! | `POST /upload/N` | takes a file |
//! | `POST /_stand-in/say` `{user, chat, text, thread?}` | somebody says something; answers its `ts` |
//! | `POST /_stand-in/press` `{user, chat, ts, value}` | somebody presses a button |
//! | `POST /_stand-in/refresh` | says to the connections that they are closed soon, and closes them |
//! | `POST /_stand-in/forget` | hands over nothing more of what is not acknowledged |
//! | `GET /_stand-in/state` | how many connections there are, and how much is not acknowledged |
//! | `GET /_stand-in/asked` | the methods that were asked, in order |

mod people;
mod server;
mod socket;
mod state;
mod web;

pub use server::SlackServer;
pub use state::{APP_TOKEN, BOT, BOT_TOKEN, Fault, Rules};
