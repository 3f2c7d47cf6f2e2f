//! Which sandboxes of this installation live, for a host that did not start them.
//!
//! The files in the sessions' folders name the inner processes; they are the host's own, and no
//! agent can change what they say or what is compared: process number, process namespace, and the
//! folder that is seen as `/workspace/in`, which tells a sandbox of this installation from one of its
//! copy. A start that was interrupted before bwrap wrote anything is found by the arguments of bwrap,
//! in which nobody else has had a hand yet. Everything here blocks.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use twobox_shared::ids::{InstallId, RunnerId, SessionId};

use super::handle::{self, Facts, Handle};
use super::line::NAME;
use super::status::{self, Status};
use super::watch::Processes;
use crate::Incarnation;
use crate::command::{INSTALL_VARIABLE, RUNNER_VARIABLE, SESSION_VARIABLE};

/// What makes a sandbox one of ours.
#[derive(Debug, Clone)]
pub(super) struct Ours {
    pub(super) install: InstallId,
    /// Where the sessions have their folders, canonical.
    pub(super) sessions: PathBuf,
    /// The users that its inner process may be.
    pub(super) users: Vec<u32>,
}

/// A sandbox that was started by somebody else, or what is left of it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) folder: PathBuf,
    /// Living processes; `None` if it has ended.
    pub(super) processes: Option<Processes>,
    pub(super) exit_code: Option<i64>,
}

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) found: HashMap<Incarnation, Found>,
    /// Outer processes. One without an inner process has not begun anything inside yet.
    pub(super) outer: Vec<(Incarnation, Handle)>,
    /// Folders outside of this installation for which sandboxes with its id run.
    pub(super) strangers: Vec<PathBuf>,
}

impl Ours {
    /// Whether `folder` is that of a session of ours. It is compared as text.
    fn has(&self, folder: &Path, session: SessionId) -> bool {
        folder.file_name() == Some(OsStr::new(&session.to_string()))
            && folder.parent().and_then(Path::parent) == Some(&self.sessions)
    }

    /// Reads the files of all sessions, for a host that has just begun, and then the processes.
    pub(super) fn look_everywhere(&self) -> Look {
        let mut look = self.look_at_processes();
        let boot = status::boot_id().ok();
        for (session, folder) in self.folders() {
            let Ok(Some(status)) = status::read(&folder) else { continue };
            let Some(runner) = status.runner else { continue };
            let processes = match status.boot == boot {
                true => self.living(&folder, &status),
                false => None,
            };
            let exit_code = status.exit_code;
            look.found
                .insert(Incarnation { session, runner }, Found { folder, processes, exit_code });
        }
        look
    }

    /// Reads the processes only.
    pub(super) fn look_at_processes(&self) -> Look {
        let mut look = Look::default();
        for pid in handle::processes() {
            // Of a stranger nothing more is read.
            let Some(facts) = Facts::read(pid) else { continue };
            if !facts.uid.is_some_and(|uid| self.users.contains(&uid)) {
                continue;
            }
            let Some(claim) = Claim::of(&handle::arguments(pid)) else { continue };
            if claim.install != self.install {
                continue;
            }
            if !self.has(&claim.folder, claim.incarnation.session) {
                look.strangers.push(claim.folder);
                continue;
            }
            let Ok(handle) = Handle::open(pid) else { continue };
            match facts.inside {
                Some(1) => {
                    let outer = outer_of(&facts, claim.incarnation);
                    let processes = Some(Processes { inner: handle, outer });
                    let found = Found { folder: claim.folder, processes, exit_code: None };
                    look.found.insert(claim.incarnation, found);
                }
                Some(_) => {} // about to become the command
                None => look.outer.push((claim.incarnation, handle)),
            }
        }
        look
    }

    fn folders(&self) -> impl Iterator<Item = (SessionId, PathBuf)> {
        let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
        entries(&self.sessions).flat_map(move |group| entries(&group.path())).filter_map(|entry| {
            let session = entry.file_name().to_str()?.parse().ok()?;
            Some((session, entry.path()))
        })
    }

    /// The processes that `status` names, if they live and see `folder`.
    pub(super) fn living(&self, folder: &Path, status: &Status) -> Option<Processes> {
        // The handle first: what is read after it is about the process that it holds, or the process
        // has ended, which is asked last.
        let inner = Handle::open(status.inner?).ok()?;
        let facts = Facts::read(inner.pid)?;
        let namespace = handle::process_namespace(inner.pid);
        let incarnation = Incarnation {
            session: folder.file_name()?.to_str()?.parse().ok()?,
            runner: status.runner?,
        };
        let ours = facts.inside == Some(1)
            && facts.uid.is_some_and(|uid| self.users.contains(&uid))
            && (namespace.is_none() || status.namespace.is_none() || namespace == status.namespace)
            && sees(inner.pid, folder)
            && !inner.has_ended();
        let outer = outer_of(&facts, incarnation);
        ours.then_some(Processes { inner, outer })
    }
}

/// Whether the process sees the inbox half of `folder` as its own. One that is still being set up
/// sees nothing yet and is believed.
fn sees(inner: Pid, folder: &Path) -> bool {
    let seen = fs::metadata(format!("/proc/{inner}/root/workspace/in"));
    let (Ok(seen), Ok(here)) = (seen, fs::metadata(folder.join("in"))) else { return true };
    (seen.dev(), seen.ino()) == (here.dev(), here.ino())
}

/// The outer process: the parent, if that is bwrap and not whoever took the inner one in.
fn outer_of(inner: &Facts, incarnation: Incarnation) -> Option<Handle> {
    let outer = Handle::open(Pid::from_raw(inner.parent)?).ok()?;
    let claim = Claim::of(&handle::arguments(outer.pid))?;
    (claim.incarnation == incarnation).then_some(outer)
}

/// Whose sandbox a bwrap says it is, by its arguments.
#[derive(Debug, PartialEq, Eq)]
struct Claim {
    install: InstallId,
    incarnation: Incarnation,
    folder: PathBuf,
}

impl Claim {
    fn of(arguments: &[Vec<u8>]) -> Option<Self> {
        let folder = arguments.first()?.strip_prefix(NAME.as_bytes())?;
        let value = |name: &str| {
            let set = |three: &[Vec<u8>]| three[0] == b"--setenv" && three[1] == name.as_bytes();
            let three = arguments.windows(3).find(|three| set(three))?;
            str::from_utf8(&three[2]).ok()
        };
        Some(Self {
            install: value(INSTALL_VARIABLE)?.parse().ok()?,
            incarnation: Incarnation {
                session: value(SESSION_VARIABLE)?.parse().ok()?,
                runner: value(RUNNER_VARIABLE)?.parse::<RunnerId>().ok()?,
            },
            folder: OsStr::from_bytes(folder).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use twobox_shared::ids::SystemIds;

    use super::*;

    #[test]
    fn a_sandbox_says_whose_it_is_by_its_name_and_three_variables() {
        let install = InstallId::generate(&SystemIds);
        let incarnation = Incarnation {
            session: SessionId::generate(&SystemIds),
            runner: RunnerId::generate(&SystemIds),
        };
        let [i, s, r] =
            [install.to_string(), incarnation.session.to_string(), incarnation.runner.to_string()];
        let of = |parts: &[&str]| {
            Claim::of(&parts.iter().map(|part| part.as_bytes().to_vec()).collect::<Vec<_>>())
        };
        let name = format!("{NAME}/d/sessions/g/{s}");
        let marks = [
            ["--setenv", "TWOBOX_INSTALL", &i],
            ["--setenv", "TWOBOX_SESSION", &s],
            ["--setenv", "TWOBOX_RUNNER", &r],
        ]
        .concat();
        let folder = PathBuf::from(format!("/d/sessions/g/{s}"));
        let line = [&[name.as_str(), "--unshare-user"], &marks[..], &["--", "/agent-runner"]];
        assert_eq!(of(&line.concat()), Some(Claim { install, incarnation, folder }));
        for (case, line) in [
            ("another program", [&["bwrap"], &marks[..]].concat()),
            ("no runner", [&[name.as_str()], &marks[..6]].concat()),
            ("cut short", [&[name.as_str()], &marks[..8]].concat()),
            ("nothing", vec![]),
        ] {
            assert_eq!(of(&line), None, "{case}");
        }
    }

    #[test]
    fn only_a_folder_of_a_session_of_ours_is_ours() {
        let session = SessionId::generate(&SystemIds);
        let install = InstallId::generate(&SystemIds);
        let ours = Ours { install, sessions: "/data/sessions".into(), users: vec![7] };
        assert!(ours.has(Path::new(&format!("/data/sessions/g/{session}")), session));
        for (case, folder) in [
            ("a copy", format!("/copy/sessions/g/{session}")),
            ("another session's", format!("/data/sessions/g/{}", SessionId::generate(&SystemIds))),
            ("deeper", format!("/data/sessions/g/h/{session}")),
            ("another spelling", format!("/data/sessions/../sessions/g/{session}")),
        ] {
            assert!(!ours.has(Path::new(&folder), session), "{case}");
        }
    }
}
