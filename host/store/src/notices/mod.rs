//! Notices: what the host itself has to tell a person, at most once per session and cause.

mod put_off;

use rusqlite::{Connection, Row, TransactionBehavior, named_params};
use twobox_shared::dead_letter::Fate;
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::inbox::{Delivery, DeliveryStatus};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

pub use self::put_off::PutOff;
use super::approvals::SaidIn;
use super::{DbError, Notices, Operation, failed};
use twobox_model::channel::Address;

/// A notice that was not delivered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about; unique in its session.
    pub cause: String,
    /// Where it goes.
    pub address: Address,
    /// What it says.
    pub text: String,
    /// It stands behind the rows of the outbox up to this number, which the session had seen when it
    /// was written. `None` until the session takes it up, if somebody else wrote it.
    pub behind: Option<Seq>,
    /// The messages that it answers, besides one that it says has failed.
    pub answers: Vec<MessageId>,
    /// How far its delivery has come. Its hold is counted from when it was written, or redriven last.
    pub record: Delivery,
}

impl Notice {
    /// A fresh notice.
    pub fn held(cause: String, address: Address, text: String, now: UnixMillis) -> Self {
        let record = Delivery {
            status: DeliveryStatus::Held,
            attempts: 0,
            next_attempt_at: None,
            changed_at: now,
            error: None,
            platform_message_id: None,
        };
        Self { cause, address, text, behind: None, answers: Vec::new(), record }
    }

    /// What begins the cause of a notice that answers what a person said to the host.
    const WORD: &str = "word:";

    /// A fresh notice that answers `word`, and of the `others` that no answer follows.
    pub fn of_word(
        word: &MessageId,
        others: Vec<MessageId>,
        address: Address,
        text: String,
        now: UnixMillis,
    ) -> Self {
        let answers = [word.clone()].into_iter().chain(others).collect();
        let cause = format!("{}{word}", Self::WORD);
        Self { answers, ..Self::held(cause, address, text, now) }
    }

    /// What begins the cause of a notice that what was meant as an answer is none.
    pub(crate) const UNCLEAR: &str = "unclear:";

    /// A fresh notice that what was `said` there was meant as an answer to what was asked, and is none.
    pub fn unclear(said: &SaidIn, address: Address, text: String, now: UnixMillis) -> Self {
        let cause = Self::unclear_cause(said, &address);
        Self { answers: vec![said.message.clone()], ..Self::held(cause, address, text, now) }
    }

    /// The cause of that. An id is unique in its chat alone.
    pub fn unclear_cause(said: &SaidIn, address: &Address) -> String {
        format!("{}{}:{}", Self::UNCLEAR, address.digest(), said.word())
    }

    /// A fresh notice that no answer follows to `first` and `others`, which somebody has stopped elsewhere.
    pub fn stopped_elsewhere(
        first: &MessageId,
        others: &[MessageId],
        address: Address,
        text: String,
        now: UnixMillis,
    ) -> Self {
        let answers = [first].into_iter().chain(others).cloned().collect();
        Self { answers, ..Self::held(format!("stopped:{first}"), address, text, now) }
    }

    /// What begins the cause of a notice that a message has failed.
    const FAILED: &str = "failed:";

    /// A fresh notice that `message` has failed with this attempt.
    pub fn failed(
        message: &MessageId,
        attempt: i64,
        address: Address,
        text: String,
        now: UnixMillis,
    ) -> Self {
        Self::held(format!("{}{message}:{attempt}", Self::FAILED), address, text, now)
    }

    /// The message that it says has failed, if it says so.
    pub fn failed_message(&self) -> Option<MessageId> {
        // An id may have a colon in it, an attempt has none.
        let (message, _attempt) = self.cause.strip_prefix(Self::FAILED)?.rsplit_once(':')?;
        MessageId::parse(message).ok()
    }

    const SELECT_OPEN: &str = "
        SELECT cause, channel_type, platform_id, thread_id, text, status, attempts,
               next_attempt_at_ms, error, created_at_ms, behind_seq, answers
        FROM notices WHERE session_id = :session AND status IN ('held', 'sending')
        ORDER BY created_at_ms, cause";

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let word: String = row.get("status")?;
        Ok(Self {
            cause: row.get("cause")?,
            address: Address {
                channel_type: row.get("channel_type")?,
                platform_id: row.get("platform_id")?,
                thread_id: row.get("thread_id")?,
            },
            text: row.get("text")?,
            behind: row.get("behind_seq")?,
            answers: answers(row)?,
            record: Delivery {
                status: DeliveryStatus::parse(&word).unwrap_or(DeliveryStatus::Held),
                attempts: row.get("attempts")?,
                next_attempt_at: row.get("next_attempt_at_ms")?,
                changed_at: row.get("created_at_ms")?,
                error: row.get("error")?,
                platform_message_id: None, // nobody asks for it
            },
        })
    }
}

impl Notices<'_> {
    /// Stores a notice unless the session has one for that cause. Returns whether it is new.
    pub fn add(&self, session: SessionId, notice: &Notice) -> Operation<bool> {
        let notice = notice.to_owned();
        self.0.compound(move |db| add(db, session, &notice))
    }

    /// Stores a notice unless this session, or one of the `others` that hear the same, has one for its cause.
    /// Returns whether it is new.
    pub fn add_for_all(
        &self,
        session: SessionId,
        others: Vec<SessionId>,
        notice: &Notice,
    ) -> Operation<bool> {
        let notice = notice.to_owned();
        self.0.compound(move |db| {
            let step = failed("store a notice");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            if is_told(&tx, &others, &notice.cause).map_err(&step)? {
                return Ok(false);
            }
            let is_new = add(&tx, session, &notice)?;
            tx.commit().map_err(step)?;
            Ok(is_new)
        })
    }

    /// The session's notices that are not settled, oldest first. Those that somebody else wrote stand, from
    /// now on, behind what the session has `seen` of its outbox.
    pub fn open(&self, session: SessionId, seen: Seq) -> Operation<Vec<Notice>> {
        self.0.operation("list notices", move |db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Deferred)?;
            let mut open: Vec<Notice> = tx
                .prepare_cached(Notice::SELECT_OPEN)?
                .query_map(named_params! { ":session": session }, Notice::from_row)?
                .collect::<Result<_, _>>()?;
            if open.iter().any(|notice| notice.behind.is_none()) {
                tx.execute(
                    "UPDATE notices SET behind_seq = :seen
                     WHERE session_id = :session AND behind_seq IS NULL
                       AND status IN ('held', 'sending')",
                    named_params! { ":session": session, ":seen": seen },
                )?;
                for notice in &mut open {
                    notice.behind.get_or_insert(seen);
                }
            }
            tx.commit()?;
            Ok(open)
        })
    }

    /// The messages that the session's notices answer, whatever became of them, besides those that one says
    /// have failed.
    pub fn answered(&self, session: SessionId) -> Operation<Vec<MessageId>> {
        self.0.operation("list what notices answer", move |db| {
            let lists: Vec<Vec<MessageId>> = db
                .prepare_cached(
                    "SELECT answers FROM notices
                     WHERE session_id = :session AND answers IS NOT NULL",
                )?
                .query_map(named_params! { ":session": session }, answers)?
                .collect::<Result<_, _>>()?;
            Ok(lists.into_iter().flatten().collect())
        })
    }

    /// Records how far a notice has come. A settled one is final: returns `false`.
    pub fn record(&self, session: SessionId, cause: &str, record: &Delivery) -> Operation<bool> {
        let cause = cause.to_owned();
        let record = record.to_owned();
        self.0.operation("record a notice", move |db| {
            db.execute(
                "UPDATE notices
                 SET status = :status, attempts = :attempts, next_attempt_at_ms = :next, error = :error
                 WHERE session_id = :session AND cause = :cause AND status IN ('held', 'sending')",
                named_params! {
                    ":session": session,
                    ":cause": cause,
                    ":status": record.status.as_str(),
                    ":attempts": record.attempts,
                    ":next": record.next_attempt_at,
                    ":error": record.error,
                },
            )
            .map(|changed| changed == 1)
        })
    }

    /// What became of each notice of the session, oldest first.
    pub fn told(&self, session: SessionId) -> Operation<Vec<Told>> {
        self.0.compound(move |db| {
            let from_row = |row: &Row<'_>| {
                let word: String = row.get("status")?;
                let status = DeliveryStatus::parse(&word).unwrap_or(DeliveryStatus::Held);
                let dropped = row.get::<_, Option<UnixMillis>>("dropped_at_ms")?.is_some();
                Ok(Told {
                    cause: row.get("cause")?,
                    channel_type: row.get("channel_type")?,
                    fate: Fate::of_delivery(status, row.get("error")?, dropped),
                })
            };
            db.prepare_cached(
                "SELECT cause, channel_type, status, error, dropped_at_ms FROM notices
                 WHERE session_id = :session ORDER BY created_at_ms, cause",
            )
            .and_then(|mut select| {
                select.query_map(named_params! { ":session": session }, from_row)?.collect()
            })
            .map_err(failed("list notices"))
        })
    }

    /// Lets a notice be sent once more, as if it were new. Returns whether it had failed, or perhaps,
    /// and was not dropped.
    pub fn redrive(&self, session: SessionId, cause: &str, now: UnixMillis) -> Operation<bool> {
        let cause = cause.to_owned();
        self.0.operation("redrive a notice", move |db| {
            db.execute(
                "UPDATE notices
                 SET status = 'held', attempts = 0, next_attempt_at_ms = NULL, error = NULL,
                     created_at_ms = :now, behind_seq = NULL
                 WHERE session_id = :session AND cause = :cause AND status IN ('failed', 'uncertain')
                   AND dropped_at_ms IS NULL",
                named_params! { ":session": session, ":cause": cause, ":now": now },
            )
            .map(|changed| changed == 1)
        })
    }

    /// Gives a notice up; its cause is not told again. Returns whether it had failed, or perhaps, and
    /// was not dropped before.
    pub fn dismiss(&self, session: SessionId, cause: &str, now: UnixMillis) -> Operation<bool> {
        let cause = cause.to_owned();
        self.0.operation("drop a notice", move |db| {
            db.execute(
                "UPDATE notices SET dropped_at_ms = :now
                 WHERE session_id = :session AND cause = :cause AND status IN ('failed', 'uncertain')
                   AND dropped_at_ms IS NULL",
                named_params! { ":session": session, ":cause": cause, ":now": now },
            )
            .map(|changed| changed == 1)
        })
    }
}

pub(crate) fn add(db: &Connection, session: SessionId, notice: &Notice) -> Result<bool, DbError> {
    db.execute(
        "INSERT INTO notices (session_id, cause, channel_type, platform_id, thread_id, text,
           created_at_ms, behind_seq, answers)
         VALUES (:session, :cause, :channel_type, :platform_id, :thread_id, :text, :now, :behind,
           :answers)
         ON CONFLICT (session_id, cause) DO NOTHING",
        named_params! {
            ":session": session,
            ":cause": notice.cause,
            ":channel_type": notice.address.channel_type,
            ":platform_id": notice.address.platform_id,
            ":thread_id": notice.address.thread_id,
            ":text": notice.text,
            ":now": notice.record.changed_at,
            ":behind": notice.behind,
            ":answers": (!notice.answers.is_empty()).then(|| {
                serde_json::to_string(&notice.answers).expect("ids are text")
            }),
        },
    )
    .map(|changed| changed == 1)
    .map_err(failed("store a notice"))
}

/// Whether one of `sessions` has a notice for `cause`.
pub(crate) fn is_told(
    db: &Connection,
    sessions: &[SessionId],
    cause: &str,
) -> rusqlite::Result<bool> {
    let mut select = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM notices WHERE session_id = :session AND cause = :cause)",
    )?;
    for session in sessions {
        let params = named_params! { ":session": session, ":cause": cause };
        if select.query_row(params, |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What stands in `answers`, a list in JSON. The host alone writes it.
fn answers(row: &Row<'_>) -> rusqlite::Result<Vec<MessageId>> {
    let text: Option<String> = row.get("answers")?;
    let list = text.map(|text| serde_json::from_str(&text));
    list.transpose().map(Option::unwrap_or_default).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// A notice, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What it is about.
    pub cause: String,
    /// The id of the channel that it goes to.
    pub channel_type: String,
    /// What became of it.
    pub fate: Fate,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_of_a_stop_answers_all_that_were_stopped() {
        let address =
            Address { channel_type: "c".into(), platform_id: "p".into(), thread_id: None };
        let [a, b] = ["a", "b"].map(|id| MessageId::parse(id).unwrap());
        let others = [b.clone()];
        let notice =
            Notice::stopped_elsewhere(&a, &others, address, "stopped".into(), UnixMillis(1));
        assert_eq!(notice.answers, [a, b]);
        assert_eq!(notice.failed_message(), None);
    }

    #[test]
    fn a_notice_of_a_failure_names_its_message_and_no_other_does() {
        let address =
            Address { channel_type: "c".into(), platform_id: "p".into(), thread_id: None };
        for id in ["m", "a:b", "0:1:2"] {
            let id = MessageId::parse(id).unwrap();
            let notice = Notice::failed(&id, 4, address.clone(), "sorry".into(), UnixMillis(1));
            assert_eq!(notice.failed_message(), Some(id));
        }
        let other = Notice::held("start:m:1".into(), address, "later".into(), UnixMillis(1));
        assert_eq!(other.failed_message(), None);
    }
}
