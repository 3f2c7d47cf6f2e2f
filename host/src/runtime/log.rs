//! What runners print: one file per session, owned by the host and bounded.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file's name in a session folder, beside `in/` and `out/`, where no container can reach it.
pub const RUNNER_LOG: &str = "runner.log";

/// Above this size the file becomes `runner.log.1` before anything is added.
const ROTATE_AT: u64 = 1024 * 1024;

/// Opens `path` to append, after moving a full file aside.
pub(super) fn open(path: &Path) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.len() > ROTATE_AT => fs::rename(path, previous(path))?,
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}

fn previous(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_full_log_is_moved_aside_and_a_short_one_grows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RUNNER_LOG);
        open(&path).unwrap().write_all(b"one\n").unwrap();
        open(&path).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");

        fs::write(&path, vec![b'x'; usize::try_from(ROTATE_AT).unwrap() + 1]).unwrap();
        open(&path).unwrap().write_all(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        assert!(fs::metadata(previous(&path)).unwrap().len() > ROTATE_AT);
    }
}
