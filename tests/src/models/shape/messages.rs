//! Anthropic's Messages.

use serde_json::{Value, json};

use super::{Event, Said, pieces, sse, written};
use crate::models::check::reasoning::signature;
use crate::models::script::Part;

/// The answer as a whole.
pub(super) fn whole(said: &Said) -> Value {
    let content: Vec<Value> = (0..said.parts.len()).map(|n| block(said, n)).collect();
    let mut message = head(said);
    message["content"] = content.into();
    message["stop_reason"] = stop(said).into();
    message["usage"]["output_tokens"] = said.tokens.output.into();
    message["usage"]["output_tokens_details"] = json!({"thinking_tokens": said.tokens.thought});
    message
}

/// The answer as a stream.
pub(super) fn stream(said: &Said) -> Vec<Event> {
    let event = |value: Value| sse(value["type"].as_str().unwrap_or_default(), &value);
    let mut events = vec![
        Event::new(event(json!({"type": "message_start", "message": head(said)}))),
        Event::new(event(json!({"type": "ping"}))),
    ];
    for n in 0..said.parts.len() {
        let (empty, deltas) = growth(said, n);
        let start = json!({"type": "content_block_start", "index": n, "content_block": empty});
        events.push(Event::new(event(start)));
        for delta in deltas {
            let delta = json!({"type": "content_block_delta", "index": n, "delta": delta});
            events.push(Event::paced(event(delta)));
        }
        events.push(Event::new(event(json!({"type": "content_block_stop", "index": n}))));
    }
    let tokens = &said.tokens;
    events.push(Event::last(event(json!({
        "type": "message_delta",
        "delta": {"stop_reason": stop(said), "stop_sequence": null},
        "usage": {
            "input_tokens": tokens.input,
            "cache_creation_input_tokens": tokens.cache_write,
            "cache_read_input_tokens": tokens.cache_read,
            "output_tokens": tokens.output,
            "output_tokens_details": {"thinking_tokens": tokens.thought},
        },
    }))));
    events.push(Event::new(event(json!({"type": "message_stop"}))));
    events
}

/// The message before anything is said in it.
fn head(said: &Said) -> Value {
    let tokens = &said.tokens;
    json!({
        "id": said.id("msg_", 0),
        "type": "message",
        "role": "assistant",
        "model": said.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": {
            "input_tokens": tokens.input,
            "cache_creation_input_tokens": tokens.cache_write,
            "cache_read_input_tokens": tokens.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": tokens.cache_write - tokens.cache_write_1h,
                "ephemeral_1h_input_tokens": tokens.cache_write_1h,
            },
            "output_tokens": 1,
            "service_tier": "standard",
        },
    })
}

fn stop(said: &Said) -> &'static str {
    match (said.length, said.calls()) {
        (true, _) => "max_tokens",
        (false, true) => "tool_use",
        (false, false) => "end_turn",
    }
}

/// The `n`-th block.
pub(super) fn block(said: &Said, n: usize) -> Value {
    match &said.parts[n] {
        Part::Thinking(text) => {
            json!({"type": "thinking", "thinking": text, "signature": signature(text)})
        }
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Call { name, arguments } => {
            json!({"type": "tool_use", "id": said.id("toolu_", n), "name": name, "input": arguments})
        }
    }
}

/// The `n`-th block as it begins, and what is added to it.
fn growth(said: &Said, n: usize) -> (Value, Vec<Value>) {
    let mut empty = block(said, n);
    let deltas = match &said.parts[n] {
        Part::Thinking(text) => {
            empty["thinking"] = "".into();
            empty["signature"] = "".into();
            let sign = json!({"type": "signature_delta", "signature": signature(text)});
            let thought = pieces(text, said.piece).into_iter();
            thought
                .map(|piece| json!({"type": "thinking_delta", "thinking": piece}))
                .chain([sign])
                .collect()
        }
        Part::Text(text) => {
            empty["text"] = "".into();
            let text = pieces(text, said.piece).into_iter();
            text.map(|piece| json!({"type": "text_delta", "text": piece})).collect()
        }
        Part::Call { arguments, .. } => {
            empty["input"] = json!({});
            // The first piece of a call is empty.
            let json = [String::new()].into_iter().chain(pieces(&written(arguments), said.piece));
            json.map(|piece| json!({"type": "input_json_delta", "partial_json": piece})).collect()
        }
    };
    (empty, deltas)
}
