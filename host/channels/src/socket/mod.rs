//! The unix socket `<data>/host.sock`: JSON lines for the terminal channel and the command line.
//!
//! `docs/socket.md` is the protocol. Each connection has a task of its own with a bounded queue, so
//! a client that floods, stalls or never reads delays nobody else. Only this user and root may
//! connect: the socket has mode 0600, and the peer's uid is looked at as well.

mod connection;
mod line;
mod protocol;

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub(crate) use connection::{check, check_about};
pub use line::{LINE_MAX, Line, LineReader};
pub use protocol::{Chosen, Deliver, Event, Hello, Request, TellsOf, Told};

use super::bridge::Seat;
use super::terminal::Terminal;
use super::{Intake, Operations};
use twobox_model::channel::Guard;
use twobox_system::data::SOCKET_PATH_MAX;
use twobox_system::errno::is_forbidden;
use twobox_system::repeat::warned;

/// How many clients may be connected at once.
const CONNECTIONS_MAX: usize = 256;

/// How long it may take to tell who a client is. It may make its own memory slow to read.
const GUARD_PATIENCE: Duration = Duration::from_secs(5);

/// How long clients may take to leave after `closing`.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path is longer than the system allows.
    #[error(
        "{path} is too long for a unix socket ({length} bytes, at most {SOCKET_PATH_MAX}): use a shorter --data"
    )]
    TooLong {
        /// The socket.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// The operating system refused.
    #[error("could not {action} the socket {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl SocketError {
    /// Whether it is of no use to try again before a person has changed something.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::TooLong { .. } => true,
            Self::Io { source, .. } => is_forbidden(source),
        }
    }
}

/// Serves the socket at `path` until `shutdown` becomes true and the clients have left, at most
/// two seconds later. The caller holds the host lock: a socket that is there already is stale and
/// is replaced.
///
/// # Errors
/// [`SocketError`] if the socket cannot be made. Nothing that a client does ends the server.
pub async fn serve(
    path: PathBuf,
    terminal: Arc<Terminal>,
    intake: Arc<dyn Intake>,
    operations: Arc<dyn Operations>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), SocketError> {
    bind(&path)?.serve(terminal, intake, operations, shutdown).await;
    Ok(())
}

/// A socket that clients can connect to, not served yet.
pub struct BoundSocket {
    listener: UnixListener,
    path: PathBuf,
    guard: Option<Guard>,
    seats: Arc<Seats>,
}

/// Where bridges sit, by the ids of their channels.
pub type Seats = HashMap<String, Arc<Seat>>;

/// Makes the socket at `path`, with mode 0600 from the first moment that it can be found there, in
/// place of a stale one. The caller holds the host lock and runs inside tokio.
///
/// # Errors
/// [`SocketError`].
pub fn bind(path: &Path) -> Result<BoundSocket, SocketError> {
    Ok(BoundSocket {
        listener: listen(path)?,
        path: path.to_owned(),
        guard: None,
        seats: Arc::default(),
    })
}

/// As [`bind`], for any socket of this user.
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let error = |action| {
        let path = path.to_owned();
        move |source| SocketError::Io { action, path, source }
    };
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let length = fresh.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        return Err(SocketError::TooLong { path: path.to_owned(), length });
    }
    match std::fs::remove_file(&fresh) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(error("remove the remains of")(source));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(error("bind"))?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))
        .map_err(error("restrict"))?;
    std::fs::rename(&fresh, path).map_err(error("put in place"))?;
    Ok(listener)
}

impl BoundSocket {
    /// Serves only whom `guard` does not know for an agent.
    #[must_use]
    pub fn guarded(self, guard: Guard) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// With seats for bridges.
    #[must_use]
    pub fn seating(self, seats: Seats) -> Self {
        Self { seats: Arc::new(seats), ..self }
    }

    /// As [`serve`].
    pub async fn serve(
        self,
        terminal: Arc<Terminal>,
        intake: Arc<dyn Intake>,
        operations: Arc<dyn Operations>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                // A daemon that dropped the sender is going down as well.
                _ = shutdown.wait_for(|down| *down) => break,
                Some(ended) = connections.join_next() => {
                    report_panic(ended);
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: without a pause this would spin.
                    if let Some(before) = warned("socket", &error.to_string()) {
                        tracing::warn!(%error, before, "could not accept a connection");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let refusal = match (peer(&stream), Arc::clone(&places).try_acquire_owned()) {
                (Err(refusal), _) => refusal,
                (Ok(()), Err(_)) => format!("{CONNECTIONS_MAX} clients are connected already"),
                (Ok(()), Ok(place)) => {
                    let (terminal, intake) = (Arc::clone(&terminal), Arc::clone(&intake));
                    let operations = Arc::clone(&operations);
                    let shutdown = shutdown.clone();
                    let (guard, seats) = (self.guard.clone(), Arc::clone(&self.seats));
                    connections.spawn(async move {
                        if let Some(guard) = guard
                            && let Err(refusal) = admit(peer_pid(&stream), guard).await
                        {
                            if let Some(before) = warned("socket", &refusal) {
                                tracing::warn!(reason = %refusal, before,
                                    "refused a connection to the socket");
                            }
                            return refuse(stream, refusal).await;
                        }
                        let doors = connection::Doors {
                            terminal: &terminal,
                            seats: &seats,
                            intake: &*intake,
                            operations: &*operations,
                        };
                        connection::run(stream, doors, shutdown).await;
                        drop(place);
                    });
                    continue;
                }
            };
            if let Some(before) = warned("socket", &refusal) {
                tracing::warn!(reason = %refusal, before, "refused a connection to the socket");
            }
            connections.spawn(refuse(stream, refusal));
        }
        drop(self.listener);
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the socket was gone already");
        }
        let farewell = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            tracing::debug!(count = connections.len(), "disconnected clients that did not leave");
        }
    }
}

/// Tells a client why it is not served. It may not even read that.
async fn refuse(mut stream: UnixStream, reason: String) {
    let line = Event::error(reason).to_line();
    let told = tokio::time::timeout(FAREWELL, stream.write_all(line.as_bytes())).await;
    if !matches!(told, Ok(Ok(()))) {
        tracing::debug!("a refused client did not wait for the reason");
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection of the socket panicked");
    }
}

/// The number of the process at the other end.
pub fn peer_pid(stream: &UnixStream) -> Option<i32> {
    stream.peer_cred().ok()?.pid().filter(|pid| *pid != 0)
}

/// Whether the other end is nobody's agent.
pub async fn admit(pid: Option<i32>, guard: Guard) -> Result<(), String> {
    // Without a number it is outside of all that this host can have started.
    let Some(pid) = pid else { return Ok(()) };
    let looked = tokio::task::spawn_blocking(move || guard(pid));
    match tokio::time::timeout(GUARD_PATIENCE, looked).await {
        Ok(Ok(Ok(false))) => Ok(()),
        Ok(Ok(Ok(true))) => Err("agents may not use the host's socket".to_owned()),
        Ok(Ok(Err(_))) => Err("whoever connects has to stay until the answer".to_owned()),
        Ok(Err(_)) | Err(_) => Err("could not tell in time who you are: try again".to_owned()),
    }
}

/// Whether the other end belongs to this user or to root.
pub fn peer(stream: &UnixStream) -> Result<(), String> {
    let ours = nix::unistd::geteuid().as_raw();
    match stream.peer_cred().map(|peer| peer.uid()) {
        Ok(uid) if uid == ours || uid == 0 => Ok(()),
        Ok(uid) => Err(format!("the socket belongs to user {ours}, you are user {uid}")),
        Err(error) => Err(format!("could not tell who you are: {error}")),
    }
}
