//! Noticing that a container wrote: file events on the `out/` folders of awake sessions.
//!
//! The close of a written `outbound.db` is the signal, because its locks are gone then; the unlink
//! of its journal, which is the commit, is listened to as well, for writers that keep a connection
//! open, and whatever else comes to stand in its place. The unlink comes first, with the locks still
//! held, so it counts only if no close follows soon. Where the kernel does not carry events
//! across a mount, the session tasks poll instead.
//!
//! A container decides how many events there are. Adding and removing a folder waits for none of
//! them, and one that makes too many is muted for the rest of a second, so that it can neither hold
//! up the others nor make the kernel's queue, which they share, overflow.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use twobox_shared::paths::{OUTBOUND_DB, PROGRESS};

use crate::signal::{Reason, Signal};
use twobox_system::lock::lock;

/// How often a session polls where events do not come.
pub const POLL: Duration = Duration::from_millis(250);

/// How long the test at start-up waits for its event.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// How long after the unlink of a journal the close of its database may come.
const CLOSE_PATIENCE: Duration = Duration::from_millis(5);

/// How many events one folder may have in a window. A commit makes three or four, and a session
/// looks at most 300 times a second.
const EVENTS_MAX: u32 = 4096;

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(1);

/// Room for some hundred events.
const BUFFER: usize = 16 << 10;

/// The daemon's one watcher.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inotify: OwnedFd,
    /// Tells the thread that the watcher is gone.
    ended: OwnedFd,
    folders: Mutex<Folders>,
}

#[derive(Debug, Default)]
struct Folders {
    heard: HashMap<i32, Folder>,
    muted: Vec<Folder>,
    /// Where a journal was unlinked, and until when the close of its database may come.
    unclosed: HashMap<i32, Instant>,
}

#[derive(Debug)]
struct Folder {
    dir: PathBuf,
    signal: Arc<Signal>,
    /// In this window.
    events: u32,
}

impl Watch {
    /// Starts the watcher's thread.
    ///
    /// # Errors
    /// The system's reason, such as a limit on watches.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            ended: eventfd(0, EventfdFlags::CLOEXEC)?,
            folders: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || theirs.run())?;
        Ok(Self { shared })
    }

    /// Raises `signal` from now on whenever something was committed to the outbox in `dir`.
    ///
    /// # Errors
    /// The system's reason: poll this session instead.
    pub fn add(&self, dir: &Path, signal: &Arc<Signal>) -> io::Result<()> {
        let folder = Folder { dir: dir.to_owned(), signal: Arc::clone(signal), events: 0 };
        let mut folders = lock(&self.shared.folders);
        folders.muted.retain(|muted| muted.dir != dir);
        self.shared.listen(&mut folders, folder)
    }

    /// Stops watching `dir` for `signal`; for another signal it goes on.
    pub fn remove(&self, dir: &Path, signal: &Arc<Signal>) {
        let ours = |folder: &Folder| folder.dir == dir && Arc::ptr_eq(&folder.signal, signal);
        let mut folders = lock(&self.shared.folders);
        folders.muted.retain(|muted| !ours(muted));
        let found = folders.heard.iter().find(|(_, folder)| ours(folder)).map(|(id, _)| *id);
        if let Some(id) = found {
            folders.heard.remove(&id);
            self.shared.unwatch(id, dir);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&self.shared.ended, &1_u64.to_ne_bytes()) {
            tracing::debug!(%error, "the watcher's thread was not told to end");
        }
    }
}

impl Shared {
    fn listen(&self, folders: &mut Folders, folder: Folder) -> io::Result<()> {
        let wanted = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        let id = inotify::add_watch(&self.inotify, &folder.dir, wanted)?;
        folders.heard.insert(id, folder);
        Ok(())
    }

    fn unwatch(&self, id: i32, dir: &Path) {
        if let Err(error) = inotify::remove_watch(&self.inotify, id) {
            tracing::debug!(dir = %dir.display(), %error, "the folder was not watched any more");
        }
    }

    fn run(&self) {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut window = Instant::now() + WINDOW;
        loop {
            let next = lock(&self.folders).next(window);
            let pause = next.map(|next| next.saturating_duration_since(Instant::now()));
            match wait([self.inotify.as_fd(), self.ended.as_fd()], pause) {
                Ok([_, true]) => return,
                Ok([true, false]) => self.read(&mut buffer),
                Ok([false, false]) => {}
                Err(error) => {
                    tracing::error!(%error, "file events cannot be waited for any more");
                    return;
                }
            }
            let now = Instant::now();
            lock(&self.folders).give_up_closes(now);
            if now >= window {
                window = now + WINDOW;
                self.begin_window();
            }
        }
    }

    /// Reads one buffer full, so that whoever makes events without end does not keep the thread
    /// here, and lets go of the lock in between.
    fn read(&self, buffer: &mut [MaybeUninit<u8>]) {
        let mut reader = Reader::new(&self.inotify, buffer);
        let mut folders = lock(&self.folders);
        loop {
            match reader.next() {
                Ok(event) => self.dispatch(&mut folders, &event),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(error) => {
                    tracing::warn!(%error, "file events were lost");
                    return folders.raise_all();
                }
            }
            if reader.is_buffer_empty() {
                return;
            }
        }
    }

    fn dispatch(&self, folders: &mut Folders, event: &Event<'_>) {
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            return folders.raise_all(); // anything may have happened
        }
        let Some(folder) = folders.heard.get_mut(&event.wd()) else { return };
        if event.events().contains(ReadFlags::IGNORED) {
            folders.heard.remove(&event.wd()); // the folder itself is gone
            return;
        }
        if event.file_name().is_some_and(|name| name.to_bytes() == PROGRESS.as_bytes())
            && event.events().intersects(ReadFlags::MOVED_TO | ReadFlags::DELETE)
        {
            folder.signal.raise(Reason::Progress);
        }
        match tells_of_a_commit(event) {
            Some(Stage::Committed) => {
                let patience = Instant::now() + CLOSE_PATIENCE;
                folders.unclosed.entry(event.wd()).or_insert(patience);
            }
            Some(Stage::Closed) => {
                folders.unclosed.remove(&event.wd());
                folder.signal.raise(Reason::Outbox);
            }
            None => {}
        }
        folder.events += 1;
        if folder.events > EVENTS_MAX
            && let Some(folder) = folders.heard.remove(&event.wd())
        {
            tracing::debug!(dir = %folder.dir.display(), "too many file events");
            self.unwatch(event.wd(), &folder.dir);
            folders.muted.push(folder);
        }
    }

    /// Every folder may have events again. What happened in a muted one nobody knows.
    fn begin_window(&self) {
        let mut folders = lock(&self.folders);
        folders.heard.values_mut().for_each(|folder| folder.events = 0);
        for folder in std::mem::take(&mut folders.muted) {
            let (dir, signal) = (folder.dir.clone(), Arc::clone(&folder.signal));
            match self.listen(&mut folders, Folder { events: 0, ..folder }) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    tracing::warn!(dir = %dir.display(), %error, "a folder is not watched");
                    folders.muted.push(Folder { dir, signal: Arc::clone(&signal), events: 0 });
                }
            }
            signal.raise(Reason::Outbox);
        }
    }
}

impl Folders {
    fn raise_all(&self) {
        self.heard.values().for_each(|folder| folder.signal.raise(Reason::Outbox));
    }

    /// When something is to be done without an event.
    fn next(&self, window: Instant) -> Option<Instant> {
        let muted = (!self.muted.is_empty()).then_some(window);
        self.unclosed.values().copied().chain(muted).min()
    }

    /// Whoever wrote keeps the database open, so that its close announces nothing.
    fn give_up_closes(&mut self, now: Instant) {
        for (id, _) in self.unclosed.extract_if(|_, patience| *patience <= now) {
            if let Some(folder) = self.heard.get(&id) {
                folder.signal.raise(Reason::Outbox);
            }
        }
    }
}

/// How far a commit has come.
enum Stage {
    /// Its journal is gone.
    Committed,
    /// Its database was closed or replaced.
    Closed,
}

fn tells_of_a_commit(event: &Event<'_>) -> Option<Stage> {
    let what = event.events();
    let name = event.file_name().map(std::ffi::CStr::to_bytes).unwrap_or_default();
    let begun = ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO | ReadFlags::CREATE;
    match name.strip_prefix(OUTBOUND_DB.as_bytes()) {
        Some(b"") => what.intersects(begun).then_some(Stage::Closed),
        Some(b"-journal") => what.contains(ReadFlags::DELETE).then_some(Stage::Committed),
        _ => None,
    }
}

/// Which of `fds` can be read, after `patience` at the latest.
fn wait<const N: usize>(
    fds: [std::os::fd::BorrowedFd<'_>; N],
    patience: Option<Duration>,
) -> io::Result<[bool; N]> {
    let timeout = patience.map(|span| Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    });
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(polled.map(|fd| !fd.revents().is_empty())),
        Err(error) => Err(error.into()),
    }
}

/// Whether events come for files in `dir`, found out by writing one there.
///
/// # Errors
/// The system's reason why nothing can be watched or written there.
pub fn events_come(dir: &Path) -> io::Result<bool> {
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&events, dir, WatchFlags::CLOSE_WRITE)?;
    let probe = dir.join(".probe");
    std::fs::write(&probe, b"")?;
    let [come] = wait([events.as_fd()], Some(PROBE_PATIENCE))?;
    std::fs::remove_file(&probe)?;
    Ok(come)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        (dir, path)
    }

    async fn raised(signal: &Signal) {
        tokio::time::timeout(Duration::from_secs(5), signal.raised()).await.unwrap();
        assert!(signal.take().contains(Reason::Outbox));
    }

    #[tokio::test]
    async fn whatever_comes_to_stand_in_the_outboxs_place_raises_the_signal() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 5] = [
            ("closed", |db| std::fs::write(db, b"").unwrap()),
            ("moved there", |db| {
                std::fs::write(db.with_file_name("fresh"), b"").unwrap();
                std::fs::rename(db.with_file_name("fresh"), db).unwrap();
            }),
            ("link", |db| std::os::unix::fs::symlink("nowhere", db).unwrap()),
            ("folder", |db| std::fs::create_dir(db).unwrap()),
            ("commit", |db| {
                let journal = db.with_file_name("outbound.db-journal");
                std::fs::write(&journal, b"").unwrap();
                std::fs::remove_file(journal).unwrap();
            }),
        ];
        for (case, change) in changes {
            let (_kept, dir) = folder();
            assert!(events_come(&dir).unwrap());
            let watch = Watch::start().unwrap();
            let signal = Arc::new(Signal::default());
            watch.add(&dir, &signal).unwrap();
            std::fs::write(dir.join("heartbeat"), b"").unwrap();
            std::fs::write(dir.join("outbound.db-journal.old"), b"").unwrap();
            change(&dir.join(OUTBOUND_DB));
            eprintln!("{case}");
            raised(&signal).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_folder_with_events_without_end_holds_up_nobody() {
        let ((_kept, loud), (_too, calm)) = (folder(), folder());
        let watch = Arc::new(Watch::start().unwrap());
        let noise = Arc::new(Signal::default());
        watch.add(&loud, &noise).unwrap();
        std::fs::write(loud.join(OUTBOUND_DB), b"").unwrap();
        std::fs::write(loud.join("other"), b"").unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&over);
        let racer = std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let (one, two) = (loud.join(OUTBOUND_DB), loud.join("other"));
                std::fs::rename(&one, loud.join("third")).unwrap();
                std::fs::rename(&two, &one).unwrap();
                std::fs::rename(loud.join("third"), &two).unwrap();
            }
        });
        raised(&noise).await;
        // Longer than a window, with the loud folder muted and heard again.
        for _ in 0..100 {
            let signal = Arc::new(Signal::default());
            let (watch, dir, its) = (Arc::clone(&watch), calm.clone(), Arc::clone(&signal));
            let work = tokio::task::spawn_blocking(move || {
                watch.add(&dir, &its).unwrap();
                std::fs::write(dir.join(OUTBOUND_DB), b"").unwrap();
                watch
            });
            let limit = Duration::from_secs(5);
            let watch = tokio::time::timeout(limit, work).await.expect("add returns").unwrap();
            raised(&signal).await;
            watch.remove(&calm, &signal);
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        raised(&noise).await; // it is not forgotten either
        over.store(true, Ordering::Relaxed);
        racer.join().unwrap();
    }
}
