//! The workspace in a thread of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};
use url::form_urlencoded;

use super::socket;
use super::state::{Rules, Say, State};
use super::web::Asked;
use crate::wait::PATIENCE;

/// The most bytes of a request.
const BODY_MAX: usize = 64 << 20;

/// How often is looked for what is to be handed over again.
const TICK: Duration = Duration::from_millis(20);

/// What connections and the test have in common.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Something may be handed over.
    pub(super) wake: Notify,
    address: SocketAddr,
    lines: SocketAddr,
}

impl Shared {
    /// A test that has failed while it held it leaves it whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state())
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state());
        self.changed.notify_all();
        self.wake.notify_one();
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
            assert!(!left.is_zero(), "waited {PATIENCE:?} for {what}: {state:#?}");
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

/// A workspace that is there until it is dropped. Its methods block; they wait for conditions, and fail after
/// the patience of the other tests.
#[derive(Debug)]
pub struct SlackServer {
    pub(super) shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SlackServer {
    /// One with these rules.
    ///
    /// # Panics
    /// If no port can be had.
    pub fn start(rules: Rules) -> Self {
        Self::open(rules, 0).expect("two ports")
    }

    /// The same, for a program that can say what is wrong.
    ///
    /// # Errors
    /// A port cannot be had.
    pub fn open(rules: Rules, port: u16) -> io::Result<Self> {
        let listen = |port| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
            listener.set_nonblocking(true)?;
            Ok::<_, io::Error>(listener)
        };
        let (web, lines) = (listen(port)?, listen(0)?);
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(rules)),
            changed: Condvar::new(),
            wake: Notify::new(),
            address: web.local_addr()?,
            lines: lines.local_addr()?,
        });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = serve(web, lines, Arc::clone(&shared), stopped);
        // With the runtime all connections go.
        let thread = std::thread::spawn(move || runtime.block_on(serving).unwrap());
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// `http://ADDRESS`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.shared.address)
    }
}

impl Drop for SlackServer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            drop(thread.join()); // what it panicked for is on the screen
        }
    }
}

async fn serve(
    web: TcpListener,
    lines: TcpListener,
    shared: Arc<Shared>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let web = tokio::net::TcpListener::from_std(web)?;
    let lines = tokio::net::TcpListener::from_std(lines)?;
    let accept = async {
        loop {
            tokio::select! {
                Ok((stream, _)) = web.accept() => {
                    let shared = Arc::clone(&shared);
                    let answer = service_fn(move |request| handle(Arc::clone(&shared), request));
                    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
                }
                Ok((stream, _)) = lines.accept() => {
                    tokio::spawn(socket::serve(stream, Arc::clone(&shared)));
                }
                () = shared.wake.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            let mut state = shared.state();
            if !state.down {
                state.hand_over(Instant::now());
            }
        }
    };
    tokio::select! {
        never = accept => never,
        _ = stopped => Ok(()),
    }
}

async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, &'static str> {
    let (head, body) = request.into_parts();
    let body = to_bytes(Body::new(body), BODY_MAX).await.map_err(|_| "a body that is no body")?;
    let path = head.uri.path();
    if let Some(what) = path.strip_prefix("/_stand-in/") {
        let said = serde_json::from_slice(&body).unwrap_or_default();
        return Ok(control(&shared, &head.method, what, &said));
    }
    if shared.look(|state| state.down) {
        return Err("nobody is there");
    }
    if let Some(number) = path.strip_prefix("/upload/") {
        let taken = shared.change(|state| state.upload(number, body.to_vec()));
        let status = if taken { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        return Ok(response(status, &json!("OK")));
    }
    let Some(method) = path.strip_prefix("/api/") else {
        return Ok(response(StatusCode::NOT_FOUND, &Value::Null));
    };
    let kind = head.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let fields = match kind.starts_with("application/json") {
        true => serde_json::from_slice(&body).unwrap_or_default(),
        false => {
            let query = head.uri.query().unwrap_or_default().as_bytes();
            let pairs = form_urlencoded::parse(query).chain(form_urlencoded::parse(&body));
            Value::Object(pairs.map(|(name, value)| (name.into_owned(), json!(value))).collect())
        }
    };
    let given = head.headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok());
    let token = given.and_then(|it| it.strip_prefix("Bearer ")).unwrap_or_default();
    let (base, socket) = (format!("http://{}", shared.address), format!("ws://{}", shared.lines));
    let asked = Asked { method, token, fields: &fields, base: &base, socket: &socket };
    let reply = shared.change(|state| state.answer(&asked)).ok_or("it is lost")?;
    if reply.is_silent {
        return Err("silence");
    }
    let mut response = response(StatusCode::from_u16(reply.status).unwrap(), &reply.body);
    if let Some(seconds) = reply.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if let Some(scopes) = reply.scopes.and_then(|scopes| HeaderValue::from_str(&scopes).ok()) {
        response.headers_mut().insert("x-oauth-scopes", scopes);
    }
    Ok(response)
}

fn response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What tests in other processes ask for.
fn control(shared: &Arc<Shared>, method: &Method, what: &str, said: &Value) -> Response<Body> {
    let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
    let answer = match (method.as_str(), what) {
        ("POST", "say") => {
            let thread = said["thread"].as_str();
            let (user, chat, text) = (text("user"), text("chat"), text("text"));
            json!({ "ts": shared.change(|state| state.say(&user, &chat, &text, thread, &json!({}))) })
        }
        ("POST", "press") => {
            let (user, chat, ts, value) = (text("user"), text("chat"), text("ts"), text("value"));
            json!({ "pressed": shared.change(|state| state.press(&user, &chat, &ts, &value)) })
        }
        ("POST", "forget") => {
            shared.change(|state| state.deliveries.clear());
            Value::Null
        }
        ("POST", "refresh") => {
            let shared = Arc::clone(shared);
            tokio::spawn(async move { refresh(&shared).await });
            Value::Null
        }
        ("GET", "asked") => {
            json!(
                shared.look(|state| state.asked.iter().map(|it| it.0.clone()).collect::<Vec<_>>())
            )
        }
        ("GET", "state") => shared.look(|state| {
            json!({
                "lines": state.lines.len(), "waiting": state.deliveries.len(),
                "acknowledged": state.acknowledged, "given_up": state.given_up,
            })
        }),
        _ => return response(StatusCode::NOT_FOUND, &json!({ "error": format!("no {what}") })),
    };
    response(StatusCode::OK, &answer)
}

/// Says to the connections that are there that they are closed soon, and closes them.
pub(super) async fn refresh(shared: &Shared) {
    let (warning, lines) = shared.change(|state| {
        let text = json!({
            "type": "disconnect", "reason": "refresh_requested", "debug_info": { "host": "stand-in" },
        });
        for line in state.lines.values() {
            drop(line.send.send(Say::Text(text.to_string()))); // it may have gone by now
        }
        (state.rules.warning, state.lines.keys().copied().collect::<Vec<_>>())
    });
    tokio::time::sleep(warning).await;
    shared.change(|state| {
        for line in lines.iter().filter_map(|line| state.lines.get(line)) {
            drop(line.send.send(Say::End { in_order: true })); // as above
        }
    });
}
