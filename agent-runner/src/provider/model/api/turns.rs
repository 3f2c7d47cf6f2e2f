//! A conversation as every API wants it: people and models take turns, each call has its result, and no
//! name of a call is there twice. What was said before is the same in each later request.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde_json::Value;
use twobox_shared::agent_config::Route;

use super::super::conversation::{Block, Item, Part, ToolCall};
use super::{Kind, fingerprint, unseen};

/// The longest name of a call that all take, in bytes (OpenAI's Chat is the strictest).
const ID_MAX: usize = 40;

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
pub(super) fn turns<'a>(items: &'a [Item], route: &Route) -> Vec<Turn<'a>> {
    let mut turns = Turns { turns: Vec::new(), open: Vec::new(), taken: HashSet::new() };
    for item in items {
        match item {
            Item::User { parts } => {
                turns.close(&[]);
                turns.user().1.extend(parts.iter().filter(|part| !is_blank(part)));
            }
            Item::Assistant { blocks } => {
                turns.close(&[]);
                turns.assistant(blocks, route);
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
    let empty = |turn: &Turn<'_>| matches!(turn, Turn::User { outcomes, parts } if outcomes.is_empty() && parts.is_empty());
    turns.turns.retain(|turn| !empty(turn));
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

    fn assistant(&mut self, blocks: &'a [Block], route: &Route) {
        let mut spoken = Vec::new();
        for block in blocks {
            match block {
                Block::Text { text } if text.trim().is_empty() => {} // refused by some
                Block::Text { text } => spoken.push(Spoken::Text(text)),
                Block::Call(call) => {
                    let id = self.name(&call.id);
                    self.open.push((&call.id, id.clone()));
                    spoken.push(Spoken::Call { id, call });
                }
                Block::Opaque { api, from, value } if *api == route.api && *from == route.name => {
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
        let fit = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-');
        let mut name: Cow<'a, str> = match !own.is_empty() && own.len() <= ID_MAX {
            true if own.bytes().all(fit) => Cow::Borrowed(own),
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

fn is_blank(part: &Part) -> bool {
    matches!(part, Part::Text { text } if text.trim().is_empty())
}
