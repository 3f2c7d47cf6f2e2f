//! What a session's task is told, by channels, people and the scheduler.

use tokio::sync::oneshot;
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Accepted, NewMessage};

use super::accept::answer;
use super::approvals::Decision;
use super::reports::Sent;
use super::run::{RunOrder, RunState};
use twobox_model::approval::Approval;
use twobox_model::channel::{Refusal, TaskVerb};
use twobox_model::dead_letter::{DeadLetterOrder, Handled};
use twobox_model::incoming::NamedFile;
use twobox_model::people::Speaker;

/// What a session's task is told.
#[derive(Debug)]
pub enum Command {
    /// Store a message and say so.
    Accept {
        /// The message.
        message: NewMessage,
        /// The files that came with it, by the names that it has for them.
        files: Vec<NamedFile>,
        /// Who says it, for what they may.
        by: Speaker,
        /// Where the answer goes; nobody may be waiting any more.
        reply: oneshot::Sender<Result<Accepted, Refusal>>,
    },
    /// A channel said what became of outbound messages.
    Sent(Sent),
    /// Give failed messages new attempts and lift a quarantine.
    Retry {
        /// One message, or all.
        message: Option<MessageId>,
        /// How many will be tried again.
        reply: oneshot::Sender<Result<usize, String>>,
    },
    /// Let the container go, whatever it does: what it works on is given to its successor.
    Restart {
        /// Whether there was one.
        reply: oneshot::Sender<Result<bool, String>>,
    },
    /// Look at the message of a scheduled run, or take it back.
    Run {
        /// The message.
        message: MessageId,
        /// What to do.
        order: RunOrder,
        /// How far it is.
        reply: oneshot::Sender<Result<RunState, String>>,
    },
    /// Take in what the container has done by now: its way to models waits for that.
    TakeIn {
        /// Hears when that is done. Dropped if it never will be.
        done: oneshot::Sender<()>,
    },
    /// Look for notices and decisions in `host.db`: one was stored there, and the session marked.
    Notices,
    /// Delete the session, which was made for one run.
    Forget {
        /// Whether it is gone, or is not at rest.
        reply: oneshot::Sender<Result<bool, String>>,
    },
    /// Carry out a person's order about a task that the agent has put off.
    Task {
        /// What to do.
        verb: TaskVerb,
        /// The task's id.
        task: String,
        /// What was done, or why nothing was.
        reply: oneshot::Sender<Result<String, String>>,
    },
    /// Carry out a person's order about what ended without success.
    Dead {
        /// What to do, and with what.
        order: DeadLetterOrder,
        /// What became of it.
        reply: oneshot::Sender<Result<Vec<Handled>, String>>,
    },
    /// Carry out a person's decision about what the agent asks.
    Decide {
        /// About what, and what they say.
        decision: Decision,
        /// What became of it, or why nothing did.
        reply: oneshot::Sender<Result<Approval, String>>,
    },
    /// The host stops: end what is under way.
    Shutdown {
        /// Whether the container has to leave too.
        stop_container: bool,
        /// Dropped when the task has ended.
        done: oneshot::Sender<()>,
    },
}

impl Command {
    /// Says that nobody carries it out, and `why`. Whoever waits for anything else than a message to be
    /// accepted hears it by the end of the wait.
    pub(super) fn refuse(self, why: Refusal) {
        if let Self::Accept { reply, .. } = self {
            answer(reply, Err(why));
        }
    }

    /// Whether whoever sent it waits for an answer, and can do something else or try again.
    pub(super) fn is_asked(&self) -> bool {
        match self {
            Self::Accept { .. } | Self::Run { .. } => true,
            Self::Sent(_)
            | Self::Retry { .. }
            | Self::Notices
            | Self::TakeIn { .. }
            | Self::Forget { .. }
            | Self::Task { .. }
            | Self::Dead { .. }
            | Self::Decide { .. }
            | Self::Restart { .. }
            | Self::Shutdown { .. } => false,
        }
    }
}
