//! A conversation as every API wants it: people and models take turns, each call has its result, and no
//! name of a call is there twice. What was said before is the same in each later request.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde_json::Value;
use twobox_shared::agent_config::{Api, ModelName, Route};

use super::super::conversation::{Block, Item, Part, ToolCall};
use super::{Kind, Quirks, fingerprint, unseen};

/// The longest name of a call that all take, in bytes (OpenAI's Chat is the strictest).
const ID_MAX: usize = 40;

/// The longest name of a tool that all take, in bytes.
const TOOL_MAX: usize = 64;

/// What stands for a result of which nothing is known: a call must not be left without one.
const UNKNOWN: &str = "It is not known what became of this call: it was interrupted.";

/// What a tool said that said nothing.
const NOTHING: &str = "(no output)";

/// A turn of one side.
#[derive(Debug, PartialEq)]
pub(super) enum Turn<'a> {
    /// What became of the calls before, then what was said.
    User { outcomes: Vec<Outcome<'a>>, parts: Vec<&'a Part> },
    /// What the model said. Words or a call at least.
    Assistant(Vec<Spoken<'a>>),
}

/// What became of a call.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome<'a> {
    /// The name of the call in this request.
    pub(super) id: Cow<'a, str>,
    /// What the tool said; `None` if it is not known.
    pub(super) parts: Option<&'a [Part]>,
    /// Whether it failed.
    pub(super) failed: bool,
}

/// A part of what a model said.
#[derive(Debug, PartialEq)]
pub(super) enum Spoken<'a> {
    Text(&'a str),
    Call {
        /// Its name in this request.
        id: Cow<'a, str>,
        /// The tool, as every API takes its name.
        tool: Cow<'a, str>,
        call: &'a ToolCall,
    },
    /// The model's own.
    Opaque(&'a Value),
}

impl<'a> Outcome<'a> {
    /// What of it is words or pictures, without words that are none.
    pub(super) fn shown(&self) -> impl Iterator<Item = &'a Part> + use<'a> {
        self.parts.unwrap_or_default().iter().filter(|part| !is_blank(part))
    }

    /// What is said where nothing is shown.
    pub(super) fn otherwise(&self) -> &'static str {
        self.parts.map_or(UNKNOWN, |_| NOTHING)
    }
}

/// An outcome for an API that has no mark for failures, and takes words alone.
pub(super) struct InWords<'a> {
    pub(super) outcome: Outcome<'a>,
    /// Whether its pictures follow.
    pub(super) follow: bool,
}

impl serde::Serialize for InWords<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.outcome.failed {
            f.write_str("Failed: ")?;
        }
        let mut first = true;
        for part in self.outcome.shown() {
            if !std::mem::take(&mut first) {
                f.write_str("\n")?;
            }
            match part {
                Part::Text { text } => f.write_str(text)?,
                Part::Media { name, media_type, .. } => {
                    match Kind::of(media_type, self.follow, false) {
                        Kind::Image => write!(f, "[{name} follows.]")?,
                        Kind::Pdf | Kind::Unseen => f.write_str(&unseen(name, media_type))?,
                    }
                }
            }
        }
        match first {
            true => f.write_str(self.outcome.otherwise()),
            false => Ok(()),
        }
    }
}

/// `items` in turns, for the model at the end of `route`.
pub(super) fn turns<'a>(items: &'a [Item], route: &Route, quirks: Quirks) -> Vec<Turn<'a>> {
    let mut turns = Turns { turns: Vec::new(), open: Vec::new(), taken: HashSet::new() };
    let own =
        |api: &Api, from: &ModelName| !quirks.no_opaque && *api == route.api && *from == route.name;
    for item in items {
        match item {
            Item::User { parts } => {
                turns.close(&[]);
                for part in parts.iter().filter(|part| !is_blank(part)) {
                    turns.user().1.push(part);
                }
            }
            Item::Assistant { blocks } => {
                turns.close(&[]);
                turns.assistant(blocks, &own);
            }
            Item::Results { results } => {
                let known: Vec<_> = results
                    .iter()
                    .map(|result| (&*result.call, &*result.parts, result.failed))
                    .collect();
                turns.close(&known);
            }
        }
    }
    turns.close(&[]);
    turns.turns
}

struct Turns<'a> {
    turns: Vec<Turn<'a>>,
    /// The calls without a result: their own names, and those in this request.
    open: Vec<(&'a str, Cow<'a, str>)>,
    /// The names that are given away.
    taken: HashSet<Cow<'a, str>>,
}

impl<'a> Turns<'a> {
    /// The turn of people that is going on, or a new one.
    fn user(&mut self) -> (&mut Vec<Outcome<'a>>, &mut Vec<&'a Part>) {
        if !matches!(self.turns.last(), Some(Turn::User { .. })) {
            self.turns.push(Turn::User { outcomes: Vec::new(), parts: Vec::new() });
        }
        match self.turns.last_mut() {
            Some(Turn::User { outcomes, parts }) => (outcomes, parts),
            _ => unreachable!("it was just pushed"),
        }
    }

    fn assistant(&mut self, blocks: &'a [Block], own: &dyn Fn(&Api, &ModelName) -> bool) {
        let mut spoken = Vec::new();
        for block in blocks {
            match block {
                Block::Text { text } if text.trim().is_empty() => {} // refused by some
                Block::Text { text } => spoken.push(Spoken::Text(text)),
                Block::Call(call) => {
                    let id = self.name(&call.id);
                    self.open.push((&call.id, id.clone()));
                    spoken.push(Spoken::Call { id, tool: tool(&call.name), call });
                }
                Block::Opaque { api, from, value } if own(api, from) => {
                    spoken.push(Spoken::Opaque(value));
                }
                Block::Opaque { .. } => {} // another's
            }
        }
        // Thoughts alone are no turn: the answer was cut in them.
        if spoken.iter().all(|it| matches!(it, Spoken::Opaque(_))) {
            return;
        }
        match self.turns.last_mut() {
            Some(Turn::Assistant(before)) => before.extend(spoken),
            _ => self.turns.push(Turn::Assistant(spoken)),
        }
    }

    /// Gives each open call its result of `known`, or says that nothing is known of it.
    fn close(&mut self, known: &[(&'a str, &'a [Part], bool)]) {
        let mut used = vec![false; known.len()];
        for (own, id) in std::mem::take(&mut self.open) {
            let found = (0..known.len()).find(|&at| !used[at] && known[at].0 == own);
            let outcome = match found {
                Some(at) => {
                    used[at] = true;
                    Outcome { id, parts: Some(known[at].1), failed: known[at].2 }
                }
                None => Outcome { id, parts: None, failed: true },
            };
            self.user().0.push(outcome);
        }
    }

    /// A name for a call that every API takes, and that no other call has.
    fn name(&mut self, own: &'a str) -> Cow<'a, str> {
        let mut name: Cow<'a, str> = match !own.is_empty() && own.len() <= ID_MAX {
            true if own.chars().all(is_fit) => Cow::Borrowed(own),
            _ => Cow::Owned(format!("call_{:016x}", fingerprint([own]))),
        };
        let mut again = 1;
        while !self.taken.insert(name.clone()) {
            again += 1;
            name = Cow::Owned(format!("call_{:016x}_{again}", fingerprint([own])));
        }
        name
    }
}

/// A name of a tool that every API takes. Models call tools that are none, by names that are none, and a
/// request with such a name would be refused for good.
fn tool(own: &str) -> Cow<'_, str> {
    match own.is_empty() || own.len() > TOOL_MAX || !own.chars().all(is_fit) {
        false => Cow::Borrowed(own),
        true if own.is_empty() => Cow::Borrowed("unnamed"),
        true => {
            let fit = |c| if is_fit(c) { c } else { '_' };
            Cow::Owned(own.chars().take(TOOL_MAX).map(fit).collect())
        }
    }
}

/// Whether all APIs take this in a name.
const fn is_fit(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

fn is_blank(part: &Part) -> bool {
    matches!(part, Part::Text { text } if text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{call, opaque, result, route, user, words};
    use super::*;
    use serde_json::json;

    /// A conversation of what may go wrong in one: results that are missing, or of nothing, names that
    /// are there twice or are none, people who speak twice, answers that are empty. `seed` chooses.
    fn conversation(mut seed: u64) -> Vec<Item> {
        let mut choose = |among: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % among
        };
        let ids = ["a", "b", "", "two words", "a-name-that-is-longer-than-any-api-would-ever-take"];
        let mut items = vec![user("first")];
        for _ in 0..choose(12) {
            let id = |number: u64| ids[usize::try_from(number).unwrap()];
            items.push(match choose(4) {
                0 => user(["more", "  "][usize::try_from(choose(2)).unwrap()]),
                1 => Item::Results {
                    results: (0..choose(3)).map(|_| result(id(choose(5)), "ok")).collect(),
                },
                _ => Item::Assistant {
                    blocks: (0..choose(4))
                        .map(|_| match choose(4) {
                            0 => words("said"),
                            1 => opaque(Api::Messages, "up/some-model", json!({})),
                            _ => call(id(choose(5)), "bash", json!({})),
                        })
                        .collect(),
                },
            });
        }
        items
    }

    #[test]
    fn a_tool_has_a_name_that_every_api_takes() {
        let long = "x".repeat(TOOL_MAX + 1);
        let cases = [
            ("read_file", "read_file"),
            ("functions.bash", "functions_bash"),
            ("", "unnamed"),
            ("two words é", "two_words__"),
            (&long, &long[1..]),
        ];
        for (own, expected) in cases {
            assert_eq!(tool(own), expected);
        }
        for api in [Api::Messages, Api::Responses, Api::Chat] {
            let blocks = vec![call("1", "functions.bash", json!({}))];
            let items = [user("a"), Item::Assistant { blocks }, user("b")];
            let body = super::super::samples::body(&route(api), Quirks::default(), &items);
            let body = body.to_string();
            assert!(body.contains(r#""functions_bash""#), "{body}");
            assert!(!body.contains("functions.bash"), "{body}");
        }
    }

    #[test]
    fn any_conversation_is_one_that_every_api_takes() {
        let route = route(Api::Messages);
        for seed in 0..2000 {
            let items = conversation(seed);
            let turns = turns(&items, &route, Quirks::default());
            let mut ids = HashSet::new();
            for (at, turn) in turns.iter().enumerate() {
                let people = at % 2 == 0;
                assert_eq!(matches!(turn, Turn::User { .. }), people, "{seed}: they take turns");
                let Turn::Assistant(spoken) = turn else { continue };
                let calls: Vec<_> = spoken
                    .iter()
                    .filter_map(|it| match it {
                        Spoken::Call { id, .. } => Some(&**id),
                        Spoken::Text(_) | Spoken::Opaque(_) => None,
                    })
                    .collect();
                assert!(calls.iter().all(|id| ids.insert(*id) && id.len() <= ID_MAX), "{seed}");
                let results: Vec<_> = match turns.get(at + 1) {
                    Some(Turn::User { outcomes, .. }) => {
                        outcomes.iter().map(|it| &*it.id).collect()
                    }
                    _ => Vec::new(),
                };
                assert_eq!(calls, results, "{seed}: each call has its result");
            }
        }
    }

    #[test]
    fn what_was_said_before_is_the_same_in_every_later_request() {
        let route = route(Api::Messages);
        for seed in 0..500 {
            let items = conversation(seed);
            let all = turns(&items, &route, Quirks::default());
            for length in 1..items.len() {
                let mut before = turns(&items[..length], &route, Quirks::default());
                before.pop(); // the turn that may still go on
                assert_eq!(before[..], all[..before.len()], "{seed}, {length} of {}", items.len());
            }
        }
    }
}
