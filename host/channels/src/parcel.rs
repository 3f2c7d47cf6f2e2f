//! The files that come with a message, where its program can read them.
//!
//! They lie where a container writes: it can put a link where a file was, or exchange a file while it
//! is read. So no path into that folder is handed on. Each file is copied, as far as it is one, into a
//! folder of the host's own, which is there for one message and goes with its program. What cannot be
//! copied keeps no message: the program is told why.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use serde::Serialize;
use tokio::runtime::Handle;
use twobox_shared::ids::MessageId;

use twobox_model::channel::Shelf;
use twobox_system::blocking::blocking;
use twobox_system::errno::is_shortage;

/// How many bytes the files of one message have together.
pub(super) const BYTES_MAX: u64 = 64 << 20;

/// How many names of one message are looked at: a row has room for some hundred thousand.
pub(super) const FILES_MAX: usize = 64;

/// How long copying may take, for all files of a message.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A file as the program is told of it: where it lies, or why it does not.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Attachment {
    /// Its name, by the container's word.
    pub(crate) name: String,
    pub(crate) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// The files of one message. Dropped, they are gone.
#[derive(Debug)]
pub(crate) struct Parcel {
    folder: Option<PathBuf>,
    pub(crate) attachments: Vec<Attachment>,
}

impl Parcel {
    /// Without anything in it.
    pub(crate) fn empty() -> Self {
        Self { folder: None, attachments: Vec::new() }
    }

    /// Copies the files that are called `names` from `shelf` into `folder`, which is made for them.
    /// Blocks, for [`PATIENCE`] and no longer than one read of a local file takes.
    ///
    /// # Errors
    /// What is wrong on this side, such as a full disk: later it may do.
    pub(crate) fn pack(folder: &Path, shelf: &Shelf, names: &[String]) -> io::Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut parcel = Self { folder: Some(folder.to_owned()), attachments: Vec::new() };
        let row = open_shelf(shelf)?;
        let mut seen: HashMap<&str, Result<String, String>> = HashMap::new();
        let mut room = BYTES_MAX;
        for name in names.iter().take(FILES_MAX) {
            let copied = match (seen.get(name.as_str()), &row) {
                (Some(copied), _) => copied.clone(),
                (None, Err(reason)) => Err(reason.clone()),
                (None, Ok(row)) => copy(row, name, folder, &mut room, deadline)?,
            };
            seen.insert(name, copied.clone());
            parcel.attachments.push(Attachment {
                name: name.clone(),
                path: copied.as_ref().ok().cloned(),
                error: copied.err(),
            });
        }
        if let Some(more) = names.len().checked_sub(FILES_MAX).filter(|more| *more > 0) {
            parcel.attachments.push(Attachment {
                name: format!("{more} more"),
                path: None,
                error: Some(format!("a message has {FILES_MAX} files at most")),
            });
        }
        Ok(parcel)
    }

    /// Removes them, on a thread that may block.
    pub(crate) async fn end(mut self) {
        if let Some(folder) = self.folder.take() {
            blocking(move || remove(&folder)).await;
        }
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        let Some(folder) = self.folder.take() else { return };
        match Handle::try_current() {
            // What the end of the host leaves, its next start removes.
            Ok(runtime) => drop(runtime.spawn_blocking(move || remove(&folder))),
            Err(_) => remove(&folder),
        }
    }
}

/// Removes `folder` with what is in it, if it is there.
pub(crate) fn remove(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error,
                "files of a message are left: the next start of the host removes them");
        }
        _ => {}
    }
}

/// Opens the folder of the row. Its base is the host's own; below that, each step is the container's
/// word and follows no link. Step by step rather than by `openat2`, which the seccomp profiles of
/// older engines refuse to a host that runs in a container itself.
fn open_shelf(shelf: &Shelf) -> io::Result<Result<OwnedFd, String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = match openat(CWD, &shelf.base, flags, Mode::empty()) {
        Ok(base) => base,
        Err(error) => return whose(error).map(Err),
    };
    for step in shelf.within.components() {
        let Component::Normal(step) = step else {
            return Ok(Err("its folder has no name".to_owned()));
        };
        folder = match openat(&folder, step, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(folder) => folder,
            Err(error) => return whose(error).map(Err),
        };
    }
    Ok(Ok(folder))
}

/// Copies one file. The inner error is what is wrong with it, the outer one what is wrong here.
fn copy(
    row: &OwnedFd,
    name: &str,
    folder: &Path,
    room: &mut u64,
    deadline: Instant,
) -> io::Result<Result<String, String>> {
    // A name that is fit for a message id is fit for a file: it is one step, and no control character.
    if let Err(error) = MessageId::parse(name) {
        return Ok(Err(format!("its name cannot be used: {error}")));
    }
    let path = folder.join(name);
    let Some(told) = path.to_str().map(str::to_owned) else {
        return Ok(Err("the path of the data directory is not UTF-8".to_owned()));
    };
    let mut source = match open(row, name, *room)? {
        Ok(source) => source,
        Err(reason) => return Ok(Err(reason)),
    };
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let wrong = fill(&mut source, &mut target, room, deadline)?;
    Ok(match wrong {
        None => Ok(told),
        Some(reason) => {
            std::fs::remove_file(&path)?;
            Err(reason)
        }
    })
}

/// Opens a file, and nothing else that may have its name: a pipe would be waited for, and a second
/// link may be one to a file that the container cannot read itself.
fn open(row: &OwnedFd, name: &str, room: u64) -> io::Result<Result<File, String>> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(row.as_fd(), name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(error) => return whose(error).map(Err),
    };
    let stat = fstat(&file)?;
    Ok(match (FileType::from_raw_mode(stat.st_mode), stat.st_nlink) {
        (FileType::RegularFile, 1) if u64::try_from(stat.st_size).is_ok_and(|size| size > room) => {
            Err(too_large())
        }
        (FileType::RegularFile, 1) => Ok(File::from(file)),
        (FileType::RegularFile, _) => Err("it has other links".to_owned()),
        _ => Err("it is not a regular file".to_owned()),
    })
}

fn too_large() -> String {
    format!("with it the files of the message would have more than {BYTES_MAX} bytes")
}

/// Copies `source`, whatever becomes of it meanwhile, as long as there is room and time. Returns what is
/// wrong with it.
fn fill(
    source: &mut File,
    target: &mut File,
    room: &mut u64,
    deadline: Instant,
) -> io::Result<Option<String>> {
    let mut buffer = vec![0; 1 << 18];
    let mut copied = 0;
    loop {
        if Instant::now() >= deadline {
            return Ok(Some("it could not be copied in time".to_owned()));
        }
        let length = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let errno = Errno::from_io_error(&error);
                return match errno {
                    Some(errno) => {
                        whose(errno).map(|why| Some(format!("it could not be read: {why}")))
                    }
                    None => Err(error),
                };
            }
        };
        copied += length as u64;
        if copied > *room {
            return Ok(Some(too_large())); // it has grown
        }
        target.write_all(&buffer[..length])?;
    }
    *room -= copied;
    Ok(None)
}

/// What is wrong with a file of a container, or, as an error, with this host and its disk: then the same
/// file may do later.
fn whose(error: Errno) -> io::Result<String> {
    match error {
        error if is_shortage(&error.into()) => Err(error.into()),
        Errno::LOOP => Ok("it is a symbolic link".to_owned()),
        Errno::NOTDIR => Ok("its folder is none, or a symbolic link".to_owned()),
        error => Ok(io::Error::from(error).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_of_the_host_is_no_fault_of_a_file() {
        for ours in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO] {
            assert!(whose(ours).is_err(), "{ours}");
        }
        for theirs in [Errno::NOENT, Errno::LOOP, Errno::NOTDIR, Errno::ACCESS] {
            assert!(whose(theirs).is_ok(), "{theirs}");
        }
    }
}
