//! The HTTP API: schedules and their runs, for programs of a person who knows the token.
//!
//! `docs/api.md` is for its users and `openapi.json` describes it; tests hold both to the code. It
//! listens on loopback unless the configuration says otherwise, and every path but the two that tell
//! whether the host is well asks for the token ([`token`]). Handlers translate: what may be done, and
//! what a mistake is, is decided where the command line asks too.
//!
//! Nothing else depends on it: where it cannot listen, the host goes on without it.

mod error;
mod extract;
mod guard;
mod health;
mod routes;
mod runs;
mod schedules;
mod server;
pub mod token;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use twobox_shared::time::UnixMillis;

use crate::book::BookError;
use crate::core::Core;
use crate::scheduler::Scheduler;
use error::ApiError;
use token::{Token, TokenError};

/// What handlers work with.
#[derive(Clone)]
struct Api {
    core: Arc<Core>,
    scheduler: Arc<Scheduler>,
    /// Held by whoever looks whether `host.db` can be read.
    look: Arc<Semaphore>,
}

impl Api {
    fn now(&self) -> UnixMillis {
        self.core.parts.clock.now()
    }

    /// As [`Api::book`], for what may change when the next run is due.
    async fn write<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Connection) -> Result<T, BookError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = self.book(ask).await;
        self.scheduler.look();
        done
    }

    /// Asks the book, on a thread that may block.
    async fn book<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Connection) -> Result<T, BookError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.core.parts.db.call(ask).await.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: BookError) -> ApiError {
        ApiError::of_book(&error, self.core.parts.data.root())
    }
}

/// Why there is no API.
#[derive(Debug, thiserror::Error)]
pub enum ApiUnavailable {
    /// Somebody else listens there, or the address is none of this machine's.
    #[error(
        "could not listen on {address}: set api.listen to another address, or to \"\" for no API"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// Nobody could be let in.
    #[error("there is no token")]
    Token(#[from] TokenError),
}

/// An address that clients can connect to, not served yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    token: Token,
}

/// Listens where the configuration of `core` says; `None` if it says nowhere. Makes the token if
/// there is none.
///
/// # Errors
/// [`ApiUnavailable`].
pub async fn bind(core: &Core) -> Result<Option<Bound>, ApiUnavailable> {
    let Some(address) = core.parts.config.api.listen else { return Ok(None) };
    let path = core.parts.data.api_token();
    let token = Token::at(&path)?;
    if token::is_exposed(&path).unwrap_or(false) {
        tracing::warn!(
            "{} can be read by other users: delete it and restart the host for another token",
            path.display()
        );
    }
    let failed = |source| ApiUnavailable::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    if !address.ip().is_loopback() {
        tracing::warn!(
            "the API listens on {address}: whoever reaches it needs only the token, which goes over \
             the network in the clear"
        );
    }
    Ok(Some(Bound { listener, address, token }))
}

impl Bound {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves clients until the host stops, and what they have asked for by then within
    /// `shutdown.grace`. Nothing that a client does ends it earlier.
    pub async fn serve(self, core: Arc<Core>, scheduler: Arc<Scheduler>) {
        let (stopping, grace) = (core.stopping(), core.parts.config.shutdown.grace);
        let api = Api { core, scheduler, look: Arc::new(Semaphore::new(1)) };
        let app = routes::app(api, self.token, self.address);
        server::serve(self.listener, app, stopping, grace).await;
    }
}
