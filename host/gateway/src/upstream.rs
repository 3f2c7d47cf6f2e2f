//! Sends one request to an upstream, over connections that are kept for a while.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use twobox_shared::errors::chain;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an upstream may take until its answer begins. One that does not stream thinks as long.
const HEAD: Duration = Duration::from_secs(600);

/// How long a connection is kept that nobody uses.
const KEPT: Duration = Duration::from_secs(60);

/// Why an upstream has not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// Nothing was sent.
    #[error("it cannot be reached: {0}")]
    NotReached(String),
    /// It may have got the request.
    #[error("the connection broke before it answered: {0}")]
    Broken(String),
    /// It may have got the request.
    #[error("it did not begin to answer within {} s", HEAD.as_secs())]
    Silent,
    /// This machine knows no certificates.
    #[error(
        "this machine has no certificates of authorities, without which nobody knows whom it speaks to: \
         install ca-certificates, or set SSL_CERT_FILE ({0})"
    )]
    NoRoots(String),
}

type Connector = HttpsConnector<HttpConnector>;

/// The connections to all upstreams. They are set up with the first request: a host whose agents ask no
/// model pays nothing for this.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    client: OnceLock<Client<Connector, Full<Bytes>>>,
}

impl Upstreams {
    /// Sends `request` and waits until its answer begins.
    ///
    /// # Errors
    /// [`SendError`]. An answer that says no is none.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendError> {
        let answered = tokio::time::timeout(HEAD, self.client()?.request(request)).await;
        answered.map_err(|_| SendError::Silent)?.map_err(|error| match error.is_connect() {
            true => SendError::NotReached(chain(&error)),
            false => SendError::Broken(chain(&error)),
        })
    }

    fn client(&self) -> Result<&Client<Connector, Full<Bytes>>, SendError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let made = connect().map_err(|error| SendError::NoRoots(error.to_string()))?;
        Ok(self.client.get_or_init(|| made))
    }
}

fn connect() -> io::Result<Client<Connector, Full<Bytes>>> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    http.set_keepalive(Some(KEPT));
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_native_roots()?
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(KEPT)
        .pool_timer(TokioTimer::new())
        .build(connector))
}
