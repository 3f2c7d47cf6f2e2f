//! Whether a runtime gives what it was asked for. That is known only by starting a runner as one is
//! started for a session, and by comparing what it sees with the request: an engine may drop a limit
//! without a word, and may promise a start that it then refuses.
//!
//! [`Room`] is the folder of such a start, [`differences`] the comparison, which is pure.

mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use serde::Serialize;
use twobox_shared::probe::{Limit, Report, SeenLimit};

pub use room::Room;

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Probed {
    /// What was seen, in one line for people.
    pub line: String,
    /// Where that is not what was asked for.
    pub differences: Vec<Difference>,
    /// All that was seen.
    #[serde(skip)]
    pub report: Report,
}

impl Probed {
    /// The comparison of `report` with what was asked for.
    pub fn new(line: String, expected: &Expected, report: Report) -> Self {
        Self { line, differences: differences(expected, &report), report }
    }

    /// Adds something that only the runtime itself could see.
    pub fn warn(&mut self, what: String, help: String) {
        self.differences.push(Difference { weight: Weight::Warning, what, help });
    }

    /// Whether no agent could work like this, or one could do what none may.
    pub fn is_fatal(&self) -> bool {
        self.differences.iter().any(|difference| difference.weight == Weight::Fatal)
    }
}

/// Something that is not as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// How bad that is.
    pub weight: Weight,
    /// What is the case.
    pub what: String,
    /// What to do.
    pub help: String,
}

/// How bad a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// A limit or a precaution is missing.
    Warning,
    /// No agent could work, or one could reach what it must not.
    Fatal,
}

/// What a runtime was asked for. What is `None`, `false` or empty was not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expected {
    /// The user and the group inside.
    pub user: Option<(u32, u32)>,
    /// Folders that can be read and written.
    pub writable: BTreeSet<String>,
    /// Folders that can be read and not written.
    pub read_only: BTreeSet<String>,
    /// Folders that cannot be written, and need not be readable or there.
    pub closed: BTreeSet<String>,
    /// File systems in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// The most that a process may use, by the names of [`Report::limits`].
    pub limits: BTreeMap<String, Limit>,
    /// Bytes of memory for all processes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Processors.
    pub cpus: Option<f64>,
    /// No interface but the loopback.
    pub no_network: bool,
    /// No capabilities, and no way to any.
    pub no_capabilities: bool,
    /// No program gives more rights than its caller has.
    pub no_new_privs: bool,
    /// System calls are filtered by a list.
    pub seccomp: bool,
    /// No processes but those of the session.
    pub own_processes: bool,
    /// No terminal.
    pub no_terminal: bool,
}

/// A file system in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where.
    pub place: String,
    /// How much fits in it.
    pub bytes: u64,
    /// The flags that it has to have: `noexec`, `nosuid`, `nodev`.
    pub flags: Vec<String>,
}

/// How many processes a runner sees that sees only those of its session: itself and what the runtime
/// puts around it.
const OWN_PROCESSES: u32 = 8;

/// Where `report` is not what was asked for: the worst first.
pub fn differences(expected: &Expected, report: &Report) -> Vec<Difference> {
    let mut found = Found::default();
    found.rights(expected, report);
    found.folders(expected, report);
    found.tmpfs(expected, report);
    found.bounds(expected, report);
    let mut differences = found.0;
    differences.sort_by_key(|difference| std::cmp::Reverse(difference.weight == Weight::Fatal));
    differences
}

#[derive(Default)]
struct Found(Vec<Difference>);

impl Found {
    fn fatal(&mut self, what: impl Into<String>, help: impl Into<String>) {
        self.0.push(Difference { weight: Weight::Fatal, what: what.into(), help: help.into() });
    }

    fn warning(&mut self, what: impl Into<String>, help: impl Into<String>) {
        self.0.push(Difference { weight: Weight::Warning, what: what.into(), help: help.into() });
    }

    /// A precaution that is missing if `holds` is false, and cannot be relied on if it is unknown.
    fn precaution(&mut self, asked: bool, holds: Option<bool>, missing: &str, help: &str) {
        match holds {
            _ if !asked => {}
            Some(true) => {}
            Some(false) => self.fatal(missing, help),
            None => self.warning(format!("it is not known whether {missing}"), UNSEEN),
        }
    }

    fn rights(&mut self, expected: &Expected, report: &Report) {
        let user = report.uid.zip(report.gid);
        if let (Some(asked), Some(seen)) = (expected.user, user)
            && asked != seen
        {
            let ((uid, gid), (seen_uid, seen_gid)) = (asked, seen);
            let what = format!("runs as {seen_uid}:{seen_gid} and not as {uid}:{gid}");
            match seen_uid {
                0 => self.fatal(format!("an agent {what}, so it is root inside"), USER_HELP),
                _ => self.warning(format!("an agent {what}"), USER_HELP),
            }
        }
        let groups = report.groups.as_deref().unwrap_or_default();
        if groups.contains(&0) && expected.user.is_some_and(|(uid, gid)| uid != 0 && gid != 0) {
            self.warning("an agent is in the group of root", "take it out of the image's group 0");
        }
        let capabilities = report.cap_eff.zip(report.cap_bnd);
        self.precaution(
            expected.no_capabilities,
            capabilities.map(|sets| sets == (0, 0)),
            "an agent keeps capabilities, which are parts of root's rights",
            "use a runtime that drops them: this one does not isolate",
        );
        self.precaution(
            expected.no_new_privs,
            report.no_new_privs,
            "an agent gains rights by running setuid programs",
            "use a runtime that sets no-new-privileges: this one does not isolate",
        );
        if expected.seccomp && report.seccomp != Some(2) {
            self.warning(
                "the system calls of an agent are not filtered: the runtime has no seccomp",
                "give the engine a kernel with seccomp, and take `seccomp=unconfined` out of its \
                 configuration",
            );
        }
        let interfaces = report.interfaces.as_deref();
        let named: Vec<_> = interfaces.unwrap_or_default().iter().map(|it| shown(it)).collect();
        self.precaution(
            expected.no_network,
            interfaces.map(<[String]>::is_empty),
            &format!("an agent has a network, though it was to have none: {}", named.join(", ")),
            "use a runtime that gives it a network namespace of its own: this one does not isolate",
        );
        self.precaution(
            expected.own_processes,
            report.processes.map(|seen| seen <= OWN_PROCESSES),
            "an agent sees the processes of the machine",
            "use a runtime that gives it a process namespace of its own: this one does not isolate",
        );
        self.precaution(
            expected.no_terminal,
            report.terminal.map(|has| !has),
            "an agent can read and write the terminal of the host",
            "start the host without a terminal, as a service",
        );
    }

    fn folders(&mut self, expected: &Expected, report: &Report) {
        for folder in expected.writable.union(&expected.read_only) {
            let access = report.folders.get(folder).cloned().unwrap_or_default();
            let refusal = access
                .refusal
                .as_deref()
                .map_or_else(String::new, |refusal| format!(" ({})", shown(refusal)));
            let (uid, gid) = (report.uid.unwrap_or_default(), report.gid.unwrap_or_default());
            if !access.read {
                self.fatal(format!("user {uid}:{gid} cannot read {folder}{refusal}"), FOLDER_HELP);
            } else if expected.writable.contains(folder) && !access.write {
                self.fatal(format!("user {uid}:{gid} cannot write {folder}{refusal}"), FOLDER_HELP);
            }
        }
        for folder in expected.read_only.union(&expected.closed) {
            if report.folders.get(folder).is_some_and(|access| access.write) {
                self.fatal(
                    format!("an agent can write {folder}, which was to be read-only"),
                    "use a runtime that mounts it read-only: this one does not isolate",
                );
            }
        }
    }

    fn tmpfs(&mut self, expected: &Expected, report: &Report) {
        for Tmpfs { place, bytes, flags } in &expected.tmpfs {
            let Some(mount) = report.mounts.get(place) else {
                if report.folders.get(place).is_some_and(|access| access.write) {
                    self.warning(
                        format!("{place} can be written and is not in memory"),
                        TMPFS_HELP,
                    );
                }
                continue;
            };
            if mount.bytes.is_some_and(|seen| seen > *bytes) {
                let seen = mebibytes(mount.bytes.unwrap_or_default());
                let what = format!("{place} holds {seen} and not {}", mebibytes(*bytes));
                self.warning(what, TMPFS_HELP);
            }
            let missing: Vec<_> = flags
                .iter()
                .filter(|flag| !mount.options.contains(flag))
                .map(String::as_str)
                .collect();
            if !missing.is_empty() {
                self.warning(format!("{place} is without {}", missing.join(", ")), TMPFS_HELP);
            }
        }
    }

    fn bounds(&mut self, expected: &Expected, report: &Report) {
        for (name, asked) in &expected.limits {
            let Some(seen) = report.limits.get(name) else { continue };
            let within = |seen: Option<u64>, asked: Option<u64>| match (seen, asked) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(seen), Some(asked)) => seen <= asked,
            };
            if !within(seen.soft, asked.soft) || !within(seen.hard, asked.hard) {
                let text =
                    |limit: Option<u64>| limit.map_or("no limit".to_owned(), |it| it.to_string());
                self.warning(
                    format!(
                        "the limit `{name}` of a process is {} and not {}",
                        text(seen.hard),
                        text(asked.hard)
                    ),
                    "lower it in the engine's configuration (default-ulimits)",
                );
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "compared with what the kernel rounds too")]
        let number = |asked: Option<u64>| asked.map(|asked| asked as f64);
        let (cgroup, memory) = (&report.cgroup, number(expected.memory));
        self.bound("memory", memory, cgroup.memory, |bytes| format!("{:.0} MiB", bytes / MIB));
        self.bound("processes", number(expected.pids), cgroup.pids, |n| format!("{n:.0}"));
        self.bound("processors", expected.cpus, cgroup.cpus, |n| format!("{n:.2}"));
    }

    fn bound<T: Display>(
        &mut self,
        name: &str,
        asked: Option<f64>,
        seen: SeenLimit,
        text: impl Fn(f64) -> T,
    ) {
        let Some(asked) = asked else { return };
        let seen = match seen {
            SeenLimit::Limited(seen) if seen <= asked * ROUNDED => return,
            SeenLimit::Limited(seen) => text(seen).to_string(),
            SeenLimit::Unlimited => "any amount".to_owned(),
            SeenLimit::Unknown => {
                let what = format!(
                    "it is not known whether an agent gets {} of {name} at most",
                    text(asked)
                );
                return self.warning(what, UNSEEN);
            }
        };
        self.warning(
            format!("an agent may use {seen} of {name}; {} were asked for", text(asked)),
            "the runtime has dropped this limit, as rootless ones do without delegated cgroups (v2): \
             delegate them, or run the engine as root",
        );
    }
}

/// The kernel rounds a limit to pages or periods.
const ROUNDED: f64 = 1.01;
const MIB: f64 = 1024.0 * 1024.0;
const UNSEEN: &str = "use an image with the agent-runner of this version";
const USER_HELP: &str = "leave containers.user empty, or ask the engine's operator what it maps";
const FOLDER_HELP: &str = "every runner would end at once: leave containers.user empty, and put the \
                           data directory on a local file system that the engine sees too";
const TMPFS_HELP: &str = "the engine has changed this mount: update it, or mend its configuration";

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1024 * 1024))
}

/// Words from inside, fit for people: nothing in them is a control character, and nothing is long.
fn shown(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

/// Why a runner printed no report.
pub(super) fn no_report(printed: &str, code: Option<i64>) -> String {
    if printed.contains("unknown option --probe") {
        return "its agent-runner is older than this host and cannot say what it sees: build it anew"
            .to_owned();
    }
    let last = printed.lines().rev().find(|line| !line.trim().is_empty());
    let said = last.map_or_else(
        || "and said nothing".to_owned(),
        |line| format!("and said {:?}", shown(line)),
    );
    match code {
        Some(code) => {
            format!("a runner that was started to look around left with code {code} {said}")
        }
        None => format!("a runner that was started to look around was ended {said}"),
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
