//! Memory of the real processes, by the kernel's word.

use std::path::Path;

/// Resident bytes of the host `pid`, and of the one runner that works for `data`.
pub(crate) fn resident(pid: u32, data: &Path) -> Result<(u64, u64), Box<dyn std::error::Error>> {
    let install: String = rusqlite::Connection::open(data.join("host.db"))?.query_row(
        "SELECT install_id FROM install",
        [],
        |row| row.get(0),
    )?;
    let runner = std::fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| is_runner(*pid, &install))
        .ok_or("no runner of this host runs")?;
    Ok((resident_of(pid)?, resident_of(runner)?))
}

fn is_runner(pid: u32, install: &str) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut args = line.split(|byte| *byte == 0);
    let program = args.next().unwrap_or_default();
    program.ends_with(b"agent-runner") && args.any(|arg| arg == install.as_bytes())
}

fn resident_of(pid: u32) -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}
