//! OpenAI's Responses.

use serde_json::{Value, json};

use super::{CREATED, Event, Said, pieces, sse, written};
use crate::models::check::reasoning::encrypted;
use crate::models::script::Part;

/// The answer as a whole.
pub(super) fn whole(said: &Said) -> Value {
    let output: Vec<Value> = (0..said.parts.len()).map(|n| item(said, n)).collect();
    let mut body = head(said);
    body["output"] = output.into();
    body["completed_at"] = (CREATED + said.number + 1).into();
    body["status"] = if said.length { "incomplete" } else { "completed" }.into();
    if said.length {
        body["incomplete_details"] = json!({"reason": "max_output_tokens"});
    }
    let tokens = &said.tokens;
    body["usage"] = json!({
        "input_tokens": tokens.prompt(),
        "input_tokens_details": {"cached_tokens": tokens.cache_read, "cache_write_tokens": 0},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.thought},
        "total_tokens": tokens.prompt() + tokens.output,
    });
    body
}

/// The answer as a stream.
pub(super) fn stream(said: &Said) -> Vec<Event> {
    let mut writer = Writer::default();
    writer.add("response.created", json!({"response": head(said)}));
    writer.add("response.in_progress", json!({"response": head(said)}));
    for n in 0..said.parts.len() {
        let whole = item(said, n);
        let (id, at) = (&whole["id"], json!(n));
        let mut begun = whole.clone();
        begun["status"] = "in_progress".into();
        match &said.parts[n] {
            Part::Thinking(text) => {
                begun["summary"] = json!([]);
                writer
                    .add("response.output_item.added", json!({"output_index": at, "item": begun}));
                let place = json!({"item_id": id, "output_index": at, "summary_index": 0});
                let name = "response.reasoning_summary";
                writer.part(
                    &format!("{name}_part"),
                    &place,
                    json!({"type": "summary_text", "text": ""}),
                    |writer| {
                        writer.text(&format!("{name}_text"), &place, text, said.piece);
                        json!({"type": "summary_text", "text": text})
                    },
                );
            }
            Part::Text(text) => {
                begun["content"] = json!([]);
                writer
                    .add("response.output_item.added", json!({"output_index": at, "item": begun}));
                let place = json!({"item_id": id, "output_index": at, "content_index": 0});
                writer.part("response.content_part", &place, output_text(""), |writer| {
                    let mut place = place.clone();
                    place["logprobs"] = json!([]);
                    writer.text("response.output_text", &place, text, said.piece);
                    output_text(text)
                });
            }
            Part::Call { name, arguments } => {
                begun["arguments"] = "".into();
                writer
                    .add("response.output_item.added", json!({"output_index": at, "item": begun}));
                let mut place = json!({"item_id": id, "output_index": at});
                let arguments = written(arguments);
                writer.pieces("response.function_call_arguments", &place, &arguments, said.piece);
                place["arguments"] = arguments.into();
                place["name"] = name.as_str().into();
                writer.add("response.function_call_arguments.done", place);
            }
        }
        writer.add("response.output_item.done", json!({"output_index": at, "item": whole}));
    }
    let end = if said.length { "response.incomplete" } else { "response.completed" };
    writer.add(end, json!({"response": whole(said)}));
    writer.events.last_mut().expect("it was just added").last_usage = true;
    writer.events
}

/// Numbers the events.
#[derive(Default)]
struct Writer {
    events: Vec<Event>,
}

impl Writer {
    fn add(&mut self, kind: &str, data: Value) {
        self.events.push(Event::new(String::new()));
        self.fill(kind, data);
    }

    fn add_paced(&mut self, kind: &str, data: Value) {
        self.events.push(Event::paced(String::new()));
        self.fill(kind, data);
    }

    fn fill(&mut self, kind: &str, mut data: Value) {
        let number = self.events.len() - 1;
        data["type"] = kind.into();
        data["sequence_number"] = number.into();
        self.events[number].text = sse(kind, &data);
    }

    /// A part that begins empty, and how it ends once `inner` has filled it.
    fn part(
        &mut self,
        name: &str,
        place: &Value,
        empty: Value,
        inner: impl FnOnce(&mut Self) -> Value,
    ) {
        let with = |part: Value| {
            let mut data = place.clone();
            data["part"] = part;
            data
        };
        self.add(&format!("{name}.added"), with(empty));
        let whole = inner(self);
        self.add(&format!("{name}.done"), with(whole));
    }

    fn text(&mut self, name: &str, place: &Value, text: &str, piece: usize) {
        self.pieces(name, place, text, piece);
        let mut done = place.clone();
        done["text"] = text.into();
        self.add(&format!("{name}.done"), done);
    }

    fn pieces(&mut self, name: &str, place: &Value, text: &str, piece: usize) {
        for piece in pieces(text, piece) {
            let mut delta = place.clone();
            delta["delta"] = piece.into();
            self.add_paced(&format!("{name}.delta"), delta);
        }
    }
}

/// The response before anything is said in it.
fn head(said: &Said) -> Value {
    json!({
        "id": said.id("resp_", 0),
        "object": "response",
        "created_at": CREATED + said.number,
        "status": "in_progress",
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": null,
        "metadata": {},
        "model": said.model,
        "output": [],
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "service_tier": "default",
        "store": false,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": null,
    })
}

/// The `n`-th item.
pub(super) fn item(said: &Said, n: usize) -> Value {
    match &said.parts[n] {
        Part::Thinking(text) => {
            let id = said.id("rs_", n);
            json!({
                "type": "reasoning", "encrypted_content": encrypted(&id), "id": id,
                "summary": [{"type": "summary_text", "text": text}],
            })
        }
        Part::Text(text) => json!({
            "type": "message", "id": said.id("msg_", n), "role": "assistant",
            "status": if said.length { "incomplete" } else { "completed" },
            "content": [output_text(text)],
        }),
        Part::Call { name, arguments } => {
            let mut call = json!({
                "type": "function_call", "id": said.id("fc_", n), "call_id": said.id("call_", n),
                "name": name, "arguments": written(arguments), "status": "completed",
            });
            // As scripts write the name of a tool that stands in a namespace.
            if let Some((namespace, name)) = name.split_once('/') {
                (call["namespace"], call["name"]) = (namespace.into(), name.into());
            }
            call
        }
    }
}

fn output_text(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}
