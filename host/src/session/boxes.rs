//! The two boxes of one session, one operation at a time. Everything here blocks; the session's
//! task runs it on a thread that may, and never two operations at once.

use std::collections::HashMap;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use twobox_shared::claim::CONTEXT_MAX;
use twobox_shared::content::KIND_SYSTEM;
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::inbox::{
    Accepted, Cursor, Delivery, Destination, Inbox, InboxTx, NewMessage, Occurrence, Origin,
    PendingMessage,
};
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{self, OutRow, Page, Source, ToolState, UntrustedOutbox};
use twobox_shared::paths::SessionPaths;
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::decide::{Acks, Action};
use super::recurrence::Succession;
use super::redrive::{self, Redriven};

/// The longest that one read of a container's outbox may take.
pub(super) const READ_PATIENCE: Duration = Duration::from_secs(2);

/// How many rows are read from the outbox at once.
pub(super) const PAGE: u32 = 256;

/// How many undelivered rows of one destination one look takes. Those behind them wait for these
/// anyway, and so hide no row for another destination.
pub(super) const OPEN_PER_DESTINATION: usize = 256;

/// How many bytes of content one look keeps at most.
const CONTENT_ROOM: usize = 8 << 20;

/// How many rows are read at once for their content: each may have a MiB of it.
pub(super) const LARGE_PAGE: usize = 8;

/// How many rows one look passes over at most.
pub(super) const SCAN_MAX: usize = 16_384;

/// Where a session's boxes are.
#[derive(Debug, Clone)]
pub struct Boxes {
    session: SessionId,
    paths: SessionPaths,
    scratch: PathBuf,
    quota: u64,
}

/// What one look at both boxes showed.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The pending messages, oldest first.
    pub pending: Vec<PendingMessage>,
    /// Their acks.
    pub acks: Acks,
    /// The occurrences that carry the recurrence of their series.
    pub recurring: Vec<Occurrence>,
    /// The rows beyond the cursor that are not settled, after those that the cursor can pass. Before
    /// them, those at or before the cursor that a person wants sent once more.
    pub rows: Vec<(OutRow, Option<Delivery>)>,
    /// Rows that are to be sent and are not in the outbox any more.
    pub gone: Vec<(MessageId, Delivery)>,
    /// The acks of the messages that these rows answer, settled rows left aside.
    pub answers: Acks,
    /// Those of these messages that are cancelled or paused, with their ended attempts.
    pub withdrawn: HashMap<MessageId, i64>,
    /// The highest number in the outbox, whether or not this look came so far.
    pub newest: Seq,
    /// What that was when an attempt was charged last.
    pub charged: Seq,
    /// Whether there may be rows beyond these.
    pub more: bool,
    /// How far the host has come, `seen` including this look.
    pub cursor: Cursor,
    /// Whether this look saw a higher number than the inbox records.
    pub seen_more: bool,
    /// The container's tool.
    pub tool: ToolState,
    /// How the outbox was to be read.
    pub writers: Writers,
}

/// Whether the outbox may be read as it lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writers {
    /// A container may be writing.
    #[default]
    Possible,
    /// The runtime confirmed that no process of the session lives, so a hot journal is rolled back
    /// in a private copy.
    None,
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
            scratch: scratch.join(session.to_string()),
            quota,
        }
    }

    /// Whose they are.
    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    /// The paths.
    pub fn paths(&self) -> &SessionPaths {
        &self.paths
    }

    /// Creates the folder with its two halves. `in/` can be read by the container's user, nothing
    /// above it can.
    ///
    /// # Errors
    /// [`BoxError::Io`].
    pub fn create(&self) -> Result<(), BoxError> {
        for (dir, mode) in [(self.paths.in_dir(), 0o755), (self.paths.out_dir(), 0o700)] {
            if dir.is_dir() {
                continue;
            }
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .and_then(|()| std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)))
                .map_err(|source| io_error("create", dir, source))?;
        }
        Ok(())
    }

    /// Stores messages in one transaction: all of them, or none. `seen` is the highest number that
    /// was read from the outbox.
    ///
    /// # Errors
    /// [`BoxError::Busy`] if the container holds a lock; [`BoxError::Sqlite`] if the disk is full.
    pub fn accept(
        &self,
        messages: &[NewMessage],
        seen: Seq,
        now: UnixMillis,
    ) -> Result<Vec<Accepted>, BoxError> {
        self.create()?;
        let mut inbox = Inbox::open(&self.paths.inbound_db())?;
        let tx = inbox.write()?;
        let accepted = messages
            .iter()
            .map(|message| tx.accept(message, seen, now))
            .collect::<Result<_, _>>()?;
        tx.commit()?;
        Ok(accepted)
    }

    /// Looks at both boxes.
    ///
    /// # Errors
    /// Any [`BoxError`]; its remedy tells what to do.
    pub fn look(&self, writers: Writers) -> Result<Look, BoxError> {
        if !self.paths.inbound_db().exists() {
            return Ok(Look::default()); // nothing was ever accepted
        }
        let mut inbox = Inbox::open_to_read(&self.paths.inbound_db())?;
        let tx = inbox.read()?;
        let look = Look {
            pending: tx.pending()?,
            recurring: tx.recurring()?,
            cursor: tx.cursor()?,
            charged: tx.charged()?,
            writers,
            ..Look::default()
        };
        let found = self
            .read(writers, |outbox| read_outbox(outbox, &tx, &look.pending, look.cursor))
            .map_err(confine)?;
        let Some(found) = found else {
            let gone = redrive::without_outbox(&tx)?;
            return Ok(Look { gone, ..look });
        };
        Ok(Look {
            seen_more: found.seen > look.cursor.seen,
            cursor: Cursor { seen: look.cursor.seen.max(found.seen), ..look.cursor },
            charged: look.charged,
            pending: look.pending,
            recurring: look.recurring,
            acks: found.acks,
            rows: found.rows,
            gone: found.gone,
            answers: found.answers,
            withdrawn: found.withdrawn,
            newest: found.newest,
            more: found.more,
            tool: found.tool,
            writers,
        })
    }

    /// The contents of rows that a look had no room for.
    ///
    /// # Errors
    /// As for [`Boxes::look`].
    pub fn contents(
        &self,
        writers: Writers,
        rows: &[MessageId],
        high_water: Seq,
    ) -> Result<HashMap<MessageId, String>, BoxError> {
        let found =
            self.read(writers, |outbox| outbox.rows_of(rows, high_water)).map_err(confine)?;
        let contents = found.unwrap_or_default().into_iter();
        Ok(contents.filter_map(|row| Some((row.id, row.content?))).collect())
    }

    /// Reads the outbox as it lies there, or a repaired copy if nobody can be writing.
    pub(super) fn read<T>(
        &self,
        writers: Writers,
        work: impl Fn(&UntrustedOutbox<'_>) -> Result<T, BoxError>,
    ) -> Result<Option<T>, BoxError> {
        let path = self.paths.outbound_db();
        let read = |source: Source<'_>| outbox::read_untrusted(&path, source, READ_PATIENCE, &work);
        match read(Source::Live) {
            Err(BoxError::HotJournal) if writers == Writers::None => self.read_copy(read),
            other => other,
        }
    }

    fn read_copy<T>(
        &self,
        read: impl FnOnce(Source<'_>) -> Result<T, BoxError>,
    ) -> Result<T, BoxError> {
        let scratch = &self.scratch;
        let clear = || match std::fs::remove_dir_all(scratch) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io_error("clear", scratch, error))
            }
            _ => Ok(()),
        };
        clear()?;
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(scratch)
            .map_err(|source| io_error("create", scratch, source))?;
        let result = read(Source::Copy { scratch, quota: self.quota });
        clear()?;
        result
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
                Action::Hasten { message, tries } => tx.hasten(message, *tries)?,
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
        tx.advance(changes.cursor)?;
        tx.raise_charged(changes.charged)?;
        tx.commit()
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

    /// Gives failed messages new attempts: one, or all. Returns how many had failed.
    ///
    /// # Errors
    /// As for [`Boxes::accept`].
    pub fn revive(&self, message: Option<&MessageId>) -> Result<usize, BoxError> {
        if !self.paths.inbound_db().exists() {
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
        tx.commit()?;
        Ok(revived)
    }

    /// When the heartbeat was last touched, by the container's word.
    pub fn heartbeat(&self) -> Option<SystemTime> {
        let meta = std::fs::symlink_metadata(self.paths.heartbeat()).ok()?;
        meta.is_file().then(|| meta.modified().ok()).flatten()
    }
}

/// A version is the container's word like everything else in its outbox. It concerns this session
/// only, and is no reason for the host to wait for a person with the container running.
fn confine(error: BoxError) -> BoxError {
    match error {
        BoxError::Newer { found, known } => BoxError::Refused {
            reason: format!(
                "the outbox says that it has version {found}, and this host knows up to {known}: \
                 if the runner is newer than the host, update Twobox"
            ),
        },
        other => other,
    }
}

/// What one read of the outbox showed.
struct Found {
    acks: Acks,
    rows: Vec<(OutRow, Option<Delivery>)>,
    gone: Vec<(MessageId, Delivery)>,
    answers: Acks,
    withdrawn: HashMap<MessageId, i64>,
    newest: Seq,
    more: bool,
    seen: Seq,
    tool: ToolState,
}

/// How much content one look may still keep in memory. Rows beyond that come without, and theirs is
/// read when they are sent.
pub(super) struct ContentRoom {
    bytes: usize,
}

impl Default for ContentRoom {
    fn default() -> Self {
        Self { bytes: CONTENT_ROOM }
    }
}

impl ContentRoom {
    pub(super) fn admit(&mut self, row: &mut OutRow) {
        let size = row.content.as_ref().map_or(0, String::len);
        match self.bytes.checked_sub(size) {
            Some(left) => self.bytes = left,
            None => row.content = None,
        }
    }
}

fn read_outbox(
    outbox: &UntrustedOutbox<'_>,
    inbox: &InboxTx<'_>,
    pending: &[PendingMessage],
    cursor: Cursor,
) -> Result<Found, BoxError> {
    let acks: HashMap<_, _> = outbox.acks(pending.iter().map(|message| &message.id))?;
    let mut high_water = inbox.high_water()?.max(cursor.seen);
    let mut room = ContentRoom::default();
    let Redriven { mut rows, gone, mut left_out } =
        redrive::read_redriven(outbox, inbox, cursor.seq, high_water, &mut room)?;
    // What the agent asks of the host waits for no destination.
    let mut open: HashMap<Option<Origin>, usize> = HashMap::new();
    let mut scanned = 0;
    let mut last = cursor.seq;
    loop {
        let Page { rows: page, more } = outbox.rows(last, high_water, PAGE)?;
        scanned += page.len();
        for mut row in page {
            last = row.seq;
            high_water = high_water.max(row.seq);
            let record = inbox.delivery(&row.id)?;
            if record.as_ref().is_some_and(|record| record.status.is_settled()) {
                // Behind an open row a settled one says nothing: the cursor cannot reach it yet.
                if open.is_empty() {
                    row.content = None;
                    rows.push((row, record));
                }
                continue;
            }
            let destination = (row.kind != KIND_SYSTEM).then(|| row.destination.clone());
            let before = open.entry(destination).or_default();
            *before += 1;
            match *before <= OPEN_PER_DESTINATION {
                true => {
                    room.admit(&mut row);
                    rows.push((row, record));
                }
                false => left_out = true,
            }
        }
        if !more || scanned >= SCAN_MAX {
            let answered: Vec<MessageId> = rows
                .iter()
                .filter(|(_, record)| record.as_ref().is_none_or(|it| !it.status.is_settled()))
                .filter_map(|(row, _)| MessageId::parse(row.in_reply_to.as_deref()?).ok())
                .collect();
            return Ok(Found {
                acks,
                rows,
                gone,
                answers: outbox.acks(&answered)?,
                withdrawn: inbox.withdrawn(&answered)?,
                newest: outbox.newest()?.max(last),
                more: more || left_out,
                seen: last,
                tool: outbox.tool()?,
            });
        }
    }
}

fn io_error(action: &'static str, path: &Path, source: std::io::Error) -> BoxError {
    BoxError::Io { action, path: path.to_owned(), source }
}
