//! A conversation and answers that the tests of all APIs share.

use serde_json::{Value, json};
use twobox_shared::agent_config::{Api, ModelName, Route};

use super::super::compaction::Known;
use super::super::conversation::{
    Answer, Block, Input, Item, Part, Request, ToolCall, ToolResult, ToolSpec,
};
use super::{Complaint, Progress, Quirks, Reading, write};

/// A way to a model that takes pictures.
pub(in super::super) fn route(api: Api) -> Route {
    let name = ModelName::try_from("up/some-model".to_owned()).unwrap();
    let path = "/up/v1".to_owned();
    let (context_tokens, max_output_tokens) = (100_000, 4096);
    Route { name, api, path, context_tokens, max_output_tokens, images: true }
}

pub(in super::super) fn user(text: &str) -> Item {
    Item::User { parts: vec![Part::text(text)] }
}

pub(in super::super) fn words(text: &str) -> Block {
    Block::Text { text: text.to_owned() }
}

pub(in super::super) fn call(id: &str, name: &str, input: Value) -> Block {
    let input = match input {
        Value::Object(fields) => Input::Fields(fields),
        other => Input::Unreadable(other.as_str().unwrap().to_owned()),
    };
    Block::Call(ToolCall { id: id.to_owned(), name: name.to_owned(), input })
}

pub(in super::super) fn result(call: &str, text: &str) -> ToolResult {
    ToolResult { call: call.to_owned(), parts: vec![Part::text(text)], failed: false }
}

pub(in super::super) fn opaque(api: Api, from: &str, value: Value) -> Block {
    Block::Opaque { api, from: ModelName::try_from(from.to_owned()).unwrap(), value }
}

pub(super) fn media(media_type: &str, name: &str) -> Part {
    let [media_type, name, data] = [media_type, name, "AAAA"].map(str::to_owned);
    Part::Media { media_type, name, data }
}

pub(in super::super) fn tools() -> Vec<ToolSpec> {
    let tool = |name: &str| ToolSpec {
        name: name.to_owned(),
        description: format!("does {name}"),
        schema: json!({"type": "object"}),
    };
    vec![tool("bash"), tool("grep")]
}

/// The body of a request with `items`.
pub(super) fn body(route: &Route, quirks: Quirks, items: &[Item]) -> Value {
    let tools = tools();
    let request = Request { system: "be kind", tools: &tools, items, max_output_tokens: 9000 };
    let mut bytes = Vec::new();
    write(&request, route, quirks, &mut bytes).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// Reads events one after the other; what was heard stands beside the answer.
pub(super) fn read(api: Api, events: &[Value]) -> Result<(Option<Answer>, String), Complaint> {
    let texts: Vec<_> = events.iter().map(Value::to_string).collect();
    read_texts(api, &texts)
}

/// The same, of events that need not be JSON.
pub(super) fn read_texts(
    api: Api,
    events: &[String],
) -> Result<(Option<Answer>, String), Complaint> {
    let (mut reading, mut heard) = (Reading::new(&route(api)), String::new());
    for event in events {
        match reading.event(event, &mut |words| heard.push_str(words))? {
            Progress::More => {}
            Progress::Complete => break,
        }
    }
    Ok((reading.finish(), heard))
}

/// Every value that an API's events might have, but wrong in one place each: nothing may panic.
pub(super) fn survives_anything(api: Api, events: &[Value]) {
    let wrongs = [
        json!(null),
        json!(7),
        json!("x"),
        json!([]),
        json!([1]),
        json!({}),
        json!({"a": 1}),
        json!(u64::MAX),
    ];
    for at in 0..events.len() {
        for pointer in pointers(&events[at]) {
            for wrong in &wrongs {
                let mut events = events.to_vec();
                *events[at].pointer_mut(&pointer).unwrap() = wrong.clone();
                drop(read(api, &events)); // an answer, none, or a complaint
            }
        }
    }
    let mut large = events.to_vec();
    for event in &mut large {
        for pointer in pointers(event) {
            let value = event.pointer_mut(&pointer).unwrap();
            if value.is_number() {
                *value = json!(u64::MAX);
            }
        }
    }
    if let Ok((Some(answer), _)) = read(api, &large) {
        Known::after(answer.usage, 1);
    }
}

fn pointers(value: &Value) -> Vec<String> {
    let below: Vec<_> = match value {
        Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(values) => {
            values.iter().enumerate().map(|(at, v)| (at.to_string(), v)).collect()
        }
        _ => Vec::new(),
    };
    let inner = below.into_iter().flat_map(|(name, value)| {
        pointers(value).into_iter().map(move |rest| format!("/{name}{rest}"))
    });
    std::iter::once(String::new()).chain(inner).collect()
}
