//! The process above a runner that no container holds together: whatever a runner leaves behind comes
//! back to it and is ended, before the host hears that the runner has ended.
//!
//! One fork before the first thread: the parent stays, outside of all confinement, and the child
//! becomes the runner. Orphans of the runner's descendants become the parent's children, whatever
//! process group or session they went to and whatever they took out of their environment. It
//! outlives the host as the runner does, and it is the one that the host sees, stops and waits for.

use std::fs;

use nix::errno::Errno;
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, raise, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

/// Returns in the child. Called before the first thread of the process.
///
/// # Errors
/// The system refused it; nothing has changed then but the process's signal mask.
pub(crate) fn begin() -> nix::Result<()> {
    set_child_subreaper(true)?;
    let mut heeded = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        heeded.add(signal);
    }
    let mut before = SigSet::empty();
    // Blocked before the fork, so that none is lost between it and the first wait.
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&heeded), Some(&mut before))?;
    let parent = getpid();
    // SAFETY: this process has one thread, so the child may do all that the parent may.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            let status = follow(child, &heeded);
            clear_out();
            leave(status)
        }
        ForkResult::Child => {
            // A supervisor that is killed takes its runner with it.
            set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != parent {
                std::process::exit(1); // it was killed before that
            }
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)
        }
    }
}

/// Passes signals on to the runner and reaps whatever ends, until the runner has ended.
fn follow(runner: Pid, heeded: &SigSet) -> WaitStatus {
    loop {
        if let Ok(signal @ (Signal::SIGTERM | Signal::SIGINT)) = heeded.wait() {
            kill(runner, signal).ok(); // it may have ended a moment ago
        }
        // One signal may stand for many ends.
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            match status {
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) if pid == runner => {
                    return status;
                }
                WaitStatus::StillAlive => break,
                _ => {}
            }
        }
    }
}

/// Kills until there is no child left. The children of a child that ends are ours before we are told
/// of its end, so whoever descends from the runner is seen here sooner or later.
fn clear_out() {
    loop {
        for child in children() {
            kill(child, Signal::SIGKILL).ok(); // it may have ended, and is reaped below
        }
        match waitpid(None, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return, // there is none
        }
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(it) if it.pid().is_some()) {}
    }
}

/// The children of this process, which has one thread.
fn children() -> Vec<Pid> {
    let own = getpid();
    let listed = fs::read_to_string(format!("/proc/self/task/{own}/children"));
    let numbers: Vec<i32> = match listed {
        Ok(listed) => listed.split_ascii_whitespace().filter_map(|it| it.parse().ok()).collect(),
        // A kernel without that list.
        Err(_) => fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| parent_of(*pid) == Some(own.as_raw()))
            .collect(),
    };
    numbers.into_iter().map(Pid::from_raw).collect()
}

/// Source: proc_pid_stat(5). The program's name, in parentheses, may contain anything.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    str::from_utf8(stat.get(name_end + 1..)?).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Ends this process as the runner has ended.
fn leave(status: WaitStatus) -> ! {
    if let WaitStatus::Signaled(_, signal, _) = status {
        let mut this = SigSet::empty();
        this.add(signal);
        // What is not possible here ends as shells say it, below.
        this.thread_unblock().ok();
        raise(signal).ok();
    }
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => 1,
    };
    std::process::exit(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_of_a_process_stands_behind_its_name() {
        assert_eq!(parent_of(getpid().as_raw()), Some(getppid().as_raw()));
        assert_eq!(parent_of(i32::MAX), None);
    }
}
