//! Container runtimes: what starts, watches and stops agent-runners.
//!
//! One container is one incarnation: the host makes a fresh runner id for each start, the runtime
//! labels the container with it, and nothing restarts a container by itself. "Stopped" is what the
//! runtime confirms, not what a client hoped for. Nothing here knows what is in a session's boxes.

mod child;
mod command;
pub mod docker;
pub mod log;
pub mod mounts;
pub mod probe;
pub mod process;
pub mod profile;
pub mod program;
pub mod sandbox;
pub mod settings;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::mpsc;
use twobox_shared::durability::Durability;
use twobox_shared::ids::{InstallId, RunnerId, SessionId, SystemIds};

use twobox_config::{Config, RuntimeKind};
use twobox_model::channel::Guard;

pub use self::log::RUNNER_LOG;
pub use self::mounts::AgentFolders;
use self::probe::Probed;
pub use self::profile::Profile;

/// One life of one agent-runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Incarnation {
    /// The session that it works for.
    pub session: SessionId,
    /// The id that the host gave to this life.
    pub runner: RunnerId,
}

/// What the runtime says about an incarnation that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Condition {
    /// Some process of it may still live.
    Running,
    /// No process of it lives.
    Exited {
        /// The exit code, where the runtime kept it.
        code: Option<i64>,
    },
}

/// An incarnation that the runtime knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sighting {
    /// Which.
    pub incarnation: Incarnation,
    /// How it is.
    pub condition: Condition,
}

/// What a start needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct StartSpec {
    /// Who is to live.
    pub incarnation: Incarnation,
    /// The session's folder, canonical, with `in/`, `out/` and `work/` in it.
    pub folder: PathBuf,
    /// The agent's folders. What becomes of them and of the session's is in [`mounts::mounts`].
    pub agent: AgentFolders,
    /// How the agent runs: what confines it. Its folders are canonical ([`Profile::with_folders`]).
    pub profile: Profile,
    /// The runner leaves by itself after this long without work.
    pub idle: Duration,
    /// How long the runner may take to end its turn when it is told to leave.
    pub grace: Duration,
    /// How often the runner gives a sign of life.
    pub heartbeat: Duration,
    /// Whether the runner has to poll its inbox, and how often.
    pub poll: Option<Duration>,
    /// What the runner's commits survive.
    pub durability: Durability,
}

/// Why a runtime did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The runtime itself does not answer: try again, nothing is known.
    #[error("the {runtime} runtime does not answer: {reason}")]
    Unavailable {
        /// Which.
        runtime: &'static str,
        /// Why.
        reason: String,
    },
    /// The settings cannot or must not be used: nothing was tried.
    #[error("{reason}")]
    Misconfigured {
        /// What is wrong, and what to write.
        reason: String,
    },
    /// Another incarnation of the session is there: somebody else won the start.
    #[error("session {session} already has a container")]
    Occupied {
        /// The session.
        session: SessionId,
    },
    /// The runtime refused the start.
    #[error("could not start a container: {reason}")]
    Start {
        /// Why, and what to do.
        reason: String,
    },
    /// The container may still live.
    #[error("could not stop the container of session {session}: {reason}")]
    Stop {
        /// The session.
        session: SessionId,
        /// Why.
        reason: String,
    },
}

impl RuntimeError {
    /// Whether it is of no use to try again before a person has changed something. An engine that does
    /// not answer may do so later.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Misconfigured { .. })
    }
}

/// What a runtime reports without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// The incarnation has ended.
    Exited(Incarnation),
    /// Events may have been lost: compare everything.
    Interrupted,
}

/// One way to run agent-runners. It reports exits through the channel that it was built with.
pub trait Runtime: Send + Sync {
    /// `docker`, `sandbox` or `process`.
    fn name(&self) -> &'static str;

    /// What bounds each runner with all its processes, for people; `None` where that is as it was asked
    /// for.
    fn limits(&self) -> Option<String> {
        None
    }

    /// What runners of `profile` are started from, in a word that changes with it; `None` if that
    /// cannot be known now.
    fn stamp<'a>(&'a self, _profile: &'a Profile) -> BoxFuture<'a, Option<String>> {
        Box::pin(std::future::ready(Some(String::new())))
    }

    /// Whether this runtime can do what the agent's own part of `profile` asks for. Nothing of it is
    /// left out in silence: a start with what is refused here is refused too. May block for a moment.
    ///
    /// # Errors
    /// The field, why not, and what to do.
    fn accepts(&self, _profile: &Profile) -> Result<(), String> {
        Ok(())
    }

    /// As [`Runtime::accepts`], and whether all that only a start of `profile` needs is there; what all
    /// starts need is for [`Runtime::check`].
    ///
    /// # Errors
    /// [`RuntimeError::Start`] with what is missing; [`RuntimeError::Unavailable`].
    fn check_profile<'a>(
        &'a self,
        profile: &'a Profile,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        let accepted = self.accepts(profile);
        Box::pin(std::future::ready(accepted.map_err(|reason| RuntimeError::Start { reason })))
    }

    /// Starts a runner, or says why not. When this returns `Ok`, the incarnation is visible to
    /// [`Runtime::list`] until its exit is over. Dropping the future may leave a started runner
    /// behind; the next look finds it.
    ///
    /// # Errors
    /// [`RuntimeError::Occupied`] if the session has a container already, running or not yet
    /// cleared; [`RuntimeError::Start`]; [`RuntimeError::Unavailable`].
    fn start<'a>(&'a self, spec: &'a StartSpec) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Asks the incarnation to leave, and after `grace` ends it with every process that it began.
    /// `Ok` means that the runtime confirmed that none is left.
    ///
    /// # Errors
    /// [`RuntimeError::Stop`] or [`RuntimeError::Unavailable`]: it may still live.
    fn stop(
        &self,
        incarnation: Incarnation,
        grace: Duration,
    ) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// Every incarnation of `session` that the runtime knows; empty means that none lives.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`]: nothing is known.
    fn of_session(&self, session: SessionId) -> BoxFuture<'_, Result<Vec<Sighting>, RuntimeError>>;

    /// Every incarnation of this installation that the runtime knows.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`]: nothing is known.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Sighting>, RuntimeError>>;

    /// Forgets an incarnation that has exited, keeping what it printed in `log`, so that the next
    /// start finds the place free. Does nothing if there is nothing left of it.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`].
    fn clear<'a>(
        &'a self,
        incarnation: Incarnation,
        log: &'a Path,
    ) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Starts a runner as it would start one for a session, which only looks around, in a folder of
    /// its own in `place`, and compares what it saw with what was asked for. Takes a second or so,
    /// and a minute at most. Neither the runner nor its folder is left over, even if the future is
    /// dropped, and no session hears of it.
    ///
    /// # Errors
    /// [`RuntimeError::Start`] with what is in the way of every start, or
    /// [`RuntimeError::Unavailable`]: nothing is known.
    fn probe<'a>(&'a self, place: &'a Path) -> BoxFuture<'a, Result<Probed, RuntimeError>>;

    /// Whether process `pid` of this machine is an agent's, as far as agents of this runtime can reach
    /// what is the host's user's alone. Blocks.
    ///
    /// # Errors
    /// It has ended, and nobody can tell any more.
    fn is_agent(&self, _pid: i32) -> std::io::Result<bool> {
        Ok(false)
    }

    /// Whether the runtime could start a runner now, as far as that can be seen without starting one:
    /// one line for people.
    ///
    /// # Errors
    /// What is missing, and the command that helps.
    fn check(&self) -> BoxFuture<'_, Result<String, RuntimeError>>;
}

/// The runtime that `config` names, for the installation whose sessions have their folders in
/// `sessions`, a canonical path. It reports to `events`, inside tokio.
///
/// # Errors
/// [`RuntimeError::Misconfigured`] or [`RuntimeError::Unavailable`] if it cannot be used as configured.
/// An engine that does not answer yet is no error: it is asked again.
pub fn build(
    install: InstallId,
    sessions: PathBuf,
    config: &Config,
    events: mpsc::UnboundedSender<RuntimeEvent>,
) -> Result<Arc<dyn Runtime>, RuntimeError> {
    Ok(match config.runtime {
        RuntimeKind::Docker => {
            Arc::new(docker::Docker::connect(install, &sessions, &config.containers, events)?)
        }
        RuntimeKind::Sandbox => {
            let runner = runner_binary(&config.containers.runner)?;
            let containers = &config.containers;
            let sandbox = sandbox::Sandbox::new(install, sessions, containers, runner, events);
            sandbox.can_be()?;
            Arc::new(sandbox)
        }
        RuntimeKind::Process => {
            let runner = runner_binary(&config.containers.runner)?;
            let user = &config.containers.user;
            Arc::new(process::Process::new(install, sessions, runner, user, events)?)
        }
    })
}

/// Whether the runtime that `config` names could start a runner now, for a command that runs none:
/// one line for people.
///
/// # Errors
/// As for [`build`] and [`Runtime::check`].
pub async fn check(config: &Config) -> Result<String, RuntimeError> {
    let (events, _nobody_listens) = mpsc::unbounded_channel();
    // Under an id and in a folder of which there are no containers.
    build(InstallId::generate(&SystemIds), PathBuf::new(), config, events)?.check().await
}

/// As [`check`], by starting one that only looks around, in a folder in `place`.
///
/// # Errors
/// As for [`build`] and [`Runtime::probe`].
pub async fn probe(config: &Config, place: &Path) -> Result<Probed, RuntimeError> {
    let (events, _nobody_listens) = mpsc::unbounded_channel();
    build(InstallId::generate(&SystemIds), PathBuf::new(), config, events)?.probe(place).await
}

/// What is in the way of starting runners with each of `profiles`, in their order.
///
/// # Errors
/// As for [`build`]: nothing is known of any.
pub async fn check_profiles(
    config: &Config,
    profiles: &[&Profile],
) -> Result<Vec<Result<(), RuntimeError>>, RuntimeError> {
    let (events, _nobody_listens) = mpsc::unbounded_channel();
    let runtime = build(InstallId::generate(&SystemIds), PathBuf::new(), config, events)?;
    let mut found = Vec::with_capacity(profiles.len());
    for profile in profiles {
        found.push(runtime.check_profile(profile).await);
    }
    Ok(found)
}

/// What tells agents from those whom the host's sockets are for.
pub fn guard(runtime: &Arc<dyn Runtime>) -> Guard {
    let runtime = Arc::clone(runtime);
    Arc::new(move |pid| runtime.is_agent(pid))
}

/// As [`Runtime::stamp`], where runners are the program `runner` of this machine. Blocks for a moment.
fn stamp_of_runner(runner: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(runner).ok()?;
    Some(format!("{} {} {}.{}", meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

/// The configured `agent-runner`, or the one beside this program. It has to be there when a host begins:
/// one that goes later, as in an update, comes back.
fn runner_binary(configured: &str) -> Result<PathBuf, RuntimeError> {
    let unavailable = |reason| RuntimeError::Unavailable { runtime: "process", reason };
    let runner = match configured.is_empty() {
        false => PathBuf::from(configured),
        true => std::env::current_exe()
            .map(|program| program.with_file_name("agent-runner"))
            .map_err(|error| unavailable(format!("this program cannot find itself: {error}")))?,
    };
    match runner.is_file() {
        true => Ok(runner),
        false => Err(RuntimeError::Misconfigured {
            reason: format!(
                "{} is not there: build it with `cargo build -p twobox-agent-runner`, or set \
                 containers.runner",
                runner.display()
            ),
        }),
    }
}
