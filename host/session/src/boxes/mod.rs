//! The two boxes of one session, one operation at a time. Everything here blocks; the session's
//! task runs it on a thread that may, and never two operations at once.

mod files;
mod snapshot;

use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use twobox_shared::claim::CONTEXT_MAX;
use twobox_shared::content::KIND_CHAT;
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::inbox::{
    Accepted, Cursor, Delivery, Destination, Inbox, InboxTx, NewMessage, Origin,
};
use twobox_shared::open::{BoxError, SMALL_PAGE};
use twobox_shared::paths::SessionPaths;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::decide::Action;
use super::recurrence::Succession;
use super::stamp;
pub use snapshot::{BoxSnapshot, Writers};
pub(super) use snapshot::{ContentRoom, LARGE_PAGE, OPEN_PER_DESTINATION, READ_PATIENCE, SCAN_MAX};
use twobox_model::incoming::NamedFile;

/// Where a session's boxes are.
#[derive(Debug, Clone)]
pub struct Boxes {
    session: SessionId,
    paths: SessionPaths,
    work: PathBuf,
    stamp: PathBuf,
    scratch: PathBuf,
    quota: u64,
    page_size: Option<u32>,
}

/// Changes for one inbound transaction.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// What became of messages.
    pub actions: Vec<Action>,
    /// What follows the occurrences that end with these actions.
    pub successions: Vec<Succession>,
    /// Delivery records.
    pub records: Vec<(MessageId, Delivery)>,
    /// Messages from the host to the agent. Those beyond what one turn takes as context are left
    /// out, so that a container that provokes them does not fill its inbox.
    pub notes: Vec<NewMessage>,
    /// One more, in whose place the oldest of those that wait goes, if there are so many.
    pub notice: Option<NewMessage>,
    /// How far the host has come.
    pub cursor: Cursor,
    /// The highest number in the outbox, if an attempt is charged.
    pub charged: Seq,
}

impl Boxes {
    /// The boxes in `folder`, with `scratch` as the place for private copies of at most `quota`
    /// bytes.
    pub fn new(session: SessionId, folder: &Path, scratch: &Path, quota: u64) -> Self {
        Self {
            session,
            paths: SessionPaths::of_folder(folder),
            work: SessionPaths::work_of(folder),
            stamp: folder.join(stamp::FILE),
            scratch: scratch.join(session.to_string()),
            quota,
            page_size: None,
        }
    }

    /// The same. An inbox that has to be made takes as little room as it can: no more than a few
    /// messages are expected.
    #[must_use]
    pub(super) fn small(self) -> Self {
        Self { page_size: Some(SMALL_PAGE), ..self }
    }

    /// Whose they are.
    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    /// The paths.
    pub fn paths(&self) -> &SessionPaths {
        &self.paths
    }

    /// The session's own workspace, in which its container may have left anything.
    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    /// Whether anything was ever stored in the inbox. An empty file is what is left of one for which a
    /// full disk had no room.
    pub(super) fn has_inbox(&self) -> bool {
        self.paths.inbound_db().metadata().is_ok_and(|file| file.len() > 0)
    }

    /// Creates the folder with its two halves. `in/` can be read by the container's user, nothing above
    /// it can.
    ///
    /// # Errors
    /// [`BoxError::Io`].
    pub fn create(&self) -> Result<(), BoxError> {
        create_folder(self.paths.in_dir(), 0o755)?;
        create_folder(self.paths.out_dir(), 0o700)
    }

    /// Creates the workspace, which only a container needs.
    ///
    /// # Errors
    /// [`BoxError::Io`].
    pub fn create_work(&self) -> Result<(), BoxError> {
        create_folder(&self.work, 0o700)
    }

    /// As [`Boxes::accept_with`], with no files.
    ///
    /// # Errors
    /// As [`Boxes::accept_with`].
    pub fn accept(
        &self,
        messages: &[NewMessage],
        seen: Seq,
        now: UnixMillis,
    ) -> Result<Vec<Accepted>, BoxError> {
        self.accept_with(messages, &[], seen, now)
    }

    /// Stores messages in one transaction: all of them, or none. Each has the `files` at its place, which lie in
    /// its folder before it counts as stored. `seen` is the highest number that was read from the outbox.
    ///
    /// # Errors
    /// [`BoxError::Busy`] if the container holds a lock; [`BoxError::Sqlite`] or [`BoxError::Io`] if the disk is
    /// full.
    pub fn accept_with(
        &self,
        messages: &[NewMessage],
        files: &[Vec<NamedFile>],
        seen: Seq,
        now: UnixMillis,
    ) -> Result<Vec<Accepted>, BoxError> {
        self.create()?;
        let mut inbox = Inbox::open_with_pages(&self.paths.inbound_db(), self.page_size)?;
        let tx = inbox.write()?;
        let mut accepted = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            let stored = tx.accept(message, seen, now)?;
            if let Some(files) =
                files.get(index).filter(|files| !files.is_empty() && !stored.duplicate)
            {
                self.put_files(&stored.id, files)?;
            }
            accepted.push(stored);
        }
        if messages.iter().any(|message| message.kind == KIND_CHAT) {
            tx.trim_context(now)?;
        }
        tx.commit()?;
        Ok(accepted)
    }

    /// Applies `changes` in one transaction. Every change repeats its guard, so applying it again
    /// changes nothing more.
    ///
    /// # Errors
    /// As for [`Boxes::accept`].
    pub fn apply(&self, changes: &Changes, now: UnixMillis) -> Result<(), BoxError> {
        let mut inbox = Inbox::open(&self.paths.inbound_db())?;
        let tx = inbox.write()?;
        for action in &changes.actions {
            let changed = match action {
                Action::Complete { message } => tx.complete(message)?,
                Action::Charge { message, attempt, forgiven, process_after } => {
                    tx.charge(message, *attempt, *forgiven, *process_after)?
                }
                Action::Fail { message, attempt, failure } => {
                    tx.fail(message, *attempt, failure)?
                }
                Action::RetryNow { message, tries } => tx.retry_now(message, *tries)?,
            };
            if !changed {
                tracing::debug!(session = %self.session, ?action, "the action had been applied");
            }
        }
        for Succession { before, next } in &changes.successions {
            if tx.end_occurrence(before)?
                && let Ok(next) = next
            {
                tx.continue_series(before, next, None, changes.cursor.seen, now)?;
            }
        }
        for (row, record) in &changes.records {
            if !tx.record_delivery(row, record)? {
                tracing::debug!(session = %self.session, %row, "the row was settled before");
            }
        }
        let room = match changes.notes.is_empty() {
            true => 0,
            false => CONTEXT_MAX.saturating_sub(tx.waiting_notes()? as usize),
        };
        for note in changes.notes.iter().take(room) {
            tx.accept(note, changes.cursor.seen, now)?;
        }
        if let Some(notice) = &changes.notice {
            make_room(&tx)?;
            tx.accept(notice, changes.cursor.seen, now)?;
        }
        tx.advance(changes.cursor)?;
        tx.raise_charged(changes.charged)?;
        tx.commit()
    }

    /// Whether a task waits here, due some time or paused.
    ///
    /// # Errors
    /// As for [`Boxes::look`].
    pub(super) fn has_tasks(&self) -> Result<bool, BoxError> {
        if !self.has_inbox() {
            return Ok(false);
        }
        let mut inbox = Inbox::open_to_read(&self.paths.inbound_db())?;
        Ok(!inbox.read()?.live_occurrences()?.is_empty())
    }

    /// Ends every task of the session. Returns whether there was one.
    ///
    /// # Errors
    /// As for [`Boxes::accept`].
    pub(super) fn end_tasks(&self) -> Result<bool, BoxError> {
        if !self.has_inbox()
            || !Inbox::open_to_read(&self.paths.inbound_db())?.read()?.has_any_task()?
        {
            return Ok(false);
        }
        let mut inbox = Inbox::open(&self.paths.inbound_db())?;
        let tx = inbox.write()?;
        let ended = tx.end_all_tasks()?;
        tx.commit()?;
        Ok(ended > 0)
    }

    /// Makes the inbox say where the agent answers and what it may name.
    ///
    /// # Errors
    /// As for [`Boxes::accept`].
    pub fn project_routing(
        &self,
        routing: &Origin,
        destinations: &[Destination],
    ) -> Result<(), BoxError> {
        let path = self.paths.inbound_db();
        let known = Inbox::open_to_read(&path)?.read()?.routing()?;
        if known == (routing.clone(), destinations.to_vec()) {
            return Ok(());
        }
        let mut inbox = Inbox::open(&path)?;
        let tx = inbox.write()?;
        tx.project_routing(routing, destinations)?;
        tx.commit()
    }

    /// Puts the agent's configuration where its runner reads it. The container cannot write there,
    /// so what lies there is what was checked. It is replaced and not overwritten: whatever crash
    /// comes, there is never half a file.
    ///
    /// # Errors
    /// [`BoxError::Io`].
    pub fn project_config(&self, text: &str) -> Result<(), BoxError> {
        let path = self.paths.agent_config();
        let fresh = path.with_extension("json.new");
        std::fs::write(&fresh, text)
            // The container's user is another one where the host is root.
            .and_then(|()| std::fs::set_permissions(&fresh, PermissionsExt::from_mode(0o644)))
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|source| io_error("write", &path, source))
    }

    /// Tells the runner whether somebody looks on.
    ///
    /// # Errors
    /// The system's reason.
    pub(super) fn tell_watched(&self, is_watched: bool) -> std::io::Result<()> {
        let path = self.paths.watched();
        let told = match is_watched {
            true => std::fs::write(path, ""),
            false => std::fs::remove_file(path),
        };
        match told {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes the agent's configuration away, which each start puts there anew, and what else only a runner
    /// is told.
    ///
    /// # Errors
    /// The system's reason.
    pub(super) fn remove_config(&self) -> std::io::Result<()> {
        let path = self.paths.agent_config();
        for file in [path.with_extension("json.new"), path, self.paths.watched()] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Takes away the socket of the way to models, which nobody serves.
    ///
    /// # Errors
    /// The system's reason.
    pub(super) fn remove_socket(&self) -> std::io::Result<()> {
        match std::fs::remove_file(self.paths.gateway_socket()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Says, for the next host, under which word the runner is started; `None` if nobody knows.
    pub(super) fn record_stamp(&self, word: Option<&str>) {
        stamp::keep(&self.stamp, word);
    }

    /// Under which word the runner was started that is there.
    pub(super) fn stamp(&self) -> Option<String> {
        stamp::kept(&self.stamp)
    }

    /// Gives failed messages new attempts, and those that wait for one theirs now: one, or all. Returns how
    /// many there were.
    ///
    /// # Errors
    /// As for [`Boxes::accept`].
    pub fn revive(&self, message: Option<&MessageId>) -> Result<usize, BoxError> {
        if !self.has_inbox() {
            return Ok(0);
        }
        let mut inbox = Inbox::open(&self.paths.inbound_db())?;
        let tx = inbox.write()?;
        let chosen = match message {
            Some(message) => vec![message.clone()],
            None => tx.failed()?.into_iter().map(|(message, _)| message).collect(),
        };
        let mut revived = 0;
        for message in &chosen {
            revived += usize::from(tx.revive(message)?);
        }
        // What waits for its next attempt waits no more.
        for waiting in tx.pending()? {
            let is_meant = message.is_none_or(|message| *message == waiting.id);
            if is_meant && waiting.process_after.is_some() && waiting.tries > 0 {
                revived += usize::from(tx.retry_now(&waiting.id, waiting.tries)?);
            }
        }
        tx.commit()?;
        Ok(revived)
    }

    /// When the heartbeat was last touched, by the container's word.
    pub fn heartbeat(&self) -> Option<SystemTime> {
        let meta = std::fs::symlink_metadata(self.paths.heartbeat()).ok()?;
        meta.is_file().then(|| meta.modified().ok()).flatten()
    }
}

/// Has the oldest notes go until one more finds room: a turn is told so many as context.
pub(super) fn make_room(tx: &InboxTx<'_>) -> Result<(), BoxError> {
    while tx.waiting_notes()? as usize >= CONTEXT_MAX && tx.drop_oldest_note()? {}
    Ok(())
}

fn create_folder(folder: &Path, mode: u32) -> Result<(), BoxError> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .and_then(|()| std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)))
        .map_err(|source| io_error("create", folder, source))
}

fn io_error(action: &'static str, path: &Path, source: std::io::Error) -> BoxError {
    BoxError::Io { action, path: path.to_owned(), source }
}
