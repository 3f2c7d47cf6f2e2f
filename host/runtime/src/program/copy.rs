//! Copying files and folders out of a place that somebody hostile may be writing to.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, fsync, mkdirat, openat, statat};
use rustix::io::Errno;

use super::{ProgramError, failed};

/// How deep folders may lie in each other.
const DEPTH_MAX: usize = 32;

pub(super) const FOLDER: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// Why something is not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It leads somewhere else.
    #[error("a symbolic link, which is not followed: name the file itself")]
    Link,
    /// A pipe, a socket or a device.
    #[error("neither a file nor a folder")]
    Special,
    /// Under another name it may be anybody's file.
    #[error("a file with a second name (a hard link), which may be somebody else's")]
    SecondName,
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable,
    /// Folders in folders.
    #[error("folders lie more than {DEPTH_MAX} deep in each other")]
    TooDeep,
    /// Beyond the bounds.
    #[error("there is more than may be copied")]
    TooMuch,
}

/// What a copy may cost, and what became of it.
#[derive(Debug)]
pub(super) struct Copier {
    /// Files and folders that may still be looked at.
    entries: u64,
    /// Bytes that may still be copied.
    bytes: u64,
    /// Whether a file with a second name is left.
    wary: bool,
    pub(super) copied: Vec<PathBuf>,
    pub(super) left: Vec<(PathBuf, Refusal)>,
}

impl Copier {
    /// For a place that only its operator writes to.
    pub(super) fn trusting() -> Self {
        Self { wary: false, ..Self::wary(u64::MAX, u64::MAX) }
    }

    /// For a place that containers write to, with bounds.
    pub(super) fn wary(entries: u64, bytes: u64) -> Self {
        Self { entries, bytes, wary: true, copied: Vec::new(), left: Vec::new() }
    }

    /// Copies what `name` is in `from` into the folder `to`, as `target`, and has it on the disk. What
    /// cannot be copied is in [`Copier::left`] under its `path`. All may read the copy, nobody but its
    /// owner write.
    ///
    /// # Errors
    /// [`ProgramError::Io`]; [`ProgramError::Refused`] when a bound is reached.
    pub(super) fn copy(
        &mut self,
        (from, name): (&OwnedFd, &OsStr),
        (to, target): (&OwnedFd, &OsStr),
        path: &Path,
    ) -> Result<(), ProgramError> {
        self.entry((from, name), (to, target), path, 0)
    }

    fn entry(
        &mut self,
        (from, name): (&OwnedFd, &OsStr),
        (to, target): (&OwnedFd, &OsStr),
        path: &Path,
        depth: usize,
    ) -> Result<(), ProgramError> {
        let too_much =
            || ProgramError::Refused { path: path.to_owned(), refusal: Refusal::TooMuch };
        self.entries = self.entries.checked_sub(1).ok_or_else(too_much)?;
        let source = match open(from, name) {
            Ok(Ok(source)) => source,
            Ok(Err(refusal)) => return self.leave(path, refusal),
            // A container that makes and removes files all the time does not keep us from ending.
            Err(gone) if self.wary && gone.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("open", path)(error)),
        };
        let about = fstat(&source).map_err(failed("look at", path))?;
        match FileType::from_raw_mode(about.st_mode) {
            FileType::Directory if depth == DEPTH_MAX => self.leave(path, Refusal::TooDeep),
            FileType::Directory => self.folder(&source, (to, target), path, depth),
            FileType::RegularFile if self.wary && about.st_nlink > 1 => {
                self.leave(path, Refusal::SecondName)
            }
            FileType::RegularFile => {
                let executable = about.st_mode & 0o111 != 0;
                let limit = self.bytes;
                let write = || -> io::Result<u64> {
                    let mut file = create(to, target)?;
                    let mut bounded = File::from(source).take(limit.saturating_add(1));
                    let copied = io::copy(&mut bounded, &mut file)?;
                    let mode = if executable { 0o755 } else { 0o644 };
                    file.set_permissions(Permissions::from_mode(mode))?;
                    file.sync_all()?;
                    Ok(copied)
                };
                let copied = write().map_err(failed("copy", path))?;
                self.bytes = self.bytes.checked_sub(copied).ok_or_else(too_much)?;
                self.copied.push(path.to_owned());
                Ok(())
            }
            _ => self.leave(path, Refusal::Special),
        }
    }

    fn folder(
        &mut self,
        source: &OwnedFd,
        (to, target): (&OwnedFd, &OsStr),
        path: &Path,
        depth: usize,
    ) -> Result<(), ProgramError> {
        let made = make_folder(to, target).map_err(failed("create", path))?;
        let listed = Dir::read_from(source.as_fd()).map_err(failed("list", path))?;
        for entry in listed {
            let entry = entry.map_err(failed("list", path))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                self.entry((source, name), (&made, name), &path.join(name), depth + 1)?;
            }
        }
        fsync(&made).map_err(failed("write", path))
    }

    fn leave(&mut self, path: &Path, refusal: Refusal) -> Result<(), ProgramError> {
        self.left.push((path.to_owned(), refusal));
        Ok(())
    }
}

/// What `name` is in `folder`, if it is a file or a folder. Nothing is followed and nothing waited for.
fn open(folder: &OwnedFd, name: &OsStr) -> io::Result<Result<OwnedFd, Refusal>> {
    // Looked at before it is opened, for opening a device may do something. What comes into its place
    // in between is looked at again.
    let about = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::ACCESS) => return Ok(Err(Refusal::Unreadable)),
        about => about?,
    };
    match FileType::from_raw_mode(about.st_mode) {
        FileType::RegularFile | FileType::Directory => {}
        FileType::Symlink => return Ok(Err(Refusal::Link)),
        _ => return Ok(Err(Refusal::Special)),
    }
    let quietly =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match openat(folder, name, quietly, Mode::empty()) {
        Ok(file) => Ok(Ok(file)),
        Err(Errno::LOOP) => Ok(Err(Refusal::Link)),
        Err(Errno::NXIO) => Ok(Err(Refusal::Special)),
        Err(Errno::ACCESS | Errno::PERM) => Ok(Err(Refusal::Unreadable)),
        Err(errno) => Err(errno.into()),
    }
}

/// A file that is not there yet.
pub(super) fn create(folder: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(File::from(openat(folder, name, flags, Mode::from_raw_mode(0o600))?))
}

/// A folder that is not there yet, which all may read.
pub(super) fn make_folder(at: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    mkdirat(at, name, Mode::RWXU)?;
    let made = openat(at, name, FOLDER, Mode::empty())?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?; // whatever the umask
    Ok(made)
}
