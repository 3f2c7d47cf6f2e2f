//! What the machine itself costs, so that a figure can be told from the disk and the kernel it was
//! measured on.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rusqlite::Connection;

use crate::sample::Sample;
use crate::{Error, trivial};

/// `rounds` commits of one row each into a box, on a connection that stays open.
pub(crate) fn commit(dir: &Path, synchronous: &str, rounds: usize) -> Result<Sample, Error> {
    commits(dir, "DELETE", synchronous, rounds)
}

/// The same with the settings of `host.db`.
pub(crate) fn commit_in_wal(dir: &Path, rounds: usize) -> Result<Sample, Error> {
    commits(dir, "WAL", "FULL", rounds)
}

fn commits(dir: &Path, journal: &str, synchronous: &str, rounds: usize) -> Result<Sample, Error> {
    let path = dir.join("floor.db");
    let conn = create(&path, journal, synchronous)?;
    let mut sample = Sample::default();
    for _ in 0..rounds {
        let start = Instant::now();
        insert(&conn)?;
        sample.add(start.elapsed());
    }
    drop(conn);
    std::fs::remove_file(&path)?;
    Ok(sample)
}

/// As [`commit`] with `EXTRA`, on a connection for each: what one side does for one row.
pub(crate) fn open_insert_close(dir: &Path, rounds: usize) -> Result<Sample, Error> {
    let path = dir.join("floor.db");
    drop(create(&path, "DELETE", "EXTRA")?);
    let mut sample = Sample::default();
    for _ in 0..rounds {
        let start = Instant::now();
        let conn = open(&path, "DELETE", "EXTRA")?;
        insert(&conn)?;
        conn.close().map_err(|(_, error)| error)?;
        sample.add(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(sample)
}

fn open(path: &Path, journal: &str, synchronous: &str) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path)?;
    conn.pragma_update(None, "journal_mode", journal)?;
    conn.pragma_update(None, "synchronous", synchronous)?;
    Ok(conn)
}

fn create(path: &Path, journal: &str, synchronous: &str) -> rusqlite::Result<Connection> {
    let conn = open(path, journal, synchronous)?;
    conn.execute_batch("CREATE TABLE row (id INTEGER PRIMARY KEY, content TEXT) STRICT")?;
    Ok(conn)
}

fn insert(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute("INSERT INTO row (content) VALUES (?1)", ["a message of usual length"]).map(drop)
}

const ASK: &str = "ask";
const ANSWER: &str = "answer";

/// How long the other process waits for an event before it believes that nobody asks any more.
const ALONE_MS: u16 = 20_000;

/// How long it takes from the close of a written file until a process that watches its folder runs:
/// half of there and back.
pub(crate) fn file_event(dir: &Path, rounds: usize) -> Result<Sample, Error> {
    let dir = dir.join("events");
    std::fs::create_dir(&dir)?;
    let watch = watch(&dir)?;
    let mut other = Command::new(std::env::current_exe()?)
        .arg("answer-file-events")
        .arg(&dir)
        .stdin(Stdio::null())
        .spawn()?;
    let result = (|| {
        wait(&watch, ANSWER)?; // it watches
        let mut sample = Sample::default();
        for _ in 0..rounds {
            let start = Instant::now();
            std::fs::write(dir.join(ASK), b"")?;
            wait(&watch, ANSWER)?;
            sample.add(start.elapsed() / 2);
        }
        Ok(sample)
    })();
    other.kill()?;
    other.wait()?;
    result
}

/// The other process: answers one file with another, until nobody asks any more.
pub(crate) fn answer(dir: &Path) -> Result<(), Error> {
    let watch = watch(dir)?;
    loop {
        std::fs::write(dir.join(ANSWER), b"")?;
        wait(&watch, ASK)?;
    }
}

fn watch(dir: &Path) -> Result<Inotify, Error> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    inotify.add_watch(dir, AddWatchFlags::IN_CLOSE_WRITE)?;
    Ok(inotify)
}

fn wait(inotify: &Inotify, name: &str) -> Result<(), Error> {
    use std::os::fd::AsFd;
    loop {
        let mut ready = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(ALONE_MS))? == 0 {
            return Err(format!("no event for {name}").into());
        }
        let events = inotify.read_events()?;
        if events.iter().any(|event| event.name.as_ref().is_some_and(|found| found == name)) {
            return Ok(());
        }
    }
}

/// Starting the smallest static program and waiting for its end.
pub(crate) fn process_start(dir: &Path, rounds: usize) -> Result<Sample, Error> {
    let program = trivial::write(dir)?;
    let mut sample = Sample::default();
    for _ in 0..rounds {
        let start = Instant::now();
        let status = Command::new(&program).stdin(Stdio::null()).status()?;
        sample.add(start.elapsed());
        if !status.success() {
            return Err(format!("the trivial program ended with {status}").into());
        }
    }
    Ok(sample)
}
