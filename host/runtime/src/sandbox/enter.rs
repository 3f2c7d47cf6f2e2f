//! What happens in the child between fork and bwrap.
//!
//! Only plain system calls on values that were made before the fork: the host has many threads, and
//! one of them may have held any lock at that moment. A step that fails says which it was in the
//! session's log, for an error that crosses the fork is a number and nothing more.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;
use nix::sys::resource::{Resource, rlim_t, setrlimit};
use nix::sys::stat::{Mode, umask};

use crate::docker::folder::User;

/// Where root puts what the sandbox is to see: a folder in memory over this one, in a mount
/// namespace of the child's own. It exists on every machine, and bwrap needs nothing that is in it.
pub(super) const STAGE: &str = "/tmp";
/// `OPEN_TREE_CLONE`: a mount of its own, not yet anywhere.
const OPEN_TREE_CLONE: libc::c_long = 1;
/// `MOVE_MOUNT_F_EMPTY_PATH`: what is moved is the descriptor itself.
const MOVE_EMPTY_PATH: libc::c_long = 4;
/// The most that is staged: descriptors are kept on the stack.
const STAGED_MAX: usize = 16;

/// One thing that root makes reachable for the user that it becomes.
#[derive(Debug)]
pub(super) struct Staged {
    source: CString,
    target: CString,
    folder: bool,
}

impl Staged {
    /// `source` as `number` below [`STAGE`].
    pub(super) fn new(source: &Path, number: usize) -> io::Result<(Self, std::path::PathBuf)> {
        let target = Path::new(STAGE).join(number.to_string());
        let text =
            |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
        let folder = source.metadata()?.is_dir();
        Ok((Self { source: text(source)?, target: text(&target)?, folder }, target))
    }
}

/// Root becomes an ordinary user who sees what is staged.
#[derive(Debug)]
pub(super) struct Become {
    pub(super) user: User,
    pub(super) staged: Vec<Staged>,
}

/// Everything that the child does.
#[derive(Debug)]
pub(super) struct Enter {
    pub(super) limits: Vec<(Resource, rlim_t)>,
    /// The descriptors that bwrap is given.
    pub(super) keep: Vec<RawFd>,
    /// `cgroup.procs` of the sandbox's own cgroup.
    pub(super) cgroup: Option<OwnedFd>,
    /// Whether the host is root, whose other groups are no user's.
    pub(super) clear_groups: bool,
    pub(super) become_user: Option<Become>,
}

impl Enter {
    /// Carries it out, in the child.
    pub(super) fn run(&self) -> io::Result<()> {
        if let Some(cgroup) = &self.cgroup {
            // 0 is whoever writes.
            step(
                "joining its cgroup",
                call(libc::SYS_write, [i64::from(cgroup.as_raw_fd()), address(c"0"), 1, 0, 0]),
            )?;
        }
        // Where the machine's memory is short, an agent goes before its host does. It is refused to a
        // host that is to go even earlier itself, and then there is nothing to do.
        drop(write_to(c"/proc/self/oom_score_adj", c"500"));
        step("beginning a session", nix::unistd::setsid().map_err(Into::into))?;
        umask(Mode::from_bits_truncate(0o077));
        for (resource, limit) in &self.limits {
            step("setting a limit", setrlimit(*resource, *limit, *limit).map_err(Into::into))?;
        }
        step("closing what was open", close_on_exec(&self.keep))?;
        if self.clear_groups {
            step("leaving its groups", call(libc::SYS_setgroups, [0; 5]))?;
        }
        match &self.become_user {
            Some(user) => user.run(),
            None => Ok(()),
        }
    }
}

impl Become {
    fn run(&self) -> io::Result<()> {
        step(
            "making a mount namespace",
            call(libc::SYS_unshare, [i64::from(libc::CLONE_NEWNS), 0, 0, 0, 0]),
        )?;
        let private = i64::try_from(libc::MS_REC | libc::MS_PRIVATE).unwrap_or(0);
        step(
            "keeping mounts to itself",
            call(libc::SYS_mount, [address(c"none"), address(c"/"), 0, private, 0]),
        )?;
        // Before the stage hides what may lie below it.
        let mut trees = [-1_i64; STAGED_MAX];
        for (staged, tree) in self.staged.iter().zip(&mut trees) {
            let flags = OPEN_TREE_CLONE | i64::from(libc::O_CLOEXEC);
            let source = [i64::from(libc::AT_FDCWD), address(&staged.source), flags, 0, 0];
            *tree = step("opening what it is to see", value(libc::SYS_open_tree, source))?;
        }
        let guarded = i64::try_from(libc::MS_NOSUID | libc::MS_NODEV).unwrap_or(0);
        step(
            "making a place for it",
            call(
                libc::SYS_mount,
                [
                    address(c"tmpfs"),
                    address(c"/tmp"),
                    address(c"tmpfs"),
                    guarded,
                    address(c"mode=0755,size=64k"),
                ],
            ),
        )?;
        for (staged, tree) in self.staged.iter().zip(trees) {
            let here = i64::from(libc::AT_FDCWD);
            let made = match staged.folder {
                true => call(libc::SYS_mkdirat, [here, address(&staged.target), 0o700, 0, 0]),
                false => {
                    let mode = i64::from(libc::S_IFREG | 0o400);
                    call(libc::SYS_mknodat, [here, address(&staged.target), mode, 0, 0])
                }
            };
            step("making a place for it", made)?;
            let moved = [tree, address(c""), here, address(&staged.target), MOVE_EMPTY_PATH];
            step("putting it there", call(libc::SYS_move_mount, moved))?;
        }
        let (uid, gid) = (i64::from(self.user.uid), i64::from(self.user.gid));
        step("becoming its group", call(libc::SYS_setresgid, [gid, gid, gid, 0, 0]))?;
        step("becoming its user", call(libc::SYS_setresuid, [uid, uid, uid, 0, 0]))
    }
}

/// How many things can be staged.
pub(super) const fn room() -> usize {
    STAGED_MAX
}

fn address(text: &std::ffi::CStr) -> libc::c_long {
    text.as_ptr().expose_provenance() as libc::c_long
}

fn call(number: libc::c_long, arguments: [libc::c_long; 5]) -> io::Result<()> {
    value(number, arguments).map(drop)
}

fn value(number: libc::c_long, arguments: [libc::c_long; 5]) -> io::Result<libc::c_long> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the calls that this module makes read at most the strings that they are given, which
    // end with NUL and outlive the call, and write no memory of this process.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

fn write_to(path: &std::ffi::CStr, text: &std::ffi::CStr) -> io::Result<()> {
    let flags = i64::from(libc::O_WRONLY | libc::O_CLOEXEC);
    let file = value(libc::SYS_openat, [i64::from(libc::AT_FDCWD), address(path), flags, 0, 0])?;
    let length = i64::try_from(text.to_bytes().len()).unwrap_or(0);
    call(libc::SYS_write, [file, address(text), length, 0, 0]) // closed by the exec
}

/// Keeps every descriptor but the standard three and `keep` from the program that comes next. The
/// host opens its own that way, but whoever started the host may have left others open in it, and
/// bwrap hands on what it has.
fn close_on_exec(keep: &[RawFd]) -> io::Result<()> {
    let flag = i64::from(libc::CLOSE_RANGE_CLOEXEC);
    call(libc::SYS_close_range, [3, i64::from(i32::MAX), flag, 0, 0])?;
    for descriptor in keep {
        let (fd, set) = (i64::from(*descriptor), i64::from(libc::F_SETFD));
        call(libc::SYS_fcntl, [fd, set, 0, 0, 0])?;
    }
    Ok(())
}

/// Says in the log which step failed. Standard error leads there already.
fn step<T>(name: &'static str, result: io::Result<T>) -> io::Result<T> {
    if result.is_err() {
        for part in ["sandbox: ", name, " failed\n"] {
            // There is nowhere else to say it.
            let (at, length) = (part.as_ptr().expose_provenance() as libc::c_long, part.len());
            drop(call(libc::SYS_write, [2, at, i64::try_from(length).unwrap_or(0), 0, 0]));
        }
    }
    result
}
