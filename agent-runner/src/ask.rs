//! Asking people in the middle of a turn: whether a tool may be used, or which of several things is to be
//! done. The provider waits, and goes on as if it was denied when nobody has decided in time.
//!
//! What is asked is a row that is committed at once, under an id that follows from the message, from what is
//! asked, and from how often that was asked in the turn before. So a later attempt that asks the same finds
//! the row, and perhaps its answer, and asks no second time. A yes is used once: that it is used is durable
//! before anything is done, and an attempt that finds it used asks anew, and says so.

use std::fmt::Write;
use std::sync::mpsc::Sender;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use twobox_shared::bounds;
use twobox_shared::clock::Monotonic;
use twobox_shared::content::digest;
use twobox_shared::ids::MessageId;
use twobox_shared::time::UnixMillis;
use twobox_shared::visible;

/// How the id of a row begins that asks, and is waited for.
const ROW: &str = "ask-";

/// What people are told of what they have allowed to an attempt that is gone.
const AGAIN: &str =
    "(This was allowed before, to an attempt that broke off: it may have been done already.)\n";

/// The longest arguments that people are asked about, in bytes: with [`AGAIN`] they are as long as may be.
pub(crate) const ARGUMENTS_MAX: usize = 8_000;
const _: () = assert!(ARGUMENTS_MAX + AGAIN.len() <= bounds::TOOL_ARGUMENTS.most);

/// The longest list of arguments that stands in one line, in characters.
const LINE_MAX: usize = 100;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Asking {
    /// Whether a tool may be used with exactly these arguments, as people are shown them.
    Permission { tool: String, arguments: String },
    /// Which of several things, one a line.
    Question { question: String, choices: String },
}

impl Asking {
    /// The request to the host, by whoever waits `until` then. `used` is how often people have allowed it to
    /// attempts that are gone.
    pub(crate) fn request(&self, until: UnixMillis, used: usize) -> Value {
        let until = until.to_rfc3339();
        match self {
            Self::Permission { tool, arguments } => json!({
                "action": "ask_permission",
                "tool": visible::line(tool),
                "arguments": format!("{}{arguments}", if used > 0 { AGAIN } else { "" }),
                "until": until,
            }),
            Self::Question { question, choices } => json!({
                "action": "ask", "question": question, "choices": choices, "until": until,
            }),
        }
    }

    /// The id of the row that asks this for the `nth` time in a turn for `message`, after `used` yeses were used
    /// by attempts that are gone.
    pub(crate) fn row(&self, message: &MessageId, nth: usize, used: usize) -> MessageId {
        let (kind, first, second) = match self {
            Self::Permission { tool, arguments } => ("permission", tool, arguments),
            Self::Question { question, choices } => ("question", question, choices),
        };
        // As JSON, so that no part can be taken for another.
        let all = match used {
            0 => json!([message, kind, first, second, nth]), // as runners ask that know of no use
            _ => json!([message, kind, first, second, nth, used]),
        };
        let all = all.to_string();
        let id = format!("{ROW}{}", &digest(&all)[..32]);
        MessageId::parse(&id).expect("letters, digits and a hyphen")
    }

    /// Whether a yes allows something, and is used up by it.
    pub(crate) fn is_used_up(&self) -> bool {
        matches!(self, Self::Permission { .. })
    }

    /// What the person is asked about, for the display of what the agent does.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Permission { tool, .. } => tool,
            Self::Question { .. } => "a question",
        }
    }
}

/// What a tool is given, as people are shown it: each argument by its name, a text in quotes. Whatever is in the
/// text, it ends at the next quote that has no backslash before it; its line breaks are kept, for they are easier
/// to read.
pub(crate) fn arguments(fields: &Map<String, Value>) -> String {
    let each = fields.iter().map(|(name, value)| {
        let value = match value {
            Value::String(text) => quoted(text),
            other => visible::json(&other.to_string()),
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        match !name.is_empty() && name.chars().all(is_plain) {
            true => format!("{name}={value}"),
            false => format!("{}={value}", quoted(name)),
        }
    });
    let each: Vec<String> = each.collect();
    let line = each.join(", ");
    match each.len() {
        0 => "(no arguments)".to_owned(),
        _ if line.contains('\n') || line.chars().count() > LINE_MAX => each.join("\n"),
        _ => line,
    }
}

/// `text` in quotes, with what is hidden in it shown.
fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text).replace('"', "\\\""))
}

/// `text` with what is hidden in it shown, and with its line breaks and tabs. Backslashes are doubled: no text looks
/// like another.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' | '\t' => escaped.push(c),
            c if visible::is_hidden(c) => {
                write!(escaped, "{}", c.escape_default()).expect("a String takes everything");
            }
            c => escaped.push(c),
        }
    }
    escaped
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
    /// For which message.
    pub(crate) message: MessageId,
    /// What is asked.
    pub(crate) asking: Asking,
    /// How often that was asked in the turn before.
    pub(crate) nth: usize,
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
        assert_eq!(asked.row(&id("m"), 0, 0), permission("bash", "ls").row(&id("m"), 0, 0));
        let question = Asking::Question { question: "bash".into(), choices: "ls".into() };
        let others = [
            asked.row(&id("m"), 1, 0),
            asked.row(&id("m"), 0, 1),
            asked.row(&id("n"), 0, 0),
            permission("bash", "ls ").row(&id("m"), 0, 0),
            permission("bashl", "s").row(&id("m"), 0, 0),
            question.row(&id("m"), 0, 0),
        ];
        for other in others {
            assert_ne!(other, asked.row(&id("m"), 0, 0));
        }
    }

    #[test]
    fn what_a_runner_has_asked_that_knew_of_no_use_is_found() {
        let asked = Asking::Question { question: "which?".into(), choices: "a\nb".into() };
        let row = asked.row(&id("m"), 0, 0);
        assert_eq!(row.as_str(), "ask-c0ef9b0075700fb51d4709902a2e1cd5");
    }

    #[test]
    fn arguments_are_shown_by_their_names_and_none_looks_like_another() {
        let shown = |fields: Value| {
            let Value::Object(fields) = fields else { panic!("{fields}") };
            arguments(&fields)
        };
        assert_eq!(
            shown(json!({"command": "rm x", "timeout_sec": 5})),
            r#"command="rm x", timeout_sec=5"#
        );
        assert_eq!(shown(json!({})), "(no arguments)");
        assert_eq!(
            shown(json!({"a": "x\", b=\"y", "c": "\\n\r\u{202e}"})),
            r#"a="x\", b=\"y", c="\\n\r\u{202e}""#
        );
        assert_eq!(shown(json!({"a b=1": [true, "\u{202e}\""]})), r#""a b=1"=[true,"\u202e\""]"#);
        assert_eq!(
            shown(json!({"command": "one\ntwo", "timeout_sec": 5})),
            "command=\"one\ntwo\"\ntimeout_sec=5"
        );
        let long = "x".repeat(LINE_MAX);
        assert_eq!(shown(json!({"a": long, "b": 1})), format!("a=\"{long}\"\nb=1"));
    }

    #[test]
    fn what_was_allowed_before_is_asked_with_a_word_about_it_that_no_argument_can_say() {
        let asked =
            Asking::Permission { tool: "a\u{202e}b".into(), arguments: "c=\"(This\"".into() };
        let first = asked.request(UnixMillis(0), 0);
        assert_eq!(first["tool"], "a\\u{202e}b");
        assert_eq!(first["arguments"], "c=\"(This\"");
        let again = asked.request(UnixMillis(0), 2);
        let said = again["arguments"].as_str().unwrap();
        assert!(said.starts_with("(This was allowed before") && said.ends_with("\nc=\"(This\""));
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
        assert!(was_waited_for(&to(asked.row(&id("m"), 0, 0).as_str())));
        assert!(!was_waited_for(&to(&SystemIds.uuid().to_string())));
    }
}
