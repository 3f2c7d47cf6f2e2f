//! The folder: what stands in it, what kind of thing it is, and who may write it.

use std::path::Path;

use super::evidence::{Entry, FileKind};
use super::finding::{Finding, Name, Repair};
use twobox_session::stamp;

/// Who writes an entry, which says how open it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The host alone: a container that could write it could talk to itself.
    Host,
    /// The container, or a log: what its own group may do is its business.
    Container,
}

/// Everything that the protocol and the host put into a session's folder.
const KNOWN: &[(&str, FileKind, Owner)] = &[
    ("", FileKind::Folder, Owner::Host),
    ("in", FileKind::Folder, Owner::Host),
    ("in/inbound.db", FileKind::File, Owner::Host),
    ("in/inbound.db-journal", FileKind::File, Owner::Host),
    ("in/agent.json", FileKind::File, Owner::Host),
    ("in/agent.json.new", FileKind::File, Owner::Host), // a host died while it wrote it
    ("in/gateway.sock", FileKind::Other, Owner::Host),  // a socket
    ("in/gateway.sock.new", FileKind::Other, Owner::Host), // a host died while it made it
    ("in/inbox", FileKind::Folder, Owner::Host),
    ("out", FileKind::Folder, Owner::Container),
    ("out/outbound.db", FileKind::File, Owner::Container),
    ("out/outbound.db-journal", FileKind::File, Owner::Container),
    ("out/outbox", FileKind::Folder, Owner::Container),
    ("out/heartbeat", FileKind::File, Owner::Container),
    ("out/runner.lock", FileKind::File, Owner::Container),
    ("out/tmp", FileKind::Folder, Owner::Container), // of runners before there was `work`
    ("work", FileKind::Folder, Owner::Container),    // what is in it is the container's business
    // What bubblewrap says of a sandbox; the host gave it the open file.
    ("sandbox.status", FileKind::File, Owner::Host),
    ("runner.log", FileKind::File, Owner::Container),
    ("runner.log.1", FileKind::File, Owner::Container),
    (stamp::FILE, FileKind::File, Owner::Host),
    (LOST_AND_FOUND, FileKind::Folder, Owner::Host),
];

/// Where stray files are moved to.
pub(super) const LOST_AND_FOUND: &str = "lost+found";

fn known(path: &Path) -> Option<(FileKind, Owner)> {
    KNOWN
        .iter()
        .find(|(name, _, _)| Path::new(name) == path)
        .map(|(_, kind, owner)| (*kind, *owner))
}

/// Whether the entry at `path` is what the protocol says, or is not there.
pub(super) fn is_sound(entries: &[Entry], path: &str) -> bool {
    entries.iter().filter(|entry| Path::new(path).starts_with(&entry.path)).all(|entry| {
        known(&entry.path).is_none_or(|(kind, _)| {
            entry.kind == kind && (kind == FileKind::Folder || entry.links == 1)
        })
    })
}

pub(super) fn check(entries: &[Entry], owner: u32, findings: &mut Vec<Finding>) {
    for entry in entries {
        match known(&entry.path) {
            Some((kind, writer)) => findings.extend(known_entry(entry, kind, writer, owner)),
            None if belongs_to_wal(entries, &entry.path) => {}
            None => findings.push(
                Finding::new(
                    Name::StrayFile,
                    entry.path.display(),
                    "nothing of Twobox puts this here. If you did, move it away; if not, look at \
                     what is in it: in out/, the container wrote it",
                )
                .mended_by(Repair::MoveAside(entry.path.clone())),
            ),
        }
    }
}

/// A write-ahead log is told as the wrong journal mode.
fn belongs_to_wal(entries: &[Entry], path: &Path) -> bool {
    ["in/inbound.db", "out/outbound.db"].iter().any(|database| {
        let log = format!("{database}-wal");
        let has_log = entries.iter().any(|entry| entry.path == Path::new(&log));
        has_log && (path == Path::new(&log) || path == Path::new(&format!("{database}-shm")))
    })
}

fn known_entry(entry: &Entry, kind: FileKind, writer: Owner, owner: u32) -> Option<Finding> {
    let object = match entry.path.as_os_str().is_empty() {
        true => "the session's folder".to_owned(),
        false => entry.path.display().to_string(),
    };
    if entry.kind == FileKind::Link {
        return Some(Finding::new(
            Name::SymbolicLink,
            object,
            "a symbolic link stands in its place, which may lead anywhere, and nothing follows it. \
             Look where it leads, then put the real file there or remove the link",
        ));
    }
    if entry.kind != kind {
        let wanted = match kind {
            FileKind::File => "file",
            FileKind::Other => "socket",
            FileKind::Folder | FileKind::Link => "folder",
        };
        let meaning = format!(
            "it is not a {wanted}, and the session cannot work. Move it away; {}",
            "what belongs there is made again, or comes from a backup"
        );
        return Some(Finding::new(Name::WrongFileType, object, meaning));
    }
    if kind == FileKind::File && entry.links > 1 {
        return Some(Finding::new(
            Name::HardLink,
            object,
            "the file has a second name, so somebody else may change it, and it is not read. Find \
             the other with `find -samefile` and remove it, or put a copy in its place",
        ));
    }
    if writer == Owner::Host && entry.uid != owner {
        let meaning = format!(
            "it belongs to user {}, but the host runs as user {owner} and has to be its owner: \
             use `chown`",
            entry.uid
        );
        return Some(Finding::new(Name::WrongOwner, object, meaning));
    }
    let closed = match writer {
        // To write a socket is to connect to it, which the container's user has to.
        Owner::Host if kind == FileKind::Other => 0,
        Owner::Host => 0o022,
        Owner::Container
            if kind == FileKind::Folder
                && ["out", "work"].iter().any(|half| entry.path == Path::new(half)) =>
        {
            0o022
        }
        Owner::Container => 0o002,
    };
    (entry.mode & closed != 0).then(|| {
        let meaning = format!(
            "others than its owner may write it (mode {:o}), so what it says may be anybody's: use \
             `chmod go-w`",
            entry.mode
        );
        Finding::new(Name::WritableByOthers, object, meaning)
            .mended_by(Repair::CloseToOthers(entry.path.clone()))
    })
}
