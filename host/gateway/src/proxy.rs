//! One request of a container: looked at, reserved for, sent on with the host's credential, and its
//! answer passed back as it comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;
use twobox_shared::agent_config::Api;
use twobox_shared::errors::{chain, for_a_terminal};
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use crate::body::{self, BODIES_MAX, Held};
use crate::caller::Caller;
use crate::counting::Counting;
use crate::headers;
use crate::ledger::{Ledger, Reserved};
use crate::refusal::{Refusal, Why};
use crate::request::{Asked, Call, Target};
use crate::retry::{self, Next, Outcome};
use crate::secrets::Secrets;
use crate::settings::{Kind, Upstream, Upstreams};
use crate::tap::Tap;
use crate::unsaid;
use crate::upstream::{self, SendError};

/// The longest body that is read on the thread that serves it, in bytes: well under a millisecond.
const READ_AT_ONCE_MAX: usize = 64 << 10;

/// The longest list of models, in bytes.
const LIST_MAX: usize = 4 << 20;

/// What a container gets back.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

/// The way to all upstreams, for all sessions.
pub struct Proxy {
    upstreams: Upstreams,
    secrets: Arc<Secrets>,
    ledger: Ledger,
    connections: upstream::Upstreams,
    /// Until when nobody asks an upstream that has asked for a pause, by its name.
    pauses: Mutex<HashMap<String, Instant>>,
    room: Arc<Semaphore>,
}

impl Proxy {
    /// A way to `upstreams`, with what `secrets` has, counted in `ledger`.
    pub fn new(upstreams: Upstreams, secrets: Secrets, ledger: Ledger) -> Self {
        Self {
            upstreams,
            secrets: Arc::new(secrets),
            ledger,
            connections: upstream::Upstreams::default(),
            pauses: Mutex::default(),
            room: body::room(BODIES_MAX),
        }
    }

    /// The upstreams.
    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// The names of the models that the upstream `name` offers to whoever has the host's key.
    ///
    /// # Errors
    /// Why it does not tell them, in its own words where it has some.
    pub async fn offered(&self, name: &str) -> Result<Vec<String>, Refusal> {
        let upstream = self
            .upstreams
            .get(name)
            .ok_or_else(|| Refusal::new(Why::NotFound, format!("there is no upstream {name:?}")))?;
        let mut asked = HeaderMap::new();
        let path = match upstream.api {
            Api::Messages => {
                asked.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
                "/v1/models?limit=1000"
            }
            Api::Responses | Api::Chat => "/models",
        };
        let out = Outgoing {
            upstream,
            path,
            method: hyper::Method::GET,
            headers: self.credentials(upstream, &asked).await?,
            held: Held::nothing(),
        };
        let (head, body) = self.send(&out).await?.into_parts();
        let unreadable = |what: String| Refusal::new(Why::Unreachable, format!("{name}: {what}"));
        let body = Limited::new(body, LIST_MAX).collect().await;
        let body = body.map_err(|error| unreadable(error.to_string()))?.to_bytes();
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !head.status.is_success() {
            let words = value["error"]["message"].as_str().unwrap_or("it says no more");
            return Err(unreadable(format!("{}: {}", head.status, for_a_terminal(words))));
        }
        let models =
            value["data"].as_array().ok_or_else(|| unreadable("no list came".to_owned()))?;
        let id = |model: &Value| model["id"].as_str().map(for_a_terminal);
        Ok(models.iter().filter_map(id).collect())
    }

    /// Answers `request` of `caller`. There is always an answer.
    pub async fn serve(&self, caller: &Caller, request: Request<Incoming>) -> Answer {
        // The form of a refusal is that of the upstream that was meant, as far as that is known.
        let mut api = Api::Messages;
        self.pass(caller, request, &mut api).await.unwrap_or_else(|refusal| {
            tracing::debug!(session = %caller.session, status = refusal.status(),
                detail = refusal.detail, "refused a request of an agent");
            refused(&refusal, api)
        })
    }

    async fn pass(
        &self,
        caller: &Caller,
        request: Request<Incoming>,
        api: &mut Api,
    ) -> Result<Answer, Refusal> {
        let (head, body) = request.into_parts();
        if head.uri.authority().is_some() || head.uri.scheme().is_some() {
            let detail = "write the path alone: nothing else is reached from here".to_owned();
            return Err(Refusal::new(Why::NotFound, detail));
        }
        let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let target = Target::parse(&path)?;
        let upstream = self.upstreams.get(target.upstream).ok_or_else(|| {
            let detail = format!("there is no upstream {:?}", target.upstream);
            Refusal::new(Why::NotFound, detail)
        })?;
        *api = upstream.api;
        if !headers::has_key(&head.headers, &caller.key) {
            let detail = "the request does not have this session's key".to_owned();
            return Err(Refusal::new(Why::NotYours, detail));
        }
        let call = target.call(head.method.as_str(), upstream.api)?;
        match call {
            Call::Greet => return Ok(plain(StatusCode::OK, String::new(), HeaderMap::new())),
            Call::Ask(asked) => *api = asked,
            Call::Free => {}
        }
        let held = body::read(body, [&caller.room, &self.room]).await?;
        let out = Outgoing {
            upstream,
            path: target.path,
            method: head.method,
            headers: self.credentials(upstream, &head.headers).await?,
            held,
        };
        let Call::Ask(asked_by) = call else {
            let answer = self.send(&out).await?;
            if !answer.status().is_success() {
                return Ok(said_no(answer, &out.headers).await);
            }
            let (parts, body) = answer.into_parts();
            return Ok(with_body(
                parts.status,
                headers::down(&parts.headers, false),
                Tap::plain(body),
            ));
        };
        let asked = read(asked_by, upstream.kind, out.held.bytes.clone()).await?;
        if !caller.may_ask(target.upstream, &asked.model) {
            let detail = format!("this agent may not ask {}/{}", target.upstream, asked.model);
            return Err(Refusal::new(Why::NotAllowed, detail));
        }
        let caller = caller.at_present().await;
        let reserved = self.ledger.reserve(&caller, upstream, &asked, out.held.bytes.len()).await?;
        self.ask(asked_by, &out, reserved).await
    }

    /// Has a model answer.
    async fn ask(
        &self,
        api: Api,
        out: &Outgoing<'_>,
        reserved: Reserved,
    ) -> Result<Answer, Refusal> {
        reserved.sent();
        let answer = match self.send(out).await {
            Ok(answer) => answer,
            Err(unsent) => {
                match unsent.why {
                    Why::Unreachable => reserved.unknown(), // it may have been bought
                    _ => reserved.nothing(),
                }
                return Err(unsent);
            }
        };
        if !answer.status().is_success() {
            self.note_refusal(out.upstream, answer.status());
            reserved.nothing();
            return Ok(said_no(answer, &out.headers).await);
        }
        let (parts, body) = answer.into_parts();
        let passed = headers::down(&parts.headers, false);
        let kind = parts.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let counting = Counting::new(api, kind.unwrap_or_default());
        let tap = Tap::counted(body, counting, move |counted| reserved.settle(counted));
        Ok(with_body(parts.status, passed, tap))
    }

    /// What `upstream` is asked with.
    async fn credentials(
        &self,
        upstream: &Upstream,
        asked: &HeaderMap,
    ) -> Result<HeaderMap, Refusal> {
        let unfit = |detail: String| Refusal::new(Why::Unfit, detail);
        let secret = match &upstream.secret {
            None => None,
            Some(name) => {
                let (secrets, wanted) = (Arc::clone(&self.secrets), name.clone());
                let found = blocking(move || secrets.find(&wanted)).await;
                let found = found.map_err(|error| unfit(chain(&error)))?.map(|(secret, _)| secret);
                Some(found.ok_or_else(|| {
                    unfit(format!(
                        "the host has no key for {}: `twobox secrets set {name}`",
                        upstream.name
                    ))
                })?)
            }
        };
        headers::up(upstream.api, asked, secret.as_ref())
            .ok_or_else(|| unfit(format!("the key of {} is no single line", upstream.name)))
    }

    /// Sends until there is an answer to pass on.
    ///
    /// # Errors
    /// [`Why::Unfit`] if nothing was sent, [`Why::Unreachable`] if it may have been.
    async fn send(&self, out: &Outgoing<'_>) -> Result<Response<Incoming>, Refusal> {
        let name = &out.upstream.name;
        for attempt in 1.. {
            self.pause_of(name).await;
            let sent = self.connections.send(out.request()?).await;
            let outcome = match &sent {
                Ok(answer) => {
                    Outcome::Status(answer.status().as_u16(), asked_to_wait(answer.headers()))
                }
                Err(SendError::NotReached(_)) => Outcome::NotReached,
                Err(SendError::Broken(_) | SendError::Silent) => Outcome::Broken,
                Err(SendError::NoRoots(_)) => {
                    let detail = sent.err().map(|it| it.to_string()).unwrap_or_default();
                    return Err(Refusal::new(Why::Unfit, detail));
                }
            };
            let jitter = f64::from(random_byte()) / 255.0;
            let Next::Again(wait) = retry::next(attempt, outcome, jitter) else {
                return sent.map_err(|error| {
                    let why = match outcome {
                        Outcome::NotReached => Why::Unfit,
                        _ => Why::Unreachable,
                    };
                    Refusal::new(why, format!("{name}: {error}"))
                });
            };
            if let Outcome::Status(429, Some(pause)) = outcome {
                lock(&self.pauses).insert(name.clone(), Instant::now() + pause);
            }
            if let Some(before) = warned("upstream", &format!("{name} {outcome:?}")) {
                tracing::warn!(
                    upstream = name,
                    ?outcome,
                    attempt,
                    ?wait,
                    before,
                    "an upstream did not answer, and is asked again"
                );
            }
            tokio::time::sleep(wait).await;
        }
        unreachable!("the last attempt is always passed on")
    }

    /// Waits as long as the upstream has asked everybody to.
    async fn pause_of(&self, name: &str) {
        let until = lock(&self.pauses).get(name).copied();
        if let Some(until) = until {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    fn note_refusal(&self, upstream: &Upstream, status: StatusCode) {
        let cause = format!("{} {status}", upstream.name);
        let is_key = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if is_key && let Some(before) = warned("upstream.key", &cause) {
            tracing::warn!(upstream = upstream.name, %status, before,
                "an upstream refuses the host's key: `twobox secrets set`");
        }
    }
}

/// A request that is sent on, once or more often.
struct Outgoing<'a> {
    upstream: &'a Upstream,
    path: &'a str,
    method: hyper::Method,
    headers: HeaderMap,
    held: Held,
}

impl Outgoing<'_> {
    fn request(&self) -> Result<Request<Full<Bytes>>, Refusal> {
        let uri = format!("{}{}", self.upstream.base_url, self.path);
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(uri)
            .body(Full::new(self.held.bytes.clone()))
            .map_err(|error| Refusal::new(Why::NotFound, format!("no path: {error}")))?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

/// Reads a body. A long one takes a processor for a while, and so no thread that serves others.
async fn read(api: Api, kind: Kind, body: Bytes) -> Result<Asked, Refusal> {
    match body.len() <= READ_AT_ONCE_MAX {
        true => Asked::read(api, kind, &body),
        false => blocking(move || Asked::read(api, kind, &body)).await,
    }
}

/// Any byte, to spread those who wait.
fn random_byte() -> u8 {
    let mut byte = [0];
    let filled = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::empty());
    filled.map_or(0, |_| byte[0])
}

fn asked_to_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|it: &HeaderValue| it.to_str().ok());
    retry::asked(text("retry-after"), text("retry-after-ms"))
}

/// What an upstream says that refuses what it was `asked` with, as a container gets it.
async fn said_no(answer: Response<Incoming>, asked: &HeaderMap) -> Answer {
    let (parts, body) = answer.into_parts();
    let said = unsaid::without_key(body, asked).await;
    let headers = headers::down(&parts.headers, false);
    with_body(parts.status, headers, Full::new(said).map_err(|never| match never {}))
}

/// A refusal as an answer.
pub(crate) fn refused(refusal: &Refusal, api: Api) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match refusal.is_passing() {
        true => headers.insert("retry-after", HeaderValue::from_static("1")),
        false => headers.insert("x-should-retry", HeaderValue::from_static("false")),
    };
    let status = StatusCode::from_u16(refusal.status()).expect("a status of the list");
    plain(status, refusal.body(api), headers)
}

fn plain(status: StatusCode, body: String, headers: HeaderMap) -> Answer {
    with_body(status, headers, Full::new(Bytes::from(body)).map_err(|never| match never {}))
}

fn with_body(
    status: StatusCode,
    headers: HeaderMap,
    body: impl hyper::body::Body<Data = Bytes, Error = Box<dyn std::error::Error + Send + Sync>>
    + Send
    + 'static,
) -> Answer {
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}
