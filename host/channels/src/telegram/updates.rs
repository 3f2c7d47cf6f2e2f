//! What Telegram tells a bot, one update after the other. All of it is a stranger's word: read leniently,
//! bounded, and told apart by what it is. Pure.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use twobox_shared::content::shorten;
use twobox_shared::time::UnixMillis;
use twobox_shared::visible;

/// The longest name of somebody, in characters.
const NAME_MAX: usize = 100;

/// The longest name of a file, in characters.
const FILE_NAME_MAX: usize = 200;

/// What a bot is told of.
pub(super) const ALLOWED: [&str; 2] = ["message", "callback_query"];

/// Who speaks where an administrator of a group stays unnamed: no person, and no bot of anybody's.
const UNNAMED_ADMIN: i64 = 1_087_968_824;
/// Who speaks where a person speaks as a channel.
const AS_CHANNEL: i64 = 136_817_688;

/// Updates in their order, each of which was read by itself: what is in one keeps nothing of what stands beside
/// it from being read.
#[derive(Debug, Default)]
pub(super) struct Batch(pub(super) Vec<Update>);

/// One update. `what` is `None` if it cannot be read.
#[derive(Debug, Clone)]
pub(super) struct Update {
    pub(super) id: i64,
    pub(super) what: Option<Value>,
}

#[derive(Deserialize)]
struct Numbered {
    update_id: i64,
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What is only skipped is skipped without recursion, however deep it is.
        let raw = Vec::<Box<RawValue>>::deserialize(deserializer)?;
        let read = raw.iter().filter_map(|it| {
            let Numbered { update_id: id } = serde_json::from_str(it.get()).ok()?;
            Some(Update { id, what: serde_json::from_str(it.get()).ok() })
        });
        Ok(Self(read.collect()))
    }
}

/// Who the bot is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Bot {
    pub(super) id: i64,
    pub(super) username: String,
    /// Whether it is told what is said in groups among others, too.
    #[serde(default)]
    pub(super) can_read_all_group_messages: bool,
}

/// What an update says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// Somebody has said something.
    Message(Message),
    /// Somebody has pressed a button.
    Click(Click),
    /// A group is another chat from now on.
    Moved { from: i64, to: i64 },
    /// Nothing that anybody has to hear.
    Nothing,
}

/// Where something was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) chat: i64,
    /// Whether that is one person's alone.
    pub(super) direct: bool,
    /// The topic.
    pub(super) thread: Option<i64>,
}

/// Something that somebody said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) place: Place,
    /// Its number in the chat.
    pub(super) id: i64,
    pub(super) sender: Sender,
    pub(super) text: String,
    /// The same without the names of its files.
    pub(super) bare: String,
    pub(super) mentioned: bool,
    /// The number of the message that it answers.
    pub(super) reply_to: Option<i64>,
    pub(super) sent_at: Option<UnixMillis>,
    /// The files in it.
    pub(super) files: Vec<File>,
}

/// Who has said something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) id: i64,
    /// As they call themselves.
    pub(super) name: String,
}

/// A file, which is with Telegram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// By which it can be fetched.
    pub(super) id: String,
    pub(super) name: String,
    /// How many bytes it has, if Telegram says so.
    pub(super) size: Option<u64>,
}

/// A button that was pressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Click {
    /// By which it is answered.
    pub(super) id: String,
    pub(super) place: Place,
    /// The number of the message that has the button.
    pub(super) message: i64,
    pub(super) sender: Sender,
    /// What the button carries.
    pub(super) data: String,
}

/// Reads an update to `bot`.
pub(super) fn read(update: &Value, bot: &Bot) -> Said {
    let found = if let Some(message) = update.get("message") {
        moved(message).or_else(|| self::message(message, bot).map(Said::Message))
    } else if let Some(query) = update.get("callback_query") {
        click(query).map(Said::Click)
    } else {
        None
    };
    found.unwrap_or(Said::Nothing)
}

/// The chat that an update is about.
pub(super) fn chat_of(update: &Value) -> Option<i64> {
    let message = update.get("message").or_else(|| update.get("callback_query")?.get("message"))?;
    message["chat"]["id"].as_i64()
}

fn moved(message: &Value) -> Option<Said> {
    let here = message["chat"]["id"].as_i64()?;
    let to = message["migrate_to_chat_id"].as_i64().map(|to| (here, to));
    let from = message["migrate_from_chat_id"].as_i64().map(|from| (from, here));
    to.or(from).map(|(from, to)| Said::Moved { from, to })
}

fn message(message: &Value, bot: &Bot) -> Option<Message> {
    let sender = sender(message)?;
    let (words, named) = match message["text"].as_str() {
        Some(text) => (text, message.get("entities")),
        None => (message["caption"].as_str().unwrap_or_default(), message.get("caption_entities")),
    };
    let addressed = addressed(words, named, bot);
    let reply = &message["reply_to_message"];
    let (what, files) = contents(message);
    let words = Some(addressed.text).filter(|text| !text.trim().is_empty());
    if what.is_none() && words.is_none() {
        return None; // somebody came or went, a picture of the group changed …
    }
    let origin = forwarded(&message["forward_origin"]);
    let lines = |all: &[&Option<String>]| {
        all.iter().filter_map(|line| line.as_deref()).collect::<Vec<_>>().join("\n")
    };
    Some(Message {
        place: place(message)?,
        id: message["message_id"].as_i64()?,
        sender,
        text: lines(&[&origin, &what, &words]),
        bare: lines(&[&origin, &words]),
        mentioned: addressed.mentioned || reply["from"]["id"].as_i64() == Some(bot.id),
        // In a topic, what is no answer is one to the message that began it.
        reply_to: reply["message_id"].as_i64().filter(|_| reply["forum_topic_created"].is_null()),
        sent_at: message["date"].as_i64().and_then(instant),
        files,
    })
}

fn place(message: &Value) -> Option<Place> {
    let thread = message["message_thread_id"].as_i64();
    Some(Place {
        chat: message["chat"]["id"].as_i64()?,
        direct: message["chat"]["type"] == "private",
        // Answers have such a number as well, without being in a topic.
        thread: thread.filter(|_| message["is_topic_message"] == true),
    })
}

/// Who has said it; `None` if that is a bot.
fn sender(message: &Value) -> Option<Sender> {
    let from = &message["from"];
    let speaks_for = &message["sender_chat"];
    let veiled = [Some(UNNAMED_ADMIN), Some(AS_CHANNEL)].contains(&from["id"].as_i64());
    if speaks_for.is_object() && (veiled || from["is_bot"] != true) {
        let id = speaks_for["id"].as_i64()?;
        return Some(Sender { id, name: name(speaks_for["title"].as_str().unwrap_or_default()) });
    }
    person(from)
}

fn person(from: &Value) -> Option<Sender> {
    if from["is_bot"] == true {
        return None;
    }
    let text = |field: &str| from[field].as_str().unwrap_or_default();
    let whole = format!("{} {}", text("first_name"), text("last_name"));
    let called = if whole.trim().is_empty() { text("username") } else { whole.as_str() };
    Some(Sender { id: from["id"].as_i64()?, name: name(called) })
}

fn click(query: &Value) -> Option<Click> {
    let message = &query["message"];
    let data = query["data"].as_str().filter(|data| !data.is_empty() && data.len() <= 64)?;
    Some(Click {
        id: query["id"].as_str().filter(|id| is_short(id)).map(str::to_owned)?,
        place: place(message)?,
        message: message["message_id"].as_i64()?,
        sender: person(&query["from"])?,
        data: data.to_owned(),
    })
}

/// Whether it can be part of the id of a message.
fn is_short(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

fn instant(seconds: i64) -> Option<UnixMillis> {
    seconds.checked_mul(1000).map(UnixMillis)
}

/// A name that somebody has given: one line, which is bounded and hides nothing.
fn name(text: &str) -> String {
    shorten(visible::line(text).trim(), NAME_MAX)
}

/// What is not text in a message, in one line, with its files.
fn contents(message: &Value) -> (Option<String>, Vec<File>) {
    let shown = |kind: &str, text: &str| Some(format!("[{kind}: {}]", name(text)));
    // A moving picture is a document, too: the first of these is what it is.
    let kinds = [
        ("animation", "animation", "animation.mp4"),
        ("document", "file", "file"),
        ("video", "video", "video.mp4"),
        ("video_note", "video", "video-note.mp4"),
        ("voice", "voice", "voice.ogg"),
        ("audio", "audio", "audio.mp3"),
    ];
    for (field, kind, default) in kinds {
        if let Some(file) = file(&message[field], default) {
            return (Some(format!("[{kind}: {}]", file.name)), vec![file]);
        }
    }
    // The largest of its sizes comes last.
    let photo = message["photo"].as_array().and_then(|sizes| sizes.last());
    if let Some(file) = photo.and_then(|photo| file(photo, "photo.jpg")) {
        return (Some(format!("[image: {}]", file.name)), vec![file]);
    }
    let at = |location: &Value| {
        let (latitude, longitude) =
            (location["latitude"].as_f64()?, location["longitude"].as_f64()?);
        Some(format!("{latitude}, {longitude}"))
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let what = if message["sticker"].is_object() {
        shown("sticker", &text(&message["sticker"]["emoji"]))
    } else if message["venue"].is_object() {
        let venue = &message["venue"];
        shown("place", &format!("{}, {}", text(&venue["title"]), text(&venue["address"])))
    } else if let Some(at) = at(&message["location"]) {
        shown("location", &at)
    } else if message["contact"].is_object() {
        let contact = &message["contact"];
        shown(
            "contact",
            &format!("{} {}", text(&contact["first_name"]), text(&contact["phone_number"])),
        )
    } else if message["poll"].is_object() {
        shown("poll", &text(&message["poll"]["question"]))
    } else if let Some(value) = message["dice"]["value"].as_i64() {
        shown("dice", &value.to_string())
    } else {
        None
    };
    (what, Vec::new())
}

fn file(value: &Value, default: &str) -> Option<File> {
    let given = value["file_name"].as_str().map(|it| visible::line(it).trim().to_owned());
    let given = given.filter(|name| !name.is_empty());
    Some(File {
        id: value["file_id"].as_str().filter(|id| id.len() <= 256)?.to_owned(),
        name: shorten(given.as_deref().unwrap_or(default), FILE_NAME_MAX),
        size: value["file_size"].as_u64(),
    })
}

/// Whose words somebody passes on.
fn forwarded(origin: &Value) -> Option<String> {
    let of = |value: &Value, field: &str| value[field].as_str().map(str::to_owned);
    let whom = match origin["type"].as_str()? {
        "user" => {
            let user = &origin["sender_user"];
            of(user, "first_name").or_else(|| of(user, "username"))
        }
        "hidden_user" => of(origin, "sender_user_name"),
        "chat" => of(&origin["sender_chat"], "title"),
        "channel" => of(&origin["chat"], "title"),
        _ => None,
    };
    Some(format!("[forwarded from {}]", name(&whom.unwrap_or_else(|| "somebody".to_owned()))))
}

/// What is said to a bot.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Addressed {
    mentioned: bool,
    /// Without the bot's name, where a word to the host, or an answer to what was asked, is what is left.
    text: String,
}

/// Whether a text with these marks names the bot.
fn addressed(text: &str, marks: Option<&Value>, bot: &Bot) -> Addressed {
    let units: Vec<u16> = text.encode_utf16().collect();
    let marks = marks.and_then(Value::as_array).into_iter().flatten();
    let ours = |mark: &Value| {
        if mark["type"] == "text_mention" {
            return mark["user"]["id"].as_i64() == Some(bot.id);
        }
        if mark["type"] != "mention" && mark["type"] != "bot_command" {
            return false;
        }
        let begin = mark["offset"].as_u64().and_then(|it| usize::try_from(it).ok());
        let length = mark["length"].as_u64().and_then(|it| usize::try_from(it).ok());
        let piece = begin.zip(length).and_then(|(begin, length)| {
            String::from_utf16(units.get(begin..begin.checked_add(length)?)?).ok()
        });
        let at = piece.as_deref().and_then(|piece| piece.split_once('@'));
        at.is_some_and(|(_, name)| name.eq_ignore_ascii_case(&bot.username))
    };
    let mentioned = marks.take(100).any(ours);
    Addressed { mentioned, text: for_host(text, &bot.username).unwrap_or_else(|| text.to_owned()) }
}

/// What is left of `text` without the bot's name, if that is for the host: `/stop@bot` is `/stop`.
fn for_host(text: &str, username: &str) -> Option<String> {
    use twobox_model::people::{Form, form};

    let text = text.trim();
    let is_name = |word: &str| word.eq_ignore_ascii_case(username);
    let rest = match text.strip_prefix('@') {
        Some(rest) => {
            let (name, rest) = rest.split_once([' ', '\n', ':', ','])?;
            is_name(name).then(|| rest.trim_start_matches([' ', '\n', ':', ',']).to_owned())?
        }
        None => {
            let (command, behind) = text.split_once('@').filter(|_| text.starts_with('/'))?;
            let (name, rest) = behind.split_once(char::is_whitespace).unwrap_or((behind, ""));
            let is_word = !command.contains(char::is_whitespace) && is_name(name);
            is_word.then(|| format!("{command} {rest}").trim().to_owned())?
        }
    };
    let is_command = text.starts_with('/');
    let to_host = form(&rest) != Form::Text;
    (is_command || to_host).then_some(rest)
}

#[cfg(test)]
#[path = "updates_tests.rs"]
mod tests;
