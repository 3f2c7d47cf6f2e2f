//! OpenAI's Chat Completions.
//!
//! Thoughts are only counted here: the interface has no place for them.

use serde_json::{Value, json};

use super::{CREATED, Event, Said, pieces, written};
use crate::models::script::Part;

/// The answer as a whole.
pub(super) fn whole(said: &Said) -> Value {
    let mut message = json!({
        "role": "assistant", "content": text(said), "refusal": null, "annotations": [],
    });
    if said.calls() {
        message["tool_calls"] = calls(said).into_iter().map(|(_, call)| call).collect();
    }
    let mut body = head(said, "chat.completion");
    body["choices"] =
        json!([{"index": 0, "message": message, "logprobs": null, "finish_reason": finish(said)}]);
    body["usage"] = usage(said);
    body
}

/// The answer as a stream.
pub(super) fn stream(said: &Said) -> Vec<Event> {
    let chunk = |delta: Value, finish: Option<&str>| {
        let mut body = head(said, "chat.completion.chunk");
        body["choices"] =
            json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        if said.usage {
            body["usage"] = Value::Null;
        }
        data(&body)
    };
    let first = match text(said) {
        Value::Null => json!({"role": "assistant", "content": null, "refusal": null}),
        _ => json!({"role": "assistant", "content": "", "refusal": null}),
    };
    let mut events = vec![Event::new(chunk(first, None))];
    if let Value::String(text) = text(said) {
        for piece in pieces(&text, said.piece) {
            events.push(Event::paced(chunk(json!({"content": piece}), None)));
        }
    }
    for (index, (arguments, mut call)) in calls(said).into_iter().enumerate() {
        call["index"] = index.into();
        call["function"]["arguments"] = "".into();
        events.push(Event::paced(chunk(json!({"tool_calls": [call]}), None)));
        for piece in pieces(&arguments, said.piece) {
            let call = json!({"index": index, "function": {"arguments": piece}});
            events.push(Event::paced(chunk(json!({"tool_calls": [call]}), None)));
        }
    }
    let end = chunk(json!({}), Some(finish(said)));
    match said.usage {
        false => events.push(Event::last(end)),
        true => {
            let mut body = head(said, "chat.completion.chunk");
            body["choices"] = json!([]);
            body["usage"] = usage(said);
            events.extend([Event::new(end), Event::last(data(&body))]);
        }
    }
    events.push(Event::new("data: [DONE]\n\n".to_owned()));
    events
}

fn data(body: &Value) -> String {
    format!("data: {body}\n\n")
}

fn head(said: &Said, object: &str) -> Value {
    json!({
        "id": said.id("chatcmpl-", 0),
        "object": object,
        "created": CREATED + said.number,
        "model": said.model,
        "service_tier": "default",
        "system_fingerprint": "fp_stand_in",
    })
}

/// All text, or null where there are only calls.
fn text(said: &Said) -> Value {
    let text: Vec<&str> = said
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Thinking(_) | Part::Call { .. } => None,
        })
        .collect();
    match text.is_empty() && said.calls() {
        true => Value::Null,
        false => text.concat().into(),
    }
}

/// The calls, each with its arguments.
fn calls(said: &Said) -> Vec<(String, Value)> {
    let calls = said.parts.iter().enumerate().filter_map(|(n, part)| match part {
        Part::Call { name, arguments } => {
            let arguments = written(arguments);
            let function = json!({"name": name, "arguments": arguments});
            let call = json!({"id": said.id("call_", n), "type": "function", "function": function});
            Some((arguments, call))
        }
        Part::Text(_) | Part::Thinking(_) => None,
    });
    calls.collect()
}

fn finish(said: &Said) -> &'static str {
    match (said.length, said.calls()) {
        (true, _) => "length",
        (false, true) => "tool_calls",
        (false, false) => "stop",
    }
}

fn usage(said: &Said) -> Value {
    let tokens = &said.tokens;
    json!({
        "prompt_tokens": tokens.prompt(),
        "completion_tokens": tokens.output,
        "total_tokens": tokens.prompt() + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": tokens.thought,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
