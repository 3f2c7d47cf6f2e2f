//! What an event of a room says. All of it is a stranger's word: read leniently, bounded, and told apart by
//! what it is. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use twobox_model::people::{self, Form};
use twobox_shared::bounds;
use twobox_shared::content::shorten;
use twobox_shared::time::UnixMillis;
use twobox_shared::visible;

/// The longest name of somebody, in characters.
const NAME_MAX: usize = 100;

/// The types of events that are asked for.
pub(super) const TYPES: [&str; 4] =
    ["m.room.message", "m.room.encrypted", "m.room.encryption", "m.room.member"];

/// What is asked for with each look.
#[derive(Debug, Deserialize)]
pub(super) struct Sync {
    pub(super) next_batch: String,
    #[serde(default)]
    pub(super) rooms: Rooms,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rooms {
    pub(super) join: BTreeMap<String, Joined>,
    pub(super) invite: BTreeMap<String, Invited>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Joined {
    pub(super) timeline: Timeline,
    pub(super) state: Events,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Timeline {
    pub(super) events: Batch,
    pub(super) limited: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Events {
    pub(super) events: Batch,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Invited {
    pub(super) invite_state: Events,
}

/// Events in their order, each of which was read by itself: what one of a stranger's has in it, such as more
/// levels than are read, or half a character, keeps nothing of what stands beside it from being read.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Value>,
    /// How many could not be read.
    pub(super) unreadable: usize,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.unreadable == 0
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What is only skipped is skipped without recursion, however deep it is.
        let raw = Vec::<Box<RawValue>>::deserialize(deserializer)?;
        let read = raw.iter().filter_map(|it| serde_json::from_str(it.get()).ok());
        let events: Vec<Value> = read.collect();
        Ok(Self { unreadable: raw.len() - events.len(), events })
    }
}

/// A page of what was said, or what follows one event.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    #[serde(default, alias = "events_after")]
    pub(super) chunk: Batch,
    #[serde(default)]
    pub(super) end: Option<String>,
}

/// What an event is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Something that is read.
    Message(Message),
    /// Something that cannot be read, by its sender.
    Encrypted(String),
    /// From now on the room is encrypted.
    Encryption,
    /// Somebody is in the room under this name, or is there no longer.
    Member { user: String, name: Option<String>, joined: bool, was_joined: bool },
}

/// Something that somebody said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) sender: String,
    pub(super) text: String,
    /// What came with it.
    pub(super) file: Option<Box<Attached>>,
    /// Whom it names, by their ids.
    pub(super) mentions: Vec<String>,
    pub(super) thread: Option<String>,
    pub(super) reply_to: Option<String>,
    pub(super) sent_at: Option<UnixMillis>,
}

/// A file that somebody put on the homeserver and showed in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attached {
    /// What whoever sent it calls it.
    pub(super) name: String,
    /// Where it is: the server and its id there, if that is one.
    pub(super) at: Option<(String, String)>,
    /// Its size in bytes, by the word of whoever sent it.
    pub(super) size: Option<u64>,
    /// What is said of it.
    pub(super) caption: String,
}

/// Reads an event. `None` is what nobody has to hear: notices, which programs write to people, changes of what
/// was said, what was taken back, and what is none of ours.
pub(super) fn read(event: &Value) -> Option<Event> {
    let sender = event["sender"].as_str().filter(|it| it.len() <= bounds::NAME.most)?;
    let content = &event["content"];
    match event["type"].as_str()? {
        "m.room.message" => message(event, sender).map(Event::Message),
        "m.room.encrypted" => Some(Event::Encrypted(sender.to_owned())),
        "m.room.encryption" => event["state_key"].is_string().then_some(Event::Encryption),
        "m.room.member" => Some(Event::Member {
            user: event["state_key"].as_str()?.to_owned(),
            name: content["displayname"].as_str().map(name),
            joined: content["membership"] == "join",
            was_joined: was_joined(&event["unsigned"]),
        }),
        _ => None,
    }
}

/// Whether somebody was in the room before already. What a homeserver does not say is taken for a yes: otherwise
/// what was said before a change of a name would be taken for what was said before they came.
fn was_joined(unsigned: &Value) -> bool {
    match unsigned["prev_content"]["membership"].as_str() {
        Some(before) => before == "join",
        None => unsigned.get("replaces_state").is_some(),
    }
}

fn message(event: &Value, sender: &str) -> Option<Message> {
    let content = &event["content"];
    let relates = &content["m.relates_to"];
    // What somebody's message was changed to is no other message, and anybody can send such a change.
    if relates["rel_type"] == "m.replace" {
        return None;
    }
    let id = event["event_id"].as_str()?;
    let thread =
        (relates["rel_type"] == "m.thread").then(|| relates["event_id"].as_str()).flatten();
    let falls_back = thread.is_some() && relates["is_falling_back"] == true;
    let quoted = relates["m.in_reply_to"]["event_id"].as_str();
    let body = content["body"].as_str()?;
    let body = if quoted.is_some() { without_quote(body) } else { body };
    let (text, file) = match content["msgtype"].as_str()? {
        "m.text" => (body.to_owned(), None),
        "m.emote" => (format!("* {body}"), None),
        "m.notice" => return None,
        "m.location" => (format!("[location: {}]", visible::line(body)), None),
        // A file is named, and what is said of it stands beside that.
        kind @ ("m.image" | "m.file" | "m.audio" | "m.video") => {
            let what = kind.trim_start_matches("m.");
            let file = attached(content, body);
            let named = format!("[{what}: {}]", visible::line(&file.name));
            match file.caption.is_empty() {
                true => (named, Some(Box::new(file))),
                false => (format!("{named}\n{}", file.caption), Some(Box::new(file))),
            }
        }
        _ => return None,
    };
    let short = |id: &&str| id.len() <= bounds::NAME.most && !id.contains(char::is_control);
    let named = content["m.mentions"]["user_ids"].as_array();
    let named = named.into_iter().flatten().filter_map(|it| Some(it.as_str()?.to_owned()));
    Some(Message {
        id: id.to_owned(),
        sender: sender.to_owned(),
        text,
        file,
        mentions: named.take(50).collect(),
        thread: thread.filter(short).map(str::to_owned),
        reply_to: quoted.filter(|_| !falls_back).filter(short).map(str::to_owned),
        sent_at: event["origin_server_ts"].as_i64().map(UnixMillis),
    })
}

fn attached(content: &Value, body: &str) -> Attached {
    let (name, caption) = match content["filename"].as_str().filter(|it| *it != body) {
        Some(name) => (name, body),
        None => (body, ""),
    };
    let uri = content["url"].as_str().and_then(|url| url.strip_prefix("mxc://")?.split_once('/'));
    let plain = |it: &str| !it.is_empty() && it.len() <= bounds::NAME.most && !it.contains('/');
    Attached {
        name: name.to_owned(),
        at: uri
            .filter(|(server, id)| plain(server) && plain(id))
            .map(|(server, id)| (server.to_owned(), id.to_owned())),
        size: content["info"]["size"].as_u64(),
        caption: caption.to_owned(),
    }
}

/// Without the lines that older clients put before an answer, which quote what it answers.
fn without_quote(body: &str) -> &str {
    if !body.starts_with("> <") {
        return body;
    }
    let mut rest = body;
    while rest.starts_with("> ") || rest.starts_with(">\n") {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest.strip_prefix('\n').unwrap_or(rest)
}

/// A name that somebody has given to themselves: one line, which is bounded and hides nothing.
pub(super) fn name(text: &str) -> String {
    shorten(visible::line(text).trim(), NAME_MAX)
}

/// What is said to an account with the id `user`, which calls itself `name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addressed {
    pub(super) mentioned: bool,
    /// Without the name before it, where a word to the host, or an answer to what was asked, is what is left.
    pub(super) text: String,
}

/// Whether `message` names the account, by its id or in its text.
pub(super) fn addressed(message: &Message, user: &str, name: Option<&str>) -> Addressed {
    let text = message.text.as_str();
    let names = || [Some(user), name].into_iter().flatten().filter(|name| name.chars().count() > 1);
    let mentioned =
        message.mentions.iter().any(|it| it == user) || names().any(|name| has_word(text, name));
    let local = user.trim_start_matches('@').split(':').next().unwrap_or_default();
    let rest = names().chain([local]).find_map(|name| after_name(text, name)).unwrap_or(text);
    let to_host = people::form(rest) != Form::Text;
    Addressed { mentioned, text: if to_host { rest.trim() } else { text }.to_owned() }
}

/// Whether `name` stands in `text` as a word, in whatever case.
fn has_word(text: &str, name: &str) -> bool {
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.match_indices(&name).any(|(at, found)| {
        !is_part(text[..at].chars().next_back())
            && !is_part(text[at + found.len()..].chars().next())
    })
}

/// What follows `name` at the beginning of `text`.
fn after_name<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let text = text.trim_start();
    let text = text.strip_prefix('@').filter(|_| !name.starts_with('@')).unwrap_or(text);
    let (begin, rest) = (text.get(..name.len())?, text.get(name.len()..)?);
    let is_name = !name.is_empty() && begin.to_lowercase() == name.to_lowercase();
    let ends = rest.starts_with([':', ',', ' ', '\n']);
    (is_name && ends).then(|| rest.trim_start_matches([':', ',', ' ', '\n']))
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
