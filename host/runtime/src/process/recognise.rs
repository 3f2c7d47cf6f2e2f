//! Whose a process is, by its arguments and its environment.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use twobox_shared::ids::InstallId;
use twobox_system::proc;

use super::scan::Ours;
use crate::Incarnation;
use crate::command::{FOLDER_VARIABLE, INSTALL_VARIABLE, RUNNER_VARIABLE, SESSION_VARIABLE};

/// What a runner's arguments begin with, whatever its file is called.
const FIRST_ARGUMENT: &[u8] = b"--install";

/// Whether NUL-separated arguments are a runner's.
pub(super) fn names_runner(cmdline: &[u8]) -> bool {
    let arguments: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
    after_program(&arguments).is_some_and(|own| own.contains(&&b"--runner"[..]))
}

/// The arguments after the program's name, if they begin as a runner's do. It may be a script: then the
/// interpreter comes first.
fn after_program<'a, 'b>(arguments: &'a [&'b [u8]]) -> Option<&'a [&'b [u8]]> {
    (1..=2).find(|at| arguments.get(*at) == Some(&FIRST_ARGUMENT)).map(|at| &arguments[at..])
}

/// Whose a process of our runners' user is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recognised {
    /// It has nothing to do with this installation.
    Nobody,
    /// It belongs to this incarnation, and is the runner itself or not.
    Member(Incarnation, bool),
    /// It bears the installation's id, and works for a folder that is not ours.
    Stranger(String),
}

pub(super) fn recognise(ours: &Ours, pid: Pid, group: i32) -> Recognised {
    let read = |what: &str| proc::read(pid, what).unwrap_or_default();
    let arguments = read("cmdline");
    if arguments.is_empty() {
        return Recognised::Nobody; // a thread of the kernel, or gone
    }
    let (named, leads) = match from_arguments(ours.install, &arguments) {
        // A child of the runner that has not called exec yet has the same arguments.
        Some(named) => (named, group == pid.as_raw_nonzero().get()),
        None => match from_environment(ours.install, &read("environ")) {
            Some(named) => (named, false),
            None => return Recognised::Nobody,
        },
    };
    judge(ours, named, leads)
}

/// What to make of a process that names `named`.
pub(super) fn judge(ours: &Ours, (incarnation, folder): Named, leads: bool) -> Recognised {
    match ours.has(&folder, incarnation.session) {
        true => Recognised::Member(incarnation, leads),
        false => Recognised::Stranger(folder.to_string_lossy().into_owned()),
    }
}

/// An incarnation, and the folder of its session.
pub(super) type Named = (Incarnation, PathBuf);

/// What NUL-separated arguments name, if they are a runner's of `install`.
pub(super) fn from_arguments(install: InstallId, cmdline: &[u8]) -> Option<Named> {
    let arguments: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
    let own = after_program(&arguments)?;
    let bytes = |name: &str| {
        let at = own.iter().position(|argument| *argument == name.as_bytes())?;
        own.get(at + 1).copied()
    };
    let value = |name: &str| str::from_utf8(bytes(name)?).ok();
    if value("--install")?.parse() != Ok(install) {
        return None;
    }
    let incarnation = Incarnation {
        session: value("--session")?.parse().ok()?,
        runner: value("--runner")?.parse().ok()?,
    };
    let half = |name: &str, half: &str| {
        let path = Path::new(OsStr::from_bytes(bytes(name)?));
        (path.file_name() == Some(OsStr::new(half))).then(|| path.parent()).flatten()
    };
    let folder = half("--in", "in").filter(|folder| half("--out", "out") == Some(folder));
    Some((incarnation, folder.unwrap_or(Path::new("")).to_owned()))
}

/// What the marks in a NUL-separated environment name, if they are those of `install`.
pub(super) fn from_environment(install: InstallId, environ: &[u8]) -> Option<Named> {
    let bytes = |name: &str| {
        environ
            .split(|byte| *byte == 0)
            .find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    };
    let value = |name: &str| str::from_utf8(bytes(name)?).ok();
    if value(INSTALL_VARIABLE)?.parse() != Ok(install) {
        return None;
    }
    let incarnation = Incarnation {
        session: value(SESSION_VARIABLE)?.parse().ok()?,
        runner: value(RUNNER_VARIABLE)?.parse().ok()?,
    };
    let folder = bytes(FOLDER_VARIABLE).unwrap_or_default();
    Some((incarnation, OsStr::from_bytes(folder).into()))
}
