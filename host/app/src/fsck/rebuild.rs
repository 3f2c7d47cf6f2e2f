//! A new `host.db` from what the sessions' folders tell, where the old one is lost.
//!
//! Each inbox says where its session answers and which destinations its agent could name; a terminal is
//! called as its agent, so it says whose the folder is too. What no inbox tells is listed as unknown
//! and stays as it is: schedules and their runs, people, notices under way, and the installation's id.
//! Reading and planning come first; the database is made in one transaction.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use serde::Serialize;
use twobox_shared::ids::{AgentGroupId, IdSource, SessionId};
use twobox_shared::inbox::{Destination, Inbox, Origin};
use twobox_shared::open::BoxError;
use twobox_shared::paths::SessionPaths;
use twobox_shared::time::UnixMillis;

use twobox_model::channel::{SCHEDULE_CHANNEL, TERMINAL};
use twobox_store::DbError;
use twobox_store::agents::check_name;
use twobox_store::messaging::SessionMode;
use twobox_store::recovered::Recovered;
use twobox_system::data::{DataDir, HostLock};

/// What was found of a session.
#[derive(Debug, Clone)]
struct Found {
    group: AgentGroupId,
    session: SessionId,
    reply_address: Origin,
    destinations: Vec<Destination>,
}

/// Something that could not be taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// Where it lies, below the data directory.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// What the new database is to say, and what it cannot.
#[derive(Debug, Default)]
struct Plan {
    known: Recovered,
    unknown: Vec<Unknown>,
}

/// What was taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    /// The agents' names.
    pub agents: Vec<String>,
    /// How many chats.
    pub chats: usize,
    /// How many sessions.
    pub sessions: usize,
    /// What was not.
    pub unknown: Vec<Unknown>,
}

/// Why there is no new database.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The old one is there.
    #[error(
        "{path} is there and not empty: a new one is made only where there is none. If it is damaged, \
         try a backup first, then move it away with its -wal and -shm, and run this again"
    )]
    IsThere {
        /// The file.
        path: PathBuf,
    },
    /// Somebody works in a session. The new database would not know it, so its host would start another.
    #[error(
        "a runner still works in {path}, and a host with a new database would start a second one \
         there: stop it, or wait until it leaves because nobody talks to it, then run this again"
    )]
    Lives {
        /// The session's folder.
        path: PathBuf,
    },
    /// It could not be written.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A file was in the way.
    #[error("could not remove the empty {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Makes a new `host.db` of what the folders tell.
///
/// # Errors
/// [`RebuildError`]: nothing was made.
pub fn rebuild(
    data: &DataDir,
    _lock: &HostLock,
    ids: &(impl IdSource + ?Sized),
    now: UnixMillis,
) -> Result<Rebuilt, RebuildError> {
    let path = data.host_db();
    if !twobox_store::is_blank(&path)? {
        return Err(RebuildError::IsThere { path });
    }
    let (found, unknown) = read(data);
    let alive = found
        .iter()
        .find(|found| is_held(&data.session_paths(found.group, found.session).runner_lock()));
    if let Some(Found { group, session, .. }) = alive {
        return Err(RebuildError::Lives { path: data.session_folder(*group, *session) });
    }
    let known = names(&data.agents(), "json");
    let plan = plan(found, unknown, &known, ids);
    // Only whole does it get its name: whatever crash comes, the same again begins afresh.
    let fresh = path.with_extension("db.new");
    for left in [&fresh, &path] {
        for file in ["", "-wal", "-shm", "-journal"] {
            let mut name = left.as_os_str().to_owned();
            name.push(file);
            match std::fs::remove_file(&name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(RebuildError::Io { path: name.into(), source: error });
                }
                _ => {}
            }
        }
    }
    plan.known.write(&fresh, ids, now)?;
    std::fs::rename(&fresh, &path).map_err(|source| RebuildError::Io { path, source })?;
    Ok(Rebuilt {
        agents: plan.known.agents.into_values().collect(),
        chats: plan.known.chats.len(),
        sessions: plan.known.sessions.len(),
        unknown: plan.unknown,
    })
}

/// Whether a runner holds its lock. It lies where a container writes: nothing is followed, and nothing
/// waited for.
fn is_held(lock: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(lock, flags, Mode::empty()) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// Everything that the sessions' folders tell, and those that tell nothing.
fn read(data: &DataDir) -> (Vec<Found>, Vec<Unknown>) {
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for group in entries(&data.sessions()) {
        for folder in entries(&group) {
            let mut lost = |why: String| {
                let path = folder.strip_prefix(data.root()).unwrap_or(&folder).to_owned();
                unknown.push(Unknown { path, why });
            };
            let (Some(group), Some(session)) = (id(&group), id(&folder)) else {
                lost("its name is no id of ours".to_owned());
                continue;
            };
            let inbox = SessionPaths::of_folder(&folder).inbound_db();
            match routing(&inbox) {
                Ok((reply_address, destinations)) => {
                    found.push(Found { group, session, reply_address, destinations })
                }
                Err(error) => lost(format!("its inbox cannot be read: {error}")),
            }
        }
    }
    (found, unknown)
}

/// Where the session answers and what its agent may name. As its owner: a commit that a host did not
/// survive is rolled back.
fn routing(inbox: &Path) -> Result<(Origin, Vec<Destination>), BoxError> {
    if !inbox.is_file() {
        return Ok(Default::default()); // nothing was ever said in it
    }
    Inbox::open_to_read(inbox)?.read()?.routing()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = listed.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn id<T: std::str::FromStr>(path: &Path) -> Option<T> {
    path.file_name()?.to_str()?.parse().ok()
}

/// The names of agents that have a file in `folder`.
fn names(folder: &Path, extension: &str) -> BTreeSet<String> {
    entries(folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|name| check_name(name).is_ok())
        .collect()
}

/// What the database is to say. `known` are the names of agents that have a configuration.
fn plan(
    found: Vec<Found>,
    unknown: Vec<Unknown>,
    known: &BTreeSet<String>,
    ids: &(impl IdSource + ?Sized),
) -> Plan {
    let mut plan = Plan { unknown, ..Plan::default() };
    plan.name_agents(&found, known);
    for Found { group, session, reply_address, destinations } in found {
        let path = Path::new("sessions").join(group.to_string()).join(session.to_string());
        let mut lost =
            |why: &str| plan.unknown.push(Unknown { path: path.clone(), why: why.to_owned() });
        if !plan.known.agents.contains_key(&group) {
            lost("no file says which agent's it is");
            continue;
        }
        let (Some(channel), Some(chat)) = (reply_address.channel_type, reply_address.platform_id)
        else {
            lost("its inbox does not say with which chat it is: nothing was ever started for it");
            continue;
        };
        if channel == SCHEDULE_CHANNEL {
            lost("it was made for a run of a schedule, and schedules are lost");
            continue;
        }
        let (chat, thread) = ((channel, chat), reply_address.thread_id.unwrap_or_default());
        let mode = if thread.is_empty() { SessionMode::Shared } else { SessionMode::PerThread };
        let key = (group, chat.clone(), thread);
        if plan.known.sessions.contains_key(&key) {
            lost("another session has the same agent, chat and thread");
            continue;
        }
        plan.known.sessions.insert(key, session);
        plan.known.chats.entry(chat.clone()).or_insert_with(|| chat.1.clone());
        for Destination { name, channel_type, platform_id } in destinations {
            let heard = (channel_type, platform_id);
            plan.known.chats.insert(heard.clone(), name);
            plan.known.wirings.entry((group, heard)).or_default();
        }
        let wired = plan.known.wirings.entry((group, chat)).or_default();
        if mode == SessionMode::PerThread {
            *wired = mode;
        }
    }
    plan.add_unheard(known, ids);
    plan
}

impl Plan {
    /// Names the groups whose sessions tell whose they are.
    fn name_agents(&mut self, found: &[Found], known: &BTreeSet<String>) {
        // An agent hears its own terminal, and its sessions say so even where they belong to other chats.
        for it in found {
            let reply_address =
                it.reply_address.channel_type.iter().zip(&it.reply_address.platform_id);
            let named = it.destinations.iter().map(|it| (&it.channel_type, &it.platform_id));
            let terminals = reply_address.chain(named).filter(|(channel, _)| *channel == TERMINAL);
            let named: BTreeSet<_> =
                terminals.map(|(_, name)| name).filter(|name| known.contains(*name)).collect();
            // Of several terminals nobody knows which is its own.
            if let [name] = named.into_iter().collect::<Vec<_>>()[..]
                && !self.known.agents.values().any(|taken| taken == name)
            {
                self.known.agents.entry(it.group).or_insert_with(|| name.clone());
            }
        }
    }

    /// Adds the agents that have a configuration and no session, each with its terminal.
    fn add_unheard(&mut self, known: &BTreeSet<String>, ids: &(impl IdSource + ?Sized)) {
        for name in known {
            if !self.known.agents.values().any(|taken| taken == name) {
                let (agent, chat) =
                    (AgentGroupId::generate(ids), (TERMINAL.to_owned(), name.clone()));
                self.known.agents.insert(agent, name.clone());
                self.known.chats.insert(chat.clone(), TERMINAL.to_owned());
                self.known.wirings.insert((agent, chat), SessionMode::default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::ids::SystemIds;

    fn destination(name: &str, channel: &str, chat: &str) -> Destination {
        Destination { name: name.into(), channel_type: channel.into(), platform_id: chat.into() }
    }

    fn found(
        group: AgentGroupId,
        reply_address: [&str; 3],
        destinations: Vec<Destination>,
    ) -> Found {
        let [channel, chat, thread] =
            reply_address.map(|text| Some(text.to_owned()).filter(|it| !it.is_empty()));
        let reply_address = Origin { channel_type: channel, platform_id: chat, thread_id: thread };
        Found { group, session: SessionId::generate(&SystemIds), reply_address, destinations }
    }

    #[test]
    fn what_the_inboxes_tell_is_taken_over_and_the_rest_is_listed() {
        let [ada, eve] = [(); 2].map(|()| AgentGroupId::generate(&SystemIds));
        let known = ["ada", "bob"].map(str::to_owned).into();
        let terminal = || destination("terminal", "terminal", "ada");
        let all = vec![
            found(
                ada,
                ["command", "room", "t1"],
                vec![terminal(), destination("ops", "command", "room")],
            ),
            found(ada, ["terminal", "ada", ""], vec![terminal()]),
            found(ada, ["terminal", "ada", ""], vec![terminal()]),
            found(ada, ["schedule", "x", "run"], vec![terminal()]),
            found(ada, ["", "", ""], vec![]),
            found(eve, ["command", "room", ""], vec![]),
        ];
        let plan = plan(all, Vec::new(), &known, &SystemIds);
        assert_eq!(plan.known.agents.get(&ada).map(String::as_str), Some("ada"));
        assert_eq!(plan.known.agents.len(), 2, "bob has no session: {:?}", plan.known.agents);
        assert_eq!(
            (plan.known.chats.len(), plan.known.sessions.len()),
            (3, 2),
            "{:?}",
            plan.known.chats
        );
        let room = ("command".to_owned(), "room".to_owned());
        assert_eq!(plan.known.chats[&room], "ops");
        assert_eq!(plan.known.wirings[&(ada, room)], SessionMode::PerThread);
        let why: Vec<_> = plan.unknown.iter().map(|unknown| unknown.why.as_str()).collect();
        for reason in ["another session", "a run of a schedule", "with which chat", "which agent"] {
            assert_eq!(why.iter().filter(|why| why.contains(reason)).count(), 1, "{why:?}");
        }
    }
}
