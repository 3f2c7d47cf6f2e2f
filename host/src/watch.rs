//! Noticing that a container wrote: file events on the `out/` folders of awake sessions.
//!
//! The close of a written `outbound.db` is the signal, because its locks are gone then; the unlink
//! of its journal, which is the commit, is listened to as well, for writers that keep a connection
//! open. Where the kernel does not carry events across a mount, the session tasks poll instead.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use twobox_shared::paths::OUTBOUND_DB;

use crate::session::signal::{Reason, Signal};

/// How often a session polls where events do not come.
pub const POLL: Duration = Duration::from_millis(250);

/// How long the test at start-up waits for its event.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

type Watched = Arc<Mutex<HashMap<PathBuf, Arc<Signal>>>>;

/// The daemon's one watcher.
pub struct Watch {
    watcher: Mutex<RecommendedWatcher>,
    watched: Watched,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Starts the watcher's thread.
    ///
    /// # Errors
    /// The system's reason, such as a limit on watches.
    pub fn start() -> notify::Result<Self> {
        let watched = Watched::default();
        let seen = Arc::clone(&watched);
        let watcher = notify::recommended_watcher(move |event| dispatch(&seen, event))?;
        Ok(Self { watcher: Mutex::new(watcher), watched })
    }

    /// Raises `signal` from now on whenever something was committed to the outbox in `dir`.
    ///
    /// # Errors
    /// The system's reason: poll this session instead.
    pub fn add(&self, dir: &Path, signal: &Arc<Signal>) -> notify::Result<()> {
        let mut watcher = lock(&self.watcher); // held throughout, against a removal in between
        lock(&self.watched).insert(dir.to_owned(), Arc::clone(signal));
        watcher.watch(dir, RecursiveMode::NonRecursive).inspect_err(|_| {
            lock(&self.watched).remove(dir);
        })
    }

    /// Stops watching `dir` for `signal`; for another signal it goes on.
    pub fn remove(&self, dir: &Path, signal: &Arc<Signal>) {
        let mut watcher = lock(&self.watcher);
        let ours = lock(&self.watched).get(dir).is_some_and(|other| Arc::ptr_eq(other, signal));
        if !ours {
            return;
        }
        lock(&self.watched).remove(dir);
        if let Err(error) = watcher.unwatch(dir) {
            tracing::debug!(dir = %dir.display(), %error, "the folder was not watched any more");
        }
    }
}

fn dispatch(watched: &Watched, event: notify::Result<Event>) {
    let watched = lock(watched);
    match event {
        Ok(event) if !event.need_rescan() => {
            if !tells_of_a_commit(&event) {
                return;
            }
            let dirs = event.paths.iter().filter_map(|path| path.parent());
            for signal in dirs.filter_map(|dir| watched.get(dir)) {
                signal.raise(Reason::Outbox);
            }
        }
        // Events were lost: anything may have happened.
        Ok(_) | Err(_) => watched.values().for_each(|signal| signal.raise(Reason::Outbox)),
    }
}

fn tells_of_a_commit(event: &Event) -> bool {
    let named = |name: &str| {
        event.paths.iter().any(|path| path.file_name().is_some_and(|found| found == name))
    };
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => named(OUTBOUND_DB),
        EventKind::Remove(_) => named(&format!("{OUTBOUND_DB}-journal")),
        EventKind::Modify(notify::event::ModifyKind::Name(_)) => named(OUTBOUND_DB),
        _ => false,
    }
}

/// Whether events come for files in `dir`, found out by writing one there.
///
/// # Errors
/// The system's reason why nothing can be watched or written there.
pub fn events_come(dir: &Path) -> notify::Result<bool> {
    let (sender, events) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| matches!(event.kind, EventKind::Access(AccessKind::Close(_)))) {
            sender.send(()).unwrap_or_default(); // the test is over, nobody listens
        }
    })?;
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    let probe = dir.join(".probe");
    std::fs::write(&probe, b"")?;
    let come = events.recv_timeout(PROBE_PATIENCE).is_ok();
    std::fs::remove_file(&probe)?;
    Ok(come)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_database_raises_the_signal_and_a_heartbeat_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        assert!(events_come(&dir).unwrap());
        let watch = Watch::start().unwrap();
        let signal = Arc::new(Signal::default());
        watch.add(&dir, &signal).unwrap();
        std::fs::write(dir.join("heartbeat"), b"").unwrap();
        std::fs::write(dir.join(OUTBOUND_DB), b"").unwrap();
        tokio::time::timeout(Duration::from_secs(5), signal.raised()).await.unwrap();
        assert!(signal.take().contains(Reason::Outbox));
        watch.remove(&dir, &signal);
    }
}
