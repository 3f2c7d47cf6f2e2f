//! Opening what lies where an agent can put anything: a pipe would be waited for, by a thread that hears
//! no cancel meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::AT_FDCWD;
use nix::libc::O_NONBLOCK;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};

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

/// Removes what is at `path`, if anything is: a link itself, and not what it leads to. Folders that keep even their
/// owner out are opened for it.
///
/// # Errors
/// The system's.
pub(in crate::provider) fn clear(path: &Path) -> io::Result<()> {
    match remove(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            remove(path)
        }
        done => done,
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = fs::symlink_metadata(path).and_then(|there| match there.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    });
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Lets its owner into the folder at `path`, and into all that are in it.
fn open_up(path: &Path) -> io::Result<()> {
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let_in(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Lets its owner into the folder at `path`, if it is one, and no link to one.
///
/// # Errors
/// The system's.
pub(in crate::provider) fn let_in(path: &Path) -> io::Result<()> {
    let there = fs::symlink_metadata(path)?;
    let owner = Mode::S_IRWXU;
    if !there.is_dir() || Mode::from_bits_truncate(there.mode()).contains(owner) {
        return Ok(());
    }
    fchmodat(AT_FDCWD, path, owner, FchmodatFlags::NoFollowSymlink)?;
    Ok(())
}

/// Gives all that is in `folder` to the one as whom [`as_no_root`] works.
#[cfg(test)]
pub(in crate::provider) fn give_away(folder: &Path) {
    if !nix::unistd::geteuid().is_root() {
        return; // who keeps it
    }
    let mut all = vec![folder.to_owned()];
    while let Some(path) = all.pop() {
        std::os::unix::fs::lchown(&path, Some(NOBODY), None).unwrap();
        if path.symlink_metadata().unwrap().is_dir() {
            all.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

/// Runs `work` as somebody whom permissions hold back: root they do not.
#[cfg(test)]
pub(in crate::provider) fn as_no_root(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            if nix::unistd::geteuid().is_root() {
                nix::unistd::setfsuid(nix::unistd::Uid::from_raw(NOBODY)); // this thread alone
            }
            work();
        });
        work.join().unwrap();
    });
}

#[cfg(test)]
const NOBODY: u32 = 65_534;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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
                        nix::unistd::mkfifo(&place, Mode::S_IRWXU).unwrap();
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
    fn a_folder_that_keeps_its_owner_out_is_removed_and_nothing_that_a_link_in_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("folder"), dir.path().join("other"));
        fs::create_dir_all(path.join("in/it")).unwrap();
        fs::write(path.join("in/it/file"), "a").unwrap();
        fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink(&other, path.join("in/link")).unwrap();
        let shut = |path: &Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        };
        give_away(dir.path());
        as_no_root(|| {
            shut(&other);
            for folder in ["in/it", "in", ""] {
                shut(&path.join(folder));
            }
            assert!(remove(&path).is_err(), "or this tests nothing");
            clear(&path).unwrap();
            assert!(fs::symlink_metadata(&path).is_err());
            assert_eq!(fs::symlink_metadata(&other).unwrap().mode() & 0o777, 0);
        });
    }

    #[test]
    fn nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, plain) = (dir.path().join("pipe"), dir.path().join("plain"));
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        fs::write(&plain, "a").unwrap();
        assert!(open(&pipe).unwrap_err().to_string().contains("no plain file"));
        assert!(open_as(&pipe, OpenOptions::new().write(true)).is_err(), "nobody reads it");
        assert!(open(dir.path()).is_err());
        assert_eq!(io::read_to_string(open(&plain).unwrap()).unwrap(), "a");
    }
}
