//! Starting bwrap as a child that outlives the host: its own session, an empty environment, limits,
//! and no descriptor but those that it is given.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::MemfdFlags;

use super::enter::{self, Become, Enter, Staged};
use super::line::{self, Bind, Descriptors, Way};
use super::seccomp;
use super::system::System;
use crate::child::limits;
use crate::docker::folder::User;
use crate::profile::Environment;

/// One sandbox to be started.
pub(super) struct Launch<'a> {
    pub(super) bwrap: &'a Path,
    pub(super) system: &'a System,
    pub(super) way: Way,
    /// Whose it is: the session's folder.
    pub(super) folder: &'a Path,
    pub(super) environment: Vec<(&'static str, OsString)>,
    /// What the agent's own program is to find there besides.
    pub(super) own: &'a Environment,
    /// With their sources as the host knows them.
    pub(super) binds: Vec<Bind>,
    pub(super) program: Vec<OsString>,
    /// Opened to append: a pipe would end bwrap when the host dies.
    pub(super) status: File,
    /// What is printed inside, and by bwrap. A file for the same reason.
    pub(super) output: File,
    /// `cgroup.procs` of a cgroup for this sandbox alone.
    pub(super) cgroup: Option<OwnedFd>,
    /// The most memory, in bytes, that each process may have for itself, where no cgroup counts it.
    pub(super) memory: Option<u64>,
}

/// Starts it. When this returns, bwrap runs, and nothing is known about what comes of it.
///
/// # Errors
/// What was in the way; more may be in the log.
pub(super) fn spawn(launch: Launch<'_>) -> io::Result<Child> {
    let filters = seccomp::filters().map_err(io::Error::other)?;
    let filters = [memory_file(&filters.allow)?, memory_file(&filters.no_clone3)?];
    let own = User::own();
    let inside = match launch.way {
        Way::Own => own,
        Way::Before(user) | Way::Inside(user) => user,
    };
    let [passwd, group] = line::accounts(inside);
    let accounts = [memory_file(passwd.as_bytes())?, memory_file(group.as_bytes())?];
    let own_variables = memory_file(&line::variables(launch.own))?;
    let descriptors = Descriptors {
        status: launch.status.as_raw_fd(),
        filters: filters.each_ref().map(AsRawFd::as_raw_fd),
        accounts: accounts.each_ref().map(AsRawFd::as_raw_fd),
        variables: own_variables.as_raw_fd(),
    };

    let (binds, become_user) = match launch.way {
        Way::Before(user) => {
            let (binds, staged) = stage(launch.binds)?;
            (binds, Some(Become { user, staged }))
        }
        Way::Own | Way::Inside(_) => (launch.binds, None),
    };
    let arguments = line::line(
        launch.way,
        launch.system,
        &launch.environment,
        &binds,
        descriptors,
        &launch.program,
    );
    let enter = Enter {
        limits: limits(launch.memory)?,
        keep: kept(descriptors),
        cgroup: launch.cgroup,
        clear_groups: own.uid == 0,
        become_user,
    };
    let mut command = Command::new(launch.bwrap);
    command
        .arg0(line::name(launch.folder))
        .args(arguments)
        .current_dir("/")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(launch.output.try_clone()?)
        .stderr(launch.output);
    // SAFETY: between fork and exec only async-signal-safe functions may run. `enter` makes plain
    // system calls on values that were computed before the fork; nothing allocates or locks.
    unsafe { command.pre_exec(move || enter.run()) };
    command.spawn()
}

/// Every bind by the name that it has on the stage, and how it gets there.
fn stage(binds: Vec<Bind>) -> io::Result<(Vec<Bind>, Vec<Staged>)> {
    if binds.len() > enter::room() {
        return Err(io::Error::other("more folders than can be staged"));
    }
    let mut staged = Vec::with_capacity(binds.len());
    let mut renamed = Vec::with_capacity(binds.len());
    for (number, bind) in binds.into_iter().enumerate() {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", bind.source.display()))
        };
        let (entry, source) = Staged::new(&bind.source, number).map_err(named)?;
        staged.push(entry);
        renamed.push(Bind { source, ..bind });
    }
    Ok((renamed, staged))
}

fn kept(descriptors: Descriptors) -> Vec<RawFd> {
    let Descriptors { status, filters, accounts, variables } = descriptors;
    [&[status, variables], &filters[..], &accounts[..]].concat()
}

/// A file in memory that is read from its beginning. bwrap reads on from where the descriptor is, so
/// each start needs one of its own.
fn memory_file(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("twobox", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// The program `name` in the folders of `path`, as a shell would find it.
pub(super) fn find_program(name: &str, path: Option<&OsStr>) -> Option<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let usual = OsStr::new("/usr/local/bin:/usr/bin:/bin");
    let runs = |file: &std::path::PathBuf| {
        file.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path.unwrap_or(usual))
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(runs)
}
