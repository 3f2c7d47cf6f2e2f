//! Starting a runner as a child that outlives the host: its own session, a short environment, no way
//! to more rights, limits on what it may use up, and another user where the host is root.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nix::sys::resource::setrlimit;
use nix::sys::stat::{Mode, umask};
use twobox_shared::outside;
use twobox_shared::paths::SessionPaths;

use super::nobody::{Kept, Nobody};
use super::scan::Ours;
use crate::child::limits;
use crate::docker::folder::{self, User};
use crate::mounts::{Seen, mounts};
use crate::{StartSpec, command, log};

/// What is the same for all runners of an installation.
#[derive(Debug, Clone)]
pub(super) struct Way {
    /// Whose they are.
    pub(super) ours: Arc<Ours>,
    /// The user that they are.
    pub(super) user: User,
    /// The runner's binary.
    pub(super) program: PathBuf,
}

/// Starts a runner for `spec`, with `more` arguments at the end. When this returns, the child has its
/// new arguments already.
pub(super) fn spawn(way: &Way, spec: &StartSpec, more: &[&str]) -> io::Result<Child> {
    let (install, program) = (way.ours.install, &way.program);
    let mut nobody = nobody(way, spec)?;
    let output = log::open(&spec.folder.join(log::RUNNER_LOG))?;
    let own = &spec.profile.limits.memory_mb;
    let limits = limits(own.own.then(|| own.value.saturating_mul(1024 * 1024)))?;

    let mut command = Command::new(program);
    command
        .args(command::arguments(install, spec, Seen::OnTheHost))
        .arg("--confine")
        .args(more)
        .current_dir(&spec.agent.program)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| passes(name)))
        .envs(spec.profile.environment.variables())
        .envs(command::marks(install, spec))
        .env(command::FOLDER_VARIABLE, &spec.folder)
        .envs(command::folders(spec, Seen::OnTheHost))
        .envs(command::crash_points(|name| std::env::var_os(name)))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    if nobody.is_some() {
        command.env("HOME", SessionPaths::work_of(&spec.folder)); // the host's is closed to it
    }
    let prepare = move || {
        nix::unistd::setsid()?;
        if let Some(nobody) = &mut nobody {
            nobody.become_it()?;
        }
        nix::sys::prctl::set_no_new_privs()?;
        umask(Mode::from_bits_truncate(0o077));
        for (resource, limit) in &limits {
            setrlimit(*resource, *limit, *limit)?;
        }
        close_on_exec();
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe functions may run. These are plain
    // system calls on values that were computed before the fork; nothing allocates or locks.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

/// What the child has to do to become another user than the host, if it is one.
fn nobody(way: &Way, spec: &StartSpec) -> io::Result<Option<Nobody>> {
    let own = User::own();
    if way.user == own {
        return Ok(None);
    }
    folder::prepare(spec, own, way.user)?;
    let folders = mounts(spec);
    let keep = |path: &Path, read_only| Kept { path: path.to_owned(), read_only };
    let mut kept: Vec<Kept> = folders.iter().map(|it| keep(&it.source, it.read_only)).collect();
    kept.push(keep(&way.program.canonicalize()?, true));
    let writable: Vec<PathBuf> =
        kept.iter().filter(|kept| !kept.read_only).map(|kept| kept.path.clone()).collect();
    let writable: Vec<&Path> = writable.iter().map(PathBuf::as_path).collect();
    let search = std::env::var_os("PATH");
    let agent = spec.profile.agent.provider.command().first().and_then(|command| {
        outside::program(command, &spec.agent.program, search.as_deref(), &writable)
    });
    if let Some(agent) = agent {
        // With what lies beside it, unless that is what the host has to hide.
        let beside = agent.parent().filter(|folder| !way.ours.sessions.starts_with(folder));
        kept.push(keep(beside.unwrap_or(&agent), true));
    }
    let data = way.ours.sessions.parent().filter(|data| spec.folder.starts_with(data));
    Nobody::new(way.user, data.unwrap_or(&spec.folder), &kept, &spec.agent.program).map(Some)
}

/// Keeps every descriptor but the standard three from the program that comes next. The host opens its
/// own that way, but whoever started the host may have left others open in it.
fn close_on_exec() {
    use nix::libc;
    const FLAG: libc::c_long = libc::CLOSE_RANGE_CLOEXEC as libc::c_long;
    let (first, last): (libc::c_long, libc::c_long) = (3, libc::c_int::MAX as libc::c_long);
    // SAFETY: with this flag the call closes nothing now and touches no memory. A kernel before 5.11
    // refuses it, which leaves the descriptors as they were.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, FLAG) };
}

/// Whether a variable of the host's environment reaches the runner: what programs need to find
/// other programs and to print readably, and nothing that could be a secret.
fn passes(name: &OsString) -> bool {
    let name: &OsStr = name;
    ["PATH", "HOME", "LANG", "TZ", "TMPDIR"].iter().any(|known| name == *known)
        || name.as_encoded_bytes().starts_with(b"LC_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_variables_reach_the_runner() {
        for good in ["PATH", "HOME", "LANG", "LC_ALL", "LC_TIME", "TZ", "TMPDIR"] {
            assert!(passes(&good.into()), "{good}");
        }
        for bad in ["TWOBOX_CRASH_AT", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "PATHS", "LC"] {
            assert!(!passes(&bad.into()), "{bad}");
        }
    }
}
