//! Asking a platform over HTTP. Every answer is bounded in size and time, redirects are not followed, and nothing
//! of what was asked, which may hold a token, is in an error.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use hyper::{Method, Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use twobox_shared::errors::chain;
use twobox_system::blocking::blocking;
use url::Url;

pub use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an answer may take, if nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a connection is kept that nobody uses.
const KEPT: Duration = Duration::from_secs(20);

/// The most bytes of an answer, if nothing else is said.
pub const ANSWER_MAX: usize = 32 << 20;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing was sent.
    #[error("it cannot be reached: {0}")]
    NotReached(String),
    /// It was sent, and nobody knows what came of it.
    #[error("it did not answer: {0}")]
    Silent(String),
    /// It was answered with what is not what was asked for; or what was to be asked is no request, and was not
    /// sent.
    #[error("{0}")]
    Strange(String),
}

/// The connections to one server.
#[derive(Debug)]
pub struct Client {
    base: Url,
    door: OnceCell<Door>,
}

#[derive(Debug)]
enum Door {
    Plain(Pool<HttpConnector, Full<Bytes>>),
    Secure(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// What is asked. It has no `Debug`, for its path or its headers may hold a token.
pub struct Ask {
    method: Method,
    /// Below the client's base, with its query, and without a slash before it.
    path: String,
    headers: HeaderMap,
    body: Bytes,
    patience: Duration,
    most: usize,
    unsendable: bool,
}

impl Ask {
    /// Asks for what is at `path`, which is below the client's base and has its query with it.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            patience: PATIENCE,
            most: ANSWER_MAX,
            unsendable: false,
        }
    }

    /// Asks for what is there.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// Has something done, as `body` says.
    pub fn post_json(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::POST, path).json(body)
    }

    /// With this body.
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// With this body, of the type `kind`.
    pub fn body(mut self, kind: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(CONTENT_TYPE, kind)
    }

    /// As the holder of a token.
    pub fn bearer(self, token: &str) -> Self {
        self.header(AUTHORIZATION, &format!("Bearer {token}"))
    }

    /// With a header, which is kept out of what is logged. One that no header can be has the whole refused when it is
    /// asked.
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.headers.insert(name, value);
            }
            Err(_) => self.unsendable = true,
        }
        self
    }

    /// With another patience than [`PATIENCE`], for the whole answer.
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// With another bound than [`ANSWER_MAX`] on the bytes of the answer.
    pub fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }
}

/// What was answered, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// Whether it is a success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as `T`.
    ///
    /// # Errors
    /// [`Fault::Strange`], without a word of the body: that may quote what people said.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_slice(&self.body)
            .map_err(|_| Fault::Strange("its answer is not what was asked for".to_owned()))
    }

    /// For how long it wants to be left alone, if its header says so in seconds.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds: f64 = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

impl Client {
    /// For what is below `base`. Nothing is connected yet.
    pub fn new(base: Url) -> Self {
        Self { base, door: OnceCell::new() }
    }

    /// Asks.
    ///
    /// # Errors
    /// [`Fault`]. Any status is an answer.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, Fault> {
        let patience = ask.patience;
        timeout(patience, self.answer(ask)).await.unwrap_or_else(|_| {
            Err(Fault::Silent(format!("nothing came within {} s", patience.as_secs())))
        })
    }

    async fn answer(&self, ask: Ask) -> Result<Answer, Fault> {
        let unsendable = || Fault::Strange("what was to be asked is no request".to_owned());
        if ask.unsendable {
            return Err(unsendable());
        }
        let base = self.base.as_str().trim_end_matches('/');
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{base}/{}", ask.path))
            .body(Full::new(ask.body))
            .map_err(|_| unsendable())?;
        *request.headers_mut() = ask.headers;
        let sent = match self.door().await? {
            Door::Plain(pool) => pool.request(request),
            Door::Secure(pool) => pool.request(request),
        };
        let response = sent.await.map_err(|error| match error.is_connect() {
            true => Fault::NotReached(chain(&error)),
            false => Fault::Silent(chain(&error)),
        })?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: read(response, ask.most).await? })
    }

    async fn door(&self) -> Result<&Door, Fault> {
        let made = self.door.get_or_try_init(|| async {
            if self.base.scheme() == "http" {
                return Ok(Door::Plain(pool().build(tcp())));
            }
            blocking(tls).await.map(|connector| Door::Secure(pool().build(connector)))
        });
        made.await.map_err(|error| {
            Fault::NotReached(format!(
                "this machine has no certificates of authorities: install ca-certificates, or set \
                 SSL_CERT_FILE ({error})"
            ))
        })
    }
}

/// The whole body of an answer.
async fn read(response: Response<Incoming>, most: usize) -> Result<Bytes, Fault> {
    let too_large = || Fault::Strange(format!("its answer is longer than {most} bytes"));
    let mut body = response.into_body();
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::Silent(chain(&error)))?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > most {
            return Err(too_large());
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes.freeze())
}

fn pool() -> hyper_util::client::legacy::Builder {
    let mut builder = Pool::builder(TokioExecutor::new());
    builder.pool_idle_timeout(KEPT).pool_timer(TokioTimer::new());
    builder
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp
}

/// Reads this machine's certificates, which blocks.
fn tls() -> io::Result<HttpsConnector<HttpConnector>> {
    let builder = hyper_rustls::HttpsConnectorBuilder::new().with_native_roots()?;
    Ok(builder.https_only().enable_http1().wrap_connector(tcp()))
}
