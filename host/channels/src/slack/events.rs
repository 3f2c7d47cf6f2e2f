//! What comes over a connection, and what stands in a conversation's history. All of what people wrote in it is a
//! stranger's word: read leniently, each piece by itself, and bounded. Pure.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use twobox_shared::bounds;
use twobox_shared::content::shorten;
use twobox_shared::visible;

use super::ts::Ts;

/// The longest name of a file or of somebody, in characters.
const NAME_MAX: usize = 100;

/// How many files of one message are named.
const FILES_MAX: usize = 20;

/// The longest answer of a button.
const VALUE_MAX: usize = 100;

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Came {
    /// The connection is ready. So many of this app are there.
    Hello {
        /// How many.
        connections: u64,
    },
    /// The connection is closed soon, or is none, for this reason.
    Disconnect {
        /// Slack's word.
        reason: String,
    },
    /// Something that is acknowledged under this id.
    Envelope {
        /// The id.
        id: String,
        /// What is in it, if anything is for us.
        what: Option<What>,
    },
    /// Nothing that is known.
    Nothing,
}

/// What is in an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Somebody said something.
    Message(Message),
    /// Somebody pressed a button of ours.
    Click(Box<Click>),
}

/// Something that somebody said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The conversation.
    pub(super) chat: String,
    pub(super) ts: Ts,
    pub(super) sender: String,
    /// As Slack has it.
    pub(super) text: String,
    pub(super) thread: Option<Ts>,
    /// Whether it was said to the bot alone, where that is known.
    pub(super) direct: Option<bool>,
}

/// A button that somebody pressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Click {
    pub(super) chat: String,
    pub(super) sender: String,
    /// Of the message with the button.
    pub(super) ts: Ts,
    pub(super) thread: Option<Ts>,
    /// When it was pressed: another one for each time.
    pub(super) at: Ts,
    /// The answer that the button has.
    pub(super) value: String,
    /// What is written on it.
    pub(super) label: String,
    /// What the message says.
    pub(super) text: String,
    /// Of what the message consists, as JSON.
    pub(super) blocks: String,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    envelope_id: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    num_connections: Option<u64>,
    #[serde(default)]
    payload: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Callback {
    event: Box<RawValue>,
}

/// A message, from an event or from a history.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Raw {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    subtype: Option<String>,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    channel_type: Option<String>,
    #[serde(default)]
    pub(super) user: Option<String>,
    #[serde(default)]
    bot_id: Option<String>,
    #[serde(default)]
    text: String,
    pub(super) ts: Ts,
    #[serde(default)]
    pub(super) thread_ts: Option<Ts>,
    /// When something was said last in the thread below it.
    #[serde(default)]
    pub(super) latest_reply: Option<Ts>,
    #[serde(default)]
    pub(super) files: Vec<RawFile>,
    #[serde(default)]
    pub(super) metadata: Option<Box<RawValue>>,
}

/// A file of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct RawFile {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) size: Option<u64>,
}

/// Messages, each of which was read by itself: one that cannot be read keeps none beside it.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<Raw>,
    /// How many could not be read.
    pub(super) unreadable: usize,
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Vec::<Box<RawValue>>::deserialize(deserializer)?;
        let read = raw.iter().filter_map(|it| serde_json::from_str(it.get()).ok());
        let messages: Vec<Raw> = read.collect();
        Ok(Self { unreadable: raw.len() - messages.len(), messages })
    }
}

/// A page of a history.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    pub(super) messages: Batch,
    #[serde(default)]
    response_metadata: Option<Next>,
}

/// Where the next page is.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next_cursor: String,
}

/// The next page, if there is one.
pub(super) fn next_of(metadata: Option<Next>) -> Option<String> {
    metadata.map(|next| next.next_cursor).filter(|cursor| !cursor.is_empty())
}

impl Page {
    /// Where the next one is.
    pub(super) fn next(&mut self) -> Option<String> {
        next_of(self.response_metadata.take())
    }
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type", default)]
    kind: String,
    user: Id,
    channel: Id,
    container: Container,
    actions: Vec<Action>,
    #[serde(default)]
    message: Shown,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
struct Container {
    message_ts: Ts,
    #[serde(default)]
    thread_ts: Option<Ts>,
}

#[derive(Deserialize)]
struct Action {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    text: Label,
    action_ts: Ts,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Label {
    text: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Shown {
    text: String,
    thread_ts: Option<Ts>,
    blocks: Option<Box<RawValue>>,
}

/// Reads what came.
pub(super) fn read(text: &str) -> Came {
    let Ok(envelope) = serde_json::from_str::<Envelope>(text) else { return Came::Nothing };
    let payload = envelope.payload.as_deref().map(RawValue::get);
    match (envelope.kind.as_str(), envelope.envelope_id) {
        ("hello", _) => Came::Hello { connections: envelope.num_connections.unwrap_or(1) },
        ("disconnect", _) => {
            let reason = shorten(&visible::line(&envelope.reason.unwrap_or_default()), NAME_MAX);
            Came::Disconnect { reason }
        }
        (kind, Some(id)) => {
            let what = match kind {
                "events_api" => payload.and_then(event).map(What::Message),
                "interactive" => payload.and_then(click).map(|it| What::Click(Box::new(it))),
                _ => None,
            };
            Came::Envelope { id, what }
        }
        (_, None) => Came::Nothing,
    }
}

fn event(payload: &str) -> Option<Message> {
    let callback: Callback = serde_json::from_str(payload).ok()?;
    let raw: Raw = serde_json::from_str(callback.event.get()).ok()?;
    let chat = raw.channel.clone()?;
    let direct = raw.channel_type.as_deref().map(|kind| kind == "im");
    raw.said(&chat, direct)
}

impl Raw {
    /// What a person said by it in `chat`. `None` is what nobody has to hear: what programs say, changes of what
    /// was said, and what is no message.
    pub(super) fn said(self, chat: &str, direct: Option<bool>) -> Option<Message> {
        let is_message = matches!(self.kind.as_str(), "message" | "app_mention");
        let is_said = match self.subtype.as_deref() {
            None | Some("file_share" | "thread_broadcast" | "me_message") => true,
            Some(_) => false,
        };
        if !is_message || !is_said || self.bot_id.is_some() || chat.len() > bounds::NAME.most {
            return None;
        }
        let sender = self.user.filter(|user| is_id(user))?;
        let mut text = match self.subtype.as_deref() {
            Some("me_message") => format!("* {}", self.text),
            _ => self.text,
        };
        for file in self.files.iter().take(FILES_MAX) {
            let name = file.name.as_deref().unwrap_or("a file");
            let name = shorten(&visible::line(name), NAME_MAX);
            let before = if text.is_empty() { "" } else { "\n" };
            // As all of the text is: what is between angles is Slack's own.
            let name = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            text = format!("{text}{before}[file: {name}]");
        }
        if let Some(more) = self.files.len().checked_sub(FILES_MAX).filter(|more| *more > 0) {
            text = format!("{text}\n[{more} more files]");
        }
        if text.trim().is_empty() {
            return None;
        }
        let thread = self.thread_ts.filter(|thread| *thread != self.ts);
        Some(Message { chat: chat.to_owned(), ts: self.ts, sender, text, thread, direct })
    }

    /// Whether the account with these ids has said it.
    pub(super) fn is_by(&self, user: &str) -> bool {
        self.user.as_deref() == Some(user)
    }
}

/// Whether `text` can be an id of Slack's.
pub(super) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn click(payload: &str) -> Option<Click> {
    let payload: Payload = serde_json::from_str(payload).ok()?;
    let action = payload.actions.into_iter().next().filter(|action| action.kind == "button")?;
    let ids = is_id(&payload.user.id) && is_id(&payload.channel.id);
    if payload.kind != "block_actions" || !ids || action.value.is_empty() {
        return None;
    }
    let ts = payload.container.message_ts;
    let thread = payload.container.thread_ts.or(payload.message.thread_ts);
    Some(Click {
        chat: payload.channel.id,
        sender: payload.user.id,
        ts,
        thread: thread.filter(|thread| *thread != ts),
        at: action.action_ts,
        value: shorten(&action.value, VALUE_MAX),
        label: shorten(&visible::line(&action.text.text), NAME_MAX),
        text: payload.message.text,
        blocks: payload.message.blocks.map_or_else(String::new, |blocks| blocks.get().to_owned()),
    })
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
