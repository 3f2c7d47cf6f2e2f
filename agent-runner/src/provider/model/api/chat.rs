//! OpenAI's Chat Completions, the request, which most servers speak more or less. What not all of them
//! take is left out, or is asked for until one refuses it ([`Quirks`]).

use serde::Serialize;
use serde_json::Value;
use twobox_shared::agent_config::Route;

use super::super::conversation::{Part, Request, ToolSpec};
use super::answer::arguments;
use super::turns::{InWords, Outcome, Spoken, Turn, turns};
use super::{DataUri, Kind, Quirks, unseen};

/// What a model of this API said that goes back to it beside its words.
pub(super) const OPAQUE: [&str; 3] = ["reasoning_content", "reasoning_details", "extra_content"];

#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    messages: Vec<Message<'a>>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Message<'a> {
    System {
        content: &'a str,
    },
    User {
        content: Words<'a>,
    },
    Assistant {
        content: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reasoning_content: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reasoning_details: Option<&'a Value>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call<'a>>,
    },
    Tool {
        tool_call_id: String,
        content: InWords<'a>,
    },
}

#[derive(Serialize)]
struct Call<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Used<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<&'a Value>,
}

#[derive(Serialize)]
struct Used<'a> {
    name: std::borrow::Cow<'a, str>,
    arguments: String,
}

/// Words alone as a text, which every server takes.
#[derive(Serialize)]
#[serde(untagged)]
enum Words<'a> {
    Text(String),
    Parts(Vec<Content<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Content<'a> {
    Text { text: std::borrow::Cow<'a, str> },
    ImageUrl { image_url: ImageUrl<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: DataUri<'a>,
}

/// The body of `request` for the model at the end of `route`.
pub(super) fn body<'a>(request: &Request<'a>, route: &'a Route, quirks: Quirks) -> Body<'a> {
    let limit = request.max_output_tokens.min(route.max_output_tokens);
    let mut messages = Vec::new();
    if !request.system.trim().is_empty() {
        messages.push(Message::System { content: request.system });
    }
    for turn in turns(request.items, route, quirks) {
        match turn {
            Turn::User { outcomes, parts } => people(outcomes, parts, route.images, &mut messages),
            Turn::Assistant(spoken) => messages.push(assistant(&spoken)),
        }
    }
    Body {
        model: route.name.model(),
        max_tokens: (!quirks.completion_tokens).then_some(limit),
        max_completion_tokens: quirks.completion_tokens.then_some(limit),
        stream: true,
        stream_options: (!quirks.no_stream_options)
            .then_some(StreamOptions { include_usage: true }),
        tools: request.tools.iter().map(tool).collect(),
        messages,
    }
}

fn tool(spec: &ToolSpec) -> Tool<'_> {
    let ToolSpec { name, description, schema } = spec;
    Tool { kind: "function", function: Function { name, description, parameters: schema } }
}

/// The outcomes, each a message of its own and words alone; then their pictures, with what was said.
fn people<'a>(
    outcomes: Vec<Outcome<'a>>,
    mut parts: Vec<&'a Part>,
    images: bool,
    messages: &mut Vec<Message<'a>>,
) {
    let seen = |part: &&Part| matches!(part, Part::Media { media_type, .. } if Kind::of(media_type, images, false) == Kind::Image);
    let pictures: Vec<_> = outcomes.iter().flat_map(Outcome::shown).filter(seen).collect();
    let mut shown = Vec::new();
    for picture in pictures {
        if let Part::Media { name, .. } = picture {
            shown.push(Content::Text { text: format!("[{name}, from a tool:]").into() });
        }
        shown.push(content(picture, images));
    }
    for outcome in outcomes {
        let tool_call_id = outcome.id.clone().into_owned();
        messages.push(Message::Tool { tool_call_id, content: InWords { outcome, follow: images } });
    }
    shown.extend(parts.drain(..).map(|part| content(part, images)));
    if !shown.is_empty() {
        messages.push(Message::User { content: words(shown) });
    }
}

fn words(contents: Vec<Content<'_>>) -> Words<'_> {
    let mut texts = Vec::new();
    for content in &contents {
        match content {
            Content::Text { text } => texts.push(&**text),
            Content::ImageUrl { .. } => return Words::Parts(contents),
        }
    }
    Words::Text(texts.join("\n\n"))
}

fn assistant<'a>(spoken: &[Spoken<'a>]) -> Message<'a> {
    let own = |name: &str| {
        spoken.iter().find_map(|it| match it {
            Spoken::Opaque(value) => value.get(name),
            Spoken::Text(_) | Spoken::Call { .. } => None,
        })
    };
    let extra = |call: &str| {
        spoken.iter().find_map(|it| match it {
            Spoken::Opaque(value) if value.get("call").is_some_and(|it| it == call) => {
                value.get(OPAQUE[2])
            }
            Spoken::Opaque(_) | Spoken::Text(_) | Spoken::Call { .. } => None,
        })
    };
    let (mut texts, mut tool_calls) = (Vec::new(), Vec::new());
    for it in spoken {
        match it {
            Spoken::Text(text) => texts.push(*text),
            Spoken::Opaque(_) => {}
            Spoken::Call { id, tool, call } => tool_calls.push(Call {
                id: id.clone().into_owned(),
                kind: "function",
                function: Used { name: tool.clone(), arguments: arguments(&call.input) },
                extra_content: extra(&call.id),
            }),
        }
    }
    // What was thought before a call belongs to it; before words alone it is of no more use.
    let thought = (!tool_calls.is_empty()).then(|| own(OPAQUE[0])).flatten();
    Message::Assistant {
        content: (!texts.is_empty()).then(|| texts.join("\n\n")),
        reasoning_content: thought,
        reasoning_details: own(OPAQUE[1]),
        tool_calls,
    }
}

fn content(part: &Part, images: bool) -> Content<'_> {
    match part {
        Part::Text { text } => Content::Text { text: text.into() },
        Part::Media { media_type, name, data } => match Kind::of(media_type, images, false) {
            Kind::Image => {
                Content::ImageUrl { image_url: ImageUrl { url: DataUri { media_type, data } } }
            }
            // Documents are OpenAI's alone: another server would refuse the conversation from here on.
            Kind::Pdf | Kind::Unseen => Content::Text { text: unseen(name, media_type).into() },
        },
    }
}
