//! Which sessions a message is for: one of each agent that listens to its chat and hears whoever said it, made
//! where it is new. Who is heard decides `twobox_model::people`.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};
use twobox_shared::ids::{AgentGroupId, IdSource, MessagingGroupId, SessionId};
use twobox_shared::time::UnixMillis;

use super::messaging::{Listening, SessionMode};
use super::{DbError, Operation, Sessions, failed, messaging, people};
use twobox_model::channel::Address;
use twobox_model::people::{self as hearing, Form, Heard, Manner, Standing, Why};

/// Something that was said, as far as it matters whom it is for.
#[derive(Debug, Clone)]
pub struct Said {
    /// Where.
    pub address: Address,
    /// By whom.
    pub by: By,
    /// Whether among several.
    pub group: bool,
    /// Whether it names the agent.
    pub mentioned: bool,
    /// What it has the form of.
    pub form: Form,
}

/// Who said it.
#[derive(Debug, Clone)]
pub enum By {
    /// The host's own user.
    Operator,
    /// Somebody with this id, if there is one, on a channel that listens so.
    Sender(Option<String>, Arc<Manner>),
}

/// A session that hears a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hearer {
    /// Which one.
    pub session: SessionId,
    /// Whether the message starts a turn there.
    pub trigger: bool,
}

/// What a message at one address is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The sessions that hear it. Empty if it is context in a thread in which nobody has spoken with an agent: no
    /// conversation begins by that.
    Heard {
        /// They.
        hearers: Vec<Hearer>,
        /// Whether for one of their agents whoever said it is somebody who rules.
        rules: bool,
    },
    /// No agent listens there.
    Nobody,
    /// None of those who listen there hears it. Nothing was stored.
    Unheard(Why),
    /// The chat has made as many sessions as it may in one hour; nothing was stored. It may make
    /// another after this instant.
    TooMany {
        /// When the oldest that counts does not count any more.
        until: UnixMillis,
    },
}

/// Over which time a chat's new sessions are counted.
pub const NEW_WITHIN: Duration = Duration::from_secs(60 * 60);

impl Sessions<'_> {
    /// For each of `said` who hears it: one session of each agent group that listens there and hears whoever said
    /// it. Those that are new are made, unless the chat has made `per_hour` for one of these agents within
    /// [`NEW_WITHIN`]. What was made in the future, before the clock was set back, does not count.
    pub fn route(
        &self,
        said: Vec<Said>,
        per_hour: usize,
        ids: Arc<dyn IdSource>,
        now: UnixMillis,
    ) -> Operation<Vec<Found>> {
        self.0.compound(move |db| {
            said.iter().map(|said| route(db, said, per_hour, &*ids, now)).collect()
        })
    }

    /// Whether any agent hears it. Nothing is made.
    pub fn hear(&self, said: Said) -> Operation<bool> {
        self.0.compound(move |db| {
            let Address { channel_type, platform_id, .. } = &said.address;
            let listening = messaging::listening(db, channel_type, platform_id)?;
            let judged = judged(db, &said, listening)?;
            Ok(judged.iter().any(|it| !matches!(it.heard, Heard::Unheard(_))))
        })
    }

    /// The session of `agent` with the chat `messaging_group` and thread key `thread`, created as `fresh`
    /// if it is new. Two callers at once get the same one.
    pub fn resolve(
        &self,
        agent: AgentGroupId,
        messaging_group: MessagingGroupId,
        thread: &str,
        fresh: SessionId,
        now: UnixMillis,
    ) -> Operation<SessionId> {
        let thread = thread.to_owned();
        self.0.compound(move |db| resolve(db, agent, messaging_group, &thread, fresh, now))
    }
}

fn route(
    db: &mut Connection,
    said: &Said,
    per_hour: usize,
    ids: &dyn IdSource,
    now: UnixMillis,
) -> Result<Found, DbError> {
    let Address { channel_type, platform_id, thread_id } = &said.address;
    let listening = messaging::listening(db, channel_type, platform_id)?;
    if listening.is_empty() {
        return Ok(Found::Nobody);
    }
    let judged = judged(db, said, listening)?;
    let (mut wanted, mut triggers, mut unheard, mut rules) = (Vec::new(), Vec::new(), None, false);
    for Judged { wiring, standing, heard } in &judged {
        let trigger = match heard {
            Heard::Trigger => true,
            Heard::Context => false,
            Heard::Unheard(why) => {
                unheard = unheard.or(Some(*why));
                continue;
            }
        };
        rules |= standing.rules();
        let thread = wiring.mode.thread_key(thread_id.as_deref());
        let begins = trigger || wiring.mode == SessionMode::Shared || thread.is_empty();
        if begins || existing(db, wiring.agent, wiring.messaging_group, thread)?.is_some() {
            wanted.push((wiring.agent, wiring.messaging_group, thread));
            triggers.push(trigger);
        } else {
            unheard = None;
        }
    }
    match unheard {
        Some(why) if wanted.is_empty() => Ok(Found::Unheard(why)),
        _ => match resolve_all(db, &wanted, per_hour, ids, now)? {
            Resolved::All(sessions) => {
                let hearers = sessions.into_iter().zip(triggers);
                let hearers = hearers.map(|(session, trigger)| Hearer { session, trigger });
                Ok(Found::Heard { hearers: hearers.collect(), rules })
            }
            Resolved::TooMany { until } => Ok(Found::TooMany { until }),
        },
    }
}

/// What becomes of something that was said, for one who listens.
struct Judged {
    wiring: Listening,
    standing: Standing,
    heard: Heard,
}

fn judged(db: &Connection, said: &Said, listening: Vec<Listening>) -> Result<Vec<Judged>, DbError> {
    let (sender, manner) = match &said.by {
        By::Operator => (None, &Manner::OPEN),
        By::Sender(sender, manner) => (sender.as_deref(), &**manner),
    };
    let known = match sender {
        Some(sender) => people::known(db, &said.address.channel_type, sender)
            .map_err(failed("look for a person"))?,
        None => None,
    };
    let of =
        hearing::Said { sender, group: said.group, mentioned: said.mentioned, form: said.form };
    let judge = |wiring: Listening| {
        let standing = match (&said.by, &known) {
            (By::Operator, _) => Standing::Operator,
            (By::Sender(..), Some(known)) => known.standing(wiring.agent),
            (By::Sender(..), None) => Standing::Stranger,
        };
        let heard = hearing::hear(manner, standing, wiring.engage, &of);
        Judged { wiring, standing, heard }
    };
    Ok(listening.into_iter().map(judge).collect())
}

/// The sessions that a message at `address` is for, as far as there are any yet.
pub(crate) fn hearing(db: &Connection, address: &Address) -> Result<Vec<SessionId>, DbError> {
    let mut sessions = Vec::new();
    for wiring in messaging::listening(db, &address.channel_type, &address.platform_id)? {
        let thread = wiring.mode.thread_key(address.thread_id.as_deref());
        sessions.extend(existing(db, wiring.agent, wiring.messaging_group, thread)?);
    }
    Ok(sessions)
}

/// The sessions of some that listen to one chat.
enum Resolved {
    /// Of each of them.
    All(Vec<SessionId>),
    /// The chat has made as many as it may.
    TooMany {
        /// Until when.
        until: UnixMillis,
    },
}

/// The sessions of those, each given with its thread key; those that are new are made, all or none.
fn resolve_all(
    db: &mut Connection,
    listening: &[(AgentGroupId, MessagingGroupId, &str)],
    per_hour: usize,
    ids: &(impl IdSource + ?Sized),
    now: UnixMillis,
) -> Result<Resolved, DbError> {
    let mut sessions = Vec::with_capacity(listening.len());
    for (agent, chat, thread) in listening {
        sessions.extend(existing(db, *agent, *chat, thread)?);
    }
    if sessions.len() == listening.len() {
        return Ok(Resolved::All(sessions)); // the usual case, without a write lock
    }
    sessions.clear();
    let step = failed("create a session");
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
    for (agent, chat, thread) in listening {
        if existing(&tx, *agent, *chat, thread)?.is_none()
            && let Some(until) = full_until(&tx, *agent, *chat, per_hour, now)?
        {
            return Ok(Resolved::TooMany { until });
        }
        sessions.push(resolve(&tx, *agent, *chat, thread, SessionId::generate(ids), now)?);
    }
    tx.commit().map_err(&step)?;
    Ok(Resolved::All(sessions))
}

pub(crate) fn resolve(
    db: &Connection,
    agent: AgentGroupId,
    messaging_group: MessagingGroupId,
    thread: &str,
    fresh: SessionId,
    now: UnixMillis,
) -> Result<SessionId, DbError> {
    if let Some(id) = existing(db, agent, messaging_group, thread)? {
        return Ok(id);
    }
    db.execute(
        "INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, created_at_ms,
           last_active_at_ms)
         VALUES (:id, :agent, :chat, :thread, :now, :now)
         ON CONFLICT (agent_group_id, messaging_group_id, thread_id) DO NOTHING",
        named_params! {
            ":id": fresh,
            ":agent": agent,
            ":chat": messaging_group,
            ":thread": thread,
            ":now": now,
        },
    )
    .map_err(failed("create a session"))?;
    existing(db, agent, messaging_group, thread)?.ok_or(DbError::Sqlite {
        action: "find the session that was just created",
        source: rusqlite::Error::QueryReturnedNoRows,
    })
}

fn existing(
    db: &Connection,
    agent: AgentGroupId,
    messaging_group: MessagingGroupId,
    thread: &str,
) -> Result<Option<SessionId>, DbError> {
    db.prepare_cached(
        "SELECT id FROM sessions
         WHERE agent_group_id = :agent AND messaging_group_id = :chat AND thread_id = :thread",
    )
    .and_then(|mut select| {
        let params = named_params! { ":agent": agent, ":chat": messaging_group, ":thread": thread };
        select.query_row(params, |row| row.get(0)).optional()
    })
    .map_err(failed("look for a session"))
}

/// Until when a chat can make no further session with `agent`, if it cannot.
fn full_until(
    db: &Connection,
    agent: AgentGroupId,
    messaging_group: MessagingGroupId,
    per_hour: usize,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, DbError> {
    let begin = UnixMillis(now.0.saturating_sub(NEW_WITHIN.as_millis() as i64));
    let last = i64::try_from(per_hour).unwrap_or(i64::MAX) - 1;
    // The oldest of the last `per_hour`: when it has left the hour, there is room.
    let oldest: Option<UnixMillis> = db
        .prepare_cached(
            "SELECT created_at_ms FROM sessions
             WHERE messaging_group_id = :chat AND agent_group_id = :agent
               AND created_at_ms > :begin AND created_at_ms <= :now
             ORDER BY created_at_ms DESC LIMIT 1 OFFSET :last",
        )
        .and_then(|mut select| {
            let params = named_params! {
                ":chat": messaging_group, ":agent": agent, ":begin": begin, ":now": now,
                ":last": last,
            };
            select.query_row(params, |row| row.get(0)).optional()
        })
        .map_err(failed("count the sessions of a chat"))?;
    Ok(oldest.map(|oldest| oldest + NEW_WITHIN))
}

#[cfg(test)]
#[path = "routing_tests.rs"]
mod tests;
