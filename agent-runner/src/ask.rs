//! Asking people in the middle of a turn: whether a tool may be used, or which of several things is to be
//! done. The provider waits, and goes on as if it was denied when nobody has decided in time.
//!
//! What is asked is a row that is committed at once, under an id that follows from the message, from what is
//! asked, and from how often that was asked in the turn before. So a later attempt that asks the same finds
//! the row, and perhaps its answer, and asks no second time.

use std::sync::mpsc::Sender;

use serde::Deserialize;
use serde_json::{Value, json};
use twobox_shared::clock::Monotonic;
use twobox_shared::content::digest;
use twobox_shared::ids::MessageId;
use twobox_shared::time::UnixMillis;

/// How the id of a row begins that asks, and is waited for.
const ROW: &str = "ask-";

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Asking {
    /// Whether a tool may be used with exactly these arguments, as people are shown them.
    Permission { tool: String, arguments: String },
    /// Which of several things, one a line.
    Question { question: String, choices: String },
}

impl Asking {
    /// The request to the host, by whoever waits `until` then.
    pub(crate) fn request(&self, until: UnixMillis) -> Value {
        let until = until.to_rfc3339();
        match self {
            Self::Permission { tool, arguments } => json!({
                "action": "ask_permission", "tool": tool, "arguments": arguments, "until": until,
            }),
            Self::Question { question, choices } => json!({
                "action": "ask", "question": question, "choices": choices, "until": until,
            }),
        }
    }

    /// The id of the row that asks this for the `nth` time in a turn for `message`.
    pub(crate) fn row(&self, message: &MessageId, nth: usize) -> MessageId {
        let (kind, first, second) = match self {
            Self::Permission { tool, arguments } => ("permission", tool, arguments),
            Self::Question { question, choices } => ("question", question, choices),
        };
        // As JSON, so that no part can be taken for another.
        let all = json!([message, kind, first, second, nth]).to_string();
        let id = format!("{ROW}{}", &digest(&all)[..32]);
        MessageId::parse(&id).expect("letters, digits and a hyphen")
    }

    /// What the person is asked about, for the display of what the agent does.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Permission { tool, .. } => tool,
            Self::Question { .. } => "a question",
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Whether the answer is yes, or one of the choices.
    pub(crate) ok: bool,
    /// What came of it, in a sentence.
    pub(crate) text: String,
}

impl Decision {
    /// A no, and why.
    pub(crate) fn no(text: impl Into<String>) -> Self {
        Self { ok: false, text: text.into() }
    }

    /// What the host answered to the request of `row`; `None` if this is something else.
    pub(crate) fn read(content: &str, row: &MessageId) -> Option<Self> {
        let Answer { text, request, ok } = serde_json::from_str(content).ok()?;
        (request == row.as_str()).then_some(Self { ok, text })
    }
}

/// An answer of the host.
#[derive(Deserialize)]
struct Answer {
    text: String,
    request: String,
    ok: bool,
}

/// Whether this is the host's answer to a row that a turn has waited for.
pub(crate) fn was_waited_for(content: &str) -> bool {
    serde_json::from_str(content).is_ok_and(|it: Answer| it.request.starts_with(ROW))
}

/// Something that was asked and is not answered.
#[derive(Debug)]
pub(crate) struct Open {
    /// The row that asks.
    pub(crate) row: MessageId,
    /// Where the answer goes.
    pub(crate) reply: Sender<Decision>,
    /// Until when it is waited for.
    pub(crate) until: Monotonic,
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::ids::{IdSource, SystemIds};

    fn id(text: &str) -> MessageId {
        MessageId::parse(text).unwrap()
    }

    #[test]
    fn the_same_question_has_the_same_row_in_every_attempt_and_no_other_has_it() {
        let permission = |tool: &str, arguments: &str| Asking::Permission {
            tool: tool.to_owned(),
            arguments: arguments.to_owned(),
        };
        let asked = permission("bash", "ls");
        assert_eq!(asked.row(&id("m"), 0), permission("bash", "ls").row(&id("m"), 0));
        let question = Asking::Question { question: "bash".into(), choices: "ls".into() };
        let others = [
            asked.row(&id("m"), 1),
            asked.row(&id("n"), 0),
            permission("bash", "ls ").row(&id("m"), 0),
            permission("bashl", "s").row(&id("m"), 0),
            question.row(&id("m"), 0),
        ];
        for other in others {
            assert_ne!(other, asked.row(&id("m"), 0));
        }
    }

    #[test]
    fn an_answer_is_one_to_the_row_that_asked() {
        let answer = r#"{"text":"A person allowed it.","request":"r","action":"ask_permission","ok":true,
                         "decision":{"status":"approved"}}"#;
        let yes = Decision { ok: true, text: "A person allowed it.".to_owned() };
        assert_eq!(Decision::read(answer, &id("r")), Some(yes));
        assert_eq!(Decision::read(answer, &id("other")), None);
        for bad in ["{}", "yes", r#"{"text":"x","request":"r"}"#] {
            assert_eq!(Decision::read(bad, &id("r")), None, "{bad}");
        }
        let to = |row: &str| format!(r#"{{"text":"no","request":"{row}","ok":false}}"#);
        let asked = Asking::Question { question: "q".into(), choices: "a".into() };
        assert!(was_waited_for(&to(asked.row(&id("m"), 0).as_str())));
        assert!(!was_waited_for(&to(&SystemIds.uuid().to_string())));
    }
}
