//! Deleting a folder that a container has written to.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, chmodat, open, openat, renameat, rmdir, unlinkat};
use rustix::io::Errno;

const FOLDER: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// Deletes `folder` and everything in it; one that is not there is deleted. Nothing is followed out of
/// it, and folders within folders cost neither stack nor descriptors, however deep they are: what is
/// deeper than one level moves up first. Nobody else may write there meanwhile.
///
/// # Errors
/// The system's reason. What is left can be deleted by another call.
pub fn remove_tree(folder: &Path) -> io::Result<()> {
    let top = match open(folder, FOLDER, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let mut moved = 0_u64;
    loop {
        let inner = unlink_files(&top)?;
        if inner.is_empty() {
            break;
        }
        for name in inner {
            // Its owner may have taken every right from itself.
            chmodat(&top, &name, Mode::RWXU, AtFlags::empty())?;
            let dir = openat(&top, &name, FOLDER, Mode::empty())?;
            for deeper in unlink_files(&dir)? {
                chmodat(&dir, &deeper, Mode::RWXU, AtFlags::empty())?;
                loop {
                    moved += 1;
                    match renameat(&dir, &deeper, &top, format!("removed-{moved}")) {
                        // A call that was interrupted has left something there.
                        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                        renamed => break renamed?,
                    }
                }
            }
            match unlinkat(&top, &name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY) => {} // what this pass has overlooked is for the next
                removed => removed?,
            }
        }
    }
    Ok(rmdir(folder)?)
}

/// Unlinks everything in `dir` but folders, and returns these.
fn unlink_files(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut folders = Vec::new();
    for entry in Dir::read_from(dir.as_fd())? {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        match unlinkat(dir, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => folders.push(name.to_owned()),
            Err(Errno::NOENT) => {}
            unlinked => unlinked?,
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_of_any_depth_goes_and_nothing_outside_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, folder) = (dir.path().join("outside"), dir.path().join("folder"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        fs::create_dir_all(folder.join("removed-1/full")).unwrap();
        fs::create_dir_all(folder.join("closed/inner/inmost")).unwrap();
        fs::write(folder.join("closed/inner/file"), "").unwrap();
        symlink(&outside, folder.join("link")).unwrap();
        symlink(&outside, folder.join("closed/inner/link")).unwrap();
        for shut in ["closed/inner", "closed"] {
            fs::set_permissions(folder.join(shut), fs::Permissions::from_mode(0o000)).unwrap();
        }
        let mut deepest = open(&folder, FOLDER, Mode::empty()).unwrap();
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&deepest, "deeper", Mode::RWXU).unwrap();
            deepest = openat(&deepest, "deeper", FOLDER, Mode::empty()).unwrap();
        }
        drop(deepest);

        remove_tree(&folder).unwrap();
        assert!(!folder.exists() && outside.join("kept").exists());
        remove_tree(&folder).unwrap();

        symlink(&outside, &folder).unwrap();
        remove_tree(&folder).expect_err("not a folder");
        assert!(outside.join("kept").exists());
    }
}
