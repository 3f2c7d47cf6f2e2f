//! Messaging groups and wirings: which chats there are, and which agent groups listen to them.

use std::collections::HashSet;

use rusqlite::{Connection, Row, named_params};
use serde::Serialize;
use twobox_shared::ids::{AgentGroupId, MessagingGroupId};
use twobox_shared::time::UnixMillis;

use super::agents::AgentGroup;
use super::word::{word, word_or_null};
use super::{DbError, Operation, Wirings, failed};
use twobox_model::channel::TERMINAL;
use twobox_model::people::Engage;
use twobox_model::words;

words! {
    /// How the messages of one chat are divided into sessions.
    SessionMode {
        /// One session for the whole chat, whatever the thread.
        Shared = "shared",
        /// One session for each thread.
        PerThread = "per-thread",
    }
}

impl SessionMode {
    /// Which of a chat's sessions a thread belongs to.
    pub fn thread_key(self, thread: Option<&str>) -> &str {
        match self {
            Self::Shared => "",
            Self::PerThread => thread.unwrap_or_default(),
        }
    }
}

#[expect(clippy::derivable_impls, reason = "`words!` derives what every enum of words has")]
impl Default for SessionMode {
    fn default() -> Self {
        Self::Shared
    }
}

/// An agent group that listens to a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// The chat.
    pub messaging_group: MessagingGroupId,
    /// Who listens.
    pub agent: AgentGroupId,
    /// Its folder below `groups/`.
    pub folder: String,
    /// How messages are divided into sessions.
    pub mode: SessionMode,
    /// What of a chat with several people starts a turn; `None` is what the channel says.
    pub engage: Option<Engage>,
}

impl Wirings<'_> {
    /// Who listens to the chat `platform_id`, the first wired first.
    pub fn listening(&self, channel_type: &str, platform_id: &str) -> Operation<Vec<Listening>> {
        let channel_type = channel_type.to_owned();
        let platform_id = platform_id.to_owned();
        self.0.compound(move |db| listening(db, &channel_type, &platform_id))
    }

    /// The addresses that `agent` may send to, the first wired first. Of two with the same name the later
    /// is called `name-2`.
    pub fn addresses_of(&self, agent: AgentGroupId) -> Operation<Vec<WiredAddress>> {
        self.0.compound(move |db| addresses_of(db, agent))
    }
}

pub(crate) fn listening(
    db: &Connection,
    channel_type: &str,
    platform_id: &str,
) -> Result<Vec<Listening>, DbError> {
    const SELECT: &str = "
        SELECT m.id, w.agent_group_id, a.folder, w.session_mode, w.engage
        FROM messaging_groups m
        JOIN wirings w ON w.messaging_group_id = m.id
        JOIN agent_groups a ON a.id = w.agent_group_id
        WHERE m.channel_type = :channel_type AND m.platform_id = :platform_id
          AND a.removed_at_ms IS NULL
        ORDER BY w.created_at_ms, a.id";
    let params = named_params! { ":channel_type": channel_type, ":platform_id": platform_id };
    let from_row = |row: &Row<'_>| {
        Ok(Listening {
            messaging_group: row.get(0)?,
            agent: row.get(1)?,
            folder: row.get(2)?,
            mode: word(row, "session_mode")?,
            engage: word_or_null(row, "engage")?,
        })
    };
    db.prepare_cached(SELECT)
        .and_then(|mut select| select.query_map(params, from_row)?.collect())
        .map_err(failed("find who listens"))
}

/// A chat that an agent group is wired to, which is where it may send to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WiredAddress {
    /// What the agent calls it; unique among the addresses of one agent.
    pub name: String,
    /// The chat.
    pub messaging_group: MessagingGroupId,
    /// The channel's id.
    pub channel_type: String,
    /// The chat on that channel.
    pub platform_id: String,
    /// How its messages are divided into sessions.
    pub mode: SessionMode,
    /// What of it starts a turn, if several speak there; `None` is what the channel says.
    pub engage: Option<Engage>,
}

pub(crate) fn addresses_of(
    db: &Connection,
    agent: AgentGroupId,
) -> Result<Vec<WiredAddress>, DbError> {
    const SELECT: &str = "
        SELECT m.id, m.name, m.channel_type, m.platform_id, w.session_mode, w.engage
        FROM wirings w
        JOIN messaging_groups m ON m.id = w.messaging_group_id
        WHERE w.agent_group_id = :agent
        ORDER BY w.created_at_ms, m.id";
    let from_row = |row: &Row<'_>| {
        Ok(WiredAddress {
            name: row.get("name")?,
            messaging_group: row.get("id")?,
            channel_type: row.get("channel_type")?,
            platform_id: row.get("platform_id")?,
            mode: word(row, "session_mode")?,
            engage: word_or_null(row, "engage")?,
        })
    };
    let mut addresses: Vec<WiredAddress> = db
        .prepare_cached(SELECT)
        .and_then(|mut select| {
            select.query_map(named_params! { ":agent": agent }, from_row)?.collect()
        })
        .map_err(failed("list an agent's addresses"))?;
    let mut taken = HashSet::new();
    for address in &mut addresses {
        let free = std::iter::once(address.name.clone())
            .chain((2..).map(|n| format!("{}-{n}", address.name)))
            .find(|name| !taken.contains(name))
            .expect("numbers do not run out");
        taken.insert(free.clone());
        address.name = free;
    }
    Ok(addresses)
}

/// A chat to be wired to an agent.
#[derive(Debug, Clone)]
pub struct NewWiring {
    /// The channel's id.
    pub channel_type: String,
    /// The chat on that channel.
    pub platform_id: String,
    /// What agents are to call it; without one a known chat keeps its name, and a new one is called
    /// by its id.
    pub name: Option<String>,
    /// How its messages are divided into sessions.
    pub mode: SessionMode,
    /// What of a chat with several people starts a turn; without it what a wiring that is there says, or else its
    /// channel.
    pub engage: Option<Engage>,
}

/// Makes the agent's terminal, as `fresh` if it is not there, and wires it to the agent; an existing
/// wiring takes the new mode.
pub(crate) fn wire_terminal(
    db: &Connection,
    agent: &AgentGroup,
    mode: SessionMode,
    fresh: MessagingGroupId,
    now: UnixMillis,
) -> Result<(), DbError> {
    let terminal = NewWiring {
        channel_type: TERMINAL.to_owned(),
        platform_id: agent.name.clone(),
        name: Some(TERMINAL.to_owned()),
        mode,
        engage: None,
    };
    insert(db, agent.id, &terminal, fresh, now).map_err(failed("wire an agent to its terminal"))
}

/// Makes the chat, as `fresh` if it is not there, and wires it to the agent.
pub(super) fn insert(
    db: &Connection,
    agent: AgentGroupId,
    new: &NewWiring,
    fresh: MessagingGroupId,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    let NewWiring { channel_type, platform_id, name, mode, engage } = new;
    db.execute(
        "INSERT INTO messaging_groups (id, channel_type, platform_id, name, created_at_ms)
         VALUES (:id, :channel_type, :platform_id, :name, :now)
         ON CONFLICT (channel_type, platform_id) DO NOTHING",
        named_params! {
            ":id": fresh,
            ":channel_type": channel_type,
            ":platform_id": platform_id,
            ":name": name.as_ref().unwrap_or(platform_id),
            ":now": now,
        },
    )?;
    db.execute(
        "INSERT INTO wirings (messaging_group_id, agent_group_id, session_mode, engage, created_at_ms)
         SELECT id, :agent, :mode, :engage, :now FROM messaging_groups
         WHERE channel_type = :channel_type AND platform_id = :platform_id
         ON CONFLICT (messaging_group_id, agent_group_id)
         DO UPDATE SET session_mode = excluded.session_mode,
                       engage = coalesce(excluded.engage, engage)",
        named_params! {
            ":agent": agent,
            ":mode": mode.as_str(),
            ":engage": engage.map(Engage::as_str),
            ":now": now,
            ":channel_type": channel_type,
            ":platform_id": platform_id,
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use twobox_shared::ids::SystemIds;

    #[test]
    fn an_agent_listens_to_its_own_terminal_and_may_send_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("host.db")).unwrap();
        let add =
            |name, mode| store.agents().add(name, mode, &SystemIds, UnixMillis(1)).wait().unwrap();
        let ann = add("ann", SessionMode::PerThread);
        let bob = add("bob", SessionMode::Shared);
        let heard = store.wirings().listening(TERMINAL, "ann").wait().unwrap();
        assert_eq!(heard.len(), 1);
        assert_eq!((heard[0].agent, heard[0].mode), (ann.id, SessionMode::PerThread));
        assert_eq!(store.wirings().listening(TERMINAL, "nobody").wait().unwrap(), []);
        // A second chat of the same name is told apart.
        store
            .raw()
            .execute(
                "INSERT INTO wirings SELECT id, ?1, 'shared', 2, NULL FROM messaging_groups
                 WHERE platform_id = 'ann'",
                [bob.id],
            )
            .unwrap();
        let addresses = store.wirings().addresses_of(bob.id).wait().unwrap();
        let named: Vec<_> =
            addresses.iter().map(|it| (it.name.as_str(), it.platform_id.as_str())).collect();
        assert_eq!(named, [("terminal", "bob"), ("terminal-2", "ann")]);
    }
}
