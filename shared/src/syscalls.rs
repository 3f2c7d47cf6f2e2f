//! How SQLite may open and unlink files while it works on something that a container wrote.
//!
//! SQLite asks the operating system through a table of functions that a program may override
//! (`xSetSystemCall`, <https://sqlite.org/c3ref/vfs.html>). The override is process-wide, so ours
//! looks at a policy of the current thread, which a guard sets for the length of one operation:
//! without a guard it behaves exactly as SQLite's own.
//!
//! Reading is watched too. SQLite calls a file corrupt of which the operating system could not read a
//! part, and a disk that fails for a moment is no reason to give a session up.
//!
//! Why: a FIFO in the place of a database or its journal hangs a plain `open(2)` for ever, a
//! symbolic link or a second hard link leads out of the session folder, and a forged journal names
//! any file on the machine for deletion. A check before the open would be a race.
#![expect(unsafe_code, reason = "SQLite's system call table is a C interface")]

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::io;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Once;

use nix::libc::{self, c_char, c_int};
use rusqlite::ffi;

/// What the current thread lets SQLite do.
#[derive(Debug, Clone)]
enum Policy {
    /// Regular files with one link, never through a symbolic link, never waiting.
    Untrusted,
    /// As `Untrusted`, and only files directly in this folder, which may also be unlinked.
    Confined(PathBuf),
}

/// Why an open under a policy failed, which SQLite reports as one and the same error.
#[derive(Debug)]
pub(crate) enum Denial {
    /// Something other than a regular file with one link stands there.
    Hostile(PathBuf),
    /// The operating system could not, such as for want of descriptors.
    System(PathBuf, io::Error),
}

thread_local! {
    static POLICY: RefCell<Option<Policy>> = const { RefCell::new(None) };
    static DENIAL: RefCell<Option<Denial>> = const { RefCell::new(None) };
    static READ_FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Begins an operation on a database on the current thread: reads that failed before it say nothing
/// of it.
pub(crate) fn begin() {
    install();
    READ_FAILED.set(false);
}

/// Whether the operating system refused a read of SQLite's since the operation on the current thread
/// began.
pub(crate) fn read_failed() -> bool {
    READ_FAILED.get()
}

/// Holds a policy on the current thread until it is dropped.
pub(crate) struct Guard {
    not_send: PhantomData<*const ()>, // the policy belongs to the thread that set it
}

impl Guard {
    /// For reading a file in a folder that a container writes.
    pub(crate) fn untrusted() -> Self {
        Self::set(Policy::Untrusted)
    }

    /// For repairing a private copy in `folder`.
    pub(crate) fn confined(folder: &Path) -> Self {
        Self::set(Policy::Confined(folder.to_owned()))
    }

    fn set(policy: Policy) -> Self {
        begin();
        POLICY.with_borrow_mut(|current| {
            assert!(current.is_none(), "one guarded operation per thread at a time");
            *current = Some(policy);
        });
        DENIAL.set(None);
        Self { not_send: PhantomData }
    }

    /// Why the last open that failed under this guard did, if not because nothing was there.
    pub(crate) fn denial(&self) -> Option<Denial> {
        DENIAL.take()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        POLICY.set(None);
    }
}

type SystemCall = unsafe extern "C" fn();
type OpenCall = unsafe extern "C" fn(*const c_char, c_int, c_int) -> c_int;
type UnlinkCall = unsafe extern "C" fn(*const c_char) -> c_int;
type ReadCall = unsafe extern "C" fn(c_int, *mut libc::c_void, libc::size_t) -> libc::ssize_t;
type PreadCall =
    unsafe extern "C" fn(c_int, *mut libc::c_void, libc::size_t, libc::off64_t) -> libc::ssize_t;

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the default VFS lives as long as the process, and its table accepts functions of
        // the signatures that the system calls of these names have (os_unix.c, `aSyscall`). The
        // casts only erase those signatures; SQLite casts back before calling.
        unsafe {
            let vfs = ffi::sqlite3_vfs_find(c"unix".as_ptr());
            assert!(!vfs.is_null(), "SQLite on Unix has the VFS named unix");
            let set = (*vfs).xSetSystemCall.expect("the unix VFS has a system call table");
            let open: SystemCall = std::mem::transmute::<OpenCall, SystemCall>(guarded_open);
            let unlink: SystemCall = std::mem::transmute::<UnlinkCall, SystemCall>(guarded_unlink);
            let read: SystemCall = std::mem::transmute::<ReadCall, SystemCall>(watched_read);
            let pread: SystemCall = std::mem::transmute::<PreadCall, SystemCall>(watched_pread);
            let calls = [
                (c"open", open),
                (c"unlink", unlink),
                (c"read", read),
                // Which of them SQLite uses is decided when it is compiled.
                (c"pread", pread),
                (c"pread64", pread),
            ];
            for (name, call) in calls {
                let result = set(vfs, name.as_ptr(), Some(call));
                assert_eq!(result, ffi::SQLITE_OK, "the unix VFS lets {name:?} be replaced");
            }
        }
    });
}

fn refuse(errno: c_int) -> c_int {
    nix::errno::Errno::from_raw(errno).set();
    -1
}

/// Remembers why `path` was not opened. A file that vanished is none of our business.
fn deny(path: &CStr, errno: c_int) {
    let shown = PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes()));
    DENIAL.set(match errno {
        libc::ENOENT => return,
        // What open(2) says of a symbolic link, and of a socket or a device without a driver.
        libc::ELOOP | libc::ENXIO | libc::ENODEV => Some(Denial::Hostile(shown)),
        _ => Some(Denial::System(shown, io::Error::from_raw_os_error(errno))),
    });
}

fn inside(folder: &Path, path: &CStr) -> bool {
    Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())).parent() == Some(folder)
}

unsafe extern "C" fn guarded_open(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    let Some(policy) = POLICY.with_borrow(Clone::clone) else {
        // SAFETY: SQLite's own arguments, passed on unchanged.
        return unsafe { libc::open(path, flags, mode) };
    };
    // SAFETY: SQLite passes a NUL-terminated path.
    let name = unsafe { CStr::from_ptr(path) };
    if let Policy::Confined(folder) = &policy {
        let path = name;
        let directory = Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())) == folder;
        if !directory && !inside(folder, path) {
            return refuse(libc::EACCES);
        }
        if directory {
            // SAFETY: as above; the folder is ours, and SQLite opens it only to sync it.
            return unsafe { libc::open(path.as_ptr(), flags, mode) };
        }
    }
    // SAFETY: SQLite's own arguments with more flags.
    let fd = unsafe { libc::open(path, flags | libc::O_NONBLOCK | libc::O_NOFOLLOW, mode) };
    if fd < 0 {
        let errno = nix::errno::Errno::last_raw();
        deny(name, errno);
        return refuse(errno);
    }
    // SAFETY: `stat` is plain data that fstat fills, and fd is open.
    let (result, stat) = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        (libc::fstat(fd, &raw mut stat), stat)
    };
    if result == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFREG && stat.st_nlink == 1 {
        return fd;
    }
    // SAFETY: fd is ours and nobody else knows it.
    unsafe { libc::close(fd) };
    // An honest runner may unlink its journal just after we opened it.
    if result == 0 && stat.st_nlink == 0 {
        return refuse(libc::ENOENT);
    }
    deny(name, libc::ELOOP);
    refuse(libc::EACCES)
}

unsafe extern "C" fn watched_read(
    fd: c_int,
    to: *mut libc::c_void,
    count: libc::size_t,
) -> libc::ssize_t {
    // SAFETY: SQLite's own arguments, passed on unchanged.
    watch(unsafe { libc::read(fd, to, count) })
}

unsafe extern "C" fn watched_pread(
    fd: c_int,
    to: *mut libc::c_void,
    count: libc::size_t,
    at: libc::off64_t,
) -> libc::ssize_t {
    // SAFETY: SQLite's own arguments, passed on unchanged.
    watch(unsafe { libc::pread64(fd, to, count, at) })
}

/// An interrupted read is repeated, and no failure.
fn watch(result: libc::ssize_t) -> libc::ssize_t {
    if result < 0 && nix::errno::Errno::last_raw() != libc::EINTR {
        READ_FAILED.set(true);
    }
    result
}

unsafe extern "C" fn guarded_unlink(path: *const c_char) -> c_int {
    let allowed = POLICY.with_borrow(|policy| match policy {
        None => true,
        Some(Policy::Untrusted) => false,
        // SAFETY: SQLite passes a NUL-terminated path.
        Some(Policy::Confined(folder)) => inside(folder, unsafe { CStr::from_ptr(path) }),
    });
    if !allowed {
        return refuse(libc::EACCES);
    }
    // SAFETY: SQLite's own argument, passed on unchanged.
    unsafe { libc::unlink(path) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rusqlite::Connection;

    use super::*;

    /// A database with a hot journal whose end names `victim` as its super-journal.
    fn forged(folder: &Path, victim: &Path) -> PathBuf {
        let source = folder.join("source.db");
        let writer = Connection::open(&source).unwrap();
        writer
            .execute_batch(
                "CREATE TABLE t (x); INSERT INTO t VALUES (1); PRAGMA cache_size = 1; BEGIN;
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
                 INSERT INTO t SELECT printf('%.3000c', 'x') FROM n;",
            )
            .unwrap();
        let copy = folder.join("copy.db");
        std::fs::copy(&source, &copy).unwrap();
        let journal = folder.join("copy.db-journal");
        std::fs::copy(folder.join("source.db-journal"), &journal).unwrap();
        let name = victim.as_os_str().as_bytes();
        let sum: u32 = name.iter().map(|byte| u32::from(*byte)).sum();
        let mut trailer = 0x4000_0000_u32.to_be_bytes().to_vec();
        trailer.extend(name);
        trailer.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
        trailer.extend(sum.to_be_bytes());
        trailer.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
        let mut file = std::fs::OpenOptions::new().append(true).open(journal).unwrap();
        file.write_all(&trailer).unwrap();
        copy
    }

    fn roll_back(copy: &Path) {
        let rows = Connection::open(copy).and_then(|conn| {
            conn.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
        });
        drop(rows); // whether it works is not the question here
    }

    #[test]
    fn s1_a_rollback_unlinks_a_file_that_the_journal_names_only_without_a_guard() {
        for (case, guarded) in [("without a guard", false), ("confined", true)] {
            let (folder, aside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            // SQLite itself unlinks only what looks like a super-journal and names this journal.
            let victim = aside.path().join("victim-mj0123459AB");
            let copy = forged(folder.path(), &victim);
            let journal = folder.path().join("copy.db-journal");
            std::fs::write(&victim, journal.as_os_str().as_bytes()).unwrap();
            let guard = guarded.then(|| Guard::confined(folder.path()));
            roll_back(&copy);
            drop(guard);
            assert_eq!(victim.exists(), guarded, "{case}");
        }
    }
}
