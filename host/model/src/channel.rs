//! What is said between channels and the rest of the host: where a message goes, what comes in, what
//! goes out, and what became of it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use twobox_shared::content::{Chat, digest16};
use twobox_shared::ids::{MessageId, RunId, SessionId};
use twobox_shared::time::UnixMillis;

use crate::approval::Prompt;
use crate::incoming::IncomingFile;

/// The kind of the channel that the command line and programs of this machine use.
pub const TERMINAL: &str = "terminal";

/// The kind of the channel that hands each message to a program.
pub const COMMAND: &str = "command";

/// The kind of the channel on which a session speaks that was made for one run.
pub const SCHEDULE_CHANNEL: &str = "schedule";

/// Whether the process with this id is an agent's: what tells agents from those whom the host's
/// sockets are for. An error if the system does not say.
pub type Guard = Arc<dyn Fn(i32) -> io::Result<bool> + Send + Sync>;

/// What a channel can do. Whoever sends goes by this, and not by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Whether a message under a key that it has already taken is dropped, so that sending twice shows
    /// once.
    pub keys: bool,
    /// Whether a chat has threads.
    pub threads: bool,
    /// Whether what was said can be changed.
    pub edits: bool,
    /// Whether what was said can be marked.
    pub reactions: bool,
    /// Whether it shows that an answer is being written.
    pub typing: bool,
    /// Whether a question can have buttons.
    pub buttons: bool,
    /// Whether files come in.
    pub files_in: bool,
    /// Whether files leave, and not their names alone.
    pub files_out: bool,
    /// The most bytes of one message, as the platform encodes it; `None` if there is no limit.
    pub longest: Option<usize>,
    /// How text is shown.
    pub formatting: Formatting,
}

impl Capabilities {
    /// Text as it stands, of any length, in one thread, and nothing else.
    pub const TEXT: Self = Self {
        keys: false,
        threads: false,
        edits: false,
        reactions: false,
        typing: false,
        buttons: false,
        files_in: false,
        files_out: false,
        longest: None,
        formatting: Formatting::Plain,
    };
}

/// How a channel shows text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Formatting {
    /// As it stands.
    Plain,
    /// As Markdown.
    Markdown,
}

/// An address that messages come from and go to: one queue, first in, first out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The channel's id, such as `terminal`.
    pub channel_type: String,
    /// The chat on that channel.
    pub platform_id: String,
    /// The thread in that chat.
    pub thread_id: Option<String>,
}

impl Address {
    /// It in one short word, for a name that has to tell addresses apart.
    pub fn digest(&self) -> String {
        let Self { channel_type, platform_id, thread_id } = self;
        digest16(&format!("{channel_type:?} {platform_id:?} {thread_id:?}"))
    }
}

/// One message on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// The idempotency key, `<install>:<session>:<row id>`: the same for every attempt.
    pub key: String,
    /// The message that it answers, if it answers one.
    pub in_reply_to: Option<MessageId>,
    /// All messages that it answers, with that one.
    pub answers: Vec<MessageId>,
    /// What to show.
    pub text: String,
    /// Names of attached files.
    pub files: Vec<String>,
    /// Where they lie, of a row of an outbox.
    pub shelf: Option<Shelf>,
    /// It is the host's word that these messages have failed: no answer to them follows, unless a
    /// person has them tried again.
    pub failed: bool,
    /// What it asks, if it asks something: for a channel that can show more of a question than its text.
    pub prompt: Option<Prompt>,
}

/// How the last part of a notice's key begins. No row's id has a slash in it, so no container can use a
/// notice's key first.
const NOTICE: &str = "notice/";

impl Outbound {
    /// The last part of the key of the host's notice about `cause`.
    pub fn row_of_notice(cause: &str) -> String {
        format!("{NOTICE}{cause}")
    }

    /// Whether this is the host's own word.
    pub fn is_notice(&self) -> bool {
        self.key.contains(&format!(":{NOTICE}"))
    }
}

/// Where the files of a message lie: in a folder in which its container writes. Whoever opens them follows
/// no link below `base`, and believes nothing of what was there a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelf {
    /// A folder that no container can exchange.
    pub base: PathBuf,
    /// Their folder in it.
    pub within: PathBuf,
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The channel took it, explicitly.
    Delivered {
        /// The platform's id for it.
        platform_message_id: Option<String>,
    },
    /// Not now; try again.
    Transient {
        /// Why.
        error: String,
        /// When the platform said so.
        retry_after: Option<Duration>,
    },
    /// Never.
    Permanent {
        /// Why.
        error: String,
    },
    /// It may have arrived, and a second attempt could show it twice: it is not tried again. Only
    /// for channels that do not honour keys.
    Uncertain {
        /// What happened.
        error: String,
    },
    /// Nobody is there to take it. Costs no attempt; the channel reports when that changes.
    Unavailable,
}

/// What became of the question that a message was said to, which its channel has handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It can still be answered: whoever said the message may not, or it decided nothing.
    Open,
    /// That message has decided it.
    DecidedByIt,
    /// It is over, by another message or without one.
    Over,
}

/// What is recorded of one part of a message that goes to a platform without keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRecord {
    /// The part's name in its message.
    pub part: String,
    /// How far it is.
    pub state: PartState,
}

/// How far a part of a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartState {
    /// It was about to leave, or left: nobody has said what became of it.
    Begun {
        /// When.
        at: UnixMillis,
    },
    /// The platform took it.
    Taken {
        /// Its id there.
        platform_id: Option<String>,
    },
}

/// A message that a channel hands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// Where it was said. Its answer goes there.
    pub address: Address,
    /// The channel's id for it: handing in the same message again changes nothing.
    pub id: MessageId,
    /// What was said.
    pub chat: Chat,
    /// What came with it. The channel keeps the files until the message is accepted or refused.
    pub files: Vec<IncomingFile>,
}

impl Inbound {
    /// A message that is what `chat` says, with which nothing came.
    pub fn new(address: Address, id: MessageId, chat: Chat) -> Self {
        Self { address, id, chat, files: Vec::new() }
    }
}

/// What a person wants of schedules that only the running host can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub enum ScheduleOrder {
    /// Run one now; the answer is the run.
    Run {
        /// Its name or id.
        schedule: String,
        /// Whether to run it although as many run as may.
        #[serde(default)]
        force: bool,
    },
    /// End a run; the answer says what came of it.
    Cancel {
        /// Its id.
        run: RunId,
    },
    /// Do something with a task that an agent has put off; the answer says what was done.
    Task {
        /// The session in which it was put off.
        session: SessionId,
        /// What to do.
        verb: TaskVerb,
        /// Its id.
        task: String,
    },
    /// See what has changed in `host.db`.
    Look,
}

/// What a person wants done with a task of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskVerb {
    /// It ends.
    Cancel,
    /// It waits until it is resumed.
    Pause,
    /// It goes on.
    Resume,
}

impl TaskVerb {
    /// The request of an agent that does the same.
    pub const fn action(self) -> &'static str {
        match self {
            Self::Cancel => "cancel_task",
            Self::Pause => "pause_task",
            Self::Resume => "resume_task",
        }
    }
}

/// What became of a person's wish that a message be worked on no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stopped {
    /// Nobody works on it, and nobody will.
    Stopped,
    /// Nobody will begin with it; whoever works on it was told to end.
    Told,
    /// It was answered before, or has failed, or is not there.
    Over,
}

/// A message that is durably in an inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The session that took it.
    pub session: SessionId,
    /// The id under which it is stored.
    pub id: MessageId,
    /// Its number in the session.
    pub seq: i64,
}

/// Why a message was not accepted. Nothing of it was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No agent listens there.
    #[error(
        "no agent listens to {channel_type} {platform_id:?}; `twobox wire list` shows who does"
    )]
    NobodyListens {
        /// The channel's id.
        channel_type: String,
        /// The chat.
        platform_id: String,
    },
    /// Whoever said it is not heard, or may not say it: nobody who has handed it in hands it in again.
    #[error("{}", say.as_deref().unwrap_or("whoever said it is not heard"))]
    Unheard {
        /// What they are told in that chat, if anything.
        say: Option<String>,
    },
    /// The same message again, later, may be accepted.
    #[error("not now, try again: {reason}")]
    TryAgain {
        /// Why.
        reason: String,
        /// Whether that is likely to be over within seconds: something is busy, full, or stopping.
        passes: bool,
    },
    /// The chat has begun as many new threads as it may for now; those that are there go on.
    #[error(
        "this chat has begun {most} new threads within an hour, which is as many as it may: go on \
         in one of them, or begin another in {minutes} min"
    )]
    TooManyThreads {
        /// How many an hour.
        most: usize,
        /// In how many minutes there is room for another.
        minutes: u64,
    },
    /// A person has to mend something first.
    #[error("{reason}")]
    Blocked {
        /// What, and how.
        reason: String,
    },
}

impl Refusal {
    /// The host takes nothing any more; the next one will.
    pub fn stopping() -> Self {
        Self::TryAgain { reason: "the host is stopping".to_owned(), passes: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_word_is_told_by_its_key() {
        let outbound = |row: &str| Outbound {
            key: format!("install:session:{row}"),
            in_reply_to: None,
            answers: Vec::new(),
            text: String::new(),
            files: Vec::new(),
            shelf: None,
            failed: true,
            prompt: None,
        };
        assert!(outbound(&Outbound::row_of_notice("failed-m1-0")).is_notice());
        assert!(!outbound("notice").is_notice());
        assert!(MessageId::parse(&format!("a:{NOTICE}b")).is_err(), "no row is called so");
    }
}
