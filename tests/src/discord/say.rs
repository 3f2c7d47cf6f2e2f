//! Messages: how they are made, shown and told of.

use std::time::Instant;

use serde_json::{Value, json};

use super::check::{Asked, Refusal};
use super::state::{DIRECT_MESSAGES, GUILD_MESSAGES, Interaction, MESSAGE_CONTENT, State};

impl State {
    /// A person says something.
    pub(super) fn say(&mut self, by: u64, channel: u64, text: &str, reply_to: Option<u64>) -> u64 {
        let asked = Asked { message: json!({ "content": text }), files: Vec::new() };
        let mut message = self.message(by, channel, &asked);
        message["mentions"] = self.named(text, None);
        if let Some(id) = reply_to {
            self.refer(&mut message, channel, id);
        }
        self.put(channel, message)
    }

    /// The bot has a message made; or the one that it had made under the same nonce.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn post(&mut self, channel: u64, asked: &Asked) -> Result<Value, Refusal> {
        let now = Instant::now();
        let known_for = self.options.nonce_known;
        self.nonces.retain(|_, (at, _, _)| now.duration_since(*at) < known_for);
        let nonce = asked.message["nonce"].as_str().map(str::to_owned);
        let enforced = asked.message["enforce_nonce"] == true;
        let key = nonce.map(|nonce| (self.bot, nonce));
        if let Some((_, in_channel, id)) =
            key.as_ref().filter(|_| enforced).and_then(|key| self.nonces.get(key))
        {
            let known = self.find(*in_channel, *id);
            return known.ok_or((404, 10_008, "Unknown Message"));
        }
        let mut message = self.message(self.bot, channel, asked);
        let text = asked.message["content"].as_str().unwrap_or_default().to_owned();
        message["mentions"] = self.named(&text, Some(&asked.message["allowed_mentions"]));
        let reference = &asked.message["message_reference"];
        if let Some(id) = id_of(&reference["message_id"]) {
            match self.find(channel, id) {
                Some(_) => self.refer(&mut message, channel, id),
                None if reference["fail_if_not_exists"] == false => {}
                None => return Err((400, 50_035, "Invalid Form Body: Unknown message")),
            }
        }
        let nonce = asked.message["nonce"].clone();
        let id = self.put_with(channel, message, &nonce);
        if let Some(key) = key {
            self.nonces.insert(key, (now, channel, id));
        }
        let mut made = self.find(channel, id).unwrap();
        made["nonce"] = nonce;
        Ok(made)
    }

    fn message(&mut self, by: u64, channel: u64, asked: &Asked) -> Value {
        let id = self.id();
        let text = asked.message["content"].as_str().unwrap_or_default().trim();
        let mut attachments = Vec::new();
        for (name, bytes) in &asked.files {
            let file = self.id();
            self.files.insert(file, bytes.clone());
            let name: String = name.chars().map(|c| if c == ' ' { '_' } else { c }).collect();
            let url = format!("https://cdn.discordapp.com/attachments/{channel}/{file}/{name}");
            attachments.push(json!({
                "id": file.to_string(), "filename": name, "size": bytes.len(), "url": url, "proxy_url": url,
            }));
        }
        let time =
            twobox_shared::time::UnixMillis(i64::try_from((id >> 22) + 1_420_070_400_000).unwrap());
        json!({
            "id": id.to_string(), "channel_id": channel.to_string(), "type": 0, "content": text,
            "author": self.users[&by], "timestamp": time.to_rfc3339(), "edited_timestamp": null,
            "tts": false, "mention_everyone": false, "mentions": [], "mention_roles": [],
            "attachments": attachments, "embeds": [], "pinned": false,
            "flags": asked.message["flags"].as_u64().unwrap_or(0),
            "components": components(&asked.message["components"]),
        })
    }

    /// The people who are named in a text, as far as that may be.
    fn named(&self, text: &str, allowed: Option<&Value>) -> Value {
        let may = |id: u64| {
            let listed = |list: &Value, it: &str| {
                list.as_array().is_some_and(|all| all.iter().any(|one| one == it))
            };
            match allowed {
                None | Some(Value::Null) => true,
                Some(allowed) => {
                    listed(&allowed["parse"], "users") || listed(&allowed["users"], &id.to_string())
                }
            }
        };
        let is_named = |id: &&u64| text.contains(&format!("<@{id}>")) && may(**id);
        let named = self.users.keys().filter(is_named);
        named.map(|id| self.users[id].clone()).collect()
    }

    fn refer(&self, message: &mut Value, channel: u64, id: u64) {
        let mut reference =
            json!({ "type": 0, "channel_id": channel.to_string(), "message_id": id.to_string() });
        if let Some(guild) = self.channels[&channel].guild {
            reference["guild_id"] = json!(guild.to_string());
        }
        message["type"] = json!(19);
        message["message_reference"] = reference;
        message["referenced_message"] = self.find(channel, id).unwrap_or_default();
    }

    fn put(&mut self, channel: u64, message: Value) -> u64 {
        self.put_with(channel, message, &Value::Null)
    }

    fn put_with(&mut self, channel: u64, message: Value, nonce: &Value) -> u64 {
        let id = id_of(&message["id"]).unwrap();
        let there = &self.channels[&channel];
        let (guild, kind) = (there.guild, there.kind);
        let mut told = message.clone();
        told["channel_type"] = json!(kind);
        if !nonce.is_null() {
            told["nonce"] = nonce.clone();
        }
        if let Some(guild) = guild {
            told["guild_id"] = json!(guild.to_string());
            let author = id_of(&message["author"]["id"]).unwrap();
            let mut member = self.member(author);
            member.as_object_mut().unwrap().remove("user");
            told["member"] = member;
        }
        let intent = if guild.is_some() { GUILD_MESSAGES } else { DIRECT_MESSAGES };
        let unread = self.without_content(&told);
        self.channels.get_mut(&channel).unwrap().messages.push(message);
        self.tell("MESSAGE_CREATE", intent, |intents| match intents & MESSAGE_CONTENT {
            0 => unread.clone(),
            _ => told.clone(),
        });
        id
    }

    /// A message for a bot that may not read all.
    pub(super) fn without_content(&self, message: &Value) -> Value {
        let ours = self.bot.to_string();
        let is_ours = message["author"]["id"] == ours;
        let names_us =
            message["mentions"].as_array().is_some_and(|all| all.iter().any(|it| it["id"] == ours));
        let mut message = message.clone();
        if message.get("guild_id").is_some() && !is_ours && !names_us {
            message["content"] = json!("");
            for key in ["embeds", "attachments", "components"] {
                message[key] = json!([]);
            }
        }
        message
    }

    /// A message that is there.
    pub(super) fn find(&self, channel: u64, id: u64) -> Option<Value> {
        let id = id.to_string();
        self.channels.get(&channel)?.messages.iter().find(|message| message["id"] == id).cloned()
    }

    /// Somebody presses a button: its interaction.
    pub(super) fn press(&mut self, by: u64, message: u64, custom_id: &str) -> Option<u64> {
        let (channel, shown) = self
            .channels
            .keys()
            .find_map(|channel| Some((*channel, self.find(*channel, message)?)))?;
        let rows = shown["components"].as_array()?;
        let all = rows.iter().filter_map(|row| row["components"].as_array()).flatten();
        let button = all.into_iter().find(|button| button["custom_id"] == custom_id)?;
        if button["disabled"] == true {
            return None;
        }
        let id = self.id();
        let token = format!("interaction-token-{id}");
        let mut told = json!({
            "id": id.to_string(), "application_id": self.bot.to_string(), "type": 3, "version": 1, "token": token,
            "data": { "custom_id": custom_id, "component_type": 2 },
            "channel_id": channel.to_string(), "channel": self.channel(channel), "message": shown,
            "locale": "en-US", "entitlements": [], "authorizing_integration_owners": {}, "context": 0,
            "app_permissions": "0", "attachment_size_limit": 10 << 20,
        });
        match self.channels[&channel].guild {
            Some(guild) => {
                told["guild_id"] = json!(guild.to_string());
                let mut member = self.member(by);
                member["permissions"] = json!("0");
                told["member"] = member;
            }
            None => told["user"] = self.users[&by].clone(),
        }
        let made = Instant::now();
        let interaction = Interaction { token, message, channel, made, answer: None };
        self.interactions.insert(id, interaction);
        self.tell("INTERACTION_CREATE", 0, |_| told.clone());
        Some(id)
    }

    /// A message is changed.
    pub(super) fn change(&mut self, channel: u64, id: u64, changes: &Value) {
        let (name, id) = (id.to_string(), id);
        let messages = &mut self.channels.get_mut(&channel).unwrap().messages;
        let message = messages.iter_mut().find(|message| message["id"] == name).unwrap();
        if let Some(text) = changes["content"].as_str() {
            message["content"] = json!(text);
        }
        if !changes["components"].is_null() {
            message["components"] = components(&changes["components"]);
        }
        let told = self.find(channel, id).unwrap();
        let intent =
            if self.channels[&channel].guild.is_some() { GUILD_MESSAGES } else { DIRECT_MESSAGES };
        self.tell("MESSAGE_UPDATE", intent, |_| told.clone());
    }
}

/// Components, with the numbers that they get.
fn components(asked: &Value) -> Value {
    let mut shown = if asked.is_null() { json!([]) } else { asked.clone() };
    let mut id = 0;
    for row in shown.as_array_mut().into_iter().flatten() {
        id += 1;
        row["id"] = json!(id);
        for button in row["components"].as_array_mut().into_iter().flatten() {
            id += 1;
            button["id"] = json!(id);
        }
    }
    shown
}

/// The id that stands there, as a text or as the number that it is.
pub(super) fn id_of(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
