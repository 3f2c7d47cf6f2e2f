//! OpenAI's Responses, the answer. What counts are the items that are done; pieces are for listeners.
//!
//! Source: <https://platform.openai.com/docs/api-reference/responses-streaming>.

use std::collections::BTreeMap;

use serde_json::Value;
use twobox_shared::agent_config::{Api, ModelName};

use super::super::conversation::{Answer, Block, Input, Stop, ToolCall, Usage};
use super::answer::{Size, answer, input, parse, take, text, tokens};
use super::{Complaint, Progress};

/// An answer that is being read.
pub(crate) struct Reading {
    from: ModelName,
    /// The items that are done, by their indexes.
    items: BTreeMap<u64, Value>,
    size: Size,
    /// The whole, as the last event tells it.
    response: Option<Value>,
}

impl Reading {
    pub(crate) fn new(from: ModelName) -> Self {
        Self { from, items: BTreeMap::new(), size: Size::default(), response: None }
    }

    pub(super) fn event(
        &mut self,
        data: &str,
        hear: &mut dyn FnMut(&str),
    ) -> Result<Progress, Complaint> {
        if data.trim() == "[DONE]" {
            return Ok(Progress::Complete); // a habit of servers that speak Chat too
        }
        self.size.add(data.len(), self.items.len())?;
        let mut event = parse(data)?;
        match text(&event, "/type") {
            "response.output_text.delta" | "response.refusal.delta" => {
                match text(&event, "/delta") {
                    "" => {}
                    words => hear(words),
                }
            }
            "response.output_item.done" => {
                let next = self.items.keys().next_back().map_or(0, |last| last.saturating_add(1));
                let index = event["output_index"].as_u64().unwrap_or(next);
                self.items.insert(index, take(&mut event, "item"));
            }
            "response.completed" | "response.incomplete" => {
                self.response = Some(take(&mut event, "response"));
                return Ok(Progress::Complete);
            }
            "response.failed" => return Err(Complaint::of_event(&event["response"])),
            "error" => return Err(Complaint::of_event(&event)),
            _ => {}
        }
        Ok(Progress::More)
    }

    pub(super) fn finish(self) -> Option<Answer> {
        let mut response = self.response?;
        let mut items: Vec<_> = self.items.into_values().collect();
        // A server that tells no item by itself tells all of them at the end; so does one whose answer
        // was cut in the middle of an item.
        if let Value::Array(output) = take(&mut response, "output")
            && output.len() > items.len()
        {
            items = output;
        }
        let mut stop = match text(&response, "/incomplete_details/reason") {
            "content_filter" => Stop::Refused,
            "" if text(&response, "/status") != "incomplete" => Stop::End,
            _ => Stop::Length, // max_output_tokens
        };
        let mut blocks = Vec::new();
        for item in items {
            if read(item, &self.from, &mut blocks) {
                stop = Stop::Refused;
            }
        }
        Some(answer(blocks, stop, usage(&response["usage"])))
    }
}

/// Reads one item into `blocks`, and says whether it is a refusal.
fn read(item: Value, from: &ModelName, blocks: &mut Vec<Block>) -> bool {
    let mut refused = false;
    match text(&item, "/type") {
        "message" => {
            for part in item["content"].as_array().into_iter().flatten() {
                let words = match text(part, "/type") {
                    "refusal" => {
                        refused = true;
                        text(part, "/refusal")
                    }
                    _ => text(part, "/text"),
                };
                blocks.push(Block::Text { text: words.to_owned() });
            }
        }
        "function_call" => {
            let cut = text(&item, "/status") == "incomplete";
            let input = match (&item["arguments"], cut) {
                (Value::Object(fields), _) => Input::Fields(fields.clone()),
                (given, true) => Input::Unreadable(given.as_str().unwrap_or_default().to_owned()),
                (given, false) => input(given.as_str().unwrap_or_default()),
            };
            let id = match text(&item, "/call_id") {
                "" => text(&item, "/id"),
                id => id,
            };
            let (id, name) = (id.to_owned(), text(&item, "/name").to_owned());
            blocks.push(Block::Call(ToolCall { id, name, input }));
        }
        // Without what is encrypted, the upstream would look for it among what it has stored, which is
        // nothing.
        "reasoning" if item["encrypted_content"].is_string() => {
            let mut value = item;
            if let Value::Object(fields) = &mut value {
                fields.remove("status");
            }
            blocks.push(Block::Opaque { api: Api::Responses, from: from.clone(), value });
        }
        _ => {}
    }
    refused
}

/// What is read from the cache is told as a part of what is read.
fn usage(usage: &Value) -> Usage {
    let told = |pointer| tokens(usage, pointer).unwrap_or_default();
    let cache_read = told("/input_tokens_details/cached_tokens");
    let cache_write = told("/input_tokens_details/cache_write_tokens");
    let input = told("/input_tokens").saturating_sub(cache_read).saturating_sub(cache_write);
    Usage { input, cache_read, cache_write, output: told("/output_tokens") }
}
