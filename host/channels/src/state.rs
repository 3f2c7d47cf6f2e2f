//! What an instance keeps from one life to the next: one file in a folder of the data directory that no
//! container sees, open to its owner alone, and replaced as a whole: nobody reads half of it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most bytes of a file that are read.
pub(crate) const FILE_MAX: u64 = 8 << 20;

/// The folder of the instance with the id `id`, in a data directory.
pub(crate) fn folder(data: &Path, id: &str) -> PathBuf {
    data.join("channels").join(id)
}

/// The file in `folder`.
pub(crate) fn file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

/// Reads the file at `path`; one that is not there says nothing. Blocks.
///
/// # Errors
/// Why it cannot be read, for people, with what to do: `remedy` says what follows if it is removed.
pub(crate) fn read<T: Default + DeserializeOwned>(path: &Path, remedy: &str) -> Result<T, String> {
    let failed = |why: String| {
        format!("cannot read {}: {why}; mend it, or remove it: {remedy}", path.display())
    };
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let opened = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        opened => opened.map_err(|error| failed(error.to_string()))?,
    };
    let mut bytes = Vec::new();
    let read = opened.take(FILE_MAX).read_to_end(&mut bytes);
    read.map_err(|error| failed(error.to_string()))?;
    // The error names a place in the file, and no word of it.
    serde_json::from_slice(&bytes).map_err(|error| {
        failed(format!("it is damaged at line {}, column {}", error.line(), error.column()))
    })
}

/// Writes the file in `folder`, which need not be there. Returns when it is on the disk. Blocks.
///
/// # Errors
/// The system's reason.
pub(crate) fn write(folder: &Path, state: &impl Serialize) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let fresh = folder.join("state.fresh");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    opened.write_all(&serde_json::to_vec(state).expect("text and numbers always serialise"))?;
    opened.sync_all()?;
    std::fs::rename(&fresh, file(folder))?;
    File::open(folder)?.sync_all()
}
