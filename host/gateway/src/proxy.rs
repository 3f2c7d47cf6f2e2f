//! One request of a container: looked at, reserved for, sent on with the host's credential, and its
//! answer passed back as it comes.

mod offered;
mod servers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use twobox_shared::agent_config::{Api, FETCH_PATH, MCP_PATH};
use twobox_shared::errors::{chain, for_a_terminal};
use twobox_shared::fault::{self, CrashPoint};
use twobox_shared::time::UnixMillis;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use self::offered::Offered;
use crate::answer::{Answer, plain, refused, with_body};
use crate::body::{self, BODIES_MAX, Held};
use crate::caller::Caller;
use crate::counting::Counting;
use crate::egress::fetch::Fetcher;
use crate::egress::reach::{self, Reach, Resolver};
use crate::egress::{self, Tunnel};
use crate::headers;
use crate::ledger::{Ledger, Reserved};
use crate::pause::Pauses;
use crate::recording::{Answered, Digest, Recorder, Replay};
use crate::refusal::{Refusal, Why};
use crate::request::{Asked, Call, Target};
use crate::retry::{self, Next, Outcome};
use crate::secrets::Secrets;
use crate::settings::{Kind, Upstream, Upstreams};
use crate::tap::{Count, PATIENCE, Tap};
use crate::unsaid;
use crate::upstream::{self, SendError};

/// The longest body that is read on the thread that serves it, in bytes: well under a millisecond.
const READ_AT_ONCE_MAX: usize = 64 << 10;

/// The way to all upstreams, for all sessions.
pub struct Proxy {
    upstreams: Upstreams,
    secrets: Arc<Secrets>,
    ledger: Ledger,
    connections: upstream::Upstreams,
    pauses: Pauses,
    room: Arc<Semaphore>,
    reach: Reach,
    fetcher: Fetcher,
    listening: Arc<Semaphore>,
    offered: Offered,
    /// Of each upstream that has answered, whether it took the host's key when it was asked last.
    keys: Mutex<BTreeMap<String, bool>>,
    /// What is answered from, in the place of all upstreams.
    replay: OnceLock<Arc<Replay>>,
}

impl Proxy {
    /// A way to `upstreams`, with what `secrets` has, counted in `ledger`.
    pub fn new(upstreams: Upstreams, secrets: Secrets, ledger: Ledger) -> Self {
        Self {
            upstreams,
            secrets: Arc::new(secrets),
            ledger,
            connections: upstream::Upstreams::default(),
            pauses: Pauses::default(),
            room: body::room(BODIES_MAX),
            reach: Reach::new(reach::system()),
            fetcher: Fetcher::default(),
            listening: Arc::new(Semaphore::new(servers::LISTENING_MAX)),
            offered: Offered::default(),
            keys: Mutex::default(),
            replay: OnceLock::new(),
        }
    }

    /// The same, where names stand for what `resolver` says.
    #[must_use]
    pub fn with_resolver(self, resolver: Resolver) -> Self {
        Self { reach: Reach::new(resolver), ..self }
    }

    /// Answers from `replay` from now on, and asks no upstream.
    pub(crate) fn replay(&self, replay: Replay) {
        self.replay.set(Arc::new(replay)).ok(); // one is enough
    }

    /// Of each upstream that has answered, whether it took the host's key when it was asked last.
    pub fn keys(&self) -> BTreeMap<String, bool> {
        lock(&self.keys).clone()
    }

    /// The upstreams.
    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// Connects `caller` to the host of the network that `request` asks for.
    ///
    /// # Errors
    /// The answer that says why not.
    pub(crate) async fn open_tunnel<B>(
        &self,
        caller: &Caller,
        request: &Request<B>,
    ) -> Result<Tunnel, Answer> {
        let opened = match caller.may_come(Instant::now()) {
            true => egress::open(&self.reach, caller, request).await,
            false => Err(too_fast()),
        };
        opened.map_err(|refusal| {
            let detail = for_a_terminal(&refusal.detail);
            tracing::debug!(session = %caller.session, status = refusal.status(), detail,
                "refused a tunnel");
            egress::not_opened(&refusal)
        })
    }

    /// Answers `request` of `caller`. There is always an answer.
    pub async fn serve(&self, caller: &Caller, request: Request<Incoming>) -> Answer {
        // The form of a refusal is that of the upstream that was meant, as far as that is known.
        let mut api = Api::Messages;
        if !caller.may_come(Instant::now()) {
            return refused(&too_fast(), api);
        }
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
            let detail = "nothing is reached from here in clear text: hosts of the network by https:// \
                          alone, and an upstream by its path";
            return Err(Refusal::new(Why::NotFound, detail.to_owned()));
        }
        if head.uri.path() == FETCH_PATH {
            return self.fetch(caller, &head).await;
        }
        if head.uri.path() == MCP_PATH {
            return self.server(caller, &head, body).await;
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
        // Before anything is sent there: it may be a program of the host's own machine.
        if !caller.knows(target.upstream) {
            let detail = format!("this agent has no model of {}", target.upstream);
            return Err(Refusal::new(Why::NotAllowed, detail));
        }
        let call = target.call(head.method.as_str(), upstream.api)?;
        match call {
            Call::Greet => return Ok(plain(StatusCode::OK, String::new(), HeaderMap::new())),
            Call::Ask(asked) => *api = asked,
            Call::Free => {}
        }
        let turn = caller.turn().await;
        let held = body::read(body, [&caller.room, &self.room]).await?;
        let asked = match (call, head.method.as_str()) {
            // What is counted for nothing is of a model, too.
            (Call::Ask(_), _) | (Call::Free, "POST") => {
                Some(read(*api, upstream.kind, held.bytes.clone()).await?)
            }
            (Call::Free | Call::Greet, _) => None,
        };
        if let Some(asked) = &asked
            && !caller.may_ask(target.upstream, &asked.model)
        {
            let detail = format!("this agent may not ask {}/{}", target.upstream, asked.model);
            return Err(Refusal::new(Why::NotAllowed, detail));
        }
        if let Some(replay) = self.replay.get() {
            return replayed(replay, call, held.bytes).await;
        }
        let out = Outgoing {
            upstream,
            path: target.path,
            method: head.method,
            headers: self.credentials(upstream, &head.headers).await?,
            held,
        };
        let (Call::Ask(_), Some(asked)) = (call, asked) else {
            return self.look_up(&out, turn).await;
        };
        let reserved = self.ledger.reserve(caller, upstream, &asked, out.held.bytes.len()).await?;
        fault::point(CrashPoint::HostGatewayReserved);
        self.ask(*api, &out, reserved, turn).await
    }

    /// Fetches what a request names.
    async fn fetch(&self, caller: &Caller, head: &Parts) -> Result<Answer, Refusal> {
        if !headers::has_key(&head.headers, &caller.key) {
            let detail = "the request does not have this session's key".to_owned();
            return Err(Refusal::new(Why::NotYours, detail));
        }
        let query = head.uri.query().unwrap_or_default();
        let url = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "url");
        match (head.method.as_str(), url) {
            ("GET", Some((_, url))) => self.fetcher.fetch(&self.reach, caller, &url).await,
            _ => {
                let detail = format!("{FETCH_PATH} wants GET and ?url=");
                Err(Refusal::new(Why::BadRequest, detail))
            }
        }
    }

    /// Asks for what costs nothing.
    async fn look_up(
        &self,
        out: &Outgoing<'_>,
        turn: OwnedSemaphorePermit,
    ) -> Result<Answer, Refusal> {
        let answer = self.send(out, None).await?;
        if !answer.status().is_success() {
            return Ok(said_no(answer, &out.headers).await);
        }
        let (parts, body) = answer.into_parts();
        let tap = Tap::new(body, Count::nothing(), turn, PATIENCE);
        Ok(with_body(parts.status, headers::down(&parts.headers), tap))
    }

    /// Has a model answer. What is reserved ends with what has come of it, also where its client goes.
    async fn ask(
        &self,
        api: Api,
        out: &Outgoing<'_>,
        reserved: Reserved,
        turn: OwnedSemaphorePermit,
    ) -> Result<Answer, Refusal> {
        let answer = self.send(out, Some(&reserved)).await?;
        self.note_key(out.upstream, answer.status());
        if !answer.status().is_success() {
            self.note_refusal(out.upstream, answer.status());
            return Ok(said_no(answer, &out.headers).await);
        }
        let (parts, body) = answer.into_parts();
        let passed = headers::down(&parts.headers);
        let kind = parts.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let kind = kind.unwrap_or_default();
        let counting = Counting::new(api, kind);
        let recorder = match &reserved.recording {
            Some(file) => recorder(file.clone(), self.ledger.now(), out, kind).await,
            None => None,
        };
        let count = Count::of(counting, move |counted| reserved.settle(counted));
        let count = count.recorded(recorder);
        Ok(with_body(parts.status, passed, Tap::new(body, count, turn, PATIENCE)))
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
                let found = found.map_err(|error| {
                    // Its words have paths of this machine.
                    let error = chain(&error);
                    if let Some(before) = warned("upstream.secret", &error) {
                        tracing::warn!(
                            upstream = upstream.name,
                            error,
                            before,
                            "the key of an upstream cannot be read"
                        );
                    }
                    unfit(format!("the host cannot read its key for {}", upstream.name))
                })?;
                let found = found.map(|(secret, _)| secret);
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

    /// Sends until there is an answer to pass on. What is free, for which nothing is `reserved`, neither waits for
    /// a pause nor has others wait.
    ///
    /// # Errors
    /// [`Why::Unfit`] if nothing was sent, [`Why::Unreachable`] if it may have been.
    async fn send(
        &self,
        out: &Outgoing<'_>,
        reserved: Option<&Reserved>,
    ) -> Result<Response<Incoming>, Refusal> {
        let may_be_bought = |may| reserved.inspect(|it| it.may_be_bought(may));
        let name = &out.upstream.name;
        for attempt in 1.. {
            if reserved.is_some() {
                self.pauses.over(name, jitter).await;
            }
            let request = out.request()?;
            may_be_bought(true);
            let sent = self.connections.send(request).await;
            let outcome = match &sent {
                Ok(answer) => {
                    Outcome::Status(answer.status().as_u16(), asked_to_wait(answer.headers()))
                }
                Err(SendError::NotReached(_)) => Outcome::NotReached,
                Err(SendError::Broken(_) | SendError::Silent) => Outcome::Broken,
                // Nothing changes that in a moment.
                Err(error @ SendError::NoRoots(_)) => {
                    may_be_bought(false);
                    return Err(unsent(name, error, Why::Unfit));
                }
            };
            may_be_bought(outcome.may_be_bought());
            if let (Outcome::Status(429, Some(pause)), true) = (outcome, reserved.is_some())
                && pause <= retry::WAIT_MAX
            {
                self.pauses.note(name, Instant::now() + pause);
            }
            let Next::Again(wait) = retry::next(attempt, outcome, jitter()) else {
                let why = match outcome {
                    Outcome::NotReached => Why::Unfit,
                    Outcome::Broken | Outcome::Status(..) => Why::Unreachable,
                };
                return sent.map_err(|error| unsent(name, &error, why));
            };
            // Not the wait that it asks for, which differs each time.
            let cause = format!("{name} {:?}", sent.as_ref().ok().map(Response::status));
            if let Some(before) = warned("upstream", &cause) {
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

    /// Takes note of whether an upstream takes the host's key. What else may be wrong with a request says nothing of
    /// that.
    fn note_key(&self, upstream: &Upstream, status: StatusCode) {
        let is_taken = match status {
            StatusCode::UNAUTHORIZED => false,
            status if status.is_success() => true,
            _ => return,
        };
        lock(&self.keys).insert(upstream.name.clone(), is_taken);
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

/// Who writes the answer to `out` down. A request that a model answered can be read.
async fn recorder(
    file: PathBuf,
    at: UnixMillis,
    out: &Outgoing<'_>,
    kind: &str,
) -> Option<Recorder> {
    let body = out.held.bytes.clone();
    let digest = blocking(move || Digest::of(&body)).await.ok()?;
    Some(Recorder::new(file, at, &out.upstream.name, digest, kind))
}

/// What was answered to the request with `body` when that was recorded.
async fn replayed(replay: &Arc<Replay>, call: Call, body: Bytes) -> Result<Answer, Refusal> {
    if !matches!(call, Call::Ask(_)) {
        let detail = "a recording has nothing but what models answered".to_owned();
        return Err(Refusal::new(Why::NotRecorded, detail));
    }
    let replay = Arc::clone(replay);
    let Answered { content_type, body } = blocking(move || replay.answer(&body)).await?;
    let mut headers = HeaderMap::new();
    if let Ok(kind) = HeaderValue::from_str(&content_type) {
        headers.insert(CONTENT_TYPE, kind);
    }
    Ok(plain(StatusCode::OK, body, headers))
}

fn too_fast() -> Refusal {
    Refusal::new(Why::TooMany, "requests come too fast: wait a second".to_owned())
}

/// Why there is no answer, for a container. The rest, which may name addresses of the host's network, is for
/// the log.
fn unsent(name: &str, error: &SendError, why: Why) -> Refusal {
    let detail = error.to_string();
    // Its words have ports and addresses that differ each time.
    if let Some(before) = warned("upstream.unsent", &format!("{name} {}", error.told())) {
        tracing::warn!(upstream = name, error = detail, before, "an upstream cannot be asked");
    }
    Refusal::new(why, format!("{name}: {}", error.told()))
}

/// Any number from 0 to 1, to spread those who wait.
fn jitter() -> f64 {
    let mut byte = [0];
    let filled = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::empty());
    f64::from(filled.map_or(0, |_| byte[0])) / 255.0
}

fn asked_to_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|it: &HeaderValue| it.to_str().ok());
    retry::asked(text("retry-after"), text("retry-after-ms"))
}

/// What an upstream says that refuses what it was `asked` with, as a container gets it.
async fn said_no(answer: Response<Incoming>, asked: &HeaderMap) -> Answer {
    let (parts, body) = answer.into_parts();
    let said = unsaid::without_key(body, asked).await;
    let headers = headers::down(&parts.headers);
    with_body(parts.status, headers, Full::new(said).map_err(|never| match never {}))
}
