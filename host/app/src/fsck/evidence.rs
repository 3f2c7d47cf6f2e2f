//! What the checks judge, read once: the folder's entries, both boxes, and the row in `host.db`.
//! The outbox is read first and `host.db` last, so that what one names the other may know already.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use twobox_shared::audit::{self, InboxAudit, OutboxAudit};
use twobox_shared::ids::SessionId;
use twobox_shared::open::BoxError;
use twobox_shared::paths::SessionPaths;
use twobox_shared::time::UnixMillis;

use twobox_store::Store;
use twobox_store::examined::SessionFacts;

/// How long one box may be read while a host works: shorter than what costs a container its life
/// (`open::WRITE_PATIENCE`).
const BESIDE_A_HOST: Duration = Duration::from_secs(1);
const _: () = assert!(BESIDE_A_HOST.as_secs() < twobox_shared::open::WRITE_PATIENCE.as_secs());

/// How long one box may be read when nobody waits.
const ALONE: Duration = Duration::from_secs(60);

/// A mark that is no further away than this is as good as "now".
const SOON: Duration = Duration::from_secs(60);

/// What stands in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A FIFO, a socket or a device.
    Other,
}

/// One entry of the session's folder, down to what the protocol names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the session's folder; empty for the folder itself.
    pub path: PathBuf,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// Whose.
    pub uid: u32,
    /// How many names it has.
    pub links: u64,
}

/// Everything that is known of one session.
#[derive(Debug)]
pub struct Evidence {
    /// When it was read.
    pub now: UnixMillis,
    /// Whether a host runs on the data directory.
    pub host_runs: bool,
    /// The host's user.
    pub owner: u32,
    /// The session's folder.
    pub folder: PathBuf,
    /// What is in it; `None` if it is not there.
    pub entries: Option<Vec<Entry>>,
    /// The inbox.
    pub inbox: Result<Option<InboxAudit>, BoxError>,
    /// The outbox.
    pub outbox: Result<Option<OutboxAudit>, BoxError>,
    /// The row in `host.db`.
    pub session: SessionFacts,
}

impl Evidence {
    /// Whether somebody will look at the session soon by itself.
    pub fn is_marked(&self) -> bool {
        self.session.next_due.is_some_and(|due| due <= self.now + SOON)
    }

    /// Whether a host may be making the session just now.
    pub fn is_young(&self) -> bool {
        self.host_runs && self.now.since(self.session.last_active) < SOON
    }
}

/// Where a session is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The session's folder, canonical.
    pub folder: &'a Path,
    /// The host's user.
    pub owner: u32,
    /// Whether a host runs on the data directory.
    pub host_runs: bool,
}

/// Reads everything about one session.
///
/// # Errors
/// What keeps `host.db` from being read; trouble with the session's own files is evidence.
pub fn gather(
    store: &Store,
    session: SessionId,
    place: Place<'_>,
    now: UnixMillis,
) -> Result<Option<Evidence>, twobox_store::DbError> {
    let entries = entries(place.folder);
    let paths = SessionPaths::of_folder(place.folder);
    let patience = if place.host_runs { BESIDE_A_HOST } else { ALONE };
    let plain = |path: &Path| match path.symlink_metadata() {
        Ok(meta) => meta.is_file() && meta.nlink() == 1,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    let outbox = audit::outbox(&paths.outbound_db(), patience);
    let inbox = match plain(&paths.inbound_db()) {
        true => audit::inbox(&paths.inbound_db(), patience),
        false => Err(BoxError::Refused { reason: "it is not a plain file".to_owned() }),
    };
    let Some(session) = store.sessions().facts(session).wait()? else { return Ok(None) };
    Ok(Some(Evidence {
        now,
        host_runs: place.host_runs,
        owner: place.owner,
        folder: place.folder.to_owned(),
        entries,
        inbox,
        outbox,
        session,
    }))
}

/// The folder, its entries, and those of its halves. What is deeper belongs to whoever wrote it.
fn entries(folder: &Path) -> Option<Vec<Entry>> {
    let mut found = vec![entry(folder, PathBuf::new())?];
    for inside in ["", "in", "out"] {
        let here = folder.join(inside);
        // A half that is a link leads elsewhere.
        if !here.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            continue;
        }
        let Ok(names) = std::fs::read_dir(&here) else { continue };
        let mut names: Vec<_> = names.flatten().map(|name| name.file_name()).collect();
        names.sort();
        found.extend(names.iter().filter_map(|name| {
            let path = Path::new(inside).join(name);
            entry(&folder.join(&path), path)
        }));
    }
    Some(found)
}

/// `None` if it vanished.
fn entry(at: &Path, path: PathBuf) -> Option<Entry> {
    let meta = at.symlink_metadata().ok()?;
    let kind = meta.file_type();
    Some(Entry {
        path,
        kind: match () {
            () if kind.is_file() => FileKind::File,
            () if kind.is_dir() => FileKind::Folder,
            () if kind.is_symlink() => FileKind::Link,
            () => FileKind::Other,
        },
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        links: meta.nlink(),
    })
}
