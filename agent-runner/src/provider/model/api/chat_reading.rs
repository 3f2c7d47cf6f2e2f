//! OpenAI's Chat Completions, the answer, as OpenAI and those who are like it stream it: calls of tools in
//! pieces or whole, with and without an index, with the index 0 for each; with or without `[DONE]`.

use serde_json::{Map, Value, json};
use twobox_shared::agent_config::{Api, ModelName};

use super::super::conversation::{Answer, Block, Input, Stop, ToolCall, Usage};
use super::answer::{Size, answer, input, parse, take, text, tokens};
use super::chat::OPAQUE;
use super::{Complaint, Progress};

/// An answer that is being read.
pub(crate) struct Reading {
    from: ModelName,
    words: String,
    thoughts: String,
    details: Vec<Value>,
    calls: Vec<Draft>,
    size: Size,
    refused: bool,
    stop: Option<Stop>,
    done: bool,
    usage: Usage,
}

/// A call as far as it has come.
#[derive(Default)]
struct Draft {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    extra: Value,
}

impl Reading {
    pub(crate) fn new(from: ModelName) -> Self {
        Self {
            from,
            words: String::new(),
            thoughts: String::new(),
            details: Vec::new(),
            calls: Vec::new(),
            size: Size::default(),
            refused: false,
            stop: None,
            done: false,
            usage: Usage::default(),
        }
    }

    pub(super) fn event(
        &mut self,
        data: &str,
        hear: &mut dyn FnMut(&str),
    ) -> Result<Progress, Complaint> {
        if data.trim() == "[DONE]" {
            self.done = true;
            return Ok(Progress::Complete);
        }
        self.size.add(data.len(), self.calls.len())?;
        let mut event = parse(data)?;
        if !event["error"].is_null() {
            return Err(Complaint::of_event(&event));
        }
        if event["usage"].is_object() {
            self.usage = usage(&event["usage"]);
        }
        let mut choice = match take(&mut event, "choices") {
            Value::Array(mut choices) if !choices.is_empty() => choices.swap_remove(0),
            _ => Value::Null, // the event with the usage
        };
        if !choice["error"].is_null() {
            return Err(Complaint::of_event(&choice));
        }
        self.delta(take(&mut choice, "delta"), hear);
        if let Some(reason) = choice["finish_reason"].as_str().filter(|it| !it.is_empty()) {
            self.stop = Some(stop(reason));
        }
        Ok(Progress::More)
    }

    fn delta(&mut self, mut delta: Value, hear: &mut dyn FnMut(&str)) {
        let refusal = text(&delta, "/refusal").to_owned();
        self.refused |= !refusal.is_empty();
        for words in [words(&delta["content"]), refusal].iter().filter(|it| !it.is_empty()) {
            hear(words);
            self.words.push_str(words);
        }
        self.thoughts.push_str(text(&delta, "/reasoning_content"));
        if let Value::Array(details) = take(&mut delta, "reasoning_details") {
            self.details.extend(details);
        }
        if let Value::Array(pieces) = take(&mut delta, "tool_calls") {
            for piece in pieces {
                self.piece(piece);
            }
        }
    }

    fn piece(&mut self, mut piece: Value) {
        let [id, name] = ["/id", "/function/name"].map(|it| text(&piece, it).to_owned());
        let index = piece["index"].as_u64();
        let at = self.calls.iter().rposition(|call| call.goes_on(index, &id, &name));
        let at = at.unwrap_or_else(|| {
            self.calls.push(Draft { index, ..Draft::default() });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            call.id = id;
        }
        if call.name.is_empty() {
            call.name = name;
        }
        match &piece["function"]["arguments"] {
            Value::String(arguments) => call.arguments.push_str(arguments),
            Value::Null => {}
            whole => call.arguments = whole.to_string(),
        }
        if !piece["extra_content"].is_null() {
            call.extra = take(&mut piece, "extra_content");
        }
    }

    pub(super) fn finish(mut self) -> Option<Answer> {
        let stop = match (self.refused, self.stop, self.done) {
            (true, ..) => Stop::Refused,
            (false, Some(stop), _) => stop,
            (false, None, true) => Stop::End,
            (false, None, false) => return None,
        };
        let mut own = Map::new();
        if !self.thoughts.is_empty() {
            own.insert(OPAQUE[0].to_owned(), self.thoughts.clone().into());
        }
        if !self.details.is_empty() {
            own.insert(OPAQUE[1].to_owned(), std::mem::take(&mut self.details).into());
        }
        let mut blocks = Vec::new();
        if !own.is_empty() {
            blocks.push(self.opaque(Value::Object(own)));
        }
        blocks.push(Block::Text { text: std::mem::take(&mut self.words) });
        let cut = stop == Stop::Length;
        for (number, call) in std::mem::take(&mut self.calls).into_iter().enumerate() {
            let Draft { id, name, arguments, extra, .. } = call;
            let id = if id.is_empty() { format!("call_{number}") } else { id };
            if !extra.is_null() {
                blocks.push(self.opaque(json!({ "call": id, OPAQUE[2]: extra })));
            }
            let input = match cut && arguments.is_empty() {
                true => Input::Unreadable(arguments),
                false => input(&arguments),
            };
            blocks.push(Block::Call(ToolCall { id, name, input }));
        }
        Some(answer(blocks, stop, self.usage))
    }

    fn opaque(&self, value: Value) -> Block {
        Block::Opaque { api: Api::Chat, from: self.from.clone(), value }
    }
}

impl Draft {
    /// Whether a piece with this index, id and name belongs to this call. Some servers send each call
    /// whole, all of them under the index 0, or under none; some repeat the id or the name in each piece.
    fn goes_on(&self, index: Option<u64>, id: &str, name: &str) -> bool {
        let place = index.is_none() || self.index == index;
        match id.is_empty() {
            false => place && (self.id == id || (self.id.is_empty() && self.name.is_empty())),
            true if name.is_empty() => place,
            true => place && (self.name.is_empty() || self.name == name) && !self.is_whole(),
        }
    }

    /// Whether its arguments are an object by now. They are read only where they may be one: reading all
    /// of them with each piece would take the square of their length.
    fn is_whole(&self) -> bool {
        self.arguments.trim_end().ends_with('}')
            && serde_json::from_str::<Map<String, Value>>(&self.arguments).is_ok()
    }
}

/// The words of a content: a text, or parts, of which those are words that say so.
fn words(content: &Value) -> String {
    match content {
        Value::String(words) => words.clone(),
        Value::Array(parts) => parts.iter().map(|part| text(part, "/text")).collect(),
        _ => String::new(),
    }
}

/// What is read from the cache is told as a part of what is read.
fn usage(usage: &Value) -> Usage {
    let told = |pointer| tokens(usage, pointer);
    let cache_read = told("/prompt_tokens_details/cached_tokens")
        .or_else(|| told("/prompt_cache_hit_tokens"))
        .unwrap_or_default();
    let cache_write = told("/prompt_tokens_details/cache_write_tokens").unwrap_or_default();
    let read = told("/prompt_tokens").unwrap_or_default();
    let output = told("/completion_tokens").unwrap_or_default();
    let input = read.saturating_sub(cache_read).saturating_sub(cache_write);
    Usage { input, cache_read, cache_write, output }
}

fn stop(reason: &str) -> Stop {
    match reason {
        "tool_calls" | "function_call" => Stop::Tools,
        "length" => Stop::Length,
        "content_filter" => Stop::Refused,
        _ => Stop::End, // stop, and what others say
    }
}
