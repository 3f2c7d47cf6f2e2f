//! The durable things of the model: what the two boxes and `host.db` hold, with the guards that the
//! real statements repeat.

use std::collections::BTreeMap;

use twobox_model::channel::{Address, Outbound};
use twobox_session::decide::{Acks, Action};
use twobox_shared::ids::{MessageId, RunnerId};
pub(crate) use twobox_shared::inbox::Status;
use twobox_shared::inbox::{Cursor, Delivery, InboundMessage, Origin, PendingMessage};
use twobox_shared::outbox::{Ack, AckStatus, Claim, OutRow};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;
use twobox_store::notices::Notice;
use twobox_store::sessions::StopCause;

use crate::tasks::{Series, Task};

/// A row of `messages_in`, with what the model knows beside it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) row: PendingMessage,
    pub(crate) status: Status,
    /// Of an occurrence, what it belongs to.
    pub(crate) task: Option<Task>,
    /// History: attempts that a runner really began.
    pub(crate) begun: i64,
    /// History: turns that were committed as its answer.
    pub(crate) answers: u32,
}

/// Where something stands in its queue: as the row of this number, or as a notice behind it.
pub(crate) type Position = (Option<Seq>, bool);

/// One session's two boxes and its row in `host.db`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Boxes {
    pub(crate) messages: Vec<Message>,
    pub(crate) cursor: Cursor,
    pub(crate) charged: Seq,
    pub(crate) delivered: BTreeMap<MessageId, Delivery>,
    pub(crate) acks: BTreeMap<MessageId, Ack>,
    pub(crate) rows: Vec<OutRow>,
    pub(crate) due: bool,
    pub(crate) runner: Option<RunnerId>,
    pub(crate) stop_cause: Option<StopCause>,
    pub(crate) failed_starts: i64,
    pub(crate) start_after: Option<UnixMillis>,
    pub(crate) notices: Vec<Notice>,
    /// History: which time of which task was answered, by which occurrence.
    pub(crate) done: BTreeMap<(String, UnixMillis), MessageId>,
    /// History: the tasks that ever began.
    pub(crate) series: BTreeMap<String, Series>,
}

impl Boxes {
    /// The number of the next inbound row.
    pub(crate) fn accept(&mut self, name: String, thread: &str, trigger: bool) {
        let newest = self.messages.last().map_or(Seq(0), |message| message.row.seq);
        let origin = Origin {
            channel_type: Some("chan".into()),
            platform_id: Some("p".into()),
            thread_id: Some(thread.into()),
        };
        let row = PendingMessage {
            id: MessageId::parse(&name).expect("a plain name"),
            seq: newest.max(self.cursor.seen).next_even(),
            kind: "chat".into(),
            tries: 0,
            forgiven: 0,
            trigger,
            process_after: None,
            origin,
            of_run: false,
            of_task: false,
        };
        assert!(row.seq > newest && row.seq.0 % 2 == 0, "inbound numbers grow and are even");
        let status = Status::Pending;
        self.messages.push(Message { row, status, task: None, begun: 0, answers: 0 });
    }

    pub(crate) fn pending(&self) -> Vec<PendingMessage> {
        let pending = |message: &&Message| message.status == Status::Pending;
        self.messages.iter().filter(pending).map(|message| message.row.clone()).collect()
    }

    pub(crate) fn acks_of(&self, pending: &[PendingMessage]) -> Acks {
        let ack = |row: &PendingMessage| Some((row.id.clone(), self.acks.get(&row.id)?.clone()));
        pending.iter().filter_map(ack).collect()
    }

    /// The paused messages that are answered all the same.
    pub(crate) fn answered(&self) -> Vec<MessageId> {
        let paused = self.messages.iter().filter(|message| message.status == Status::Paused);
        let ids = paused.map(|message| &message.row.id);
        let is_answered = |id: &&MessageId| {
            self.acks.get(id).is_some_and(|ack| ack.status == AckStatus::Completed)
        };
        ids.filter(is_answered).cloned().collect()
    }

    pub(crate) fn message(&mut self, id: &MessageId) -> &mut Message {
        self.messages.iter_mut().find(|message| message.row.id == *id).expect("known message")
    }

    /// `Inbox::complete`, `charge` and `fail` with their guards.
    pub(crate) fn apply(&mut self, action: &Action, max_tries: i64) {
        match action {
            Action::Complete { message } => {
                let message = self.message(message);
                if message.status.is_live() {
                    message.status = Status::Completed;
                }
            }
            Action::Charge { message, attempt, forgiven, process_after } => {
                let message = self.message(message);
                if message.status == Status::Pending && message.row.tries == *attempt {
                    message.row.tries += 1;
                    message.row.forgiven += i64::from(*forgiven);
                    message.row.process_after = *process_after;
                    assert!(message.row.tries <= message.begun, "charged more than was begun");
                }
            }
            Action::RetryNow { message, tries } => {
                let message = self.message(message);
                if message.status == Status::Pending && message.row.tries == *tries {
                    assert!(*tries > 0, "a time that somebody chose was changed");
                    message.row.process_after = None;
                }
            }
            Action::Fail { message, attempt, failure } => {
                let message = self.message(message);
                if message.status == Status::Pending && message.row.tries == *attempt {
                    message.status = Status::Failed;
                    message.row.tries += 1;
                    assert_eq!(message.answers, 0, "failed although its answer is committed");
                    let real = message.begun - message.row.forgiven;
                    assert!(
                        real >= max_tries || !failure.retryable,
                        "failed after {real} real attempts"
                    );
                }
            }
        }
    }

    /// `OutboxWriter::claim` with its guard.
    pub(crate) fn claim(&mut self, wanted: &InboundMessage, runner: RunnerId) -> Option<Claim> {
        let claim = Claim { message: wanted.id.clone(), attempt: wanted.tries };
        if self.holds(std::slice::from_ref(&claim), runner) {
            return Some(claim); // repeated, because its commit was in doubt
        }
        let free = self.acks.get(&wanted.id).is_none_or(|ack| {
            ack.status != AckStatus::Completed && ack.attempt.unwrap_or(0) < wanted.tries
        });
        if !free {
            return None;
        }
        let ack = Ack { attempt: Some(wanted.tries), runner: Some(runner), ..Ack::default() };
        self.acks.insert(wanted.id.clone(), ack);
        let message = self.message(&wanted.id);
        assert_eq!(message.answers, 0, "claimed although its answer is committed");
        message.begun += 1;
        assert_eq!(message.begun, wanted.tries + 1, "an attempt was begun twice");
        Some(claim)
    }

    /// Whether every claim is still this runner's: the fence.
    pub(crate) fn holds(&self, claims: &[Claim], runner: RunnerId) -> bool {
        claims.iter().all(|claim| {
            self.acks.get(&claim.message).is_some_and(|ack| {
                ack.status == AckStatus::Processing
                    && ack.attempt == Some(claim.attempt)
                    && ack.runner == Some(runner)
            })
        })
    }

    /// A row that is there already is not sent again.
    pub(crate) fn send(&mut self, name: String, claims: &[Claim], floor: Seq, runner: RunnerId) {
        if self.rows.iter().any(|row| row.id.as_str() == name) {
            return;
        }
        let newest = self.newest();
        let seq = newest.max(floor).next_odd();
        assert!(seq > newest && seq.0 % 2 == 1, "outbound numbers grow and are odd");
        let origin = self.message(&claims[0].message).row.origin.clone();
        self.rows.push(OutRow {
            id: MessageId::parse(&name).expect("a plain name"),
            seq,
            in_reply_to: Some(claims[0].message.to_string()),
            timestamp: None,
            deliver_after: None,
            kind: "chat".into(),
            destination: origin,
            content: None,
            attempt: Some(claims[0].attempt),
            runner: Some(runner),
        });
    }

    /// `notices::add`: a person is told that `message` has failed. Returns whether that is new.
    pub(crate) fn tell(
        &mut self,
        message: &MessageId,
        attempt: i64,
        seen: Seq,
        now: UnixMillis,
    ) -> bool {
        let origin = self.message(message).row.origin.clone();
        let address = Address {
            channel_type: origin.channel_type.expect("all come from a channel"),
            platform_id: origin.platform_id.expect("all come from a chat"),
            thread_id: origin.thread_id,
        };
        let notice = Notice::failed(message, attempt, address, "it failed".into(), now);
        let fresh = self.notices.iter().all(|other| other.cause != notice.cause);
        if fresh {
            self.notices.push(Notice { behind: Some(seen), ..notice });
        }
        fresh
    }

    fn notice(&self, key: &str) -> Option<usize> {
        self.notices.iter().position(|notice| Outbound::row_of_notice(&notice.cause) == key)
    }

    /// Where what has this key stands in its queue.
    pub(crate) fn position(&self, key: &str) -> Position {
        match self.notice(key) {
            Some(notice) => (self.notices[notice].behind, true),
            None => (self.rows.iter().find(|row| row.id.as_str() == key).map(|row| row.seq), false),
        }
    }

    /// The record of what has this key.
    pub(crate) fn delivery(&self, key: &str) -> Option<&Delivery> {
        match self.notice(key) {
            Some(notice) => Some(&self.notices[notice].record),
            None => self.delivered.get(&MessageId::parse(key).expect("a row's id")),
        }
    }

    pub(crate) fn set_delivery(&mut self, key: &str, record: Delivery) {
        match self.notice(key) {
            Some(notice) => self.notices[notice].record = record,
            None => drop(self.delivered.insert(MessageId::parse(key).expect("a row's id"), record)),
        }
    }

    /// The highest number in the outbox.
    pub(crate) fn newest(&self) -> Seq {
        self.rows.last().map_or(Seq(0), |row| row.seq)
    }

    /// Whether nothing is left to do. What recurs does so for ever, and a task waits for its time.
    pub(crate) fn settled(&self, now: UnixMillis) -> bool {
        let waits = |message: &Message| {
            message.task.as_ref().is_some_and(|task| {
                task.recurrence.is_some()
                    || message.row.tries == 0
                        && message.row.process_after.is_some_and(|due| due > now)
            })
        };
        let open = |message: &Message| {
            message.status == Status::Pending && message.row.trigger && !waits(message)
        };
        let settled = |row: &OutRow| {
            self.delivered.get(&row.id).is_some_and(|record| record.status.is_settled())
        };
        !self.messages.iter().any(open)
            && self.rows.iter().all(settled)
            && self.notices.iter().all(|notice| notice.record.status.is_settled())
    }
}
