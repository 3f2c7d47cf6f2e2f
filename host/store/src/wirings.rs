//! Wiring chats to agents, for an operator: everything is checked first, and stored at once.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};
use serde::Serialize;
use twobox_shared::bounds;
use twobox_shared::content::shorten;
use twobox_shared::ids::{IdSource, MessagingGroupId};
use twobox_shared::time::UnixMillis;

use super::agents::{self, AgentGroup};
use super::messaging::{NewWiring, SessionMode, addresses_of, insert};
use super::{DbError, Operation, Wirings, failed};
use twobox_model::channel::{COMMAND, TERMINAL};
use twobox_model::people::Engage;

/// Why a chat was not wired, or its wiring not removed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// There is no such channel.
    #[error("there is no channel {channel_type:?}: use {known}")]
    UnknownChannel {
        /// What was asked for.
        channel_type: String,
        /// What there is.
        known: String,
    },
    /// No chat can have this id.
    #[error("{what} {value:?} {reason}")]
    Bad {
        /// Which part.
        what: &'static str,
        /// What was asked for.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A terminal is an agent's.
    #[error("there is no terminal {platform_id:?}: a terminal has the name of its agent")]
    UnknownTerminal {
        /// What was asked for.
        platform_id: String,
    },
    /// Somebody who is wired to the chat calls another one by that name.
    #[error("{agent} calls {other} {name:?} already: choose another name with --name")]
    NameTaken {
        /// The name.
        name: String,
        /// Who does.
        agent: String,
        /// The other chat.
        other: String,
    },
    /// There is nothing to remove.
    #[error(
        "{agent} does not listen to {channel_type} {platform_id:?}; `twobox wire list` shows who \
         listens where"
    )]
    NotWired {
        /// The agent.
        agent: String,
        /// The channel's id.
        channel_type: String,
        /// The chat.
        platform_id: String,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Checks the id of a chat, or the name that agents call it.
///
/// # Errors
/// [`WireError::Bad`].
pub fn check_chat(what: &'static str, value: &str) -> Result<(), WireError> {
    let bad = |reason: &str| {
        Err(WireError::Bad { what, value: shorten(value, 80), reason: reason.to_owned() })
    };
    if let Err(error) = bounds::NAME.check("it", value.len()) {
        return bad(&format!("is too long: {error}"));
    }
    match value {
        "" => bad("is empty"),
        odd if odd.contains(char::is_control) => bad("contains a control character"),
        _ => Ok(()),
    }
}

/// An agent that listens to a chat, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wiring {
    /// The agent's name.
    pub agent: String,
    /// The channel's id.
    pub channel_type: String,
    /// The chat on that channel.
    pub platform_id: String,
    /// What the agent calls it.
    pub name: String,
    /// How its messages are divided into sessions.
    pub mode: SessionMode,
    /// What of it starts a turn, if several speak there; without it what the channel says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engage: Option<Engage>,
}

impl Wirings<'_> {
    /// Wires a chat to an agent, which from then on listens there and may send there. A wiring that is
    /// there takes the new mode. A chat has one name, which all agents call it. The channels that there
    /// are besides are those that are `set`, by their ids.
    ///
    /// # Errors
    /// [`WireError`]; nothing was stored.
    pub fn wire(
        &self,
        agent: &AgentGroup,
        new: NewWiring,
        set: &[&str],
        ids: &(impl IdSource + ?Sized),
        now: UnixMillis,
    ) -> Operation<Wiring, WireError> {
        let (agent, fresh) = (agent.to_owned(), MessagingGroupId::generate(ids));
        let set: Vec<String> = set.iter().copied().map(str::to_owned).collect();
        self.0.compound(move |db| {
            let NewWiring { channel_type, platform_id, name, .. } = &new;
            let name = name.as_deref();
            check_chat("chat", platform_id)?;
            check_chat("name", name.unwrap_or(platform_id))?;
            let step = failed("wire an agent to a chat");
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&step)?;
            match channel_type.as_str() {
                COMMAND => {}
                TERMINAL if agents::list(&tx)?.iter().any(|agent| agent.name == *platform_id) => {}
                TERMINAL => {
                    return Err(WireError::UnknownTerminal { platform_id: platform_id.to_owned() });
                }
                other if set.iter().any(|id| id == other) => {}
                other => {
                    let more = set.iter().map(String::as_str).filter(|id| *id != COMMAND);
                    let known: Vec<_> = [TERMINAL, COMMAND].into_iter().chain(more).collect();
                    let (channel_type, known) = (other.to_owned(), known.join(" or "));
                    return Err(WireError::UnknownChannel { channel_type, known });
                }
            }
            let is_new = find_chat(&tx, channel_type, platform_id).map_err(&step)?.is_none();
            insert(&tx, agent.id, &new, fresh, now).map_err(&step)?;
            if let Some(name) = name {
                rename(&tx, channel_type, platform_id, name).map_err(&step)?;
            }
            if is_new || name.is_some() {
                refuse_taken_name(&tx, channel_type, platform_id)?;
            }
            let wired = list(&tx)?
                .into_iter()
                .find(|wiring| {
                    wiring.agent == agent.name
                        && wiring.channel_type == *channel_type
                        && wiring.platform_id == *platform_id
                })
                .expect("it was inserted in this transaction");
            tx.commit().map_err(&step)?;
            Ok(wired)
        })
    }

    /// Removes the wiring of an agent to a chat: it no longer listens there. Sessions and what is known
    /// of the chat stay.
    ///
    /// # Errors
    /// [`WireError::NotWired`].
    pub fn unwire(
        &self,
        agent: &AgentGroup,
        channel_type: &str,
        platform_id: &str,
    ) -> Operation<(), WireError> {
        let agent = agent.to_owned();
        let channel_type = channel_type.to_owned();
        let platform_id = platform_id.to_owned();
        self.0.compound(move |db| {
            let params = named_params! {
                ":agent": agent.id, ":channel_type": channel_type, ":platform_id": platform_id,
            };
            match db.execute(UNWIRE, params).map_err(failed("remove a wiring"))? {
                0 => Err(WireError::NotWired {
                    agent: agent.name.clone(),
                    channel_type: shorten(&channel_type, 80),
                    platform_id: shorten(&platform_id, 80),
                }),
                _ => Ok(()),
            }
        })
    }

    /// Who listens where, by agent and then the first wired first.
    pub fn list(&self) -> Operation<Vec<Wiring>> {
        self.0.compound(move |db| list(db))
    }
}

const UNWIRE: &str = "
    DELETE FROM wirings
    WHERE agent_group_id = :agent AND messaging_group_id IN
      (SELECT id FROM messaging_groups
       WHERE channel_type = :channel_type AND platform_id = :platform_id)";

fn find_chat(
    db: &Connection,
    channel_type: &str,
    platform_id: &str,
) -> rusqlite::Result<Option<MessagingGroupId>> {
    db.query_row(
        "SELECT id FROM messaging_groups
         WHERE channel_type = :channel_type AND platform_id = :platform_id",
        named_params! { ":channel_type": channel_type, ":platform_id": platform_id },
        |row| row.get(0),
    )
    .optional()
}

fn rename(
    db: &Connection,
    channel_type: &str,
    platform_id: &str,
    name: &str,
) -> rusqlite::Result<usize> {
    db.execute(
        "UPDATE messaging_groups SET name = :name
         WHERE channel_type = :channel_type AND platform_id = :platform_id",
        named_params! { ":name": name, ":channel_type": channel_type, ":platform_id": platform_id },
    )
}

/// Whether somebody who is wired to the chat has another one of the same name.
fn refuse_taken_name(
    db: &Connection,
    channel_type: &str,
    platform_id: &str,
) -> Result<(), WireError> {
    const SELECT: &str = "
        SELECT a.name, m.name, other.channel_type, other.platform_id
        FROM messaging_groups m
        JOIN wirings w ON w.messaging_group_id = m.id
        JOIN agent_groups a ON a.id = w.agent_group_id
        JOIN wirings v ON v.agent_group_id = a.id AND v.messaging_group_id <> m.id
        JOIN messaging_groups other ON other.id = v.messaging_group_id AND other.name = m.name
        WHERE m.channel_type = :channel_type AND m.platform_id = :platform_id
        ORDER BY a.name LIMIT 1";
    let taken = db
        .query_row(
            SELECT,
            named_params! { ":channel_type": channel_type, ":platform_id": platform_id },
            |row| {
                let (channel, chat): (String, String) = (row.get(2)?, row.get(3)?);
                let other = format!("{channel} {chat:?}");
                Ok(WireError::NameTaken { agent: row.get(0)?, name: row.get(1)?, other })
            },
        )
        .optional()
        .map_err(failed("look for a name"))?;
    taken.map_or(Ok(()), Err)
}

pub(crate) fn list(db: &Connection) -> Result<Vec<Wiring>, DbError> {
    let mut all = Vec::new();
    for agent in agents::list(db)? {
        all.extend(addresses_of(db, agent.id)?.into_iter().map(|address| Wiring {
            agent: agent.name.clone(),
            channel_type: address.channel_type,
            platform_id: address.platform_id,
            name: address.name,
            mode: address.mode,
            engage: address.engage,
        }));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use twobox_shared::ids::SystemIds;

    #[test]
    fn a_chat_is_wired_under_a_name_that_no_other_place_of_its_agents_has() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("host.db")).unwrap();
        let [ann, bob] = ["ann", "bob"].map(|name| {
            store.agents().add(name, SessionMode::Shared, &SystemIds, UnixMillis(1)).wait().unwrap()
        });
        let mut at = 1;
        let mut wire =
            |agent: &AgentGroup, channel_type: &str, platform_id: &str, name: Option<&str>| {
                at += 1;
                let new = NewWiring {
                    channel_type: channel_type.to_owned(),
                    platform_id: platform_id.to_owned(),
                    name: name.map(str::to_owned),
                    mode: SessionMode::PerThread,
                    engage: None,
                };
                store
                    .wirings()
                    .wire(agent, new, &["sms"], &SystemIds, UnixMillis(at))
                    .wait()
                    .map(|wiring| wiring.name)
                    .map_err(|error| error.to_string())
            };
        let error = |result: Result<String, String>, part: &str| {
            let error = result.unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        assert_eq!(wire(&ann, COMMAND, "42", None).unwrap(), "42", "called by its id");
        assert_eq!(wire(&ann, COMMAND, "43", Some("family")).unwrap(), "family");
        assert_eq!(wire(&bob, COMMAND, "43", None).unwrap(), "family", "a chat has one name");
        assert_eq!(wire(&bob, COMMAND, "44", Some("work")).unwrap(), "work");
        error(wire(&ann, COMMAND, "42", Some("family")), "ann calls command \"43\" \"family\"");
        error(wire(&ann, COMMAND, "45", Some("terminal")), "ann calls terminal \"ann\"");
        error(wire(&ann, COMMAND, "43", Some("work")), "bob calls command \"44\" \"work\"");
        error(wire(&ann, COMMAND, "terminal", None), "choose another name with --name");
        assert_eq!(wire(&bob, COMMAND, "43", Some("home")).unwrap(), "home", "renamed for all");
        assert_eq!(wire(&bob, TERMINAL, "ann", None).unwrap(), "terminal-2");
        error(wire(&bob, TERMINAL, "carl", None), "there is no terminal \"carl\"");
        let unknown = "there is no channel \"telegraph\": use terminal or command or sms";
        error(wire(&bob, "telegraph", "1", None), unknown);
        error(wire(&bob, COMMAND, "", None), "chat \"\" is empty");
        error(wire(&ann, "sms", "42", None), "choose another name with --name");
        error(wire(&bob, COMMAND, "a\nb", None), "control character");
        error(wire(&bob, COMMAND, "46", Some("\u{7}")), "name");
        error(wire(&bob, COMMAND, &"x".repeat(256), None), "too long");
        let named = || -> Vec<String> {
            let all = store.wirings().list().wait().unwrap();
            all.iter().map(|w| format!("{} {} {}", w.agent, w.platform_id, w.name)).collect()
        };
        let expected = [
            "ann ann terminal",
            "ann 42 42",
            "ann 43 home",
            "bob bob terminal",
            "bob 43 home",
            "bob 44 work",
            "bob ann terminal-2",
        ];
        assert_eq!(named(), expected, "what was refused was not stored");
        assert_eq!(
            store.wirings().listening(COMMAND, "43").wait().unwrap()[0].mode,
            SessionMode::PerThread
        );
        store.wirings().unwire(&ann, COMMAND, "43").wait().unwrap();
        let gone = store.wirings().unwire(&ann, COMMAND, "43").wait().unwrap_err().to_string();
        assert!(gone.starts_with("ann does not listen to command \"43\""), "{gone}");
        let heard: Vec<_> = store
            .wirings()
            .listening(COMMAND, "43")
            .wait()
            .unwrap()
            .into_iter()
            .map(|who| who.agent)
            .collect();
        assert_eq!(heard, [bob.id]);
    }
}
