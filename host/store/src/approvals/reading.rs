//! Reading approvals.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, TransactionBehavior, named_params};
use serde::Serialize;
use twobox_shared::ids::{ApprovalId, MessageId, SessionId};

use super::{ASKS, SaidIn};
use crate::notices::{Notice, is_told};
use crate::routing::hearing;
use crate::word::word;
use crate::{Approvals, Operation, failed};
use twobox_model::approval::{Approval, Subject};
use twobox_model::channel::{Address, Asked};

/// How many of one chat are looked at, to find the one that an answer means.
const AT_HAND: u32 = 64;

/// How many are listed.
const LISTED_MAX: u32 = 500;

/// How many are looked at that a name may mean.
const NAMED_MAX: u32 = 20;

/// The fewest characters of the end of an id that name it: more than a code has.
const ID_END_MIN: usize = 5;

/// An approval, and where it is.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// The approval.
    #[serde(flatten)]
    pub approval: Approval,
    /// Whose agent asks.
    pub agent: String,
    /// How far the message is by which it is asked: as of a delivery.
    pub prompt: Option<String>,
}

/// A message that may be an answer.
#[derive(Debug, Clone)]
pub struct Said {
    /// The session that hears it.
    pub session: SessionId,
    /// Where it was said.
    pub address: Address,
    /// The message.
    pub said_in: SaidIn,
    /// The code that it names.
    pub code: Option<String>,
}

/// What was asked where a message was said.
#[derive(Debug, Clone)]
pub struct There {
    /// By all the agents that listen there: what is pending first, then the newest.
    pub asked: Vec<AskedThere>,
    /// What has the code that the message names, is pending, and was asked in another place.
    pub elsewhere: Option<Approval>,
    /// Whoever may have said already that the message is no answer: who hears it, and who asked.
    pub hear: Vec<SessionId>,
    /// Whether that message was found to be no answer before, and somebody told so.
    pub told: bool,
}

/// Something that was asked in a chat.
#[derive(Debug, Clone)]
pub struct AskedThere {
    /// The approval.
    pub approval: Approval,
    /// Whether the session that asks hears what is said there. What is said to another one, which a run of a
    /// schedule or another chat of its agent is, has to be passed on.
    pub hears: bool,
    /// The message by which it was decided, if it was one, as [`SaidIn::word`] says it.
    said_in: Option<String>,
    /// How far the message is by which it is asked.
    prompt: Option<String>,
}

impl AskedThere {
    /// One that nobody has decided in a message, whose session hears the chat, and of which the message by which
    /// it is asked is so far.
    pub fn of(approval: Approval, prompt: &str) -> Self {
        Self { approval, hears: true, said_in: None, prompt: Some(prompt.to_owned()) }
    }

    /// Whether `message` is the one by which it was decided.
    pub fn was_decided_in(&self, message: &SaidIn) -> bool {
        self.said_in.as_ref().is_some_and(|said_in| *said_in == message.word())
    }

    /// Whether the message by which it is asked has left the host, or may have, by what is recorded.
    pub fn was_sent(&self) -> bool {
        matches!(self.prompt.as_deref(), Some("delivered" | "sending" | "uncertain"))
    }
}

/// How many are pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// All of them.
    pub pending: u64,
    /// Those of which the message has not reached anybody.
    pub unseen: u64,
}

const COLUMNS: &str = "a.id, a.code, a.session_id, a.request, a.kind, a.what, a.detail, a.choices, \
    a.digest, a.channel_type, a.platform_id, a.thread_id, a.wake, a.status, a.choice, a.created_at_ms, a.due_at_ms, a.decided_at_ms, a.decided_by";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Approval> {
    let choices: String = row.get("choices")?;
    Ok(Approval {
        id: row.get("id")?,
        code: row.get("code")?,
        session: row.get("session_id")?,
        request: row.get("request")?,
        subject: Subject {
            kind: word(row, "kind")?,
            what: row.get("what")?,
            detail: row.get("detail")?,
            choices: choices.split('\n').map(str::to_owned).collect(),
        },
        digest: row.get("digest")?,
        channel: row.get("channel_type")?,
        chat: row.get("platform_id")?,
        thread: row.get("thread_id")?,
        wake: row.get("wake")?,
        status: word(row, "status")?,
        choice: row.get::<_, Option<u32>>("choice")?.map(|choice| choice as usize),
        created_at: row.get("created_at_ms")?,
        due_at: row.get("due_at_ms")?,
        decided_at: row.get("decided_at_ms")?,
        decided_by: row.get("decided_by")?,
    })
}

pub(super) fn find(db: &Connection, id: ApprovalId) -> rusqlite::Result<Option<Approval>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM approvals a WHERE a.id = :id"))?
        .query_row(named_params! { ":id": id }, from_row)
        .optional()
}

pub(super) fn of_request(
    db: &Connection,
    session: SessionId,
    request: &MessageId,
) -> rusqlite::Result<Option<Approval>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM approvals a WHERE a.session_id = :session AND a.request = :request"
    ))?
    .query_row(named_params! { ":session": session, ":request": request }, from_row)
    .optional()
}

/// Those that `fits` takes: what is pending first, then the newest.
fn listed(
    db: &Connection,
    fits: &str,
    params: &[(&str, &dyn ToSql)],
) -> rusqlite::Result<Vec<Listed>> {
    db.prepare(&format!(
        "SELECT {COLUMNS}, g.name AS agent, n.status AS prompt
         FROM approvals a
         JOIN sessions s ON s.id = a.session_id
         JOIN agent_groups g ON g.id = s.agent_group_id
         LEFT JOIN notices n
           ON n.session_id = a.session_id AND n.cause = '{ASKS}' || a.id
         WHERE {fits}
         ORDER BY a.status = 'pending' DESC, a.id DESC LIMIT :limit"
    ))?
    .query_map(params, |row| {
        Ok(Listed {
            approval: from_row(row)?,
            agent: row.get("agent")?,
            prompt: row.get("prompt")?,
        })
    })?
    .collect()
}

fn pending_with(db: &Connection, code: &str) -> rusqlite::Result<Option<Approval>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM approvals a WHERE a.code = :code AND a.status = 'pending'"
    ))?
    .query_row(named_params! { ":code": code }, from_row)
    .optional()
}

/// Others are asked there only while their agents listen there. Of those, the sessions that `hear` are the ones
/// to which what is said there is routed.
fn asked_at(db: &Connection, said: &Said, hear: &[SessionId]) -> rusqlite::Result<Vec<AskedThere>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS}, a.decided_in, n.status AS prompt FROM approvals a
         LEFT JOIN notices n
           ON n.session_id = a.session_id AND n.cause = '{ASKS}' || a.id
         WHERE a.channel_type = :channel_type AND a.platform_id = :platform_id
           AND a.thread_id IS :thread_id
           AND (a.session_id = :session OR EXISTS (
             SELECT 1 FROM sessions s
             JOIN wirings w ON w.agent_group_id = s.agent_group_id
             JOIN messaging_groups m ON m.id = w.messaging_group_id
             WHERE s.id = a.session_id AND s.status = 'active'
               AND m.channel_type = a.channel_type AND m.platform_id = a.platform_id))
         ORDER BY a.status = 'pending' DESC, a.id DESC LIMIT :limit"
    ))?
    .query_map(
        named_params! {
            ":session": said.session,
            ":channel_type": said.address.channel_type,
            ":platform_id": said.address.platform_id,
            ":thread_id": said.address.thread_id,
            ":limit": AT_HAND,
        },
        |row| {
            let approval = from_row(row)?;
            Ok(AskedThere {
                hears: approval.session == said.session || hear.contains(&approval.session),
                approval,
                said_in: row.get("decided_in")?,
                prompt: row.get("prompt")?,
            })
        },
    )?
    .collect()
}

impl Approvals<'_> {
    /// What became of the question with this code that was asked at `address`, to which the message with this id was
    /// said there.
    pub fn said_to(&self, address: &Address, code: &str, message: &MessageId) -> Operation<Asked> {
        let (address, code, message) = (address.clone(), code.to_owned(), message.to_string());
        self.0.operation("see what became of a question", move |db| {
            // A code is one question's only while it is pending: the newest that had it.
            let found: Option<(String, Option<String>)> = db
                .prepare_cached(
                    "SELECT status, decided_in FROM approvals
                     WHERE code = :code AND channel_type = :channel AND platform_id = :chat
                     ORDER BY created_at_ms DESC, id DESC LIMIT 1",
                )?
                .query_row(
                    named_params! {
                        ":code": code, ":channel": address.channel_type, ":chat": address.platform_id,
                    },
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            Ok(match found {
                Some((status, _)) if status == "pending" => Asked::Open,
                Some((_, Some(word))) if SaidIn::is_message(&word, &message) => Asked::DecidedByIt,
                Some(_) | None => Asked::Over,
            })
        })
    }

    /// What is left to do in a conversation: what is pending, and what whoever asked was not told yet.
    pub fn open(&self, session: SessionId) -> Operation<Vec<Approval>> {
        self.0.operation("list open approvals", move |db| {
            db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM approvals a
                 WHERE a.session_id = :session AND a.told_at_ms IS NULL ORDER BY a.id"
            ))?
            .query_map(named_params! { ":session": session }, from_row)?
            .collect()
        })
    }

    /// What was asked where a message was `said`, by its session and by others that hear it too.
    pub fn asked_at(&self, said: Said) -> Operation<There> {
        self.0.compound(move |db| {
            let step = failed("list what was asked");
            let tx = db.transaction_with_behavior(TransactionBehavior::Deferred).map_err(&step)?;
            let mut hear = hearing(&tx, &said.address)?;
            let asked = asked_at(&tx, &said, &hear).map_err(&step)?;
            let elsewhere = match &said.code {
                Some(code) => pending_with(&tx, code).map_err(&step)?,
                None => None,
            };
            let elsewhere = elsewhere.filter(|it| it.address() != said.address);
            hear.extend(asked.iter().map(|it| it.approval.session));
            hear.push(said.session);
            let cause = Notice::unclear_cause(&said.said_in, &said.address);
            let told = is_told(&tx, &hear, &cause).map_err(&step)?;
            Ok(There { asked, elsewhere, hear, told })
        })
    }

    /// One, by its id.
    pub fn find(&self, id: ApprovalId) -> Operation<Option<Approval>> {
        self.0.operation("find an approval", move |db| find(db, id))
    }

    /// Those that are pending, oldest first; or the newest of `all`, with those.
    pub fn list(&self, all: bool) -> Operation<Vec<Listed>> {
        self.0.operation("list approvals", move |db| {
            let params = named_params! { ":all": all, ":limit": LISTED_MAX };
            let mut listed = listed(db, ":all OR a.status = 'pending'", params)?;
            listed.sort_by_key(|it| it.approval.id);
            Ok(listed)
        })
    }

    /// Those that `name` means, which is a code or the end of an id: what is pending first, then the newest.
    pub fn named(&self, name: &str) -> Operation<Vec<Listed>> {
        let name = name.to_lowercase();
        self.0.operation("find an approval", move |db| {
            let is_end = name.len() >= ID_END_MIN;
            let fits = "a.code = :name OR (:is_end AND substr(a.id, -length(:name)) = :name)";
            let params = named_params! { ":name": name, ":is_end": is_end, ":limit": NAMED_MAX };
            listed(db, fits, params)
        })
    }

    /// How many are pending, and of how many nobody was shown anything.
    pub fn pending(&self) -> Operation<Pending> {
        self.0.operation("count approvals", move |db| {
            db.query_row(
                &format!(
                    "SELECT count(*) AS pending,
                            coalesce(sum(n.status IS NULL OR n.status NOT IN ('delivered')), 0)
                              AS unseen
                     FROM approvals a LEFT JOIN notices n
                       ON n.session_id = a.session_id AND n.cause = '{ASKS}' || a.id
                     WHERE a.status = 'pending'"
                ),
                [],
                |row| {
                    Ok(Pending {
                        pending: row.get::<_, i64>("pending")?.unsigned_abs(),
                        unseen: row.get::<_, i64>("unseen")?.unsigned_abs(),
                    })
                },
            )
        })
    }
}
