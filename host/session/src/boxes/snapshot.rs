//! A look at both boxes. The outbox is what a container wrote: each look takes a bounded part of it,
//! and whatever is wrong with it is no reason to wait for a person.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

use twobox_shared::content::KIND_SYSTEM;
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Cursor, Delivery, Inbox, InboxTx, Occurrence, Origin, PendingMessage};
use twobox_shared::open::BoxError;
use twobox_shared::outbox::{self, AckStatus, OutRow, Page, Source, ToolState, UntrustedOutbox};
use twobox_shared::seq::Seq;

use super::{Boxes, io_error};
use crate::decide::Acks;
use crate::redrive::{self, Redriven};

/// The longest that one read of a container's outbox may take.
pub(crate) const READ_PATIENCE: Duration = Duration::from_secs(2);

/// How many rows are read from the outbox at once.
const PAGE: u32 = 256;

/// How many undelivered rows of one destination one look takes. Those behind them wait for these
/// anyway, and so hide no row for another destination.
pub(crate) const OPEN_PER_DESTINATION: usize = 256;

/// How many bytes of content one look keeps at most.
const CONTENT_ROOM: usize = 8 << 20;

/// How many rows are read at once for their content: each may have a MiB of it.
pub(crate) const LARGE_PAGE: usize = 8;

/// How many rows one look passes over at most.
pub(crate) const SCAN_MAX: usize = 16_384;

/// What one look at both boxes showed.
#[derive(Debug, Clone, Default)]
pub struct BoxSnapshot {
    /// The pending messages, oldest first.
    pub pending: Vec<PendingMessage>,
    /// Their acks.
    pub acks: Acks,
    /// The paused tasks that a runner answered all the same: it had them first.
    pub answered: Vec<MessageId>,
    /// The occurrences that carry the recurrence of their series.
    pub recurring: Vec<Occurrence>,
    /// The rows beyond the cursor that are not settled, after those that the cursor can pass. Before
    /// them, those at or before the cursor that a person wants sent once more.
    pub rows: Vec<(OutRow, Option<Delivery>)>,
    /// Rows that are to be sent and are not in the outbox any more.
    pub gone: Vec<(MessageId, Delivery)>,
    /// The acks of the messages that these rows answer, settled rows left aside.
    pub answers: Acks,
    /// Those of these messages that are cancelled or paused tasks, with their ended attempts.
    pub withdrawn: HashMap<MessageId, i64>,
    /// The highest number in the outbox, whether or not this look came so far.
    pub newest: Seq,
    /// What that was when an attempt was charged last.
    pub charged: Seq,
    /// Whether there may be rows beyond these.
    pub more: bool,
    /// The first row beyond the cursor that was left out although rows behind it were not.
    pub left_out: Option<Seq>,
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

impl Boxes {
    /// Looks at both boxes.
    ///
    /// # Errors
    /// Any [`BoxError`]; its remedy tells what to do.
    pub fn look(&self, writers: Writers) -> Result<BoxSnapshot, BoxError> {
        if !self.has_inbox() {
            return Ok(BoxSnapshot::default()); // nothing was ever accepted
        }
        let mut inbox = Inbox::open_to_read(&self.paths.inbound_db())?;
        let tx = inbox.read()?;
        let pending = tx.pending()?;
        let cursor = tx.cursor()?;
        let found = self
            .read(writers, |outbox| read_outbox(outbox, &tx, &pending, cursor))
            .map_err(confine)?;
        let outside = match found {
            Some(found) => found,
            None => BoxSnapshot {
                gone: redrive::without_outbox(&tx)?,
                cursor,
                ..BoxSnapshot::default()
            },
        };
        let (recurring, charged) = (tx.recurring()?, tx.charged()?);
        Ok(BoxSnapshot { pending, recurring, charged, writers, ..outside })
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

    /// Where messages were said, as far as the inbox still has them and a channel handed them in.
    ///
    /// # Errors
    /// As for [`Boxes::look`], of the inbox.
    pub(crate) fn origins(
        &self,
        messages: BTreeSet<MessageId>,
    ) -> Result<HashMap<MessageId, Origin>, BoxError> {
        if !self.has_inbox() {
            return Ok(HashMap::new());
        }
        Inbox::open_to_read(&self.paths.inbound_db())?.read()?.origins(messages)
    }

    /// Reads the outbox as it lies there, or a repaired copy if nobody can be writing.
    pub(crate) fn read<T>(
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

/// How much content one look may still keep in memory. Rows beyond that come without, and theirs is
/// read when they are sent.
pub(crate) struct ContentRoom {
    bytes: usize,
}

impl Default for ContentRoom {
    fn default() -> Self {
        Self { bytes: CONTENT_ROOM }
    }
}

impl ContentRoom {
    pub(crate) fn admit(&mut self, row: &mut OutRow) {
        let size = row.content.as_ref().map_or(0, String::len);
        match self.bytes.checked_sub(size) {
            Some(left) => self.bytes = left,
            None => row.content = None,
        }
    }
}

/// What the outbox says, and the records that the inbox has of its rows.
fn read_outbox(
    outbox: &UntrustedOutbox<'_>,
    inbox: &InboxTx<'_>,
    pending: &[PendingMessage],
    cursor: Cursor,
) -> Result<BoxSnapshot, BoxError> {
    let acks: HashMap<_, _> = outbox.acks(pending.iter().map(|message| &message.id))?;
    let paused = outbox.acks(&inbox.paused()?)?.into_iter();
    let answered = paused.filter(|(_, ack)| ack.status == AckStatus::Completed).map(|(id, _)| id);
    let answered = answered.collect();
    let mut high_water = inbox.high_water()?.max(cursor.seen);
    let mut room = ContentRoom::default();
    let Redriven { mut rows, gone, left_out: fewer } =
        redrive::read_redriven(outbox, inbox, cursor.seq, high_water, &mut room)?;
    // What the agent asks of the host waits for no destination.
    let mut open: HashMap<Option<Origin>, usize> = HashMap::new();
    let mut scanned = 0;
    let mut left_out = None;
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
                false => left_out = left_out.or(Some(row.seq)),
            }
        }
        if !more || scanned >= SCAN_MAX {
            let replied_to: Vec<MessageId> = rows
                .iter()
                .filter(|(_, record)| record.as_ref().is_none_or(|it| !it.status.is_settled()))
                .filter_map(|(row, _)| MessageId::parse(row.in_reply_to.as_deref()?).ok())
                .collect();
            return Ok(BoxSnapshot {
                acks,
                rows,
                gone,
                answered,
                answers: outbox.acks(&replied_to)?,
                withdrawn: inbox.withdrawn(&replied_to)?,
                newest: outbox.newest()?.max(last),
                more: more || fewer || left_out.is_some(),
                left_out,
                cursor: Cursor { seen: cursor.seen.max(last), ..cursor },
                seen_more: last > cursor.seen,
                tool: outbox.tool()?,
                ..BoxSnapshot::default()
            });
        }
    }
}
