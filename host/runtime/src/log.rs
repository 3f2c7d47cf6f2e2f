//! What runners print: one file per session, owned by the host and bounded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
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

/// Moves what a runner that lives has printed aside, if that is much, so that the file stays small.
/// What is printed at that very moment may be lost. Returns whether it was moved.
pub fn rotate_live(path: &Path) -> io::Result<bool> {
    let options = || {
        let mut options = OpenOptions::new();
        options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK).mode(0o600);
        options
    };
    let mut file = match options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    if length <= ROTATE_AT {
        return Ok(false);
    }
    // Only the end of it: it may have grown much since the last look.
    file.seek(SeekFrom::Start(length.saturating_sub(ROTATE_AT)))?;
    let previous = previous(path);
    match fs::remove_file(&previous) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut aside = options().write(true).create_new(true).open(&previous)?;
    io::copy(&mut (&mut file).take(ROTATE_AT), &mut aside)?;
    // Whoever writes appends, and goes on at the new end.
    file.set_len(0)?;
    Ok(true)
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

    #[test]
    fn the_log_of_a_runner_that_lives_stays_small_and_keeps_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RUNNER_LOG);
        assert!(!rotate_live(&path).unwrap(), "nothing there");
        let mut runner = open(&path).unwrap();
        runner.write_all(b"short\n").unwrap();
        assert!(!rotate_live(&path).unwrap());
        for round in 0..2 {
            runner.write_all(&vec![b'x'; 3 * usize::try_from(ROTATE_AT).unwrap()]).unwrap();
            runner.write_all(b"last words\n").unwrap();
            assert!(rotate_live(&path).unwrap(), "{round}");
            runner.write_all(b"goes on\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "goes on\n", "{round}");
            let before = fs::read(previous(&path)).unwrap();
            assert_eq!(u64::try_from(before.len()).unwrap(), ROTATE_AT, "{round}");
            assert!(before.ends_with(b"last words\n"), "{round}");
        }
    }
}
