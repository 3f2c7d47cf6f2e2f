//! The stand-in in a thread of its own.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::methods::{Asked, Done, No, pause};
use super::state::{Fault, Order, State, Weather};
use super::{TOKEN, form};
use crate::http::read_answer;
use crate::wait::{PATIENCE, wait_for};

/// The most bytes of a request: a file, and what is around it.
const BODY_MAX: usize = 64 << 20;

struct Shared {
    state: Mutex<State>,
    /// For tests that wait.
    changed: Condvar,
    /// For requests that wait.
    news: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state());
        self.changed.notify_all();
        self.news.notify_waiters();
        done
    }
}

/// A stand-in that runs until it is dropped.
pub struct Telegram {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Whether anybody listens there.
    open: watch::Sender<bool>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Telegram {
    /// Starts one.
    ///
    /// # Panics
    /// If no port can be had.
    pub fn start() -> Self {
        Self::open(0).expect("a port")
    }

    /// Starts one at this port, or at any if that is 0.
    ///
    /// # Errors
    /// The port cannot be had.
    pub fn open(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new()),
            changed: Condvar::new(),
            news: Notify::new(),
        });
        let (open, is_open) = watch::channel(true);
        let stop = Arc::new(Notify::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = serve(listener, Arc::clone(&shared), is_open, Arc::clone(&stop));
        // With the runtime all connections go.
        let thread = std::thread::spawn(move || runtime.block_on(serving));
        Ok(Self { shared, address, open, stop, thread: Some(thread) })
    }

    /// `http://ADDRESS`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Has a person or fate do something.
    ///
    /// # Panics
    /// If it cannot be done.
    #[track_caller]
    pub fn order(&self, order: Order) -> Value {
        self.shared.change(|state| state.carry_out(order)).unwrap()
    }

    /// Somebody says something in their own chat. Returns its number.
    #[track_caller]
    pub fn say(&self, person: i64, text: &str) -> i64 {
        self.say_in(person, person, text, Value::Null)
    }

    /// Somebody says something in a chat, with more fields. Returns its number.
    #[track_caller]
    pub fn say_in(&self, chat: i64, from: i64, text: &str, more: Value) -> i64 {
        let order = Order::Say { chat, from, text: text.to_owned(), more };
        self.order(order).as_i64().unwrap()
    }

    /// Has the next `times` requests for `method` fail.
    pub fn fail(&self, method: &str, times: usize, weather: Weather) {
        self.fail_after(method, 0, times, weather);
    }

    /// As [`Telegram::fail`], after so many that do not.
    pub fn fail_after(&self, method: &str, after: usize, times: usize, weather: Weather) {
        self.order(Order::Fail(Fault { method: method.to_owned(), after, times, weather }));
    }

    /// All that the bot has shown, as it stands now.
    pub fn shown(&self) -> Vec<Value> {
        self.shared.state().all_shown()
    }

    /// What the bot has said in a chat, oldest first.
    pub fn texts(&self, chat: i64) -> Vec<String> {
        let shown = self.shown();
        let here = shown.iter().filter(|message| message["chat"]["id"] == chat);
        here.filter_map(|message| message["text"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until the bot has said `text` in a chat.
    #[track_caller]
    pub fn wait_said(&self, chat: i64, text: &str) -> Value {
        wait_for(&format!("{text:?} in {chat}"), || {
            let is = |it: &Value| it["chat"]["id"] == chat && it["text"] == text;
            self.shown().into_iter().find(is)
        })
    }

    /// Asks for a method, which may have a query, as another program does that has the token.
    #[track_caller]
    pub fn ask(&self, method: &str) -> Value {
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        let head = "HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(format!("GET /bot{TOKEN}/{method} {head}").as_bytes()).unwrap();
        read_answer(&mut stream).body
    }

    /// Everything that was asked of a method, with its parameters.
    pub fn calls(&self, method: &str) -> Vec<Value> {
        let state = self.shared.state();
        let of = |(name, said): &(String, Value)| (name == method).then(|| said.clone());
        state.calls.iter().filter_map(of).collect()
    }

    /// How many updates the bot has not confirmed.
    pub fn pending(&self) -> usize {
        self.shared.state().updates.len()
    }

    /// Waits until an answer is stalled.
    #[track_caller]
    pub fn wait_stalled(&self) {
        self.wait("a stalled answer", |state| state.stalled > 0);
    }

    /// Waits until the bot asks what is said, and nothing is.
    #[track_caller]
    pub fn wait_quiet(&self) {
        self.wait("a bot that listens", |state| state.waiting > 0 && state.updates.is_empty());
    }

    #[track_caller]
    fn wait(&self, what: &str, is: impl Fn(&State) -> bool) {
        let end = Instant::now() + PATIENCE;
        let mut state = self.shared.state();
        while !is(&state) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {PATIENCE:?} for {what}");
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Nobody listens any more, and all connections are closed; or somebody does again.
    #[track_caller]
    pub fn cut(&self, cut: bool) {
        self.open.send_replace(!cut);
        let is_there = || std::net::TcpStream::connect(self.address).is_ok();
        wait_for("the port to change", || (is_there() != cut).then_some(()));
    }
}

impl Drop for Telegram {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut is_open: watch::Receiver<bool>,
    stop: Arc<Notify>,
) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    loop {
        let listening = listener.take().unwrap_or_else(|| {
            // What was there may hold the address for a moment.
            let bound = (0..200).find_map(|_| {
                let bound = TcpListener::bind(address);
                bound.map_err(|_| std::thread::sleep(Duration::from_millis(5))).ok()
            });
            bound.expect("its address")
        });
        listening.set_nonblocking(true).unwrap();
        let listening = tokio::net::TcpListener::from_std(listening).unwrap();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listening.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let shared = Arc::clone(&shared);
                    let answer = service_fn(move |request| handle(Arc::clone(&shared), request));
                    let connection = http1::Builder::new();
                    connections.spawn(connection.serve_connection(TokioIo::new(stream), answer));
                }
                _ = is_open.wait_for(|open| !open) => break,
                () = stop.notified() => return,
            }
        }
        drop(listening);
        connections.shutdown().await;
        tokio::select! {
            _ = is_open.wait_for(|open| *open) => {}
            () = stop.notified() => return,
        }
    }
}

/// The error closes the connection without a word.
async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, &'static str> {
    let (head, body) = request.into_parts();
    // Some escape what need not be.
    let path = head.uri.path().replace("%3A", ":");
    let Ok(body) = to_bytes(Body::new(body), BODY_MAX).await else {
        return Ok(refusal(&(413, "Request Entity Too Large".to_owned(), None)));
    };
    if let Some(what) = path.strip_prefix("/_stand-in/") {
        return Ok(control(&shared, what, &body));
    }
    if let Some(id) = path.strip_prefix(&format!("/file/bot{TOKEN}/documents/")) {
        return Ok(match shared.state().files.get(id) {
            Some(content) => Response::new(Body::from(content.clone())),
            None => refusal(&(404, "Not Found".to_owned(), None)),
        });
    }
    let steps = path.strip_prefix("/bot").and_then(|rest| rest.rsplit_once('/'));
    let Some((token, method)) = steps.filter(|(token, _)| token.contains(':')) else {
        return Ok(refusal(&(404, "Not Found".to_owned(), None)));
    };
    if token != TOKEN {
        return Ok(refusal(&(401, "Unauthorized".to_owned(), None)));
    }
    let kind = head.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let Some((said, files)) = form::read(head.uri.query(), kind, &body) else {
        return Ok(refusal(&super::methods::bad("can't parse request")));
    };
    let asked = Asked { said, files };
    let weather = shared.change(|state| {
        state.calls.push((method.to_owned(), Value::Object(asked.said.clone())));
        state.weather(method)
    });
    match weather {
        Some(Weather::Lost) => return Err("lost"),
        Some(Weather::Gateway) => return Ok(gateway()),
        Some(Weather::Refuse { retry_after: Some(seconds), .. }) => {
            return Ok(refusal(&pause(seconds)));
        }
        Some(Weather::Refuse { code, description, retry_after: None }) => {
            return Ok(refusal(&(code, description, None)));
        }
        Some(Weather::Silent | Weather::Stalled) | None => {}
    }
    let method = method.to_ascii_lowercase();
    let done = match method.as_str() {
        "getupdates" => poll(&shared, &asked).await,
        method => shared.change(|state| state.call(method, &asked, Instant::now())),
    };
    match weather {
        Some(Weather::Silent) => return Err("silent"),
        Some(Weather::Stalled) => {
            shared.change(|state| state.stalled += 1);
            wait_until(&shared, None, |state| match state.released {
                0 => false,
                _ => {
                    state.released -= 1;
                    state.stalled -= 1;
                    true
                }
            })
            .await;
        }
        _ => {}
    }
    Ok(match done {
        Ok(result) => answer(200, &json!({ "ok": true, "result": result })),
        Err(no) => refusal(&no),
    })
}

/// Counts a poll as waiting, until it is dropped: whoever asks may go away.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.change(|state| state.waiting += 1);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

/// Waits for something to be said, unless that waits already.
async fn poll(shared: &Shared, asked: &Asked) -> Done {
    let conflict = |why: &str| (409, format!("Conflict: {why}"), None);
    let webhook = "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first";
    let (number, first) = shared.change(|state| {
        if !state.webhook.is_empty() {
            return Err(conflict(webhook));
        }
        state.allow(asked);
        state.poll += 1;
        Ok((state.poll, state.fetch(asked)))
    })?;
    let seconds = asked.number("timeout").unwrap_or(0).clamp(0, 50);
    if !first.is_empty() || seconds == 0 {
        return Ok(json!(first));
    }
    let waiting = Waiting::begin(shared);
    let end = Instant::now() + Duration::from_secs(u64::try_from(seconds).unwrap());
    wait_until(shared, Some(end), |state| {
        !state.updates.is_empty() || state.poll != number || !state.webhook.is_empty()
    })
    .await;
    drop(waiting);
    let mut state = shared.state();
    if state.poll != number {
        let why = "terminated by other getUpdates request; make sure that only one bot instance is running";
        return Err(conflict(why));
    }
    if !state.webhook.is_empty() {
        return Err(conflict("terminated by setWebhook request"));
    }
    Ok(json!(state.fetch(asked)))
}

async fn wait_until(shared: &Shared, end: Option<Instant>, mut is: impl FnMut(&mut State) -> bool) {
    loop {
        let news = shared.news.notified();
        tokio::pin!(news);
        // So that nothing is missed between the look and the wait.
        news.as_mut().enable();
        if is(&mut shared.state()) {
            return;
        }
        match end {
            None => news.await,
            Some(end) => {
                if tokio::time::timeout_at(end.into(), news).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// What tests in other processes ask.
fn control(shared: &Shared, what: &str, body: &[u8]) -> Response<Body> {
    match what {
        "do" => match serde_json::from_slice::<Order>(body) {
            Ok(order) => match shared.change(|state| state.carry_out(order)) {
                Ok(done) => answer(200, &done),
                Err(why) => answer(409, &json!({ "error": why })),
            },
            Err(error) => answer(400, &json!({ "error": error.to_string() })),
        },
        "shown" => answer(200, &json!(shared.state().all_shown())),
        "calls" => answer(200, &json!(shared.state().calls)),
        _ => answer(404, &json!({ "error": format!("no {what}") })),
    }
}

fn refusal((code, description, parameters): &No) -> Response<Body> {
    let mut said = json!({ "ok": false, "error_code": code, "description": description });
    if let Some(parameters) = parameters {
        said["parameters"] = parameters.clone();
    }
    answer(*code, &said)
}

fn gateway() -> Response<Body> {
    let mut response = Response::new(Body::from("<html><h1>502 Bad Gateway</h1></html>"));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

fn answer(status: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let kind = "application/json".parse().unwrap();
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
