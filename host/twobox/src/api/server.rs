//! Connections: how many, for how long, and their end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

use super::visitor::{CONNECTIONS_MAX, KNOWN_MAX, Places, Visitor};
use twobox_channels::socket;
use twobox_model::channel::Guard;
use twobox_shared::errors::chain;

/// How long the head of a request may take to come; an idle connection is closed after it too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a head is kept in memory, in bytes.
const HEAD_MAX: usize = 64 * 1024;

/// A client that takes nothing of an answer for so many milliseconds is gone.
const READ_TIMEOUT_MS: u32 = 30_000;

/// Where clients come in.
pub(super) trait Door: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next client, and until there is room for it: who finds no place waits in the
    /// listener's queue. `None` for one that was turned away.
    fn come(&self) -> impl Future<Output = io::Result<Option<Guest<Self::Stream>>>> + Send;
}

/// A client that has come in.
pub(super) struct Guest<S> {
    stream: S,
    visitor: Arc<Visitor>,
    /// Among all connections of the door.
    room: Option<OwnedSemaphorePermit>,
    /// Who has to say first whether it is an agent, and the number of its process.
    guard: Option<(Option<i32>, Guard)>,
}

/// The port, open to whoever reaches it.
pub(super) struct Port {
    listener: TcpListener,
    places: Arc<Places>,
    room: Arc<Semaphore>,
}

impl Port {
    pub(super) fn new(listener: TcpListener) -> Self {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { listener, places: Places::new(), room }
    }
}

impl Door for Port {
    type Stream = TcpStream;

    async fn come(&self) -> io::Result<Option<Guest<TcpStream>>> {
        let room = Arc::clone(&self.room).acquire_owned().await;
        let room = Some(room.expect("the semaphore is never closed"));
        let (stream, _) = self.listener.accept().await?;
        if let Err(error) = sockopt::set_tcp_user_timeout(&stream, READ_TIMEOUT_MS) {
            tracing::debug!(%error, "a client of the API that does not read is kept for longer");
        }
        Ok(Some(Guest { stream, visitor: self.places.arrive(), room, guard: None }))
    }
}

/// The socket in the data directory, for this user alone.
pub(super) struct Socket {
    listener: UnixListener,
    room: Arc<Semaphore>,
    guard: Guard,
}

impl Socket {
    /// Lets nobody in whom `guard` knows for an agent: it may be of this user.
    pub(super) fn new(listener: UnixListener, guard: Guard) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(KNOWN_MAX)), guard }
    }
}

impl Door for Socket {
    type Stream = UnixStream;

    async fn come(&self) -> io::Result<Option<Guest<UnixStream>>> {
        let room = Arc::clone(&self.room).acquire_owned().await;
        let room = room.expect("the semaphore is never closed");
        let (stream, _) = self.listener.accept().await?;
        if let Err(reason) = socket::peer(&stream) {
            refused(&reason);
            return Ok(None);
        }
        let guard = Some((socket::peer_pid(&stream), Arc::clone(&self.guard)));
        Ok(Some(Guest { stream, visitor: Visitor::trusted(room), room: None, guard }))
    }
}

fn refused(reason: &str) {
    if let Some(before) = twobox_system::repeat::warned("API's socket", reason) {
        tracing::warn!(reason, before, "refused a connection to the API's socket");
    }
}

/// Answers the clients that come in by `door` with `app` until `shutdown` becomes true, and ends what
/// they have asked for by then within `grace`.
pub(super) async fn serve<D: Door>(
    door: D,
    app: Router,
    mut shutdown: watch::Receiver<bool>,
    grace: Duration,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            // A daemon that dropped the sender is going down as well.
            _ = shutdown.wait_for(|down| *down) => break,
            Some(ended) = connections.join_next() => {
                report_panic(ended);
                continue;
            }
            accepted = door.come() => accepted,
        };
        match accepted {
            Ok(None) => {}
            Ok(Some(Guest { stream, visitor, room, guard })) => {
                let (app, shutdown) = (app.clone(), shutdown.clone());
                connections.spawn(async move {
                    if let Some((pid, guard)) = guard
                        && let Err(reason) = socket::admit(pid, guard).await
                    {
                        return refused(&reason);
                    }
                    converse(stream, visitor, app, shutdown).await;
                    drop(room);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: without a pause this would spin.
                if let Some(before) = twobox_system::repeat::warned("API", &error.to_string()) {
                    tracing::warn!(%error, before, "could not accept a connection to the API");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(door);
    let farewell = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, farewell).await.is_err() {
        tracing::warn!(count = connections.len(), "requests to the API were broken off");
    }
}

/// Answers one client until it leaves or has to, or until the answer that is under way at the
/// shutdown.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    visitor: Arc<Visitor>,
    app: Router,
    mut shutdown: watch::Receiver<bool>,
) {
    let app = TowerToHyperService::new(app);
    let asker = Arc::clone(&visitor);
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&asker));
        app.call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    let stopped = async { drop(shutdown.wait_for(|down| *down).await) };
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = visitor.has_to_leave() => return,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = chain(&error), "a client of the API is gone");
    }
}

fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection of the API panicked");
    }
}
