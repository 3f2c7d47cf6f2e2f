//! Asking the homeserver. Every answer is bounded in size and time, redirects are not followed, and nothing
//! of a token is in an error.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
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

use super::kept::Token;
use super::trouble::Trouble;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an answer may take, if nothing else is said.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a connection is kept that nobody uses.
const KEPT: Duration = Duration::from_secs(20);

/// The most bytes of an answer.
pub(super) const ANSWER_MAX: usize = 32 << 20;

/// The connections to one homeserver.
#[derive(Debug)]
pub(super) struct Client {
    base: Url,
    door: OnceCell<Door>,
}

#[derive(Debug)]
enum Door {
    Plain(Pool<HttpConnector, Full<Bytes>>),
    Secure(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// What is asked.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Below `/_matrix/`, with its query.
    pub(super) path: String,
    pub(super) token: Option<&'a Token>,
    pub(super) kind: &'static str,
    pub(super) body: Bytes,
    pub(super) patience: Duration,
}

impl<'a> Ask<'a> {
    /// Asks for what is there.
    pub(super) fn get(token: &'a Token, path: String) -> Self {
        Self { token: Some(token), ..Self::json(Method::GET, path, None) }
    }

    /// Asks for something to be done.
    pub(super) fn put(token: &'a Token, path: String, body: &Value) -> Self {
        Self { token: Some(token), ..Self::json(Method::PUT, path, Some(body)) }
    }

    /// Asks for something to be done that has no key.
    pub(super) fn post(token: &'a Token, path: String, body: &Value) -> Self {
        Self { token: Some(token), ..Self::json(Method::POST, path, Some(body)) }
    }

    /// Asks as nobody.
    pub(super) fn json(method: Method, path: String, body: Option<&Value>) -> Self {
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        Self { method, path, token: None, kind: "application/json", body, patience: PATIENCE }
    }

    /// As it is, with another patience.
    pub(super) fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }
}

impl Client {
    pub(super) fn new(base: Url) -> Self {
        Self { base, door: OnceCell::new() }
    }

    /// Asks, and reads the answer as `T`.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn ask<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T, Trouble> {
        let patience = ask.patience;
        let bytes = timeout(patience, self.answer(ask)).await.unwrap_or_else(|_| {
            Err(Trouble::Silent(format!("nothing came within {} s", patience.as_secs())))
        })?;
        serde_json::from_slice(&bytes)
            // The error may quote what people said.
            .map_err(|_| Trouble::Strange("its answer is not what was asked for".to_owned()))
    }

    async fn answer(&self, ask: Ask<'_>) -> Result<Bytes, Trouble> {
        let base = self.base.as_str().trim_end_matches('/');
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{base}/_matrix/{}", ask.path))
            .header(CONTENT_TYPE, ask.kind);
        if let Some(Token(token)) = ask.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Trouble::Strange("the token is none".to_owned()))?;
            request = request.header(AUTHORIZATION, value);
        }
        let request = request
            .body(Full::new(ask.body))
            .map_err(|error| Trouble::Strange(format!("its address cannot be used: {error}")))?;
        let sent = match self.door().await? {
            Door::Plain(pool) => pool.request(request),
            Door::Secure(pool) => pool.request(request),
        };
        let response = sent.await.map_err(|error| match error.is_connect() {
            true => Trouble::NotReached(chain(&error)),
            false => Trouble::Silent(chain(&error)),
        })?;
        let status = response.status().as_u16();
        let header = response.headers().get(RETRY_AFTER);
        let retry_after = header.and_then(|it| it.to_str().ok()?.trim().parse().ok());
        let bytes = read(response).await?;
        match status {
            200..300 => Ok(bytes),
            _ => Err(Trouble::of(status, retry_after, &bytes)),
        }
    }

    async fn door(&self) -> Result<&Door, Trouble> {
        let made = self.door.get_or_try_init(|| async {
            if self.base.scheme() == "http" {
                return Ok(Door::Plain(pool().build(tcp())));
            }
            blocking(tls).await.map(|connector| Door::Secure(pool().build(connector)))
        });
        made.await.map_err(|error| {
            Trouble::NotReached(format!(
                "this machine has no certificates of authorities: install ca-certificates, or set \
                 SSL_CERT_FILE ({error})"
            ))
        })
    }
}

/// The whole body of an answer.
async fn read(response: Response<Incoming>) -> Result<Bytes, Trouble> {
    let too_large = || Trouble::Strange(format!("its answer is longer than {ANSWER_MAX} bytes"));
    let mut body = response.into_body();
    if body.size_hint().lower() > ANSWER_MAX as u64 {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Trouble::Silent(chain(&error)))?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > ANSWER_MAX {
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
