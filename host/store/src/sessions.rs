//! Sessions: who talks to whom, what their container is, and when somebody has to look at them.
//!
//! `next_due_at_ms` is the durable mark that start-up and the safety net go by. It is set before
//! anything is begun that must not be forgotten, and cleared only by a sweep that found nothing
//! left to do.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, named_params};
use twobox_shared::ids::{AgentGroupId, IdSource, MessagingGroupId, RunnerId, SessionId};
use twobox_shared::time::UnixMillis;

use super::messaging;
use super::schedules::exactly_one;
use super::{DbError, Operation, Sessions, failed};
use twobox_model::channel::Address;
use twobox_model::seats::{Seat, Sender};

/// The mark that says "now".
pub const DUE_NOW: UnixMillis = UnixMillis(0);

/// Why the host told a container to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// It broke a limit: the attempt counts.
    Limit,
    /// The host needed it gone: the attempt is forgiven.
    Host,
}

impl StopCause {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Host => "host",
        }
    }
}

/// A session, as its task needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Whose conversation.
    pub agent_group: AgentGroupId,
    /// The agent group's folder name.
    pub agent_folder: String,
    /// With which chat.
    pub messaging_group: MessagingGroupId,
    /// The chat's channel.
    pub channel_type: String,
    /// The chat on that channel.
    pub platform_id: String,
    /// The thread, or empty.
    pub thread_id: String,
    /// Why it must not be used, if it must not.
    pub quarantine: Option<String>,
    /// Whether it is being deleted: nothing may be stored there any more.
    pub closed: bool,
    /// Whether its agent was removed: what waits there is given up, and nothing is started.
    pub agent_removed: bool,
    /// When somebody has to look.
    pub next_due_at: Option<UnixMillis>,
    /// The incarnation that was started last and whose end was not recorded yet.
    pub runner: Option<RunnerId>,
    /// Why that incarnation was told to leave, if it was.
    pub stop_cause: Option<StopCause>,
    /// Starts in a row that led to nothing.
    pub failed_starts: i64,
    /// No start before this instant.
    pub start_after: Option<UnixMillis>,
}

impl SessionRecord {
    /// Where its agent answers.
    pub fn reply_address(&self) -> Address {
        Address {
            channel_type: self.channel_type.clone(),
            platform_id: self.platform_id.clone(),
            thread_id: Some(self.thread_id.clone()).filter(|thread| !thread.is_empty()),
        }
    }

    /// For whom a place for its container is.
    pub fn seat(&self, sender: Option<Sender>) -> Seat {
        Seat { group: self.agent_group, chat: self.messaging_group, sender }
    }

    const SELECT: &str = "
        SELECT s.id, s.agent_group_id, g.folder, s.messaging_group_id, m.channel_type,
               m.platform_id, s.thread_id, s.quarantine_reason, s.next_due_at_ms, s.runner_id,
               s.stop_requested, s.failed_starts, s.start_after_ms, s.status = 'closed' AS closed,
               g.removed_at_ms IS NOT NULL AS agent_removed
        FROM sessions s
        JOIN agent_groups g ON g.id = s.agent_group_id
        JOIN messaging_groups m ON m.id = s.messaging_group_id";

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let cause: Option<String> = row.get("stop_requested")?;
        Ok(Self {
            id: row.get("id")?,
            agent_group: row.get("agent_group_id")?,
            agent_folder: row.get("folder")?,
            messaging_group: row.get("messaging_group_id")?,
            channel_type: row.get("channel_type")?,
            platform_id: row.get("platform_id")?,
            thread_id: row.get("thread_id")?,
            quarantine: row.get("quarantine_reason")?,
            closed: row.get("closed")?,
            agent_removed: row.get("agent_removed")?,
            next_due_at: row.get("next_due_at_ms")?,
            runner: row.get("runner_id")?,
            stop_cause: cause.map(|word| match word.as_str() {
                "host" => StopCause::Host,
                _ => StopCause::Limit,
            }),
            failed_starts: row.get("failed_starts")?,
            start_after: row.get("start_after_ms")?,
        })
    }
}

impl Sessions<'_> {
    /// The session with this id.
    pub fn find(&self, id: SessionId) -> Operation<Option<SessionRecord>> {
        self.0.compound(move |db| find(db, id))
    }

    /// Whether the agent of a session was removed.
    pub fn agent_removed(&self, id: SessionId) -> Operation<bool> {
        self.0.operation("look whether an agent was removed", move |db| {
            db.prepare_cached(
                "SELECT g.removed_at_ms IS NOT NULL FROM sessions s
         JOIN agent_groups g ON g.id = s.agent_group_id WHERE s.id = :id",
            )
            .and_then(|mut select| {
                select.query_row(named_params! { ":id": id }, |row| row.get(0)).optional()
            })
            .map(|removed| removed.unwrap_or(true))
        })
    }

    /// The sessions of removed agents that somebody has to look at.
    pub fn of_removed_agents(&self) -> Operation<Vec<SessionId>> {
        self.0.operation("list the sessions of removed agents", move |db| {
            db.prepare_cached(
                "SELECT s.id FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id
         WHERE g.removed_at_ms IS NOT NULL AND s.next_due_at_ms IS NOT NULL",
            )
            .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
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

    /// For each of `addresses` what a message there is for: one session of each agent group that listens.
    /// Those that are new are made, unless the chat has made `per_hour` for one of these agents within
    /// [`NEW_WITHIN`]. What was made in the future, before the clock was set back, does not count.
    pub fn route(
        &self,
        addresses: Vec<Address>,
        per_hour: usize,
        ids: Arc<dyn IdSource>,
        now: UnixMillis,
    ) -> Operation<Vec<Found>> {
        self.0.compound(move |db| {
            addresses.iter().map(|address| route(db, address, per_hour, &*ids, now)).collect()
        })
    }

    /// The sessions that somebody has to look at before `until`, most urgent first. One with a notice
    /// that nobody looks after is due: it was stored beside a task that cleared the mark just then.
    pub fn due(&self, until: UnixMillis) -> Operation<Vec<SessionId>> {
        self.0.compound(move |db| due(db, until))
    }

    /// The sessions with anything outstanding at all, now or later.
    pub fn outstanding(&self) -> Operation<Vec<SessionId>> {
        self.0.compound(move |db| due(db, UnixMillis(i64::MAX)))
    }

    /// Says when somebody has to look at a session next; `None` if nothing is left to do.
    pub fn mark(&self, id: SessionId, next: Option<UnixMillis>) -> Operation<()> {
        self.0.compound(move |db| mark(db, id, next))
    }

    /// Records that `runner` is about to be started, and marks the session as due until its end is
    /// recorded.
    pub fn record_start(&self, id: SessionId, runner: RunnerId, now: UnixMillis) -> Operation<()> {
        self.0.operation("record a start", move |db| {
            change(
                db,
                "UPDATE sessions
         SET runner_id = :runner, runner_started_at_ms = :now, stop_requested = NULL,
             next_due_at_ms = 0, last_active_at_ms = :now
         WHERE id = :id",
                named_params! { ":id": id, ":runner": runner, ":now": now },
            )
        })
    }

    /// Records that the session's incarnation is being told to leave, and why.
    pub fn record_stop(&self, id: SessionId, runner: RunnerId, cause: StopCause) -> Operation<()> {
        self.0.operation("record a stop", move |db| { change(db,
        "UPDATE sessions SET stop_requested = :cause WHERE id = :id AND runner_id = :runner",
        named_params! { ":id": id, ":runner": runner, ":cause": cause.as_str() },
) })
    }

    /// Records that the session's incarnation is gone and its files were read after that.
    pub fn record_end(&self, id: SessionId, trouble: &StartTrouble) -> Operation<()> {
        let trouble = trouble.to_owned();
        self.0.operation("record a container's end", move |db| {
            change(
                db,
                "UPDATE sessions
         SET runner_id = NULL, runner_started_at_ms = NULL, stop_requested = NULL,
             failed_starts = :failed_starts, start_after_ms = :start_after, start_error = :error
         WHERE id = :id",
                named_params! {
                    ":id": id,
                    ":failed_starts": trouble.failed_starts,
                    ":start_after": trouble.start_after,
                    ":error": trouble.error,
                },
            )
        })
    }

    /// Records that a runner does its work, so that earlier failed starts are history.
    pub fn clear_start_trouble(&self, id: SessionId) -> Operation<()> {
        self.0.operation("clear a session's failed starts", move |db| {
            change(
                db,
                "UPDATE sessions SET failed_starts = 0, start_after_ms = NULL, start_error = NULL
         WHERE id = :id",
                named_params! { ":id": id },
            )
        })
    }

    /// Takes a session out of use, with the reason; the first reason stays. `false` for one that is closed:
    /// it is out of use, and its deletion must not wait for a person.
    pub fn quarantine(&self, id: SessionId, reason: &str) -> Operation<bool> {
        let reason = reason.to_owned();
        self.0.operation("quarantine a session", move |db| {
            let changed = db
                .prepare_cached(
                    "UPDATE sessions
             SET status = 'quarantined', quarantine_reason = coalesce(quarantine_reason, :reason)
             WHERE id = :id AND status <> 'closed'",
                )
                .and_then(|mut update| {
                    update.execute(named_params! { ":id": id, ":reason": reason })
                })?;
            Ok(changed == 1)
        })
    }

    /// Puts a quarantined session back into use, on a person's word. `false` for one that is closed: what
    /// is half deleted is never used again.
    pub fn release(&self, id: SessionId) -> Operation<bool> {
        self.0.operation("release a session", move |db| {
            let changed = db
                .prepare_cached(
                    "UPDATE sessions
             SET status = 'active', quarantine_reason = NULL, next_due_at_ms = 0,
                 failed_starts = 0, start_after_ms = NULL, start_error = NULL
             WHERE id = :id AND status <> 'closed'",
                )
                .and_then(|mut update| update.execute(named_params! { ":id": id }))?;
            Ok(changed == 1)
        })
    }
}

pub(crate) fn find(db: &Connection, id: SessionId) -> Result<Option<SessionRecord>, DbError> {
    db.prepare_cached(&format!("{} WHERE s.id = :id", SessionRecord::SELECT))
        .and_then(|mut select| {
            select.query_row(named_params! { ":id": id }, SessionRecord::from_row).optional()
        })
        .map_err(failed("find a session"))
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

/// What a message at one place is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The sessions of those who listen there; empty if nobody does.
    Sessions(Vec<SessionId>),
    /// The chat has made as many sessions as it may in one hour; nothing was stored. It may make
    /// another after this instant.
    TooMany {
        /// When the oldest that counts does not count any more.
        until: UnixMillis,
    },
}

/// Over which time a chat's new sessions are counted.
pub const NEW_WITHIN: Duration = Duration::from_secs(60 * 60);

fn route(
    db: &mut Connection,
    address: &Address,
    per_hour: usize,
    ids: &dyn IdSource,
    now: UnixMillis,
) -> Result<Found, DbError> {
    let listening = messaging::listening(db, &address.channel_type, &address.platform_id)?;
    let wanted: Vec<_> = listening
        .iter()
        .map(|wiring| {
            let thread = wiring.mode.thread_key(address.thread_id.as_deref());
            (wiring.agent, wiring.messaging_group, thread)
        })
        .collect();
    resolve_all(db, &wanted, per_hour, ids, now)
}

/// The sessions of all that listen to one chat, each given with its thread key; those that are new are
/// made, all or none.
fn resolve_all(
    db: &mut Connection,
    listening: &[(AgentGroupId, MessagingGroupId, &str)],
    per_hour: usize,
    ids: &(impl IdSource + ?Sized),
    now: UnixMillis,
) -> Result<Found, DbError> {
    let mut sessions = Vec::with_capacity(listening.len());
    for (agent, chat, thread) in listening {
        sessions.extend(existing(db, *agent, *chat, thread)?);
    }
    if sessions.len() == listening.len() {
        return Ok(Found::Sessions(sessions)); // the usual case, without a write lock
    }
    sessions.clear();
    let step = failed("create a session");
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
    for (agent, chat, thread) in listening {
        if existing(&tx, *agent, *chat, thread)?.is_none()
            && let Some(until) = full_until(&tx, *agent, *chat, per_hour, now)?
        {
            return Ok(Found::TooMany { until });
        }
        sessions.push(resolve(&tx, *agent, *chat, thread, SessionId::generate(ids), now)?);
    }
    tx.commit().map_err(&step)?;
    Ok(Found::Sessions(sessions))
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

pub(crate) fn due(db: &Connection, until: UnixMillis) -> Result<Vec<SessionId>, DbError> {
    db.prepare_cached(
        "SELECT id, next_due_at_ms AS due FROM sessions
         WHERE next_due_at_ms IS NOT NULL AND next_due_at_ms <= :until
         UNION
         SELECT id, 0 FROM sessions
         WHERE next_due_at_ms IS NULL
           AND id IN (SELECT session_id FROM notices WHERE status IN ('held', 'sending'))
         ORDER BY due",
    )
    .and_then(|mut select| {
        select.query_map(named_params! { ":until": until }, |row| row.get(0))?.collect()
    })
    .map_err(failed("list due sessions"))
}

pub(crate) fn mark(
    db: &Connection,
    id: SessionId,
    next: Option<UnixMillis>,
) -> Result<(), DbError> {
    change(
        db,
        "UPDATE sessions SET next_due_at_ms = :next WHERE id = :id",
        named_params! { ":id": id, ":next": next },
    )
    .map_err(failed("mark a session"))
}

/// What is kept about starts that led to nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartTrouble {
    /// How many in a row.
    pub failed_starts: i64,
    /// No start before this instant.
    pub start_after: Option<UnixMillis>,
    /// Why the last one failed.
    pub error: Option<String>,
}

fn change(
    db: &Connection,
    sql: &str,
    params: &[(&str, &dyn rusqlite::ToSql)],
) -> rusqlite::Result<()> {
    exactly_one(db.prepare_cached(sql)?.execute(params)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use crate::messaging::SessionMode;
    use twobox_shared::ids::SystemIds;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn begin(store: &Store, agent: &str, threads: &[&str], now: UnixMillis) -> Vec<Found> {
        let address = |thread: &&str| Address {
            channel_type: "terminal".to_owned(),
            platform_id: agent.to_owned(),
            thread_id: Some((*thread).to_owned()),
        };
        let all = threads.iter().map(address).collect();
        store.sessions().route(all, 3, Arc::new(SystemIds), now).wait().unwrap()
    }

    #[test]
    fn a_chat_begins_so_many_sessions_an_hour_and_keeps_those_that_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.db");
        let store = Store::create(&path).unwrap();
        for name in ["ann", "bob"] {
            store.agents().add(name, SessionMode::PerThread, &SystemIds, NOW).wait().unwrap();
        }
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let made = begin(&store, "ann", &["a", "b"], NOW);
        let last = begin(&store, "ann", &["c"], NOW + minutes(10));
        assert!(made.iter().chain(&last).all(|found| matches!(found, Found::Sessions(_))));
        drop(store);
        let store = Store::create(&path).unwrap(); // another life of the host
        let full = Found::TooMany { until: NOW + minutes(60) };
        assert_eq!(begin(&store, "ann", &["d", "e"], NOW + minutes(20)), [full.clone(), full]);
        let count: i64 =
            store.raw().query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 3, "nothing of those that were refused");
        assert_eq!(begin(&store, "ann", &["a", "b"], NOW + minutes(20)), made, "they go on");
        let other = begin(&store, "bob", &["d"], NOW + minutes(20));
        assert!(matches!(other[..], [Found::Sessions(_)]), "another chat: {other:?}");
        // Two of three have left the hour.
        let later = begin(&store, "ann", &["d", "e", "f"], NOW + minutes(61));
        let full = Found::TooMany { until: NOW + minutes(70) };
        assert!(
            matches!(&later[..], [Found::Sessions(_), Found::Sessions(_), last] if *last == full)
        );
        // A clock that was set back locks nobody out.
        let early = begin(&store, "ann", &["g"], UnixMillis(NOW.0 - 86_400_000));
        assert!(matches!(early[..], [Found::Sessions(_)]), "{early:?}");
    }

    #[test]
    fn of_several_who_listen_all_get_a_session_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("host.db")).unwrap();
        let all = ["ann", "bob"].map(|name| {
            store.agents().add(name, SessionMode::PerThread, &SystemIds, NOW).wait().unwrap();
            store.wirings().listening("terminal", name).wait().unwrap().remove(0)
        });
        let chat = all[0].messaging_group;
        let resolve = |agents: &[AgentGroupId], thread: &str| {
            let wanted: Vec<_> = agents.iter().map(|agent| (*agent, chat, thread)).collect();
            resolve_all(&mut store.raw(), &wanted, 1, &SystemIds, NOW).unwrap()
        };
        let [ann, bob] = [all[0].agent, all[1].agent];
        resolve(&[bob], "a"); // bob has had his
        assert!(matches!(resolve(&[ann, bob], "b"), Found::TooMany { .. }));
        assert!(matches!(resolve(&[ann], "b"), Found::Sessions(_)), "ann had none for it");
    }
}
