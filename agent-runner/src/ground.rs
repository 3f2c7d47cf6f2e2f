//! What the runner stands on: the two halves of its session's folder, as they were when it started.
//!
//! A runner whose folder was deleted, unmounted or replaced has nothing left to do, and nobody who
//! would end it: its host is gone with the folder, or looks at another one. So it leaves by itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use twobox_shared::paths::SessionPaths;

use crate::exit::Exit;
use crate::say::say;

/// Both halves, held open.
#[derive(Debug)]
pub(crate) struct Ground([Half; 2]);

#[derive(Debug)]
struct Half {
    path: PathBuf,
    /// Held for its number: a folder that nobody holds may come back under another one, with some
    /// file systems, and a deleted one's may be given to its successor.
    folder: File,
}

impl Ground {
    /// Takes hold of the folders in which the boxes are.
    ///
    /// # Errors
    /// One of them is not there.
    pub(crate) fn take(paths: &SessionPaths) -> Result<Self, Exit> {
        let half = |path: &Path| {
            Half::open(path).map_err(|error| {
                say!("could not open the folder {}: {error}", path.display());
                Exit::System
            })
        };
        Ok(Self([half(paths.in_dir())?, half(paths.out_dir())?]))
    }

    /// Whether both are still what they were. What cannot be found out counts as unchanged.
    ///
    /// # Errors
    /// [`Exit::Gone`], after a word to the operator: there is nothing left to serve.
    pub(crate) fn check(&self) -> Result<(), Exit> {
        match self.0.iter().find_map(Half::lost) {
            None => Ok(()),
            Some(how) => {
                say!("{how}, so this process leaves");
                Err(Exit::Gone)
            }
        }
    }
}

impl Half {
    fn open(path: &Path) -> io::Result<Self> {
        // Without the right to read anything in it, which a confined runner does not need here.
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let folder = File::options().read(true).custom_flags(flags).open(path)?;
        Ok(Self { path: path.to_owned(), folder })
    }

    /// How it was lost, if it was.
    fn lost(&self) -> Option<String> {
        let path = self.path.display();
        let held = self.folder.metadata().ok()?;
        // A mount shows a deleted folder under its old name.
        if held.nlink() == 0 {
            return Some(format!("the folder {path} was deleted"));
        }
        match std::fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => None,
            Ok(_) => Some(format!("the folder {path} was replaced by another one")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("the folder {path} was moved away"))
            }
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_that_was_deleted_moved_or_replaced_is_lost() {
        type Change = fn(&Path);
        let cases: [(&str, Change, Option<&str>); 5] = [
            ("untouched", |_| {}, None),
            ("filled", |path| fs::write(path.join("x"), "x").unwrap(), None),
            ("deleted", |path| fs::remove_dir(path).unwrap(), Some("was deleted")),
            ("moved", |path| fs::rename(path, path.with_extension("old")).unwrap(), Some("moved")),
            (
                "replaced",
                |path| {
                    fs::rename(path, path.with_extension("old")).unwrap();
                    fs::create_dir(path).unwrap();
                },
                Some("replaced"),
            ),
        ];
        for (case, change, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("half");
            fs::create_dir(&path).unwrap();
            let half = Half::open(&path).unwrap();
            change(&path);
            let lost = half.lost();
            match expected {
                None => assert_eq!(lost, None, "{case}"),
                Some(how) => {
                    assert!(lost.as_ref().is_some_and(|it| it.contains(how)), "{case}: {lost:?}")
                }
            }
        }
    }
}
