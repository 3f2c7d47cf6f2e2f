//! The HTTP API: schedules and their runs, for programs of a person who knows the token.
//!
//! `docs/api.md` is for its users and `openapi.json` describes it; tests hold both to the code. It
//! listens on a socket in the data directory, where only its owner gets in, and on loopback unless the
//! configuration says otherwise; there every path but the two that tell whether the host is well asks
//! for the token ([`token`]). Handlers translate: what may be done, and
//! what a mistake is, is decided where the command line asks too.
//!
//! Nothing else depends on it: where it cannot listen, the host goes on without it.

mod error;
mod extract;
mod guard;
mod health;
pub mod holder;
mod hooks;
mod routes;
mod runs;
mod schedules;
mod server;
mod visitor;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use twobox_shared::time::UnixMillis;

use error::ApiError;
use holder::Holder;
use twobox_app::token::{Token, TokenError, TokenFile};
use twobox_channels::socket::{self, SocketError};
use twobox_runtime as runtime;
use twobox_schedule::scheduler::Scheduler;
use twobox_schedule::service::ServiceError;
use twobox_session::core::Core;
use twobox_store::Store;
use twobox_system::blocking::blocking;

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

    /// As [`Api::ask`], for what may change when the next run is due.
    async fn write<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Store) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = self.ask(ask).await;
        self.scheduler.look();
        done
    }

    /// Asks the schedule service, on a thread that may block.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Store) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = self.core.parts.store.clone();
        blocking(move || ask(&store)).await.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: ServiceError) -> ApiError {
        ApiError::of_service(&error, self.core.parts.data.root())
    }
}

/// Why the API is not served where it should be.
#[derive(Debug, thiserror::Error)]
pub enum ApiUnavailable {
    /// Somebody else listens there.
    #[error(
        "could not listen on {address}, which {} has: every request that was sent there since showed it \
         the token, so `twobox token renew` if one may have been; set api.listen to another address, or \
         to \"\" for none",
        holder::described(.holder.as_ref(), .address.port())
    )]
    Taken {
        /// Where.
        address: SocketAddr,
        /// Who, if that can be known.
        holder: Option<Holder>,
    },
    /// The address is none of this machine's, or not for this user.
    #[error(
        "could not listen on {address}: set api.listen to another address, or to \"\" for none"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The socket in the data directory cannot be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Nobody could be let in.
    #[error("there is no token")]
    Token(#[from] TokenError),
}

/// Where clients can connect, not served yet.
#[derive(Debug)]
pub struct BoundApi {
    port: Option<(TcpListener, SocketAddr)>,
    socket: Option<UnixListener>,
}

/// Listens on the socket in the data directory, and where the configuration of `core` says. Makes the
/// token if there is none. Returns what is in the way as well; it is in the way of nothing else.
pub async fn bind(core: &Core) -> (BoundApi, Vec<ApiUnavailable>) {
    let mut troubles = Vec::new();
    let socket = match socket::listen(&core.parts.data.api_socket()) {
        Ok(listener) => Some(listener),
        Err(error) => {
            troubles.push(error.into());
            None
        }
    };
    let port = match core.parts.config.api.listen {
        None => None,
        Some(address) => match bind_port(core, address).await {
            Ok(port) => Some(port),
            Err(error) => {
                troubles.push(error);
                None
            }
        },
    };
    (BoundApi { port, socket }, troubles)
}

async fn bind_port(
    core: &Core,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ApiUnavailable> {
    Token::at(&core.parts.data.api_token())?;
    let listener = match TcpListener::bind(address).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = blocking(move || holder::of(address)).await;
            return Err(ApiUnavailable::Taken { address, holder });
        }
        listener => listener.map_err(|source| ApiUnavailable::Listen { address, source })?,
    };
    let address =
        listener.local_addr().map_err(|source| ApiUnavailable::Listen { address, source })?;
    if !address.ip().is_loopback() {
        tracing::warn!(
            "the API listens on {address}: whoever reaches it needs only the token, which goes over \
             the network in the clear"
        );
    }
    Ok((listener, address))
}

impl BoundApi {
    /// At which address it listens, if it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.port.as_ref().map(|(_, address)| *address)
    }

    /// Whether it listens on the socket.
    pub fn has_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// Serves clients until the host stops, and what they have asked for by then within
    /// `shutdown.grace`. Nothing ends it earlier, neither what a client does nor that no door could be
    /// opened: whoever watches over it takes an end for a breakdown.
    pub async fn serve(self, core: Arc<Core>, scheduler: Arc<Scheduler>) {
        let grace = core.parts.config.shutdown.grace;
        let (mut stopping, path) = (core.stopping(), core.parts.data.api_socket());
        let token = TokenFile::new(core.parts.data.api_token());
        let api = Api { core, scheduler, look: Arc::new(Semaphore::new(1)) };
        let by_port = async {
            let Some((listener, address)) = self.port else { return };
            let app = routes::app(api.clone(), token.clone(), Some(address));
            server::serve(server::Port::new(listener), app, stopping.clone(), grace).await;
        };
        let by_socket = async {
            let Some(listener) = self.socket else { return };
            let guard = runtime::guard(&api.core.parts.runtime);
            let app = routes::app(api.clone(), token.clone(), None);
            server::serve(server::Socket::new(listener, guard), app, stopping.clone(), grace).await;
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::debug!(%error, path = %path.display(), "the socket was gone already");
            }
        };
        tokio::join!(by_port, by_socket);
        // A daemon that dropped the sender is going down as well.
        drop(stopping.wait_for(|down| *down).await);
    }
}
