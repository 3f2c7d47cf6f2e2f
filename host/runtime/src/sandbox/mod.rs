//! Runners in sandboxes that `bwrap` makes of the kernel's namespaces: what a container gives, without
//! an engine, an image or root.
//!
//! A sandbox outlives the host. What is to be known about it for that is in its session's folder
//! (`status`): the next host finds it there (`find`) and watches it like its own (`watch`). `line` is
//! all confinement in one value; `enter` is what the child does before bwrap takes over. What is
//! printed inside is in `runner.log` in the session's folder from the start, so clearing has nothing
//! to move.

mod adopt;
mod cgroup;
mod enter;
mod explain;
mod find;
mod handle;
mod line;
mod probe;
mod profile;
mod seccomp;
mod spawn;
mod start;
mod status;
mod system;
mod trial;
mod watch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::process::Signal;
use tokio::runtime::Handle as Tokio;
use tokio::sync::mpsc;
use twobox_shared::ids::{InstallId, SessionId};

use self::cgroup::Tree;
use self::find::Ours;
use self::line::Way;
use self::system::System;
use self::watch::Processes;
use super::child::Ending;
use super::docker::folder::User;
use super::probe::Probed;
use super::{
    Condition, Incarnation, Profile, Runtime, RuntimeError, RuntimeEvent, Sighting, StartSpec,
};
use twobox_config::Containers;
use twobox_system::lock::lock;
use twobox_system::repeat::Repeats;

const NAME: &str = "sandbox";
/// How long a killed sandbox may take to be gone before a stop is reported as failed.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a stop waits for a start of the same incarnation to come to something.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// How often interrupted starts are looked for again after some were ended.
const LOOKS: usize = 20;

/// The sandbox runtime. Cheap to clone; all clones share what they know.
#[derive(Debug, Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ours: Ours,
    settings: Containers,
    /// Who the host is, and who is inside.
    own: User,
    user: Result<User, String>,
    runner_binary: PathBuf,
    events: mpsc::UnboundedSender<RuntimeEvent>,
    system: System,
    /// The cgroup that was delegated to this host, or why there is none.
    tree: OnceLock<Result<Tree, String>>,
    /// Where bwrap is, once it was found.
    bwrap: OnceLock<PathBuf>,
    /// How root becomes somebody else, once it has been seen to work.
    way: OnceLock<Way>,
    /// Locked for moments only. `None` until somebody has looked for what earlier hosts left.
    table: Mutex<Option<Table>>,
    /// Which sandboxes of others were told of.
    told: Repeats,
}

type Table = HashMap<Incarnation, Entry>;

/// An incarnation under watch, or one that has ended and was not cleared.
#[derive(Debug, Clone)]
struct Entry {
    folder: PathBuf,
    /// `None` while it is being started.
    processes: tokio::sync::watch::Receiver<Option<Processes>>,
    ending: Ending,
}

impl Sandbox {
    /// The runtime of `install`, whose sessions have their folders in `sessions`, a canonical path.
    /// Exits go to `events`.
    pub fn new(
        install: InstallId,
        sessions: PathBuf,
        settings: &Containers,
        runner_binary: PathBuf,
        events: mpsc::UnboundedSender<RuntimeEvent>,
    ) -> Self {
        let own = User::own();
        let user = User::choose(&settings.user, own).and_then(|user| match own.uid {
            0 => not_root(user),
            _ if user == own => Ok(own),
            _ => Err(format!(
                "containers.user is {user} and the host is {own}, which cannot become somebody \
                 else: leave containers.user empty, or run the host as root"
            )),
        });
        let mut users = vec![own.uid];
        users.extend(user.iter().map(|user| user.uid));
        Self {
            shared: Arc::new(Shared {
                ours: Ours { install, sessions, users },
                settings: settings.clone(),
                own,
                user,
                runner_binary,
                events,
                system: System::read(Path::new("/")),
                tree: OnceLock::new(),
                bwrap: OnceLock::new(),
                way: OnceLock::new(),
                table: Mutex::default(),
                told: Repeats::default(),
            }),
        }
    }

    /// Whether there may be sandboxes at all, as far as a look tells: nothing is tried out.
    ///
    /// # Errors
    /// [`RuntimeError::Misconfigured`] if bubblewrap is not installed, or agents cannot be the user that
    /// was asked for.
    pub fn can_be(&self) -> Result<(), RuntimeError> {
        let refused = |reason| RuntimeError::Misconfigured { reason };
        self.shared.user.clone().map_err(refused)?;
        self.shared.bwrap().map_err(refused)?;
        Ok(())
    }

    /// Runs `work` on a blocking thread, after everything that earlier hosts left is in the table.
    /// Dropping the future does not interrupt the work.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &Tokio) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let shared = Arc::clone(&self.shared);
        let tokio = Tokio::current();
        tokio::task::spawn_blocking(move || work(&shared, &tokio))
            .await
            .unwrap_or_else(|error| Err(unavailable(error.to_string())))
    }

    /// A copy of the entries that `wanted` names. Looks around first if nobody has, or if `again`.
    async fn entries(
        &self,
        again: bool,
        wanted: impl Fn(Incarnation) -> bool,
    ) -> Result<Vec<(Incarnation, Entry)>, RuntimeError> {
        if again || self.shared.table().is_none() {
            self.blocking(|shared, tokio| shared.adopt(tokio)).await?;
        }
        let table = self.shared.table();
        let known = table.iter().flatten().filter(|(incarnation, _)| wanted(**incarnation));
        Ok(known.map(|(incarnation, entry)| (*incarnation, entry.clone())).collect())
    }

    async fn end(&self, incarnation: Incarnation, grace: Duration) -> Result<(), RuntimeError> {
        let failed = |reason: String| RuntimeError::Stop { session: incarnation.session, reason };
        let mut found = self.entries(false, |known| known == incarnation).await?;
        let Some((_, mut entry)) = found.pop() else { return Ok(()) };

        let begun = entry.processes.wait_for(Option::is_some);
        let processes = match tokio::time::timeout(START_PATIENCE, begun).await {
            Ok(Ok(processes)) => processes.clone(),
            Ok(Err(_)) => return Ok(()), // the start came to nothing, and nothing of it is left
            Err(_) => return Err(failed("it is still being started".to_owned())),
        };
        let Some(Processes { inner, .. }) = processes else { return Ok(()) };
        let asked = tokio::task::spawn_blocking({
            let inner = inner.clone();
            move || start::ask_to_leave(&inner)
        });
        if let Ok(Err(error)) = asked.await {
            return Err(failed(format!("the runner refused SIGTERM: {error}")));
        }
        if entry.ending.comes_within(grace).await {
            return Ok(());
        }
        inner
            .signal(Signal::KILL)
            .map_err(|error| failed(format!("process {} refused SIGKILL: {error}", inner.pid)))?;
        if entry.ending.comes_within(KILL_PATIENCE).await {
            return Ok(());
        }
        Err(failed(format!("processes are left {} s after SIGKILL", KILL_PATIENCE.as_secs())))
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Option<Table>> {
        // A panic elsewhere leaves the table whole: entries are put in and taken out singly.
        lock(&self.table)
    }

    /// The cgroup of this host, or why it has none. The first question moves the host into a leaf.
    fn tree(&self) -> Result<&Tree, &String> {
        self.tree
            .get_or_init(|| {
                let tree = Tree::own();
                match &tree {
                    Ok(tree) => tracing::info!(limits = tree.describe(), "sandboxes are limited"),
                    Err(reason) => tracing::warn!(
                        reason,
                        "no limit on memory and processors for all processes of an agent together: \
                         that needs a delegated cgroup, see docs/running.md"
                    ),
                }
                tree
            })
            .as_ref()
    }

    /// One line about what bounds a sandbox.
    fn limits(&self) -> String {
        match self.tree.get() {
            Some(Ok(tree)) => tree.describe(),
            Some(Err(reason)) => self.without_cgroup(reason),
            None => match Tree::available() {
                Ok(tree) => tree.describe(),
                Err(reason) => self.without_cgroup(&reason),
            },
        }
    }

    fn without_cgroup(&self, reason: &str) -> String {
        let Containers { memory_mb, pids, .. } = &self.settings;
        format!(
            "no limit on memory and processors for all processes of an agent together, which needs a \
             delegated cgroup ({reason}); each process may take {memory_mb} MB, each sandbox {pids} \
             processes"
        )
    }
}

/// Nobody is root inside.
fn not_root(user: User) -> Result<User, String> {
    match user.uid == 0 || user.gid == 0 {
        true => Err("containers.user is root, which the sandbox runtime does not allow: leave it \
                     empty"
            .to_owned()),
        false => Ok(user),
    }
}

impl Runtime for Sandbox {
    fn name(&self) -> &'static str {
        NAME
    }

    fn limits(&self) -> Option<String> {
        Some(self.shared.limits())
    }

    fn start<'a>(&'a self, spec: &'a StartSpec) -> BoxFuture<'a, Result<(), RuntimeError>> {
        let spec = spec.clone();
        async move {
            self.entries(false, |_| false).await?;
            self.blocking(move |shared, tokio| shared.start(&spec, tokio)).await
        }
        .boxed()
    }

    fn stop(
        &self,
        incarnation: Incarnation,
        grace: Duration,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        self.end(incarnation, grace).boxed()
    }

    fn of_session(&self, session: SessionId) -> BoxFuture<'_, Result<Vec<Sighting>, RuntimeError>> {
        async move { Ok(sightings(self.entries(false, |it| it.session == session).await?)) }.boxed()
    }

    fn accepts(&self, profile: &Profile) -> Result<(), String> {
        self.shared.accepts(profile)
    }

    fn stamp<'a>(&'a self, _profile: &'a Profile) -> BoxFuture<'a, Option<String>> {
        let stamp = super::stamp_of_runner(&self.shared.runner_binary);
        async move { stamp }.boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Sighting>, RuntimeError>> {
        async move { Ok(sightings(self.entries(true, |_| true).await?)) }.boxed()
    }

    fn clear<'a>(
        &'a self,
        incarnation: Incarnation,
        _log: &'a Path,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.blocking(move |shared, _| {
            let mut table = shared.table();
            let table = table.get_or_insert_default();
            let ended = |entry: &Entry| entry.ending.condition() != Condition::Running;
            if let Some(entry) = table.get(&incarnation).filter(|entry| ended(entry)) {
                // While the place is taken, so that no file of a later start is meant.
                start::forget(&entry.folder, incarnation.runner)
                    .map_err(|error| unavailable(format!("{}: {error}", entry.folder.display())))?;
                table.remove(&incarnation);
            }
            Ok(())
        })
        .boxed()
    }

    fn probe<'a>(&'a self, place: &'a Path) -> BoxFuture<'a, Result<Probed, RuntimeError>> {
        let place = place.to_owned();
        self.blocking(move |shared, _| shared.probe(&place)).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<String, RuntimeError>> {
        self.blocking(|shared, _| shared.check()).boxed()
    }
}

fn sightings(entries: Vec<(Incarnation, Entry)>) -> Vec<Sighting> {
    let sighting = |(incarnation, entry): (Incarnation, Entry)| Sighting {
        incarnation,
        condition: entry.ending.condition(),
    };
    entries.into_iter().map(sighting).collect()
}

fn unavailable(reason: String) -> RuntimeError {
    RuntimeError::Unavailable { runtime: NAME, reason }
}
