//! What becomes of something that was said, for one agent that listens there.

use super::{Engage, Manner, PeopleWord, Senders, Standing};
use crate::approval::{has_form_of_answer, is_number};
use crate::chat_word::ChatWord;

/// What a text has the form of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A message.
    Text,
    /// A word to the host, or to the agent by its name for itself: it means whoever listens.
    Word,
    /// Perhaps an answer to something that was asked, with its code.
    Answer,
    /// A number, which answers what was asked, or else is a message like any other.
    Number,
}

/// What `text` has the form of.
pub fn form(text: &str) -> Form {
    let is_word = ChatWord::of(text).is_some() || PeopleWord::of(text).is_some();
    if is_word || text.trim().eq_ignore_ascii_case("/new") {
        Form::Word
    } else if is_number(text) {
        Form::Number
    } else if has_form_of_answer(text) {
        Form::Answer
    } else {
        Form::Text
    }
}

/// What was said, as far as it matters who is meant.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// The id of whoever said it, if the channel has one.
    pub sender: Option<&'a str>,
    /// Whether it was said among several. Where the channel does not say, it was not.
    pub group: bool,
    /// Whether it names the agent.
    pub mentioned: bool,
    /// What it has the form of.
    pub form: Form,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It starts a turn, or is carried out.
    Trigger,
    /// The agent knows it when its next turn comes. If it answers what was asked, it does that.
    Context,
    /// The agent never knows it.
    Unheard(Why),
}

/// Why something is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Whoever said it is blocked.
    Blocked,
    /// Whoever said it is a stranger, and may be told a code.
    MayPair,
    /// Whoever said it is a stranger, and is told nothing.
    Stranger,
    /// The channel does not say who said it.
    Nameless,
}

/// Decides about what was said by somebody of this standing for an agent whose wiring says `engage`.
pub fn hear(manner: &Manner, standing: Standing, engage: Option<Engage>, said: &Said<'_>) -> Heard {
    match admitted(&manner.senders, standing, said) {
        Err(why) => Heard::Unheard(why),
        Ok(()) if is_meant(engage.unwrap_or(manner.engage), said) => Heard::Trigger,
        Ok(()) => Heard::Context,
    }
}

/// Whether whoever said it is heard.
fn admitted(senders: &Senders, standing: Standing, said: &Said<'_>) -> Result<(), Why> {
    match (standing, senders, said.sender) {
        (Standing::Blocked, ..) => Err(Why::Blocked),
        (Standing::Operator | Standing::Has(_), ..) | (_, Senders::Open, _) => Ok(()),
        (Standing::Stranger, _, None) => Err(Why::Nameless),
        (Standing::Stranger, Senders::Listed(ids), Some(sender)) if ids.contains(sender) => Ok(()),
        // What is told in a group is told to all who are there, and asks each of them to answer a stranger.
        (Standing::Stranger, Senders::Known, Some(_)) if !said.group => Err(Why::MayPair),
        (Standing::Stranger, Senders::Known | Senders::Members | Senders::Listed(_), Some(_)) => {
            Err(Why::Stranger)
        }
    }
}

/// Whether the agent is meant.
fn is_meant(engage: Engage, said: &Said<'_>) -> bool {
    match (said.group, said.form, engage) {
        (false, ..) | (true, Form::Word, _) | (true, _, Engage::Always) => true,
        (true, _, Engage::Mention) => said.mentioned,
        (true, _, Engage::Context) => false,
    }
}

#[cfg(test)]
#[path = "hearing_tests.rs"]
mod tests;
