//! What the stand-in is to answer: a [`Script`] of rules and a queue, each of [`Step`]s.
//!
//! A request is answered by the first rule that fits what was said last in it, else by the next step of
//! the queue, else by [`Step::default`], which repeats what was said. All of it can be written in JSON
//! too, for tests in other processes.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What to answer, and when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Asked before the queue, in their order.
    pub rules: Vec<Rule>,
    /// Each step answers one request.
    pub queue: VecDeque<Step>,
}

/// A step for the requests that it fits. What is left out fits all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Part of the text that a person said last, while the model has said nothing since.
    pub text: Option<String>,
    /// Part of a result of a tool that was said last.
    pub result: Option<String>,
    /// The model that is asked.
    pub model: Option<String>,
    /// For so many requests; for all if it is left out.
    pub times: Option<u32>,
    /// What it answers.
    pub step: Step,
}

/// One answer. What is left out in JSON is as in [`Step::default`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// A refusal, instead of everything else.
    pub refuse: Option<Refusal>,
    /// What the model says, in order. Nothing is an empty answer.
    pub say: Vec<Part>,
    /// It stops because the answer is too long.
    pub length: bool,
    /// How many characters are streamed at once. All of a part if it is 0.
    pub piece: usize,
    /// The pause before each piece, in milliseconds.
    pub pause_ms: u64,
    /// The answer comes byte for byte, with the pause before each.
    pub drip: bool,
    /// What happens on the way.
    pub trouble: Option<Trouble>,
}

/// What a model says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Reasoning, signed or encrypted. It has to come back unchanged with the results of the tools that
    /// are called in the same answer.
    Thinking(String),
    /// Text. `{text}` is what was said last by a person, `{digest}` the SHA-256 of the request's body.
    Text(String),
    /// A call of a tool.
    Call {
        /// The tool's name.
        name: String,
        /// Its arguments. A text is taken as it is, also where it is no JSON.
        arguments: Value,
    },
}

/// A status with the vendor's error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The status code, from 400 on.
    pub status: u16,
    /// The header `retry-after`, in seconds.
    #[serde(default)]
    pub retry_after: Option<u32>,
    /// What the error says, if not what is usual for the status.
    #[serde(default)]
    pub message: Option<String>,
}

/// What happens to an answer after so many bytes of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The connection breaks off.
    Cut(usize),
    /// The body ends properly, as a gateway ends it whose upstream has died.
    Short(usize),
    /// Nothing more comes until it is released.
    Stall(usize),
    /// An error, as an event of the stream. It comes when the event is over in which the bytes end. What
    /// is not streamed is refused with 529 or 500 instead.
    Error(usize),
}

impl Default for Step {
    fn default() -> Self {
        Self::text("you said: {text}")
    }
}

impl Step {
    /// An answer with nothing in it.
    pub fn empty() -> Self {
        Self {
            refuse: None,
            say: Vec::new(),
            length: false,
            piece: 0,
            pause_ms: 0,
            drip: false,
            trouble: None,
        }
    }

    /// Says a text.
    pub fn text(text: &str) -> Self {
        Self::empty().and(Part::Text(text.to_owned()))
    }

    /// Calls a tool.
    pub fn call(name: &str, arguments: Value) -> Self {
        Self::empty().and_call(name, arguments)
    }

    /// Thinks first.
    pub fn thinking(text: &str) -> Self {
        Self::empty().and(Part::Thinking(text.to_owned()))
    }

    /// Says the SHA-256 of the request's body, in hexadecimal digits.
    pub fn digest() -> Self {
        Self::text("{digest}")
    }

    /// Refuses with this status and the vendor's error.
    pub fn refuse(status: u16) -> Self {
        let refuse = Some(Refusal { status, retry_after: None, message: None });
        Self { refuse, ..Self::empty() }
    }

    /// Refuses with 429 and asks for a pause of so many seconds.
    pub fn rate_limited(retry_after: u32) -> Self {
        let refuse = Some(Refusal { status: 429, retry_after: Some(retry_after), message: None });
        Self { refuse, ..Self::empty() }
    }

    /// Says this too.
    #[must_use]
    pub fn and(mut self, part: Part) -> Self {
        self.say.push(part);
        self
    }

    /// Says a text too.
    #[must_use]
    pub fn and_text(self, text: &str) -> Self {
        self.and(Part::Text(text.to_owned()))
    }

    /// Calls a tool too.
    #[must_use]
    pub fn and_call(self, name: &str, arguments: Value) -> Self {
        self.and(Part::Call { name: name.to_owned(), arguments })
    }

    /// Streams so many characters at once.
    #[must_use]
    pub fn in_pieces(self, characters: usize) -> Self {
        Self { piece: characters, ..self }
    }

    /// Pauses before each piece.
    #[must_use]
    pub fn with_pauses(self, pause_ms: u64) -> Self {
        Self { pause_ms, ..self }
    }

    /// Comes byte for byte.
    #[must_use]
    pub fn dripping(self, pause_ms: u64) -> Self {
        Self { drip: true, pause_ms, ..self }
    }

    /// Stops because the answer is too long.
    #[must_use]
    pub fn too_long(self) -> Self {
        Self { length: true, ..self }
    }

    /// Has this happen on the way.
    #[must_use]
    pub fn with(self, trouble: Trouble) -> Self {
        Self { trouble: Some(trouble), ..self }
    }
}

/// What was said last in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// The model that is asked.
    pub model: String,
    /// What a person said last, wherever that is.
    pub text: String,
    /// Whether the model has said nothing since.
    pub text_is_new: bool,
    /// The results of tools that stand at the end.
    pub results: Vec<String>,
}

impl Rule {
    /// A rule for requests in which a person says this last.
    pub fn text(text: &str, step: Step) -> Self {
        Self { text: Some(text.to_owned()), step, ..Self::default() }
    }

    /// A rule for requests in which a tool says this last.
    pub fn result(result: &str, step: Step) -> Self {
        Self { result: Some(result.to_owned()), step, ..Self::default() }
    }

    /// The same, for so many requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    fn fits(&self, newest: &Newest) -> bool {
        self.times != Some(0)
            && self.model.as_ref().is_none_or(|model| *model == newest.model)
            && self
                .text
                .as_ref()
                .is_none_or(|text| newest.text_is_new && newest.text.contains(text.as_str()))
            && self.result.as_ref().is_none_or(|part| {
                newest.results.iter().any(|result| result.contains(part.as_str()))
            })
    }
}

impl Script {
    /// The step that answers a request, which uses it up; `None` where nothing is left that fits.
    pub fn next(&mut self, newest: &Newest) -> Option<Step> {
        if let Some(rule) = self.rules.iter_mut().find(|rule| rule.fits(newest)) {
            rule.times = rule.times.map(|times| times - 1);
            return Some(rule.step.clone());
        }
        self.queue.pop_front()
    }

    /// Adds what another says, behind what is here.
    pub fn extend(&mut self, other: Self) {
        self.rules.extend(other.rules);
        self.queue.extend(other.queue);
    }
}

impl From<Vec<Step>> for Script {
    fn from(steps: Vec<Step>) -> Self {
        Self { rules: Vec::new(), queue: steps.into() }
    }
}

impl From<Step> for Script {
    fn from(step: Step) -> Self {
        vec![step].into()
    }
}

impl From<Rule> for Script {
    fn from(rule: Rule) -> Self {
        Self { rules: vec![rule], queue: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, results: &[&str]) -> Newest {
        let results: Vec<String> = results.iter().map(|&result| result.to_owned()).collect();
        let text_is_new = results.is_empty();
        Newest { model: "m".to_owned(), text: text.to_owned(), text_is_new, results }
    }

    #[test]
    fn a_rule_that_fits_comes_before_the_queue_and_the_queue_before_the_default() {
        let mut script = Script {
            rules: vec![
                Rule::text("weather", Step::call("look", Value::Null)).times(1),
                Rule::result("rain", Step::text("take a coat")),
            ],
            queue: vec![Step::text("first")].into(),
        };
        let cases = [
            ("a rule", said("the weather?", &[]), Step::call("look", Value::Null)),
            ("a result", said("the weather?", &["rain"]), Step::text("take a coat")),
            ("a rule that is used up", said("the weather?", &[]), Step::text("first")),
            ("an empty queue", said("the weather?", &[]), Step::default()),
        ];
        for (case, newest, expected) in cases {
            assert_eq!(script.next(&newest).unwrap_or_default(), expected, "{case}");
        }
    }

    #[test]
    fn a_script_can_be_written_down() {
        let text = r#"{"queue":[{"say":[{"text":"a"},{"call":{"name":"b","arguments":{}}}],"trouble":{"cut":9}},
            {"refuse":{"status":429,"retry_after":1}}],"rules":[{"result":"x","step":{}}]}"#;
        let script: Script = serde_json::from_str(text).unwrap();
        let call = Value::Object(serde_json::Map::new());
        assert_eq!(script.queue[0], Step::text("a").and_call("b", call).with(Trouble::Cut(9)));
        assert_eq!(script.queue[1].refuse, Step::rate_limited(1).refuse);
        assert!(serde_json::from_str::<Script>(r#"{"queu":[]}"#).is_err());
    }
}
