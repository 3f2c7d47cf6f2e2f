//! What a person is asked: whether an agent may do something, or which of several things it is to do.
//!
//! An approval is bound to a digest of all that is shown of it, so that nobody decides about anything
//! else than what they saw. What it may become stands in [`after`], and what a person means by an answer
//! in a chat in [`meant`]; both are pure. Carried out is it by one guarded statement each
//! (`twobox_store::approvals`), and whoever asked is told once (`twobox_session::approvals`).
//!
//! What an agent wrote of it is hostile: it is bounded before it gets here, and shown by [`shown`]
//! alone, in which none of its lines can look like one of ours.

mod meaning;

use serde::{Deserialize, Serialize};
use twobox_shared::content::digest;
use twobox_shared::ids::{ApprovalId, SessionId};
use twobox_shared::time::UnixMillis;
use twobox_shared::visible;

pub use self::meaning::{Meant, has_form_of_answer, is_number, meant, named_code, without_code};
use crate::channel::Address;
use crate::words;

/// How many things a person may choose from at most.
pub const CHOICES_MAX: usize = 8;

/// The letters and digits of a code: none that could be taken for another.
const CODE_LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// How long a code is.
const CODE_LENGTH: usize = 4;

/// What stands before each line that an agent wrote.
const QUOTE: &str = "  | ";

words! {
    /// What is asked.
    Kind {
        /// Whether a tool may be used, with exactly these arguments.
        Permission = "permission",
        /// Which of several things is to be done.
        Question = "question",
    }
}

words! {
    /// What became of an approval.
    Status {
        /// Nobody has decided.
        Pending = "pending",
        /// A person said yes.
        Approved = "approved",
        /// A person said no.
        Denied = "denied",
        /// A person has chosen.
        Answered = "answered",
        /// Nobody decided in time, which is a no.
        Expired = "expired",
    }
}

/// What a person says to an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Yes.
    Approve,
    /// No.
    Deny,
    /// The choice with this number, from 1.
    Choose(usize),
}

/// A person's decision about what they were shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalOrder {
    /// About what.
    pub approval: ApprovalId,
    /// The digest of what was shown.
    pub digest: String,
    /// What they say.
    pub say: Verdict,
}

/// What happens to an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A person says something.
    Decide(Verdict),
    /// Its time is over.
    Expire,
}

/// Why something does not happen to an approval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is over.
    #[error("it was decided before")]
    Over,
    /// A question has no yes.
    #[error("it is a question: choose one of its answers by its number, from 1 to {most}")]
    NoChoice {
        /// How many choices there are.
        most: usize,
    },
    /// A permission has no other choices.
    #[error("it is a yes or a no: 1 allows it, 2 does not")]
    YesOrNo,
}

/// The only place where an approval changes its state: what it becomes, and with which choice.
///
/// # Errors
/// [`Unfit`]: it stays as it is.
pub fn after(
    (kind, status, choices): (Kind, Status, usize),
    happening: Happening,
) -> Result<(Status, Option<usize>), Unfit> {
    match (status, happening) {
        (Status::Approved | Status::Denied | Status::Answered | Status::Expired, _) => {
            Err(Unfit::Over)
        }
        (Status::Pending, Happening::Expire) => Ok((Status::Expired, None)),
        (Status::Pending, Happening::Decide(verdict)) => match (kind, verdict) {
            (_, Verdict::Deny) | (Kind::Permission, Verdict::Choose(2)) => {
                Ok((Status::Denied, None))
            }
            (Kind::Permission, Verdict::Approve | Verdict::Choose(1)) => {
                Ok((Status::Approved, None))
            }
            (Kind::Permission, Verdict::Choose(_)) => Err(Unfit::YesOrNo),
            (Kind::Question, Verdict::Choose(number)) if (1..=choices).contains(&number) => {
                Ok((Status::Answered, Some(number)))
            }
            (Kind::Question, Verdict::Approve | Verdict::Choose(_)) => {
                Err(Unfit::NoChoice { most: choices })
            }
        },
    }
}

/// What is asked, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// What kind of question it is.
    pub kind: Kind,
    /// The tool, or the question.
    pub what: String,
    /// What the tool is given, exactly; empty for a question.
    pub detail: String,
    /// What there is to choose from; of a permission that is yes and no.
    pub choices: Vec<String>,
}

impl Subject {
    /// Whether a tool may be used with these arguments.
    pub fn permission(tool: &str, arguments: &str) -> Self {
        Self {
            kind: Kind::Permission,
            what: tool.to_owned(),
            detail: arguments.to_owned(),
            choices: vec!["allow".to_owned(), "deny".to_owned()],
        }
    }

    /// Which of `choices`.
    pub fn question(question: &str, choices: Vec<String>) -> Self {
        Self { kind: Kind::Question, what: question.to_owned(), detail: String::new(), choices }
    }

    /// By which a decision is bound to what was shown: the SHA-256 of all of it, in an order in which
    /// no part can be taken for another.
    pub fn digest(&self) -> String {
        digest(&serde_json::to_string(self).expect("strings always serialise"))
    }
}

/// An approval as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// A short one, which no other has while it is pending. No container is told it.
    pub code: String,
    /// The conversation in which it was asked.
    pub session: SessionId,
    /// The row of the outbox that asked.
    pub request: String,
    /// What is asked.
    #[serde(flatten)]
    pub subject: Subject,
    /// The digest of what is asked.
    pub digest: String,
    /// The channel in which it is asked,
    pub channel: String,
    /// the chat there,
    pub chat: String,
    /// and the thread, if it is one.
    pub thread: Option<String>,
    /// Whether the answer starts a turn.
    pub wake: bool,
    /// What became of it.
    pub status: Status,
    /// The choice, from 1, if one was made.
    pub choice: Option<usize>,
    /// When it was asked,
    pub created_at: UnixMillis,
    /// until when it can be decided,
    pub due_at: UnixMillis,
    /// and when it was over.
    pub decided_at: Option<UnixMillis>,
    /// Who has decided.
    pub decided_by: Option<String>,
}

impl Approval {
    /// Where it is asked.
    pub fn address(&self) -> Address {
        Address {
            channel_type: self.channel.clone(),
            platform_id: self.chat.clone(),
            thread_id: self.thread.clone(),
        }
    }

    /// What was chosen, if something was.
    pub fn chosen(&self) -> Option<&str> {
        self.subject.choices.get(self.choice?.checked_sub(1)?).map(String::as_str)
    }
}

/// What a channel has to know of a message that asks something, beside its text: enough to show buttons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// What an answer has to begin with: the code. A question may be answered by its number alone.
    pub code: String,
    /// Whether it may not be left out.
    pub needs_code: bool,
    /// What there is to choose from, by their numbers from 1.
    pub choices: Vec<String>,
}

impl From<&Approval> for Prompt {
    fn from(approval: &Approval) -> Self {
        Self {
            code: approval.code.clone(),
            needs_code: approval.subject.kind == Kind::Permission,
            choices: approval.subject.choices.iter().map(|it| visible::line(it)).collect(),
        }
    }
}

/// A code made of random `bits`.
pub fn code(bits: u128) -> String {
    let letter = |at: usize| char::from(CODE_LETTERS[(bits >> (5 * at)) as usize % 32]);
    (0..CODE_LENGTH).map(letter).collect()
}

/// `text`, which an agent chose, in the middle of a sentence of ours: in one line, and in marks that it cannot
/// end. Without them a tool could be called as the rest of the sentence is to read.
pub fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", visible::line(&text))
}

/// The message by which a person is asked.
pub fn shown(subject: &Subject, code: &str, until: &str) -> String {
    let lines = |text: &str| format!("{QUOTE}{}", visible::marked(text, QUOTE));
    match subject.kind {
        Kind::Permission => format!(
            "[{code}] The agent asks whether it may use {}:\n{}\nAnswer `{code} 1` to allow this, \
             `{code} 2` to deny it. Without an answer by {until} it is denied.",
            quoted(&subject.what),
            lines(&subject.detail),
        ),
        Kind::Question => {
            let choice = |(at, choice): (usize, &String)| format!("{}. {}", at + 1, quoted(choice));
            let choices: Vec<_> = subject.choices.iter().enumerate().map(choice).collect();
            format!(
                "[{code}] The agent asks:\n{}\n{}\nAnswer with the number, or with `{code}` and the \
                 number, by {until}.",
                lines(&subject.what),
                choices.join("\n"),
            )
        }
    }
}

/// What people are told in the chat once it is over.
pub fn told(approval: &Approval) -> String {
    let Approval { code, subject, .. } = approval;
    let what = match subject.kind {
        Kind::Permission => format!("use of {}", quoted(&subject.what)),
        Kind::Question => "the question".to_owned(),
    };
    let by = approval.decided_by.as_deref().unwrap_or("nobody");
    let by = visible::line(by);
    match approval.status {
        Status::Pending => format!("[{code}] {what}: nobody has decided yet."),
        Status::Approved => format!("[{code}] {what}: allowed by {by}."),
        Status::Denied => format!("[{code}] {what}: denied by {by}."),
        Status::Answered => {
            let chosen = quoted(approval.chosen().unwrap_or_default());
            format!("[{code}] {what}: answered by {by}: {chosen}.")
        }
        Status::Expired => format!("[{code}] {what}: nobody answered in time, which is a no."),
    }
}

/// What whoever asked is told once it is over, in words.
pub fn answer(approval: &Approval) -> String {
    let what = match approval.subject.kind {
        Kind::Permission => format!("the use of {}", approval.subject.what),
        Kind::Question => format!("your question ({})", approval.subject.what),
    };
    match (approval.status, approval.subject.kind) {
        (Status::Pending, _) => format!("Nobody has decided about {what} yet."),
        (Status::Approved, _) => format!("A person allowed {what}."),
        (Status::Denied, Kind::Permission) => format!("A person denied {what}."),
        (Status::Denied, Kind::Question) => format!("A person does not answer {what}."),
        (Status::Answered, _) => {
            let (number, chosen) =
                (approval.choice.unwrap_or_default(), approval.chosen().unwrap_or_default());
            format!("A person answered {what} with choice {number}: {chosen}")
        }
        (Status::Expired, Kind::Permission) => {
            format!("Nobody decided about {what} in time, so it is denied.")
        }
        (Status::Expired, Kind::Question) => format!("Nobody answered {what} in time."),
    }
}

#[cfg(test)]
mod tests;
