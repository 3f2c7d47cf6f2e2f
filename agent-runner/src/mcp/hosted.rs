//! A server of MCP that the host asks over HTTP, by its name: sessions of the older form, what it says in between,
//! and what it says by itself.
//!
//! Nothing outlives this but a thread that has been told that it is over.

mod answers;
#[cfg(test)]
mod hosted_tests;
mod leave;
mod listening;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde_json::{Map, Value, json};

use self::leave::Leave;
use self::listening::listen;
use super::letter::{Door, Letter};
use super::link::{Asked, Heard, LOOK, Link, Trouble, Until};
use super::{META_VERSION, MODERN, beside};
use crate::say::say;
use crate::sse::Events;

/// What may come as an answer.
const ACCEPT: &str = "application/json, text/event-stream";

/// The longest name of a session, and of a version, in bytes.
const SESSION_MAX: usize = 1024;
const VERSION_MAX: usize = 32;

/// How long is waited until a server has heard that it may begin,
const COURTESY: Duration = Duration::from_secs(5);
/// and what nobody's work depends on: that something is over, or how its own question is answered.
const ASIDE: Duration = Duration::from_secs(1);

/// The pause before that, where a server says none, and the shortest and the longest that it may ask for.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A server that the host asks.
pub(crate) struct Hosted(Arc<Shared>);

struct Shared {
    door: Door,
    /// Whether what it says by itself may be listened to.
    may_listen: bool,
    session: Mutex<Session>,
    /// Held while a session is begun.
    beginning: Mutex<()>,
    /// With what sessions are begun.
    hello: Mutex<Option<Map<String, Value>>>,
    next: AtomicU64,
    changed: AtomicBool,
    gone: AtomicBool,
}

/// Under what the server knows its client, in the older form.
#[derive(Debug, Clone, Default)]
struct Session {
    id: Option<String>,
    version: Option<String>,
    number: u64,
    ear: Arc<Ear>,
}

/// Who listens in a session to what the server says by itself: nobody, or one thread.
#[derive(Debug, Default)]
struct Ear {
    /// Whether somebody was sent to listen.
    listens: AtomicBool,
    hears: AtomicBool,
    /// Whether something may have been said while nobody heard it, since the tools were last asked for.
    missed: AtomicBool,
    /// Said once there is nothing to hear any more: another session has begun, or nobody asks this server again.
    leave: Leave,
}

/// Why a request has no answer.
enum Miss {
    Trouble(Trouble),
    /// The server does not know the session.
    Forgotten,
}

impl From<Trouble> for Miss {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl Hosted {
    /// The server behind `door`. What it says by itself is heard only if `may_listen`.
    pub(crate) fn new(door: Door, may_listen: bool) -> Self {
        let flag = || AtomicBool::new(false);
        Self(Arc::new(Shared {
            door,
            may_listen,
            session: Mutex::default(),
            beginning: Mutex::default(),
            hello: Mutex::default(),
            next: AtomicU64::new(1),
            changed: flag(),
            gone: flag(),
        }))
    }
}

impl Link for Hosted {
    fn ask(&self, asked: Asked<'_>, until: Until<'_>) -> Heard {
        let heard = match asked.method {
            "initialize" => {
                *held(&self.0.hello) = Some(asked.params);
                self.0.begin(self.0.known().number, until)
            }
            _ => self.0.ask(&asked, until, &self.0),
        };
        let lost = matches!(
            heard,
            Err(Trouble::Unreached(_) | Trouble::Unanswered(_) | Trouble::Forgotten)
        );
        if lost {
            self.0.gone.store(true, Ordering::Relaxed);
            self.0.leave();
        }
        heard
    }

    fn tell(&self, method: &str, params: &Value) {
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        self.0.tell_within(&message, COURTESY);
    }

    fn listen(&self, subscription: Option<Map<String, Value>>) {
        listen(&self.0, subscription);
    }

    fn hears(&self) -> bool {
        let ear = self.0.known().ear;
        ear.hears.load(Ordering::Relaxed) && !ear.missed.load(Ordering::Relaxed)
    }

    fn take_changed(&self) -> bool {
        self.0.changed.swap(false, Ordering::Relaxed)
    }

    fn is_there(&self) -> bool {
        !self.0.gone.load(Ordering::Relaxed)
    }

    fn group(&self) -> Option<Pid> {
        None
    }

    fn says_beside(&self) -> bool {
        true
    }
}

/// Ends its session, if there is one and somebody to tell.
impl Drop for Hosted {
    fn drop(&mut self) {
        self.0.leave();
        let session = self.0.known();
        if session.id.is_some() && self.is_there() {
            let headers = headers(&session, None);
            let letter = Letter { method: "DELETE", headers: &headers, body: "" };
            let cancelled = AtomicBool::new(false);
            let until = Until { deadline: Instant::now() + ASIDE, cancelled: &cancelled };
            drop(self.0.door.send(&letter, until)); // it ends by itself in time
        }
    }
}

impl Shared {
    fn known(&self) -> Session {
        held(&self.session).clone()
    }

    /// Has nobody listen any more.
    fn leave(&self) {
        self.known().ear.leave.say();
    }

    /// Asks, and once more where the server has forgotten the session: then it has done nothing.
    fn ask(&self, asked: &Asked<'_>, until: Until<'_>, own: &Arc<Self>) -> Heard {
        for _ in 0..2 {
            let session = self.known();
            if asked.method == "tools/list" {
                session.ear.missed.store(false, Ordering::Relaxed);
            }
            match self.exchange(asked, &session, until) {
                Ok(result) => return Ok(result),
                Err(Miss::Trouble(trouble)) => return Err(trouble),
                Err(Miss::Forgotten) => {
                    say!("the MCP server {} has forgotten this session", self.door.server);
                    self.begin(session.number, until).map_err(|why| self.not_renewed(why))?;
                    let begun = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
                    self.tell(&begun, until.at_most(COURTESY));
                    self.changed.store(true, Ordering::Relaxed);
                    listen(own, None);
                }
            }
        }
        Err(Trouble::Forgotten)
    }

    /// What the lost session means for what was asked in it, where no other can be begun: it was not done.
    fn not_renewed(&self, why: Trouble) -> Trouble {
        match why {
            Trouble::Cancelled
            | Trouble::Forgotten
            | Trouble::Unreached(_)
            | Trouble::Unasked(_)
            | Trouble::Gone => why,
            Trouble::Refused { .. }
            | Trouble::Status(..)
            | Trouble::Forbidden(_)
            | Trouble::Silent
            | Trouble::Unanswered(_)
            | Trouble::NoMcp(_)
            | Trouble::TooLong
            | Trouble::Cut(_) => Trouble::Unreached(format!(
                "the MCP server {} has forgotten the session, and no other can be begun: {why}",
                self.door.server
            )),
        }
    }

    /// Begins a session in place of the one with `number`, unless somebody else has.
    fn begin(&self, number: u64, until: Until<'_>) -> Heard {
        let _alone = held(&self.beginning);
        if self.known().number != number {
            return Ok(Value::Null);
        }
        let params = held(&self.hello).clone().unwrap_or_default();
        let asked = Asked { method: "initialize", params, beside: Vec::new() };
        let nobody = Session::default();
        let (id, body) = self.message(&asked);
        let headers = headers(&nobody, None);
        let letter = Letter { method: "POST", headers: &headers, body: &body };
        let mut opened = self.door.send(&letter, until)?;
        let given = opened.head.session.clone();
        let result = match self.answer(&mut opened, id, &nobody, until) {
            Ok(result) => result,
            Err(Miss::Trouble(trouble)) => return Err(trouble),
            Err(Miss::Forgotten) => return Err(Trouble::Forgotten),
        };
        let fits = |text: &str, most| {
            !text.is_empty() && text.len() <= most && text.bytes().all(|it| it.is_ascii_graphic())
        };
        let version = result["protocolVersion"].as_str().filter(|it| fits(it, VERSION_MAX));
        let version = version.ok_or_else(|| {
            Trouble::NoMcp("what it says to `initialize` names no version".to_owned())
        })?;
        if given.as_deref().is_some_and(|id| !fits(id, SESSION_MAX)) {
            return Err(Trouble::NoMcp("its session has a name that is none".to_owned()));
        }
        let version = Some(version.to_owned());
        let session = Session { id: given, version, number: number + 1, ear: Arc::default() };
        let before = std::mem::replace(&mut *held(&self.session), session);
        before.ear.leave.say();
        Ok(result)
    }

    fn message(&self, asked: &Asked<'_>) -> (u64, String) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (method, params) = (asked.method, &asked.params);
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        (id, message.to_string())
    }

    fn exchange(
        &self,
        asked: &Asked<'_>,
        session: &Session,
        until: Until<'_>,
    ) -> Result<Value, Miss> {
        let (id, body) = self.message(asked);
        let headers = headers(session, Some(asked));
        let letter = Letter { method: "POST", headers: &headers, body: &body };
        let heard = match self.door.send(&letter, until) {
            Ok(mut opened) => self.answer(&mut opened, id, session, until),
            Err(trouble) => Err(trouble.into()),
        };
        let given_up = matches!(heard, Err(Miss::Trouble(Trouble::Silent | Trouble::Cancelled)));
        if given_up && !is_modern(&asked.params) && session.version.is_some() {
            // In the newer form the end of the connection says it.
            let params = json!({"requestId": id});
            let method = "notifications/cancelled";
            let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
            self.tell_within(&message, ASIDE);
        }
        heard
    }

    /// Says what wants no answer, and waits for `patience` at most until it was heard.
    fn tell_within(&self, message: &Value, patience: Duration) {
        let cancelled = AtomicBool::new(false);
        self.tell(message, Until { deadline: Instant::now() + patience, cancelled: &cancelled });
    }

    /// Says what wants no answer, and waits until it was heard.
    fn tell(&self, message: &Value, until: Until<'_>) {
        let headers = headers(&self.known(), None);
        let body = message.to_string();
        let letter = Letter { method: "POST", headers: &headers, body: &body };
        drop(self.door.send(&letter, until)); // whether it is of use is heard elsewhere
    }
}

/// What of a request, or of what is no request, stands in headers.
fn headers(session: &Session, asked: Option<&Asked<'_>>) -> Vec<(String, String)> {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut headers = vec![header("accept", ACCEPT)];
    match asked.filter(|asked| is_modern(&asked.params)) {
        Some(asked) => {
            headers.push(header("mcp-protocol-version", MODERN));
            headers.push(header("mcp-method", asked.method));
            let name = asked.params.get("name").and_then(Value::as_str);
            headers.extend(name.map(|name| header("mcp-name", &beside::plain(name))));
            headers.extend(asked.beside.iter().cloned());
        }
        None => {
            let version = session.version.as_deref();
            headers.extend(version.map(|it| header("mcp-protocol-version", it)));
            headers.extend(session.id.as_deref().map(|it| header("mcp-session-id", it)));
        }
    }
    headers
}

/// Whether a request says by itself what the handshake says in the older form.
fn is_modern(params: &Map<String, Value>) -> bool {
    params.get("_meta").is_some_and(|meta| meta.get(META_VERSION).is_some())
}

/// Behind which event a stream is to go on, if that can stand in a header.
fn place(events: &Events) -> Option<String> {
    let fits = |id: &&str| id.bytes().all(|byte| matches!(byte, b' '..=b'~')) && id.trim() == *id;
    events.last_id().filter(fits).map(str::to_owned)
}

/// Waits for `span`.
///
/// # Errors
/// Why not to wait so long.
fn pause(span: Duration, until: Until<'_>) -> Result<(), Trouble> {
    let end = Instant::now() + span.min(PAUSE_MAX);
    while Instant::now() < end {
        if let Some(over) = until.over() {
            return Err(over);
        }
        std::thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
