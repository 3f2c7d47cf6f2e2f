//! A conversation with a model, as no one API writes it. This is what a transcript keeps, and what
//! each API is spoken to from.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use twobox_shared::agent_config::{Api, ModelName};

/// One step of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub(crate) enum Item {
    /// What people, or the host, have said.
    User {
        /// In the order in which it was said. Not empty.
        parts: Vec<Part>,
    },
    /// What the model said and wanted done.
    Assistant {
        /// In its order.
        blocks: Vec<Block>,
    },
    /// What became of the tools of the [`Item::Assistant`] before, one for each call, in the order of
    /// the calls.
    Results {
        /// One for each call. (One that is missing is told to the model as an unknown outcome.)
        results: Vec<ToolResult>,
    },
}

/// A part of what is said to a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Part {
    /// Words.
    Text {
        /// The words.
        text: String,
    },
    /// A picture or document, of a type in [`Part::MEDIA`].
    Media {
        /// `image/png` and so on, or `application/pdf`.
        media_type: String,
        /// For people and APIs that want one.
        name: String,
        /// The bytes in base64.
        data: String,
    },
}

/// A part of what a model answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Block {
    /// Words.
    Text {
        /// The words.
        text: String,
    },
    /// A tool that it wants used.
    Call(ToolCall),
    /// Something that only the model understands that said it, such as signed thinking. It goes back to
    /// that model as it is, and to no other: one of another upstream could not read it.
    Opaque {
        /// What was spoken to it.
        api: Api,
        /// Whose it is.
        from: ModelName,
        /// As it came.
        value: Value,
    },
}

/// A tool that a model wants used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToolCall {
    /// The model's own name of the call.
    pub(crate) id: String,
    /// The tool.
    pub(crate) name: String,
    /// What it was given. A text that is no JSON object is [`Input::Unreadable`].
    pub(crate) input: Input,
}

/// What a model gave a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Input {
    /// The fields.
    Fields(Map<String, Value>),
    /// What was no object: the model is told, and the tool not used.
    Unreadable(String),
}

/// What became of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToolResult {
    /// Of which call.
    pub(crate) call: String,
    /// What the model reads of it: bounded.
    pub(crate) parts: Vec<Part>,
    /// Whether it failed.
    pub(crate) failed: bool,
}

/// A tool, as a model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolSpec {
    /// Letters, digits, `_` and `-`; 64 bytes at most.
    pub(crate) name: String,
    /// When to use it, and what it does.
    pub(crate) description: String,
    /// A JSON schema of an object.
    pub(crate) schema: Value,
}

/// One request to a model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// What it is told before everything.
    pub(crate) system: &'a str,
    /// What it may use. The same for all requests of a conversation, also where none should be used: what
    /// is cached begins with them, and there are APIs that refuse calls of tools that they are not told.
    pub(crate) tools: &'a [ToolSpec],
    /// The conversation. The last is no [`Item::Assistant`].
    pub(crate) items: &'a [Item],
    /// The most tokens of the answer; the route's own where it is less.
    pub(crate) max_output_tokens: u32,
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// In its order.
    pub(crate) blocks: Vec<Block>,
    /// Why it stopped.
    pub(crate) stop: Stop,
    /// What it cost.
    pub(crate) usage: Usage,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stop {
    /// It has said what it had to say.
    End,
    /// It waits for tools.
    Tools,
    /// Its answer reached a limit, and is cut: it may go on if it is asked with what it has said. A call
    /// that was cut is [`Input::Unreadable`], or was never begun.
    Length,
    /// It, or its API, refuses to answer this.
    Refused,
}

/// What a request cost, in tokens. None is counted twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Read anew.
    pub(crate) input: u64,
    /// Read from the cache.
    pub(crate) cache_read: u64,
    /// Read anew and put into the cache.
    pub(crate) cache_write: u64,
    /// Said.
    pub(crate) output: u64,
}

impl Usage {
    /// All that the model read. (An upstream may tell any numbers.)
    pub(crate) fn read(self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The turn was cancelled meanwhile.
    Cancelled,
    /// The request is longer than the model takes: a shorter one may be answered.
    TooLong(String),
    /// The money or the tokens that the operator allows are used up: asking again is of no use now.
    OverBudget(String),
    /// Nobody answered in the time of the turn, or as often as it was tried: later, it may be answered.
    Unreachable(String),
    /// The request is one that the model does not take: one that has less in it may be answered.
    Unfit(String),
    /// The answer to any request will be no: a wrong key, an unknown model.
    Refused(String),
}

impl Part {
    /// What may be sent as [`Part::Media`].
    pub(crate) const MEDIA: [&'static str; 5] =
        ["image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"];

    /// Words alone.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }
}

/// The words among `blocks`, in one text.
pub(crate) fn text_of(blocks: &[Block]) -> String {
    let text = |block: &Block| match block {
        Block::Text { text } => Some(text.clone()),
        Block::Call(_) | Block::Opaque { .. } => None,
    };
    blocks.iter().filter_map(text).collect()
}
