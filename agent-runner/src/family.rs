//! Whoever descends from this process, whatever process group, session or parent they went to: what
//! a turn has started and left behind is ended after it, or it would fill the room for processes until
//! no turn can start anything.
//!
//! This process is told of orphans below it (it is their *subreaper*), so that all of them stay in its
//! tree, in every runtime.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid};

use crate::say::say;

/// How long to go on against those who come faster than they can be ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause in which the killed can die.
const PAUSE: Duration = Duration::from_millis(2);

/// From now on orphans below this process become its children.
pub(crate) fn adopt() {
    if let Err(errno) = set_child_subreaper(true) {
        say!("what turns leave behind cannot be ended after them: {errno}");
    }
}

/// Ends whoever is left, but for those in the process groups `kept`, which are the provider's.
pub(crate) fn clear(kept: &[Pid]) {
    let end = Instant::now() + PATIENCE;
    let mut ended = 0_usize;
    loop {
        let strangers = strangers(kept);
        if strangers.is_empty() {
            break;
        }
        if Instant::now() >= end {
            say!("{} processes that the turn left behind are still there", strangers.len());
            return;
        }
        for stranger in strangers {
            let pid = Pid::from_raw(stranger.pid);
            if !stranger.dead && kill(pid, Signal::SIGKILL).is_ok() {
                ended += 1;
            }
            // One that is not our child yet becomes so when its parent has died.
            waitpid(pid, Some(WaitPidFlag::WNOHANG)).ok();
        }
        std::thread::sleep(PAUSE);
    }
    if ended > 0 {
        say!("ended what the turn left behind: {ended} processes");
    }
}

/// The process groups of all that descend from `parent`.
pub(crate) fn groups_below(parent: Pid) -> Vec<Pid> {
    let (mut groups, mut parents) = (Vec::new(), vec![parent.as_raw()]);
    while let Some(parent) = parents.pop() {
        for pid in children(parent) {
            parents.push(pid);
            groups.extend(state_of(pid).map(|(_, group)| Pid::from_raw(group)));
        }
    }
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// A process below this one that does not belong to the provider.
struct Stranger {
    pid: i32,
    dead: bool,
}

fn strangers(kept: &[Pid]) -> Vec<Stranger> {
    let mut found = Vec::new();
    let mut parents = vec![getpid().as_raw()];
    while let Some(parent) = parents.pop() {
        for pid in children(parent) {
            parents.push(pid);
            let Some((dead, group)) = state_of(pid) else { continue }; // it has gone meanwhile
            if kept.iter().all(|kept| kept.as_raw() != group) {
                found.push(Stranger { pid, dead });
            }
        }
    }
    found
}

/// Each thread has children of its own.
fn children(parent: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|listed| {
            listed.split_ascii_whitespace().filter_map(|it| it.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

/// Whether the process is dead and only waited for, and its process group.
///
/// Source: proc_pid_stat(5). The program's name, in parentheses, may contain anything.
fn state_of(pid: i32) -> Option<(bool, i32)> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = str::from_utf8(stat.get(name_end + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    Some((matches!(state, "Z" | "X"), group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_below_its_parent_and_known_by_its_group() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(children(getpid().as_raw()).contains(&pid));
        let group = nix::unistd::getpgrp();
        assert_eq!(state_of(pid), Some((false, group.as_raw())));
        assert!(!strangers(&[group]).iter().any(|it| it.pid == pid), "it is the provider's");
        assert!(strangers(&[]).iter().any(|it| it.pid == pid));
        assert!(groups_below(getpid()).contains(&group));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(state_of(pid), None);
    }
}
