//! What a turn will have said if it ends well: rows that are not written yet, and files that lie
//! ready beside them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use twobox_shared::content::{CONTENT_MAX, Chat, KIND_CHAT, KIND_SYSTEM};
use twobox_shared::ids::{IdSource, MessageId};
use twobox_shared::inbox::{InboundMessage, Origin};
use twobox_shared::outbox::{NewRow, new_row_id};

use crate::event::{Attachment, Content};

/// What a row answers, and so where it goes.
#[derive(Debug, Clone)]
pub(crate) struct Answering {
    /// The newest message of the turn so far that triggers.
    pub(crate) message: MessageId,
    pub(crate) attempt: i64,
    pub(crate) origin: Origin,
    /// All messages of the turn so far that trigger.
    triggers: Vec<MessageId>,
}

impl Answering {
    /// What a turn of `messages` answers; `None` if none of them triggers.
    pub(crate) fn of(messages: &[InboundMessage]) -> Option<Self> {
        let triggers = || messages.iter().filter(|message| message.trigger);
        let newest = triggers().next_back()?;
        Some(Self {
            message: newest.id.clone(),
            attempt: newest.tries,
            origin: newest.origin.clone(),
            triggers: triggers().map(|message| message.id.clone()).collect(),
        })
    }

    /// What a row answers that is about `message` alone; `None` if that is not one of `messages`
    /// that triggers.
    pub(crate) fn one(messages: &[InboundMessage], message: &MessageId) -> Option<Self> {
        messages
            .iter()
            .find(|it| it.id == *message)
            .and_then(|it| Self::of(std::slice::from_ref(it)))
    }

    /// The content of a row that says something.
    pub(crate) fn chat(&self, text: &str, files: &[String]) -> String {
        let answers = match self.triggers.as_slice() {
            [_] => Vec::new(), // the row names it
            several => several.iter().map(MessageId::to_string).collect(),
        };
        Chat { files: files.to_owned(), answers, ..Chat::text(text) }.to_json()
    }

    /// A row that answers this.
    pub(crate) fn row(&self, id: MessageId, kind: &str, content: String) -> NewRow {
        NewRow {
            id,
            in_reply_to: Some(self.message.clone()),
            kind: kind.to_owned(),
            destination: self.origin.clone(),
            content,
            deliver_after: None,
            attempt: self.attempt,
        }
    }
}

/// The host refuses a session whose rows are larger, so ours never are.
pub(crate) fn check_size(content: &str) -> Result<(), String> {
    match content.len() {
        0..=CONTENT_MAX => Ok(()),
        length => Err(format!("it has {length} bytes, at most {CONTENT_MAX} can be sent")),
    }
}

#[derive(Debug)]
enum Body {
    /// Files that wait for the reply that they go with.
    Files(Vec<String>),
    Reply(String, Vec<String>),
    System(Value),
}

#[derive(Debug)]
struct Draft {
    id: MessageId,
    answering: Answering,
    body: Body,
}

/// The drafts of one turn, in the order in which they were said.
#[derive(Debug)]
pub(crate) struct Drafts {
    folder: PathBuf,
    drafts: Vec<Draft>,
}

impl Drafts {
    /// No drafts; files go beneath `folder`.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, drafts: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// Adds a reply. A file that came before any reply goes with this one.
    pub(crate) fn reply(&mut self, answering: &Answering, text: String, ids: &impl IdSource) {
        if let Some(Draft { body, answering: to, .. }) = self.drafts.last_mut()
            && let Body::Files(files) = body
        {
            *to = answering.clone(); // which may have grown since the file came
            *body = Body::Reply(text, std::mem::take(files));
            return;
        }
        self.add(answering, Body::Reply(text, Vec::new()), ids);
    }

    /// Adds a request to the host.
    pub(crate) fn system(&mut self, answering: &Answering, request: Value, ids: &impl IdSource) {
        self.add(answering, Body::System(request), ids);
    }

    /// Stores a file, durably, to go with the latest reply, or with the next one if there is none, or if
    /// something else is answered since.
    ///
    /// # Errors
    /// [`Unstored`]: what was said before is as it was.
    pub(crate) fn file(
        &mut self,
        answering: &Answering,
        file: Attachment,
        ids: &impl IdSource,
    ) -> Result<(), Unstored> {
        // A name that is fit for a message id is fit for a file.
        let name = MessageId::parse(&file.name)
            .map_err(|error| Unstored::Unfit(format!("its name cannot be used: {error}")))?
            .to_string();
        let takes_it = |draft: &Draft| match &draft.body {
            Body::Files(_) => true,
            Body::Reply(..) => draft.answering.triggers == answering.triggers,
            Body::System(_) => false,
        };
        if !self.drafts.last().is_some_and(takes_it) {
            self.add(answering, Body::Files(Vec::new()), ids);
        }
        let Some(Draft { id, body: Body::Files(files) | Body::Reply(_, files), .. }) =
            self.drafts.last_mut()
        else {
            unreachable!("a draft that takes files was just added");
        };
        let name = match files.contains(&name) {
            true => format!("{}-{name}", files.len() + 1),
            false => name,
        };
        let stored = store(&self.folder, id.as_str(), &name, &file.source);
        if stored.is_ok() {
            files.push(name);
        }
        stored
    }

    /// Says, with what was said last, what else there is to know.
    pub(crate) fn remark(&mut self, answering: &Answering, remark: &str, ids: &impl IdSource) {
        match self.drafts.last_mut().map(|draft| &mut draft.body) {
            Some(Body::Reply(text, _)) if text.is_empty() => *text = remark.to_owned(),
            Some(Body::Reply(text, _)) => *text = format!("{text}\n\n{remark}"),
            Some(body @ Body::Files(_)) => {
                let Body::Files(files) = body else { unreachable!("it was just looked at") };
                *body = Body::Reply(remark.to_owned(), std::mem::take(files));
            }
            Some(Body::System(_)) | None => {
                self.add(answering, Body::Reply(remark.to_owned(), Vec::new()), ids);
            }
        }
    }

    fn add(&mut self, answering: &Answering, body: Body, ids: &impl IdSource) {
        let (id, answering) = (new_row_id(ids), answering.clone());
        self.drafts.push(Draft { id, answering, body });
    }

    /// The rows to commit.
    ///
    /// # Errors
    /// A sentence about the row that is too large.
    pub(crate) fn rows(&self) -> Result<Vec<NewRow>, String> {
        let row = |draft: &Draft| {
            let (kind, content) = match &draft.body {
                Body::Files(files) => (KIND_CHAT, draft.answering.chat("", files)),
                Body::Reply(text, files) => (KIND_CHAT, draft.answering.chat(text, files)),
                Body::System(request) => (KIND_SYSTEM, request.to_string()),
            };
            check_size(&content)?;
            Ok(draft.answering.row(draft.id.clone(), kind, content))
        };
        self.drafts.iter().map(row).collect()
    }

    /// Forgets everything; files that nobody will ask for are removed.
    pub(crate) fn discard(&mut self) {
        for draft in self.drafts.drain(..) {
            // Mostly there is no such folder. One that stays costs room and nothing else.
            drop(fs::remove_dir_all(self.folder.join(draft.id.as_str())));
        }
    }
}

/// Why a file was not stored.
#[derive(Debug)]
pub(crate) enum Unstored {
    /// The file's own fault: another attempt would find the same.
    Unfit(String),
    /// The disk's, which another attempt may find mended.
    Trouble(io::Error),
}

/// Everything down to the names is synced: the row that lists the file may be durable in a moment.
fn store(folder: &Path, row: &str, name: &str, source: &Content) -> Result<(), Unstored> {
    let unfit = |error: io::Error| Unstored::Unfit(error.to_string());
    let mut read = match source {
        Content::Bytes(bytes) => Source::Bytes(bytes),
        // First of all: one that is not there leaves no trace.
        Content::Path(path) => {
            // A pipe would be waited for.
            if !fs::metadata(path).map_err(unfit)?.is_file() {
                return Err(Unstored::Unfit("it is not a file".to_owned()));
            }
            Source::File(File::open(path).map_err(unfit)?)
        }
    };
    let row_folder = folder.join(row);
    fs::create_dir_all(&row_folder).map_err(Unstored::Trouble)?;
    let path = row_folder.join(name);
    let written = File::create_new(&path).and_then(|mut file| {
        match &mut read {
            Source::Bytes(bytes) => io::Write::write_all(&mut file, bytes)?,
            Source::File(source) => drop(io::copy(source, &mut file)?),
        }
        file.sync_all()
    });
    if let Err(error) = written {
        // Half of it is of no use; where it cannot be removed, it costs room.
        drop(fs::remove_file(&path));
        return Err(match error.kind() {
            io::ErrorKind::FileTooLarge => Unstored::Unfit(too_large()),
            io::ErrorKind::InvalidFilename => unfit(error),
            _ => Unstored::Trouble(error),
        });
    }
    let above = folder.parent().unwrap_or(folder);
    [&row_folder, folder, above]
        .iter()
        .try_for_each(|folder| File::open(folder)?.sync_all())
        .map_err(Unstored::Trouble)
}

enum Source<'a> {
    Bytes(&'a [u8]),
    File(File),
}

/// That a file is larger than any may be here, and how large that is.
fn too_large() -> String {
    use nix::sys::resource::{Resource, getrlimit};
    match getrlimit(Resource::RLIMIT_FSIZE) {
        Ok((limit, _)) if limit < nix::sys::resource::RLIM_INFINITY => {
            format!("it is larger than {limit} bytes, the most that a file may have here")
        }
        _ => "it is larger than a file may be here".to_owned(),
    }
}
