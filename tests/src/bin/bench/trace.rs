//! File events with the time at which they came: how the benchmark sees inside a round trip without
//! asking the product.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tempfile::TempDir;

use crate::Error;
use crate::client::PATIENCE;

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Created,
    Opened,
    /// It was open for writing.
    Closed,
    Deleted,
}

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) at: Instant,
    /// The place of the folder among those that are watched.
    pub(crate) dir: usize,
    pub(crate) name: OsString,
    pub(crate) kind: Kind,
}

/// What the thread has seen; an error once events were lost.
struct Seen {
    events: Mutex<Result<Vec<Event>, String>>,
    more: Condvar,
    stop: AtomicBool,
}

/// Watches folders until it is dropped.
pub(crate) struct Trace {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
    marks: TempDir,
}

impl Trace {
    pub(crate) fn start(dirs: &[&Path]) -> Result<Self, Error> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // Opening and closing alternate, so that the kernel merges no two openings into one event.
        let mask = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_OPEN
            | AddWatchFlags::IN_CLOSE
            | AddWatchFlags::IN_DELETE;
        let mut watched = HashMap::new();
        let marks = tempfile::Builder::new().prefix("twobox-bench-marks-").tempdir()?;
        for (at, dir) in dirs.iter().copied().chain([marks.path()]).enumerate() {
            let watch = inotify
                .add_watch(dir, mask)
                .map_err(|error| format!("cannot watch {}: {error}", dir.display()))?;
            watched.insert(watch, at);
        }
        let seen = Arc::new(Seen {
            events: Mutex::new(Ok(Vec::new())),
            more: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let shared = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            while !shared.stop.load(Ordering::Relaxed) {
                let result = read(&inotify, &watched);
                let mut events = shared.events.lock().unwrap_or_else(PoisonError::into_inner);
                match (&mut *events, result) {
                    (Ok(events), Ok(more)) => events.extend(more),
                    (events, Err(error)) => *events = Err(error),
                    (Err(_), Ok(_)) => {}
                }
                shared.more.notify_all();
            }
        });
        Ok(Self { seen, thread: Some(thread), marks })
    }

    /// Waits until the events since the last [`Trace::clear`] are what `look` looks for.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        look: impl Fn(&[Event]) -> Option<T>,
    ) -> Result<T, Error> {
        let end = Instant::now() + PATIENCE;
        let mut events = self.seen.events.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = look(events.as_ref().map_err(Clone::clone)?) {
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("waited {PATIENCE:?} for {what}").into());
            }
            let woken = self.seen.more.wait_timeout(events, left);
            events = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Looks at everything that has happened until now: a file of our own is created, and its event
    /// waited for, because events come in order.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Event]) -> T) -> Result<T, Error> {
        let mark = tempfile::NamedTempFile::new_in(self.marks.path())?;
        let name = mark.path().file_name().ok_or("a file has a name")?.to_owned();
        self.wait_for("an event of our own", |events| {
            events.iter().any(|event| event.name == name).then_some(())
        })?;
        let events = self.seen.events.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(look(events.as_ref().map_err(Clone::clone)?))
    }

    /// Forgets the events that came so far.
    pub(crate) fn clear(&self) {
        let mut events = self.seen.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(events) = &mut *events {
            events.clear();
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread does not panic");
        }
    }
}

/// The events that come within a moment; none, if none come.
fn read(
    inotify: &Inotify,
    watched: &HashMap<WatchDescriptor, usize>,
) -> Result<Vec<Event>, String> {
    const MOMENT_MS: u16 = 100;
    let mut ready = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
    let count =
        poll(&mut ready, PollTimeout::from(MOMENT_MS)).map_err(|error| error.to_string())?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let at = Instant::now();
    let events = inotify.read_events().map_err(|error| error.to_string())?;
    if events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)) {
        return Err("file events were lost".to_owned());
    }
    let known = events.into_iter().filter_map(|event| {
        let kind = match event.mask {
            mask if mask.contains(AddWatchFlags::IN_CREATE) => Kind::Created,
            mask if mask.contains(AddWatchFlags::IN_OPEN) => Kind::Opened,
            mask if mask.contains(AddWatchFlags::IN_CLOSE_WRITE) => Kind::Closed,
            mask if mask.contains(AddWatchFlags::IN_DELETE) => Kind::Deleted,
            _ => return None, // closed without having been written
        };
        Some(Event { at, dir: *watched.get(&event.wd)?, name: event.name?, kind })
    });
    Ok(known.collect())
}
