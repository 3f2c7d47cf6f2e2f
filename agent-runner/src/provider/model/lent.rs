//! What providers whose loop is somebody else's have in common with this one: how messages are written, what
//! an agent is told of itself, and what it means that an upstream refuses.

use std::cell::Cell;
use std::path::PathBuf;

use twobox_shared::content::Failure;

use super::api::Complaint;
use super::asking::failure;
use super::client::{Verdict, judge};
use super::conversation::{Part, Trouble};
use super::kept::Kept;
use super::messages::{Files, is_new};
use super::prompt::{self, Known};
use super::{BEGUN_ANEW, behind};
use crate::args::Folders;
use crate::event::Said;
use crate::provider::{Prompt, PromptMessage, TurnHandle};

/// The places of a conversation.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The agent's.
    pub(crate) folders: Folders,
    /// Where it works.
    pub(crate) work: PathBuf,
    /// Where the files of messages are.
    pub(crate) inbox: PathBuf,
}

impl Places {
    /// The folder called `name` for what the runner keeps of the conversation, made if it is not there.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn kept(&self, name: &str) -> std::io::Result<PathBuf> {
        Kept::of(&self.work).folder(name)
    }

    /// `messages` as one text. Their files are named in it, and none is shown.
    pub(crate) fn said(&self, messages: &[PromptMessage]) -> String {
        let kept = Kept::of(&self.work);
        one(Files { inbox: &self.inbox, kept: &kept, room: usize::MAX, shown: all_shown() }
            .said(messages))
    }

    /// What a turn begins with, as one text. `earlier` are the tools that earlier attempts have used.
    pub(crate) fn beginning(&self, prompt: &Prompt, earlier: &[String]) -> String {
        let kept = Kept::of(&self.work);
        one(Files { inbox: &self.inbox, kept: &kept, room: usize::MAX, shown: all_shown() }
            .beginning(prompt, earlier))
    }

    /// What an agent is told before all else: what Twobox is, where it is, and the instructions of its
    /// definition. Skills and tools are its program's to tell. `reaches`: whether its programs reach something of the
    /// network.
    pub(crate) fn instructions(&self, reaches: bool) -> String {
        let instructions = prompt::instructions(&self.folders.program);
        prompt::system(&Known {
            instructions: instructions.as_deref(),
            skills: &[],
            folders: &self.folders,
            work: &self.work,
            destinations: &[],
            shell: true,
            reaches,
        })
    }

    /// The folder with its skills.
    pub(crate) fn skills(&self) -> PathBuf {
        self.folders.program.join("skills")
    }
}

/// Nothing more can be shown.
fn all_shown() -> Cell<usize> {
    Cell::new(usize::MAX)
}

fn one(parts: Vec<Part>) -> String {
    let texts: Vec<String> = parts
        .into_iter()
        .filter_map(|part| match part {
            Part::Text { text } => Some(text),
            Part::Media { .. } => None,
        })
        .collect();
    texts.join("\n\n")
}

/// Whether somebody asks for a new conversation in `messages`.
pub(crate) fn begins_anew(messages: &[PromptMessage]) -> bool {
    messages.iter().any(is_new)
}

/// If somebody asks for a new conversation, that is answered, and what is left is returned: a prompt that
/// begins one.
pub(crate) fn anew(prompt: &Prompt, handle: &TurnHandle) -> Option<Prompt> {
    let at = prompt.messages.iter().rposition(is_new)?;
    let answers = Some(prompt.messages[at].id.clone());
    handle.say(Said::Reply { text: BEGUN_ANEW.to_owned(), files: Vec::new(), answers });
    Some(behind(prompt, at))
}

/// What it means for a turn that `upstream`, or the host in its place, has answered with this status and
/// these words. A vendor's program shows no headers, so that the host's own words are known by how they begin.
/// An upstream that says so too makes its own refusal look like the host's, and nothing more.
pub(crate) fn refused(status: u16, said: &str, upstream: &str) -> Failure {
    let complaint = Complaint::of_status(status, said);
    // A vendor's program does not tell of the header by which the host marks its own: its words have to do.
    let own = complaint.message.starts_with(&format!("status {status}: Twobox: "));
    let complaint = Complaint { own, ..complaint };
    failure(match judge(&complaint, upstream) {
        Verdict::End(trouble) => trouble,
        Verdict::Never(why) => Trouble::Refused(why),
        Verdict::Wait(why, _) | Verdict::Next(why) | Verdict::Again(why) => {
            Trouble::Unreachable(why)
        }
    })
}
