//! The mounts of this process, from `/proc/self/mountinfo`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use twobox_shared::probe::Mount;

/// How many mounts are told. A container has some dozens, a machine may have thousands.
const MOST: usize = 500;

/// The mounts by their places.
pub(super) fn read() -> BTreeMap<String, Mount> {
    parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// Adds the sizes of those that lie on one of `folders`: others may be network file systems that do
/// not answer.
pub(super) fn measure(mounts: &mut BTreeMap<String, Mount>, folders: &BTreeSet<PathBuf>) {
    for (place, mount) in mounts {
        if folders.contains(Path::new(place)) {
            let size = nix::sys::statvfs::statvfs(place.as_str()).ok();
            mount.bytes = size.map(|size| size.blocks().saturating_mul(size.fragment_size()));
        }
    }
}

/// Source: `/proc/[pid]/mountinfo` in proc(5).
fn parse(table: &str) -> BTreeMap<String, Mount> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let (mut before, mut after) = (before.split(' ').skip(4), after.split(' '));
        let (place, options) = (unescape(before.next()?), before.next()?);
        let (kind, _source, shared) = (after.next()?, after.next()?, after.next().unwrap_or(""));
        let options: BTreeSet<&str> =
            options.split(',').chain(of_the_file_system(shared)).collect();
        let options = options.into_iter().map(str::to_owned).collect();
        Some((place, Mount { kind: kind.to_owned(), options, bytes: None }))
    };
    table.lines().filter_map(mount).take(MOST).collect()
}

/// The options of the file system, without `rw`, which says nothing where the mount is `ro`, and
/// without paths, which are nobody's business.
fn of_the_file_system(options: &str) -> impl Iterator<Item = &str> {
    options.split(',').filter(|option| !option.contains('/') && *option != "rw")
}

/// Spaces and the like are written as three octal digits.
fn unescape(place: &str) -> String {
    ["\\040 ", "\\011\t", "\\012\n", "\\134\\"]
        .iter()
        .fold(place.to_owned(), |place, pair| place.replace(&pair[..4], &pair[4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_mounts_is_read() {
        let table = "\
            22 1 0:21 / / ro,relatime - overlay overlay rw,lowerdir=/a:/b\n\
            23 22 0:22 / /tmp rw,nosuid,nodev master:3 - tmpfs tmpfs rw,size=65536k\n\
            24 22 0:23 / /a\\040b rw - ext4 /dev/sda1 rw\n\
            25 22 0:24 / /tmp rw,noexec - tmpfs tmpfs rw\n\
            nonsense\n";
        let mounts = parse(table);
        let options = |place: &str| mounts[place].options.join(",");
        assert_eq!(
            (mounts["/"].kind.as_str(), options("/")),
            ("overlay", "relatime,ro".to_owned())
        );
        assert_eq!(options("/tmp"), "noexec,rw", "the last one hides the others");
        assert_eq!(mounts["/a b"].kind, "ext4");
        assert_eq!(mounts.len(), 3);
    }
}
