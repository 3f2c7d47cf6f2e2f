//! What answers have in common, whatever the API: how much of one is taken, what a model gave a tool, and
//! why it stopped.

use serde_json::{Map, Value, json};

use super::super::conversation::{Answer, Block, Input, Stop, Usage};
use super::Complaint;

/// The most that one answer may say, in bytes: some ten times what a model can.
const ANSWER_MAX: usize = 16 << 20;

/// The most parts of one answer.
const PARTS_MAX: usize = 1024;

/// How deep may be nested what an answer has, below what JSON is read with: it stands deeper in a
/// transcript and in requests, and has to be readable there too.
const DEPTH_MAX: usize = 64;

/// How much of an answer has come.
#[derive(Debug, Default)]
pub(super) struct Size {
    bytes: usize,
}

impl Size {
    /// Counts what has come, into `parts` parts by now.
    ///
    /// # Errors
    /// If it is more than a model would say.
    pub(super) fn add(&mut self, bytes: usize, parts: usize) -> Result<(), Complaint> {
        self.bytes = self.bytes.saturating_add(bytes);
        match self.bytes > ANSWER_MAX || parts > PARTS_MAX {
            true => Err(Complaint::ours("the answer has no end")),
            false => Ok(()),
        }
    }
}

/// An event: an object in JSON.
///
/// # Errors
/// If it is none.
pub(super) fn parse(data: &str) -> Result<Value, Complaint> {
    let fields: Result<Map<String, Value>, _> = serde_json::from_str(data);
    fields.map(Value::Object).map_err(|error| {
        Complaint::ours(&format!("the answer has an event that is no object: {error}"))
    })
}

/// Takes a field out of `value`; null if there is none, or nothing that has fields.
pub(super) fn take(value: &mut Value, field: &str) -> Value {
    value.get_mut(field).map(Value::take).unwrap_or_default()
}

/// What a model gave a tool, of the text that it wrote. No text is no field.
pub(super) fn input(text: &str) -> Input {
    if text.trim().is_empty() {
        return Input::Fields(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Input::Fields(fields),
        // Some write the object as a text in JSON once more.
        Ok(Value::String(inner)) => match serde_json::from_str(&inner) {
            Ok(Value::Object(fields)) => Input::Fields(fields),
            _ => Input::Unreadable(text.to_owned()),
        },
        _ => Input::Unreadable(text.to_owned()),
    }
}

/// The text that a model wrote for a tool, as it goes back. It is JSON in any case, for there are servers
/// that read it.
pub(super) fn arguments(input: &Input) -> String {
    match input {
        Input::Fields(fields) => serde_json::to_string(fields).expect("keys are strings"),
        Input::Unreadable(unreadable) => json!({ "unreadable": unreadable }).to_string(),
    }
}

/// An answer of what was read. Words that are none are left out, and so is what only the model understands
/// where it is nested too deep to be kept. What the API says of the reason to stop is believed only as far
/// as it fits.
pub(super) fn answer(blocks: Vec<Block>, stop: Stop, usage: Usage) -> Answer {
    let blocks: Vec<_> = blocks.into_iter().filter_map(kept).collect();
    let called = blocks.iter().any(|block| matches!(block, Block::Call(_)));
    let stop = match stop {
        Stop::End | Stop::Tools if called => Stop::Tools,
        Stop::End | Stop::Tools => Stop::End,
        Stop::Length | Stop::Refused => stop,
    };
    Answer { blocks, stop, usage }
}

fn kept(mut block: Block) -> Option<Block> {
    match &mut block {
        Block::Text { text } if text.is_empty() => return None,
        Block::Opaque { value, .. } if !is_flat(value, DEPTH_MAX) => return None,
        Block::Call(call) => {
            if let Input::Fields(fields) = &call.input
                && !fields.values().all(|value| is_flat(value, DEPTH_MAX))
            {
                call.input = Input::Unreadable(arguments(&call.input));
            }
        }
        Block::Text { .. } | Block::Opaque { .. } => {}
    }
    Some(block)
}

/// Whether `value` is nested at most `most` deep.
fn is_flat(value: &Value, most: usize) -> bool {
    let below = |value: &Value| most > 0 && is_flat(value, most - 1);
    match value {
        Value::Object(fields) => fields.values().all(below),
        Value::Array(values) => values.iter().all(below),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// A number of tokens at `pointer` of `value`.
pub(super) fn tokens(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

/// A text at `pointer` of `value`; nothing where there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tool_is_given_is_an_object_or_told_as_it_is() {
        let cases = [
            ("", Some("{}")),
            (" \n", Some("{}")),
            (r#"{"a":1}"#, Some(r#"{"a":1}"#)),
            (r#""{\"a\":1}""#, Some(r#"{"a":1}"#)),
            (r#"{"a":"#, None),
            ("[1]", None),
            (r#""words""#, None),
        ];
        for (written, expected) in cases {
            let read = input(written);
            match expected {
                Some(json) => assert_eq!(arguments(&read), json, "{written}"),
                None => {
                    assert_eq!(read, Input::Unreadable(written.to_owned()));
                    assert!(serde_json::from_str::<Value>(&arguments(&read)).is_ok(), "{written}");
                }
            }
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_not_taken_as_it_is() {
        use super::super::samples::{call, opaque};
        use twobox_shared::agent_config::Api;

        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        for (depth, taken) in [(DEPTH_MAX, true), (DEPTH_MAX + 1, false), (120, false)] {
            let fields = json!({ "a": nested(depth) });
            let blocks = vec![
                call("1", "bash", fields.clone()),
                opaque(Api::Messages, "up/some-model", nested(depth)),
            ];
            let answer = answer(blocks.clone(), Stop::Tools, Usage::default());
            match taken {
                true => assert_eq!(answer.blocks, blocks),
                false => {
                    let unreadable = call("1", "bash", json!(fields.to_string()));
                    assert_eq!(answer.blocks, [unreadable]);
                }
            }
            let written = serde_json::to_string(&answer.blocks).unwrap();
            let again: Vec<Block> = serde_json::from_str(&written).unwrap();
            assert_eq!(again, answer.blocks, "{depth}");
        }
    }

    #[test]
    fn an_answer_without_an_end_is_given_up() {
        let mut size = Size::default();
        assert!(size.add(ANSWER_MAX, PARTS_MAX).is_ok());
        assert!(size.add(1, 1).is_err());
        assert!(Size::default().add(0, PARTS_MAX + 1).is_err());
    }
}
