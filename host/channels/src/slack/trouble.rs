//! Why Slack did not do what it was asked, and what that means for a part of a message. Pure.

use std::time::Duration;

use serde::Deserialize;
use twobox_shared::content::shorten;
use twobox_shared::visible;

use crate::http::{Answer, Fault};
use crate::parts::Sent;

/// The longest word of Slack's that is repeated, in characters.
const WORDS_MAX: usize = 200;

/// The longest pause that is granted.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);

/// The pause where it does not say for how long.
const PAUSE: Duration = Duration::from_secs(5);

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing was sent.
    NotReached(String),
    /// It was sent, and nobody knows what came of it.
    Silent(String),
    /// It was answered, and not by Slack, or with what it does not say.
    Strange(String),
    /// Slack wants to be left alone for so long, and has done nothing.
    Busy(Duration),
    /// Slack said no.
    Refused(Refused),
}

/// A no of Slack's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// Its word for programs, such as `channel_not_found`.
    pub(super) error: String,
    /// The scope that is missing.
    pub(super) needed: Option<String>,
}

/// What a no means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// It is about the tokens, the app or the workspace: a person mends it, and then it may do.
    Access,
    /// Slack is in trouble, and has done nothing.
    Passing,
    /// Slack is in trouble, and may have done it.
    Unknown,
    /// It will never be done.
    Never,
}

#[derive(Deserialize)]
struct Said {
    ok: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    needed: Option<String>,
}

impl Trouble {
    /// What is wrong with `answer`, if something is.
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        let busy = || answer.retry_after().unwrap_or(PAUSE).min(PAUSE_MAX);
        if answer.status == 429 {
            return Some(Self::Busy(busy()));
        }
        match answer.json::<Said>() {
            Ok(said) if said.ok && answer.is_success() => None,
            Ok(said) if !said.ok && !said.error.is_empty() => Some(match said.error.as_str() {
                "ratelimited" | "rate_limited" => Self::Busy(busy()),
                error => Self::Refused(Refused {
                    error: words(error),
                    needed: said.needed.map(|needed| words(&needed)),
                }),
            }),
            // A proxy before it, or Slack in trouble: later it may be another.
            Ok(_) | Err(_) => Some(Self::Strange(format!("it answered {}", answer.status))),
        }
    }

    /// Its word, if Slack said no.
    pub(super) fn error(&self) -> Option<&str> {
        match self {
            Self::Refused(refused) => Some(&refused.error),
            Self::NotReached(_) | Self::Silent(_) | Self::Strange(_) | Self::Busy(_) => None,
        }
    }

    fn meaning(&self) -> Option<Meaning> {
        self.error().map(meaning)
    }

    /// Whether a person has to mend the tokens, the app or the workspace.
    pub(super) fn is_access(&self) -> bool {
        self.meaning() == Some(Meaning::Access)
    }

    /// Whether it will never be done, whoever asks again.
    pub(super) fn is_final(&self) -> bool {
        self.meaning() == Some(Meaning::Never)
    }

    /// For how long Slack wants to be left alone.
    pub(super) fn busy(&self) -> Option<Duration> {
        match self {
            Self::Busy(pause) => Some(*pause),
            Self::NotReached(_) | Self::Silent(_) | Self::Strange(_) | Self::Refused(_) => None,
        }
    }

    /// What became of a part that was not taken for this reason.
    pub(super) fn sent(&self) -> Sent {
        let error = self.to_string();
        match (self, self.meaning()) {
            (_, Some(Meaning::Never)) => Sent::Refused(error),
            (_, Some(Meaning::Unknown)) | (Self::Silent(_) | Self::Strange(_), _) => {
                Sent::Unknown(error)
            }
            (Self::NotReached(_) | Self::Busy(_) | Self::Refused(_), _) => {
                Sent::NotSent { error, retry_after: self.busy() }
            }
        }
    }
}

/// What the words of Slack's Web API mean. One that nobody knows is a no.
///
/// Source: the errors of <https://docs.slack.dev/reference/methods/chat.postMessage>.
fn meaning(error: &str) -> Meaning {
    match error {
        "invalid_auth"
        | "not_authed"
        | "account_inactive"
        | "token_revoked"
        | "token_expired"
        | "no_permission"
        | "missing_scope"
        | "not_allowed_token_type"
        | "org_login_required"
        | "ekm_access_denied"
        | "enterprise_is_restricted"
        | "team_access_not_granted"
        | "two_factor_setup_required"
        | "accesslimited"
        | "access_denied"
        | "is_inactive" => Meaning::Access,
        "service_unavailable"
        | "team_added_to_org"
        | "request_timeout"
        | "message_limit_exceeded"
        | "external_channel_migrating" => Meaning::Passing,
        // "It's possible some aspect of the operation succeeded before the error was raised."
        "fatal_error" | "internal_error" => Meaning::Unknown,
        _ => Meaning::Never,
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotReached(why) => Self::NotReached(words(&why)),
            Fault::Silent(why) => Self::Silent(words(&why)),
            Fault::Strange(why) => Self::Strange(words(&why)),
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotReached(why) => write!(f, "Slack cannot be reached: {why}"),
            Self::Silent(why) => write!(f, "Slack did not answer: {why}"),
            Self::Strange(why) => {
                write!(f, "what is at Slack's address does not answer as Slack: {why}")
            }
            Self::Busy(pause) => {
                write!(f, "Slack wants a pause of {} s (ratelimited)", pause.as_secs())
            }
            Self::Refused(Refused { error, needed: Some(needed) }) => {
                write!(
                    f,
                    "the app has no scope {needed} ({error}): add it, and install the app again"
                )
            }
            Self::Refused(Refused { error, needed: None }) => {
                let meant = match error.as_str() {
                    "channel_not_found" => {
                        "Slack does not know that conversation, or the app is not in it"
                    }
                    "not_in_channel" => "the app is not in that channel: invite it",
                    "is_archived" => "the channel is archived",
                    "msg_too_long" => "it is longer than Slack takes",
                    "invalid_auth" | "not_authed" | "token_revoked" | "token_expired" => {
                        "Slack does not know the token any more"
                    }
                    "account_inactive" => "the app is not installed in the workspace any more",
                    _ => "Slack refuses it",
                };
                write!(f, "{meant} ({error})")
            }
        }
    }
}

/// What somebody else said, in one bounded line that steers nothing.
pub(super) fn words(text: &str) -> String {
    shorten(&visible::line(text), WORDS_MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::http::{HeaderMap, HeaderValue};

    fn answer(status: u16, retry_after: Option<&'static str>, body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(seconds) = retry_after {
            headers.insert("retry-after", HeaderValue::from_static(seconds));
        }
        Answer { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn each_answer_means_what_it_says_for_a_message() {
        let no = |error: &str| format!(r#"{{"ok":false,"error":"{error}"}}"#);
        let pause = |seconds| Some(Duration::from_secs(seconds));
        let cases = [
            ("busy", 429, Some("7"), no("ratelimited"), ("not sent", pause(7))),
            ("a busy proxy", 429, Some("3"), "<html>".to_owned(), ("not sent", pause(3))),
            ("busy for ever", 429, Some("99999999"), String::new(), ("not sent", pause(3600))),
            ("and does not say", 200, None, no("ratelimited"), ("not sent", pause(5))),
            ("not there", 200, None, no("channel_not_found"), ("refused", None)),
            ("not in it", 200, None, no("not_in_channel"), ("refused", None)),
            ("archived", 200, None, no("is_archived"), ("refused", None)),
            ("too long", 200, None, no("msg_too_long"), ("refused", None)),
            ("unheard of", 200, None, no("some_new_word"), ("refused", None)),
            ("the token", 200, None, no("invalid_auth"), ("not sent", None)),
            ("a scope", 200, None, no("missing_scope"), ("not sent", None)),
            ("down", 503, None, no("service_unavailable"), ("not sent", None)),
            ("half done", 200, None, no("fatal_error"), ("unknown", None)),
            ("broken", 500, None, "oops".to_owned(), ("unknown", None)),
            ("no Slack", 200, None, "<html>".to_owned(), ("unknown", None)),
        ];
        for (case, status, header, body, expected) in cases {
            let said = match Trouble::of(&answer(status, header, &body)).unwrap().sent() {
                Sent::NotSent { retry_after, .. } => ("not sent", retry_after),
                Sent::Refused(_) => ("refused", None),
                Sent::Unknown(_) => ("unknown", None),
                other => panic!("{case}: {other:?}"),
            };
            assert_eq!(said, expected, "{case}");
        }
        assert_eq!(Trouble::of(&answer(200, None, r#"{"ok":true,"ts":"1.0"}"#)), None);
    }

    #[test]
    fn a_scope_that_is_missing_is_named_and_nothing_forges_a_line() {
        let body = r#"{"ok":false,"error":"missing_scope","needed":"im:history"}"#;
        let text = Trouble::of(&answer(200, None, body)).unwrap().to_string();
        assert!(text.contains("no scope im:history"), "{text}");
        let long = "a\\nb\\u001b[2J".repeat(999);
        let body = format!(r#"{{"ok":false,"error":"{long}"}}"#);
        let text = Trouble::of(&answer(200, None, &body)).unwrap().to_string();
        assert!(text.len() < 1000 && !text.contains(['\n', '\u{1b}']), "{text}");
    }
}
