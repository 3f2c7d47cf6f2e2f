//! Sends one request to an upstream, over connections that are kept for a while.

use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::http::uri::Scheme;
use hyper::{Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::OnceCell;
use twobox_shared::errors::chain;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an upstream may take until its answer begins. One that does not stream thinks as long.
const HEAD: Duration = Duration::from_secs(600);

/// How long a connection is kept that nobody uses. Servers close them after five seconds and more, and a
/// request that meets such an end may have been bought.
const KEPT: Duration = Duration::from_secs(4);

/// After how much silence the system asks whether the other side is still there.
const PROBED: Duration = Duration::from_secs(60);

/// After which time certificates that could not be read are read again.
const ROOTS_PAUSE: Duration = Duration::from_secs(60);

/// Why an upstream has not answered. Its words are for the host's log: they may name addresses of its network.
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

impl SendError {
    /// What a container is told of it.
    pub(crate) fn told(&self) -> &'static str {
        match self {
            Self::NotReached(_) => "it cannot be reached",
            Self::Broken(_) => "the connection broke before it answered",
            Self::Silent => "it did not begin to answer in time",
            Self::NoRoots(_) => "the host has no certificates to know it by",
        }
    }
}

type Plain = Client<HttpConnector, Full<Bytes>>;
type Secure = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The connections to all upstreams. They are set up with the first request that needs them: a host whose
/// agents ask no model pays nothing for this, and one whose models are near reads no certificates.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    plain: OnceCell<Plain>,
    secure: OnceCell<Secure>,
    /// When there were no certificates, and why.
    no_roots: Mutex<Option<(Instant, String)>>,
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
        let sent = match request.uri().scheme() == Some(&Scheme::HTTP) {
            true => self.plain().await.request(request),
            false => self.secure().await?.request(request),
        };
        let answered = tokio::time::timeout(HEAD, sent).await;
        answered.map_err(|_| SendError::Silent)?.map_err(|error| match error.is_connect() {
            true => SendError::NotReached(chain(&error)),
            false => SendError::Broken(chain(&error)),
        })
    }

    async fn plain(&self) -> &Plain {
        self.plain.get_or_init(|| async { kept().build(tcp()) }).await
    }

    async fn secure(&self) -> Result<&Secure, SendError> {
        let made = self.secure.get_or_try_init(|| async {
            if let Some((at, why)) = &*lock(&self.no_roots)
                && at.elapsed() < ROOTS_PAUSE
            {
                return Err(why.clone());
            }
            let connector = blocking(tls).await.map_err(|error| {
                let why = error.to_string();
                *lock(&self.no_roots) = Some((Instant::now(), why.clone()));
                why
            })?;
            Ok(kept().build(connector))
        });
        made.await.map_err(SendError::NoRoots)
    }
}

fn kept() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(KEPT).pool_timer(TokioTimer::new());
    builder
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(PROBED));
    tcp
}

/// Reads this machine's certificates, which blocks.
fn tls() -> io::Result<HttpsConnector<HttpConnector>> {
    let builder = hyper_rustls::HttpsConnectorBuilder::new().with_native_roots()?;
    Ok(builder.https_only().enable_http1().wrap_connector(tcp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_container_is_told_no_address_of_what_cannot_be_reached() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let upstreams = Upstreams::default();
        let uri = format!("http://{closed}/v1/models");
        let request = Request::builder().uri(uri).body(Full::default()).unwrap();
        let error = upstreams.send(request).await.unwrap_err();
        assert!(matches!(error, SendError::NotReached(_)), "{error}");
        assert!(!error.told().contains("127.0.0.1"), "{}", error.told());
        assert!(upstreams.secure.get().is_none(), "no certificates were read");
    }
}
