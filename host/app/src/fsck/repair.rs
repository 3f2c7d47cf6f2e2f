//! What `--repair` does. Each step is safe by itself, changes nothing the second time, and never
//! touches the outbox. The caller holds the data directory's lock, so no host runs; a container may
//! live, so nothing in `out/` is believed and no link is followed.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use twobox_shared::ids::SessionId;
use twobox_shared::inbox::Inbox;
use twobox_shared::open::BoxError;
use twobox_shared::paths::SessionPaths;

use super::files::LOST_AND_FOUND;
use super::finding::Repair;
use twobox_store::{DbError, Store};
use twobox_system::data::HostLock;

/// Why a repair did not happen.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The inbox.
    #[error(transparent)]
    Box(#[from] BoxError),
    /// `host.db`.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The operating system refused.
    #[error("could not {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl Repair {
    /// What it does, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::CloseToOthers(path) => {
                format!("take the right to write {} from group and others", shown(path))
            }
            Self::MoveAside(path) => format!("move {} to {LOST_AND_FOUND}/", shown(path)),
            Self::MarkDue => {
                "mark the session as due, so that the host's next sweep takes it in".to_owned()
            }
            Self::WriteCursor(cursor) => format!(
                "write the cursor: settled up to {}, read up to {}",
                cursor.seq.0, cursor.seen.0
            ),
            Self::MigrateInbox => "bring the inbox to this build's version".to_owned(),
        }
    }

    /// Carries it out in the session's `folder`. Doing it again changes nothing more.
    ///
    /// # Errors
    /// [`RepairError`]; nothing was changed.
    pub fn apply(
        &self,
        _no_host_runs: &HostLock,
        store: &Store,
        session: SessionId,
        folder: &Path,
    ) -> Result<(), RepairError> {
        let inbox = || SessionPaths::of_folder(folder).inbound_db();
        match self {
            Self::CloseToOthers(path) => {
                let path = if path.as_os_str().is_empty() { folder } else { &folder.join(path) };
                close_to_others(path).map_err(failed("change the permissions of", path))
            }
            Self::MoveAside(path) => move_aside(folder, path),
            Self::MarkDue => Ok(store.sessions().mark_due(session).wait().map(|_| ())?),
            Self::WriteCursor(cursor) => {
                let mut inbox = Inbox::open(&inbox())?;
                let tx = inbox.write()?;
                tx.advance(*cursor)?;
                Ok(tx.commit()?)
            }
            Self::MigrateInbox => Ok(Inbox::open(&inbox()).map(drop)?),
        }
    }
}

fn shown(path: &Path) -> String {
    match path.as_os_str().is_empty() {
        true => "the session's folder".to_owned(),
        false => path.display().to_string(),
    }
}

/// Through a descriptor, so that nobody can put a link in the way.
fn close_to_others(path: &Path) -> io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    if !(meta.is_file() || meta.is_dir()) {
        return Err(io::Error::other("it is neither a file nor a folder any more"));
    }
    file.set_permissions(Permissions::from_mode(meta.permissions().mode() & 0o7777 & !0o022))
}

/// A rename, which follows no link and copies nothing.
fn move_aside(folder: &Path, path: &Path) -> Result<(), RepairError> {
    let shelf = folder.join(LOST_AND_FOUND);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&shelf)
        .map_err(failed("create", &shelf))?;
    let from = folder.join(path);
    let name = path.to_string_lossy().replace('/', "-");
    let to = (0..)
        .map(|n| match n {
            0 => shelf.join(&name),
            n => shelf.join(format!("{name}.{n}")),
        })
        .find(|to| to.symlink_metadata().is_err())
        .expect("some number is free");
    match std::fs::rename(&from, &to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()), // it is gone by itself
        moved => moved.map_err(failed("move", &from)),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RepairError {
    let path = path.to_owned();
    move |source| RepairError::Io { action, path, source }
}
