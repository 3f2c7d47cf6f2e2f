//! Starting a sandbox, up to the moment in which the runner runs; and asking one to leave.
//! Everything here blocks.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal};
use tokio::runtime::Handle as Tokio;
use twobox_shared::ids::{InstallId, RunnerId};

use super::cgroup::Leaf;
use super::explain;
use super::handle::{self, Handle};
use super::line::{self, Bind, NAME, RUNNER, Way};
use super::spawn::{self, Launch};
use super::status;
use super::watch::{Processes, Watch};
use super::{Entry, Shared, Table};
use crate::child::Ending;
use crate::command;
use crate::docker::folder;
use crate::mounts::{Mount, Seen, mounts};
use crate::profile::Environment;
use crate::{Incarnation, RuntimeError, StartSpec, log};

/// How long bwrap may take until the runner runs. It takes milliseconds; a machine that swaps takes
/// longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How often is looked whether it runs.
pub(super) const PAUSE: Duration = Duration::from_micros(300);
/// How much of what bwrap said is passed on, in bytes.
const WORDS_MAX: u64 = 2048;
/// What a trial finds in its environment of an agent's own.
static NOTHING: Environment = Environment::none();

impl Shared {
    /// Starts `spec`. Returns when the runner runs or nothing of it is left.
    pub(super) fn start(&self, spec: &StartSpec, tokio: &Tokio) -> Result<(), RuntimeError> {
        let Incarnation { session, .. } = spec.incarnation;
        let (tell, processes) = tokio::sync::watch::channel(None);
        let (ended, ending) = Ending::ahead();
        {
            let mut table = self.table();
            let table = table.get_or_insert_default();
            if table.keys().any(|known| known.session == session) {
                return Err(RuntimeError::Occupied { session });
            }
            let entry = Entry { folder: spec.folder.clone(), processes, ending };
            table.insert(spec.incarnation, entry);
        }
        // Whatever happens from here on, a place that nobody uses is given back.
        let place = Place { shared: self, incarnation: spec.incarnation };
        let (child, processes, leaf) = self.begin(spec)?;
        place.keep();
        tell.send_replace(Some(processes.clone())); // a stop may have waited for it
        let watch = Watch {
            incarnation: spec.incarnation,
            folder: spec.folder.clone(),
            processes,
            child: Some(child),
            leaf,
            ended,
            events: self.events.clone(),
        };
        tokio.spawn(watch.run());
        Ok(())
    }

    /// Starts bwrap and waits until the runner runs. If it does not come to that, nothing is left.
    fn begin(&self, spec: &StartSpec) -> Result<(Child, Processes, Option<Leaf>), RuntimeError> {
        let refused = |reason: String| RuntimeError::Start { reason };
        let at = |error: io::Error| refused(format!("{}: {error}", spec.folder.display()));
        let way = self.way()?;
        let tree = self.tree().ok(); // what it can limit is known only after that
        self.accepts(&spec.profile).map_err(refused)?;
        let limits = &spec.profile.limits;
        let user = self.user.clone().map_err(refused)?;
        folder::prepare(spec, self.own, user).map_err(at)?;
        let leaf = match tree.map(|tree| tree.leaf(spec.incarnation.session, limits)) {
            Some(Ok(leaf)) => Some(leaf),
            Some(Err(error)) => return Err(refused(format!("no cgroup could be made: {error}"))),
            None => None,
        };
        let log_path = spec.folder.join(log::RUNNER_LOG);
        let output = log::open(&log_path).map_err(at)?;
        let before = output.metadata().map_or(0, |meta| meta.len());
        let processes = (leaf.is_none() && way.has_namespace()).then_some(limits.pids.value);
        let launch = Launch {
            environment: line::environment(self.ours.install, spec, processes),
            binds: self.binds(spec),
            program: program(self.ours.install, spec),
            status: status::begin(&spec.folder, spec.incarnation.runner).map_err(at)?,
            cgroup: leaf.as_ref().map(Leaf::door).transpose().map_err(at)?,
            memory: leaf.is_none().then(|| limits.memory_mb.value.saturating_mul(1024 * 1024)),
            own: &spec.profile.environment,
            ..self.launch(way, &spec.folder, output)?
        };
        let words = || words_since(&log_path, before);
        let started = spawn::spawn(launch)
            .map_err(|error| refused(self.explain(&format!("{error}\n{}", words()))))
            .and_then(|child| self.wait_for_runner(child, spec, words));
        match started {
            Ok((child, processes)) => Ok((child, processes, leaf)),
            Err(error) => {
                if let Some(leaf) = leaf {
                    leaf.remove();
                }
                forget(&spec.folder, spec.incarnation.runner).map_err(at)?;
                Err(error)
            }
        }
    }

    fn wait_for_runner(
        &self,
        mut child: Child,
        spec: &StartSpec,
        words: impl Fn() -> String,
    ) -> Result<(Child, Processes), RuntimeError> {
        let refused = |reason: String| RuntimeError::Start { reason };
        // Not reaped before the watch or we do it, so its number is its own until then.
        let outer = Handle::open(Pid::from_child(&child)).map_err(|error| {
            child.kill().ok();
            child.wait().ok();
            refused(format!("this kernel gives no handles on processes: {error}"))
        })?;
        let end = Instant::now() + PATIENCE;
        let mut inner = None;
        loop {
            // In this order: what has ended has written everything before.
            let over = outer.has_ended();
            let status = status::read(&spec.folder).ok().flatten().unwrap_or_default();
            if inner.is_none() {
                inner = status.inner.and_then(|pid| Handle::open(pid).ok());
            }
            if let Some(inner) = &inner
                && (status.exit_code.is_some() || runs(inner.pid))
            {
                let processes = Processes { inner: inner.clone(), outer: Some(outer) };
                return Ok((child, processes));
            }
            if over || Instant::now() > end {
                outer.signal(Signal::KILL).ok();
                let code = child.wait().map_or_else(|error| error.to_string(), |it| it.to_string());
                self.end_inner(inner, spec);
                let why = if over { words() } else { format!("it takes long\n{}", words()) };
                return Err(refused(self.explain(&format!("bwrap: {code}\n{why}"))));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Ends what a start that came to nothing may have begun.
    fn end_inner(&self, inner: Option<Handle>, spec: &StartSpec) {
        let status = status::read(&spec.folder).ok().flatten().unwrap_or_default();
        let named = self.ours.living(&spec.folder, &status).map(|living| living.inner);
        for inner in inner.into_iter().chain(named) {
            inner.signal(Signal::KILL).ok();
            let end = Instant::now() + PATIENCE;
            while !inner.has_ended() && Instant::now() < end {
                std::thread::sleep(PAUSE);
            }
            inner.reap();
        }
    }

    /// The folders of `spec`, and the runner.
    pub(super) fn binds(&self, spec: &StartSpec) -> Vec<Bind> {
        let bind = |mount: Mount| Bind {
            source: mount.source,
            target: mount.target.into(),
            read_only: mount.read_only,
        };
        std::iter::once(self.runner()).chain(mounts(spec).into_iter().map(bind)).collect()
    }

    pub(super) fn runner(&self) -> Bind {
        Bind { source: self.runner_binary.clone(), target: RUNNER.into(), read_only: true }
    }

    /// A launch with all confinement, of nothing.
    pub(super) fn launch<'a>(
        &'a self,
        way: Way,
        folder: &'a Path,
        output: File,
    ) -> Result<Launch<'a>, RuntimeError> {
        let refused = |reason: String| RuntimeError::Start { reason };
        // Agents see that folder, as the user that may read the data directory.
        let data = self.ours.sessions.parent().unwrap_or(&self.ours.sessions);
        if let Some(shown) = self.system.shown.iter().find(|shown| data.starts_with(shown)) {
            return Err(refused(format!(
                "the data directory {} lies in {}, which every sandbox sees: move it elsewhere",
                data.display(),
                shown.display()
            )));
        }
        Ok(Launch {
            bwrap: self.bwrap().map_err(refused)?,
            system: &self.system,
            way,
            folder,
            environment: Vec::new(),
            own: &NOTHING,
            binds: Vec::new(),
            program: Vec::new(),
            status: File::from(memory_file()?),
            output,
            cgroup: None,
            memory: None,
        })
    }

    pub(super) fn bwrap(&self) -> Result<&Path, String> {
        // Looked for each time until it is there: it may be installed while the host runs.
        if let Some(found) = self.bwrap.get() {
            return Ok(found);
        }
        let found = spawn::find_program("bwrap", std::env::var_os("PATH").as_deref())
            .ok_or_else(|| explain::NOT_INSTALLED.to_owned())?;
        Ok(self.bwrap.get_or_init(|| found))
    }

    /// How this host starts sandboxes. Root tries out what this machine allows.
    pub(super) fn way(&self) -> Result<Way, RuntimeError> {
        if let Some(way) = self.way.get() {
            return Ok(*way);
        }
        let user = self.user.clone().map_err(|reason| RuntimeError::Start { reason })?;
        if self.own.uid != 0 {
            return Ok(*self.way.get_or_init(|| Way::Own));
        }
        let refusal = match self.try_out(Way::Before(user)) {
            Ok(_) => return Ok(*self.way.get_or_init(|| Way::Before(user))),
            Err(refusal) => refusal,
        };
        match self.try_out(Way::Inside(user)) {
            Ok(_) => Ok(*self.way.get_or_init(|| Way::Inside(user))),
            Err(_) => Err(refusal), // the first way is the one to make possible
        }
    }

    pub(super) fn explain(&self, words: &str) -> String {
        explain::explain(words, self.own.uid == 0, &self.runner_binary)
    }
}

/// A place in the table that a start holds.
struct Place<'a> {
    shared: &'a Shared,
    incarnation: Incarnation,
}

impl Place<'_> {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.table().as_mut().and_then(|table: &mut Table| table.remove(&self.incarnation));
    }
}

/// The runner, with its arguments.
pub(super) fn program(install: InstallId, spec: &StartSpec) -> Vec<OsString> {
    let mut program = vec![RUNNER.into()];
    program.extend(command::arguments(install, spec, Seen::Mounted));
    program
}

/// Whether the program inside has taken bwrap's place: until then it bears bwrap's name.
fn runs(inner: Pid) -> bool {
    handle::children(inner).first().is_some_and(|command| {
        let arguments = handle::arguments(*command);
        arguments.first().is_some_and(|name| !name.starts_with(NAME.as_bytes()))
    })
}

/// Sends SIGTERM to the command, which is the first child of the inner process. The inner one itself
/// is process 1 inside and takes no notice.
pub(super) fn ask_to_leave(inner: &Handle) -> io::Result<()> {
    let first = || handle::children(inner.pid).first().copied();
    let Some(command) = first() else { return Ok(()) };
    let Ok(handle) = Handle::open(command) else { return Ok(()) };
    // The number may have become somebody else's between the two.
    if first() == Some(command) && !inner.has_ended() {
        handle.signal(Signal::TERM)?;
    }
    Ok(())
}

/// Removes the file of `runner` in `folder`, if it is still its.
pub(super) fn forget(folder: &Path, runner: RunnerId) -> io::Result<()> {
    match status::read(folder)? {
        Some(status) if status.runner == Some(runner) => status::forget(folder),
        _ => Ok(()),
    }
}

/// What was added to the log since it had `before` bytes.
fn words_since(log: &Path, before: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(before))?;
        file.take(WORDS_MAX).read_to_end(&mut bytes)
    });
    drop(read); // what cannot be read is not passed on
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn memory_file() -> Result<std::os::fd::OwnedFd, RuntimeError> {
    rustix::fs::memfd_create("twobox", MemfdFlags::CLOEXEC)
        .map_err(|error| unavailable(&error.into()))
}

pub(super) fn unavailable(error: &io::Error) -> RuntimeError {
    super::unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use twobox_shared::ids::SystemIds;

    use super::super::Sandbox;
    use super::super::trial::Trial;
    use super::*;
    use twobox_config::Config;

    /// The way for machines that let nobody make user namespaces.
    #[test]
    fn root_without_a_user_namespace_gives_everything_up_inside() {
        let mut bwrap = std::process::Command::new("bwrap");
        let output = bwrap.args(["--ro-bind", "/", "/", "true"]).output();
        let works = output.is_ok_and(|output| output.status.success());
        if !works || !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: not root, or no bwrap");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let runner = dir.path().join("agent-runner");
        let script = "#!/bin/bash\nexec 2>&1\n\
            grep -E '^(Cap|Uid|Gid|Groups|NoNewPrivs|Seccomp:)' /proc/self/status | tr '\\t' ' '\n\
            setpriv --reuid 0 echo root again\nkill -9 1 && echo killed 1\ncat /proc/1/environ\n";
        std::fs::write(&runner, script).unwrap();
        std::fs::set_permissions(&runner, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        let settings = Config::default().containers;
        let install = InstallId::generate(&SystemIds);
        let sandbox = Sandbox::new(install, dir.path().into(), &settings, runner, events);
        let shared = &sandbox.shared;
        let way = Way::Inside(shared.user.clone().unwrap());
        let trial = Trial {
            environment: Vec::new(),
            binds: vec![shared.runner()],
            program: vec![RUNNER.into()],
        };
        let (said, _) = shared.run(way, trial).unwrap();
        for line in [
            "Uid: 65532 65532 65532 65532",
            "Gid: 65532 65532 65532 65532",
            "CapInh: 0000000000000000",
            "CapPrm: 0000000000000000",
            "CapEff: 0000000000000000",
            "CapBnd: 0000000000000000",
            "CapAmb: 0000000000000000",
            "NoNewPrivs: 1",
            "Seccomp: 2",
        ] {
            assert!(said.lines().any(|it| it == line), "{line} in\n{said}");
        }
        assert!(said.lines().any(|it| it.trim_end() == "Groups:"), "{said}");
        assert!(!said.contains("root again") && !said.contains("killed 1"), "{said}");
    }
}
