//! The way to a server of MCP: what may be asked over it, and why there may be no answer. `program` is one to a
//! program at the other end of its standard streams, `hosted` one to a server that the host asks over HTTP.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde_json::{Map, Value};
use twobox_shared::content::shorten;

/// How often whoever waits looks whether to go on.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// The longest message of a server, in bytes.
pub(super) const MESSAGE_MAX: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The server has refused.
    Refused { code: i64, message: String, data: Value },
    /// It has refused by a status of HTTP, with these words.
    Status(u16, String),
    /// It has not answered in time.
    Silent,
    /// It has ended, or closed its output.
    Gone,
    /// The host cannot ask it, in the host's words.
    Unreached(String),
    /// It has forgotten who asks, also after it was told anew.
    Forgotten,
    /// What it answers is no MCP.
    NoMcp(String),
    /// It answers more than is read.
    TooLong,
    /// The answer broke off.
    Cut(String),
    /// Nobody wants the answer any more.
    Cancelled,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { code, message, .. } => write!(f, "it refuses: {message} ({code})"),
            Self::Status(404 | 405, _) => {
                f.write_str("there is no MCP at its address: is its `url` the whole one?")
            }
            Self::Status(status, words) if words.is_empty() => {
                write!(f, "it answers with the HTTP status {status}")
            }
            Self::Status(status, words) => {
                write!(f, "it answers with the HTTP status {status}: {words}")
            }
            Self::Silent => f.write_str("it does not answer"),
            Self::Gone => f.write_str("it has ended"),
            Self::Unreached(why) => f.write_str(why),
            Self::Forgotten => f.write_str("it forgets the session as soon as there is one"),
            Self::NoMcp(why) => write!(f, "what it answers is no MCP: {why}"),
            Self::TooLong => write!(f, "it answers more than {} MiB", MESSAGE_MAX >> 20),
            Self::Cut(why) => write!(f, "its answer broke off: {why}"),
            Self::Cancelled => f.write_str("the turn was ended"),
        }
    }
}

/// How long to wait for an answer.
#[derive(Clone, Copy)]
pub(crate) struct Until<'a> {
    pub(crate) deadline: Instant,
    pub(crate) cancelled: &'a AtomicBool,
}

impl Until<'_> {
    /// Why not to wait any longer.
    pub(super) fn over(&self) -> Option<Trouble> {
        match self.cancelled.load(Ordering::Relaxed) {
            true => Some(Trouble::Cancelled),
            false => (Instant::now() >= self.deadline).then_some(Trouble::Silent),
        }
    }
}

/// What comes of a request.
pub(super) type Heard = Result<Value, Trouble>;

/// A request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    pub(crate) params: Map<String, Value>,
    /// What of it is said beside the message as well, where there is such a place: headers, by their names.
    pub(crate) beside: Vec<(String, String)>,
}

/// A way to a server.
pub(crate) trait Link: Send + Sync {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Why there is none.
    fn ask(&self, asked: Asked<'_>, until: Until<'_>) -> Heard;

    /// Says what wants no answer.
    fn tell(&self, method: &str, params: &Value);

    /// From now on hears what the server says by itself. One of the newer form has to be asked for that with
    /// these fields.
    fn listen(&self, subscription: Option<Map<String, Value>>);

    /// Whether it hears that.
    fn hears(&self) -> bool;

    /// Whether the server has said since the last time that it has other tools now.
    fn take_changed(&self) -> bool;

    /// Whether there is any use in asking it.
    fn is_there(&self) -> bool;

    /// The group of its processes, if they are this runner's.
    fn group(&self) -> Option<Pid>;

    /// Whether something of a request is said beside it.
    fn says_beside(&self) -> bool;
}

/// What an answer says.
pub(super) fn outcome(message: &mut Map<String, Value>) -> Heard {
    if let Some(result) = message.remove("result") {
        return Ok(result);
    }
    let error = message.get("error");
    let field = |name: &str| error.and_then(|error| error.get(name)).cloned().unwrap_or_default();
    Err(Trouble::Refused {
        code: field("code").as_i64().unwrap_or_default(),
        message: shorten(field("message").as_str().unwrap_or("?"), 500),
        data: field("data"),
    })
}

/// The answer to what a server asks its client.
pub(super) fn reply(method: &str, id: &Value) -> Value {
    match method {
        "ping" => serde_json::json!({"jsonrpc": "2.0", "id": id, "result": {}}),
        _ => {
            let error =
                serde_json::json!({"code": super::code::NO_METHOD, "message": "Method not found"});
            serde_json::json!({"jsonrpc": "2.0", "id": id, "error": error})
        }
    }
}

/// By which a server says that it has other tools now.
pub(super) const CHANGED: &str = "notifications/tools/list_changed";
