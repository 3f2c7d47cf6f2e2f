//! Why Discord did not do what it was asked. Pure.
//!
//! Source: "JSON Error Codes" in <https://docs.discord.com/developers/topics/opcodes-and-status-codes>, and
//! <https://docs.discord.com/developers/topics/rate-limits>.

use std::time::Duration;

use serde::Deserialize;
use twobox_shared::content::shorten;
use twobox_shared::visible;

use crate::http::{Answer, Fault};

/// The longest word of Discord's that is repeated, in characters.
const WORDS_MAX: usize = 200;

/// The longest pause that is granted to Discord. A ban of an address lasts longer than one of these, and begins
/// another one.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);

/// The pause where it does not say for how long.
const PAUSE: Duration = Duration::from_secs(5);

/// Something in front of Discord keeps this machine away.
const BLOCKED: u64 = 40_333;

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing was sent.
    NotReached(String),
    /// It was sent, and nobody knows what came of it.
    Silent(String),
    /// It was answered with what is no answer of Discord's; nobody knows what came of it.
    Strange(String),
    /// It was not done, and will be done later.
    Busy {
        /// When.
        wait: Duration,
        /// Whether that holds for everything that is asked.
        global: bool,
    },
    /// Discord said no.
    Refused(Refused),
}

/// A no of Discord's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: u16,
    /// Its number for programs, such as 50001; 0 if it has none.
    pub(super) code: u64,
    /// Its words for people.
    pub(super) message: String,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    message: String,
    #[serde(default)]
    code: u64,
    #[serde(default)]
    retry_after: Option<f64>,
    #[serde(default)]
    global: bool,
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotReached(why) => Self::NotReached(why),
            Fault::Silent(why) => Self::Silent(why),
            Fault::Strange(why) => Self::Strange(why),
        }
    }
}

impl Trouble {
    /// What an answer says that is no success.
    pub(super) fn of(answer: &Answer) -> Self {
        let said: Option<Said> = serde_json::from_slice(&answer.body).ok();
        let status = answer.status;
        let asked = said.as_ref().and_then(|said| said.retry_after);
        let asked = asked.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match said {
            // Slow mode, and limits of writing, say so with other words.
            said if status == 429 => {
                let wait = asked.or(answer.retry_after()).unwrap_or(PAUSE).min(PAUSE_MAX);
                // What is no word of Discord's itself is said by whoever is in front of it, about all.
                let global = said.is_none_or(|said| said.global);
                Self::Busy { wait, global }
            }
            Some(said) if (400..500).contains(&status) => {
                Self::Refused(Refused { status, code: said.code, message: words(&said.message) })
            }
            _ => Self::Strange(format!("it answered {status}")),
        }
    }

    /// The refusal, if it is one with one of these numbers.
    pub(super) fn is_code(&self, codes: &[u64]) -> bool {
        matches!(self, Self::Refused(refused) if codes.contains(&refused.code))
    }

    /// Whether the token is none.
    pub(super) fn is_about_token(&self) -> bool {
        matches!(self, Self::Refused(refused) if refused.status == 401)
    }

    /// Whether it will never be done, whoever asks again.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Refused(refused) => {
                ![401, 408].contains(&refused.status) && refused.code != BLOCKED
            }
            Self::NotReached(_) | Self::Silent(_) | Self::Strange(_) | Self::Busy { .. } => false,
        }
    }

    /// Whether it counts with Discord as a request that should not have been made. Whoever makes too many is kept
    /// away, with everybody at their address.
    pub(super) fn is_invalid(status: u16) -> bool {
        [401, 403, 429].contains(&status)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotReached(why) => write!(f, "Discord cannot be reached: {}", words(why)),
            Self::Silent(why) => write!(f, "Discord did not answer: {}", words(why)),
            Self::Strange(why) => {
                write!(f, "what is at Discord's address does not answer as it does: {}", words(why))
            }
            Self::Busy { .. } => f.write_str("Discord wants a pause"),
            Self::Refused(Refused { status, code, message }) => {
                let meant = match (code, status) {
                    (_, 401) => "Discord does not know the token any more",
                    (10_003, _) => "there is no such channel",
                    (50_001, _) => {
                        "the bot cannot see this channel: let it, in the channel's permissions"
                    }
                    (50_013, _) => {
                        "the bot may not do that in this channel: see the channel's permissions"
                    }
                    (50_007, _) => "this person takes no direct messages of the bot",
                    (160_005, _) => "the thread is locked",
                    (200_000, _) => "the server's automatic moderation blocks it",
                    (&BLOCKED, _) => "Discord keeps this machine away",
                    _ => "Discord refuses it",
                };
                write!(f, "{meant} ({status} {code}: {message})")
            }
        }
    }
}

/// What somebody else said, in one bounded line that steers nothing.
fn words(text: &str) -> String {
    shorten(&visible::line(text), WORDS_MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::http::HeaderMap;

    fn of(status: u16, retry_after: Option<&str>, body: &str) -> Trouble {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert("retry-after", value.parse().unwrap());
        }
        Trouble::of(&Answer { status, headers, body: Bytes::from(body.to_owned()) })
    }

    #[test]
    fn each_answer_means_what_it_says() {
        let busy =
            |seconds: f64, global| Trouble::Busy { wait: Duration::from_secs_f64(seconds), global };
        assert_eq!(
            of(429, Some("65"), r#"{"message":"limited","retry_after":64.57,"global":false}"#),
            busy(64.57, false),
            "to the millisecond"
        );
        assert_eq!(of(429, None, r#"{"retry_after":0.25,"global":true}"#), busy(0.25, true));
        assert_eq!(
            of(429, None, r#"{"code":20016,"retry_after":9}"#),
            busy(9.0, false),
            "slow mode"
        );
        assert_eq!(of(429, Some("30"), "<html>"), busy(30.0, true), "kept away");
        assert_eq!(of(429, None, r#"{"retry_after":-1}"#), busy(5.0, false));
        assert_eq!(of(429, None, r#"{"retry_after":1e300}"#), busy(5.0, false));
        assert_eq!(of(429, None, r#"{"retry_after":99999999}"#), busy(3600.0, false));
        for (status, code, is_final) in [
            (404, 10_003, true),
            (403, 50_001, true),
            (403, 50_013, true),
            (403, 50_007, true),
            (400, 50_035, true),
            (400, 50_006, true),
            (413, 40_005, true),
            (401, 0, false),
            (403, 40_333, false),
        ] {
            let trouble = of(status, None, &format!("{{\"code\":{code},\"message\":\"x\"}}"));
            assert_eq!(trouble.is_final(), is_final, "{trouble}");
        }
        for (status, body) in [(502, ""), (500, "{\"code\":0}"), (403, "<html>"), (404, "not here")]
        {
            assert!(matches!(of(status, None, body), Trouble::Strange(_)), "{status}");
        }
    }

    #[test]
    fn the_words_of_discord_are_bounded_and_forge_no_line() {
        let body = serde_json::json!({ "code": 1, "message": "a\nb\u{1b}[2J".repeat(999) });
        let text = of(403, None, &body.to_string()).to_string();
        assert!(text.len() < 1000 && !text.contains(['\n', '\u{1b}']), "{text}");
    }
}
