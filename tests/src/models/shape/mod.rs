//! An answer in the form of each interface, whole or as the events of a stream.

pub mod chat;
pub mod messages;
pub mod responses;

use serde_json::{Value, json};

use super::Api;
use super::check::reasoning::Owed;
use super::fault::Fault;
use super::script::Part;
use super::tokens::{Tokens, tokens};

/// When answers are made, in seconds since 1970: always then, so that they are the same each time.
pub const CREATED: u64 = 1_764_000_000;

/// An answer, before it has a form.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The number of the request, of which all ids are made.
    pub number: u64,
    /// The model that is said to answer.
    pub model: String,
    /// What it says.
    pub parts: Vec<Part>,
    /// It stops because the answer is too long.
    pub length: bool,
    /// How many characters are streamed at once; all if it is 0.
    pub piece: usize,
    /// What it costs.
    pub tokens: Tokens,
    /// The usage is streamed too, with Chat Completions, where one has to ask for it.
    pub usage: bool,
}

/// Some bytes of a stream that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What is sent.
    pub text: String,
    /// A pause comes before it.
    pub paced: bool,
    /// The costs are told with it: who has it has all that he pays for.
    pub last_usage: bool,
}

impl Said {
    /// The id of the `n`-th thing of a kind.
    fn id(&self, prefix: &str, n: usize) -> String {
        format!("{prefix}{:020}{n:03}", self.number)
    }

    /// Whether a tool is called.
    fn calls(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Call { .. }))
    }

    /// The answer as a whole.
    pub fn whole(&self, api: Api) -> Value {
        match api {
            Api::Messages => messages::whole(self),
            Api::Responses => responses::whole(self),
            Api::Chat => chat::whole(self),
        }
    }

    /// The answer as a stream.
    pub fn stream(&self, api: Api) -> Vec<Event> {
        match api {
            Api::Messages => messages::stream(self),
            Api::Responses => responses::stream(self),
            Api::Chat => chat::stream(self),
        }
    }

    /// What has to come back with the results of the tools that are called.
    pub fn owed(&self, api: Api) -> Owed {
        let (mut thought, mut owed) = (None, Owed::new());
        for (n, part) in self.parts.iter().enumerate() {
            match (part, api) {
                (_, Api::Chat) | (Part::Text(_), _) => {}
                (Part::Thinking(_), Api::Messages) => thought = Some(messages::block(self, n)),
                (Part::Thinking(_), Api::Responses) => thought = Some(responses::item(self, n)),
                (Part::Call { .. }, _) => {
                    let id = if api == Api::Messages { "toolu_" } else { "call_" };
                    owed.extend(thought.clone().map(|thought| (self.id(id, n), thought)));
                }
            }
        }
        owed
    }
}

/// What these parts cost, as the output of an answer. An empty answer costs a token too.
pub fn output(parts: &[Part]) -> (u64, u64) {
    let (mut all, mut thought) = (0, 0);
    for part in parts {
        match part {
            Part::Thinking(text) => thought += tokens(text.len()),
            Part::Text(text) => all += tokens(text.len()),
            Part::Call { name, arguments } => all += tokens(name.len() + written(arguments).len()),
        }
    }
    ((all + thought).max(1), thought)
}

/// The error as an event of a stream that has had so many events.
pub fn error_event(api: Api, fault: &Fault, request_id: &str, before: usize) -> String {
    match api {
        Api::Messages => {
            let mut body = fault.body(api, request_id);
            body.as_object_mut().expect("it is one").remove("request_id");
            sse("error", &body)
        }
        Api::Chat => format!("data: {}\n\n", fault.body(api, request_id)),
        Api::Responses => sse(
            "error",
            &json!({
                "type": "error", "code": "server_error", "message": fault.message, "param": null,
                "sequence_number": before,
            }),
        ),
    }
}

/// Arguments as a model writes them.
fn written(arguments: &Value) -> String {
    match arguments {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn sse(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

impl Event {
    fn new(text: String) -> Self {
        Self { text, paced: false, last_usage: false }
    }

    fn paced(text: String) -> Self {
        Self { text, paced: true, last_usage: false }
    }

    fn last(text: String) -> Self {
        Self { text, paced: false, last_usage: true }
    }
}

/// A text in pieces of so many characters. What is empty has none.
fn pieces(text: &str, size: usize) -> Vec<String> {
    if size == 0 {
        return if text.is_empty() { Vec::new() } else { vec![text.to_owned()] };
    }
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(size).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_in_pieces_of_characters() {
        assert_eq!(pieces("grüße", 2), ["gr", "üß", "e"]);
        assert_eq!(pieces("grüße", 0), ["grüße"]);
        assert!(pieces("", 0).is_empty());
    }

    #[test]
    fn what_was_thought_is_part_of_what_was_said() {
        let parts = [Part::Thinking("12345".to_owned()), Part::Text("1234".to_owned())];
        assert_eq!(output(&parts), (3, 2));
        assert_eq!(output(&[]), (1, 0));
    }
}
