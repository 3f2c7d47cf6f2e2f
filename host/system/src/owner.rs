//! Whose the data directory is, and who may work in it: its owner alone.
//!
//! Whatever another user made here, the host could not use, and what strangers may put here, the
//! host would believe. So a command that root gives becomes one of the owner's before it touches
//! anything ([`become_owner`]), and everybody else is told whose the directory is.

use std::ffi::CString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User};

/// The bits of a mode that let others than the owner write.
const WRITE_OF_OTHERS: u32 = 0o022;

/// The bit of a mode that lets only the owner of a file remove it from a folder.
const STICKY: u32 = 0o1000;

/// How many entries [`strays`] looks at.
const LOOK_MAX: usize = 20_000;

/// What is wrong with a data directory for whoever runs this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It is this user's.
    Foreign(u32),
    /// With this mode, others than its owner may write in it.
    Writable(u32),
}

/// Whether user `us` may work in a directory of `owner` that has this mode.
pub fn judge(owner: u32, mode: u32, us: u32) -> Result<(), Wrong> {
    match (owner == us, mode & WRITE_OF_OTHERS) {
        (false, _) => Err(Wrong::Foreign(owner)),
        (true, 0) => Ok(()),
        (true, _) => Err(Wrong::Writable(mode & 0o7777)),
    }
}

/// The user that this process works as.
pub fn us() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The user's name, or the number where there is none.
pub fn name(uid: u32) -> String {
    named(uid).map_or_else(|| uid.to_string(), |user| user.name)
}

fn named(uid: u32) -> Option<User> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten()
}

/// How to run a command as that user: `sudo` takes a number too, behind `#`.
pub fn sudo(uid: u32) -> String {
    named(uid).map_or_else(|| format!("sudo -u '#{uid}'"), |user| format!("sudo -u {}", user.name))
}

/// Whose folder on the way to `path` keeps this process from seeing it: the first one in which it
/// may not look, and its owner.
pub fn closed_by(path: &Path) -> Option<(PathBuf, u32)> {
    let whole = std::path::absolute(path).ok()?;
    let mut outermost: Vec<&Path> = whole.ancestors().skip(1).collect();
    outermost.reverse();
    outermost.into_iter().find_map(|folder| {
        let meta = fs::metadata(folder).ok()?;
        let denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        // To ask for itself by way of itself takes the right to search it.
        fs::metadata(folder.join(".")).is_err_and(denied).then(|| (folder.to_owned(), meta.uid()))
    })
}

/// Root that works on a directory of somebody else becomes that user: for good, and before anything
/// is opened, so this process has one thread. The groups are those that `sudo -u` would give. Returns
/// whom it has become; `None` if there was nothing to do.
///
/// # Errors
/// The system's reason: in a user namespace that user may not be there.
pub fn become_owner(path: &Path) -> io::Result<Option<u32>> {
    let Ok(meta) = fs::metadata(path) else { return Ok(None) };
    if us() != 0 || !meta.is_dir() || meta.uid() == 0 {
        return Ok(None);
    }
    let uid = Uid::from_raw(meta.uid());
    match named(meta.uid()) {
        Some(user) => {
            let name = CString::new(user.name).map_err(|_| Errno::EINVAL)?;
            nix::unistd::initgroups(&name, user.gid)?;
            nix::unistd::setresgid(user.gid, user.gid, user.gid)?;
        }
        None => {
            let gid = Gid::from_raw(meta.gid());
            nix::unistd::setgroups(&[gid])?;
            nix::unistd::setresgid(gid, gid, gid)?;
        }
    }
    nix::unistd::setresuid(uid, uid, uid)?;
    Ok(Some(meta.uid()))
}

/// A folder above `root` whose writers can put another directory in its place, and in whose hands
/// that is.
pub fn exchangeable(root: &Path, owner: u32) -> Option<String> {
    root.ancestors().skip(1).find_map(|folder| {
        let meta = fs::metadata(folder).ok()?;
        let can = hands(meta.uid(), meta.gid(), meta.mode(), owner)?;
        Some(format!("{can} can put another directory in the place of one in {}", folder.display()))
    })
}

/// Who else than `owner` and root can exchange what lies in a folder like that.
fn hands(uid: u32, gid: u32, mode: u32, owner: u32) -> Option<String> {
    if uid != 0 && uid != owner {
        return Some(format!("user {}", name(uid)));
    }
    match mode & (STICKY | WRITE_OF_OTHERS) {
        open if open & STICKY != 0 => None,
        open if open & 0o002 != 0 => Some("every user".to_owned()),
        // Many systems give each user a group of the same number, with nobody else in it.
        open if open & 0o020 != 0 && gid != 0 && gid != owner => Some(format!("group {gid}")),
        _ => None,
    }
}

/// What belongs to another user than the data directory `root` itself, among the things that only
/// the host makes. What containers write, and the folders that are given to them, is not looked at;
/// nor is anything beyond links, or beyond [`LOOK_MAX`] entries.
pub fn strays(root: &Path) -> io::Result<Vec<(PathBuf, u32)>> {
    let owner = fs::metadata(root)?.uid();
    let mut look = Look { owner, left: LOOK_MAX, found: Vec::new() };
    for (path, meta) in look.entries(root) {
        let name = path.file_name().unwrap_or_default();
        match name.to_str() {
            _ if !meta.is_dir() => {}
            Some("agents" | "secrets") => drop(look.entries(&path)),
            Some("sessions") => {
                for (group, _) in look.entries(&path) {
                    for (session, _) in look.entries(&group) {
                        look.session(&session);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(look.found)
}

struct Look {
    owner: u32,
    left: usize,
    found: Vec<(PathBuf, u32)>,
}

impl Look {
    /// What is in a folder, in order. Notes what belongs to somebody else. A folder that is none, or
    /// closed to us, is empty: it was noted itself.
    fn entries(&mut self, folder: &Path) -> Vec<(PathBuf, Metadata)> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(self.left);
        let mut seen: Vec<(PathBuf, Metadata)> = entries
            .filter_map(|entry| Some((entry.path(), fs::symlink_metadata(entry.path()).ok()?)))
            .collect();
        seen.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.left -= seen.len();
        seen.iter().for_each(|(path, meta)| self.note(path, meta));
        seen.retain(|(_, meta)| meta.is_dir() || meta.is_file());
        seen
    }

    /// The host's half of a session, and what lies beside the two halves.
    fn session(&mut self, folder: &Path) {
        let half = folder.join("in");
        for path in [half.clone(), folder.join("runner.log"), half.join("inbound.db")] {
            if let Ok(meta) = fs::symlink_metadata(&path) {
                self.left = self.left.saturating_sub(1);
                self.note(&path, &meta);
            }
        }
    }

    fn note(&mut self, path: &Path, meta: &Metadata) {
        if meta.uid() != self.owner {
            self.found.push((path.to_owned(), meta.uid()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn only_its_owner_works_in_a_directory_that_nobody_else_writes() {
        let cases = [
            ("closed", 7, 0o700, 7, Ok(())),
            ("readable, which is mended", 7, 0o755, 7, Ok(())),
            ("a group writes", 7, 0o770, 7, Err(Wrong::Writable(0o770))),
            ("everybody writes", 7, 0o40_702, 7, Err(Wrong::Writable(0o702))),
            ("sticky does not help: strangers add", 7, 0o1777, 7, Err(Wrong::Writable(0o1777))),
            ("somebody else's", 8, 0o777, 7, Err(Wrong::Foreign(8))),
            ("root's", 0, 0o755, 7, Err(Wrong::Foreign(0))),
            ("not even root works as root in it", 7, 0o700, 0, Err(Wrong::Foreign(7))),
        ];
        for (case, owner, mode, us, expected) in cases {
            assert_eq!(judge(owner, mode, us), expected, "{case}");
        }
    }

    #[test]
    fn whoever_can_exchange_the_directory_is_named() {
        let cases = [
            ("root's own", 0, 0, 0o755, None),
            ("the owner's own", 7, 7, 0o755, None),
            ("the owner's, and the owner's group", 7, 7, 0o775, None),
            ("sticky", 0, 0, 0o1777, None),
            ("open to all", 0, 0, 0o777, Some("every user")),
            ("open to a group", 0, 50, 0o2775, Some("group 50")),
            ("another user's", 4_000_000, 7, 0o755, Some("user 4000000")),
        ];
        for (case, uid, gid, mode, expected) in cases {
            assert_eq!(hands(uid, gid, mode, 7).as_deref(), expected, "{case}");
        }
    }

    #[test]
    fn a_command_for_a_user_without_a_name_is_one_too() {
        assert_eq!(sudo(4_000_000), "sudo -u '#4000000'");
        assert_eq!(name(4_000_000), "4000000");
        assert_eq!((sudo(0).as_str(), name(0).as_str()), ("sudo -u root", "root"));
    }

    #[test]
    fn strays_are_found_where_the_host_writes_and_nowhere_else() {
        if us() != 0 {
            eprintln!("SKIPPED: only root can give files away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let session = root.join("sessions/g/s");
        for folder in ["agents", "secrets", "groups/ada", "sessions/g/s/in", "sessions/g/s/out"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let given = ["host.db", "agents/ada.json", "secrets/key", "sessions/g/s/in/inbound.db"]
            .map(|file| {
                let path = root.join(file);
                fs::write(&path, "").unwrap();
                path
            });
        assert_eq!(strays(root).unwrap(), []);
        for path in given.iter().chain([&session.join("out"), &root.join("groups/ada")]) {
            chown(path, Some(65_532), None).unwrap();
        }
        // A link that a container could have made leads nowhere.
        std::os::unix::fs::symlink("/etc", root.join("groups/ada/agents")).unwrap();
        let mut expected: Vec<_> = given.into_iter().map(|path| (path, 65_532)).collect();
        expected.sort();
        let mut found = strays(root).unwrap();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_folder_that_is_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        fs::create_dir_all(closed.join("data")).unwrap();
        assert_eq!(closed_by(&closed.join("data")), None, "for its owner nothing is");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).unwrap();
        let seen = closed_by(&closed.join("data"));
        // Root looks everywhere; a system test asks as somebody else.
        assert_eq!(seen.is_some(), us() != 0);
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    }
}
