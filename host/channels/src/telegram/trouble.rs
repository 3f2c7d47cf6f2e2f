//! Why the Bot API did not do what it was asked, and what that means for a message. Pure.

use std::time::Duration;

use serde::Deserialize;
use twobox_shared::content::shorten;
use twobox_shared::visible;

use crate::http::Fault;
use crate::parts::Sent;

/// The longest word of Telegram that is repeated, in characters.
const WORDS_MAX: usize = 200;

/// The longest pause that is granted.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);

/// The pause where it wants one and does not say for how long.
const PAUSE: Duration = Duration::from_secs(5);

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing was sent.
    NotReached(String),
    /// It was sent, and nobody knows what came of it.
    Silent(String),
    /// Something in its place has answered, or it is in trouble itself: nobody knows what came of it.
    Strange(String),
    /// Telegram said no.
    Refused(Refused),
}

/// A no of Telegram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: u16,
    /// Its words.
    pub(super) why: String,
    /// For how long it wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// The group is another one now.
    pub(super) moved_to: Option<i64>,
}

/// An answer that is no success.
#[derive(Deserialize)]
struct Said {
    ok: bool,
    #[serde(default)]
    error_code: u16,
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

impl Trouble {
    /// What an answer says that is no success. `retry_after` is its header.
    pub(super) fn of(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let said = serde_json::from_slice::<Said>(body).ok().filter(|said| !said.ok);
        let parameters = said.as_ref().map(|said| &said.parameters);
        let pause = parameters.and_then(|it| it.retry_after).map(Duration::from_secs);
        let pause = pause.or(retry_after).map(|pause| pause.min(PAUSE_MAX));
        match said {
            // What it says in its own trouble is no word of what came of the request.
            Some(said) if (400..500).contains(&said.error_code) => Self::Refused(Refused {
                status: said.error_code,
                why: words(&said.description),
                retry_after: pause,
                moved_to: said.parameters.migrate_to_chat_id,
            }),
            None if [413, 429].contains(&status) => Self::Refused(Refused {
                status,
                why: "it does not say why".to_owned(),
                retry_after: pause,
                moved_to: None,
            }),
            Some(_) | None => Self::Strange(format!("it answered {status}")),
        }
    }

    /// The refusal, if it is one with this status.
    pub(super) fn refused(&self, status: u16) -> Option<&Refused> {
        match self {
            Self::Refused(refused) if refused.status == status => Some(refused),
            Self::Refused(_) | Self::NotReached(_) | Self::Silent(_) | Self::Strange(_) => None,
        }
    }

    /// For how long it wants to be left alone, if it is asked too much.
    pub(super) fn busy(&self) -> Option<Duration> {
        self.refused(429).map(|refused| refused.retry_after.unwrap_or(PAUSE))
    }

    /// Whether it does not know the token: it answers 404 where that has not even the form of one.
    pub(super) fn is_about_token(&self) -> bool {
        self.refused(401).or(self.refused(404)).is_some()
    }

    /// The id of the group that a group has become.
    pub(super) fn moved_to(&self) -> Option<i64> {
        self.refused(400).and_then(|refused| refused.moved_to)
    }

    /// Whether it is the marks of a text that it does not take.
    pub(super) fn is_about_marks(&self) -> bool {
        let about = |refused: &Refused| {
            let why = refused.why.to_ascii_lowercase();
            why.contains("entit") && !why.contains("too large")
        };
        self.refused(400).is_some_and(about)
    }

    /// What became of a part of a message that it was asked to show.
    pub(super) fn sent(&self) -> Sent {
        let error = self.to_string();
        match self {
            Self::NotReached(_) => Sent::NotSent { error, retry_after: None },
            Self::Silent(_) | Self::Strange(_) => Sent::Unknown(error),
            Self::Refused(_) if self.is_about_token() => Sent::NotSent { error, retry_after: None },
            // A conflict is about who listens.
            Self::Refused(refused) if [408, 409].contains(&refused.status) => {
                Sent::NotSent { error, retry_after: None }
            }
            Self::Refused(refused) if refused.status == 429 => {
                Sent::NotSent { error, retry_after: self.busy() }
            }
            Self::Refused(_) => Sent::Refused(error),
        }
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
            Self::NotReached(why) => write!(f, "Telegram cannot be reached: {why}"),
            Self::Silent(why) => write!(f, "Telegram did not answer: {why}"),
            Self::Strange(why) => {
                write!(f, "what is at the address of Telegram does not answer as it: {why}")
            }
            Self::Refused(refused) => {
                let Refused { status, why, .. } = refused;
                let meant = match *status {
                    401 | 404 => "Telegram does not know the token",
                    403 => "the bot may not do that in this chat",
                    409 => "somebody else gets what is said to this bot",
                    413 => "it is larger than Telegram takes",
                    429 => "Telegram wants a pause",
                    _ => "Telegram refuses it",
                };
                write!(f, "{meant} ({status}: {why})")
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

    fn refusal(code: u16, description: &str, parameters: &str) -> String {
        format!(
            "{{\"ok\":false,\"error_code\":{code},\"description\":{description:?},\
             \"parameters\":{parameters}}}"
        )
    }

    #[test]
    fn each_answer_means_what_it_says_for_a_message() {
        let busy = r#"{"retry_after":7}"#;
        let later = |seconds: Option<u64>| ("later", seconds.map(Duration::from_secs));
        let (never, unknown) = (("never", None), ("unknown", None));
        let said = |code: u16, description: &str| refusal(code, description, "{}");
        let cases = [
            ("busy", 429, None, refusal(429, "Too Many Requests", busy), later(Some(7))),
            ("by its header", 429, Some(3), said(429, "Too Many Requests"), later(Some(3))),
            ("a busy proxy", 429, Some(3), "<html>".to_owned(), later(Some(3))),
            ("busy for ever", 429, Some(1 << 40), String::new(), later(Some(3600))),
            ("and does not say", 429, None, String::new(), later(Some(5))),
            ("blocked", 403, None, said(403, "Forbidden: bot was blocked by the user"), never),
            ("gone", 400, None, said(400, "Bad Request: chat not found"), never),
            ("large", 413, None, said(413, "Request Entity Too Large"), never),
            ("a proxy that finds it large", 413, None, "<html>".to_owned(), never),
            ("token", 401, None, said(401, "Unauthorized"), later(None)),
            ("no token", 404, None, said(404, "Not Found"), later(None)),
            ("another listens", 409, None, said(409, "Conflict"), later(None)),
            ("a proxy's 404", 404, None, "<html>not here</html>".to_owned(), unknown),
            ("a proxy's 403", 403, None, "{\"message\":\"no\"}".to_owned(), unknown),
            ("broken", 500, None, said(500, "Internal Server Error"), unknown),
            ("broken behind a proxy", 200, None, said(500, "x"), unknown),
            ("a gateway", 502, None, "<html>".to_owned(), unknown),
            ("no answer", 400, None, "{\"ok\":true}".to_owned(), unknown),
        ];
        for (case, status, header, body, expected) in cases {
            let header = header.map(Duration::from_secs);
            let found = match Trouble::of(status, header, body.as_bytes()).sent() {
                Sent::NotSent { retry_after, .. } => ("later", retry_after),
                Sent::Refused(_) => never,
                Sent::Unknown(_) => unknown,
                Sent::Taken(_) => panic!("{case}"),
            };
            assert_eq!(found, expected, "{case}");
        }
        let not_reached = Trouble::from(Fault::NotReached("no route".to_owned()));
        assert!(matches!(not_reached.sent(), Sent::NotSent { .. }));
        assert!(matches!(Trouble::from(Fault::Silent("x".to_owned())).sent(), Sent::Unknown(_)));
    }

    #[test]
    fn what_has_to_be_mended_here_is_told_apart() {
        let of = |body: String| Trouble::of(400, None, body.as_bytes());
        let marks = of(refusal(400, "Bad Request: can't parse entities: x", "{}"));
        assert!(marks.is_about_marks() && marks.moved_to().is_none());
        assert!(!of(refusal(400, "Bad Request: message is too long", "{}")).is_about_marks());
        let large = of(refusal(413, "Request Entity Too Large", "{}"));
        assert!(!large.is_about_marks());
        let group = "Bad Request: group chat was upgraded to a supergroup chat";
        let moved = of(refusal(400, group, r#"{"migrate_to_chat_id":-1001}"#));
        assert_eq!(moved.moved_to(), Some(-1001));
        assert!(of(refusal(401, "Unauthorized", "{}")).is_about_token());
    }

    #[test]
    fn the_words_of_telegram_are_bounded_and_forge_no_line() {
        let body = refusal(403, &"a\nb".repeat(999), "{}");
        let text = Trouble::of(403, None, body.as_bytes()).to_string();
        assert!(text.len() < 1000 && !text.contains('\n'), "{text}");
    }
}
