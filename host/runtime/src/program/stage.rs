//! Where a program is put together before it is one.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use super::copy::{FOLDER, make_folder};
use super::{ProgramError, failed};
use twobox_system::remove_tree::remove_tree;

/// Its name among the programs. No agent has a name that begins like this.
pub(super) const STAGE: &str = ".stage";

/// How long a command waits for another one that changes programs.
const PATIENCE: Duration = Duration::from_secs(10);

/// An empty folder on the file system of the programs, for one command at a time. What is left in it
/// is deleted at the end, or by the next one if this one dies.
#[derive(Debug)]
pub(super) struct Stage {
    /// The folder with all programs, locked.
    pub(super) programs: OwnedFd,
    pub(super) folder: OwnedFd,
    path: PathBuf,
}

impl Stage {
    /// In `programs`, which is made if it is not there.
    pub(super) fn open(programs: &Path) -> Result<Self, ProgramError> {
        use std::os::unix::fs::DirBuilderExt;
        let create = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(programs);
        create.map_err(failed("create", programs))?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = open(programs, flags, Mode::empty()).map_err(failed("open", programs))?;
        let end = Instant::now() + PATIENCE;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(ProgramError::Busy { path: programs.to_owned() });
                }
                Err(errno) => return Err(failed("lock", programs)(errno)),
            }
        }
        let path = programs.join(STAGE);
        remove_tree(&path).map_err(failed("clear", &path))?;
        let folder = make_folder(&lock, STAGE.as_ref()).map_err(failed("create", &path))?;
        Ok(Self { programs: lock, folder, path })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "could not clear a stage");
        }
    }
}

/// The folder `name` in `at`, itself and not through a link.
pub(super) fn enter(at: &OwnedFd, name: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(at, name, FOLDER, Mode::empty())
}
