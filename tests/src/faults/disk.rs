//! A small disk: a tmpfs that can be filled and made read-only.
//!
//! It is mounted in a mount namespace of the test's own, which its children share. Nobody else sees
//! it, and it is gone when they are, however they end.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::scenario::skipped;

/// What of a data directory lies on the small disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Everything,
    /// The folders of the sessions.
    Sessions,
    /// The host's database.
    HostDb,
}

/// A mounted small disk. Unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    root: PathBuf,
}

/// Whether this process may mount; otherwise it says so.
///
/// # Panics
/// If it may not, and `TWOBOX_REQUIRE_FAULTS` is set.
pub fn available() -> bool {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let entered = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(None::<&str>, "/", None::<&str>, private, None::<&str>));
    match entered {
        Ok(()) => true,
        Err(error) => {
            skipped("TWOBOX_REQUIRE_FAULTS", &format!("nothing can be mounted here: {error}"));
            false
        }
    }
}

impl SmallDisk {
    /// Mounts one of `mib` MiB at `root`, which exists. Only where it is [`available`].
    pub(crate) fn mount(root: &Path, mib: u32) -> Self {
        let options = format!("size={mib}m,mode=0700");
        let flags = MsFlags::MS_NOSUID;
        mount(Some("tmpfs"), root, Some("tmpfs"), flags, Some(options.as_str())).unwrap();
        Self { root: root.to_owned() }
    }

    /// Mounts one over the folder `root` and puts the folder's files on it. Whoever has opened or
    /// watches the folder keeps the one beneath.
    pub fn over(root: &Path, mib: u32) -> Self {
        let held = tempfile::tempdir().unwrap();
        let copy = |from: &Path, to: &Path| {
            for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
                }
            }
        };
        copy(root, held.path());
        let disk = Self::mount(root, mib);
        copy(held.path(), root);
        disk
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    /// Writes until nothing more fits.
    pub fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        let block = [0x55; 4096];
        loop {
            match ballast.write(&block) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("could not fill the disk: {error}"),
            }
        }
    }

    /// Gives the space back.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// Makes it read-only; `None` while somebody has a file on it open for writing.
    pub fn try_read_only(&self) -> Option<()> {
        match self.remount(MsFlags::MS_RDONLY) {
            Ok(()) => Some(()),
            Err(Errno::EBUSY) => None,
            Err(error) => panic!("could not remount: {error}"),
        }
    }

    /// Makes it writable again.
    pub fn make_writable(&self) {
        self.remount(MsFlags::empty()).unwrap();
    }

    fn remount(&self, how: MsFlags) -> nix::Result<()> {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | how;
        mount(None::<&str>, &self.root, None::<&str>, flags, None::<&str>)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // If it fails, the end of the namespace does it.
        umount2(&self.root, MntFlags::MNT_DETACH).ok();
    }
}
