//! This process's one hand on `outbound.db`.
//!
//! POSIX locks belong to the process, and closing any descriptor of a file drops them all, so at
//! most one connection is open at a time: every use goes through [`Outbox::with`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use twobox_shared::ids::RunnerId;
use twobox_shared::open::{self, BoxError};
use twobox_shared::outbox::OutboxWriter;

use crate::args::Options;
use crate::exit::Exit;
use crate::ground::Ground;
use crate::patience::Patience;

/// The outbox, opened for each operation and closed after it.
#[derive(Debug)]
pub(crate) struct Outbox {
    path: PathBuf,
    runner: RunnerId,
    ground: Arc<Ground>,
    /// How large its pages are to be, should it have to be made.
    page_size: Option<u32>,
    door: Mutex<()>,
}

impl Outbox {
    /// Nobody else in this process may have the inbox open meanwhile.
    pub(crate) fn new(options: &Options, ground: Arc<Ground>) -> Self {
        let path = options.paths.outbound_db();
        let page_size = open::page_size_of_inbox(&options.paths.inbound_db());
        Self { path, runner: options.runner, ground, page_size, door: Mutex::new(()) }
    }

    /// The folders that it lies in, with the inbox.
    pub(crate) fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Runs `work` on a fresh connection.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&mut OutboxWriter) -> Result<T, BoxError>,
    ) -> Result<T, BoxError> {
        // Nothing is kept behind the lock that a panic could have left half done.
        let _alone = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut OutboxWriter::open_with_pages(&self.path, self.runner, self.page_size)?)
    }

    /// Runs `work`, which only reads, on a fresh connection that does not wake the host.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&OutboxWriter) -> Result<T, BoxError>,
    ) -> Result<T, BoxError> {
        let _alone = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        work(&OutboxWriter::open_to_read(&self.path, self.runner, self.page_size)?)
    }

    /// Rolls back a commit that somebody did not survive. Whoever uses the outbox right now has
    /// just done that.
    pub(crate) fn repair(&self) {
        let _alone = match self.door.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        // An error shows up again, and is reported, where the outbox is needed.
        drop(OutboxWriter::open_to_read(&self.path, self.runner, self.page_size));
    }

    /// Runs `work` until it succeeds, with pauses, for as long as `go_on` says. `None` when it said
    /// no: nothing was written.
    ///
    /// # Errors
    /// The reason to leave: the claims were taken away, or the file is beyond help.
    pub(crate) fn insist<T>(
        &self,
        go_on: impl Fn() -> bool,
        mut work: impl FnMut(&mut OutboxWriter) -> Result<T, BoxError>,
    ) -> Result<Option<T>, Exit> {
        until_done(&self.ground, go_on, || self.with(&mut work))
    }

    /// As [`Outbox::insist`], for work that only reads, as [`Outbox::read`].
    ///
    /// # Errors
    /// The file is beyond help.
    pub(crate) fn insist_on_reading<T>(
        &self,
        go_on: impl Fn() -> bool,
        mut work: impl FnMut(&OutboxWriter) -> Result<T, BoxError>,
    ) -> Result<Option<T>, Exit> {
        until_done(&self.ground, go_on, || self.read(&mut work))
    }
}

/// Tries until it works, with pauses, for as long as `go_on` says. `None` when it said no.
///
/// # Errors
/// The reason to leave, where another try cannot help.
pub(crate) fn until_done<T>(
    ground: &Ground,
    go_on: impl Fn() -> bool,
    mut attempt: impl FnMut() -> Result<T, BoxError>,
) -> Result<Option<T>, Exit> {
    let mut patience = Patience::default();
    loop {
        match attempt() {
            Ok(done) => {
                patience.succeeded();
                return Ok(Some(done));
            }
            Err(error) => {
                ground.check()?;
                let pause = patience.failed(&error)?;
                if !go_on() {
                    return Ok(None);
                }
                std::thread::sleep(pause);
            }
        }
    }
}
