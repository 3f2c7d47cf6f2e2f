//! One direction of a connection: what is read at one end is written at the other, and so is the end.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

/// How much of one direction is on its way.
const ROOM: usize = 16 << 10;

/// What has not been written yet. It has room from the first byte until the last: what is silent holds
/// nothing.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    held: Vec<u8>,
    written: usize,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// There was an end, and what came before it is still to be written.
    Ending,
    Closed,
}

/// What came of passing on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// There may be more.
    Open,
    /// All there was, and its end, was passed on.
    Closed,
    /// One of the two ends is gone.
    Broken,
}

/// What a pipe needs to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// Something to read.
    Source,
    /// Room to write.
    Sink,
}

/// A stream of which one half can be closed.
pub(super) trait Half {
    /// Says that nothing more will be written.
    fn end(&self) -> std::io::Result<()>;
}

impl Half for TcpStream {
    fn end(&self) -> std::io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Half for UnixStream {
    fn end(&self) -> std::io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Pipe {
    /// Passes on what can be passed on without waiting, but no more than a moment's worth, for there are
    /// others.
    pub(super) fn pass<F, T>(&mut self, mut from: F, to: &T) -> Progress
    where
        F: Read,
        T: Half,
        for<'t> &'t T: Write,
    {
        for _ in 0..4 {
            match self.waits_for() {
                None => return Progress::Closed,
                Some(Waits::Sink) => match { to }.write(&self.held[self.written..]) {
                    Ok(0) => return Progress::Broken,
                    Ok(count) => self.wrote(count),
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock => return Progress::Open,
                        ErrorKind::Interrupted => {}
                        _ => return Progress::Broken,
                    },
                },
                Some(Waits::Source) => {
                    self.held.resize(ROOM, 0);
                    let read = from.read(&mut self.held);
                    self.held.truncate(*read.as_ref().unwrap_or(&0));
                    match read {
                        Ok(0) => self.state = State::Ending,
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            self.held = Vec::new();
                            return Progress::Open;
                        }
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(_) => return Progress::Broken,
                    }
                }
            }
            if self.state == State::Ending && self.held.is_empty() {
                self.state = State::Closed;
                self.held = Vec::new();
                if to.end().is_err() {
                    return Progress::Broken;
                }
            }
        }
        Progress::Open
    }

    fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written == self.held.len() {
            self.held.clear();
            self.written = 0;
        }
    }

    /// What it needs next; nothing once it is closed.
    pub(super) fn waits_for(&self) -> Option<Waits> {
        match (self.state, self.held.is_empty()) {
            (State::Closed, _) => None,
            (State::Open, true) => Some(Waits::Source),
            (State::Open | State::Ending, false) => Some(Waits::Sink),
            (State::Ending, true) => unreachable!("it is closed as soon as all is written"),
        }
    }
}
