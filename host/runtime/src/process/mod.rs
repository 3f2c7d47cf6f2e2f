//! Runners as child processes: the same folders without a container, for machines without an
//! engine and for tests. **It is no isolation boundary**: a runner has the rights of the host's
//! user, less what Landlock takes away. Where that user is root, a runner is another one, who sees
//! nothing of the data directory but its own folders (`nobody`).
//!
//! A runner outlives the host. The next host finds it by its arguments (`scan`), watches it like
//! its own (`watch`), and whoever is found without a runner is ended. Exits are remembered until
//! they are cleared; what the runner prints is in `runner.log` in the session's folder from the
//! start, so clearing has nothing to move.

mod nobody;
mod probe;
mod profile;
mod recognise;
mod scan;
mod spawn;
mod watch;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::process::{Pid, Signal};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use twobox_shared::ids::{InstallId, SessionId};

use self::profile::accepts;
use self::scan::{Identity, Ours, Snapshot};
use self::spawn::Way;
use self::watch::Watch;
use super::child::Ending;
use super::docker::folder::{self, User};
use super::probe::Probed;
use super::{
    Condition, Incarnation, Profile, Runtime, RuntimeError, RuntimeEvent, Sighting, StartSpec,
};
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;
use twobox_system::repeat::Repeats;

const NAME: &str = "process";

/// What is said whenever this runtime is chosen or started.
pub const WARNING: &str = "the process runtime is no isolation boundary and is meant for development: \
     agents run as processes of this machine with its network; let nobody whom you do not trust talk to \
     them";

/// How long killed processes may take to be gone before a stop is reported as failed.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How long `agent-runner --version` may take.
const VERSION_PATIENCE: Duration = Duration::from_secs(5);

/// The process runtime. Cheap to clone; all clones share what they know.
#[derive(Debug, Clone)]
pub struct Process {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ours: Arc<Ours>,
    way: Way,
    events: mpsc::UnboundedSender<RuntimeEvent>,
    /// Which processes of others were told of.
    told: Repeats,
    /// Held while `/proc` is read and compared with it, and during a start, so that neither acts
    /// on what the other is changing. Locked on blocking threads only.
    table: Mutex<Table>,
}

type Table = HashMap<Incarnation, Entry>;

/// An incarnation under watch, or one that has ended and was not cleared.
#[derive(Debug, Clone)]
struct Entry {
    runner: Option<Identity>,
    ending: Ending,
}

impl Process {
    /// The runtime of `install`, whose sessions have their folders in `sessions`, a canonical path.
    /// Runners are the user that the setting `user` names, or if it is empty, that of the host, unless
    /// that is root. Exits go to `events`.
    ///
    /// # Errors
    /// [`RuntimeError::Misconfigured`] if runners cannot be that user.
    pub fn new(
        install: InstallId,
        sessions: PathBuf,
        runner_binary: PathBuf,
        user: &str,
        events: mpsc::UnboundedSender<RuntimeEvent>,
    ) -> Result<Self, RuntimeError> {
        let own = User::own();
        let refused = |reason| RuntimeError::Misconfigured { reason };
        let user = User::choose(user, own).map_err(refused)?;
        if own.uid != 0 && user != own {
            return Err(refused(folder::cannot_give(own, user)));
        }
        let ours = Arc::new(Ours { install, sessions, users: [user.uid, own.uid] });
        let way = Way { ours: Arc::clone(&ours), user, program: runner_binary };
        let (told, table) = (Repeats::default(), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { ours, way, events, told, table }) })
    }

    /// Runs `work` on a blocking thread with the table, after everything that lives is in it.
    /// Dropping the future does not interrupt the work.
    async fn with_table<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &mut Table, &Handle) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let shared = Arc::clone(&self.shared);
        let handle = Handle::current();
        let blocking = move || {
            // A panic elsewhere leaves the table whole: entries are put in and taken out singly.
            let mut table = lock(&shared.table);
            shared.adopt(&mut table, &handle)?;
            work(&shared, &mut table, &handle)
        };
        tokio::task::spawn_blocking(blocking)
            .await
            .unwrap_or_else(|error| Err(unavailable(error.to_string())))
    }

    async fn sightings(
        &self,
        wanted: impl Fn(Incarnation) -> bool + Send + 'static,
    ) -> Result<Vec<Sighting>, RuntimeError> {
        self.with_table(move |_, table, _| {
            let known = table.iter().filter(|(incarnation, _)| wanted(**incarnation));
            let sighting = |(incarnation, entry): (&Incarnation, &Entry)| Sighting {
                incarnation: *incarnation,
                condition: entry.ending.condition(),
            };
            Ok(known.map(sighting).collect())
        })
        .await
    }

    async fn end(&self, incarnation: Incarnation, grace: Duration) -> Result<(), RuntimeError> {
        let failed = |reason: String| RuntimeError::Stop { session: incarnation.session, reason };
        let find =
            move |_: &Shared, table: &mut Table, _: &Handle| Ok(table.get(&incarnation).cloned());
        let Some(mut entry) = self.with_table(find).await? else { return Ok(()) };

        if let Some(runner) = entry.runner {
            scan::signal(runner, Signal::TERM).map_err(|error| {
                failed(format!("process {} refused SIGTERM: {error}", runner.pid))
            })?;
        }
        if entry.ending.comes_within(grace).await {
            return Ok(());
        }
        watch::end(&self.shared.ours, incarnation, entry.runner).await.map_err(failed)?;
        if entry.ending.comes_within(KILL_PATIENCE).await {
            return Ok(());
        }
        Err(failed(format!("processes are left {} s after SIGKILL", KILL_PATIENCE.as_secs())))
    }
}

impl Shared {
    /// Puts every incarnation that lives and is not known under watch.
    fn adopt(&self, table: &mut Table, handle: &Handle) -> Result<(), RuntimeError> {
        // Before the look, because what ends during it was still seen alive.
        let ended: HashSet<Incarnation> = table
            .iter()
            .filter(|(_, entry)| entry.ending.condition() != Condition::Running)
            .map(|(incarnation, _)| *incarnation)
            .collect();
        let seen = Snapshot::take(&self.ours)
            .map_err(|error| unavailable(format!("could not read /proc: {error}")))?;
        for (folder, pid) in seen.strangers() {
            if let Some(before) = self.told.tell(folder, Instant::now()) {
                tracing::warn!(
                    folder, %pid, before,
                    "left a process alone that bears this installation's id and works elsewhere: is \
                     there a copy of this data directory?"
                );
            }
        }
        for (incarnation, runner) in seen.incarnations() {
            // Nobody was left of an incarnation that had ended, so whoever carries its marks now
            // came in later and is to go as well.
            if !table.contains_key(&incarnation) || ended.contains(&incarnation) {
                tracing::info!(
                    session = %incarnation.session, runner = %incarnation.runner,
                    alone = runner.is_none(), "adopted a runner"
                );
                table.insert(incarnation, self.watch(incarnation, runner, None, handle));
            }
        }
        Ok(())
    }

    fn watch(
        &self,
        incarnation: Incarnation,
        runner: Option<Identity>,
        child: Option<std::process::Child>,
        handle: &Handle,
    ) -> Entry {
        let (ended, ending) = Ending::ahead();
        let (ours, events) = (Arc::clone(&self.ours), self.events.clone());
        handle.spawn(Watch { ours, incarnation, runner, child, ended, events }.run());
        Entry { runner, ending }
    }

    fn start(
        &self,
        spec: &StartSpec,
        table: &mut Table,
        handle: &Handle,
    ) -> Result<(), RuntimeError> {
        let session = spec.incarnation.session;
        if table.keys().any(|known| known.session == session) {
            return Err(RuntimeError::Occupied { session });
        }
        accepts(&spec.profile).map_err(|reason| RuntimeError::Start { reason })?;
        let child = spawn::spawn(&self.way, spec, &[]).map_err(|error| {
            let program = self.way.program.display();
            let advice = match (error.raw_os_error(), self.way.user == User::own()) {
                (Some(nix::libc::EPERM), false) => {
                    "this root may not make mount namespaces, so it cannot take root's rights from \
                     agents: run the host as an ordinary user"
                }
                _ => "check containers.runner and the session's folder",
            };
            RuntimeError::Start { reason: format!("{program}: {error}: {advice}") }
        })?;
        // The child is not reaped before the watch ends, so its number is its own until then.
        let runner =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).and_then(scan::identify);
        table.insert(spec.incarnation, self.watch(spec.incarnation, runner, Some(child), handle));
        Ok(())
    }

    /// One line about the runner's binary and about what this runtime does not do.
    fn check(&self) -> Result<String, RuntimeError> {
        let program = self.way.program.display();
        let version = version(&self.way.program).map_err(|reason| RuntimeError::Start {
            reason: format!(
                "{program}: {reason}: build it with `cargo build -p twobox-agent-runner`, or set \
                 containers.runner"
            ),
        })?;
        let landlock = match landlock_abi() {
            Some(abi @ 9..) => format!(
                "Landlock version {abi} limits the files, sockets and processes that runners reach"
            ),
            Some(abi @ 6..) => {
                format!("Landlock version {abi} limits the files and processes that runners reach")
            }
            Some(abi) => format!(
                "Landlock version {abi} limits which files runners reach, and not whom they signal \
                 (Linux 6.12)"
            ),
            None => {
                "this kernel has no Landlock, so runners reach every file of this user".to_owned()
            }
        };
        let version = if version.is_empty() { program.to_string() } else { version };
        Ok(format!("{version}, as child processes: not an isolation boundary; {landlock}"))
    }
}

impl Runtime for Process {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start<'a>(&'a self, spec: &'a StartSpec) -> BoxFuture<'a, Result<(), RuntimeError>> {
        let spec = spec.clone();
        self.with_table(move |shared, table, handle| shared.start(&spec, table, handle)).boxed()
    }

    fn stop(
        &self,
        incarnation: Incarnation,
        grace: Duration,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        self.end(incarnation, grace).boxed()
    }

    fn of_session(&self, session: SessionId) -> BoxFuture<'_, Result<Vec<Sighting>, RuntimeError>> {
        self.sightings(move |incarnation| incarnation.session == session).boxed()
    }

    fn accepts(&self, profile: &Profile) -> Result<(), String> {
        accepts(profile)
    }

    fn stamp<'a>(&'a self, _profile: &'a Profile) -> BoxFuture<'a, Option<String>> {
        let stamp = super::stamp_of_runner(&self.shared.way.program);
        async move { stamp }.boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Sighting>, RuntimeError>> {
        self.sightings(|_| true).boxed()
    }

    fn clear<'a>(
        &'a self,
        incarnation: Incarnation,
        _log: &'a Path,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.with_table(move |_, table, _| {
            if table
                .get(&incarnation)
                .is_some_and(|entry| entry.ending.condition() != Condition::Running)
            {
                table.remove(&incarnation);
            }
            Ok(())
        })
        .boxed()
    }

    fn is_agent(&self, pid: i32) -> std::io::Result<bool> {
        Pid::from_raw(pid).map_or(Ok(false), |pid| scan::of_a_runner(&self.shared.ours, pid))
    }

    fn probe<'a>(&'a self, place: &'a Path) -> BoxFuture<'a, Result<Probed, RuntimeError>> {
        let (way, place) = (self.shared.way.clone(), place.to_owned());
        blocking(move || probe::probe(&way, &place)).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<String, RuntimeError>> {
        let shared = Arc::clone(&self.shared);
        async move {
            tokio::task::spawn_blocking(move || shared.check())
                .await
                .unwrap_or_else(|error| Err(unavailable(error.to_string())))
        }
        .boxed()
    }
}

fn unavailable(reason: String) -> RuntimeError {
    RuntimeError::Unavailable { runtime: NAME, reason }
}

/// What the program prints for `--version`.
fn version(program: &Path) -> Result<String, String> {
    let mut child = std::process::Command::new(program)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let deadline = Instant::now() + VERSION_PATIENCE;
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if Instant::now() >= deadline {
            child.kill().map_err(|error| error.to_string())?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("`--version` ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of Landlock that the kernel offers.
fn landlock_abi() -> Option<i64> {
    use nix::libc;
    /// `LANDLOCK_CREATE_RULESET_VERSION`: ask for the version instead of making a rule set.
    const ASK_VERSION: libc::c_long = 1;
    let (no_rules, no_size): (libc::c_long, libc::c_long) = (0, 0);
    // SAFETY: with this flag, a null pointer and size zero, the kernel reads no memory and makes
    // nothing; it returns a number. Source: landlock_create_ruleset(2).
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, no_rules, no_size, ASK_VERSION) };
    (abi > 0).then_some(abi)
}
