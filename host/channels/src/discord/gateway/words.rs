//! The words of the gateway: what it says, what it is told, and what follows from how a connection ended. Pure.
//!
//! Source: <https://docs.discord.com/developers/events/gateway>, and "Gateway Close Event Codes" in
//! <https://docs.discord.com/developers/topics/opcodes-and-status-codes>.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::wire::{Channel, Guild, Interaction, Message, Ready};

/// What the bot wants to be told: of guilds with their channels and threads, and of messages in them and in direct
/// chats, with what they say.
const INTENTS: u64 = GUILDS | GUILD_MESSAGES | DIRECT_MESSAGES | MESSAGE_CONTENT;
const GUILDS: u64 = 1;
const GUILD_MESSAGES: u64 = 1 << 9;
const DIRECT_MESSAGES: u64 = 1 << 12;
const MESSAGE_CONTENT: u64 = 1 << 15;

/// The shortest and the longest pause between two signs of life that is kept to.
const BEAT: (u64, u64) = (100, 10 * 60 * 1000);

/// What the gateway says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::discord) enum Said {
    /// It greets, and wants a sign of life as often as that.
    Hello(Duration),
    /// It wants one now.
    Beat,
    /// It has had one.
    Heard,
    /// It wants to be connected to anew.
    Reconnect,
    /// The session is none; or may be one later.
    Invalid { resumable: bool },
    /// Something happened, with its number in the session.
    Event(u64, Box<Event>),
    /// Something else.
    Other,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::discord) enum Event {
    /// The session begins.
    Ready(Ready),
    /// Everything of before was told.
    Resumed,
    Message(Message),
    Interaction(Interaction),
    /// A guild is there, with its channels.
    Guild(Guild),
    /// A guild is there no longer, or not at the moment.
    NoGuild(Guild),
    /// A channel or a thread is there, or has changed.
    Channel(Channel),
    NoChannel(Channel),
    /// Of no matter here.
    Other,
    /// Of a kind that matters here, and not to be read.
    Unreadable(&'static str),
}

#[derive(Deserialize)]
struct Payload<'a> {
    op: u64,
    #[serde(borrow, default)]
    d: Option<&'a RawValue>,
    #[serde(default)]
    s: Option<u64>,
    #[serde(borrow, default)]
    t: Option<std::borrow::Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Hello {
    heartbeat_interval: u64,
}

/// Reads what the gateway says; `None` if it is not to be read.
pub(in crate::discord) fn read(text: &str) -> Option<Said> {
    let payload: Payload<'_> = serde_json::from_str(text).ok()?;
    let data = payload.d.map_or("null", RawValue::get);
    Some(match payload.op {
        0 => Said::Event(payload.s?, Box::new(event(payload.t.as_deref()?, data))),
        1 => Said::Beat,
        7 => Said::Reconnect,
        9 => Said::Invalid { resumable: data == "true" },
        10 => {
            let hello: Hello = serde_json::from_str(data).ok()?;
            let (least, most) = BEAT;
            Said::Hello(Duration::from_millis(hello.heartbeat_interval.clamp(least, most)))
        }
        11 => Said::Heard,
        _ => Said::Other,
    })
}

fn event(name: &str, data: &str) -> Event {
    fn of<T: DeserializeOwned>(what: &'static str, data: &str, make: fn(T) -> Event) -> Event {
        serde_json::from_str(data).map_or(Event::Unreadable(what), make)
    }
    match name {
        "READY" => of("READY", data, Event::Ready),
        "RESUMED" => Event::Resumed,
        "MESSAGE_CREATE" => of("MESSAGE_CREATE", data, Event::Message),
        "INTERACTION_CREATE" => of("INTERACTION_CREATE", data, Event::Interaction),
        "GUILD_CREATE" => of("GUILD_CREATE", data, Event::Guild),
        "GUILD_DELETE" => of("GUILD_DELETE", data, Event::NoGuild),
        "CHANNEL_CREATE" | "THREAD_CREATE" => of("CHANNEL_CREATE", data, Event::Channel),
        "CHANNEL_DELETE" | "THREAD_DELETE" => of("CHANNEL_DELETE", data, Event::NoChannel),
        _ => Event::Other,
    }
}

/// A sign of life, with the number of what came last.
pub(in crate::discord) fn beat(last: Option<u64>) -> String {
    json!({ "op": 1, "d": last }).to_string()
}

/// The bot introduces itself: a new session.
pub(in crate::discord) fn identify(token: &str) -> String {
    let properties = json!({ "os": std::env::consts::OS, "browser": "twobox", "device": "twobox" });
    let data = json!({ "token": token, "intents": INTENTS, "properties": properties });
    json!({ "op": 2, "d": data }).to_string()
}

/// The bot goes on with a session, behind the event with this number.
pub(in crate::discord) fn resume(token: &str, session: &str, last: u64) -> String {
    let data = json!({ "token": token, "session_id": session, "seq": last });
    json!({ "op": 6, "d": data }).to_string()
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::discord) enum Ended {
    /// It could not be made.
    NotReached(String),
    /// It is lost, or nothing comes any more.
    Lost(String),
    /// The gateway closed it.
    Closed { code: Option<u16>, reason: String },
    /// The gateway wants it.
    Reconnect,
    /// The gateway does not take the session.
    Invalid { resumable: bool },
}

/// What is done then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::discord) enum Next {
    /// The session goes on.
    Resume,
    /// There has to be another one.
    Identify,
    /// A person has to mend something.
    Refused(&'static str),
}

impl Ended {
    /// What is done now.
    pub(in crate::discord) fn next(&self) -> Next {
        let code = match self {
            Self::Invalid { resumable: false } => return Next::Identify,
            Self::NotReached(_) | Self::Lost(_) | Self::Reconnect | Self::Invalid { .. } => {
                return Next::Resume;
            }
            Self::Closed { code, .. } => *code,
        };
        match code {
            Some(4004) => Next::Refused(
                "Discord does not take the token: get another one on the page \"Bot\" of the Developer Portal, and \
                 give it with `twobox secrets set`",
            ),
            Some(4014) => Next::Refused(
                "the bot may not read messages: switch on \"Message Content Intent\" on the page \"Bot\" of the \
                 Developer Portal, and save",
            ),
            Some(4010 | 4011) => Next::Refused(
                "the bot is in more than 2,500 servers, which needs several connections: Twobox makes one",
            ),
            Some(4012 | 4013) => {
                Next::Refused("Discord's gateway takes no bots of this version: update Twobox")
            }
            Some(4003 | 4007 | 4009) => Next::Identify,
            _ => Next::Resume,
        }
    }

    /// Whether that happens every now and then, and is nothing to be told.
    pub(in crate::discord) fn is_routine(&self) -> bool {
        match self {
            Self::Reconnect | Self::Invalid { .. } | Self::Closed { .. } => true,
            Self::NotReached(_) | Self::Lost(_) => false,
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotReached(why) | Self::Lost(why) => write!(f, "Discord's gateway: {why}"),
            Self::Closed { code: Some(code), reason } => {
                write!(f, "Discord's gateway closed the connection ({code} {reason})")
            }
            Self::Closed { code: None, .. } => {
                f.write_str("Discord's gateway closed the connection")
            }
            Self::Reconnect => f.write_str("Discord's gateway wants to be connected to anew"),
            Self::Invalid { .. } => f.write_str("Discord's gateway does not take the session"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_the_gateway_says_is_read() {
        let hello = read(r#"{"t":null,"s":null,"op":10,"d":{"heartbeat_interval":41250}}"#);
        assert_eq!(hello, Some(Said::Hello(Duration::from_millis(41_250))));
        assert_eq!(read(r#"{"op":10,"d":{"heartbeat_interval":0}}"#), {
            Some(Said::Hello(Duration::from_millis(100)))
        });
        assert_eq!(read(r#"{"op":11}"#), Some(Said::Heard));
        assert_eq!(read(r#"{"op":1,"d":null}"#), Some(Said::Beat));
        assert_eq!(read(r#"{"op":7,"d":null}"#), Some(Said::Reconnect));
        for (data, resumable) in [("true", true), ("false", false), ("null", false)] {
            let said = read(&format!("{{\"op\":9,\"d\":{data}}}"));
            assert_eq!(said, Some(Said::Invalid { resumable }));
        }
        let event = |text: &str| match read(text) {
            Some(Said::Event(number, event)) => (number, *event),
            other => panic!("{other:?}"),
        };
        let (number, ready) = event(
            r#"{"op":0,"s":1,"t":"READY","d":{"v":10,"user":{"id":"7","username":"b","bot":true},
                "guilds":[{"id":"2","unavailable":true}],"session_id":"s","resume_gateway_url":"wss://x"}}"#,
        );
        assert!(number == 1 && matches!(ready, Event::Ready(ready) if ready.guilds[0].unavailable));
        assert_eq!(event(r#"{"op":0,"s":2,"t":"TYPING_START","d":{}}"#), (2, Event::Other));
        assert_eq!(
            event(r#"{"op":0,"s":3,"t":"MESSAGE_CREATE","d":{"id":"x"}}"#),
            (3, Event::Unreadable("MESSAGE_CREATE"))
        );
        assert_eq!(read(r#"{"op":99}"#), Some(Said::Other));
        for strange in ["", "[]", "{}", "{\"op\":0}", "{\"op\":10}", "nonsense"] {
            assert_eq!(read(strange), None, "{strange}");
        }
    }

    #[test]
    fn each_end_has_its_consequence() {
        let closed = |code| Ended::Closed { code, reason: String::new() }.next();
        for code in [4004, 4010, 4011, 4012, 4013, 4014] {
            assert!(matches!(closed(Some(code)), Next::Refused(_)), "{code}");
        }
        for code in [4003, 4007, 4009] {
            assert_eq!(closed(Some(code)), Next::Identify, "{code}");
        }
        for code in [
            None,
            Some(1000),
            Some(1006),
            Some(4000),
            Some(4001),
            Some(4002),
            Some(4005),
            Some(4008),
        ] {
            assert_eq!(closed(code), Next::Resume, "{code:?}");
        }
        assert_eq!(Ended::Invalid { resumable: false }.next(), Next::Identify);
        for end in
            [Ended::Invalid { resumable: true }, Ended::Reconnect, Ended::Lost(String::new())]
        {
            assert_eq!(end.next(), Next::Resume);
        }
    }

    #[test]
    fn what_is_said_to_it_is_short_enough() {
        let token = "t".repeat(100);
        for said in
            [identify(&token), resume(&token, &"s".repeat(100), 5), beat(None), beat(Some(7))]
        {
            assert!(said.len() < 4096, "{said}");
        }
        let intents: Value = serde_json::from_str(&identify("t")).unwrap();
        assert_eq!(intents["d"]["intents"], 1 + 512 + 4096 + 32_768);
    }
}
