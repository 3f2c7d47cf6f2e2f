//! The host's side: storing messages, and recording what became of them.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{
    Connection, OptionalExtension, Row, Transaction, TransactionBehavior, named_params,
};

use super::{Accepted, NewMessage, Origin, PendingMessage, Stored, failed, instant};
use crate::content::{Failure, KIND_CHAT, KIND_SYSTEM, digest16};
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
        let mut id = message.id.clone();
        while let Some((content, seq)) = self.stored(&id)? {
            if content == message.content {
                return Ok(Accepted { id, seq, duplicate: true });
            }
            id = derived_id(&id, &message.content);
        }
        self.insert(id, message, seen, now)
    }

    pub(super) fn stored(&self, id: &MessageId) -> Result<Option<(String, Seq)>, BoxError> {
        self.tx
            .prepare_cached("SELECT content, seq FROM messages_in WHERE id = :id")
            .and_then(|mut select| {
                select
                    .query_row(named_params! { ":id": id }, |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
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
                "INSERT INTO messages_in (id, seq, kind, timestamp, process_after, trigger,
                   platform_id, channel_type, thread_id, content, source_session_id, run_id)
                 VALUES (:id, :seq, :kind, :timestamp, :process_after, :trigger,
                   :platform_id, :channel_type, :thread_id, :content, :source_session_id, :run_id)",
            )
            .and_then(|mut insert| {
                insert.execute(named_params! {
                    ":id": id,
                    ":seq": seq,
                    ":kind": message.kind,
                    ":timestamp": now.to_rfc3339(),
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

    /// How far the message `id` is; `None` if it is not there.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn find(&self, id: &MessageId) -> Result<Option<Stored>, BoxError> {
        let from_row = |row: &Row<'_>| {
            let failure: Option<String> = row.get("failure")?;
            Ok(Stored {
                seq: row.get("seq")?,
                status: row.get("status")?,
                failure: failure.as_deref().map(Failure::from_json),
            })
        };
        self.tx
            .prepare_cached("SELECT seq, status, failure FROM messages_in WHERE id = :id")
            .and_then(|mut select| {
                select.query_row(named_params! { ":id": id }, from_row).optional()
            })
            .map_err(failed("look for a message"))
    }

    /// Where each of `messages` was said that a channel handed in. Left out is what is not there, or not
    /// any more, and what the host made: tasks, runs and notes have an answer that goes somewhere, but
    /// nobody said them there, and the chat knows no message of their ids.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn origins(
        &self,
        messages: impl IntoIterator<Item = MessageId>,
    ) -> Result<HashMap<MessageId, Origin>, BoxError> {
        let read = failed("look for where messages were said");
        let mut select = self
            .tx
            .prepare_cached(
                "SELECT channel_type, platform_id, thread_id FROM messages_in
                 WHERE id = :id AND kind = :kind
                   AND run_id IS NULL AND series_id IS NULL AND source_session_id IS NULL",
            )
            .map_err(&read)?;
        let mut origins = HashMap::new();
        for id in messages {
            let params = named_params! { ":id": id, ":kind": KIND_CHAT };
            let origin = select.query_row(params, Origin::from_row);
            if let Some(origin) = origin.optional().map_err(&read)? {
                origins.insert(id, origin);
            }
        }
        Ok(origins)
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

    /// All pending messages, oldest first.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn pending(&self) -> Result<Vec<PendingMessage>, BoxError> {
        const SELECT: &str = "
            SELECT id, seq, tries, forgiven, trigger, process_after,
                   channel_type, platform_id, thread_id, run_id IS NOT NULL AS of_run,
                   series_id IS NOT NULL AS of_task
            FROM messages_in WHERE status = 'pending' ORDER BY seq";
        let from_row = |row: &Row<'_>| {
            Ok(PendingMessage {
                id: row.get("id")?,
                seq: row.get("seq")?,
                tries: row.get("tries")?,
                forgiven: row.get("forgiven")?,
                trigger: row.get::<_, i64>("trigger")? != 0,
                process_after: instant(row, "process_after")?,
                origin: Origin::from_row(row)?,
                of_run: row.get("of_run")?,
                of_task: row.get("of_task")?,
            })
        };
        self.tx
            .prepare_cached(SELECT)
            .and_then(|mut select| select.query_map([], from_row)?.collect())
            .map_err(failed("list pending messages"))
    }

    /// How many messages from the host wait to be told to the agent as context.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn waiting_notes(&self) -> Result<u32, BoxError> {
        self.tx
            .prepare_cached(
                "SELECT count(*) FROM messages_in
                 WHERE status = 'pending' AND trigger = 0 AND kind = :kind",
            )
            .and_then(|mut select| {
                select.query_row(named_params! { ":kind": KIND_SYSTEM }, |row| row.get(0))
            })
            .map_err(failed("count notes"))
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

    /// The messages that ended as failed and can be retried, oldest first.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn failed(&self) -> Result<Vec<(MessageId, Failure)>, BoxError> {
        let from_row = |row: &Row<'_>| {
            let failure: Option<String> = row.get(1)?;
            Ok((row.get(0)?, Failure::from_json(failure.as_deref().unwrap_or_default())))
        };
        self.tx
            .prepare(
                "SELECT id, failure FROM messages_in
                 WHERE status = 'failed' AND run_id IS NULL ORDER BY seq",
            )
            .and_then(|mut select| select.query_map([], from_row)?.collect())
            .map_err(failed("list failed messages"))
    }

    /// The highest number in the inbox.
    ///
    /// # Errors
    /// [`BoxError::Sqlite`].
    pub fn high_water(&self) -> Result<Seq, BoxError> {
        self.tx
            .prepare_cached("SELECT max(seq) FROM messages_in")
            .and_then(|mut select| select.query_row([], |row| row.get::<_, Option<Seq>>(0)))
            .map(Option::unwrap_or_default)
            .map_err(failed("find the newest message"))
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
