//! What a person types at the terminal: something to say, or a word to the program itself.

/// What a person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    /// Nothing: there is only white space.
    Nothing,
    /// To say this.
    Say(String),
    /// To know what can be typed.
    Help,
    /// To leave.
    Quit,
    /// To have the agent stop what it is at.
    Stop,
    /// A word to the program that it does not know.
    Unknown(String),
}

/// What [`Typed::Help`] shows.
pub(super) const HELP: &str = "/help   this
/stop   have the agent stop what it is at; once more if it does not obey
/status what the agent is at, what waits, and what was used today
/new    begin a new conversation, with an agent that a model answers
/quit   leave, as Ctrl-D does
Enter sends, Alt-Enter begins another line, and what is pasted keeps its lines. What begins with // is
sent with one slash. Up and down find what was typed before.";

/// Reads what was typed. A path such as /etc/hosts is something to say.
pub(super) fn read(line: &str) -> Typed {
    let trimmed = line.trim();
    let Some(word) = trimmed.strip_prefix('/') else {
        return match trimmed.is_empty() {
            true => Typed::Nothing,
            false => Typed::Say(line.to_owned()),
        };
    };
    match word {
        "help" | "?" => Typed::Help,
        "quit" | "exit" => Typed::Quit,
        "stop" => Typed::Stop,
        "status" | "new" => Typed::Say(line.to_owned()), // the host's and the agent's to read
        _ if word.starts_with('/') => Typed::Say(line.replacen('/', "", 1)),
        _ => {
            let first = word.split(char::is_whitespace).next().unwrap_or_default();
            match !first.is_empty() && first.chars().all(char::is_alphanumeric) {
                true => Typed::Unknown(format!("/{first}")),
                false => Typed::Say(line.to_owned()),
            }
        }
    }
}

/// How one who typed an unknown word is helped.
pub(super) fn explain(word: &str) -> String {
    format!("there is no {word}: /help shows what there is; to say it to the agent, type /{word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_to_the_program_is_told_from_what_is_said() {
        let say = |text: &str| Typed::Say(text.to_owned());
        let cases = [
            ("", Typed::Nothing),
            (" \n\t", Typed::Nothing),
            ("hi", say("hi")),
            ("  indented\n", say("  indented\n")),
            ("what does /help do?", say("what does /help do?")),
            ("/help", Typed::Help),
            (" /quit ", Typed::Quit),
            ("/exit", Typed::Quit),
            ("/stop", Typed::Stop),
            ("/status", say("/status")),
            ("/new", say("/new")),
            ("/stpo", Typed::Unknown("/stpo".to_owned())),
            ("/stop it", Typed::Unknown("/stop".to_owned())),
            ("/etc/hosts is odd", say("/etc/hosts is odd")),
            ("/ alone", say("/ alone")),
            ("/-)", say("/-)")),
            ("//stop", say("/stop")),
            ("//etc", say("/etc")),
        ];
        for (typed, expected) in cases {
            assert_eq!(read(typed), expected, "{typed:?}");
        }
        assert!(explain("/stpo").contains("//stpo"));
    }
}
