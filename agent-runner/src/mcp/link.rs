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
    /// It had ended, or closed its output, before it was asked.
    Gone,
    /// The host cannot ask it, in the host's words, and has sent it nothing.
    Unreached(String),
    /// The host has sent it the request and has no whole answer, in the host's words.
    Unanswered(String),
    /// It does not let whoever the host says it is do this, in the host's words. The server is there all the same.
    Forbidden(String),
    /// The host does not ask it this, or not now, in the host's words. The server is there all the same.
    Unasked(String),
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
            Self::Unreached(why)
            | Self::Unanswered(why)
            | Self::Forbidden(why)
            | Self::Unasked(why) => f.write_str(why),
            Self::Forgotten => f.write_str("it forgets the session as soon as there is one"),
            Self::NoMcp(why) => write!(f, "what it answers is no MCP: {why}"),
            Self::TooLong => write!(f, "it answers more than {} MiB", MESSAGE_MAX >> 20),
            Self::Cut(why) => write!(f, "its answer broke off: {why}"),
            Self::Cancelled => f.write_str("the turn was ended"),
        }
    }
}

impl Trouble {
    /// Whether what was asked may have been done all the same: it may have gone out, and nobody has said that it
    /// was refused.
    pub(crate) fn may_be_done(&self) -> bool {
        match self {
            Self::Status(..)
            | Self::Silent
            | Self::Unanswered(_)
            | Self::NoMcp(_)
            | Self::TooLong
            | Self::Cut(_)
            | Self::Cancelled => true,
            // A server that does not know the session has not looked at the request.
            Self::Refused { .. }
            | Self::Gone
            | Self::Unreached(_)
            | Self::Forbidden(_)
            | Self::Unasked(_)
            | Self::Forgotten => false,
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

    /// As long as that, and no longer than `span` from now on.
    pub(super) fn at_most(self, span: Duration) -> Self {
        Self { deadline: self.deadline.min(Instant::now() + span), ..self }
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

/// The longest text by which a question of a server is known, in bytes.
const ASKS_MAX: usize = 256;

/// Whether a server's question is known by something that is said back to it.
pub(super) fn is_answered(id: &Value) -> bool {
    id.is_number() || id.as_str().is_some_and(|text| text.len() <= ASKS_MAX)
}

/// By which a server says that it has other tools now.
pub(super) const CHANGED: &str = "notifications/tools/list_changed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_gone_out_may_have_been_done_unless_somebody_has_refused_it() {
        let why = || "why".to_owned();
        let refused = Trouble::Refused { code: -1, message: why(), data: Value::Null };
        for not in [
            refused,
            Trouble::Gone,
            Trouble::Unreached(why()),
            Trouble::Forbidden(why()),
            Trouble::Unasked(why()),
            Trouble::Forgotten,
        ] {
            assert!(!not.may_be_done(), "{not:?}");
        }
        for may in [
            Trouble::Status(500, why()),
            Trouble::Silent,
            Trouble::Unanswered(why()),
            Trouble::NoMcp(why()),
            Trouble::TooLong,
            Trouble::Cut(why()),
            Trouble::Cancelled,
        ] {
            assert!(may.may_be_done(), "{may:?}");
        }
    }

    #[test]
    fn a_question_is_answered_that_has_a_number_or_a_short_name() {
        let long = "x".repeat(ASKS_MAX + 1);
        for (id, expected) in [
            (Value::from(7), true),
            (Value::from(""), true),
            (Value::from(&long[1..]), true),
            (Value::from(long.as_str()), false),
            (Value::Null, false),
            (serde_json::json!([1]), false),
            (serde_json::json!({"a": 1}), false),
        ] {
            assert_eq!(is_answered(&id), expected, "{id}");
        }
    }

    #[test]
    fn nothing_is_waited_for_longer_than_whoever_wants_it_waits() {
        let (cancelled, deadline) = (AtomicBool::new(false), Instant::now());
        let until = Until { deadline, cancelled: &cancelled };
        assert_eq!(until.at_most(Duration::from_secs(60)).deadline, deadline);
        let far = Until { deadline: deadline + Duration::from_secs(3600), ..until };
        assert!(far.at_most(Duration::from_secs(1)).deadline < far.deadline);
        cancelled.store(true, Ordering::Relaxed);
        assert!(matches!(far.at_most(Duration::from_secs(1)).over(), Some(Trouble::Cancelled)));
    }
}
