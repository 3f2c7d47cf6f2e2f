//! `--probe`: says what this process sees and may do, in one line, and leaves.
//!
//! The host starts a runner with it just as it would start one for a session. Nothing here is
//! guessed where it can be tried, nothing stays behind, and what cannot be found out is left out.

mod cgroup;
mod mounts;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use twobox_shared::probe::{Access, Limit, Report, VERSION};

/// Where a runner may find a place to write without having been given one.
const COMMON: [&str; 7] = ["/", "/tmp", "/run", "/var/tmp", "/dev/shm", "/etc", "/workspace"];
/// How many names of one kind are told: nobody needs more to see that something is wrong.
const NAMES: usize = 200;

/// The report, with a look into `folders` as well.
pub(crate) fn report(folders: &[PathBuf]) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| field(&status, name);
    let hexadecimal = |name| u64::from_str_radix(field(name)?, 16).ok();
    let mut mounts = mounts::read();
    let given = mounts.keys().map(Path::new).filter(|place| place.starts_with("/workspace"));
    let folders: BTreeSet<PathBuf> = (folders.iter().map(PathBuf::as_path))
        .chain(given)
        .chain(COMMON.map(Path::new))
        .map(Path::to_owned)
        .collect();
    mounts::measure(&mut mounts, &folders);
    let report = Report {
        probe: VERSION,
        runner: Some(env!("CARGO_PKG_VERSION").to_owned()),
        uid: Some(nix::unistd::geteuid().as_raw()),
        gid: Some(nix::unistd::getegid().as_raw()),
        groups: nix::unistd::getgroups()
            .ok()
            .map(|groups| groups.into_iter().map(nix::unistd::Gid::as_raw).collect()),
        cap_eff: hexadecimal("CapEff"),
        cap_bnd: hexadecimal("CapBnd"),
        no_new_privs: field("NoNewPrivs").map(|value| value == "1"),
        seccomp: field("Seccomp").and_then(|value| value.parse().ok()),
        mounts,
        folders: folders.iter().map(|folder| (text(folder), access(folder))).collect(),
        limits: limits(),
        cgroup: cgroup::seen(),
        interfaces: fs::read_to_string("/proc/net/dev").ok().map(|table| interfaces(&table)),
        pid: Some(std::process::id()),
        processes: processes(),
        init: fs::read_to_string("/proc/1/comm").ok().map(|name| name.trim_end().to_owned()),
        hostname: nix::unistd::gethostname().ok().map(|name| name.to_string_lossy().into_owned()),
        devices: names(Path::new("/dev")),
        terminal: Some(OpenOptions::new().read(true).write(true).open("/dev/tty").is_ok()),
        environment: Some(environment(std::env::vars_os().map(|(name, _)| name))),
    };
    serde_json::to_string(&report).unwrap_or_default() // it has nothing that JSON has not
}

/// What stands after `name:` in `/proc/self/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim())
}

/// Lists the folder, and creates and deletes a file in it.
fn access(folder: &Path) -> Access {
    let read = fs::read_dir(folder).map(drop);
    let file = folder.join(format!(".twobox-probe-{}", std::process::id()));
    let write = OpenOptions::new().write(true).create_new(true).open(&file);
    let write = write.and_then(|_| fs::remove_file(&file));
    let refusal = [&read, &write].into_iter().filter_map(|done| done.as_ref().err()).next_back();
    Access { read: read.is_ok(), write: write.is_ok(), refusal: refusal.map(io::Error::to_string) }
}

fn limits() -> BTreeMap<String, Limit> {
    let finite = |limit| (limit != RLIM_INFINITY).then_some(limit);
    [
        ("core", Resource::RLIMIT_CORE),
        ("nofile", Resource::RLIMIT_NOFILE),
        ("nproc", Resource::RLIMIT_NPROC),
        ("fsize", Resource::RLIMIT_FSIZE),
    ]
    .into_iter()
    .filter_map(|(name, resource)| {
        let (soft, hard) = getrlimit(resource).ok()?;
        Some((name.to_owned(), Limit { soft: finite(soft), hard: finite(hard) }))
    })
    .collect()
}

/// The names in `/proc/net/dev`, after its two lines of headings, without `lo`.
fn interfaces(table: &str) -> Vec<String> {
    let names = table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
    names.filter(|name| *name != "lo").take(NAMES).map(str::to_owned).collect()
}

fn processes() -> Option<u32> {
    let all = fs::read_dir("/proc").ok()?.flatten();
    let numbered =
        all.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    u32::try_from(numbered.count()).ok()
}

fn names(folder: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names.truncate(NAMES);
    Some(names)
}

fn environment(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut names: Vec<String> =
        names.take(NAMES).map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_folder_was_tried_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let given = dir.path().join("given");
        fs::create_dir(&given).unwrap();
        let absent = dir.path().join("absent");
        let report = Report::find(&report(&[given.clone(), absent.clone()])).unwrap();
        let seen = |path: &Path| report.folders[&text(path)].clone();
        assert_eq!(seen(&given), Access { read: true, write: true, refusal: None });
        let refused = seen(&absent);
        assert!(!refused.read && !refused.write && refused.refusal.is_some(), "{refused:?}");
        assert_eq!(fs::read_dir(&given).unwrap().count(), 0);
        assert!(report.mounts.contains_key("/"), "{:?}", report.mounts.keys());
        assert!(report.processes >= Some(1) && report.limits.contains_key("nofile"));
        assert!(report.seccomp.is_some() && report.cap_eff.is_some());
    }

    #[test]
    fn interfaces_other_than_the_loopback_are_named() {
        let table = "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  eth0: 3 4\nwg-0:5 6\n";
        assert_eq!(interfaces(table), ["eth0", "wg-0"]);
        assert_eq!(interfaces(""), [""; 0]);
    }
}
