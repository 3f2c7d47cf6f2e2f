//! Being told that the inbox changed, by the kernel.
//!
//! The *folder* is watched, because the file is written through a journal beside it. The closing of
//! `inbound.db` after a write is the signal, for then the host's lock is gone; the removal of the
//! journal is listened to as well, for hosts that keep a connection open. It comes first: whoever
//! looked at once would wait for the lock and then look a second time.

use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use twobox_shared::paths::INBOUND_DB;

use crate::event::Event;
use crate::say::say;

/// How long after [`Event::Committed`] the inbox is looked at in any case.
pub(crate) const CLOSE_PATIENCE: Duration = Duration::from_millis(5);

/// Watches `in_dir` for as long as the returned watcher lives; `None`, with a line for the operator,
/// if the kernel does not let us, and the inbox has to be polled.
pub(crate) fn watch(in_dir: &Path, events: Sender<Event>) -> Option<RecommendedWatcher> {
    let folder = in_dir.to_owned();
    let deliver = move |seen: notify::Result<notify::Event>| {
        // An error may have swallowed a signal, so it counts as one.
        if let Some(signal) = seen.map_or(Some(Event::Wake), |event| signal(&folder, &event)) {
            drop(events.send(signal)); // nobody listens any more: the process is leaving
        }
    };
    let watching = notify::recommended_watcher(deliver).and_then(|mut watcher| {
        watcher.watch(in_dir, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match watching {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            say!("could not watch {}, so it is polled: {error}", in_dir.display());
            None
        }
    }
}

fn signal(folder: &Path, event: &notify::Event) -> Option<Event> {
    let names = |expected: &str| {
        event.paths.iter().any(|path| path.file_name().is_some_and(|name| name == expected))
    };
    if event.need_rescan() {
        return Some(Event::Wake); // the kernel's queue overflowed: anything may have happened
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) if names(INBOUND_DB) => {
            Some(Event::Wake)
        }
        // The folder is moved or deleted, which the look finds. Because it is held open, its own
        // deletion is announced by that of the file in it.
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
            if event.paths.iter().any(|path| path == folder) =>
        {
            Some(Event::Wake)
        }
        EventKind::Remove(_) if names(INBOUND_DB) => Some(Event::Wake),
        EventKind::Remove(_) if names(&format!("{INBOUND_DB}-journal")) => Some(Event::Committed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::discriminant;

    use notify::event::{Flag, RemoveKind, RenameMode};

    #[test]
    fn only_the_end_of_a_commit_is_a_signal() {
        let (wake, committed) = (Some(Event::Wake), Some(Event::Committed));
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let remove = EventKind::Remove(RemoveKind::File);
        let cases = [
            ("database closed", close, "inbound.db", wake),
            ("journal gone", remove, "inbound.db-journal", committed),
            ("journal closed, locks still held", close, "inbound.db-journal", None),
            ("our own look", open, "inbound.db", None),
            ("database deleted", remove, "inbound.db", Some(Event::Wake)),
            ("attachment", close, "photo.jpg", None),
            ("folder deleted", EventKind::Remove(RemoveKind::Folder), "", Some(Event::Wake)),
            (
                "folder moved",
                EventKind::Modify(ModifyKind::Name(RenameMode::From)),
                "",
                Some(Event::Wake),
            ),
            ("folder read", open, "", None),
        ];
        for (case, kind, name, expected) in cases {
            let path = match name {
                "" => Path::new("/in").to_owned(),
                name => Path::new("/in").join(name),
            };
            let event = notify::Event::new(kind).add_path(path);
            let kind = |event: Option<Event>| event.map(|event| discriminant(&event));
            assert_eq!(kind(signal(Path::new("/in"), &event)), kind(expected), "{case}");
        }
        let rescan = notify::Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(matches!(signal(Path::new("/in"), &rescan), Some(Event::Wake)));
    }
}
