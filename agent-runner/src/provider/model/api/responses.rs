//! OpenAI's Responses, the request. Nothing is stored with the upstream: the conversation goes along each
//! time, with the model's own reasoning in it, encrypted, where it gives that away.

use serde::Serialize;
use serde_json::Value;
use twobox_shared::agent_config::Route;

use super::super::conversation::{Part, Request, ToolSpec};
use super::answer::arguments;
use super::turns::{InWords, Outcome, Spoken, Turn, turns};
use super::{DataUri, Kind, Quirks, fingerprint, unseen};

#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    max_output_tokens: u32,
    stream: bool,
    store: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    include: &'static [&'static str],
    /// Sends the requests of one conversation to one machine, which has its beginning in its cache.
    prompt_cache_key: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    instructions: &'a str,
    input: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
    strict: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Own(&'a Value),
    Said { role: &'static str, content: Words<'a> },
    Ours(Ours<'a>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Ours<'a> {
    FunctionCall { call_id: String, name: std::borrow::Cow<'a, str>, arguments: String },
    FunctionCallOutput { call_id: String, output: Words<'a> },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Words<'a> {
    Plain(&'a str),
    Outcome(InWords<'a>),
    Parts(Vec<Content<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Content<'a> {
    #[serde(rename = "input_text")]
    Text { text: std::borrow::Cow<'a, str> },
    #[serde(rename = "input_image")]
    Image { image_url: DataUri<'a> },
    #[serde(rename = "input_file")]
    File { filename: &'a str, file_data: DataUri<'a> },
}

/// The body of `request` for the model at the end of `route`.
pub(super) fn body<'a>(request: &Request<'a>, route: &'a Route, quirks: Quirks) -> Body<'a> {
    let turns = turns(request.items, route, quirks);
    let include: &[_] = match quirks.no_encrypted_reasoning {
        true => &[],
        false => &["reasoning.encrypted_content"],
    };
    Body {
        model: route.name.model(),
        max_output_tokens: request.max_output_tokens.min(route.max_output_tokens),
        stream: true,
        store: false,
        include,
        prompt_cache_key: format!("{:016x}", fingerprint(beginning(request.system, &turns))),
        tools: request.tools.iter().map(tool).collect(),
        instructions: request.system,
        input: turns.into_iter().flat_map(|turn| entries(turn, route.images)).collect(),
    }
}

/// What tells one conversation from another, and is the same for its life.
fn beginning<'a>(system: &'a str, turns: &[Turn<'a>]) -> impl Iterator<Item = &'a str> {
    let first = match turns.first() {
        Some(Turn::User { parts, .. }) => parts.first().copied(),
        _ => None,
    };
    let words = first.and_then(|part| match part {
        Part::Text { text } => Some(&**text),
        Part::Media { .. } => None,
    });
    [system].into_iter().chain(words)
}

fn tool(spec: &ToolSpec) -> Tool<'_> {
    let ToolSpec { name, description, schema } = spec;
    Tool { kind: "function", name, description, parameters: schema, strict: false }
}

fn entries<'a>(turn: Turn<'a>, images: bool) -> Vec<Entry<'a>> {
    match turn {
        Turn::User { outcomes, parts } => {
            let mut entries: Vec<_> =
                outcomes.into_iter().map(|outcome| output(outcome, images)).collect();
            if !parts.is_empty() {
                let content = parts.into_iter().map(|part| content(part, images)).collect();
                entries.push(Entry::Said { role: "user", content: Words::Parts(content) });
            }
            entries
        }
        Turn::Assistant(spoken) => spoken.into_iter().map(said).collect(),
    }
}

fn said(spoken: Spoken<'_>) -> Entry<'_> {
    match spoken {
        Spoken::Text(text) => Entry::Said { role: "assistant", content: Words::Plain(text) },
        Spoken::Opaque(value) => Entry::Own(value),
        Spoken::Call { id, tool, call } => Entry::Ours(Ours::FunctionCall {
            call_id: id.into_owned(),
            name: tool,
            arguments: arguments(&call.input),
        }),
    }
}

/// An outcome: in words where it has no pictures, for not every server takes parts there.
fn output<'a>(outcome: Outcome<'a>, images: bool) -> Entry<'a> {
    let call_id = outcome.id.clone().into_owned();
    let seen = |part: &Part| match part {
        Part::Text { .. } => false,
        Part::Media { media_type, .. } => Kind::of(media_type, images, true) != Kind::Unseen,
    };
    let output = match outcome.shown().any(seen) {
        true => Words::Parts(outcome.shown().map(|part| content(part, images)).collect()),
        false => Words::Outcome(InWords { outcome, follow: false }),
    };
    Entry::Ours(Ours::FunctionCallOutput { call_id, output })
}

fn content(part: &Part, images: bool) -> Content<'_> {
    match part {
        Part::Text { text } => Content::Text { text: text.into() },
        Part::Media { media_type, name, data } => {
            let uri = DataUri { media_type, data };
            match Kind::of(media_type, images, true) {
                Kind::Image => Content::Image { image_url: uri },
                Kind::Pdf => Content::File { filename: name, file_data: uri },
                Kind::Unseen => Content::Text { text: unseen(name, media_type).into() },
            }
        }
    }
}
