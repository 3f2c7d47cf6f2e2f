//! Which sessions a message is for: one of each agent that listens to its chat, made where it is new.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};
use twobox_shared::ids::{AgentGroupId, IdSource, MessagingGroupId, SessionId};
use twobox_shared::time::UnixMillis;

use super::{DbError, Operation, Sessions, failed, messaging};
use twobox_model::channel::Address;

/// What a message at one address is for.
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

impl Sessions<'_> {
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

/// The sessions that a message at `address` is for, as far as there are any yet.
pub(crate) fn hearing(db: &Connection, address: &Address) -> Result<Vec<SessionId>, DbError> {
    let mut sessions = Vec::new();
    for wiring in messaging::listening(db, &address.channel_type, &address.platform_id)? {
        let thread = wiring.mode.thread_key(address.thread_id.as_deref());
        sessions.extend(existing(db, wiring.agent, wiring.messaging_group, thread)?);
    }
    Ok(sessions)
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
