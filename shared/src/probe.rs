//! What a runner sees of the place where it runs: the one line that `agent-runner --probe` prints.
//!
//! The host starts a runner with it exactly as it would start one for a session, and compares. The
//! line comes out of a container, and may come from a runner of another version: every field may be
//! absent, and fields that nobody knows are passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The form of a [`Report`].
pub const VERSION: u32 = 1;

/// What a runner saw. A field that is `None` is not known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// [`VERSION`]; what does not have it is no report.
    pub probe: u32,
    /// The version of the runner.
    pub runner: Option<String>,
    /// The effective user.
    pub uid: Option<u32>,
    /// The effective group.
    pub gid: Option<u32>,
    /// The supplementary groups.
    pub groups: Option<Vec<u32>>,
    /// The effective capabilities, a bit for each.
    pub cap_eff: Option<u64>,
    /// The capabilities that could ever be had again, a bit for each.
    pub cap_bnd: Option<u64>,
    /// Whether no program can give more rights than its caller has.
    pub no_new_privs: Option<bool>,
    /// How system calls are filtered: 0 not at all, 2 by a list.
    pub seccomp: Option<u32>,
    /// What could be done in a folder, by its path.
    pub folders: BTreeMap<String, Access>,
    /// The mounts, by the path on which they lie; of several the last, which hides the others.
    pub mounts: BTreeMap<String, Mount>,
    /// What a process may use up: `core`, `nofile`, `nproc`, `fsize`.
    pub limits: BTreeMap<String, Limit>,
    /// What all of them together may use up, where that can be read from inside.
    pub cgroup: Cgroup,
    /// Network interfaces other than `lo`.
    pub interfaces: Option<Vec<String>>,
    /// The process that made the report, as it sees itself.
    pub pid: Option<u32>,
    /// How many processes it sees, itself included.
    pub processes: Option<u32>,
    /// The name of process 1.
    pub init: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
    /// What is in `/dev`.
    pub devices: Option<Vec<String>>,
    /// Whether there is a terminal to read from and write to.
    pub terminal: Option<bool>,
    /// The names in the environment.
    pub environment: Option<Vec<String>>,
}

/// What could be done in a folder, by doing it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Access {
    /// It could be listed.
    pub read: bool,
    /// A file could be created in it and deleted again.
    pub write: bool,
    /// Why something of that could not be done: the last refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// The kind of file system.
    pub kind: String,
    /// The options of the mount and those of the file system, each once.
    pub options: Vec<String>,
    /// How many bytes fit in it, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What a process may use of one thing. `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limit {
    /// What holds.
    pub soft: Option<u64>,
    /// How far the process may raise it.
    pub hard: Option<u64>,
}

/// What a cgroup allows: of all that can be seen, the least.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cgroup {
    /// Bytes of memory.
    pub memory: SeenLimit,
    /// Processes and threads.
    pub pids: SeenLimit,
    /// Processors.
    pub cpus: SeenLimit,
}

/// One limit of a cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenLimit {
    /// It could not be read from where the runner is.
    #[default]
    Unknown,
    /// There is none.
    Unlimited,
    /// So much.
    Limited(f64),
}

impl Report {
    /// The report in what a runner printed: the last line that is one. What an image prints besides
    /// is passed over.
    pub fn find(printed: &str) -> Option<Self> {
        printed.lines().rev().find_map(|line| {
            // Without its brace a list of values would do as well.
            let line = Some(line.trim()).filter(|line| line.starts_with('{'))?;
            let report: Self = serde_json::from_str(line).ok()?;
            (report.probe >= VERSION).then_some(report)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_found_among_other_lines_whoever_wrote_it() {
        let printed = "starting\n{\"level\":\"info\"}\n\
                       {\"probe\":2,\"uid\":7,\"novel\":[1],\"cgroup\":{\"pids\":{\"limited\":9.0}}}\n\
                       7\n{}\n";
        let report = Report::find(printed).unwrap();
        assert_eq!((report.uid, report.gid, report.seccomp), (Some(7), None, None));
        assert_eq!(report.cgroup.pids, SeenLimit::Limited(9.0));
        assert_eq!(report.cgroup.memory, SeenLimit::Unknown);
        for other in ["", "{}", "null", "{\"probe\":0}", "{\"probe\":1,\"uid\":-1}", "[1]"] {
            assert_eq!(Report::find(other), None, "{other}");
        }
        let line = serde_json::to_string(&report).unwrap();
        assert_eq!(Report::find(&line), Some(report));
    }
}
