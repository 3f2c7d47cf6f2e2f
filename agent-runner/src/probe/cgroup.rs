//! What the cgroups of this process allow, as far as they can be read from where it is.

use std::fs;
use std::path::{Path, PathBuf};

use twobox_shared::probe::{Cgroup, SeenLimit};

const ROOT: &str = "/sys/fs/cgroup";
/// cgroup v1 says that memory has no limit by a number that no machine has.
const NO_MEMORY_LIMIT: f64 = (1_u64 << 60) as f64;

pub(super) fn seen() -> Cgroup {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    read(&membership, |path| fs::read_to_string(path).ok())
}

/// Of each limit the least on the way from our own cgroup up to the highest that is visible.
fn read(membership: &str, file: impl Fn(&Path) -> Option<String>) -> Cgroup {
    let least = |controller: &str, name: &str, legacy: &dyn Fn(&Path) -> Option<SeenLimit>| {
        let v1 = ancestors(membership, controller).into_iter().map(|folder| legacy(&folder));
        let v2 = ancestors(membership, "")
            .into_iter()
            .map(|folder| Some(unified(&file(&folder.join(name))?)));
        v1.chain(v2).flatten().fold(SeenLimit::Unknown, lesser)
    };
    let number = |path: PathBuf| file(&path)?.trim().parse::<f64>().ok();
    Cgroup {
        memory: least("memory", "memory.max", &|folder| {
            let bytes = number(folder.join("memory.limit_in_bytes"))?;
            Some(if bytes < NO_MEMORY_LIMIT {
                SeenLimit::Limited(bytes)
            } else {
                SeenLimit::Unlimited
            })
        }),
        pids: least("pids", "pids.max", &|folder| Some(unified(&file(&folder.join("pids.max"))?))),
        cpus: least("cpu", "cpu.max", &|folder| {
            let quota = number(folder.join("cpu.cfs_quota_us"))?;
            let period = number(folder.join("cpu.cfs_period_us"))?;
            Some(if quota > 0.0 {
                SeenLimit::Limited(quota / period)
            } else {
                SeenLimit::Unlimited
            })
        }),
    }
}

/// The folders that may hold our limits of a controller, or with an empty name those of cgroup v2.
/// Where a container shows its own cgroup as the highest, `/proc/self/cgroup` may still name it by its
/// place on the machine, so the highest is among them always.
fn ancestors(membership: &str, controller: &str) -> Vec<PathBuf> {
    let own = membership.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    });
    let below = Path::new(own.unwrap_or("/").trim_start_matches('/'));
    let mounts: &[PathBuf] = match controller {
        "" => &[ROOT.into(), Path::new(ROOT).join("unified")],
        _ => &[Path::new(ROOT).join(controller)],
    };
    mounts.iter().flat_map(|mount| below.ancestors().map(|part| mount.join(part))).collect()
}

/// A value of cgroup v2: `max`, a number, or for processors a number for each period.
fn unified(value: &str) -> SeenLimit {
    let mut parts = value.split_whitespace();
    let (most, period) = (parts.next().unwrap_or_default(), parts.next());
    let Ok(most) = most.parse::<f64>() else {
        return if most == "max" { SeenLimit::Unlimited } else { SeenLimit::Unknown };
    };
    match period.map(str::parse::<f64>) {
        None => SeenLimit::Limited(most),
        Some(Ok(period)) if period > 0.0 => SeenLimit::Limited(most / period),
        Some(_) => SeenLimit::Unknown,
    }
}

fn lesser(one: SeenLimit, other: SeenLimit) -> SeenLimit {
    match (one, other) {
        (SeenLimit::Limited(one), SeenLimit::Limited(other)) => SeenLimit::Limited(one.min(other)),
        (limited @ SeenLimit::Limited(_), _) | (_, limited @ SeenLimit::Limited(_)) => limited,
        (SeenLimit::Unlimited, _) | (_, SeenLimit::Unlimited) => SeenLimit::Unlimited,
        (SeenLimit::Unknown, SeenLimit::Unknown) => SeenLimit::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_that_can_be_seen_counts() {
        use SeenLimit::{Limited, Unknown, Unlimited};
        let cases = [
            ("nothing to read", "0::/\n", &[][..], (Unknown, Unknown, Unknown)),
            (
                "v2, own namespace",
                "0::/\n",
                &[("memory.max", "1024\n"), ("pids.max", "max\n"), ("cpu.max", "50000 100000\n")],
                (Limited(1024.0), Unlimited, Limited(0.5)),
            ),
            (
                "v2, limited further up",
                "0::/a/b\n",
                &[("a/b/memory.max", "max"), ("a/memory.max", "7"), ("a/b/pids.max", "9")],
                (Limited(7.0), Limited(9.0), Unknown),
            ),
            (
                "v1, named by its place on the machine",
                "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n2:pids:/docker/x\n0::/docker/x\n",
                &[
                    ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                    ("cpu/cpu.cfs_quota_us", "-1\n"),
                    ("cpu/cpu.cfs_period_us", "100000\n"),
                    ("pids/pids.max", "256\n"),
                ],
                (Unlimited, Limited(256.0), Unlimited),
            ),
        ];
        for (case, membership, files, (memory, pids, cpus)) in cases {
            let file = |path: &Path| {
                let path = path.strip_prefix(ROOT).unwrap();
                let found = files.iter().find(|(name, _)| Path::new(name) == path);
                found.map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(read(membership, file), Cgroup { memory, pids, cpus }, "{case}");
        }
    }
}
