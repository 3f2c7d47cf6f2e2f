//! Copying a dead container's database and hot journal to a private folder, so that SQLite can
//! roll the copy back without touching a file that a container named.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::open::{BoxError, regular_file};
use crate::paths::OUTBOUND_DB;

/// The last eight bytes of a journal that names a super-journal
/// (<https://sqlite.org/fileformat.html>, "the rollback journal"): rolling one back unlinks it.
const SUPER_JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Copies database and journal into `scratch` and returns the copy's path.
///
/// # Errors
/// [`BoxError::Refused`] for a super-journal trailer or files beyond `quota` bytes in sum,
/// [`BoxError::Io`] for anything that is not a regular file with one link.
pub(crate) fn copy(database: &Path, scratch: &Path, quota: u64) -> Result<PathBuf, BoxError> {
    let journal = with_suffix(database, "-journal");
    let (copy, journal_copy) = {
        let copy = scratch.join(OUTBOUND_DB);
        let journal_copy = with_suffix(&copy, "-journal");
        (copy, journal_copy)
    };
    let used = copy_file(database, &copy, quota)?;
    let journal_file =
        regular_file(&journal).map_err(|source| io_error("open", &journal, source))?;
    refuse_super_journal(journal_file, &journal)?;
    copy_file(&journal, &journal_copy, quota.saturating_sub(used))?;
    defuse(&journal_copy)?;
    Ok(copy)
}

fn copy_file(from: &Path, to: &Path, quota: u64) -> Result<u64, BoxError> {
    let source = regular_file(from).map_err(|error| io_error("open", from, error))?;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| io_error("create", to, error))?;
    // One byte more than allowed shows that there is more.
    let copied = io::copy(&mut source.take(quota.saturating_add(1)), &mut target)
        .map_err(|error| io_error("copy", from, error))?;
    if copied > quota {
        return Err(BoxError::Refused {
            reason: format!("{} is larger than the quota of {quota} bytes", from.display()),
        });
    }
    Ok(copied)
}

fn refuse_super_journal(mut journal: File, path: &Path) -> Result<(), BoxError> {
    let mut trailer = [0; 8];
    let read = journal
        .seek(SeekFrom::End(-8))
        .and_then(|_| journal.read_exact(&mut trailer))
        .or_else(|error| match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => Ok(()), // under 8 bytes
            _ => Err(error),
        });
    read.map_err(|source| io_error("read", path, source))?;
    if trailer == SUPER_JOURNAL_MAGIC {
        return Err(BoxError::Refused {
            reason: "the journal names a super-journal, which no runner writes".to_owned(),
        });
    }
    Ok(())
}

/// Eight zero bytes at the end: whatever stood there before is no trailer any more, should the file
/// have changed between the look and the copy.
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
    BoxError::Io { action, path: path.to_owned(), source }
}
