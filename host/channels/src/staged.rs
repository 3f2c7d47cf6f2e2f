//! The files that came with a message, while it is handed in: sessions have copies of their own once it is
//! accepted.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::runtime::Handle;
use twobox_model::incoming::IncomingFile;
use twobox_shared::ids::{IdSource, SystemIds};
use twobox_system::blocking::blocking;

use crate::parcel::remove;

pub use twobox_model::incoming::FILES_MAX;

/// Files of one message. Dropped, they are gone.
#[derive(Debug)]
pub struct Staged {
    folder: PathBuf,
    is_made: bool,
    files: Vec<IncomingFile>,
}

impl Staged {
    /// None yet. What comes lies below `scratch`, which is [`crate::kinds::Setup::scratch`].
    pub fn new(scratch: &Path) -> Self {
        let folder = scratch.join(SystemIds.uuid().to_string());
        Self { folder, is_made: false, files: Vec::new() }
    }

    /// One that came, which whoever sent it calls `name`.
    ///
    /// # Errors
    /// What is wrong on this side, such as a full disk: later it may do.
    pub async fn put(&mut self, name: &str, content: Bytes) -> io::Result<()> {
        let at = self.folder.join(self.files.len().to_string());
        let (folder, path) = (self.folder.clone(), at.clone());
        self.is_made = true;
        blocking(move || {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600).open(path)?.write_all(&content)
        })
        .await?;
        self.files.push(IncomingFile { name: name.to_owned(), at: Ok(at) });
        Ok(())
    }

    /// One that did not come, and why, for people.
    pub fn missing(&mut self, name: &str, why: impl Into<String>) {
        self.files.push(IncomingFile { name: name.to_owned(), at: Err(why.into()) });
    }

    /// How many there are, those that did not come among them.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// For [`twobox_model::channel::Inbound::files`].
    pub fn files(&self) -> Vec<IncomingFile> {
        self.files.clone()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_made {
            return;
        }
        let folder = std::mem::take(&mut self.folder);
        match Handle::try_current() {
            // What the end of the host leaves, its next start removes.
            Ok(runtime) => drop(runtime.spawn_blocking(move || remove(&folder))),
            Err(_) => remove(&folder),
        }
    }
}

/// Why a file of `size` bytes is not fetched, if it is larger than `most`.
pub fn too_large(size: u64, most: u64) -> Option<String> {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    (size > most).then(|| format!("it has {} MiB, and {} are taken", mib(size), mib(most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_there_as_long_as_they_are_handed_in() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut staged = Staged::new(dir.path());
        runtime.block_on(staged.put("../a", Bytes::from_static(b"one"))).unwrap();
        staged.missing("b", "it is gone");
        runtime.block_on(staged.put("../a", Bytes::from_static(b"two"))).unwrap();
        let files = staged.files();
        let read = |index: usize| std::fs::read_to_string(files[index].at.as_ref().unwrap());
        assert_eq!((read(0).unwrap(), read(2).unwrap()), ("one".to_owned(), "two".to_owned()));
        assert_eq!((files[0].name.as_str(), &files[1].at), ("../a", &Err("it is gone".to_owned())));
        drop(staged);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        drop(Staged::new(dir.path()));
    }

    #[test]
    fn what_is_too_large_is_told_by_its_size() {
        assert_eq!(too_large(20 << 20, 20 << 20), None);
        let why = too_large((20 << 20) + 1, 20 << 20).unwrap();
        assert_eq!(why, "it has 21 MiB, and 20 are taken");
    }
}
