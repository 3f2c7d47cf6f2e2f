//! Everything that can happen to the runner, in one channel that its main thread reads.

use serde_json::Value;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Duration;

use twobox_shared::content::Failure;
use twobox_shared::ids::MessageId;

use crate::ask::{Asking, Decision};
use crate::provider::Done;

/// Something that happened.
pub(crate) enum Event {
    /// The inbox changed, or may have.
    Wake,
    /// The inbox changed, and its host still holds its locks, unless it keeps the file open: a
    /// [`Event::Wake`] follows then.
    Committed,
    /// SIGTERM or SIGINT.
    Terminate,
    /// The provider said something about the running turn.
    Said(Said),
    /// A tool of the host was used in the running turn.
    Asked(Asked),
    /// The provider ended the turn.
    Ended(Result<Done, Failure>),
}

/// What a provider says in the middle of a turn.
#[derive(Debug)]
pub(crate) enum Said {
    /// An answer, which goes where the question came from when the turn ends well. It answers the
    /// one message that it names, or all of the turn.
    Reply { text: String, files: Vec<Attachment>, answers: Option<MessageId> },
    /// A message to a named destination, sent at once.
    Send { to: String, text: String },
    /// An answer that is sent at once, though the turn goes on.
    ReplyNow(String),
    /// A request to the host.
    System(Value),
    /// A tool began, for at most the given time if it declared one.
    ToolStarted { name: String, timeout: Option<Duration> },
    /// The tool ended.
    ToolFinished,
    /// A model is asked now, for an answer or for something that nobody is shown.
    Asks { is_answer: bool },
    /// What was written so far does not count: it begins anew.
    Anew,
    /// A piece of what is written, for whoever looks on and for nobody else.
    Words(String),
    /// That many more model turns were taken.
    Turns(u32),
    /// A file to go with the answer.
    File(Attachment),
    /// Have people asked, and wait: whoever decides, the decision goes there.
    Ask(Asking, Sender<Decision>),
    /// These follow-ups are part of the turn now.
    Used(Vec<MessageId>),
    /// End the process with this code, at once.
    Exit(u8),
}

/// Something that a tool says, and who waits to hear what became of it.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The turn that it is said in: in any other it is nothing.
    pub(crate) turn: TurnNumber,
    /// What is said.
    pub(crate) said: Said,
    /// Hears that it was done, or why not, or nothing where the turn is over.
    pub(crate) answer: Sender<Result<(), String>>,
}

/// Tells the turns of a runner's life apart, and the beginnings of one that begins afresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TurnNumber(pub(crate) u64);

/// A file to send.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// The name that the reader sees.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) source: Content,
}

/// Where an attachment's bytes are.
#[derive(Debug)]
pub(crate) enum Content {
    /// Here.
    Bytes(Vec<u8>),
    /// In a file of the agent's.
    Path(PathBuf),
}
