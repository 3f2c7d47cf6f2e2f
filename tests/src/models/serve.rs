//! Connections: a request in, and its plan carried out.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use futures_util::stream::unfold;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::Api;
use super::answer::{Asked, Reply, State, refusal, request_id};
use super::control::{control, free};
use super::fault::Fault;
use super::ledger::End;
use super::options::Options;
use super::plan::Act;
use crate::wait::PATIENCE;

/// The most bytes of a request, as with Anthropic. The others' limit is a guess.
const BODY_MAX: usize = 32 * 1024 * 1024;

/// What connections and the test have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    state: Mutex<State>,
    changed: Condvar,
    /// One permit for each release.
    gate: Semaphore,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        let state = State::of(options.mind);
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { options, state, changed, gate: Semaphore::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state())
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state());
        self.changed.notify_all();
        done
    }

    /// Waits until `look` finds something.
    #[track_caller]
    pub(super) fn wait<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut state = self.state();
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {PATIENCE:?} for {what}");
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    pub(super) fn release(&self) {
        self.gate.add_permits(1);
    }
}

/// Serves one connection to its end.
pub(super) async fn converse<S>(stream: S, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |request| handle(Arc::clone(&shared), request));
    // Who breaks off, or is broken off, is in the ledger.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await);
}

async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, axum::Error> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let api = match (head.method.as_str(), path) {
        ("POST", "/v1/messages") => Some(Api::Messages),
        ("POST", "/v1/chat/completions") => Some(Api::Chat),
        ("POST", "/v1/responses") => Some(Api::Responses),
        _ => None,
    };
    let body = match to_bytes(Body::new(body), BODY_MAX).await {
        Ok(body) => body,
        Err(error) if is_too_large(&error) => {
            let api = api.unwrap_or(Api::Messages);
            let fault = Fault::new(413, "Request exceeds the maximum size");
            return Ok(response(shared, api, refusal(api, 0, &fault)));
        }
        Err(error) => return Err(error),
    };
    if let Some(what) = path.strip_prefix("/_stand-in/") {
        return Ok(control(&shared, &head.method, what, &body));
    }
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let asked = Asked {
        method: head.method.as_str().to_owned(),
        path: path.to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers.iter().map(header).collect::<BTreeMap<_, _>>(),
        body: body.to_vec(),
    };
    let (api, reply) = match api {
        Some(api) => (api, shared.change(|state| state.answer(api, asked, &shared.options))),
        None => free(&shared, &asked),
    };
    Ok(response(shared, api, reply))
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = error.source();
    }
    false
}

fn response(shared: Arc<Shared>, api: Api, reply: Reply) -> Response<Body> {
    let kind = match reply.is_stream {
        true => "text/event-stream; charset=utf-8",
        false => "application/json",
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(seconds) = reply.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    for (name, value) in vendor_headers(api, reply.number) {
        headers.insert(name, HeaderValue::from_str(&value).unwrap());
    }
    *response.body_mut() = body(shared, reply);
    response
}

fn vendor_headers(api: Api, number: u64) -> Vec<(&'static str, String)> {
    let fixed: &[(&str, &str)] = match api {
        Api::Messages => &[
            ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"),
            ("anthropic-ratelimit-requests-limit", "4000"),
            ("anthropic-ratelimit-requests-remaining", "3999"),
            ("anthropic-ratelimit-requests-reset", "2025-11-24T00:00:01Z"),
            ("anthropic-ratelimit-input-tokens-limit", "2000000"),
            ("anthropic-ratelimit-input-tokens-remaining", "2000000"),
            ("anthropic-ratelimit-input-tokens-reset", "2025-11-24T00:00:01Z"),
            ("anthropic-ratelimit-output-tokens-limit", "400000"),
            ("anthropic-ratelimit-output-tokens-remaining", "400000"),
            ("anthropic-ratelimit-output-tokens-reset", "2025-11-24T00:00:01Z"),
            ("anthropic-ratelimit-tokens-limit", "2400000"),
            ("anthropic-ratelimit-tokens-remaining", "2400000"),
            ("anthropic-ratelimit-tokens-reset", "2025-11-24T00:00:01Z"),
        ],
        Api::Responses | Api::Chat => &[
            ("openai-organization", "stand-in"),
            ("openai-processing-ms", "1"),
            ("openai-version", "2020-10-01"),
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-limit-tokens", "2000000"),
            ("x-ratelimit-remaining-requests", "9999"),
            ("x-ratelimit-remaining-tokens", "1999999"),
            ("x-ratelimit-reset-requests", "6ms"),
            ("x-ratelimit-reset-tokens", "0s"),
        ],
    };
    let id = if api == Api::Messages { "request-id" } else { "x-request-id" };
    let fixed = fixed.iter().map(|&(name, value)| (name, value.to_owned()));
    fixed.chain([(id, request_id(number))]).collect()
}

fn body(shared: Arc<Shared>, reply: Reply) -> Body {
    if let (true, [Act::Send(bytes)]) = (reply.is_free, reply.acts.as_slice()) {
        return Body::from(bytes.clone());
    }
    let deal = Deal { shared, number: reply.number };
    Body::from_stream(unfold((reply.acts.into_iter(), deal), |(mut acts, deal)| async {
        // What was sent before goes out now: whoever waits here is flushed.
        tokio::task::yield_now().await;
        for act in acts.by_ref() {
            match act {
                Act::Send(bytes) => return Some((Ok(Bytes::from(bytes)), (acts, deal))),
                Act::Pause(span_ms) => tokio::time::sleep(Duration::from_millis(span_ms)).await,
                Act::Stall => deal.stall().await,
                Act::Sold => deal.shared.change(|state| state.ledger.end(deal.number, End::Sold)),
                Act::Break => {
                    let broken = io::Error::new(io::ErrorKind::ConnectionAborted, "as planned");
                    return Some((Err(broken), (acts, deal)));
                }
            }
        }
        None
    }))
}

/// An answer under way. Where it is dropped before all was told, it was cut.
struct Deal {
    shared: Arc<Shared>,
    number: u64,
}

impl Deal {
    async fn stall(&self) {
        let _waits = Waits::new(&self.shared);
        self.shared.gate.acquire().await.expect("the gate is never closed").forget();
    }
}

impl Drop for Deal {
    fn drop(&mut self) {
        self.shared.change(|state| state.ledger.end(self.number, End::Cut));
    }
}

/// Counted as one that waits.
struct Waits<'a>(&'a Shared);

impl<'a> Waits<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.change(|state| state.stalled += 1);
        Self(shared)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.stalled -= 1);
    }
}
