//! What the operator is told in a chat of theirs, and how. Pure.

use serde::Serialize;
use twobox_shared::content::shorten;
use twobox_shared::time::UnixMillis;
use twobox_shared::visible;

/// The longest text of a trouble, in characters.
const TEXT_MAX: usize = 400;

/// Something that an operator wants to know of while it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lasting {
    /// What it is, in a word for programs: the same as long as it lasts.
    pub cause: String,
    /// What is wrong and what to do, for people.
    pub text: String,
}

impl Lasting {
    /// A trouble. Its text may quote others: it is one line, bounded, and hides nothing.
    pub fn new(cause: impl Into<String>, text: &str) -> Self {
        Self { cause: cause.into(), text: shorten(&visible::line(text), TEXT_MAX) }
    }
}

/// A trouble that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its number.
    pub id: i64,
    /// What it is.
    pub cause: String,
    /// What is wrong and what to do.
    pub text: String,
    /// When it was seen.
    pub raised_at: UnixMillis,
    /// When the operator was told.
    pub told_at: Option<UnixMillis>,
    /// When it was seen to be over.
    pub ended_at: Option<UnixMillis>,
}

/// What of an alert is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// That there is one.
    Begun,
    /// That it is over.
    Ended,
    /// Both at once: it was over before anybody could be told.
    Both,
}

/// How the cause begins of what has happened, and has no end to be told of.
pub const EVENT: &str = "event:";

impl Alert {
    /// What of it is to be told now.
    pub fn telling(&self) -> Telling {
        match (self.told_at, self.ended_at) {
            _ if self.cause.starts_with(EVENT) => Telling::Begun,
            (None, None) => Telling::Begun,
            (None, Some(_)) => Telling::Both,
            (Some(_), _) => Telling::Ended,
        }
    }

    /// That, as it is said. Times are UTC.
    pub fn said(&self) -> String {
        let Self { text, raised_at, .. } = self;
        match (self.telling(), self.ended_at) {
            (Telling::Ended, Some(ended)) => format!("Over since {ended}: {text}"),
            (Telling::Both, Some(ended)) => {
                format!("From {raised_at} to {ended}, now over: {text}")
            }
            _ if self.cause.starts_with(EVENT) => format!("{raised_at}: {text}"),
            (Telling::Begun | Telling::Ended | Telling::Both, _) => {
                format!("Since {raised_at}: {text}")
            }
        }
    }

    /// The last part of the key under which it is told: the same for every attempt.
    pub fn key(&self) -> String {
        let what = match self.telling() {
            Telling::Begun => "begun",
            Telling::Ended | Telling::Both => "ended",
        };
        format!("alert/{}/{what}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_when_it_begins_and_when_it_is_over_or_both_at_once() {
        let mut alert = Alert {
            id: 7,
            cause: "channel:m".to_owned(),
            text: "m is down".to_owned(),
            raised_at: UnixMillis(0),
            told_at: None,
            ended_at: None,
        };
        assert_eq!(alert.said(), "Since 1970-01-01T00:00:00.000Z: m is down");
        assert_eq!(alert.key(), "alert/7/begun");
        let (told, over) = (Some(UnixMillis(1)), Some(UnixMillis(60_000)));
        alert.ended_at = over;
        assert_eq!(alert.telling(), Telling::Both);
        assert!(alert.said().starts_with("From 1970-01-01T00:00:00.000Z to 1970-01-01T00:01:00"));
        alert.told_at = told;
        assert_eq!(alert.said(), "Over since 1970-01-01T00:01:00.000Z: m is down");
        assert_eq!(alert.key(), "alert/7/ended");
        let event = Alert { cause: format!("{EVENT}x"), told_at: None, ..alert };
        assert_eq!(event.said(), "1970-01-01T00:00:00.000Z: m is down");
        assert_eq!(event.key(), "alert/7/begun");
    }

    #[test]
    fn what_others_said_stays_in_one_line() {
        let lasting = Lasting::new("x", &format!("a\nb\u{202e}{}", "c".repeat(1000)));
        assert!(lasting.text.starts_with("a\\nb") && !lasting.text.contains('\u{202e}'));
        assert!(lasting.text.chars().count() <= TEXT_MAX + 1);
    }
}
