//! What the recording agent says, and models that do what they are told: each text names the message that
//! it is about and its own place in the order in which the agent has said it. One that is about several
//! messages has a line for each.

use std::fmt;
use std::str::FromStr;

/// How the prompt of a task begins, before the id of the message that asked for it.
pub const TASK_OF: &str = "task of ";

/// What a saying is to its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Saying {
    /// Sent in the middle of a turn.
    Note,
    /// The reply.
    Answer,
}

impl Saying {
    const fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Answer => "answer",
        }
    }
}

/// One thing that the recording agent has said, as the text of a message:
/// `answer <message> <turn>.<number>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What it is.
    pub saying: Saying,
    /// The message that it is about.
    pub message: String,
    /// The turn that said it; see [`super::Record::Started`].
    pub turn: u64,
    /// Its number in that turn. Notes come before answers, as their rows do.
    pub number: u32,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { saying, message, turn, number } = self;
        write!(f, "{} {message} {turn}.{number}", saying.word())
    }
}

impl Said {
    /// All that a text says; nothing if it is not the recording agent's.
    pub fn all(text: &str) -> Vec<Self> {
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Whether `text` answers `message`.
    pub fn answers(text: &str, message: &str) -> bool {
        Self::all(text).iter().any(|it| it.saying == Saying::Answer && it.message == message)
    }
}

/// The text was not the recording agent's: a notice of the host, for instance.
#[derive(Debug, PartialEq, Eq)]
pub struct NotSaid;

impl FromStr for Said {
    type Err = NotSaid;

    fn from_str(text: &str) -> Result<Self, NotSaid> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [word, message, order] = parts[..] else { return Err(NotSaid) };
        let saying = [Saying::Note, Saying::Answer].into_iter().find(|it| it.word() == word);
        let (turn, number) = order.split_once('.').ok_or(NotSaid)?;
        Ok(Self {
            saying: saying.ok_or(NotSaid)?,
            message: message.to_owned(),
            turn: turn.parse().map_err(|_| NotSaid)?,
            number: number.parse().map_err(|_| NotSaid)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_read_back_and_other_texts_are_not_taken_for_it() {
        let said = Said { saying: Saying::Note, message: "m-1".to_owned(), turn: 77, number: 2 };
        assert_eq!(said.to_string(), "note m-1 77.2");
        assert_eq!(said.to_string().parse(), Ok(said.clone()));
        let several = "a notice\nanswer m-1 77.1\nanswer m-2 77.2";
        assert_eq!(Said::all(several).len(), 2);
        assert!(Said::answers(several, "m-2") && !Said::answers(several, "m-3"));
        assert!(!Said::answers(&said.to_string(), "m-1"), "a note is none");
        for other in ["", "answer", "note m-1", "note m-1 77", "answer m-1 x.y", "echo m-1 1.1"] {
            assert_eq!(other.parse::<Said>(), Err(NotSaid), "{other}");
        }
    }
}
