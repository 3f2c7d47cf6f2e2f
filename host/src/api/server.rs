//! Connections: how many, for how long, and their end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

use crate::session::task::chain;

/// How many clients may be connected at once.
const CONNECTIONS_MAX: usize = 64;

/// How long the head of a request may take to come; an idle connection is closed after it too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a head is kept in memory, in bytes.
const HEAD_MAX: usize = 64 * 1024;

/// A client that takes nothing of an answer for so many milliseconds is gone.
const READ_TIMEOUT_MS: u32 = 30_000;

/// Answers the clients of `listener` with `app` until `shutdown` becomes true, and ends what they
/// have asked for by then within `grace`.
pub(super) async fn serve(
    listener: TcpListener,
    app: Router,
    mut shutdown: watch::Receiver<bool>,
    grace: Duration,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        // Who finds no place waits in the listener's queue: every connection ends in bounded time.
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place.expect("the semaphore is never closed"), listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            // A daemon that dropped the sender is going down as well.
            _ = shutdown.wait_for(|down| *down) => break,
            Some(ended) = connections.join_next() => {
                report_panic(ended);
                continue;
            }
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (app, shutdown) = (app.clone(), shutdown.clone());
                connections.spawn(async move {
                    converse(stream, app, shutdown).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: without a pause this would spin.
                if let Some(before) = crate::repeat::warned("API", &error.to_string()) {
                    tracing::warn!(%error, before, "could not accept a connection to the API");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let farewell = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, farewell).await.is_err() {
        tracing::warn!(count = connections.len(), "requests to the API were broken off");
    }
}

/// Answers one client until it leaves, or until the answer that is under way at the shutdown.
async fn converse(stream: TcpStream, app: Router, mut shutdown: watch::Receiver<bool>) {
    if let Err(error) = sockopt::set_tcp_user_timeout(&stream, READ_TIMEOUT_MS) {
        tracing::debug!(%error, "a client of the API that does not read is kept for longer");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let stopped = async { drop(shutdown.wait_for(|down| *down).await) };
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
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
