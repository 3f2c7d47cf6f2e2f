//! Anthropic's Messages, the answer.
//!
//! Source: <https://docs.claude.com/en/docs/build-with-claude/streaming>.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use twobox_shared::agent_config::{Api, ModelName};

use super::super::conversation::{Answer, Block, Input, Stop, ToolCall, Usage};
use super::answer::{Size, answer, input, parse, take, text, tokens};
use super::{Complaint, Progress};

/// An answer that is being read.
pub(crate) struct Reading {
    from: ModelName,
    /// By their indexes.
    drafts: BTreeMap<u64, Draft>,
    size: Size,
    stop: Option<Stop>,
    usage: Usage,
}

/// A block as far as it has come.
struct Draft {
    /// The block as it began.
    block: Value,
    /// The input of a tool, as far as it has come.
    input: String,
}

impl Reading {
    pub(crate) fn new(from: ModelName) -> Self {
        let (drafts, size) = (BTreeMap::new(), Size::default());
        Self { from, drafts, size, stop: None, usage: Usage::default() }
    }

    pub(super) fn event(
        &mut self,
        data: &str,
        hear: &mut dyn FnMut(&str),
    ) -> Result<Progress, Complaint> {
        self.size.add(data.len(), self.drafts.len())?;
        let event = parse(data)?;
        match text(&event, "/type") {
            "message_start" => self.count(&event["message"]["usage"]),
            "content_block_start" => {
                let block = event["content_block"].clone();
                hear_some(text(&block, "/text"), hear);
                self.drafts.insert(index(&event), Draft { block, input: String::new() });
            }
            "content_block_delta" => self.delta(&event, hear),
            "message_delta" => {
                self.count(&event["usage"]);
                if let Some(reason) = event["delta"]["stop_reason"].as_str() {
                    self.stop = Some(stop(reason));
                }
            }
            "message_stop" => return Ok(Progress::Complete),
            "error" => return Err(Complaint::of_event(&event)),
            _ => {} // ping, content_block_stop, and what there may be one day
        }
        Ok(Progress::More)
    }

    /// A piece of a block. One of a block that has not begun belongs to nothing.
    fn delta(&mut self, event: &Value, hear: &mut dyn FnMut(&str)) {
        let Some(draft) = self.drafts.get_mut(&index(event)) else { return };
        let delta = &event["delta"];
        match text(delta, "/type") {
            "text_delta" => {
                hear_some(text(delta, "/text"), hear);
                append(&mut draft.block, "text", text(delta, "/text"));
            }
            "input_json_delta" => draft.input.push_str(text(delta, "/partial_json")),
            "thinking_delta" => append(&mut draft.block, "thinking", text(delta, "/thinking")),
            "signature_delta" => append(&mut draft.block, "signature", text(delta, "/signature")),
            _ => {} // citations
        }
    }

    /// What is told first is told again at the end, grown: the last word counts.
    fn count(&mut self, usage: &Value) {
        let Usage { input, cache_read, cache_write, output } = &mut self.usage;
        let fields = [
            (input, "/input_tokens"),
            (cache_read, "/cache_read_input_tokens"),
            (cache_write, "/cache_creation_input_tokens"),
            (output, "/output_tokens"),
        ];
        for (field, pointer) in fields {
            *field = tokens(usage, pointer).unwrap_or(*field);
        }
    }

    pub(super) fn finish(self) -> Option<Answer> {
        let stop = self.stop?;
        let cut = stop == Stop::Length;
        let blocks = self.drafts.into_values().map(|draft| draft.finish(&self.from, cut));
        Some(answer(blocks.collect(), stop, self.usage))
    }
}

impl Draft {
    fn finish(mut self, from: &ModelName, cut: bool) -> Block {
        match text(&self.block, "/type") {
            "text" => Block::Text { text: text(&self.block, "/text").to_owned() },
            "tool_use" => {
                let input = match (self.input.is_empty(), take(&mut self.block, "input")) {
                    (true, Value::Object(fields)) if !fields.is_empty() => Input::Fields(fields),
                    // An answer that was cut before the first piece is no call without fields.
                    (true, _) if cut => Input::Unreadable(String::new()),
                    _ => input(&self.input),
                };
                let [id, name] = ["/id", "/name"].map(|it| text(&self.block, it).to_owned());
                Block::Call(ToolCall { id, name, input })
            }
            _ => {
                if let (false, Value::Object(fields)) = (self.input.is_empty(), &mut self.block) {
                    let read: Value = serde_json::from_str(&self.input).unwrap_or(json!({}));
                    fields.insert("input".to_owned(), read);
                }
                Block::Opaque { api: Api::Messages, from: from.clone(), value: self.block }
            }
        }
    }
}

fn index(event: &Value) -> u64 {
    event["index"].as_u64().unwrap_or_default()
}

fn append(block: &mut Value, field: &str, piece: &str) {
    let Value::Object(fields) = block else { return };
    match fields.entry(field).or_insert(Value::String(String::new())) {
        Value::String(text) => text.push_str(piece),
        other => *other = Value::String(piece.to_owned()),
    }
}

fn hear_some(words: &str, hear: &mut dyn FnMut(&str)) {
    if !words.is_empty() {
        hear(words);
    }
}

fn stop(reason: &str) -> Stop {
    match reason {
        "tool_use" => Stop::Tools,
        // A paused turn is gone on with like one that was cut.
        "max_tokens" | "model_context_window_exceeded" | "pause_turn" => Stop::Length,
        "refusal" => Stop::Refused,
        _ => Stop::End, // end_turn, stop_sequence, and what there may be one day
    }
}
