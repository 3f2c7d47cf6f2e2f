//! Descriptors that this process was started with, besides the standard three: a shell, a supervisor or
//! an editor may have left files, sockets or pipes open in it. They are nobody's business here, and
//! least of all that of the programs that are started from here.

use std::io;

use nix::libc;

/// The first descriptor that is not a standard one.
const FIRST: libc::c_int = 3;

/// Keeps from every program that this process starts what it has open now. What it opens later is
/// opened that way, so this is for the beginning, while there is one thread. Nothing is passed on by
/// a service manager either: sockets are this host's own (`LISTEN_FDS` is not used).
pub(crate) fn keep_to_ourselves() {
    if mark_all().is_err() {
        // A kernel before 5.11, or a filter of system calls that does not know the call.
        mark_each().ok(); // without /proc nobody knows what there is
    }
}

fn mark_all() -> io::Result<()> {
    let (first, last) = (libc::c_long::from(FIRST), libc::c_long::from(libc::c_int::MAX));
    let flag = libc::c_long::from(libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: with this flag the call closes nothing now and touches no memory.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, flag) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn mark_each() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|it| it.parse::<libc::c_int>().ok()) else {
            continue;
        };
        if number >= FIRST {
            // SAFETY: it sets a flag of a number; one that is closed by now is refused.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::process::Command;

    use super::*;

    /// Whether a program that is started now has the file open.
    fn reaches(file: &std::fs::File, path: &std::path::Path) -> bool {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let said = Command::new("readlink").arg(link).output().unwrap();
        String::from_utf8_lossy(&said.stdout).trim() == path.to_str().unwrap()
    }

    #[test]
    fn what_was_open_reaches_no_program_either_way() {
        for way in ["at once", "singly"] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let (open, path) = (file.as_file(), file.path().canonicalize().unwrap());
            // SAFETY: it clears a flag of a file that is open.
            unsafe { libc::fcntl(open.as_raw_fd(), libc::F_SETFD, 0) };
            assert!(reaches(open, &path), "{way}: the test sees what is passed on");
            if way == "at once" { mark_all() } else { mark_each() }.unwrap();
            assert!(!reaches(open, &path), "{way}");
        }
    }
}
