//! Agent groups: one agent personality each, with a folder of its own.
//!
//! A removed group keeps its row, because sessions refer to it; nothing listens for it any more.
//! Adding a removed name brings that group back, with its folder and its past.

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, named_params};
use serde::Serialize;
use twobox_shared::bounds;
use twobox_shared::ids::{AgentGroupId, IdSource, MessagingGroupId};
use twobox_shared::time::UnixMillis;

use super::messaging::{self, SessionMode};
use super::{Agents, DbError, Operation, failed, schedules};
use twobox_model::seats::Population;

/// An agent group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentGroup {
    /// Its id.
    pub id: AgentGroupId,
    /// What people call it.
    pub name: String,
    /// Its folder below `groups/`.
    pub folder: String,
    /// When it was first added.
    pub created_at: UnixMillis,
}

/// Why an agent group was not changed or found.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The name cannot be used.
    #[error(
        "agent name {name:?} {reason}: use 1 to 64 letters, digits, \"-\" or \"_\", beginning \
         with a letter or digit"
    )]
    BadName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name is taken.
    #[error("there is already an agent {name:?}: choose another name, or remove it first")]
    Exists {
        /// The name.
        name: String,
    },
    /// There is no such agent.
    #[error("there is no agent {name:?}; {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Which there are.
        known: String,
    },
    /// `host.db` refused.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl AgentGroup {
    const SELECT: &str = "SELECT id, name, folder, created_at_ms FROM agent_groups";

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            name: row.get("name")?,
            folder: row.get("folder")?,
            created_at: row.get("created_at_ms")?,
        })
    }
}

/// Checks a name, which is a folder's name too.
///
/// # Errors
/// [`AgentError::BadName`].
pub fn check_name(name: &str) -> Result<(), AgentError> {
    let bad = |reason: &str| {
        let (name, reason) = (name.chars().take(80).collect(), reason.to_owned());
        Err(AgentError::BadName { name, reason })
    };
    if name.eq_ignore_ascii_case("global") {
        return bad("is reserved");
    }
    if name.is_empty() {
        return bad("is empty");
    }
    if let Err(error) = bounds::AGENT_NAME.check("it", name.len()) {
        return bad(&format!("is too long: {error}"));
    }
    if !name.as_bytes()[0].is_ascii_alphanumeric() {
        return bad("does not begin with a letter or digit");
    }
    match name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        true => Ok(()),
        false => bad("contains other characters"),
    }
}

impl Agents<'_> {
    /// Adds the agent `name` with a terminal of its own, in one transaction. A name that was removed
    /// comes back as the group that it was.
    ///
    /// # Errors
    /// [`AgentError::BadName`], [`AgentError::Exists`].
    pub fn add(
        &self,
        name: &str,
        mode: SessionMode,
        ids: &(impl IdSource + ?Sized),
        now: UnixMillis,
    ) -> Operation<AgentGroup, AgentError> {
        let name = name.to_owned();
        let (id, chat) = (AgentGroupId::generate(ids), MessagingGroupId::generate(ids));
        self.0.compound(move |db| {
            check_name(&name)?;
            let step = failed("add an agent");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            // A statement of its own for the return of a removed name: its guard is the removal.
            let params = named_params! { ":name": name };
            let returned = tx
                .execute(
                    "UPDATE agent_groups SET removed_at_ms = NULL
                     WHERE name = :name AND removed_at_ms IS NOT NULL",
                    params,
                )
                .map_err(&step)?;
            if returned == 0 {
                let added = tx
                    .execute(
                        "INSERT INTO agent_groups (id, name, folder, created_at_ms)
                         VALUES (:id, :name, :name, :now) ON CONFLICT DO NOTHING",
                        named_params! { ":id": id, ":name": name, ":now": now },
                    )
                    .map_err(&step)?;
                if added == 0 {
                    return Err(AgentError::Exists { name: name.to_owned() });
                }
            }
            let agent = tx
                .query_row(&format!("{} WHERE name = :name", AgentGroup::SELECT), params, |row| {
                    AgentGroup::from_row(row)
                })
                .map_err(&step)?;
            messaging::wire_terminal(&tx, &agent, mode, chat, now)?;
            tx.commit().map_err(&step)?;
            Ok(agent)
        })
    }

    /// All agent groups that were not removed, by name.
    pub fn list(&self) -> Operation<Vec<AgentGroup>> {
        self.0.compound(move |db| list(db))
    }

    /// The agent group with this name or id.
    ///
    /// # Errors
    /// [`AgentError::Unknown`], which lists the names that there are.
    pub fn find(&self, name_or_id: &str) -> Operation<AgentGroup, AgentError> {
        let name_or_id = name_or_id.to_owned();
        self.0.compound(move |db| find(db, &name_or_id))
    }

    /// The agent group with this id, removed or not.
    pub fn by_id(&self, id: AgentGroupId) -> Operation<Option<AgentGroup>> {
        self.0.operation("find an agent", move |db| {
            db.prepare_cached(&format!("{} WHERE id = :id", AgentGroup::SELECT)).and_then(
                |mut select| {
                    select.query_row(named_params! { ":id": id }, AgentGroup::from_row).optional()
                },
            )
        })
    }

    /// Removes an agent: nothing listens for it any more, its schedules are paused, and all its sessions
    /// are marked, so that the host gives up what waits in them. Its folder and their files stay on disk.
    ///
    /// # Errors
    /// [`AgentError::Unknown`].
    pub fn remove(&self, name_or_id: &str, now: UnixMillis) -> Operation<AgentGroup, AgentError> {
        let name_or_id = name_or_id.to_owned();
        self.0.compound(move |db| {
            let step = failed("remove an agent");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            let agent = find(&tx, &name_or_id)?;
            tx.execute("DELETE FROM wirings WHERE agent_group_id = ?1", [agent.id])
                .map_err(&step)?;
            tx.execute(REMOVE, named_params! { ":id": agent.id, ":now": now }).map_err(&step)?;
            tx.execute(
                "UPDATE sessions SET next_due_at_ms = 0 WHERE agent_group_id = ?1",
                [agent.id],
            )
            .map_err(&step)?;
            schedules::pause_all_of(&tx, agent.id, "its agent was removed", now).map_err(&step)?;
            tx.commit().map_err(&step)?;
            Ok(agent)
        })
    }

    /// The agents that there are, and to how many chats each listens.
    pub fn population(&self) -> Operation<Population> {
        self.0.operation("count who listens", move |db| {
            db.prepare_cached(
                "SELECT a.id, count(w.agent_group_id) AS chats
                 FROM agent_groups a LEFT JOIN wirings w ON w.agent_group_id = a.id
                 WHERE a.removed_at_ms IS NULL GROUP BY a.id",
            )
            .and_then(|mut select| {
                let count = |chats: i64| usize::try_from(chats).unwrap_or(0);
                select
                    .query_map([], |row| Ok((row.get("id")?, count(row.get("chats")?))))?
                    .collect()
            })
        })
    }

    /// Which agents there are, as the end of a sentence.
    pub fn known(&self) -> Operation<String> {
        self.0.compound(move |db| known(db))
    }
}

const REMOVE: &str = "
    UPDATE agent_groups SET removed_at_ms = :now WHERE id = :id AND removed_at_ms IS NULL";

pub(crate) fn list(db: &Connection) -> Result<Vec<AgentGroup>, DbError> {
    let select = format!("{} WHERE removed_at_ms IS NULL ORDER BY name", AgentGroup::SELECT);
    db.prepare_cached(&select)
        .and_then(|mut select| select.query_map([], AgentGroup::from_row)?.collect())
        .map_err(failed("list agents"))
}

pub(crate) fn find(db: &Connection, name_or_id: &str) -> Result<AgentGroup, AgentError> {
    let select = format!(
        "{} WHERE removed_at_ms IS NULL AND (name = :given OR id = :given)
         ORDER BY name <> :given LIMIT 1",
        AgentGroup::SELECT
    );
    let found = db
        .prepare_cached(&select)
        .and_then(|mut select| {
            select
                .query_row(named_params! { ":given": name_or_id }, AgentGroup::from_row)
                .optional()
        })
        .map_err(failed("find an agent"))?;
    match found {
        Some(agent) => Ok(agent),
        None => Err(AgentError::Unknown { name: name_or_id.to_owned(), known: known(db)? }),
    }
}

pub(crate) fn known(db: &Connection) -> Result<String, DbError> {
    let names: Vec<String> = list(db)?.into_iter().map(|agent| agent.name).collect();
    Ok(match names.is_empty() {
        true => "there are none yet: `twobox agents add NAME` makes one".to_owned(),
        false => format!("there are: {}", names.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use twobox_shared::ids::SystemIds;

    fn host_db() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("host.db")).unwrap();
        (dir, store)
    }

    fn add(store: &Store, name: &str) -> Result<AgentGroup, AgentError> {
        store.agents().add(name, SessionMode::Shared, &SystemIds, UnixMillis(1)).wait()
    }

    #[test]
    fn names_that_are_no_folder_are_refused() {
        let long = "x".repeat(65);
        for bad in ["", "global", "Global", "-a", "_a", "a b", "a/b", "..", "ä", &long] {
            assert!(matches!(check_name(bad), Err(AgentError::BadName { .. })), "{bad:?}");
        }
        for good in ["a", "A-1_b", "9", &"x".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn an_agent_is_found_by_name_and_id_and_a_name_is_taken_once() {
        let (_dir, store) = host_db();
        let agent = add(&store, "ann").unwrap();
        assert_eq!(store.agents().find("ann").wait().unwrap(), agent);
        assert_eq!(store.agents().find(&agent.id.to_string()).wait().unwrap(), agent);
        assert!(matches!(add(&store, "ann"), Err(AgentError::Exists { .. })));
        let error = store.agents().find("bob").wait().unwrap_err().to_string();
        assert!(error.contains("there are: ann"), "{error}");
    }

    #[test]
    fn a_removed_agent_hears_nothing_and_comes_back_as_itself() {
        let (_dir, store) = host_db();
        let agent = add(&store, "ann").unwrap();
        store.agents().remove("ann", UnixMillis(2)).wait().unwrap();
        assert!(store.agents().list().wait().unwrap().is_empty());
        assert!(store.wirings().listening("terminal", "ann").wait().unwrap().is_empty());
        let again = store.agents().remove("ann", UnixMillis(3)).wait();
        assert!(matches!(again, Err(AgentError::Unknown { .. })));
        assert_eq!(store.agents().by_id(agent.id).wait().unwrap(), Some(agent.clone()));
        assert_eq!(add(&store, "ann").unwrap(), agent);
        assert_eq!(store.wirings().listening("terminal", "ann").wait().unwrap().len(), 1);
    }
}
