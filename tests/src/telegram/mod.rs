//! A stand-in for the Bot API of Telegram, in this process or as the program `telegram-stand-in`: one bot, and people
//! and chats that a test makes.
//!
//! It keeps the rules that <https://core.telegram.org/bots/api> and its FAQ publish: that an offset confirms what is
//! before it and what is unconfirmed comes again, that a second poller has the first one told of a conflict, and
//! a webhook every one; 4,096 characters of a text, 64 bytes of a button, 50 MB of a file, 10 MB of a
//! photo; what may lie in what of the marks of a text; answers to buttons once; groups that become supergroups; what a
//! bot in privacy mode is told; and how each no is said. The Python libraries `python-telegram-bot` and `aiogram` judge
//! its shapes: `scripts/test-sdks`.
//!
//! A guess is: how many messages at once have Telegram want a pause, and for how long (it publishes about one a
//! second in a chat, twenty a minute in a group and thirty a second in all, and that bursts are allowed); the texts of
//! errors that its server does not make itself. That a mention reaches a bot in privacy mode is not written down
//! anywhere, and so. Telegram repairs marks that lie in each other as they may not; this one refuses them, and
//! `parse_mode`, which it cannot read. It forgets nothing after a day, and answers conflicts at once.
//!
//! | request | does |
//! |---|---|
//! | `/botTOKEN/METHOD` | what a bot does, with parameters in the query, a form or JSON |
//! | `POST /_stand-in/do` | an [`Order`], as a person or as fate |
//! | `GET /_stand-in/shown` | all that the bot has shown, as it stands now |
//! | `GET /_stand-in/calls` | all that was asked, with its parameters |

mod form;
mod methods;
mod people;
mod rules;
mod server;
mod state;

pub use server::Telegram;
pub use state::{Fault, Order, Weather};

/// The token of the bot.
pub const TOKEN: &str = "7001:a-token-for-the-stand-in";

/// The id of the bot.
pub const BOT: i64 = 7001;

/// The name of the bot.
pub const BOT_NAME: &str = "two_box_bot";

/// A group that is one from the beginning, and a supergroup with topics.
pub const GROUP: i64 = -500;
/// A supergroup, which has topics.
pub const SUPERGROUP: i64 = -1_001_000_000_001;
/// A topic in that.
pub const TOPIC: i64 = 77;
