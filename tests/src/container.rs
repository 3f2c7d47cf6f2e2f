//! The runners that live, as the machine or the engine shows them.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};

use crate::engine::docker;
use crate::scenario::Runtime;
use crate::wait::wait_for;

/// How long a killed process may take to be gone when everything is cleaned up.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// One runner that was alive when it was looked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    /// Its session's id.
    pub session: String,
    /// Its runner id.
    pub runner: String,
    /// The process's number, or the container's id.
    pub handle: String,
    runtime: Runtime,
}

impl Container {
    /// The runners of `install` that live.
    pub(crate) fn living(runtime: Runtime, install: &str) -> Vec<Self> {
        let mut found = match runtime {
            Runtime::Process | Runtime::Sandbox => processes(runtime, install),
            Runtime::Docker => containers(install, &[]),
        };
        found.sort();
        found
    }

    /// Removes everything of `install` that is left.
    pub(crate) fn remove_all(runtime: Runtime, install: &str) {
        match runtime {
            Runtime::Process | Runtime::Sandbox => {
                let left = processes(runtime, install);
                // Without it nobody is left inside.
                for inner in inner_processes(install) {
                    kill(inner, Signal::SIGKILL).ok();
                }
                for runner in &left {
                    // It may be on its way out already.
                    kill(runner.pid(), Signal::SIGKILL).ok();
                }
                // Whoever still writes would leave files behind in a folder that is being removed.
                let end = Instant::now() + GONE_WITHIN;
                while left.iter().any(Self::lives) && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Runtime::Docker => containers(install, &["--all"]).iter().for_each(|left| {
                let arguments = ["rm", "--force", "--volumes", &left.handle];
                // As above.
                Command::new("docker").args(arguments).output().ok();
            }),
        }
    }

    /// Whether an engine has to be asked. A runner in a sandbox is a process of this machine.
    fn is_container(&self) -> bool {
        self.runtime == Runtime::Docker
    }

    /// What runs it.
    pub fn runtime(&self) -> Runtime {
        self.runtime
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.handle.parse().unwrap())
    }

    /// Whether it still lives.
    pub fn lives(&self) -> bool {
        match self.is_container() {
            false => arguments(&self.handle).is_some_and(|it| it.contains(&self.runner)),
            true => {
                let filter = format!("id={}", self.handle);
                !docker(&["ps", "--quiet", "--filter", &filter]).trim().is_empty()
            }
        }
    }

    /// Whether the runner was started with `argument`.
    pub fn has_argument(&self, argument: &str) -> bool {
        match self.is_container() {
            false => arguments(&self.handle).is_some_and(|it| it.iter().any(|it| it == argument)),
            true => {
                let format = "{{join .Args \"\\n\"}}";
                docker(&["inspect", "--format", format, &self.handle])
                    .lines()
                    .any(|it| it == argument)
            }
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&self) {
        assert!(self.strike(), "it still lives");
        self.wait_gone();
    }

    /// SIGKILL, if it still lives. Returns whether it did.
    pub fn strike(&self) -> bool {
        match self.is_container() {
            false => kill(self.pid(), Signal::SIGKILL).is_ok(),
            true => tell_engine(&["kill", &self.handle]),
        }
    }

    /// Removes the container behind the host's back, if it is still there. Returns whether it was.
    pub fn remove(&self) -> bool {
        self.lives() && tell_engine(&["rm", "--force", "--volumes", &self.handle])
    }

    /// Waits until it is gone by itself.
    #[track_caller]
    pub fn wait_gone(&self) {
        wait_for("the container to be gone", || (!self.lives()).then_some(()));
    }

    /// Signals the runner, and in the process runtime whoever is above it as well: they are a group.
    fn signal_both(&self, signal: Signal) -> bool {
        match self.runtime {
            Runtime::Process => killpg(self.pid(), signal).is_ok(),
            Runtime::Docker | Runtime::Sandbox => kill(self.pid(), signal).is_ok(),
        }
    }

    /// Makes it stand still, if it still lives. Returns whether it did.
    pub fn freeze(&self) -> bool {
        match self.is_container() {
            false => self.signal_both(Signal::SIGSTOP),
            true => tell_engine(&["pause", &self.handle]),
        }
    }

    /// Lets it go on, if it still lives. Returns whether it did.
    pub fn thaw(&self) -> bool {
        match self.is_container() {
            false => self.signal_both(Signal::SIGCONT),
            true => tell_engine(&["unpause", &self.handle]),
        }
    }
}

/// Runs `docker` for a container that may be gone. Returns whether it was done.
fn tell_engine(arguments: &[&str]) -> bool {
    Command::new("docker").args(arguments).output().unwrap().status.success()
}

/// The arguments of a process; `None` if it is gone or a zombie.
fn arguments(pid: &str) -> Option<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let parts: Vec<String> =
        bytes.split(|byte| *byte == 0).map(|it| String::from_utf8_lossy(it).into_owned()).collect();
    (parts.len() > 1).then_some(parts)
}

/// The numbers that a process has, from the outermost process namespace inwards.
fn numbers(pid: &str) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// Those that are number 1 in a sandbox of `install`.
fn inner_processes(install: &str) -> Vec<Pid> {
    let read = |entry: fs::DirEntry| {
        let pid = entry.file_name().into_string().ok()?;
        let number = Pid::from_raw(pid.parse().ok()?);
        let ours = arguments(&pid)?.iter().any(|argument| argument == install);
        (ours && numbers(&pid).get(1) == Some(&1)).then_some(number)
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| read(entry.ok()?)).collect()
}

fn processes(runtime: Runtime, install: &str) -> Vec<Container> {
    let read = |entry: fs::DirEntry| {
        let pid = entry.file_name().into_string().ok()?;
        let number = Pid::from_raw(pid.parse().ok()?);
        // A child that has not called exec yet has its parent's arguments, but leads no group.
        // In a sandbox it is the first that bwrap starts there.
        let first = match runtime {
            Runtime::Sandbox => numbers(&pid).get(1) == Some(&2),
            Runtime::Process | Runtime::Docker => getpgid(Some(number)) == Ok(number),
        };
        first.then_some(())?;
        let arguments = arguments(&pid)?;
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            arguments.get(at + 1).cloned()
        };
        let runner = arguments.iter().take(2).any(|it| it.ends_with("agent-runner"));
        (runner && value("--install")? == install).then_some(())?;
        Some(Container {
            session: value("--session")?,
            runner: value("--runner")?,
            handle: pid,
            runtime,
        })
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| read(entry.ok()?)).collect()
}

fn containers(install: &str, more: &[&str]) -> Vec<Container> {
    let filter = format!("label=twobox.install={install}");
    let format = r#"{{.ID}} {{.Label "twobox.session"}} {{.Label "twobox.runner"}}"#;
    let fixed = ["ps", "--no-trunc", "--filter", &filter, "--format", format];
    docker(&[&fixed, more].concat())
        .lines()
        .map(|line| {
            let [handle, session, runner] =
                line.split(' ').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
            Container { session, runner, handle, runtime: Runtime::Docker }
        })
        .collect()
}
