//! What stands in the `content`, `failure` and `kind` columns.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::bounds;
use crate::ids::{MessageId, SessionId};
use crate::mend::mended;
use crate::time::UnixMillis;

/// `kind` of an ordinary message.
pub const KIND_CHAT: &str = "chat";
/// `kind` of a message that no person sent: what a schedule asks for, or the agent of itself.
pub const KIND_TASK: &str = "task";
/// `kind` of a message that the host wrote for the agent's information, or a request of the agent
/// to the host.
pub const KIND_SYSTEM: &str = "system";
/// `kind` of what a person said to the host itself, such as `/stop`: it is settled as it is stored, and
/// no runner is given it.
pub const KIND_WORD: &str = "word";

/// The largest `content` that either side accepts, in bytes.
pub const CONTENT_MAX: usize = bounds::MESSAGE.most;

/// `content` of a `chat` row, in both directions. Unknown fields are kept out of the way, not
/// refused: other implementations write more of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Chat {
    /// What was said.
    pub text: String,
    /// Who said it, as the platform names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// What the platform says besides. Of another shape it is nothing, and takes no text with it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_it_fits")]
    pub about: Option<About>,
    /// Names of files in this message's attachment folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Of an answer: ids of all the messages that it answers, if they are more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
}

/// What a platform says of a message that came in, as far as it does. All of it is a stranger's word.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The platform's id of who said it, which stays when their name changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_id: Option<String>,
    /// Whether it was said among several (`true`) or to the agent alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<bool>,
    /// Whether it names the agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mentioned: bool,
    /// The platform's id of the message that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// When it was said, by the platform's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<UnixMillis>,
}

fn if_it_fits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<About>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    // A list would be taken for its fields, one after the other.
    Ok(value.is_object().then(|| serde_json::from_value(value).ok()).flatten())
}

impl Chat {
    /// A message that is only text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// The `content` column.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings always serialise")
    }

    /// Reads a `content` column. Text that is not such an object is taken as the message itself,
    /// so that no row is unreadable.
    pub fn from_content(content: &str) -> Self {
        match serde_json::from_str::<Value>(&mended(content)) {
            Ok(Value::Object(object)) => serde_json::from_value(Value::Object(object))
                .unwrap_or_else(|_| Self::text(content)),
            Ok(Value::String(text)) => Self::text(text),
            _ => Self::text(content),
        }
    }
}

/// What a scheduled run may take. It stands in the `content` of the run's message, beside the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunLimits {
    /// Model turns, if fewer than the agent's configuration allows.
    pub max_turns: Option<u32>,
    /// When it has to be over.
    pub deadline: Option<UnixMillis>,
}

impl RunLimits {
    /// The `content` of the message of a run that asks for `prompt`.
    pub fn content(&self, prompt: &str) -> String {
        let mut content = serde_json::json!({ "text": prompt });
        if let Some(max_turns) = self.max_turns {
            content["max_turns"] = max_turns.into();
        }
        if let Some(deadline) = self.deadline {
            content["deadline"] = deadline.to_rfc3339().into();
        }
        content.to_string()
    }

    /// Reads them from such a `content`; what is not there or makes no sense limits nothing.
    pub fn from_content(content: &str) -> Self {
        let content: Value = serde_json::from_str(content).unwrap_or_default();
        Self {
            max_turns: content["max_turns"].as_u64().and_then(|turns| turns.try_into().ok()),
            deadline: content["deadline"].as_str().and_then(UnixMillis::parse),
        }
    }
}

/// How the host begins to say that what one message may cost is spent. A vendor's program passes on the words of a
/// refusal and nothing else, so that a runner knows it by them.
pub const RUN_IS_OVER_BUDGET: &str = "the budget of this run is used up";

/// Why a turn or a message failed: the JSON of both `failure` columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A word that programs match on, such as [`Failure::RELEASED`] or `timeout`.
    pub reason: String,
    /// A sentence for people.
    #[serde(default)]
    pub detail: String,
    /// Whether another attempt can help.
    #[serde(default = "yes")]
    pub retryable: bool,
}

impl Failure {
    /// How many characters of a reason are kept.
    const REASON_MAX: usize = 64;
    /// How many characters of a detail are kept.
    const DETAIL_MAX: usize = 500;

    /// The runner gave the turn back because it was told to leave.
    pub const RELEASED: &str = "released";
    /// The turn, or a tool in it, ran past its deadline.
    pub const TIMEOUT: &str = "timeout";
    /// The turn asked for more model turns than it was allowed.
    pub const TURN_LIMIT: &str = "turn_limit_exceeded";
    /// A person or a limit of the schedule ended the run.
    pub const ABORTED: &str = "aborted";
    /// What the agent may spend is spent: another attempt may be made when it may spend again.
    pub const BUDGET_EXCEEDED: &str = "budget_exceeded";
    /// What one message may cost is spent: another attempt changes nothing, before a person has raised it.
    pub const RUN_BUDGET_EXCEEDED: &str = "run_budget_exceeded";
    /// The provider could not answer.
    pub const PROVIDER_ERROR: &str = "provider_error";
    /// Nothing can be answered with this configuration and this program: it cannot be read, or cannot
    /// be started. Another attempt helps once one of them has changed.
    pub const AGENT_BROKEN: &str = "agent_broken";
    /// It was open when the data directory was copied, and the original answers it.
    pub const COPIED: &str = "copied";
    /// The runner ended in the middle of the turn.
    pub const RUNNER_DIED: &str = "runner_died";

    /// A failure after which the message is tried again.
    pub fn retryable(reason: &str, detail: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), detail: detail.into(), retryable: true }
    }

    /// A failure that another attempt cannot mend.
    pub fn permanent(reason: &str, detail: impl Into<String>) -> Self {
        Self { retryable: false, ..Self::retryable(reason, detail) }
    }

    /// The `failure` column.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings always serialise")
    }

    /// Reads a `failure` column. What a container wrote may be anything: text that is not such an
    /// object becomes the detail of an unexplained, retryable failure, and both texts are cut to a
    /// length that fits a log line.
    pub fn from_json(text: &str) -> Self {
        let failure = serde_json::from_str(text)
            .unwrap_or_else(|_| Self::retryable(Self::PROVIDER_ERROR, text));
        Self {
            reason: shorten(&failure.reason, Self::REASON_MAX),
            detail: shorten(&failure.detail, Self::DETAIL_MAX),
            ..failure
        }
    }
}

fn yes() -> bool {
    true
}

/// The SHA-256 of `content`, in hexadecimal.
pub fn digest(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first 16 hexadecimal digits of the SHA-256 of `content`.
pub fn digest16(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The id of the message that answers the request which `row` of the session's outbox makes.
pub fn answer_id(session: SessionId, row: &MessageId) -> MessageId {
    let digest = digest16(&format!("{session}\0{row}"));
    MessageId::parse(&format!("answer-{digest}")).expect("letters, digits and a hyphen")
}

/// `text`, or its first `max` characters and an ellipsis.
pub fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_content_reads_as_a_message() {
        let cases = [
            (r#"{"text":"hi","sender":"ann","extra":1}"#, "hi"),
            (r#""hi""#, "hi"),
            ("plain", "plain"),
            (r#"{"text":5}"#, r#"{"text":5}"#),
            ("[1]", "[1]"),
        ];
        for (content, text) in cases {
            assert_eq!(Chat::from_content(content).text, text, "{content}");
        }
    }

    #[test]
    fn what_is_odd_about_a_message_takes_no_text_with_it() {
        let about = About {
            sender_id: Some("7".to_owned()),
            group: Some(false),
            mentioned: true,
            reply_to: Some("m".to_owned()),
            sent_at: Some(UnixMillis(1_800_000_000_000)),
        };
        let chat = Chat { about: Some(about), ..Chat::text("hi") };
        assert_eq!(Chat::from_content(&chat.to_json()), chat);
        for odd in ["7", "[]", r#"{"mood":1}"#, r#"{"group":"yes"}"#, r#"{"sent_at":"soon"}"#] {
            let content = format!(r#"{{"text":"hi","about":{odd}}}"#);
            assert_eq!(Chat::from_content(&content), Chat::text("hi"), "{odd}");
        }
        let nothing = r#"{"text":"hi","about":{}}"#;
        assert_eq!(Chat::from_content(nothing).about, Some(About::default()));
    }

    #[test]
    fn the_limits_of_a_run_stand_beside_its_prompt() {
        let limits =
            RunLimits { max_turns: Some(7), deadline: Some(UnixMillis(1_800_000_000_000)) };
        let content = limits.content("tidy up");
        assert_eq!(Chat::from_content(&content).text, "tidy up");
        assert_eq!(RunLimits::from_content(&content), limits);
        let none = RunLimits::default();
        assert_eq!(RunLimits::from_content(&none.content("x")), none);
        for nonsense in ["", "[]", r#"{"text":"x","max_turns":-1,"deadline":"soon"}"#] {
            assert_eq!(RunLimits::from_content(nonsense), none, "{nonsense}");
        }
    }

    #[test]
    fn a_failure_that_is_not_json_is_kept_as_its_detail() {
        let failure = Failure::from_json("boom");
        assert_eq!((failure.detail.as_str(), failure.retryable), ("boom", true));
        let written = Failure::permanent("auth_failed", "no key");
        assert_eq!(Failure::from_json(&written.to_json()), written);
    }
}
