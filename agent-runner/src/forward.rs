//! The way to models as a port, for programs that know no unix sockets: what connects to
//! 127.0.0.1:PORT is connected with the host's socket, byte for byte.
//!
//! Nothing is read of what passes, and nobody is trusted for being here: a request has the session's key as
//! everywhere. One thread waits for all connections, so that an idle forwarder costs a thread that sleeps
//! and nothing else; it ends with the value, and everything that is open with it.

mod pipe;

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::pipe::{Pipe, Progress};
use crate::host_socket;
use crate::say::say;

/// How many connections there may be at once, as at the socket itself. More wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;

/// How long a host is waited for that does not listen: one that is started again takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked for.
const PAUSE: Duration = Duration::from_millis(100);

/// A port that leads to the host, for as long as this value lives.
pub(crate) struct Forwarder {
    port: u16,
    /// Closed to tell the thread to end.
    tie: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Opens a port that the kernel chooses, and leads it to the socket at `path`.
    ///
    /// # Errors
    /// If there is no loopback, or no room for another thread.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (tie, tied) = UnixStream::pair()?;
        let mut crossing = Crossing { path: path.to_owned(), pairs: Vec::new() };
        let serve = move || {
            if let Err(errno) = crossing.serve(&listener, &tied) {
                say!("the port to the host is closed: {errno}");
            }
        };
        let thread = std::thread::Builder::new().name("forwarder".to_owned()).spawn(serve)?;
        Ok(Self { port, tie: Some(tie), thread: Some(thread) })
    }

    /// The port, at 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        drop(self.tie.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join()); // a panic was reported where it happened
        }
    }
}

/// What goes on between the two sides.
struct Crossing {
    path: PathBuf,
    pairs: Vec<Pair>,
}

/// A connection and what became of its other half.
struct Pair {
    near: TcpStream,
    far: Far,
}

enum Far {
    /// The host was not there so far. It is looked for until the second instant, again at the first.
    Awaited { next: Instant, until: Instant },
    /// It is there.
    Joined { far: UnixStream, up: Pipe, down: Pipe },
}

impl Crossing {
    /// Serves until the other end of `tied` is closed.
    fn serve(&mut self, listener: &TcpListener, tied: &UnixStream) -> nix::Result<()> {
        loop {
            let now = Instant::now();
            let path = &self.path;
            self.pairs.retain_mut(|pair| pair.step(path, now));
            if self.wait(listener, tied, now)? {
                return Ok(());
            }
            while self.pairs.len() < CONNECTIONS_MAX {
                match listener.accept() {
                    Ok((near, _)) => self.pairs.extend(Pair::new(near)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => {
                        // Out of files, most likely: others wait until there is room.
                        say!("a connection to the host could not be taken: {error}");
                        std::thread::sleep(PAUSE);
                        break;
                    }
                }
            }
        }
    }

    /// Sleeps until there is something to do. Returns whether that is to end.
    fn wait(&self, listener: &TcpListener, tied: &UnixStream, now: Instant) -> nix::Result<bool> {
        let mut fds = vec![PollFd::new(tied.as_fd(), PollFlags::POLLIN)];
        if self.pairs.len() < CONNECTIONS_MAX {
            fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        for pair in &self.pairs {
            pair.watch(&mut fds);
        }
        let next = self.pairs.iter().filter_map(Pair::next_look).min();
        let timeout = next.map_or(PollTimeout::NONE, |next| {
            let left = next.saturating_duration_since(now) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(fds[0].any() == Some(true)),
            Err(errno) => Err(errno),
        }
    }
}

impl Pair {
    /// A connection that was taken; nothing if it is gone already.
    fn new(near: TcpStream) -> Option<Self> {
        near.set_nonblocking(true).and_then(|()| near.set_nodelay(true)).ok()?;
        let now = Instant::now();
        Some(Self { near, far: Far::Awaited { next: now, until: now + PATIENCE } })
    }

    /// Does what can be done now. Returns whether there will be more.
    fn step(&mut self, path: &Path, now: Instant) -> bool {
        if let Far::Awaited { next, until } = &mut self.far {
            if now < *next {
                return true;
            }
            match host_socket::reach(path) {
                Ok(far) => {
                    let (up, down) = (Pipe::default(), Pipe::default());
                    self.far = Far::Joined { far, up, down };
                }
                Err(_) if now < *until => {
                    *next = now + PAUSE;
                    return true;
                }
                Err(_) => return false,
            }
        }
        let Far::Joined { far, up, down } = &mut self.far else { return true };
        let (near, far) = (&self.near, &*far);
        match (up.pass(near, far), down.pass(far, near)) {
            (Progress::Broken, _) | (_, Progress::Broken) => false,
            (Progress::Closed, Progress::Closed) => false,
            (Progress::Open | Progress::Closed, Progress::Open | Progress::Closed) => true,
        }
    }

    /// Adds what has to happen before there is something to do.
    fn watch<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        let Far::Joined { far, up, down } = &self.far else { return };
        let (near, far): (BorrowedFd<'_>, BorrowedFd<'_>) = (self.near.as_fd(), far.as_fd());
        for (pipe, from, to) in [(up, near, far), (down, far, near)] {
            match pipe.waits_for() {
                Some(pipe::Waits::Source) => fds.push(PollFd::new(from, PollFlags::POLLIN)),
                Some(pipe::Waits::Sink) => fds.push(PollFd::new(to, PollFlags::POLLOUT)),
                None => {}
            }
        }
    }

    /// When there is something to do though nothing has happened.
    fn next_look(&self) -> Option<Instant> {
        match &self.far {
            Far::Awaited { next, .. } => Some(*next),
            Far::Joined { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
