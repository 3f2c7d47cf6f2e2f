//! Words that a person says in a chat to the host, and not to the agent: `/stop`. Whoever may speak there may
//! say them. What is not one of them, as it stands, is the agent's to read.

crate::words! {
    /// A word to the host.
    ChatWord {
        /// Ends what the agent is at.
        Stop = "stop",
        /// Says what the agent is at, what waits, and what was used.
        Status = "status",
        /// Says which words there are.
        Help = "help",
    }
}

impl ChatWord {
    /// The word that `text` is, if it is one and nothing else.
    pub fn of(text: &str) -> Option<Self> {
        let word = text.trim().strip_prefix('/')?;
        Self::ALL.iter().copied().find(|known| word.eq_ignore_ascii_case(known.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_word_is_the_hosts() {
        let cases = [
            ("/stop", Some(ChatWord::Stop)),
            (" /Status\n", Some(ChatWord::Status)),
            ("/help", Some(ChatWord::Help)),
            ("/stop it", None),
            ("/stopp", None),
            ("//stop", None),
            ("stop", None),
            ("/new", None),
            ("/", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(ChatWord::of(text), expected, "{text:?}");
        }
    }
}
