//! Who lives, read from `/proc`.
//!
//! A runner is found by its exact arguments, so that a host that was killed right after a start
//! finds it again; its descendants are found by their process group, by their parents and, if they
//! left those, by the marks in their environment. Zombies do not live. A process that vanishes while
//! it is being read is gone. Everything here blocks.
//!
//! Arguments and environments are what a process says about itself, and anybody can say anything.
//! So only the processes of the user that our runners have are asked, and they are ours only if they
//! name our own session's folder: a copy of this installation has the same ids. And whoever descends
//! from a runner belongs to it, whatever it says: an agent can name another session.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use twobox_shared::ids::{InstallId, SessionId};

use super::recognise::{Recognised, from_environment, names_runner, recognise};
use crate::Incarnation;
use twobox_system::proc;

/// What makes a process one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ours {
    /// The installation.
    pub(super) install: InstallId,
    /// Where its sessions have their folders, canonical.
    pub(super) sessions: PathBuf,
    /// The user that its runners are, and the host's own, which runners of earlier versions were.
    pub(super) users: [u32; 2],
}

impl Ours {
    /// Whether `folder` is that of a session of ours. It is compared as text: a path that a stranger
    /// names is not followed.
    pub(super) fn has(&self, folder: &Path, session: SessionId) -> bool {
        folder.file_name() == Some(OsStr::new(&session.to_string()))
            && folder.parent().and_then(Path::parent) == Some(&self.sessions)
    }
}

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
    parent: i32,
    group: i32,
    live: bool,
    /// Whose process it says it is, by its arguments or its environment.
    incarnation: Option<Incarnation>,
    /// It is the runner itself: it has the arguments and leads its group.
    runner: bool,
}

/// Every process of the machine at about one instant.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    processes: Vec<Process>,
    /// Processes that bear this installation's id and are not its own, by what is wrong with them.
    strangers: BTreeMap<String, Pid>,
}

impl Snapshot {
    /// Reads `/proc`. Only processes of `ours` are recognised as anybody's.
    pub(super) fn take(ours: &Ours) -> io::Result<Self> {
        let mut seen = Self::default();
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
                parent: stat.parent,
                group: stat.group,
                live: stat.live,
                incarnation: None,
                runner: false,
            };
            // Of a stranger nothing more is read: what it claims to be is nobody's business here,
            // and its memory, where the arguments are, may be made to answer slowly or never.
            if stat.live && owner(pid).is_some_and(|uid| ours.users.contains(&uid)) {
                match recognise(ours, pid, stat.group) {
                    Recognised::Nobody => {}
                    Recognised::Member(incarnation, runner) => {
                        (process.incarnation, process.runner) = (Some(incarnation), runner);
                    }
                    Recognised::Stranger(folder) => {
                        seen.strangers.insert(folder, pid);
                    }
                }
            }
            seen.processes.push(process);
        }
        seen.processes = by_descent(seen.processes);
        Ok(seen)
    }

    /// The folders outside of this installation for which processes with its id work, each with one
    /// such process. They are left alone.
    pub(super) fn strangers(&self) -> impl Iterator<Item = (&str, Pid)> {
        self.strangers.iter().map(|(folder, pid)| (folder.as_str(), *pid))
    }

    /// Every incarnation that has a live process, with its runner if that lives.
    pub(super) fn incarnations(&self) -> HashMap<Incarnation, Option<Identity>> {
        let mut found = HashMap::new();
        for process in self.processes.iter().filter(|process| process.live) {
            let Some(incarnation) = process.incarnation else { continue };
            let runner = found.entry(incarnation).or_insert(None);
            if process.runner {
                *runner = Some(process.identity);
            }
        }
        found
    }

    /// The live processes of `incarnation`: those that say so, the group that `runner` leads or led,
    /// and their descendants.
    fn members(&self, incarnation: Incarnation, runner: Option<Identity>) -> Vec<&Process> {
        // A number is not given out again while a group has it. So if another process has the
        // runner's number now, the runner's group is empty and this group is a stranger's.
        let group = runner.filter(|runner| {
            let other =
                |other: &Process| other.identity.pid != runner.pid || other.identity == *runner;
            self.processes.iter().all(other)
        });
        let group = group.map(|runner| runner.pid.as_raw_nonzero().get());
        let number = |process: &Process| process.identity.pid.as_raw_nonzero().get();
        let mut found: HashSet<i32> = self
            .processes
            .iter()
            .filter(|it| it.incarnation == Some(incarnation) || Some(it.group) == group)
            .map(number)
            .collect();
        // Dead ones count as parents: they keep their children until somebody else takes these in.
        loop {
            let before = found.len();
            let children = self.processes.iter().filter(|it| found.contains(&it.parent));
            let children: Vec<i32> = children.map(number).collect();
            found.extend(children);
            if found.len() == before {
                break;
            }
        }
        self.processes.iter().filter(|it| it.live && found.contains(&number(it))).collect()
    }

    /// As [`Snapshot::kill`], but for the runner itself: whoever loses a parent comes back to it, and
    /// is found there by the next look.
    pub(super) fn kill_others(&self, incarnation: Incarnation, runner: Identity) -> usize {
        let mut others = self.members(incarnation, Some(runner));
        others.retain(|process| process.identity != runner);
        for process in &others {
            // The next snapshot shows whether it helped.
            signal(process.identity, Signal::KILL).ok();
        }
        others.len()
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

/// Has everybody who descends from a runner belong to it, and to nobody else.
fn by_descent(processes: Vec<Process>) -> Vec<Process> {
    let number = |process: &Process| process.identity.pid.as_raw_nonzero().get();
    let at: HashMap<i32, &Process> = processes.iter().map(|it| (number(it), it)).collect();
    // The topmost is the real one: what is below it may have made up its arguments. The walk is
    // bounded, for what was read one after the other may have a circle in it.
    let above = |process: &Process| {
        let step = |below: &&Process| at.get(&below.parent).copied();
        let line = std::iter::successors(at.get(&process.parent).copied(), step);
        line.take(at.len()).filter(|it| it.runner).last()
    };
    let settled = |process: &Process| match above(process) {
        Some(runner) => Process { incarnation: runner.incarnation, runner: false, ..*process },
        None => process.clone(),
    };
    processes.iter().map(settled).collect()
}

/// How far up the parents of a process are looked at.
const GENERATIONS_MAX: usize = 1000;

/// Whether process `pid` was started by a runner, of whatever installation, or by anybody whom that
/// has started. Runners above this process itself do not count: then a whole installation works inside
/// of another.
///
/// # Errors
/// It has ended, and nobody can tell any more.
pub(super) fn of_a_runner(ours: &Ours, pid: Pid) -> io::Result<bool> {
    if from_environment(ours.install, &proc::read(pid, "environ").unwrap_or_default()).is_some() {
        return Ok(true);
    }
    let parent = |pid: &Pid| Pid::from_raw(Stat::read(*pid)?.parent);
    let own = Some(rustix::process::getpid());
    let above: Vec<Pid> = std::iter::successors(own, parent).take(GENERATIONS_MAX).collect();
    let mut at = pid;
    for _ in 0..GENERATIONS_MAX {
        if above.contains(&at) {
            return Ok(false);
        }
        if names_runner(&proc::read(at, "cmdline")?) {
            return Ok(true);
        }
        let stat = Stat::read(at).filter(|stat| stat.live);
        let Some(stat) = stat else { return Err(io::ErrorKind::NotFound.into()) };
        match Pid::from_raw(stat.parent) {
            Some(parent) => at = parent,
            None => return Ok(false),
        }
    }
    Ok(true) // whoever hides behind so many has a reason
}

/// The user that a process is, if it is one and the same in every respect: a program that runs with
/// somebody else's rights was started by whoever its real user is. `None` too for a process in a
/// container, which is another's, and for one that is gone.
fn owner(pid: Pid) -> Option<u32> {
    owner_in(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// Source: proc_pid_status(5). `Uid:` has the real, effective, saved and file system user, and
/// `NSpid:` one number for each process namespace that the process is in, from ours inwards.
fn owner_in(status: &str) -> Option<u32> {
    let fields = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().map(|field| field.parse().ok()).collect::<Option<Vec<u32>>>()
    };
    let uids = fields("Uid:")?;
    let inside = fields("NSpid:").is_some_and(|pids| pids.len() > 1);
    let same = uids.iter().all(|uid| *uid == uids[0]);
    (!inside && same).then(|| uids.first().copied()).flatten()
}

/// The parts of `/proc/PID/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    live: bool,
    parent: i32,
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
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use twobox_shared::ids::{RunnerId, SessionId, SystemIds};

    use super::*;
    use crate::process::recognise::{from_arguments, judge};

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
        let ours = ["--install", &i, "--session", &s, "--runner", &r];
        let tail = [&ours[..], &["--in", "/d/s/in", "--out", "/d/s/out", "--confine"]].concat();

        let with = |head: &[&'static str]| [head, &tail[..]].concat();
        assert_eq!(
            from_arguments(install, &joined(&with(&["/usr/bin/agent-runner"]))),
            Some((Incarnation { session, runner }, "/d/s".into()))
        );
        let apart = [&["agent-runner"], &ours[..], &["--in", "/d/s/in", "--out", "/e/s/out"]];
        let (_, folder) = from_arguments(install, &joined(&apart.concat())).unwrap();
        assert_eq!(folder, Path::new(""), "two folders are none");
        assert!(is(&with(&["/bin/bash", "/tmp/x/agent-runner"])), "a script");
        assert!(is(&with(&["/opt/twobox-runner-2"])), "any name");
        assert!(names_runner(&joined(&with(&["/opt/twobox-runner-2"]))));
        for (case, arguments) in [
            ("they come further on", with(&["less", "-r", "agent-runner"])),
            ("they are a program's own", tail.clone()),
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
            from_environment(install, &joined(&["PATH=/bin", &i, &s, &r, "TWOBOX_FOLDER=/d/s"])),
            Some((Incarnation { session, runner }, "/d/s".into()))
        );
        let prefixed = format!("OLD_{i}");
        for parts in [vec![i.as_str(), &s], vec![&prefixed, &s, &r], vec![]] {
            assert_eq!(from_environment(install, &joined(&parts)), None, "{parts:?}");
        }
    }

    #[test]
    fn only_a_folder_of_a_session_of_ours_is_ours() {
        let session = SessionId::generate(&SystemIds);
        let runner = RunnerId::generate(&SystemIds);
        let install = InstallId::generate(&SystemIds);
        let ours = Ours { install, sessions: "/data/sessions".into(), users: [1000, 1000] };
        let incarnation = Incarnation { session, runner };
        let of = |folder: &str| judge(&ours, (incarnation, folder.into()), true);
        let good = format!("/data/sessions/g/{session}");
        assert_eq!(of(&good), Recognised::Member(incarnation, true));
        for (case, folder) in [
            ("a copy", format!("/copy/sessions/g/{session}")),
            ("another session's", format!("/data/sessions/g/{}", SessionId::generate(&SystemIds))),
            ("deeper", format!("/data/sessions/g/h/{session}")),
            ("higher", format!("/data/sessions/{session}")),
            ("another spelling", format!("/data/sessions/../sessions/g/{session}")),
            ("none", String::new()),
        ] {
            assert_eq!(of(&folder), Recognised::Stranger(folder.clone()), "{case}");
        }
    }

    #[test]
    fn an_owner_is_one_user_in_every_respect() {
        let with = |uids: &str, pids: &str| {
            owner_in(&format!("Name:\tx\nUid:\t{uids}\nGid:\t0\t0\t0\t0\nNSpid:\t{pids}\n"))
        };
        assert_eq!(with("1000\t1000\t1000\t1000", "7"), Some(1000));
        assert_eq!(with("1000\t0\t0\t0", "7"), None, "a program with root's rights");
        assert_eq!(with("0\t0\t1000\t0", "7"), None, "it can become another again");
        assert_eq!(with("1000\t1000\t1000\t1000", "7\t1"), None, "in a container");
        assert_eq!(owner_in("Name:\tx\n"), None);
    }

    #[test]
    fn whoever_descends_from_a_runner_belongs_to_it_whatever_it_says() {
        let incarnation = || Incarnation {
            session: SessionId::generate(&SystemIds),
            runner: RunnerId::generate(&SystemIds),
        };
        let (one, other) = (incarnation(), incarnation());
        let process = |pid: i32, parent: i32, incarnation, runner| Process {
            identity: Identity { pid: Pid::from_raw(pid).unwrap(), started: 1 },
            parent,
            group: pid,
            live: true,
            incarnation,
            runner,
        };
        let settled = by_descent(vec![
            process(2, 1, None, false),
            process(10, 2, Some(one), true),
            process(11, 10, None, false),
            process(12, 11, Some(other), true),
            process(13, 12, Some(other), false),
            process(20, 2, Some(other), true),
            process(21, 1, Some(other), false),
            process(30, 31, None, false),
            process(31, 30, None, false),
        ]);
        let whose: Vec<_> = settled.iter().map(|it| (it.incarnation, it.runner)).collect();
        assert_eq!(
            whose,
            [
                (None, false),
                (Some(one), true),
                (Some(one), false),
                (Some(one), false),
                (Some(one), false),
                (Some(other), true),
                (Some(other), false),
                (None, false),
                (None, false),
            ]
        );
    }

    #[test]
    fn the_fields_of_a_process_are_counted_after_its_name() {
        let stat = |name: &str, state: &str, threads: u64| {
            let middle = "0 ".repeat(11);
            Stat::parse(
                format!("7 ({name}) {state} 1 42 42 {middle}20 0 {threads} 0 99 0").as_bytes(),
            )
        };
        let living = Some(Stat { live: true, parent: 1, group: 42, started: 99 });
        assert_eq!(stat("bash", "S", 1), living);
        assert_eq!(stat("a) Z 1 (b", "S", 1), living, "a name that looks like fields");
        assert_eq!(stat("rust", "Z", 3), living, "only its first thread has ended");
        assert_eq!(
            stat("bash", "Z", 1),
            Some(Stat { live: false, parent: 1, group: 42, started: 99 })
        );
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
