//! What people say and press, and what becomes of their groups.

use serde_json::{Value, json};

use super::state::{Order, State, bot, date, person};
use super::{BOT, BOT_NAME};

impl State {
    /// Carries out an order. Returns the number of the message that it made, or the id of the click.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn carry_out(&mut self, order: Order) -> Result<Value, String> {
        match order {
            Order::Say { chat, from, text, more } => self.say(chat, from, &text, more),
            Order::Put { id, content } => {
                self.files.insert(id, content.into_bytes());
                Ok(Value::Null)
            }
            Order::Click { chat, message, from, button } => self.click(chat, message, from, button),
            Order::Fail(fault) => {
                self.faults.push(fault);
                Ok(Value::Null)
            }
            Order::Release => {
                self.released += 1;
                Ok(Value::Null)
            }
            Order::Block { chat, blocked } => {
                self.make_chat(chat, "private").blocked = blocked;
                Ok(Value::Null)
            }
            Order::Upgrade { group, to } => self.upgrade(group, to),
            Order::Privacy { on } => {
                self.privacy = on;
                Ok(Value::Null)
            }
            Order::Flood { on } => {
                self.flood = on;
                Ok(Value::Null)
            }
        }
    }

    fn say(&mut self, chat: i64, from: i64, text: &str, more: Value) -> Result<Value, String> {
        if chat > 0 {
            self.make_chat(chat, "private");
        }
        if !self.chats.contains_key(&chat) {
            return Err(format!("there is no chat {chat}"));
        }
        let id = self.number(chat);
        let mut message = json!({
            "message_id": id, "date": date(), "chat": self.chat_json(chat), "from": person(from),
            "text": text,
        });
        let marks = marks(text);
        if !marks.is_empty() {
            message["entities"] = json!(marks);
        }
        if let Value::Object(mut more) = more {
            // An answer is given by the number of what it answers.
            if let Some(answered) = more.remove("answers").and_then(|it| it.as_i64()) {
                let answered = self.chats[&chat].messages.get(&answered).cloned();
                more.insert("reply_to_message".to_owned(), answered.ok_or("what is answered?")?);
            }
            if more.contains_key("message_thread_id") {
                more.insert("is_topic_message".to_owned(), json!(true));
            }
            message.as_object_mut().unwrap().extend(more);
            message.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        }
        if chat > 0 || !self.privacy || is_meant(&message) {
            self.tell("message", message.clone());
        }
        self.make_chat(chat, "private").messages.insert(id, message);
        Ok(json!(id))
    }

    fn click(
        &mut self,
        chat: i64,
        message: i64,
        from: i64,
        button: usize,
    ) -> Result<Value, String> {
        let shown = self.chats.get(&chat).and_then(|chat| chat.messages.get(&message));
        let shown = shown.ok_or("there is no such message")?.clone();
        let rows = shown["reply_markup"]["inline_keyboard"].as_array().cloned().unwrap_or_default();
        let buttons = rows.iter().filter_map(Value::as_array).flatten();
        let data = buttons.map(|it| it["callback_data"].clone()).nth(button);
        let data = data.ok_or("there is no such button")?;
        let id = self.next_click();
        self.clicks.insert(id.clone());
        let query = json!({
            "id": id, "from": person(from), "message": shown, "chat_instance": "1", "data": data,
        });
        self.tell("callback_query", query);
        Ok(json!(id))
    }

    fn upgrade(&mut self, group: i64, to: i64) -> Result<Value, String> {
        let title = self.chats.get(&group).ok_or("there is no such group")?.title.clone();
        self.make_chat(to, "supergroup").title = title;
        self.chats.get_mut(&group).ok_or("gone")?.became = Some(to);
        for (here, field, there) in
            [(group, "migrate_to_chat_id", to), (to, "migrate_from_chat_id", group)]
        {
            let id = self.number(here);
            let from = json!({
                "id": 1_087_968_824, "is_bot": true, "first_name": "Group", "username": "GroupAnonymousBot",
            });
            let message = json!({
                "message_id": id, "date": date(), "chat": self.chat_json(here), "from": from,
                "sender_chat": self.chat_json(here), field: there,
            });
            self.tell("message", message.clone());
            self.make_chat(here, "supergroup").messages.insert(id, message);
        }
        Ok(Value::Null)
    }
}

/// Whether a bot in privacy mode is told: a command that names it or nobody, a mention, an answer to it.
fn is_meant(message: &Value) -> bool {
    let text = message["text"].as_str().or(message["caption"].as_str()).unwrap_or_default();
    let command = text.strip_prefix('/').map(|rest| rest.split([' ', '\n']).next().unwrap_or(rest));
    let to_us = command.is_some_and(|command| match command.split_once('@') {
        Some((_, name)) => name.eq_ignore_ascii_case(BOT_NAME),
        None => true,
    });
    let named = text.to_lowercase().contains(&format!("@{BOT_NAME}"));
    let answered = message["reply_to_message"]["from"]["id"].as_i64() == Some(BOT);
    to_us || named || answered || message.get("text").is_none() && message.get("caption").is_none()
}

/// The marks that Telegram itself makes of what a person types.
fn marks(text: &str) -> Vec<Value> {
    let mut marks = Vec::new();
    let mut offset = 0;
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_@/".contains(c);
    for word in text.split_inclusive(|c| !is_part(c)) {
        let bare = word.trim_end_matches(|c| !is_part(c));
        let kind = match bare.as_bytes() {
            [b'@', _, ..] => Some("mention"),
            [b'/', _, ..] => Some("bot_command"),
            _ => None,
        };
        if let Some(kind) = kind {
            marks.push(json!({ "type": kind, "offset": offset, "length": bare.len() }));
        }
        offset += word.encode_utf16().count();
    }
    marks
}

impl State {
    /// What the bot says.
    pub(super) fn show(&mut self, chat: i64, mut message: Value) -> Value {
        let id = self.number(chat);
        message["message_id"] = json!(id);
        message["date"] = json!(date());
        message["chat"] = self.chat_json(chat);
        message["from"] = bot();
        self.shown.push((chat, id));
        self.make_chat(chat, "private").messages.insert(id, message.clone());
        message
    }
}
