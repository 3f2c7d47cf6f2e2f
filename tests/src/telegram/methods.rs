//! What a bot asks, and what is answered.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::form::Upload;
use super::state::{State, bot};
use super::{BOT, rules};

/// The most bytes of a file, and of one that is shown as a photo.
const FILE_MAX: usize = 50 << 20;
const PHOTO_MAX: usize = 10 << 20;

/// The most bytes of a file that is handed out.
const DOWNLOAD_MAX: usize = 20 << 20;

/// A refusal: a code, what is said, and parameters that a program reads.
pub(super) type No = (u16, String, Option<Value>);

/// What comes of a request.
pub(super) type Done = Result<Value, No>;

pub(super) fn bad(why: impl AsRef<str>) -> No {
    (400, format!("Bad Request: {}", why.as_ref()), None)
}

/// A refusal that wants a pause of so many seconds.
pub(super) fn pause(seconds: u64) -> No {
    let parameters = json!({ "retry_after": seconds });
    (429, format!("Too Many Requests: retry after {seconds}"), Some(parameters))
}

/// The parameters of a request, with its files.
pub(super) struct Asked {
    pub(super) said: Map<String, Value>,
    pub(super) files: Vec<(String, Upload)>,
}

impl Asked {
    fn text(&self, name: &str) -> Option<String> {
        self.said
            .get(name)
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.said
            .get(name)
            .and_then(|value| value.as_i64().or_else(|| value.as_str()?.parse().ok()))
    }

    fn is(&self, name: &str) -> bool {
        let value = self.said.get(name);
        value.is_some_and(|value| *value == json!(true) || *value == json!("true"))
    }
}

impl State {
    /// Does what the bot asks, unless that is to fetch what was said.
    pub(super) fn call(&mut self, method: &str, asked: &Asked, now: Instant) -> Done {
        match method {
            "getme" => {
                let mut me = bot();
                me["can_join_groups"] = json!(true);
                me["can_read_all_group_messages"] = json!(!self.privacy);
                me["supports_inline_queries"] = json!(false);
                Ok(me)
            }
            "getwebhookinfo" => Ok(json!({
                "url": self.webhook, "has_custom_certificate": false,
                "pending_update_count": self.updates.len(),
            })),
            "setwebhook" => {
                self.webhook = asked.text("url").unwrap_or_default();
                Ok(json!(true))
            }
            "deletewebhook" => {
                self.webhook.clear();
                if asked.is("drop_pending_updates") {
                    self.updates.clear();
                }
                Ok(json!(true))
            }
            "sendmessage" => self.send_message(asked, now),
            "senddocument" | "sendphoto" => self.send_file(method, asked, now),
            "sendchataction" => {
                self.chat_for(asked)?;
                Ok(json!(true))
            }
            "editmessagetext" | "editmessagereplymarkup" => self.edit(method, asked),
            "getfile" => {
                let id = asked.text("file_id").unwrap_or_default();
                match self.files.get(&id) {
                    Some(content) if content.len() > DOWNLOAD_MAX => Err(bad("file is too big")),
                    Some(content) => Ok(json!({
                        "file_id": id, "file_unique_id": id, "file_size": content.len(),
                        "file_path": format!("documents/{id}"),
                    })),
                    None => Err(bad("invalid file_id")),
                }
            }
            "answercallbackquery" => {
                let id = asked.text("callback_query_id").unwrap_or_default();
                if asked.text("text").is_some_and(|text| text.chars().count() > 200) {
                    return Err(bad("MESSAGE_TOO_LONG"));
                }
                match self.clicks.remove(&id) {
                    true => Ok(json!(true)),
                    false => Err(bad(
                        "query is too old and response timeout expired or query ID is invalid",
                    )),
                }
            }
            _ => Err((404, "Not Found: method not found".to_owned(), None)),
        }
    }

    /// What was not fetched yet, from `offset` on: what is before that is confirmed.
    pub(super) fn fetch(&mut self, asked: &Asked) -> Vec<Value> {
        let id = |update: &Value| update["update_id"].as_i64().unwrap();
        let offset = asked.number("offset").unwrap_or(0);
        if offset < 0 {
            let keep = usize::try_from(-offset).unwrap();
            while self.updates.len() > keep {
                self.updates.pop_front();
            }
        }
        // One that is beyond the end means nothing.
        if offset > 0 && offset <= self.next_update {
            self.updates.retain(|update| id(update) >= offset);
        }
        let limit = asked.number("limit").unwrap_or(100).clamp(1, 100);
        self.updates.iter().take(usize::try_from(limit).unwrap()).cloned().collect()
    }

    /// What a new poll wants to be told of.
    pub(super) fn allow(&mut self, asked: &Asked) {
        if let Some(Value::Array(kinds)) = asked.said.get("allowed_updates") {
            self.allowed =
                Some(kinds.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect());
        }
    }

    /// The chat that a request names, if the bot may speak there.
    fn chat_for(&self, asked: &Asked) -> Result<i64, No> {
        let id = asked.number("chat_id").ok_or_else(|| bad("chat_id is empty"))?;
        let chat = self.chats.get(&id).ok_or_else(|| bad("chat not found"))?;
        if let Some(to) = chat.became {
            let parameters = json!({ "migrate_to_chat_id": to });
            let why = "Bad Request: group chat was upgraded to a supergroup chat";
            return Err((400, why.to_owned(), Some(parameters)));
        }
        if chat.blocked {
            return Err((403, "Forbidden: bot was blocked by the user".to_owned(), None));
        }
        let thread = asked.number("message_thread_id");
        if thread.is_some_and(|thread| !chat.topics.contains(&thread)) {
            return Err(bad("message thread not found"));
        }
        Ok(id)
    }

    /// What a message has in common with all that a bot shows.
    fn begin(&mut self, asked: &Asked, now: Instant) -> Result<(i64, Value), No> {
        let chat = self.chat_for(asked)?;
        let mut message = json!({});
        if let Some(thread) = asked.number("message_thread_id") {
            message["message_thread_id"] = json!(thread);
            message["is_topic_message"] = json!(true);
        }
        if let Some(reply) = asked.said.get("reply_parameters") {
            let answered = reply["message_id"].as_i64();
            let answered = answered.and_then(|id| self.chats[&chat].messages.get(&id)).cloned();
            match answered {
                Some(mut answered) => {
                    answered.as_object_mut().unwrap().remove("reply_to_message");
                    message["reply_to_message"] = answered;
                }
                None if reply["allow_sending_without_reply"] == true => {}
                None => return Err(bad("message to be replied not found")),
            }
        }
        if let Some(markup) = asked.said.get("reply_markup") {
            rules::keyboard(markup).map_err(bad)?;
            message["reply_markup"] = markup.clone();
        }
        self.pace(chat, now)?;
        Ok((chat, message))
    }

    /// Wants a pause where too much is said at once. What is refused does not count.
    fn pace(&mut self, chat: i64, now: Instant) -> Result<(), No> {
        if !self.flood {
            return Ok(());
        }
        let within = |times: &mut VecDeque<Instant>, most: usize, span: Duration| {
            let recent: Vec<Instant> =
                times.iter().copied().filter(|at| now.duration_since(*at) < span).collect();
            (recent.len() >= most).then(|| (recent[0] + span - now).as_secs() + 1)
        };
        let own = &mut self.chats.get_mut(&chat).expect("it was looked for").times;
        let mut wanted = within(own, 5, Duration::from_secs(3));
        if chat < 0 {
            wanted = wanted.max(within(own, 20, Duration::from_secs(59)));
        }
        let wanted = wanted.max(within(&mut self.times, 31, Duration::from_millis(950)));
        if let Some(seconds) = wanted {
            return Err(pause(seconds));
        }
        for times in [own, &mut self.times] {
            times.push_back(now);
            while times.len() > 64 {
                times.pop_front();
            }
        }
        Ok(())
    }

    fn send_message(&mut self, asked: &Asked, now: Instant) -> Done {
        if asked.said.contains_key("parse_mode") {
            return Err(bad("can't parse entities: the stand-in does not read parse_mode"));
        }
        let text = asked.text("text").unwrap_or_default();
        let marks = asked.said.get("entities");
        rules::text(&text, marks).map_err(bad)?;
        let (chat, mut message) = self.begin(asked, now)?;
        message["text"] = json!(text);
        if let Some(marks) = marks {
            message["entities"] = marks.clone();
        }
        Ok(self.show(chat, message))
    }

    fn send_file(&mut self, method: &str, asked: &Asked, now: Instant) -> Done {
        let field = method.trim_start_matches("send");
        let file = asked.files.iter().find(|(name, _)| name == field);
        // A file may have any name in a form, and be named by that.
        let attached =
            asked.text(field).and_then(|it| it.strip_prefix("attach://").map(str::to_owned));
        let file = file.or_else(|| {
            let attached = attached.as_ref()?;
            asked.files.iter().find(|(name, _)| name == attached)
        });
        let Some((_, file)) = file else {
            return Err(bad(format!("there is no {field} in the request")));
        };
        if file.bytes.is_empty() {
            return Err(bad("file must be non-empty"));
        }
        if file.bytes.len() > FILE_MAX {
            return Err((413, "Request Entity Too Large".to_owned(), None));
        }
        let caption = asked.text("caption").unwrap_or_default();
        rules::caption(&caption).map_err(bad)?;
        let is_photo =
            [&b"\x89PNG"[..], &b"\xff\xd8\xff"[..]].iter().any(|it| file.bytes.starts_with(it));
        if field == "photo" && file.bytes.len() > PHOTO_MAX {
            return Err(bad("file is too big for a photo"));
        }
        if field == "photo" && !is_photo {
            return Err(bad("IMAGE_PROCESS_FAILED"));
        }
        let (chat, mut message) = self.begin(asked, now)?;
        let size = file.bytes.len();
        let id = format!("file-{}", self.shown.len());
        let described = json!({ "file_id": id, "file_unique_id": id, "file_size": size });
        message[field] = match field {
            "photo" => {
                let mut photo = described;
                photo["width"] = json!(1);
                photo["height"] = json!(1);
                json!([photo])
            }
            _ => {
                let mut document = described;
                document["file_name"] = json!(file.name);
                document
            }
        };
        if !caption.is_empty() {
            message["caption"] = json!(caption);
        }
        let mut shown = self.show(chat, message);
        self.files.insert(id, file.bytes.clone());
        // For whoever looks what arrived; Telegram says no such thing.
        let text = String::from_utf8_lossy(&file.bytes[..size.min(1024)]).into_owned();
        let number = shown["message_id"].as_i64().unwrap();
        let kept =
            self.chats.get_mut(&chat).and_then(|chat| chat.messages.get_mut(&number)).unwrap();
        kept["_content"] = json!(text);
        shown.as_object_mut().unwrap().remove("_content");
        Ok(shown)
    }

    fn edit(&mut self, method: &str, asked: &Asked) -> Done {
        let chat = self.chat_for(asked)?;
        let number = asked.number("message_id").unwrap_or_default();
        let found = self.chats[&chat].messages.get(&number).filter(|it| it["from"]["id"] == BOT);
        let mut message = found.cloned().ok_or_else(|| bad("message to edit not found"))?;
        let before = message.clone();
        let object = message.as_object_mut().unwrap();
        if method == "editmessagetext" {
            let text = asked.text("text").unwrap_or_default();
            rules::text(&text, asked.said.get("entities")).map_err(bad)?;
            object.insert("text".to_owned(), json!(text));
            match asked.said.get("entities") {
                Some(marks) => drop(object.insert("entities".to_owned(), marks.clone())),
                None => drop(object.remove("entities")),
            }
        }
        // What is left out, or empty, takes the buttons away.
        match asked.said.get("reply_markup") {
            Some(markup) => {
                rules::keyboard(markup).map_err(bad)?;
                let is_empty = markup["inline_keyboard"].as_array().is_some_and(Vec::is_empty);
                match is_empty {
                    true => drop(object.remove("reply_markup")),
                    false => drop(object.insert("reply_markup".to_owned(), markup.clone())),
                }
            }
            None => drop(object.remove("reply_markup")),
        }
        if message == before {
            return Err(bad(
                "message is not modified: specified new message content and reply markup are exactly the same as \
                 a current content and reply markup of the message",
            ));
        }
        message["edit_date"] = json!(super::state::date());
        self.chats.get_mut(&chat).unwrap().messages.insert(number, message.clone());
        Ok(message)
    }

    /// All that the bot has shown, as it stands now.
    pub(super) fn all_shown(&self) -> Vec<Value> {
        let message = |(chat, number): &(i64, i64)| self.chats[chat].messages[number].clone();
        self.shown.iter().map(message).collect()
    }
}
