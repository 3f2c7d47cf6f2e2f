//! A stand-in for the servers of model vendors, in this process or as the program `model-stand-in`.
//!
//! It speaks Anthropic's Messages and OpenAI's Responses and Chat Completions, streamed and whole, lists
//! models, refuses what the vendors refuse ([`check`]), counts their caches of prompts ([`caching`]), and
//! demands reasoning back. It answers by a [`Script`], and without one repeats what was said, so that it
//! serves demonstrations too. What it was asked and what it sold is in a [`ledger`].
//!
//! The vendors' own Python libraries judge its shapes: `scripts/test-sdks`. What is a guess about a
//! vendor is said at the head of the module that makes it. Here: that the least answer of tokens is one,
//! that headers about limits have the values of somebody who is far below them, that a model thinks where
//! the script says so whatever the request asks for, and that it minds neither the most tokens of an
//! answer nor a choice of tools.
//!
//! | request | does |
//! |---|---|
//! | `POST /v1/messages`, `/v1/responses`, `/v1/chat/completions` | answers |
//! | `POST /v1/messages/count_tokens` | counts |
//! | `GET /v1/models`, `/v1/models/ID` | lists, in Anthropic's form with the header `anthropic-version` |
//! | `GET /_stand-in/requests` | all that was asked, as [`ledger::Request`]s |
//! | `GET /_stand-in/sold`, `/_stand-in/cut` | the tokens of answers that were told what they cost, and of those that broke off before, by model |
//! | `GET /_stand-in/stalled` | how many answers wait for their release |
//! | `POST /_stand-in/script` | adds a [`Script`] |
//! | `POST /_stand-in/clear` | forgets what is left of all scripts |
//! | `POST /_stand-in/release` | lets one answer go on that waits or will wait |

mod answer;
pub mod audit;
pub mod caching;
pub mod check;
mod control;
pub mod fault;
pub mod heard;
pub mod ledger;
pub mod mind;
mod newest;
mod options;
mod plan;
pub mod script;
mod serve;
mod server;
pub mod shape;
pub mod tokens;

pub use audit::{Audit, Counted, Death, audit};
pub use ledger::{End, Request, Sold, Tally};
pub use mind::{Mind, ORDER};
pub use options::Options;
pub use script::{Part, Rule, Script, Step, Trouble};
pub use server::ModelServer;
pub use tokens::Tokens;

use twobox_shared::agent_config::Api;
