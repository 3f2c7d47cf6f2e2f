//! Copying a dead container's database and hot journal to a private folder, so that SQLite can
//! roll the copy back without touching a file that a container named.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::open::{BoxError, no_plain_file};
use crate::paths::OUTBOUND_DB;

/// The last eight bytes of a journal that names a super-journal
/// (<https://sqlite.org/fileformat.html>, "the rollback journal"): rolling one back unlinks it.
const SUPER_JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Copies the database, and its journal if there is one, into `scratch` and returns the copy's path.
///
/// # Errors
/// [`BoxError::Refused`] for a super-journal trailer, files beyond `quota` bytes in sum, or anything
/// that is not a regular file with one link.
pub(crate) fn copy(database: &Path, scratch: &Path, quota: u64) -> Result<PathBuf, BoxError> {
    let copy = scratch.join(OUTBOUND_DB);
    let used = copy_file(database, &copy, quota)?;
    let journal = with_suffix(database, "-journal");
    match journal.symlink_metadata() {
        // Its container died between two commits.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(copy),
        Err(error) => return Err(io_error("look at", &journal, error)),
        Ok(_) => {}
    }
    let journal_copy = with_suffix(&copy, "-journal");
    copy_file(&journal, &journal_copy, quota.saturating_sub(used))?;
    refuse_super_journal(&journal_copy)?;
    defuse(&journal_copy)?;
    Ok(copy)
}

fn copy_file(from: &Path, to: &Path, quota: u64) -> Result<u64, BoxError> {
    let too_large = || BoxError::Refused {
        reason: format!("{} is larger than the quota of {quota} bytes", from.display()),
    };
    let source = regular_file(from).map_err(|error| io_error("open", from, error))?;
    let length = source.metadata().map_err(|error| io_error("look at", from, error))?.len();
    if length > quota {
        return Err(too_large());
    }
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| io_error("create", to, error))?;
    // One byte more than allowed shows that there is more.
    let copied = io::copy(&mut source.take(quota.saturating_add(1)), &mut target)
        .map_err(|error| io_error("copy", from, error))?;
    match copied > quota {
        true => Err(too_large()),
        false => Ok(copied),
    }
}

/// Opens `path` for reading if it is a regular file with one link, without following a symbolic
/// link and without waiting.
fn regular_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW)
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.nlink() != 1 {
        return Err(io::Error::from_raw_os_error(nix::libc::ELOOP)); // as for a symbolic link
    }
    Ok(file)
}

/// Looks at the copy, which nobody can change any more.
fn refuse_super_journal(journal: &Path) -> Result<(), BoxError> {
    let trailer = || -> io::Result<[u8; 8]> {
        let mut trailer = [0; 8];
        let mut file = File::open(journal)?;
        if file.metadata()?.len() >= 8 {
            file.seek(SeekFrom::End(-8))?;
            file.read_exact(&mut trailer)?;
        }
        Ok(trailer)
    };
    match trailer().map_err(|source| io_error("read", journal, source))? {
        SUPER_JOURNAL_MAGIC => Err(BoxError::Refused {
            reason: "the journal names a super-journal, which no runner writes".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Eight zero bytes at the end: whatever stood there before is no trailer any more. SQLite counts
/// whole records, so they change nothing else.
fn defuse(journal: &Path) -> Result<(), BoxError> {
    OpenOptions::new()
        .append(true)
        .open(journal)
        .and_then(|mut file| file.write_all(&[0; 8]))
        .map_err(|source| io_error("extend", journal, source))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> BoxError {
    match source.raw_os_error() {
        Some(nix::libc::ELOOP | nix::libc::ENXIO | nix::libc::ENODEV) => {
            BoxError::Refused { reason: no_plain_file(path) }
        }
        _ => BoxError::Io { action, path: path.to_owned(), source },
    }
}
