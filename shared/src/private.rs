//! New files are for their owner alone.

use nix::sys::stat::{Mode, umask};

/// What nobody but the owner gets of a new file or folder.
const OTHERS: Mode = Mode::S_IRWXG.union(Mode::S_IRWXO);

/// Closes to others whatever this process makes from now on, and whatever the programs make that it
/// starts. The first thing that every binary does: the umask that it was started with is somebody
/// else's choice, and SQLite asks for files that all may read. What is meant for others is opened to
/// them by whoever makes it.
pub fn close_new_files() {
    umask(OTHERS);
}
