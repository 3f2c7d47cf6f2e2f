//! What the next turn finds of a conversation with Codex: its thread, and the last turn in it that counts.

use std::fmt;

/// How the text begins, by which it is told from those of other providers.
const KIND: &str = "codex";

/// In place of a thread where a conversation begins anew.
const NONE: &str = "-";

/// A point in a thread of Codex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    /// The thread.
    pub(super) thread: String,
    /// The last of its turns that was committed.
    pub(super) turn: String,
}

/// Where a conversation goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Continuation {
    /// In a new thread.
    Anew,
    /// Behind this point.
    After(Point),
}

impl Continuation {
    /// Reads what [`fmt::Display`] writes; `None` for what another provider has left.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split('/');
        let (kind, thread, turn) = (words.next()?, words.next()?, words.next());
        let plain = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        };
        match (kind, thread, turn, words.next()) {
            (KIND, NONE, None, None) => Some(Self::Anew),
            (KIND, thread, Some(turn), None) if plain(thread) && plain(turn) => {
                Some(Self::After(Point { thread: thread.to_owned(), turn: turn.to_owned() }))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anew => write!(f, "{KIND}/{NONE}"),
            Self::After(Point { thread, turn }) => write!(f, "{KIND}/{thread}/{turn}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continuation_is_read_as_it_was_written_and_no_other() {
        let point = Point { thread: "01a2-b".to_owned(), turn: "01a2-c".to_owned() };
        for continuation in [Continuation::Anew, Continuation::After(point)] {
            assert_eq!(Continuation::parse(&continuation.to_string()), Some(continuation));
        }
        for other in ["", "codex", "codex/a", "codex/a/b/c", "codex/../x", "1/2", "codex//a"] {
            assert_eq!(Continuation::parse(other), None, "{other}");
        }
    }
}
