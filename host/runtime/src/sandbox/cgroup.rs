//! Limits on all processes of a sandbox together, where this host has a cgroup (version 2) of its
//! own: the host goes into a leaf, and each sandbox gets one beside it.
//!
//! Whether there is such a cgroup is decided once, when a host begins ([`Tree::own`]), and said:
//! without one each process has limits of its own, and nothing bounds their sum.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use twobox_shared::ids::SessionId;

use crate::profile::Limits;

/// The leaf in which the host itself is. `DelegateSubgroup=host` in a unit makes it as well.
const HOST: &str = "host";
/// Without these a cgroup limits nothing that matters here.
const NEEDED: &[&str] = &["memory", "pids"];
/// The time in which a limit on processors counts, in microseconds.
const PERIOD_US: f64 = 100_000.0;
/// How long an emptied cgroup may take until it can be removed.
const REMOVE_PATIENCE: Duration = Duration::from_secs(2);

/// A cgroup that was handed to this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    folder: PathBuf,
    /// Whether time on processors can be limited too.
    cpu: bool,
}

/// What decides whether there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// `/proc/self/cgroup`
    pub(super) membership: &'a str,
    /// `/proc/self/mountinfo`
    pub(super) mounts: &'a str,
    /// Whether the host is root, who may write where nothing was handed to it.
    pub(super) root: bool,
    /// Whether systemd runs this machine and its cgroups.
    pub(super) systemd: bool,
}

impl Tree {
    /// The cgroup of this host, with the host in a leaf of it, or why there is none.
    ///
    /// # Errors
    /// Why not, for people.
    pub(super) fn own() -> Result<Self, String> {
        let tree = Self::available()?;
        tree.settle()?;
        Ok(tree)
    }

    /// As [`Tree::own`], without moving anybody: for a command that only says what there is.
    pub(super) fn available() -> Result<Self, String> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let facts = Facts {
            membership: &read("/proc/self/cgroup")?,
            mounts: &read("/proc/self/mountinfo")?,
            root: rustix::process::geteuid().is_root(),
            systemd: Path::new("/run/systemd/system").exists(),
        };
        Self::find(facts, NEEDED)
    }

    /// Where it would be, by what can be read without changing anything.
    fn find(facts: Facts<'_>, needed: &[&str]) -> Result<Self, String> {
        let mut folder = folder_of(facts.membership, facts.mounts)?;
        if folder.file_name().is_some_and(|name| name == HOST)
            && let Some(parent) = folder.parent().filter(|parent| is_ours(parent, facts).is_ok())
        {
            folder = parent.to_owned();
        }
        is_ours(&folder, facts)?;
        let place = folder.display();
        let controllers = fs::read_to_string(folder.join("cgroup.controllers"))
            .map_err(|error| format!("{place}: {error}"))?;
        let has = |name: &str| controllers.split_ascii_whitespace().any(|it| it == name);
        let missing: Vec<&str> = needed.iter().copied().filter(|name| !has(name)).collect();
        match missing.is_empty() {
            true => Ok(Self { cpu: has("cpu"), folder }),
            false => Err(format!("{place} does not count {}", missing.join(" and "))),
        }
    }

    /// Moves the host into its leaf and has the others limited. A cgroup with processes in it cannot
    /// limit those below it.
    fn settle(&self) -> Result<(), String> {
        let leaf = self.folder.join(HOST);
        let pid = std::process::id().to_string();
        make(&leaf)
            .and_then(|()| write(&leaf.join("cgroup.procs"), &pid))
            .map_err(|error| format!("{}: {error}", leaf.display()))?;
        let mut controllers = NEEDED.to_vec();
        controllers.extend(self.cpu.then_some("cpu"));
        let asked: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
        let control = self.folder.join("cgroup.subtree_control");
        write(&control, &asked.join(" ")).map_err(|error| match error.raw_os_error() {
            Some(nix::libc::EBUSY) => {
                format!("{} holds other processes besides this host", self.folder.display())
            }
            _ => format!("{}: {error}", control.display()),
        })
    }

    /// A leaf for the session's sandbox, with its limits.
    pub(super) fn leaf(&self, session: SessionId, asked: &Limits) -> io::Result<Leaf> {
        let leaf = self.existing(session);
        leaf.remove(); // what an interrupted start left
        make(&leaf.folder)?;
        for (name, value) in limits(asked, self.cpu) {
            match write(&leaf.folder.join(name), &value) {
                // A kernel that does not count swap has no such file.
                Err(error)
                    if name == "memory.swap.max" && error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(leaf)
    }

    /// The leaf of a sandbox that an earlier host started.
    pub(super) fn existing(&self, session: SessionId) -> Leaf {
        Leaf { folder: self.folder.join(format!("sandbox-{session}")) }
    }

    /// Whether time on processors can be limited too.
    pub(super) fn limits_processors(&self) -> bool {
        self.cpu
    }

    /// One line for people.
    pub(super) fn describe(&self) -> String {
        let what =
            if self.cpu { "memory, processors and processes" } else { "memory and processes" };
        format!("{what} are limited for each sandbox as a whole (cgroup {})", self.folder.display())
    }
}

/// The cgroup of one sandbox.
#[derive(Debug)]
pub(super) struct Leaf {
    folder: PathBuf,
}

impl Leaf {
    /// Where a process joins.
    pub(super) fn door(&self) -> io::Result<OwnedFd> {
        OpenOptions::new().write(true).open(self.folder.join("cgroup.procs")).map(Into::into)
    }

    /// Kills whoever is in it and removes it. What is left of it is nobody's harm, and the next start
    /// of the session tries again.
    pub(super) fn remove(&self) {
        if !self.folder.exists() {
            return;
        }
        // A kernel before 5.14 has no such file; there everybody was killed by other means.
        write(&self.folder.join("cgroup.kill"), "1").ok();
        let end = Instant::now() + REMOVE_PATIENCE;
        while let Err(error) = fs::remove_dir(&self.folder) {
            if error.kind() == io::ErrorKind::NotFound {
                return;
            }
            if Instant::now() > end {
                tracing::warn!(cgroup = %self.folder.display(), %error, "a cgroup cannot be removed");
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What is written where.
fn limits(asked: &Limits, cpu: bool) -> Vec<(&'static str, String)> {
    let memory = asked.memory_mb.value.saturating_mul(1024 * 1024).to_string();
    let mut limits = vec![
        ("memory.max", memory),
        ("memory.swap.max", "0".to_owned()),
        ("memory.oom.group", "0".to_owned()),
        ("pids.max", asked.pids.value.to_string()),
    ];
    // The kernel takes a thousandth of a second at least.
    let quota = (asked.cpus.value * PERIOD_US).round().max(1000.0);
    limits.extend(cpu.then(|| ("cpu.max", format!("{quota:.0} {PERIOD_US:.0}"))));
    limits
}

/// The folder of this process's own cgroup of version 2.
fn folder_of(membership: &str, mounts: &str) -> Result<PathBuf, String> {
    let none = || "this machine has no cgroups of version 2".to_owned();
    let own = membership.lines().find_map(|line| line.strip_prefix("0::")).ok_or_else(none)?;
    // Source: proc_pid_mountinfo(5). Fields 4 and 5 are the part that is mounted, and where; after a
    // dash comes the type.
    let mount = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let fields: Vec<&str> = mount.split(' ').collect();
        kind.starts_with("cgroup2 ").then_some(())?;
        Some(((*fields.get(3)?).to_owned(), (*fields.get(4)?).to_owned()))
    };
    let (part, at) = mounts.lines().find_map(mount).ok_or_else(none)?;
    let below = Path::new(own)
        .strip_prefix(&part)
        .map_err(|_| format!("this host's cgroup {own} is not among those that are mounted"))?;
    Ok(Path::new(&at).join(below))
}

/// Whether `folder` was handed to this host.
fn is_ours(folder: &Path, facts: Facts<'_>) -> Result<(), String> {
    use rustix::fs::{Access, access};
    let place = folder.display();
    for name in ["", "cgroup.procs", "cgroup.subtree_control"] {
        access(folder.join(name), Access::WRITE_OK)
            .map_err(|_| format!("{place} was not delegated to this user"))?;
    }
    // Root may write everywhere, and systemd wants to be alone in what it did not hand out. It marks
    // what it did.
    let marked = ["trusted.delegate", "user.delegate"].iter().any(|mark| {
        let mut value = [0_u8; 8];
        rustix::fs::getxattr(folder, *mark, &mut value[..]).is_ok_and(|n| value[..n] == *b"1")
    });
    match facts.root && facts.systemd && !marked {
        true => Err(format!("{place} was not delegated by systemd (Delegate=yes)")),
        false => Ok(()),
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file of the kernel's, which is there already.
fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_config::{Config, Containers};

    /// A tree as the kernel shows it, in files.
    fn tree(folder: &Path, controllers: &str) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in [
            ("cgroup.controllers", controllers),
            ("cgroup.procs", ""),
            ("cgroup.subtree_control", ""),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    fn facts<'a>(membership: &'a str, mounts: &'a str) -> Facts<'a> {
        Facts { membership, mounts, root: false, systemd: true }
    }

    #[test]
    fn a_cgroup_is_taken_only_if_it_was_handed_over_and_counts_what_matters() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        let mounts = format!(
            "30 20 0:5 / /sys rw - sysfs sysfs rw\n31 20 0:26 / {at} rw,nosuid shared:9 - cgroup2 x rw\n"
        );
        let find = |own: &str, facts: &dyn Fn(Facts<'_>) -> bool| {
            let membership = format!("3:memory:/\n0::{own}\n");
            let mut known = self::facts(&membership, &mounts);
            known.root = facts(known);
            Tree::find(known, NEEDED)
        };
        let user = |_: Facts<'_>| false;
        let root = |_: Facts<'_>| true;
        let unit = dir.path().join("unit");
        tree(&unit, "cpuset cpu io memory pids\n");
        let whole = Tree { folder: unit.clone(), cpu: true };
        assert_eq!(find("/unit", &user), Ok(whole.clone()));
        let refused = find("/unit", &root).unwrap_err();
        assert!(refused.contains("Delegate=yes"), "{refused}");

        tree(&unit.join("host"), "cpuset cpu io memory pids\n");
        assert_eq!(find("/unit/host", &user), Ok(whole), "after a restart, or by DelegateSubgroup");

        tree(&dir.path().join("small"), "hugetlb memory\n");
        let refused = find("/small", &user).unwrap_err();
        assert!(refused.contains("does not count pids"), "{refused}");
        tree(&dir.path().join("slow"), "memory pids\n");
        assert!(!find("/slow", &user).unwrap().cpu);
        let refused = find("/missing", &user).unwrap_err();
        assert!(refused.contains("not delegated"), "{refused}");

        let none = Tree::find(facts("3:memory:/\n", &mounts), NEEDED).unwrap_err();
        assert!(none.contains("no cgroups of version 2"), "{none}");
        let none = Tree::find(facts("0::/unit\n", ""), NEEDED).unwrap_err();
        assert!(none.contains("no cgroups of version 2"), "{none}");
    }

    #[test]
    fn the_path_is_that_below_the_mounted_part() {
        let mounts = "31 20 0:26 /a /cg rw - cgroup2 x rw\n";
        assert_eq!(folder_of("0::/a/b\n", mounts), Ok("/cg/b".into()));
        assert!(folder_of("0::/c\n", mounts).unwrap_err().contains("not among"));
    }

    #[test]
    fn the_limits_are_those_of_a_container() {
        let asked = |settings: &Containers| crate::Profile::usual(settings).limits;
        let settings = Config::default().containers;
        let text = |name: &'static str, value: &str| (name, value.to_owned());
        let expected = [
            text("memory.max", "536870912"),
            text("memory.swap.max", "0"),
            text("memory.oom.group", "0"),
            text("pids.max", "256"),
            text("cpu.max", "100000 100000"),
        ];
        assert_eq!(limits(&asked(&settings), true), expected);
        assert_eq!(limits(&asked(&settings), false), expected[..4]);
        let tiny = Containers { cpus: 0.001, ..settings };
        assert_eq!(limits(&asked(&tiny), true)[4].1, "1000 100000");
    }

    #[test]
    fn a_leaf_of_the_real_kernel_takes_a_process_in_and_ends_it() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let membership = fs::read_to_string("/proc/self/cgroup").unwrap();
        let real = folder_of(&membership, &mounts).ok();
        let name = format!("twobox-test-{}", std::process::id());
        let Some(folder) = real.map(|it| it.join(name)).filter(|it| make(it).is_ok()) else {
            eprintln!("SKIPPED: no cgroup of version 2 that can be written");
            return;
        };
        let tree = Tree { folder: folder.clone(), cpu: false };
        let leaf = tree.existing("0192f000-2222-7000-8000-000000000002".parse().unwrap());
        make(&leaf.folder).unwrap();
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        write(&leaf.folder.join("cgroup.procs"), &child.id().to_string()).unwrap();
        drop(leaf.door().unwrap());
        leaf.remove();
        assert!(!leaf.folder.exists());
        assert!(!child.wait().unwrap().success(), "it was killed");
        fs::remove_dir(folder).unwrap();
    }
}
