//! A process by a handle that no later process can take over, and what `/proc` says about it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::child::asynchronous;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use twobox_system::proc;

/// A process of this machine.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    pub(super) pid: Pid,
    /// Readable once the process has ended, reaped or not.
    fd: Arc<OwnedFd>,
}

impl Handle {
    /// The process that has this number now, if there is one. It need not be the one that was meant:
    /// what is then read in `/proc` shows it.
    pub(super) fn open(pid: Pid) -> Result<Self, Errno> {
        let fd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, fd: Arc::new(fd) })
    }

    /// Sends `signal`; to one that has ended it is no error.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match pidfd_send_signal(&self.fd, signal) {
            Err(Errno::SRCH) => Ok(()),
            result => result,
        }
    }

    /// Whether it has ended. A process that has is of no other number.
    pub(super) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Without an answer it is believed to live.
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Returns when it has ended. Inside tokio.
    pub(super) async fn ended(&self) {
        if let Ok(waiting) = self.fd.as_fd().try_clone_to_owned().and_then(asynchronous)
            && waiting.readable().await.is_ok()
        {
            return;
        }
        // No room for one more descriptor: look again and again.
        while !self.has_ended() {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }

    /// Takes its exit away if it is a child of this process: a host that is process 1 of a container
    /// inherits what its predecessors and bwrap leave.
    pub(super) fn reap(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // Usually it is somebody else's child, and that is the error.
        waitid(WaitId::PidFd(self.fd.as_fd()), options).ok();
    }
}

/// What `/proc/PID/status` says that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// The user that it is in every respect; `None` if it is several.
    pub(super) uid: Option<u32>,
    /// Its parent, by its number here; 0 for none that is seen here.
    pub(super) parent: i32,
    /// Its number in the innermost process namespace, if that is not the one of the host.
    pub(super) inside: Option<i32>,
}

impl Facts {
    /// `None` if the process is gone.
    pub(super) fn read(pid: Pid) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    /// Source: proc_pid_status(5). `Uid:` has the real, effective, saved and file system user, and
    /// `NSpid:` one number for each process namespace that the process is in, from ours inwards.
    fn parse(status: &str) -> Option<Self> {
        let fields = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().map(|it| it.parse().ok()).collect::<Option<Vec<u32>>>()
        };
        let uids = fields("Uid:")?;
        let (uid, rest) = uids.split_first()?;
        let numbers = fields("NSpid:")?;
        let inside = numbers.get(1..)?.last().and_then(|number| (*number).try_into().ok());
        Some(Self {
            uid: rest.iter().all(|other| other == uid).then_some(*uid),
            parent: (*fields("PPid:")?.first()?).try_into().ok()?,
            inside,
        })
    }
}

/// The arguments of a process, each without its NUL; empty for one that is gone or a zombie.
pub(super) fn arguments(pid: Pid) -> Vec<Vec<u8>> {
    let mut bytes = proc::read(pid, "cmdline").unwrap_or_default();
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    match bytes.is_empty() {
        true => Vec::new(),
        false => bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect(),
    }
}

/// The number of the process namespace that a process is in, where this user may know it.
pub(super) fn process_namespace(pid: Pid) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// The children of `pid`, oldest first where it has but one thread, as bwrap.
pub(super) fn children(pid: Pid) -> Vec<Pid> {
    if let Some(found) = listed_children(pid) {
        return found;
    }
    // A kernel without that file: ask everybody for their parent.
    let mut found: Vec<Pid> = processes()
        .filter(|child| {
            Facts::read(*child).is_some_and(|facts| facts.parent == pid.as_raw_nonzero().get())
        })
        .collect();
    found.sort_by_key(|pid| pid.as_raw_nonzero());
    found
}

/// As [`children`], where the kernel lists them: each thread has those that it made itself.
///
/// Source: `/proc/tid/children` in proc_tid_children(5).
fn listed_children(pid: Pid) -> Option<Vec<Pid>> {
    let number = |word: &str| word.parse().ok().and_then(Pid::from_raw);
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let listed = fs::read_to_string(thread.ok()?.path().join("children")).ok()?;
        found.extend(listed.split_ascii_whitespace().filter_map(number));
    }
    Some(found)
}

/// Every process of the machine.
pub(super) fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_of_a_process_are_read_by_their_names() {
        let of = |uids: &str, numbers: &str| {
            Facts::parse(&format!("Name:\tx\nPPid:\t4\nUid:\t{uids}\nNSpid:\t{numbers}\n"))
        };
        let outside = Facts { uid: Some(7), parent: 4, inside: None };
        assert_eq!(of("7\t7\t7\t7", "12"), Some(outside));
        assert_eq!(of("7\t7\t7\t7", "12\t1"), Some(Facts { inside: Some(1), ..outside }));
        assert_eq!(of("7\t7\t7\t7", "12\t5\t1"), Some(Facts { inside: Some(1), ..outside }));
        assert_eq!(of("7\t0\t7\t7", "12"), Some(Facts { uid: None, ..outside }));
        assert_eq!(Facts::parse("Name:\tx\n"), None);
    }

    #[test]
    fn a_handle_tells_of_the_end_of_its_process() {
        let until = |reached: &dyn Fn() -> bool| {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while !reached() {
                assert!(std::time::Instant::now() < deadline);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        };
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let handle = Handle::open(Pid::from_child(&child)).unwrap();
        assert!(!handle.has_ended());
        assert!(children(rustix::process::getpid()).contains(&handle.pid));
        // `spawn` returns while the kernel still puts the new arguments in their place.
        until(&|| arguments(handle.pid) == [b"sleep".to_vec(), b"600".to_vec()]);
        handle.signal(Signal::KILL).unwrap();
        until(&|| handle.has_ended());
        child.wait().unwrap();
        handle.signal(Signal::KILL).unwrap();
        assert!(Handle::open(handle.pid).is_err());
    }
}
