//! Why the homeserver did not do what it was asked, and what that means for a message. Pure.

use std::time::Duration;

use serde::Deserialize;
use twobox_model::channel::Outcome;
use twobox_shared::content::shorten;
use twobox_shared::visible;

/// The longest word of a homeserver that is repeated, in characters.
const WORDS_MAX: usize = 200;

/// The longest pause that is granted to a homeserver.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);

/// The pause where it is too busy and does not say for how long.
const PAUSE: Duration = Duration::from_secs(5);

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing was sent.
    NotReached(String),
    /// It was sent, and nobody knows what came of it.
    Silent(String),
    /// The homeserver said no.
    Refused(Refused),
    /// It was answered, and not by a homeserver, or with what no homeserver says.
    Strange(String),
}

/// A no of the homeserver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: u16,
    /// Its word for programs, such as `M_FORBIDDEN`.
    pub(super) errcode: String,
    /// Its words for people.
    pub(super) error: String,
    /// For how long it wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct Said {
    errcode: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

impl Trouble {
    /// What an answer says that is no success. `retry_after` is its header, in seconds.
    pub(super) fn of(status: u16, retry_after: Option<u64>, body: &[u8]) -> Self {
        match serde_json::from_slice::<Said>(body) {
            Ok(said) if said.errcode.starts_with("M_") && status < 500 => {
                let asked = said.retry_after_ms.map(Duration::from_millis);
                let asked = asked.or(retry_after.map(Duration::from_secs));
                Self::Refused(Refused {
                    status,
                    errcode: words(&said.errcode),
                    error: words(&said.error),
                    retry_after: asked.map(|pause| pause.min(PAUSE_MAX)),
                })
            }
            _ if status == 429 => Self::Refused(Refused {
                status,
                errcode: "429".to_owned(),
                error: "too many requests".to_owned(),
                retry_after: retry_after.map(|it| Duration::from_secs(it).min(PAUSE_MAX)),
            }),
            // Whoever is before it and takes no more will take no more the next time.
            _ if status == 413 => Self::Refused(Refused {
                status,
                errcode: "413".to_owned(),
                error: "too large".to_owned(),
                retry_after: None,
            }),
            // A proxy before it, or a homeserver in trouble: later it may be another.
            _ => Self::Strange(format!("it answered {status}")),
        }
    }

    /// The refusal, if it is one with this status.
    pub(super) fn refused(&self, status: u16) -> Option<&Refused> {
        match self {
            Self::Refused(refused) if refused.status == status => Some(refused),
            Self::Refused(_) | Self::NotReached(_) | Self::Silent(_) | Self::Strange(_) => None,
        }
    }

    /// For how long it wants to be left alone, if it is too busy.
    pub(super) fn busy(&self) -> Option<Duration> {
        self.refused(429).map(|refused| refused.retry_after.unwrap_or(PAUSE))
    }

    /// Whether it will never be done, whoever asks again.
    pub(super) fn is_final(&self) -> bool {
        match self {
            // 401 is about the token, and not about what was asked; the limit is the homeserver's own.
            Self::Refused(refused) => {
                ![401, 408, 429].contains(&refused.status)
                    && refused.errcode != "M_RESOURCE_LIMIT_EXCEEDED"
            }
            Self::NotReached(_) | Self::Silent(_) | Self::Strange(_) => false,
        }
    }

    /// What became of a message that was not taken for this reason. The homeserver honours keys, so what
    /// nobody knows is tried again.
    pub(super) fn outcome(&self) -> Outcome {
        let error = self.to_string();
        match self.is_final() {
            true => Outcome::Permanent { error },
            false => Outcome::Transient { error, retry_after: self.busy() },
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotReached(why) => write!(f, "the homeserver cannot be reached: {}", words(why)),
            Self::Silent(why) => write!(f, "the homeserver did not answer: {}", words(why)),
            Self::Strange(why) => {
                write!(
                    f,
                    "what is at the homeserver's address does not answer as one: {}",
                    words(why)
                )
            }
            Self::Refused(refused) => {
                let Refused { status, errcode, error, .. } = refused;
                let meant = match *status {
                    401 => "the homeserver does not know the token any more",
                    403 => "the account may not do that in this room",
                    404 => "the homeserver does not know that",
                    413 => "it is larger than the homeserver takes",
                    429 => "the homeserver wants a pause",
                    _ => "the homeserver refuses it",
                };
                write!(f, "{meant} ({status} {errcode}: {error})")
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
    use super::*;

    #[test]
    fn each_answer_means_what_it_says_for_a_message() {
        let transient = |seconds: Option<u64>| (false, seconds.map(Duration::from_secs));
        let cases = [
            (
                "busy",
                429,
                None,
                r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":7000}"#,
                transient(Some(7)),
            ),
            (
                "by its header",
                429,
                Some(3),
                r#"{"errcode":"M_LIMIT_EXCEEDED"}"#,
                transient(Some(3)),
            ),
            ("a busy proxy", 429, Some(3), "<html>", transient(Some(3))),
            ("busy for ever", 429, Some(1 << 40), "", transient(Some(3600))),
            ("and does not say", 429, None, "", transient(Some(5))),
            ("not there", 403, None, r#"{"errcode":"M_FORBIDDEN","error":"x"}"#, (true, None)),
            ("bad", 400, None, r#"{"errcode":"M_BAD_JSON"}"#, (true, None)),
            ("large", 413, None, r#"{"errcode":"M_TOO_LARGE"}"#, (true, None)),
            ("too large for a proxy", 413, None, "<html>413</html>", (true, None)),
            ("token", 401, None, r#"{"errcode":"M_UNKNOWN_TOKEN"}"#, transient(None)),
            ("full", 403, None, r#"{"errcode":"M_RESOURCE_LIMIT_EXCEEDED"}"#, transient(None)),
            ("a proxy's 404", 404, None, "<html>not here</html>", transient(None)),
            ("a proxy's 403", 403, None, r#"{"message":"no"}"#, transient(None)),
            ("broken", 500, None, r#"{"errcode":"M_UNKNOWN"}"#, transient(None)),
            ("a gateway", 502, None, "", transient(None)),
        ];
        for (case, status, header, body, (is_final, pause)) in cases {
            match Trouble::of(status, header, body.as_bytes()).outcome() {
                Outcome::Permanent { .. } => assert!(is_final, "{case}"),
                Outcome::Transient { retry_after, .. } => {
                    assert_eq!((false, retry_after), (is_final, pause), "{case}");
                }
                other => panic!("{case}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_words_of_a_homeserver_are_bounded_and_forge_no_line() {
        let body = serde_json::json!({ "errcode": "M_X", "error": "a\nb\u{1b}[2J".repeat(999) });
        let text = Trouble::of(403, None, body.to_string().as_bytes()).to_string();
        assert!(text.len() < 1000 && !text.contains(['\n', '\u{1b}']), "{text}");
    }
}
