//! What was said last in a request, which rules are matched on.

use serde_json::Value;

use super::Api;
use super::script::Newest;

/// One thing that was said, in order.
enum Bit {
    Model,
    Text(String),
    Result(String),
}

/// What was said last in a request that was checked.
pub(super) fn newest(api: Api, body: &Value) -> Newest {
    let mut bits = Vec::new();
    let list = if api == Api::Responses { &body["input"] } else { &body["messages"] };
    match list {
        Value::String(text) => bits.push(Bit::Text(text.clone())),
        list => {
            for item in list.as_array().into_iter().flatten() {
                match api {
                    Api::Messages => message(item, &mut bits),
                    Api::Chat => chat(item, &mut bits),
                    Api::Responses => response(item, &mut bits),
                }
            }
        }
    }
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    let mut newest = Newest { model, text: String::new(), text_is_new: false, results: Vec::new() };
    let (mut is_new, mut found) = (true, false);
    for bit in bits.into_iter().rev() {
        match bit {
            Bit::Model => is_new = false,
            Bit::Result(text) if is_new => newest.results.insert(0, text),
            Bit::Text(text) if !found => {
                found = true;
                newest.text_is_new = is_new;
                newest.text = text;
            }
            Bit::Result(_) | Bit::Text(_) => {}
        }
    }
    newest
}

fn message(message: &Value, bits: &mut Vec<Bit>) {
    if message["role"] != "user" {
        bits.extend((message["role"] == "assistant").then_some(Bit::Model));
        return;
    }
    for block in message["content"].as_array().into_iter().flatten() {
        if block["type"] == "tool_result" {
            bits.push(Bit::Result(texts(&block["content"])));
        }
    }
    text(&message["content"], bits);
}

fn chat(message: &Value, bits: &mut Vec<Bit>) {
    match message["role"].as_str() {
        Some("user") => text(&message["content"], bits),
        Some("tool") => bits.push(Bit::Result(texts(&message["content"]))),
        Some("assistant") => bits.push(Bit::Model),
        _ => {}
    }
}

fn response(item: &Value, bits: &mut Vec<Bit>) {
    match (item["type"].as_str(), item["role"].as_str()) {
        (Some("function_call_output"), _) => bits.push(Bit::Result(texts(&item["output"]))),
        (None | Some("message"), Some("user")) => text(&item["content"], bits),
        (None | Some("message"), Some("system" | "developer")) => {}
        _ => bits.push(Bit::Model),
    }
}

fn text(content: &Value, bits: &mut Vec<Bit>) {
    let text = texts(content);
    if !text.is_empty() {
        bits.push(Bit::Text(text));
    }
}

/// The text of a content, its parts joined by lines.
pub(super) fn texts(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        content => {
            let parts = content.as_array().into_iter().flatten();
            parts.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_said_last_is_found_in_each_form() {
        let chat = json!({"messages": [
            {"role": "user", "content": [{"type": "text", "text": "the weather?"}]},
            {"role": "assistant", "tool_calls": []},
            {"role": "tool", "content": "rain"},
        ]});
        let responses = json!({"input": [
            {"role": "user", "content": [{"type": "input_text", "text": "the weather?"}]},
            {"type": "function_call"},
            {"type": "function_call_output", "output": "rain"},
        ]});
        let messages = json!({"messages": [
            {"role": "user", "content": "the weather?"},
            {"role": "assistant", "content": []},
            {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "rain"}]}]},
        ]});
        for (api, body) in
            [(Api::Chat, chat), (Api::Responses, responses), (Api::Messages, messages)]
        {
            let found = newest(api, &body);
            assert_eq!(
                (found.text.as_str(), found.text_is_new),
                ("the weather?", false),
                "{api:?}"
            );
            assert_eq!(found.results, ["rain"], "{api:?}");
        }
    }

    #[test]
    fn a_follow_up_beside_a_result_is_new() {
        let body = json!({"messages": [
            {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "user", "content": [
                {"type": "tool_result", "content": "rain"}, {"type": "text", "text": "and?"}]},
        ]});
        let found = newest(Api::Messages, &body);
        assert_eq!(
            (found.text.as_str(), found.text_is_new, found.results.len()),
            ("and?", true, 1)
        );
        let plain = newest(Api::Responses, &json!({"input": "hello"}));
        assert_eq!((plain.text.as_str(), plain.text_is_new), ("hello", true));
    }
}
