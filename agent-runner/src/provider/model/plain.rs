//! Opening what lies where an agent can put anything: a pipe would be waited for, by a thread that hears
//! no cancel meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::O_NONBLOCK;

/// Opens the plain file at `path` to be read.
///
/// # Errors
/// The system's reason, or that it is something else.
pub(in crate::provider) fn open(path: &Path) -> io::Result<File> {
    open_as(path, OpenOptions::new().read(true))
}

/// As [`open`], with the rights of `options`. What is there is looked at once it is open, so that nobody puts
/// something else in its place between the two.
pub(super) fn open_as(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags(O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file), // to a plain file the flag means nothing
        false => Err(io::Error::other("it is no plain file")),
    }
}

/// Puts `text` at `path` as a whole, in place of whatever is there, be it a folder: no link is followed, and no
/// pipe waited for.
///
/// # Errors
/// The system's.
pub(in crate::provider) fn put(path: &Path, text: &str) -> io::Result<()> {
    let half = path.with_extension("new");
    clear(&half)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
    file.write_all(text.as_bytes())?;
    if fs::symlink_metadata(path).is_ok_and(|there| there.is_dir()) {
        clear(path)?; // anything else gives way to the rename
    }
    fs::rename(half, path)
}

/// Removes what is at `path`, if anything is: a link itself, and not what it leads to.
///
/// # Errors
/// The system's.
pub(in crate::provider) fn clear(path: &Path) -> io::Result<()> {
    let removed = fs::symlink_metadata(path).and_then(|there| match there.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    });
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_somewhere_takes_the_place_of_whatever_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("file"), dir.path().join("other"));
        fs::write(&other, "theirs").unwrap();
        for place in [path.clone(), path.with_extension("new")] {
            for kind in ["link", "pipe", "folder"] {
                clear(&place).unwrap();
                match kind {
                    "link" => std::os::unix::fs::symlink(&other, &place).unwrap(),
                    "pipe" => {
                        nix::unistd::mkfifo(&place, nix::sys::stat::Mode::S_IRWXU).unwrap();
                    }
                    _ => fs::create_dir_all(place.join("in/it")).unwrap(),
                }
                put(&path, kind).unwrap();
                assert_eq!(fs::read_to_string(&path).unwrap(), kind);
                assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{kind}");
            }
        }
        assert_eq!(fs::read_to_string(&other).unwrap(), "theirs");
    }

    #[test]
    fn nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, plain) = (dir.path().join("pipe"), dir.path().join("plain"));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(&plain, "a").unwrap();
        assert!(open(&pipe).unwrap_err().to_string().contains("no plain file"));
        assert!(open_as(&pipe, OpenOptions::new().write(true)).is_err(), "nobody reads it");
        assert!(open(dir.path()).is_err());
        assert_eq!(io::read_to_string(open(&plain).unwrap()).unwrap(), "a");
    }
}
