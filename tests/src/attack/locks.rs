//! Locks that are taken and never given back.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::{Attack, Done, End, Then};

/// Where SQLite locks a file (<https://sqlite.org/src/file/src/os.h>): one byte for each of the
/// first two, and 510 for SHARED, which a writer locks as a whole.
const PENDING: i64 = 0x4000_0000;
const RESERVED: i64 = PENDING + 1;
pub(super) const SHARED: i64 = PENDING + 2;

pub(super) const READ: libc::c_int = libc::F_RDLCK;
pub(super) const WRITE: libc::c_int = libc::F_WRLCK;

const fn stopped(name: &'static str, then: Then, act: fn(&super::Ground) -> Done) -> Attack {
    Attack { name, act, then, end: End::Stopped }
}

/// For every runtime. Those that a reader does not notice are told by the silence of the runner
/// that cannot commit any more.
pub static LOCKS: &[Attack] = &[
    stopped("exclusive-lock", Then::Hangs, |ground| {
        lock_for_ever(&ground.outbox(), WRITE, SHARED, 510)?;
        Ok(ground.nudge()?)
    }),
    stopped("pending-lock", Then::Hangs, |ground| {
        lock_for_ever(&ground.outbox(), WRITE, PENDING, 1)?;
        Ok(ground.nudge()?)
    }),
    stopped("reserved-lock", Then::FreezesTheRunner, |ground| {
        lock_for_ever(&ground.outbox(), WRITE, RESERVED, 1)?;
        Ok(ground.nudge()?)
    }),
    stopped("shared-lock", Then::FreezesTheRunner, |ground| {
        lock_for_ever(&ground.outbox(), READ, SHARED, 510)?;
        Ok(ground.nudge()?)
    }),
    stopped("lock-on-the-inbox", Then::Hangs, |ground| {
        // Opened for reading, as its mount wants it.
        lock_for_ever(&ground.inbox.join("inbound.db"), READ, RESERVED, 1)?;
        lock_for_ever(&ground.inbox.join("inbound.db"), READ, SHARED, 510)
    }),
];

/// As [`lock`], for as long as this process lives.
fn lock_for_ever(path: &Path, kind: libc::c_int, start: i64, len: i64) -> Done {
    std::mem::forget(lock(path, kind, start, len)?);
    Ok(())
}

/// Locks bytes of a file until it is closed.
pub(super) fn lock(
    path: &Path,
    kind: libc::c_int,
    start: i64,
    len: i64,
) -> Result<File, Box<dyn Error>> {
    let file: File = OpenOptions::new().read(true).write(kind == WRITE).open(path)?;
    let lock = libc::flock {
        l_type: libc::c_short::try_from(kind)?,
        l_whence: libc::c_short::try_from(libc::SEEK_SET)?,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    loop {
        match fcntl(&file, FcntlArg::F_SETLK(&lock)) {
            // Somebody is just using it.
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            other => {
                other?;
                break;
            }
        }
    }
    Ok(file)
}
