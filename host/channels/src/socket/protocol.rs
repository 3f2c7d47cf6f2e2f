//! The words of the protocol; `docs/socket.md` explains them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use twobox_shared::content::About;
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::progress::Progress;

use twobox_model::approval::{Approval, ApprovalOrder, Prompt};
use twobox_model::channel::{Outbound, Receipt, ScheduleOrder, Stopped};
use twobox_model::dead_letter::{Handled, Kind};

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Hands in a message: said at the terminal of `agent`, or in `chat` on `channel`.
    Message {
        /// The agent's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<String>,
        /// The channel's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<String>,
        /// The chat on that channel.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chat: Option<String>,
        /// The thread, if it is in one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<String>,
        /// Who says it, as the channel names them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sender: Option<String>,
        /// What the platform says of it besides.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        about: Option<About>,
        /// The client's id for it: the same message again has the same id.
        id: MessageId,
        /// What is said.
        text: String,
    },
    /// Wants the messages for an agent, and a thread or the chat itself.
    Listen {
        /// The agent's name.
        agent: String,
        /// The thread.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<String>,
        /// Whether to be shown what the agent is at, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        progress: bool,
    },
    /// Has shown a message.
    Ack {
        /// The message's key.
        key: String,
    },
    /// Carries messages between the host and a platform from now on.
    Bridge(Hello),
    /// Says what became of a message that it was handed as a bridge.
    Outcome(Told),
    /// Wants to know how the daemon is.
    Status,
    /// Gives failed messages new attempts.
    Retry {
        /// Of which session.
        session: SessionId,
        /// Which one; all without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<MessageId>,
    },
    /// Lets a session's container go.
    Restart {
        /// Of which session.
        session: SessionId,
    },
    /// Wants a message to be worked on no longer.
    Stop {
        /// In which session.
        session: SessionId,
        /// Its id there, as the receipt has it.
        message: MessageId,
        /// Whether to stop the container if it goes on with it.
        #[serde(default)]
        force: bool,
    },
    /// Wants something of schedules that only the running host can do.
    Schedules(ScheduleOrder),
    /// Says what a person has decided about something that an agent asks.
    Decide(ApprovalOrder),
    /// Tries once more what ended without success.
    Redrive(Chosen),
    /// Gives up for good what ended without success.
    Drop(Chosen),
}

/// Something that ended without success in one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// In which session.
    pub session: SessionId,
    /// Only things of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Which ones, as `twobox dead list` shows them; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
}

/// What a bridge says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The id of the channel.
    pub channel: String,
    /// What people call the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it drops a message whose key it has taken before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keys: bool,
    /// The most bytes of text that it takes at once; what is longer comes in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest: Option<usize>,
    /// Whether to be shown what an agent is at, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub progress: bool,
}

/// What a bridge says of a message, or of a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// Its key.
    pub key: String,
    /// What became of it.
    pub outcome: TellsOf,
    /// The platform's id for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_message_id: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it may be tried again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// What may become of a message, by a bridge's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TellsOf {
    /// The platform has it.
    Delivered,
    /// It has not, and may have it later.
    Transient,
    /// It never takes it.
    Permanent,
    /// Nobody knows.
    Uncertain,
}

/// A message, or a part of one, for a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliver {
    /// To be answered with what became of it. The same for every attempt.
    pub key: String,
    /// For which chat.
    pub chat: String,
    /// For which thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// What to show.
    pub text: String,
    /// Names of attached files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// The same files, where the program can read them until it has answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Value>,
    /// The message that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<MessageId>,
    /// All messages that it answers, with that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<MessageId>,
    /// Whether it is the host's word that these messages have failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// What it asks, if it asks something: its text says so too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Prompt>,
}

/// What the host says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// The message is durable.
    Accepted {
        /// The client's id for it.
        id: MessageId,
        /// One for each agent that listens.
        receipts: Vec<Receipt>,
    },
    /// Nothing of the message was stored.
    Refused {
        /// The client's id for it.
        id: MessageId,
        /// Whether the same message again, later, may be accepted.
        retry: bool,
        /// Why.
        reason: String,
        /// What is to be said of that in the chat, once, if anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        say: Option<String>,
    },
    /// Messages come from now on.
    Listening {
        /// For which agent.
        agent: String,
        /// For which thread.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<String>,
    },
    /// A message.
    Message {
        /// To be acknowledged, once shown.
        key: String,
        /// The message that it answers.
        #[serde(default)]
        in_reply_to: Option<MessageId>,
        /// All messages that it answers, with that one.
        #[serde(default)]
        answers: Vec<MessageId>,
        /// What is said.
        text: String,
        /// Names of attached files.
        #[serde(default)]
        files: Vec<String>,
        /// Whether it is the host's word that these messages have failed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        failed: bool,
        /// What it asks, if it asks something: its text says so too.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompt: Option<Prompt>,
    },
    /// What an agent is at. No message, and not to be acknowledged.
    Progress {
        /// Which agent.
        agent: String,
        /// In which thread.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<String>,
        /// What it is at; `null` if at nothing any more.
        progress: Option<Progress>,
    },
    /// The connection is a channel's bridge from now on.
    Bridging {
        /// Of which channel.
        channel: String,
    },
    /// A message for a bridge.
    Deliver(Deliver),
    /// The message with this key waits no more: a bridge may forget the key.
    Forget {
        /// The key.
        key: String,
    },
    /// What an agent is at, for a bridge. No message, and not to be answered.
    Activity {
        /// In which chat.
        chat: String,
        /// In which thread.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<String>,
        /// What it is at; `null` if at nothing any more.
        progress: Option<Progress>,
    },
    /// How the daemon is.
    Status {
        /// As `twobox status --json` prints it.
        status: Value,
    },
    /// Messages will be tried again.
    Retried {
        /// Of which session.
        session: SessionId,
        /// How many.
        count: usize,
    },
    /// The session's container is gone.
    Restarted {
        /// Of which session.
        session: SessionId,
        /// Whether there was one.
        stopped: bool,
    },
    /// A message is worked on no longer, or soon.
    Stopped {
        /// In which session.
        session: SessionId,
        /// Which one.
        message: MessageId,
        /// What became of it.
        outcome: Stopped,
    },
    /// An order about what ended without success was carried out.
    Handled {
        /// In which session.
        session: SessionId,
        /// What became of each thing.
        results: Vec<Handled>,
    },
    /// Something that an agent asked is decided.
    Decided {
        /// As it is now.
        approval: Approval,
    },
    /// An order about schedules was carried out.
    Schedules {
        /// What came of it.
        answer: Value,
    },
    /// The host goes down.
    Closing,
    /// A request was not understood or not possible.
    Error {
        /// Why.
        reason: String,
    },
}

impl Event {
    /// An [`Event::Error`].
    pub fn error(reason: impl Into<String>) -> Self {
        Self::Error { reason: reason.into() }
    }

    /// A message as an event.
    pub fn message(outbound: &Outbound) -> Self {
        Self::Message {
            key: outbound.key.clone(),
            in_reply_to: outbound.in_reply_to.clone(),
            answers: outbound.answers.clone(),
            text: outbound.text.clone(),
            files: outbound.files.clone(),
            failed: outbound.failed,
            prompt: outbound.prompt.clone(),
        }
    }

    /// The line, with its end.
    pub fn to_line(&self) -> String {
        to_line(self)
    }
}

impl Request {
    /// The line, with its end.
    pub fn to_line(&self) -> String {
        to_line(self)
    }
}

fn to_line(value: &impl Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("strings and numbers always serialise");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_the_page_says_and_nothing_else_is_understood() {
        let good = [
            r#"{"op":"message","agent":"a","thread":"t","id":"1","text":"hi"}"#,
            r#"{"op":"message","channel":"c","chat":"1","id":"1","text":"hi"}"#,
            r#"{"op":"message","channel":"c","chat":"1","sender":"ann","id":"1","text":"hi"}"#,
            r#"{"op":"message","channel":"c","chat":"1","about":{"sender_id":"7","group":true,"mentioned":true,"reply_to":"m","sent_at":"2027-01-15T08:00:00.000Z"},"id":"1","text":"hi"}"#,
            r#"{"op":"listen","agent":"a"}"#,
            r#"{"op":"listen","agent":"a","progress":true}"#,
            r#"{"op":"ack","key":"k"}"#,
            r#"{"op":"bridge","channel":"irc"}"#,
            r#"{"op":"bridge","channel":"irc","name":"ircd 1.2","keys":true,"longest":400,"progress":true}"#,
            r#"{"op":"outcome","key":"k","outcome":"delivered","platform_message_id":"p"}"#,
            r#"{"op":"outcome","key":"k","outcome":"transient","error":"429","retry_after_ms":1500}"#,
            r#"{"op":"status"}"#,
            r#"{"op":"retry","session":"01890000-0000-7000-8000-00000000aaaa"}"#,
            r#"{"op":"redrive","session":"01890000-0000-7000-8000-00000000aaaa"}"#,
            r#"{"op":"stop","session":"01890000-0000-7000-8000-00000000aaaa","message":"m","force":true}"#,
            r#"{"op":"schedules","do":"run","schedule":"tidy","force":true}"#,
            r#"{"op":"schedules","do":"cancel","run":"01890000-0000-7000-8000-00000000aaaa"}"#,
            r#"{"op":"schedules","do":"look"}"#,
            r#"{"op":"decide","approval":"01890000-0000-7000-8000-00000000aaaa","digest":"d","say":"approve"}"#,
            r#"{"op":"decide","approval":"01890000-0000-7000-8000-00000000aaaa","digest":"d","say":{"choose":2}}"#,
            r#"{"op":"drop","session":"01890000-0000-7000-8000-00000000aaaa","kind":"delivery","ids":["r"]}"#,
        ];
        for line in good {
            let request: Request = serde_json::from_str(line).unwrap();
            assert_eq!(request.to_line().trim_end(), line);
        }
        let bad = [
            r#"{"op":"shout"}"#,
            r#"{"op":"bridge"}"#,
            r#"{"op":"bridge","channel":"irc","threads":true}"#,
            r#"{"op":"outcome","key":"k","outcome":"lost"}"#,
            r#"{"op":"outcome","key":"k","outcome":"transient","retry_after":2}"#,
            r#"{"op":"listen"}"#,
            r#"{"op":"listen","agent":"a","tread":"t"}"#,
            r#"{"op":"message","agent":"a","id":"../x","text":"hi"}"#,
            r#"{"op":"message","agent":"a","about":{"mood":"good"},"id":"1","text":"hi"}"#,
            r#"{"op":"message","agent":"a","about":{"sent_at":"at noon"},"id":"1","text":"hi"}"#,
            r#"{"op":"drop","session":"01890000-0000-7000-8000-00000000aaaa","id":"r"}"#,
            r#"{"op":"redrive","session":"01890000-0000-7000-8000-00000000aaaa","kind":"letter"}"#,
            r#"{"op":"decide","approval":"01890000-0000-7000-8000-00000000aaaa","say":"approve"}"#,
            "[]",
            "",
        ];
        for line in bad {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
    }
}
