//! Runners in sandboxes that `bwrap` makes of the kernel's namespaces: what a container gives, without
//! an engine, an image or root.
//!
//! A sandbox outlives the host. What is to be known about it for that is in its session's folder
//! (`status`): the next host finds it there (`find`) and watches it like its own (`watch`). `line` is
//! all confinement in one value; `enter` is what the child does before bwrap takes over. What is
//! printed inside is in `runner.log` in the session's folder from the start, so clearing has nothing
//! to move.

mod cgroup;
mod enter;
mod explain;
mod find;
mod handle;
mod line;
mod probe;
mod seccomp;
mod spawn;
mod start;
mod status;
mod system;
mod watch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::process::Signal;
use tokio::runtime::Handle as Tokio;
use tokio::sync::mpsc;
use twobox_shared::ids::{InstallId, SessionId};

use self::cgroup::Tree;
use self::find::{Found, Look, Ours};
use self::line::Way;
use self::system::System;
use self::watch::{Ended, Processes, Watch};
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
    ended: tokio::sync::watch::Receiver<Option<Ended>>,
}

impl Entry {
    fn condition(&self) -> Condition {
        match *self.ended.borrow() {
            None => Condition::Running,
            Some(Ended { code }) => Condition::Exited { code },
        }
    }

    /// Waits until nobody of the incarnation is left; `false` after `patience`.
    async fn ends_within(&mut self, patience: Duration) -> bool {
        let ended = self.ended.wait_for(Option::is_some);
        matches!(tokio::time::timeout(patience, ended).await, Ok(Ok(_)))
    }
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
        if entry.ends_within(grace).await {
            return Ok(());
        }
        inner
            .signal(Signal::KILL)
            .map_err(|error| failed(format!("process {} refused SIGKILL: {error}", inner.pid)))?;
        if entry.ends_within(KILL_PATIENCE).await {
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

    /// Puts every incarnation that is there and not known into the table, and ends what was begun
    /// and came to nothing.
    fn adopt(&self, tokio: &Tokio) -> Result<(), RuntimeError> {
        for _ in 0..LOOKS {
            let first = self.table().is_none();
            let look = match first {
                true => self.ours.look_everywhere(),
                false => self.ours.look_at_processes(),
            };
            self.tell_of_strangers(&look);
            let mut table = self.table();
            let table = table.get_or_insert_default();
            let beginning: Vec<_> = look
                .outer
                .into_iter()
                .filter(|(it, _)| !table.contains_key(it) && !look.found.contains_key(it))
                .collect();
            for (incarnation, found) in look.found {
                let gone = |it: &Processes| it.inner.has_ended();
                // Later on, what ends while it is looked at was known before.
                if table.contains_key(&incarnation)
                    || (!first && found.processes.as_ref().is_some_and(gone))
                {
                    continue;
                }
                tracing::info!(
                    session = %incarnation.session, runner = %incarnation.runner,
                    lives = found.processes.is_some(), "adopted a sandbox"
                );
                table.insert(incarnation, self.adopted(incarnation, found, tokio));
            }
            if beginning.is_empty() {
                return Ok(());
            }
            // Their host is gone, and with it whoever would have let them begin. What they have made
            // meanwhile shows in the next look.
            for (incarnation, outer) in beginning {
                tracing::info!(runner = %incarnation.runner, "ending a start that was interrupted");
                outer.signal(Signal::KILL).ok();
                outer.reap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(unavailable("starts that were interrupted do not end".to_owned()))
    }

    fn adopted(&self, incarnation: Incarnation, found: Found, tokio: &Tokio) -> Entry {
        let Found { folder, processes, exit_code } = found;
        match processes {
            Some(processes) => {
                let leaf = self.tree().ok().map(|tree| tree.existing(incarnation.session));
                // Nobody tells what is known already.
                let (_, begun) = tokio::sync::watch::channel(Some(processes.clone()));
                let (over, ended) = tokio::sync::watch::channel(None);
                let watch = Watch {
                    incarnation,
                    folder: folder.clone(),
                    processes,
                    child: None,
                    leaf,
                    ended: over,
                    events: self.events.clone(),
                };
                tokio.spawn(watch.run());
                Entry { folder, processes: begun, ended }
            }
            None => {
                let (_, processes) = tokio::sync::watch::channel(None);
                let (_, ended) = tokio::sync::watch::channel(Some(Ended { code: exit_code }));
                Entry { folder, processes, ended }
            }
        }
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

    /// Whether a sandbox can do what `profile` asks for.
    fn accepts(&self, profile: &Profile) -> Result<(), String> {
        let available = || Tree::available().ok().map(|tree| tree.limits_processors());
        // `None` where there is no cgroup; otherwise whether it limits processors.
        let cgroup = match self.tree.get() {
            Some(tree) => tree.as_ref().ok().map(Tree::limits_processors),
            None => available(),
        };
        let namespace = self.way.get().is_none_or(|way| way.has_namespace());
        accepts(profile, cgroup, namespace)
    }

    fn without_cgroup(&self, reason: &str) -> String {
        let Containers { memory_mb, pids, .. } = &self.settings;
        format!(
            "no limit on memory and processors for all processes of an agent together, which needs a \
             delegated cgroup ({reason}); each process may take {memory_mb} MB, each sandbox {pids} \
             processes"
        )
    }

    fn tell_of_strangers(&self, look: &Look) {
        for folder in &look.strangers {
            let folder = folder.to_string_lossy();
            if let Some(before) = self.told.tell(&folder, Instant::now()) {
                tracing::warn!(
                    %folder, before,
                    "left a sandbox alone that bears this installation's id and works elsewhere: is \
                     there a copy of this data directory?"
                );
            }
        }
    }
}

/// Whether a sandbox can do what `profile` asks for, on a machine with a `cgroup`, which says whether it
/// limits processors, and with or without a user namespace, which counts processes.
fn accepts(profile: &Profile, cgroup: Option<bool>, namespace: bool) -> Result<(), String> {
    let Profile { image, network, limits, .. } = profile;
    if network.value != "none" {
        let field = if network.own { "network" } else { "containers.network" };
        return Err(format!(
            "{field} is {:?}, and a sandbox has no network: set it to \"none\", or use runtime = \
             \"docker\"",
            network.value
        ));
    }
    if image.own {
        return Err(format!(
            "image is {:?}, and a sandbox has none, it shows this machine's own programs: leave it out, \
             or use runtime = \"docker\"",
            image.value
        ));
    }
    let delegate = "leave it out, or give this host a delegated cgroup, see docs/running.md";
    if limits.cpus.own && cgroup != Some(true) {
        return Err(format!("limits.cpus: nothing here limits processors: {delegate}"));
    }
    if limits.pids.own && cgroup.is_none() && !namespace {
        return Err(format!("limits.pids: nothing here counts processes: {delegate}"));
    }
    Ok(())
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
            let ended = |entry: &Entry| entry.condition() != Condition::Running;
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
        condition: entry.condition(),
    };
    entries.into_iter().map(sighting).collect()
}

fn unavailable(reason: String) -> RuntimeError {
    RuntimeError::Unavailable { runtime: NAME, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::File;

    #[test]
    fn an_agent_is_refused_what_a_sandbox_does_not_have_here() {
        let settings = twobox_config::Config::default().containers;
        let open = Containers { network: "agents".to_owned(), ..settings.clone() };
        let (full, memory, none) = (Some(true), Some(false), None);
        let cases = [
            ("{}", &settings, none, false, None),
            ("{}", &open, full, true, Some("containers.network is \"agents\"")),
            (r#"{"network": "none"}"#, &open, full, true, None),
            (r#"{"network": "agents"}"#, &settings, full, true, Some("network is \"agents\"")),
            (r#"{"image": "x"}"#, &settings, full, true, Some("image is \"x\"")),
            (r#"{"limits": {"cpus": 1}}"#, &settings, full, true, None),
            (r#"{"limits": {"cpus": 1}}"#, &settings, memory, true, Some("limits.cpus")),
            (r#"{"limits": {"cpus": 1}}"#, &settings, none, true, Some("limits.cpus")),
            (r#"{"limits": {"pids": 50}}"#, &settings, none, true, None),
            (r#"{"limits": {"pids": 50}}"#, &settings, memory, false, None),
            (r#"{"limits": {"pids": 50}}"#, &settings, none, false, Some("limits.pids")),
            (r#"{"limits": {"memory_mb": 50}}"#, &settings, none, false, None),
        ];
        for (text, settings, cgroup, namespace, refused) in cases {
            let profile = Profile::of(File::parse(text).unwrap(), settings).unwrap();
            let case = format!("{text}, {cgroup:?}, {namespace}");
            match (accepts(&profile, cgroup, namespace), refused) {
                (Ok(()), None) => {}
                (Err(reason), Some(part)) => assert!(reason.contains(part), "{case}: {reason}"),
                (found, _) => panic!("{case}: {found:?}"),
            }
        }
    }
}
