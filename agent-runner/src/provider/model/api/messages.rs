//! Anthropic's Messages, the request.
//!
//! Four marks say what the cache is to keep, which is as many as there may be: the tools, the system
//! prompt, and the last two turns of people. The last but one is where the request before had its last, so
//! that all of that is read from the cache.
//!
//! Source: <https://docs.claude.com/en/docs/build-with-claude/prompt-caching>.

use serde::Serialize;
use serde_json::{Map, Value};
use twobox_shared::agent_config::Route;

use super::super::conversation::{Input, Part, Request, ToolSpec};
use super::turns::{Outcome, Spoken, Turn, turns};
use super::{Kind, Quirks, unseen};

#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Content<'a>>,
    messages: Vec<Message<'a>>,
}

#[derive(Serialize)]
struct Tool<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Mark>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Vec<Content<'a>>,
}

#[derive(Serialize)]
struct Content<'a> {
    #[serde(flatten)]
    block: Block<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Mark>,
}

impl<'a> From<Block<'a>> for Content<'a> {
    fn from(block: Block<'a>) -> Self {
        Self { block, cache_control: None }
    }
}

#[derive(Serialize)]
struct Mark {
    #[serde(rename = "type")]
    kind: &'static str,
}

const MARK: Mark = Mark { kind: "ephemeral" };

#[derive(Serialize)]
#[serde(untagged)]
enum Block<'a> {
    Own(&'a Value),
    Ours(Ours<'a>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Ours<'a> {
    Text {
        text: Text<'a>,
    },
    Image {
        source: Source<'a>,
    },
    Document {
        source: Source<'a>,
        title: &'a str,
    },
    ToolUse {
        id: String,
        name: Text<'a>,
        input: Given<'a>,
    },
    ToolResult {
        tool_use_id: String,
        content: Vec<Content<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

type Text<'a> = std::borrow::Cow<'a, str>;

#[derive(Serialize)]
struct Source<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    media_type: &'a str,
    data: &'a str,
}

/// What a tool was given. It has to be an object, also where the model wrote none.
#[derive(Serialize)]
#[serde(untagged)]
enum Given<'a> {
    Fields(&'a Map<String, Value>),
    Unreadable { unreadable: &'a str },
}

/// The body of `request` for the model at the end of `route`.
pub(super) fn body<'a>(request: &Request<'a>, route: &'a Route, quirks: Quirks) -> Body<'a> {
    let mut tools: Vec<_> = request.tools.iter().map(tool).collect();
    if let Some(last) = tools.last_mut() {
        last.cache_control = Some(MARK);
    }
    let mut system = Vec::new();
    if !request.system.trim().is_empty() {
        system.push(Content { block: text(request.system), cache_control: Some(MARK) });
    }
    let mut messages: Vec<_> =
        turns(request.items, route, quirks).into_iter().map(|turn| message(turn, route)).collect();
    let people = messages.iter_mut().rev().filter(|message| message.role == "user");
    for message in people.take(2) {
        if let Some(last) = message.content.last_mut() {
            last.cache_control = Some(MARK);
        }
    }
    Body {
        model: route.name.model(),
        max_tokens: request.max_output_tokens.min(route.max_output_tokens),
        stream: true,
        tools,
        system,
        messages,
    }
}

fn tool(spec: &ToolSpec) -> Tool<'_> {
    let ToolSpec { name, description, schema } = spec;
    Tool { name, description, input_schema: schema, cache_control: None }
}

fn message<'a>(turn: Turn<'a>, route: &Route) -> Message<'a> {
    match turn {
        Turn::User { outcomes, parts } => {
            let results = outcomes.iter().map(|outcome| result(outcome, route.images).into());
            let said = parts.into_iter().map(|part| said(part, route.images).into());
            Message { role: "user", content: results.chain(said).collect() }
        }
        Turn::Assistant(spoken) => Message {
            role: "assistant",
            content: spoken.into_iter().map(|it| block(it).into()).collect(),
        },
    }
}

fn block(spoken: Spoken<'_>) -> Block<'_> {
    match spoken {
        Spoken::Text(words) => text(words),
        Spoken::Opaque(value) => Block::Own(value),
        Spoken::Call { id, tool, call } => {
            let input = match &call.input {
                Input::Fields(fields) => Given::Fields(fields),
                Input::Unreadable(unreadable) => Given::Unreadable { unreadable },
            };
            Block::Ours(Ours::ToolUse { id: id.into_owned(), name: tool, input })
        }
    }
}

fn result<'a>(outcome: &Outcome<'a>, images: bool) -> Block<'a> {
    let mut content: Vec<Content<'a>> =
        outcome.shown().map(|part| said(part, images).into()).collect();
    if content.is_empty() {
        content.push(text(outcome.otherwise()).into());
    }
    let tool_use_id = outcome.id.clone().into_owned();
    Block::Ours(Ours::ToolResult { tool_use_id, content, is_error: outcome.failed })
}

fn said(part: &Part, images: bool) -> Block<'_> {
    match part {
        Part::Text { text: words } => text(words),
        Part::Media { media_type, name, data } => {
            let source = Source { kind: "base64", media_type, data };
            match Kind::of(media_type, images, true) {
                Kind::Image => Block::Ours(Ours::Image { source }),
                Kind::Pdf => Block::Ours(Ours::Document { source, title: name }),
                Kind::Unseen => Block::Ours(Ours::Text { text: unseen(name, media_type).into() }),
            }
        }
    }
}

fn text(words: &str) -> Block<'_> {
    Block::Ours(Ours::Text { text: words.into() })
}
