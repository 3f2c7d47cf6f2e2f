//! What the runtimes share that start a runner as a child process of the host: its limits, and how its end
//! is waited for, read and kept.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, rlim_t};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::Condition;

/// The largest file that a runner may write, its log included.
pub(crate) const MAX_FILE: rlim_t = 1 << 30;
/// How many files each process of it may have open.
pub(crate) const MAX_OPEN: rlim_t = 1024;

/// The limits that a child gets, as far as this process's own allow.
///
/// `memory`, in bytes, is what each process may write and shares with nobody. The size of its address
/// space says little: runtimes of many languages reserve far more than they ever use.
pub(crate) fn limits(memory: Option<u64>) -> nix::Result<Vec<(Resource, rlim_t)>> {
    let mut wanted = vec![
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NOFILE, MAX_OPEN),
        (Resource::RLIMIT_FSIZE, MAX_FILE),
    ];
    wanted.extend(memory.map(|bytes| (Resource::RLIMIT_DATA, bytes)));
    for (resource, limit) in &mut wanted {
        let (_, ours) = getrlimit(*resource)?;
        *limit = ours.min(*limit);
    }
    Ok(wanted)
}

/// How an incarnation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// What it ended with, if that is known.
    pub(crate) code: Option<i64>,
}

/// The end of an incarnation, which somebody watches for.
#[derive(Debug, Clone)]
pub(crate) struct Ending(watch::Receiver<Option<Ended>>);

impl Ending {
    /// One to come, and where it is told.
    pub(crate) fn ahead() -> (watch::Sender<Option<Ended>>, Self) {
        let (tell, hear) = watch::channel(None);
        (tell, Self(hear))
    }

    /// One that has come.
    pub(crate) fn past(code: Option<i64>) -> Self {
        Self(watch::channel(Some(Ended { code })).1)
    }

    /// How the incarnation is now.
    pub(crate) fn condition(&self) -> Condition {
        match *self.0.borrow() {
            None => Condition::Running,
            Some(Ended { code }) => Condition::Exited { code },
        }
    }

    /// Waits until nobody of the incarnation is left; `false` after `patience`.
    pub(crate) async fn comes_within(&mut self, patience: Duration) -> bool {
        matches!(tokio::time::timeout(patience, self.0.wait_for(Option::is_some)).await, Ok(Ok(_)))
    }
}

/// A descriptor of a process, which becomes readable when the process ends.
///
/// # Errors
/// The system's: this process may have no room for another.
pub(crate) fn asynchronous(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is a valid, open descriptor and stays the same one until it is dropped,
    // which the `AsyncFd` that owns it does.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    Ok(registered?)
}

/// Reaps a child that has ended. A signal counts as shells and container engines count it.
pub(crate) fn reap(mut child: Child) -> Option<i64> {
    child.wait().ok().map(code)
}

fn code(status: ExitStatus) -> i64 {
    match (status.code(), status.signal()) {
        (Some(code), _) => i64::from(code),
        (None, signal) => 128 + i64::from(signal.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_becomes_the_code_that_a_container_engine_reports() {
        assert_eq!(code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code(ExitStatus::from_raw(9)), 137);
    }
}
