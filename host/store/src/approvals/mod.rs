//! What people are asked, and what they said. The statements are guarded one by one: a decision names the
//! digest of what was shown, and counts once, in time; nobody who comes second, late or with something
//! else changes anything, and each hears why.
//!
//! What may become what is decided by [`approval::after`]. Telling whoever asked is the session's task's
//! business, which claims it here before and records it after.

mod ending;
mod reading;

use rusqlite::{Connection, TransactionBehavior, named_params};
use twobox_shared::ids::{ApprovalId, IdSource, MessageId, SessionId};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

pub(crate) use self::ending::end_all;
pub use self::reading::{AskedThere, Listed, Pending, Said, There};
use self::reading::{find, of_request};
use crate::audit::{self, Note};
use crate::notices::{self, Notice};
use crate::people;
use crate::sessions::{self, DUE_NOW};
use crate::{Approvals, DbError, Operation, failed};
use twobox_model::approval::{self, Approval, Happening, Subject, Unfit, Verdict, after};
use twobox_model::channel::Address;
use twobox_model::people::{MAY_NOT_DECIDE, Speaker};

/// A day, in which so many may be asked.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// How many codes are tried before it is given up to find a free one.
const CODES_MAX: u32 = 8;

/// Something that is to be asked.
#[derive(Debug, Clone)]
pub struct NewApproval {
    /// In which conversation.
    pub session: SessionId,
    /// The row of the outbox that asks.
    pub request: MessageId,
    /// What.
    pub subject: Subject,
    /// Where.
    pub address: Address,
    /// Whether the answer starts a turn.
    pub wake: bool,
    /// Until when it can be decided,
    pub due_at: UnixMillis,
    /// as people read it.
    pub until: String,
    /// It is shown behind the rows of the outbox up to this number.
    pub behind: Seq,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asking {
    /// It is asked from now on.
    New(Approval),
    /// The row had asked before.
    Known(Approval),
    /// There is too much of it in this conversation.
    TooMany(Bound),
}

/// How much may be asked in one conversation: an agent that asks without end has people read, and the host
/// keep, what it likes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many may be pending,
    pub pending: usize,
    /// and how many may have been asked in a day, whatever became of them.
    pub day: usize,
}

/// What of [`Bounds`] was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// So many are pending.
    Pending,
    /// So many were asked in the last day.
    Day,
}

/// A decision.
#[derive(Debug, Clone)]
pub struct Decide {
    /// In which conversation it was asked.
    pub session: SessionId,
    /// About what.
    pub id: ApprovalId,
    /// The digest of what was shown to whoever decides.
    pub digest: String,
    /// What they say.
    pub verdict: Verdict,
    /// Who they are, for people.
    pub by: String,
    /// Who they are, for what they may.
    pub speaker: Speaker,
    /// The message in which they said so, if it was one.
    pub said_in: Option<SaidIn>,
}

/// A message in which a person said something. An id may come again with other words, which is another
/// message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaidIn {
    /// Its id, where it was said.
    pub message: MessageId,
    /// A digest of what it says.
    pub digest: String,
}

impl SaidIn {
    /// It as one word, in which no message can be taken for another one of its chat.
    pub fn word(&self) -> String {
        format!("{}:{}", self.digest, self.message)
    }

    /// Whether such a word is of the message with this id, whatever that says.
    pub(crate) fn is_message(word: &str, id: &str) -> bool {
        word.split_once(':').is_some_and(|(_digest, message)| message == id) // a digest has no colon
    }
}

/// Why a decision changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// There is no such approval in this conversation.
    #[error(
        "there is no such approval (any more); `twobox approvals list --all` shows what there is"
    )]
    Unknown,
    /// Whoever says it may not decide it.
    #[error("[{}] {MAY_NOT_DECIDE}", approval.code)]
    NotAllowed {
        /// As it is.
        approval: Box<Approval>,
    },
    /// It is over, or this is no answer to it.
    #[error("{why}: {}", approval::told(approval))]
    Unfit {
        /// Why.
        why: Unfit,
        /// As it is.
        approval: Box<Approval>,
    },
    /// That very message has decided it: another session that hears it was first.
    #[error("this has decided it before: {}", approval::told(approval))]
    Already {
        /// As it is.
        approval: Box<Approval>,
    },
    /// Its time is over.
    #[error("its time is over, which is a no: {} was asked until {}", approval.code, approval.due_at)]
    Late {
        /// As it is.
        approval: Box<Approval>,
    },
    /// What was shown is not what is asked.
    #[error("what is asked is not what you were shown: look at it with `twobox approvals show {}`", approval.code)]
    Altered {
        /// As it is.
        approval: Box<Approval>,
    },
}

/// How the cause of the notice begins by which it is asked,
const ASKS: &str = "approval:";
/// and that of the one which says what became of it.
const TELLS: &str = "decided:";

/// The cause of the notice by which `id` is asked.
pub fn asks(id: ApprovalId) -> String {
    format!("{ASKS}{id}")
}

/// The approval that the notice about `cause` asks, if it asks one.
pub fn asked_by(cause: &str) -> Option<ApprovalId> {
    cause.strip_prefix(ASKS)?.parse().ok()
}

impl Approvals<'_> {
    /// Asks, with the notice by which it is shown, in one transaction. A row that has asked before changes
    /// nothing. More than `bounds` allow is not asked.
    pub fn ask(
        &self,
        new: NewApproval,
        bounds: Bounds,
        ids: &(impl IdSource + ?Sized),
        now: UnixMillis,
    ) -> Operation<Asking> {
        let (id, bits) = (ApprovalId::generate(ids), ids.uuid().as_u128());
        self.0.compound(move |db| {
            let step = failed("store an approval");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            if let Some(known) = of_request(&tx, new.session, &new.request).map_err(&step)? {
                return Ok(Asking::Known(known));
            }
            if let Some(bound) = reached(&tx, new.session, bounds, now).map_err(&step)? {
                return Ok(Asking::TooMany(bound));
            }
            let code = free_code(&tx, bits).map_err(&step)?;
            insert(&tx, id, &code, &new, now).map_err(&step)?;
            let text = approval::shown(&new.subject, &code, &new.until);
            let notice = Notice::held(asks(id), new.address, text, now);
            notices::add(&tx, new.session, &Notice { behind: Some(new.behind), ..notice })?;
            let made = find(&tx, id).map_err(&step)?.ok_or(rusqlite::Error::QueryReturnedNoRows);
            let made = made.map_err(&step)?;
            tx.commit().map_err(step)?;
            Ok(Asking::New(made))
        })
    }

    /// Decides, with the notice that says so in the chat where it was asked, and with the mark that has whoever
    /// asked told: one guarded statement, of which one alone has an effect, however many come at once.
    ///
    /// # Errors
    /// Within: why nothing was changed.
    pub fn decide(&self, order: Decide, now: UnixMillis) -> Operation<Result<Approval, Undecided>> {
        self.0.compound(move |db| decide(db, &order, now))
    }

    /// Claims what comes of a decision, before it is carried out. Returns whether there is a decision of
    /// which nothing was recorded yet: then whoever claims it carries it out, perhaps once more.
    pub fn claim(&self, id: ApprovalId, now: UnixMillis) -> Operation<bool> {
        self.0.operation("claim an approval", move |db| {
            db.execute(
                "UPDATE approvals SET claimed_at_ms = coalesce(claimed_at_ms, :now)
                 WHERE id = :id AND status <> 'pending' AND told_at_ms IS NULL",
                named_params! { ":id": id, ":now": now },
            )
            .map(|changed| changed == 1)
        })
    }

    /// Records that whoever asked was told. Returns whether that was claimed and not recorded before.
    pub fn record_told(&self, id: ApprovalId, now: UnixMillis) -> Operation<bool> {
        self.0.operation("record that an approval was told", move |db| {
            db.execute(
                "UPDATE approvals SET told_at_ms = :now
                 WHERE id = :id AND claimed_at_ms IS NOT NULL AND told_at_ms IS NULL",
                named_params! { ":id": id, ":now": now },
            )
            .map(|changed| changed == 1)
        })
    }
}

/// What of `bounds` a conversation has reached. What was asked in the last day is still there, for it is kept
/// for as long.
fn reached(
    db: &Connection,
    session: SessionId,
    bounds: Bounds,
    now: UnixMillis,
) -> rusqlite::Result<Option<Bound>> {
    let day_ago = UnixMillis(now.0.saturating_sub(DAY_MS));
    let (pending, day): (i64, i64) = db.query_row(
        "SELECT count(*) FILTER (WHERE status = 'pending'),
                count(*) FILTER (WHERE created_at_ms > :day_ago)
         FROM approvals WHERE session_id = :session",
        named_params! { ":session": session, ":day_ago": day_ago },
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let reached = |count: i64, most: usize| usize::try_from(count).is_ok_and(|it| it >= most);
    Ok(match (reached(pending, bounds.pending), reached(day, bounds.day)) {
        (true, _) => Some(Bound::Pending),
        (false, true) => Some(Bound::Day),
        (false, false) => None,
    })
}

/// A code that nothing has that is pending.
fn free_code(db: &Connection, bits: u128) -> rusqlite::Result<String> {
    let mut code = approval::code(bits);
    for attempt in 1..CODES_MAX {
        let taken: bool = db.query_row(
            "SELECT EXISTS (SELECT 1 FROM approvals WHERE code = :code AND status = 'pending')",
            named_params! { ":code": code },
            |row| row.get(0),
        )?;
        if !taken {
            break;
        }
        code = approval::code(bits >> (5 * attempt));
    }
    Ok(code)
}

fn insert(
    tx: &Connection,
    id: ApprovalId,
    code: &str,
    new: &NewApproval,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO approvals (id, code, session_id, request, kind, what, detail, choices, digest,
           channel_type, platform_id, thread_id, wake, created_at_ms, due_at_ms)
         VALUES (:id, :code, :session, :request, :kind, :what, :detail, :choices, :digest,
           :channel_type, :platform_id, :thread_id, :wake, :now, :due)",
        named_params! {
            ":id": id,
            ":code": code,
            ":session": new.session,
            ":request": new.request,
            ":kind": new.subject.kind.as_str(),
            ":what": new.subject.what,
            ":detail": new.subject.detail,
            ":choices": new.subject.choices.join("\n"),
            ":digest": new.subject.digest(),
            ":channel_type": new.address.channel_type,
            ":platform_id": new.address.platform_id,
            ":thread_id": new.address.thread_id,
            ":wake": new.wake,
            ":now": now,
            ":due": new.due_at,
        },
    )
    .map(drop)
}

fn decide(
    db: &mut Connection,
    order: &Decide,
    now: UnixMillis,
) -> Result<Result<Approval, Undecided>, DbError> {
    let step = failed("decide about an approval");
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
    let found = find(&tx, order.id).map_err(&step)?;
    let Some(approval) = found.filter(|it| it.session == order.session) else {
        return Ok(Err(Undecided::Unknown));
    };
    let state = (approval.subject.kind, approval.status, approval.subject.choices.len());
    let approval = Box::new(approval);
    if decided_in(&tx, order).map_err(&step)? {
        return Ok(Err(Undecided::Already { approval }));
    }
    let (status, choice) = match after(state, Happening::Decide(order.verdict)) {
        Ok(becomes) => becomes,
        Err(why) => return Ok(Err(Undecided::Unfit { why, approval })),
    };
    let kind = approval.subject.kind;
    if !people::may_decide(&tx, &order.speaker, order.session, kind).map_err(&step)? {
        return Ok(Err(Undecided::NotAllowed { approval }));
    }
    let changed = tx
        .execute(
            "UPDATE approvals
             SET status = :status, choice = :choice, decided_at_ms = :now, decided_by = :by,
                 decided_in = :said_in
             WHERE id = :id AND status = 'pending' AND digest = :digest AND due_at_ms > :now",
            named_params! {
                ":status": status.as_str(),
                ":choice": choice.and_then(|choice| i64::try_from(choice).ok()),
                ":now": now,
                ":by": order.by,
                ":said_in": order.said_in.as_ref().map(SaidIn::word),
                ":id": order.id,
                ":digest": order.digest,
            },
        )
        .map_err(&step)?;
    if changed != 1 {
        return Ok(Err(match approval.digest == order.digest {
            true => Undecided::Late { approval },
            false => Undecided::Altered { approval },
        }));
    }
    let decided = find(&tx, order.id).map_err(&step)?.unwrap_or(*approval);
    tell(&tx, &decided, order.said_in.as_ref().map(|it| &it.message), now)?;
    sessions::mark(&tx, order.session, Some(DUE_NOW))?;
    let note = Note {
        actor: &actor(order),
        action: status.as_str(),
        subject: &format!("approval {}", order.id),
        detail: &format!("{} {}", decided.subject.what, decided.digest),
    };
    audit::note(&tx, &note, now).map_err(&step)?;
    tx.commit().map_err(step)?;
    Ok(Ok(decided))
}

/// Who has decided, for the audit: what people call themselves is their own word, and their id is not.
fn actor(order: &Decide) -> String {
    match &order.speaker {
        Speaker::Person { channel, sender: Some(sender), .. } => {
            format!("{} ({channel}:{sender})", order.by)
        }
        Speaker::Person { sender: None, .. } | Speaker::Operator => order.by.clone(),
    }
}

/// Whether the message of `order` is the one by which it was decided.
fn decided_in(tx: &Connection, order: &Decide) -> rusqlite::Result<bool> {
    tx.query_row(
        "SELECT EXISTS (SELECT 1 FROM approvals WHERE id = :id AND decided_in = :said_in)",
        named_params! { ":id": order.id, ":said_in": order.said_in.as_ref().map(SaidIn::word) },
        |row| row.get(0),
    )
}

/// Says in the chat what became of it, once; to whoever said so as an answer to that.
fn tell(
    tx: &Connection,
    approval: &Approval,
    said_in: Option<&MessageId>,
    now: UnixMillis,
) -> Result<(), DbError> {
    let (address, text) = (approval.address(), approval::told(approval));
    let notice = Notice::held(format!("{TELLS}{}", approval.id), address, text, now);
    let answers = said_in.cloned().into_iter().collect();
    notices::add(tx, approval.session, &Notice { answers, ..notice }).map(drop)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
