//! The lock that keeps two runners from serving one session.
//!
//! It is advisory and lies in the container's own half, so it guards against mistakes only; the
//! fenced commit is what keeps a second runner from doing harm.

use std::fs::{File, OpenOptions};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::exit::Exit;
use crate::say::say;

/// Takes the lock for as long as the returned guard lives. The file is opened close-on-exec, so no
/// program of a provider can inherit it and outlive us with it.
pub(crate) fn take(path: &Path) -> Result<Flock<File>, Exit> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(
        |error| {
            say!("could not open {}: {error}", path.display());
            Exit::System
        },
    )?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => {
            say!("another runner holds {}: it serves this session already", path.display());
            Exit::Locked
        }
        other => {
            say!("could not lock {}: {other}", path.display());
            Exit::System
        }
    })
}
