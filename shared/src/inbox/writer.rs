//! The host's side: storing messages, and recording what became of them. What it reads is in `stored`.

use std::path::Path;

use rusqlite::{
    Connection, OptionalExtension, Row, Transaction, TransactionBehavior, named_params,
};

use super::{Accepted, NewMessage, Origin, failed};
use crate::content::{Failure, KIND_CHAT, KIND_WORD, digest16};
use crate::ids::MessageId;
use crate::open::{self, BoxError};
use crate::seq::Seq;
use crate::time::UnixMillis;

/// The host's hand on one inbox, for one operation.
#[derive(Debug)]
pub struct Inbox {
    conn: Connection,
}

impl Inbox {
    /// Opens, creates or migrates the inbox at `path`.
    ///
    /// # Errors
    /// [`BoxError::Busy`] if somebody held a lock for longer than [`open::WRITE_PATIENCE`].
    pub fn open(path: &Path) -> Result<Self, BoxError> {
        Ok(Self { conn: open::inbox_writer(path)? })
    }

    /// As [`Inbox::open`]. An inbox that is not there yet is made of pages of `page_size` bytes.
    ///
    /// # Errors
    /// As for [`Inbox::open`].
    pub fn open_with_pages(path: &Path, page_size: Option<u32>) -> Result<Self, BoxError> {
        Ok(Self { conn: open::inbox_writer_with_pages(path, page_size)? })
    }

    /// Opens the inbox at `path` for an operation that only reads, so that nobody is woken by its
    /// end. A write then fails.
    ///
    /// # Errors
    /// As for [`Inbox::open`].
    pub fn open_to_read(path: &Path) -> Result<Self, BoxError> {
        Ok(Self { conn: open::inbox_owner(path)? })
    }

    /// One read transaction.
    ///
    /// # Errors
    /// [`BoxError::Busy`] as for [`Inbox::open`].
    pub fn read(&mut self) -> Result<InboxTx<'_>, BoxError> {
        self.begin(TransactionBehavior::Deferred)
    }

    /// One write transaction, which has the write lock from the start.
    ///
    /// # Errors
    /// [`BoxError::Busy`] as for [`Inbox::open`].
    pub fn write(&mut self) -> Result<InboxTx<'_>, BoxError> {
        self.begin(TransactionBehavior::Immediate)
    }

    fn begin(&mut self, behavior: TransactionBehavior) -> Result<InboxTx<'_>, BoxError> {
        self.conn
            .transaction_with_behavior(behavior)
            .map(|tx| InboxTx { tx })
            .map_err(failed("begin an inbox transaction"))
    }
}

/// A message that stands in the inbox, as far as it is compared with one that is handed in.
pub(super) struct Kept {
    kind: String,
    content: String,
    origin: Origin,
    seq: Seq,
}

/// One transaction on the inbox. Dropped without [`InboxTx::commit`], it changes nothing.
#[derive(Debug)]
pub struct InboxTx<'a> {
    tx: Transaction<'a>,
}

impl InboxTx<'_> {
    /// For statements that stand in other modules.
    pub(crate) fn conn(&self) -> &Connection {
        &self.tx
    }

    /// Makes everything since the beginning durable.
    ///
    /// # Errors
    /// [`BoxError::Busy`] if a reader held its lock for too long: nothing was changed.
    pub fn commit(self) -> Result<(), BoxError> {
        self.tx.commit().map_err(failed("commit to the inbox"))
    }

    /// Stores `message` unless it is there already. `seen` is the highest number that this host
    /// has read from the outbox.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`] if the disk is full or broken: nothing was stored.
    pub fn accept(
        &self,
        message: &NewMessage,
        seen: Seq,
        now: UnixMillis,
    ) -> Result<Accepted, BoxError> {
        let (id, there) = self.place(message)?;
        match there {
            Some(Kept { seq, .. }) => Ok(Accepted { id, seq, duplicate: true }),
            None => self.insert(id, message, seen, now),
        }
    }

    /// As which kind `message` was accepted before, if it was.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn accepted_as(&self, message: &NewMessage) -> Result<Option<String>, BoxError> {
        Ok(self.place(message)?.1.map(|kept| kept.kind))
    }

    /// Under which id `message` stands, or would, and what is there if it does. Ids are unique in a chat and
    /// not among chats, so what was said somewhere else is another message, whatever it says.
    fn place(&self, message: &NewMessage) -> Result<(MessageId, Option<Kept>), BoxError> {
        let was_said = [KIND_CHAT, KIND_WORD].contains(&message.kind.as_str())
            && message.run_id.is_none()
            && message.source_session.is_none();
        let mut id = message.id.clone();
        while let Some(kept) = self.stored(&id)? {
            let from_there = !was_said || kept.origin == message.origin;
            if kept.content == message.content && from_there {
                return Ok((id, Some(kept)));
            }
            id = derived_id(&id, &message.content);
        }
        Ok((id, None))
    }

    pub(super) fn stored(&self, id: &MessageId) -> Result<Option<Kept>, BoxError> {
        let from_row = |row: &Row<'_>| {
            Ok(Kept {
                kind: row.get("kind")?,
                content: row.get("content")?,
                origin: Origin::from_row(row)?,
                seq: row.get("seq")?,
            })
        };
        self.tx
            .prepare_cached(
                "SELECT kind, content, seq, channel_type, platform_id, thread_id
                 FROM messages_in WHERE id = :id",
            )
            .and_then(|mut select| {
                select.query_row(named_params! { ":id": id }, from_row).optional()
            })
            .map_err(failed("look for a message"))
    }

    fn insert(
        &self,
        id: MessageId,
        message: &NewMessage,
        seen: Seq,
        now: UnixMillis,
    ) -> Result<Accepted, BoxError> {
        let seq = self.next_seq(seen)?;
        self.tx
            .prepare_cached(
                "INSERT INTO messages_in (id, seq, kind, timestamp, status, process_after, trigger,
                   platform_id, channel_type, thread_id, content, source_session_id, run_id)
                 VALUES (:id, :seq, :kind, :timestamp, :status, :process_after, :trigger,
                   :platform_id, :channel_type, :thread_id, :content, :source_session_id, :run_id)",
            )
            .and_then(|mut insert| {
                insert.execute(named_params! {
                    ":id": id,
                    ":seq": seq,
                    ":kind": message.kind,
                    ":timestamp": now.to_rfc3339(),
                    ":status": if message.kind == KIND_WORD { "completed" } else { "pending" },
                    ":process_after": message.process_after.map(UnixMillis::to_rfc3339),
                    ":trigger": i64::from(message.trigger),
                    ":platform_id": message.origin.platform_id,
                    ":channel_type": message.origin.channel_type,
                    ":thread_id": message.origin.thread_id,
                    ":content": message.content,
                    ":source_session_id": message.source_session,
                    ":run_id": message.run_id,
                })
            })
            .map_err(failed("store a message"))?;
        Ok(Accepted { id, seq, duplicate: false })
    }

    /// The number of the next message. `seen` is the highest number that was read from the outbox.
    pub(super) fn next_seq(&self, seen: Seq) -> Result<Seq, BoxError> {
        Ok(self.high_water()?.max(self.cursor()?.seen).max(seen).next_even())
    }

    /// Takes a message back that is not settled: no attempt begins any more. Returns whether it was
    /// pending.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn withdraw(&self, id: &MessageId) -> Result<bool, BoxError> {
        self.change(
            "take a message back",
            "UPDATE messages_in SET status = 'cancelled', process_after = NULL
             WHERE id = :id AND status = 'pending'",
            named_params! { ":id": id },
        )
    }

    /// Takes in a `completed` ack, also of a task that was paused when a runner had it already.
    /// Returns whether the message was pending or paused.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn complete(&self, id: &MessageId) -> Result<bool, BoxError> {
        self.change(
            "complete a message",
            "UPDATE messages_in SET status = 'completed', process_after = NULL
             WHERE id = :id AND status IN ('pending', 'paused')",
            named_params! { ":id": id },
        )
    }

    /// Charges the ended attempt number `attempt`, to be repeated not before `process_after`.
    /// Returns whether that attempt was still uncharged.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn charge(
        &self,
        id: &MessageId,
        attempt: i64,
        forgiven: bool,
        process_after: Option<UnixMillis>,
    ) -> Result<bool, BoxError> {
        self.change(
            "charge an attempt",
            "UPDATE messages_in
             SET tries = :attempt + 1, forgiven = forgiven + :forgiven,
                 process_after = :process_after
             WHERE id = :id AND status = 'pending' AND tries = :attempt",
            named_params! {
                ":id": id,
                ":attempt": attempt,
                ":forgiven": i64::from(forgiven),
                ":process_after": process_after.map(UnixMillis::to_rfc3339),
            },
        )
    }

    /// Makes a retry due now that waits for a time which the clock was set back from. Returns whether
    /// it waited, with `tries` ended attempts.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn retry_now(&self, id: &MessageId, tries: i64) -> Result<bool, BoxError> {
        self.change(
            "make a retry due",
            "UPDATE messages_in SET process_after = NULL
             WHERE id = :id AND status = 'pending' AND tries = :tries AND tries > 0
               AND process_after IS NOT NULL",
            named_params! { ":id": id, ":tries": tries },
        )
    }

    /// Charges attempt number `attempt` as the last one. Returns whether it was still uncharged.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn fail(&self, id: &MessageId, attempt: i64, failure: &Failure) -> Result<bool, BoxError> {
        self.change(
            "fail a message",
            "UPDATE messages_in
             SET status = 'failed', tries = :attempt + 1, process_after = NULL, failure = :failure
             WHERE id = :id AND status = 'pending' AND tries = :attempt",
            named_params! { ":id": id, ":attempt": attempt, ":failure": failure.to_json() },
        )
    }

    /// Gives a failed message new attempts, on a person's word. `tries` never goes down: a claim of
    /// an old attempt would block the message for ever. That of a scheduled run stays failed: its run
    /// is over, and another one is the schedule's to make. Returns whether it had failed.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn revive(&self, id: &MessageId) -> Result<bool, BoxError> {
        self.change(
            "retry a message",
            "UPDATE messages_in
             SET status = 'pending', forgiven = tries, process_after = NULL, failure = NULL
             WHERE id = :id AND status = 'failed' AND run_id IS NULL",
            named_params! { ":id": id },
        )
    }

    pub(crate) fn change(
        &self,
        action: &'static str,
        sql: &str,
        params: &[(&str, &dyn rusqlite::ToSql)],
    ) -> Result<bool, BoxError> {
        let changed = self
            .tx
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params))
            .map_err(failed(action))?;
        debug_assert!(changed <= 1, "{action} changed {changed} rows");
        Ok(changed == 1)
    }
}

/// The id for other content that came under an id already taken. An id that is too long for the
/// suffix is cut, and the digest then stands for all of it.
pub(super) fn derived_id(id: &MessageId, content: &str) -> MessageId {
    const SUFFIX: usize = 17; // "~" and 16 digits
    let whole = id.as_str();
    let mut end = whole.len().min(crate::ids::MESSAGE_ID_MAX - SUFFIX);
    while !whole.is_char_boundary(end) {
        end -= 1;
    }
    let digest = match end == whole.len() {
        true => digest16(content),
        false => digest16(&format!("{whole}\0{content}")),
    };
    MessageId::parse(&format!("{}~{digest}", &whole[..end]))
        .expect("a valid id with a short suffix of digits stays valid")
}
