//! Being told that the inbox changed, by the kernel.
//!
//! The *folder* is watched, because the file is written through a journal beside it. The closing of
//! `inbound.db` after a write is the signal, for then the host's lock is gone; the removal of the
//! journal is listened to as well, for hosts that keep a connection open.

use std::path::Path;
use std::sync::mpsc::Sender;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use twobox_shared::paths::INBOUND_DB;

use crate::event::Event;
use crate::say::say;

/// Watches `in_dir` for as long as the returned watcher lives; `None`, with a line for the operator,
/// if the kernel does not let us, and the inbox has to be polled.
pub(crate) fn watch(in_dir: &Path, events: Sender<Event>) -> Option<RecommendedWatcher> {
    let deliver = move |seen: notify::Result<notify::Event>| {
        // An error may have swallowed a signal, so it counts as one.
        if seen.map_or(true, |event| is_signal(&event)) {
            drop(events.send(Event::Wake)); // nobody listens any more: the process is leaving
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

fn is_signal(event: &notify::Event) -> bool {
    let names = |expected: &str| {
        event.paths.iter().any(|path| path.file_name().is_some_and(|name| name == expected))
    };
    if event.need_rescan() {
        return true; // the kernel's queue overflowed: anything may have happened
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => names(INBOUND_DB),
        EventKind::Remove(_) => names(&format!("{INBOUND_DB}-journal")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{Flag, RemoveKind};

    #[test]
    fn only_the_end_of_a_commit_is_a_signal() {
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let remove = EventKind::Remove(RemoveKind::File);
        let cases = [
            ("database closed", close, "inbound.db", true),
            ("journal gone", remove, "inbound.db-journal", true),
            ("journal closed, locks still held", close, "inbound.db-journal", false),
            ("our own look", open, "inbound.db", false),
            ("attachment", close, "photo.jpg", false),
        ];
        for (case, kind, name, expected) in cases {
            let event = notify::Event::new(kind).add_path(Path::new("/in").join(name));
            assert_eq!(is_signal(&event), expected, "{case}");
        }
        assert!(is_signal(&notify::Event::new(EventKind::Other).set_flag(Flag::Rescan)));
    }
}
