//! What a request asks for: all that people, and the host, have said since the model said its last word
//! of a turn, and the tools that it has called since. A model that calls tools says nothing beside it
//! here, so that each text of its own ends a turn.

use serde_json::Value;

use super::Api;
use super::newest::texts;

/// What stands in a request of the turn that goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// The lines that were said to the model, in order.
    pub lines: Vec<String>,
    /// The arguments of the calls that it has made, as JSON, in order.
    pub calls: Vec<String>,
}

/// Reads a request that was checked.
pub fn heard(api: Api, body: &Value) -> Heard {
    let mut heard = Heard::default();
    let list = if api == Api::Responses { &body["input"] } else { &body["messages"] };
    for item in list.as_array().into_iter().flatten() {
        match (api, item["role"].as_str()) {
            (Api::Messages, Some("assistant")) => {
                for block in item["content"].as_array().into_iter().flatten() {
                    match block["type"].as_str() {
                        Some("tool_use") => heard.calls.push(block["input"].to_string()),
                        Some("text") => heard = Heard::default(),
                        _ => {}
                    }
                }
            }
            (Api::Chat, Some("assistant")) => match item["tool_calls"].as_array() {
                Some(calls) if !calls.is_empty() => {
                    heard.calls.extend(calls.iter().map(|it| argument(&it["function"])));
                }
                _ => heard = Heard::default(),
            },
            (Api::Responses, None) if item["type"] == "function_call" => {
                heard.calls.push(argument(item));
            }
            (Api::Responses, Some("assistant")) => heard = Heard::default(),
            (_, Some("user")) => {
                heard.lines.extend(texts(&item["content"]).lines().map(str::to_owned));
            }
            _ => {}
        }
    }
    heard
}

fn argument(call: &Value) -> String {
    call["arguments"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_answered_is_behind_and_what_has_come_since_stands_together() {
        let messages = json!({"messages": [
            {"role": "user", "content": [{"type": "text", "text": "old"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "answer"}]},
            {"role": "user", "content": [{"type": "text", "text": "a\nb"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "t", "input": {"x": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": "done"}, {"type": "text", "text": "c"}]},
        ]});
        let chat = json!({"messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "old"}, {"role": "assistant", "content": "answer"},
            {"role": "user", "content": "a\nb"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "t", "arguments": "{\"x\":1}"}}]},
            {"role": "tool", "content": "done"}, {"role": "user", "content": "c"},
        ]});
        let responses = json!({"input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "old"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "answer"}]},
            {"role": "user", "content": [{"type": "input_text", "text": "a\nb"}]},
            {"type": "function_call", "name": "t", "arguments": "{\"x\":1}"},
            {"type": "function_call_output", "output": "done"},
            {"role": "user", "content": [{"type": "input_text", "text": "c"}]},
        ]});
        let expected = Heard {
            lines: ["a", "b", "c"].map(str::to_owned).to_vec(),
            calls: vec![json!({"x": 1}).to_string()],
        };
        for (api, body) in
            [(Api::Messages, messages), (Api::Chat, chat), (Api::Responses, responses)]
        {
            assert_eq!(heard(api, &body), expected, "{api:?}");
        }
    }
}
