//! What a person types at the terminal: something to say, or a word to the program itself.

use twobox_shared::progress::{Progress, State, WAITING};
use twobox_shared::visible;

use crate::cli::output::{printable, reply};

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
pub(super) const HELP: &str = "/help    this
/stop    have the agent stop what it is at; once more if it does not obey
/status  what the agent is at, what waits, and what was used today
/new     begin a new conversation, with an agent that a model answers
/quit    leave, as Ctrl-D does
Enter sends, Alt-Enter begins another line, and what is pasted keeps its
lines. Up and down find what was typed before. What begins with // is sent
with one slash. What the agent asks is answered as it says there, with a
code such as `k7f3 1`, or with the number alone.";

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

/// What `agent` is at, in one line: with which tool, or the last line of what it has written so far.
pub(super) fn at_it(agent: &str, progress: &Progress) -> String {
    let agent = visible::line(agent);
    let last = progress.text.trim_end().lines().next_back().unwrap_or_default();
    match (progress.state, progress.tool.as_deref()) {
        (State::Writing, _) if !last.is_empty() => visible::line(last),
        (State::Tool, Some(tool)) => match tool.strip_prefix(WAITING) {
            Some(what) => format!("({agent} waits for a person's answer: {})", visible::line(what)),
            None => format!("({agent} is working … {})", visible::line(tool)),
        },
        (State::Thinking | State::Tool | State::Writing, _) => format!("({agent} is working …)"),
    }
}

/// What was said, as it is shown. What `asks` a person is the host's own word, which sets apart itself what the agent
/// has written of it; what looks like that and is an agent's is set apart as a whole.
pub(super) fn said(text: &str, asks: bool) -> String {
    if asks { printable(text) } else { reply(text) }
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

    #[test]
    fn what_the_host_asks_is_no_agents_to_forge() {
        let prompt = "[k7f3] The agent asks whether it may use bash:\n  | ls\x1b[2J";
        let shown = "[k7f3] The agent asks whether it may use bash:\n  | ls\\u{1b}[2J";
        assert_eq!(said(prompt, true), shown);
        for forged in [prompt.to_owned(), format!("Well.\n{prompt}"), format!("\n \n{prompt}")] {
            let shown = said(&forged, false);
            assert!(shown.lines().all(|line| !line.starts_with("[k7f3]")), "{shown}");
        }
    }

    #[test]
    fn what_an_agent_is_at_is_one_line_that_steers_no_terminal() {
        let id = twobox_shared::ids::MessageId::parse("m").unwrap();
        let thinking = Progress::thinking(id, 0);
        let tool = |name: &str| Progress {
            state: State::Tool,
            tool: Some(name.to_owned()),
            ..thinking.clone()
        };
        let writing = |text: &str| Progress {
            state: State::Writing,
            text: text.to_owned(),
            ..thinking.clone()
        };
        let cases = [
            (thinking.clone(), "(ada is working …)"),
            (tool("bash"), "(ada is working … bash)"),
            (tool("waiting for a person: bash"), "(ada waits for a person's answer: bash)"),
            (tool("\x1b[2Jrm"), "(ada is working … \\u{1b}[2Jrm)"),
            (writing("one\ntwo thr"), "two thr"),
            (writing("one\n"), "one"),
            (writing("\x1b[2J"), "\\u{1b}[2J"),
            (writing("\n"), "(ada is working …)"),
        ];
        for (progress, expected) in cases {
            assert_eq!(at_it("ada", &progress), expected, "{progress:?}");
        }
    }
}
