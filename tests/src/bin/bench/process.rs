//! What processes use, by the kernel's word.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::Error;

/// Resident MiB.
pub(crate) fn resident(pid: u32) -> Result<f64, Error> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// The time on a processor since the process began, all threads together.
pub(crate) fn cpu(pid: u32) -> Result<Duration, Error> {
    let pid = Pid::from_raw(i32::try_from(pid)?);
    Ok(clock_gettime(ClockId::pid_cpu_clock_id(pid)?)?.into())
}

/// The time on a processor that this thread has used.
pub(crate) fn cpu_of_thread() -> Result<Duration, Error> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// What the process has read from files and sockets since it began, in MiB.
pub(crate) fn read(pid: u32) -> Result<f64, Error> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: ")).ok_or("no rchar")?;
    Ok(line.parse::<f64>()? / f64::from(1 << 20))
}

/// The runners of `install` that live, in containers too: there, the engine's own process has the
/// arguments of the runner among its own, but another name. The one above a runner in the process
/// runtime, which has the same, is none.
pub(crate) fn runners(install: &str) -> Result<Vec<u32>, Error> {
    let pids = std::fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<u32> = pids.filter(|pid| is_runner(*pid, install)).collect();
    let above: Vec<u32> = found.iter().filter_map(|pid| parent(*pid).ok()).collect();
    found.retain(|pid| !above.contains(pid));
    Ok(found)
}

fn parent(pid: u32) -> Result<u32, Error> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Ok(line.ok_or("no parent")?.trim().parse()?)
}

fn is_runner(pid: u32, install: &str) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut args = line.split(|byte| *byte == 0);
    let program = args.next().unwrap_or_default();
    program.ends_with(b"agent-runner") && args.any(|arg| arg == install.as_bytes())
}

/// The process's share of the memory that it has, in MiB: what several have counts for each in part.
pub(crate) fn proportional(pid: u32) -> Result<f64, Error> {
    let sums = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = sums.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// The memory that only this process has, in MiB.
pub(crate) fn private(pid: u32) -> Result<f64, Error> {
    let sums = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let lines = sums.lines().filter(|line| line.starts_with("Private_"));
    let mut kib = 0.0;
    for line in lines {
        let number = line.split_whitespace().nth(1).ok_or("no number")?;
        kib += number.parse::<f64>()?;
    }
    Ok(kib / 1024.0)
}

/// The processes that descend from `pid`.
pub(crate) fn descendants(pid: u32) -> Result<Vec<u32>, Error> {
    let all: Vec<(u32, u32)> = std::fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|child| Some((child, parent(child).ok()?)))
        .collect();
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(above) = found.get(at).copied() {
        found.extend(all.iter().filter(|(_, parent)| *parent == above).map(|(child, _)| *child));
        at += 1;
    }
    Ok(found.split_off(1))
}

/// The processes above `pid` that are there for it alone: up to `host`, an engine's daemon, or the
/// first process of all.
pub(crate) fn parents(pid: u32, host: u32) -> Result<Vec<u32>, Error> {
    let mut found = Vec::new();
    let mut at = pid;
    loop {
        let parent = parent(at)?;
        let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
        let daemon = ["containerd", "dockerd", "podman", "systemd"].contains(&name.trim());
        if parent <= 1 || parent == host || daemon {
            return Ok(found);
        }
        found.push(parent);
        at = parent;
    }
}
