//! Who lives, read from `/proc`.
//!
//! A runner is found by its exact arguments, so that a host that was killed right after a start
//! finds it again; its descendants are found by their process group and, if they left that, by the
//! marks in their environment. Zombies do not live. A process that vanishes while it is being read
//! is gone. Everything here blocks.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use twobox_shared::ids::InstallId;

use crate::runtime::Incarnation;
use crate::runtime::command::{INSTALL_VARIABLE, RUNNER_VARIABLE, SESSION_VARIABLE};

/// The file name of the runner's binary.
const RUNNER_NAME: &str = "agent-runner";

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: Pid,
    /// Clock ticks between boot and the process's start.
    started: u64,
}

/// One process in a snapshot.
#[derive(Debug, Clone)]
struct Process {
    identity: Identity,
    group: i32,
    live: bool,
    /// Whose process it says it is, by its arguments or its environment.
    incarnation: Option<Incarnation>,
    /// It is the runner itself: it has the arguments and leads its group.
    runner: bool,
}

/// Every process of the machine at about one instant.
#[derive(Debug, Default)]
pub(super) struct Snapshot(Vec<Process>);

impl Snapshot {
    /// Reads `/proc`. Only processes of `install` are recognised as anybody's.
    pub(super) fn take(install: InstallId) -> io::Result<Self> {
        let mut processes = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) =
                name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
            else {
                continue;
            };
            let Some(stat) = Stat::read(pid) else { continue };
            let mut process = Process {
                identity: Identity { pid, started: stat.started },
                group: stat.group,
                live: stat.live,
                incarnation: None,
                runner: false,
            };
            if stat.live {
                (process.incarnation, process.runner) = recognise(install, pid, stat.group);
            }
            processes.push(process);
        }
        Ok(Self(processes))
    }

    /// Every incarnation that has a live process, with its runner if that lives.
    pub(super) fn incarnations(&self) -> HashMap<Incarnation, Option<Identity>> {
        let mut found = HashMap::new();
        for process in self.0.iter().filter(|process| process.live) {
            let Some(incarnation) = process.incarnation else { continue };
            let runner = found.entry(incarnation).or_insert(None);
            if process.runner {
                *runner = Some(process.identity);
            }
        }
        found
    }

    /// The live processes of `incarnation`: those that say so, and the group that `runner` leads or
    /// led.
    fn members(&self, incarnation: Incarnation, runner: Option<Identity>) -> Vec<&Process> {
        // A number is not given out again while a group has it. So if another process has the
        // runner's number now, the runner's group is empty and this group is a stranger's.
        let group = runner.filter(|runner| {
            self.0.iter().all(|other| other.identity.pid != runner.pid || other.identity == *runner)
        });
        let group = group.map(|runner| runner.pid.as_raw_nonzero().get());
        self.0
            .iter()
            .filter(|process| process.live)
            .filter(|process| {
                process.incarnation == Some(incarnation) || Some(process.group) == group
            })
            .collect()
    }

    /// Sends SIGKILL to every live process of `incarnation` and says how many there were. Zero is
    /// the confirmation that none is left.
    pub(super) fn kill(&self, incarnation: Incarnation, runner: Option<Identity>) -> usize {
        let members = self.members(incarnation, runner);
        if let Some(runner) = runner
            && members.iter().any(|process| process.group == runner.pid.as_raw_nonzero().get())
        {
            // One call for the whole group, or a process that forks quickly outruns us. The next
            // snapshot shows whether it helped, so the result says nothing more.
            rustix::process::kill_process_group(runner.pid, Signal::KILL).ok();
        }
        for process in &members {
            // As above: the next snapshot decides.
            signal(process.identity, Signal::KILL).ok();
        }
        members.len()
    }
}

/// A handle on the process, if it is still the same one. It becomes readable when the process ends.
pub(super) fn open(identity: Identity) -> Result<OwnedFd, Errno> {
    let handle = rustix::process::pidfd_open(identity.pid, PidfdFlags::empty())?;
    match Stat::read(identity.pid) {
        Some(stat) if stat.started == identity.started => Ok(handle),
        _ => Err(Errno::SRCH),
    }
}

/// Sends `signal` to exactly this process; one that has ended is no error.
pub(super) fn signal(identity: Identity, signal: Signal) -> Result<(), Errno> {
    match open(identity).and_then(|handle| rustix::process::pidfd_send_signal(handle, signal)) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        // A kernel without these handles: the number was checked a moment ago.
        Err(Errno::NOSYS) if lives(identity) => rustix::process::kill_process(identity.pid, signal),
        Err(Errno::NOSYS) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the process exists and is no zombie.
pub(super) fn lives(identity: Identity) -> bool {
    Stat::read(identity.pid).is_some_and(|stat| stat.live && stat.started == identity.started)
}

/// The identity of a child that was not reaped yet.
pub(super) fn identify(pid: Pid) -> Option<Identity> {
    Stat::read(pid).map(|stat| Identity { pid, started: stat.started })
}

/// Whose process `pid` is, and whether it is the runner.
fn recognise(install: InstallId, pid: Pid, group: i32) -> (Option<Incarnation>, bool) {
    let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let arguments = read("cmdline");
    if arguments.is_empty() {
        return (None, false); // a thread of the kernel, or gone
    }
    if let Some(incarnation) = from_arguments(install, &arguments) {
        // A child of the runner that has not called exec yet has the same arguments.
        return (Some(incarnation), group == pid.as_raw_nonzero().get());
    }
    (from_environment(install, &read("environ")), false)
}

/// The incarnation that NUL-separated arguments name, if they are a runner's of `install`. The
/// runner may be a script: then the interpreter comes first.
fn from_arguments(install: InstallId, cmdline: &[u8]) -> Option<Incarnation> {
    let arguments: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
    let named = |argument: &&[u8]| {
        Path::new(OsStr::from_bytes(argument)).file_name() == Some(OsStr::new(RUNNER_NAME))
    };
    let first = arguments.iter().take(2).position(named)? + 1;
    let value = |name: &str| {
        let at = arguments[first..].iter().position(|argument| *argument == name.as_bytes())?;
        str::from_utf8(arguments.get(first + at + 1)?).ok()
    };
    if value("--install")?.parse() != Ok(install) {
        return None;
    }
    Some(Incarnation {
        session: value("--session")?.parse().ok()?,
        runner: value("--runner")?.parse().ok()?,
    })
}

/// The incarnation that the marks in a NUL-separated environment name.
fn from_environment(install: InstallId, environ: &[u8]) -> Option<Incarnation> {
    let value = |name: &str| {
        environ.split(|byte| *byte == 0).find_map(|variable| {
            let value = variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            str::from_utf8(value).ok()
        })
    };
    if value(INSTALL_VARIABLE)?.parse() != Ok(install) {
        return None;
    }
    Some(Incarnation {
        session: value(SESSION_VARIABLE)?.parse().ok()?,
        runner: value(RUNNER_VARIABLE)?.parse().ok()?,
    })
}

/// The parts of `/proc/PID/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    live: bool,
    group: i32,
    started: u64,
}

impl Stat {
    /// `None` if the process is gone.
    fn read(pid: Pid) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Source: proc_pid_stat(5). The second field is the program's name in parentheses and may
    /// contain anything, so counting begins after the last one.
    fn parse(stat: &[u8]) -> Option<Self> {
        let name_end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = str::from_utf8(stat.get(name_end + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let state = *fields.first()?;
        let threads: u64 = fields.get(17)?.parse().ok()?;
        // A process whose first thread has ended looks like a zombie while others still run.
        let dead = matches!(state, "Z" | "X" | "x") && threads <= 1;
        Some(Self {
            live: !dead,
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use twobox_shared::ids::{RunnerId, SessionId, SystemIds};

    use super::*;

    fn joined(parts: &[&str]) -> Vec<u8> {
        parts.iter().flat_map(|part| part.bytes().chain([0])).collect()
    }

    #[test]
    fn a_runner_is_recognised_by_its_exact_arguments() {
        let install = InstallId::generate(&SystemIds);
        let session = SessionId::generate(&SystemIds);
        let runner = RunnerId::generate(&SystemIds);
        let [i, s, r] = [install.to_string(), session.to_string(), runner.to_string()];
        let other = InstallId::generate(&SystemIds).to_string();
        let is = |parts: &[&str]| from_arguments(install, &joined(parts)).is_some();
        let tail = ["--install", &i, "--session", &s, "--runner", &r, "--confine"];

        let with = |head: &[&'static str]| [head, &tail[..]].concat();
        assert_eq!(
            from_arguments(install, &joined(&with(&["/usr/bin/agent-runner"]))),
            Some(Incarnation { session, runner })
        );
        assert!(is(&with(&["/bin/bash", "/tmp/x/agent-runner"])), "a script");
        for (case, arguments) in [
            ("another program", with(&["/usr/bin/less"])),
            ("its name is an argument further on", with(&["less", "-r", "agent-runner"])),
            ("a longer name", with(&["/usr/bin/agent-runner-old"])),
            ("another install", vec!["agent-runner", "--install", &other, "--session", &s]),
            ("no runner id", vec!["agent-runner", "--install", &i, "--session", &s]),
            ("the value is missing", vec!["agent-runner", "--install"]),
            ("nothing", vec![]),
        ] {
            assert!(!is(&arguments), "{case}");
        }
        let joint = format!("--install={i}");
        assert!(
            !is(&["agent-runner", &joint, "--session", &s, "--runner", &r]),
            "another spelling"
        );
    }

    #[test]
    fn a_descendant_is_recognised_by_whole_variables_only() {
        let install = InstallId::generate(&SystemIds);
        let session = SessionId::generate(&SystemIds);
        let runner = RunnerId::generate(&SystemIds);
        let [i, s, r] = [
            format!("TWOBOX_INSTALL={install}"),
            format!("TWOBOX_SESSION={session}"),
            format!("TWOBOX_RUNNER={runner}"),
        ];
        assert_eq!(
            from_environment(install, &joined(&["PATH=/bin", &i, &s, &r])),
            Some(Incarnation { session, runner })
        );
        let prefixed = format!("OLD_{i}");
        for parts in [vec![i.as_str(), &s], vec![&prefixed, &s, &r], vec![]] {
            assert_eq!(from_environment(install, &joined(&parts)), None, "{parts:?}");
        }
    }

    #[test]
    fn the_fields_of_a_process_are_counted_after_its_name() {
        let stat = |name: &str, state: &str, threads: u64| {
            let middle = "0 ".repeat(11);
            Stat::parse(
                format!("7 ({name}) {state} 1 42 42 {middle}20 0 {threads} 0 99 0").as_bytes(),
            )
        };
        let living = Some(Stat { live: true, group: 42, started: 99 });
        assert_eq!(stat("bash", "S", 1), living);
        assert_eq!(stat("a) Z 1 (b", "S", 1), living, "a name that looks like fields");
        assert_eq!(stat("rust", "Z", 3), living, "only its first thread has ended");
        assert_eq!(stat("bash", "Z", 1), Some(Stat { live: false, group: 42, started: 99 }));
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn this_process_lives_and_its_number_alone_does_not_name_it() {
        let identity = identify(rustix::process::getpid()).unwrap();
        assert!(lives(identity));
        let other = Identity { started: identity.started + 1, ..identity };
        assert!(!lives(other));
        assert_eq!(open(other).unwrap_err(), Errno::SRCH);
    }
}
