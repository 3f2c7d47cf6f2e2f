//! The sign of life, on a timer of its own: *the process lives* and *the turn makes progress* are
//! two things, and this is the first.

use std::fs::{FileTimes, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::time::UnixMillis;

use crate::args::Options;
use crate::exit::Exit;
use crate::outbox::Outbox;
use crate::say::say;
use crate::signals::spawn;

/// Starts the thread. At each beat it also opens the outbox, which rolls back a commit that another
/// process of this container began and did not survive: the host may not. Whatever the main thread
/// is busy with, a session whose folder is gone ends the process: nothing can be committed any more.
pub(crate) fn start(options: &Options, outbox: Arc<Outbox>) -> Result<(), Exit> {
    let (file, pause) = (options.paths.heartbeat(), options.heartbeat);
    spawn("heartbeat", move || {
        let mut failing = false;
        loop {
            if outbox.ground().check().is_err() {
                std::process::exit(Exit::Gone.code().into());
            }
            let beat = touch(&file, SystemClock.now());
            if let Err(error) = &beat
                && !failing
            {
                say!("could not touch {}: {error}", file.display());
            }
            failing = beat.is_err();
            outbox.repair();
            std::thread::sleep(pause);
        }
    })
}

/// The time is set by hand: opening a file for writing changes nothing by itself.
fn touch(file: &Path, now: UnixMillis) -> io::Result<()> {
    let age = std::time::Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(file)?
        .set_times(FileTimes::new().set_modified(std::time::UNIX_EPOCH + age))
}
