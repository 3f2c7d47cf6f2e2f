//! Opening what lies where an agent can put anything: a pipe would be waited for, by a thread that hears
//! no cancel meanwhile.

use std::fs::{File, OpenOptions};
use std::io;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, plain) = (dir.path().join("pipe"), dir.path().join("plain"));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(&plain, "a").unwrap();
        assert!(open(&pipe).unwrap_err().to_string().contains("no plain file"));
        assert!(open_as(&pipe, OpenOptions::new().write(true)).is_err(), "nobody reads it");
        assert!(open(dir.path()).is_err());
        assert_eq!(io::read_to_string(open(&plain).unwrap()).unwrap(), "a");
    }
}
