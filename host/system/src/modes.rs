//! Closing to others what an installation has from the time before it closed its files by itself,
//! or what somebody copied into it.
//!
//! Nothing is opened, because to close a file again gives up this process's SQLite locks on it, and
//! no link is followed. What containers write, and what is open for their user inside of folders that
//! are closed, is left alone.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};

/// The bits of a mode that are for others than the owner.
const OF_OTHERS: u32 = 0o077;

/// Takes from others what they may do with the data directory, what lies in it, the agents' configurations
/// and the secrets. Returns what was open to them. What belongs to somebody else stays as it is:
/// `doctor` tells of it.
///
/// # Errors
/// The system's reason, if the directory itself cannot be read or closed.
pub fn close(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut closed = Vec::new();
    // The outermost first: from then on nobody else gets to see what is inside.
    if close_one(root)? {
        closed.push(root.to_owned());
    }
    for folder in [root.to_owned(), root.join("agents"), root.join("secrets")] {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        closed.extend(paths.into_iter().filter(|path| close_one(path).unwrap_or(false)));
    }
    Ok(closed)
}

/// Takes from others what they may do with one file or folder of ours, unless it is a link. Returns
/// whether they could do anything.
fn close_one(path: &Path) -> io::Result<bool> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    let meta = rustix::fs::fstat(&file)?;
    let is_link = FileType::from_raw_mode(meta.st_mode) == FileType::Symlink;
    if is_link || meta.st_uid != crate::owner::us() || meta.st_mode & OF_OTHERS == 0 {
        return Ok(false);
    }
    // The only way to change the mode of what is held without being open.
    let held = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::chmod(held, Mode::from_raw_mode(meta.st_mode & 0o7777 & !OF_OTHERS))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_the_hosts_is_closed_and_what_is_the_agents_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("data"), dir.path().join("outside"));
        fs::create_dir_all(root.join("agents")).unwrap();
        fs::create_dir_all(root.join("secrets")).unwrap();
        fs::create_dir_all(root.join("groups/ada")).unwrap();
        fs::create_dir_all(root.join("sessions/g/s/in")).unwrap();
        let before = [
            ("host.db", 0o666, 0o600),
            ("host.db-wal", 0o644, 0o600),
            ("hook.sh", 0o755, 0o700),
            ("agents/ada.json", 0o664, 0o600),
            ("secrets/key", 0o644, 0o600),
            ("groups/ada/notes", 0o644, 0o644),
            ("sessions/g/s/in/inbound.db", 0o644, 0o644),
        ];
        for (file, open, _) in before {
            fs::write(root.join(file), "").unwrap();
            fs::set_permissions(root.join(file), PermissionsExt::from_mode(open)).unwrap();
        }
        let folders = [
            ("", 0o755, 0o700),
            ("agents", 0o755, 0o700),
            ("secrets", 0o755, 0o700),
            ("groups", 0o751, 0o700),
            ("sessions", 0o2755, 0o2700),
            ("groups/ada", 0o755, 0o755),
            ("sessions/g/s/in", 0o755, 0o755),
        ];
        for (folder, open, _) in folders {
            fs::set_permissions(root.join(folder), PermissionsExt::from_mode(open)).unwrap();
        }
        fs::write(&outside, "").unwrap();
        fs::set_permissions(&outside, PermissionsExt::from_mode(0o644)).unwrap();
        symlink(&outside, root.join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("host.sock")).unwrap();
        fs::set_permissions(root.join("host.sock"), PermissionsExt::from_mode(0o666)).unwrap();

        let closed = close(&root).unwrap();
        for (path, _, after) in before.into_iter().chain(folders) {
            assert_eq!(mode(&root.join(path)), after, "{path}");
        }
        assert_eq!(mode(&root.join("host.sock")), 0o600);
        assert_eq!(mode(&outside), 0o644, "no link is followed");
        assert_eq!(closed.len(), 11, "{closed:?}");
        assert_eq!(close(&root).unwrap(), Vec::<PathBuf>::new(), "nothing is left to do");
    }
}
