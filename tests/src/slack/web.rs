//! The methods of the Web API.
//!
//! Source: the pages below <https://docs.slack.dev/reference/methods>.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::state::{APP_TOKEN, BOT, BOT_ID, BOT_TOKEN, Chat, Fault, File, SCOPES, State, TEAM};

/// The most characters of a text, of a text in a block, of a button and of its value.
const TEXT_MAX: usize = 40_000;
const BLOCK_MAX: usize = 3_000;
const BUTTON_MAX: usize = 75;
const VALUE_MAX: usize = 2_000;

/// What is asked: a method, with the token and the fields.
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) token: &'a str,
    pub(super) fields: &'a Value,
    /// Where this workspace is.
    pub(super) base: &'a str,
    /// Where its connections are.
    pub(super) socket: &'a str,
}

/// What is answered.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<u64>,
    pub(super) body: Value,
    pub(super) scopes: Option<String>,
    /// The connection ends instead.
    pub(super) is_silent: bool,
}

type Done = Result<Value, Value>;

fn no(error: &str) -> Value {
    json!({ "ok": false, "error": error })
}

impl State {
    /// Answers one request; `None` ends the connection before anything is done.
    pub(super) fn answer(&mut self, asked: &Asked<'_>) -> Option<Reply> {
        let fault = self.faults.get_mut(asked.method).and_then(|faults| faults.pop_front());
        let mut reply = Reply {
            status: 200,
            retry_after: None,
            body: Value::Null,
            scopes: None,
            is_silent: fault == Some(Fault::Silent),
        };
        match &fault {
            Some(Fault::Lost) => return None,
            Some(Fault::Busy(seconds)) => {
                (reply.status, reply.retry_after) = (429, Some(*seconds));
                reply.body = no("ratelimited");
            }
            Some(Fault::Says(error)) => reply.body = no(error),
            Some(Fault::Silent) | None => {
                reply.body = self.done(asked, &mut reply).unwrap_or_else(|error| error);
                if reply.body["ok"].is_null() {
                    reply.body["ok"] = json!(true);
                }
            }
        }
        let said = reply.body["error"].as_str().unwrap_or("ok").to_owned();
        self.asked.push((asked.method.to_owned(), said));
        Some(reply)
    }

    fn done(&mut self, asked: &Asked<'_>, reply: &mut Reply) -> Done {
        let wants_app = asked.method == "apps.connections.open";
        match (asked.token, wants_app) {
            ("", _) => return Err(no("not_authed")),
            (BOT_TOKEN, true) | (APP_TOKEN, false) => return Err(no("not_allowed_token_type")),
            (APP_TOKEN, true) => {
                let ticket = format!("ticket-{}", self.number());
                self.tickets.push(ticket.clone());
                return Ok(
                    json!({ "url": format!("{}/link/?ticket={ticket}&app_id=ABOT", asked.socket) }),
                );
            }
            (BOT_TOKEN, false) => {}
            _ => return Err(no("invalid_auth")),
        }
        let scopes: Vec<&str> = SCOPES
            .into_iter()
            .filter(|scope| !self.rules.without.iter().any(|it| it == scope))
            .collect();
        reply.scopes = Some(scopes.join(","));
        if let Some(needed) = self.needed(asked).filter(|needed| !scopes.contains(&needed.as_str()))
        {
            let mut error = no("missing_scope");
            error["needed"] = json!(needed);
            error["provided"] = json!(scopes.join(","));
            return Err(error);
        }
        let fields = asked.fields;
        match asked.method {
            "auth.test" => Ok(json!({
                "url": "https://stand-in.slack.com/", "team": "Stand-in", "user": "bot",
                "team_id": TEAM, "user_id": BOT, "bot_id": BOT_ID, "is_enterprise_install": false,
            })),
            "users.info" => self.user(fields),
            "users.conversations" => self.conversations(fields),
            "conversations.history" => self.history(fields),
            "conversations.replies" => self.replies(fields),
            "chat.postMessage" => self.post(fields, reply),
            "chat.postEphemeral" => self.whisper(fields),
            "chat.update" => self.update(fields),
            "files.getUploadURLExternal" => self.place_for_file(fields, asked.base),
            "files.completeUploadExternal" => self.share(fields),
            "assistant.threads.setStatus" => self.set_status(fields),
            _ => Err(no("unknown_method")),
        }
    }

    /// The scope that is needed.
    fn needed(&self, asked: &Asked<'_>) -> Option<String> {
        let kind = || {
            let chat = asked.fields["channel"].as_str()?;
            let kind = self.chats.get(chat)?.kind;
            Some(if kind == "channel" || kind == "group" {
                format!("{kind}s")
            } else {
                kind.to_owned()
            })
        };
        match asked.method {
            "chat.postMessage"
            | "chat.postEphemeral"
            | "chat.update"
            | "assistant.threads.setStatus" => Some("chat:write".to_owned()),
            "users.info" => Some("users:read".to_owned()),
            "conversations.history" | "conversations.replies" => {
                kind().map(|kind| format!("{kind}:history"))
            }
            "users.conversations" => {
                let types = text(asked.fields, "types").unwrap_or("public_channel");
                let scope = |kind: &str| match kind.trim() {
                    "public_channel" => "channels:read",
                    "private_channel" => "groups:read",
                    "mpim" => "mpim:read",
                    _ => "im:read",
                };
                let lacks = |scope: &&str| self.rules.without.iter().any(|it| it == scope);
                types.split(',').map(scope).find(lacks).map(str::to_owned)
            }
            "files.getUploadURLExternal" | "files.completeUploadExternal" => {
                Some("files:write".to_owned())
            }
            _ => None,
        }
    }

    fn user(&self, fields: &Value) -> Done {
        let id = text(fields, "user").ok_or_else(|| no("user_not_found"))?;
        let name = self.people.get(id).ok_or_else(|| no("user_not_found"))?;
        let profile = json!({ "display_name": name, "real_name": format!("{name} Doe") });
        Ok(json!({ "user": {
            "id": id, "name": name.to_lowercase(), "real_name": format!("{name} Doe"),
            "profile": profile, "is_bot": id == BOT, "team_id": TEAM,
        } }))
    }

    fn conversations(&self, fields: &Value) -> Done {
        let types = text(fields, "types").unwrap_or("public_channel");
        let wanted = |chat: &Chat| {
            let kind = match chat.kind {
                "channel" => "public_channel",
                "group" => "private_channel",
                kind => kind,
            };
            types.split(',').any(|it| it.trim() == kind)
        };
        let archived = !is_set(fields, "exclude_archived");
        let ours = self.chats.iter().filter(|(_, chat)| {
            chat.members.iter().any(|it| it == BOT) && wanted(chat) && (archived || !chat.archived)
        });
        let all = ours.map(|(id, chat)| {
            json!({
                "id": id, "name": chat.name, "is_archived": chat.archived,
                "is_channel": chat.kind == "channel", "is_group": chat.kind == "group",
                "is_im": chat.kind == "im", "is_mpim": chat.kind == "mpim",
                "is_member": true,
            })
        });
        let (page, next) = page(all.collect(), fields, 100, 999)?;
        Ok(json!({ "channels": page, "response_metadata": { "next_cursor": next } }))
    }

    fn place(&self, fields: &Value) -> Result<&Chat, Value> {
        let id = text(fields, "channel").or(text(fields, "channel_id"));
        let chat = id.and_then(|id| self.chats.get(id)).ok_or_else(|| no("channel_not_found"))?;
        let is_member = chat.members.iter().any(|it| it == BOT);
        match (is_member, chat.kind) {
            (true, _) => Ok(chat),
            (false, "channel") => Err(no("not_in_channel")),
            (false, _) => Err(no("channel_not_found")),
        }
    }

    fn history(&self, fields: &Value) -> Done {
        let chat = self.place(fields)?;
        let is_top = |message: &&Value| {
            message["thread_ts"].is_null()
                || message["thread_ts"] == message["ts"]
                || message["subtype"] == "thread_broadcast"
        };
        let messages = chat.messages.iter().filter(is_top).filter(|it| within(it, fields));
        let all: Vec<Value> = messages.rev().map(|it| shown(it, fields)).collect();
        let count = all.len();
        let (page, next) = page(all, fields, 100, 999)?;
        let has_more = page.len() < count && !next.is_empty();
        Ok(json!({
            "messages": page, "has_more": has_more, "pin_count": 0,
            "response_metadata": { "next_cursor": next },
        }))
    }

    fn replies(&self, fields: &Value) -> Done {
        let chat = self.place(fields)?;
        let thread = text(fields, "ts").ok_or_else(|| no("thread_not_found"))?;
        let root = chat.messages.iter().find(|it| it["ts"] == thread);
        let root = root.ok_or_else(|| no("thread_not_found"))?;
        let in_thread = |it: &&Value| it["thread_ts"] == thread && it["ts"] != thread;
        let replies = chat.messages.iter().filter(in_thread).filter(|it| within(it, fields));
        let (mut page, next) =
            page(replies.map(|it| shown(it, fields)).collect(), fields, 1_000, 1_000)?;
        page.insert(0, shown(root, fields));
        Ok(json!({
            "messages": page, "has_more": !next.is_empty(),
            "response_metadata": { "next_cursor": next },
        }))
    }

    fn post(&mut self, fields: &Value, reply: &mut Reply) -> Done {
        self.place(fields)?;
        let id = text(fields, "channel").unwrap_or_default().to_owned();
        let said = text(fields, "text").unwrap_or_default().to_owned();
        let thread = text(fields, "thread_ts").map(str::to_owned);
        check_message(fields, &said)?;
        let burst = self.rules.burst;
        let chat = self.chats.get_mut(&id).ok_or_else(|| no("channel_not_found"))?;
        if chat.archived {
            return Err(no("is_archived"));
        }
        if let Some(thread) = &thread
            && !chat.messages.iter().any(|it| it["ts"] == *thread)
        {
            return Err(no("thread_not_found"));
        }
        if let Some(burst) = burst {
            let now = Instant::now();
            let full = chat.full.unwrap_or(now).max(now) + Duration::from_secs(1);
            let room = Duration::from_secs(u64::try_from(burst).unwrap_or(1));
            if full - now > room {
                (reply.status, reply.retry_after) = (429, Some(1));
                return Err(no("ratelimited"));
            }
            chat.full = Some(full);
        }
        let mut more = json!({});
        for name in ["blocks", "metadata"] {
            let value = match &fields[name] {
                // What is sent as a form has JSON in its fields.
                Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
                value => value.clone(),
            };
            if !value.is_null() {
                more[name] = value;
            }
        }
        let said: String = said.chars().take(TEXT_MAX).collect();
        let ts = self.say(BOT, &id, &said, thread.as_deref(), &more);
        let message = self.chats[&id].messages.last().cloned();
        Ok(json!({ "channel": id, "ts": ts, "message": message }))
    }

    fn whisper(&mut self, fields: &Value) -> Done {
        let chat = self.place(fields)?;
        let user = text(fields, "user").unwrap_or_default().to_owned();
        if !chat.members.contains(&user) {
            return Err(no("user_not_in_channel"));
        }
        let said = text(fields, "text").unwrap_or_default().to_owned();
        check_message(fields, &said)?;
        self.whispers.push((user, said));
        Ok(json!({ "message_ts": self.ts() }))
    }

    fn update(&mut self, fields: &Value) -> Done {
        self.place(fields)?;
        let said = text(fields, "text").unwrap_or_default().to_owned();
        check_message(fields, &said)?;
        let (id, ts) = (text(fields, "channel").unwrap_or_default(), text(fields, "ts"));
        let chat = self.chats.get_mut(id).ok_or_else(|| no("channel_not_found"))?;
        let found = chat.messages.iter_mut().find(|it| it["ts"].as_str() == ts);
        let message = found.ok_or_else(|| no("message_not_found"))?;
        if message["user"] != BOT {
            return Err(no("cant_update_message"));
        }
        message["text"] = json!(said);
        message["edited"] = json!({ "user": BOT, "ts": ts });
        if !fields["blocks"].is_null() {
            message["blocks"] = fields["blocks"].clone();
        }
        let mut event = message.clone();
        event["channel"] = json!(id);
        let event = json!({
            "type": "message", "subtype": "message_changed", "channel": id, "hidden": true,
            "message": event, "ts": ts, "event_ts": ts, "channel_type": chat.kind,
        });
        self.tell(&event);
        Ok(json!({ "channel": id, "ts": ts, "text": said }))
    }

    fn place_for_file(&mut self, fields: &Value, base: &str) -> Done {
        let name = text(fields, "filename").ok_or_else(|| no("missing_argument"))?;
        let length = match &fields["length"] {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let length = length.filter(|length| *length > 0).ok_or_else(|| no("missing_argument"))?;
        self.files.push(File { name: name.to_owned(), length, bytes: None });
        let number = self.files.len();
        Ok(
            json!({ "upload_url": format!("{base}/upload/{number}"), "file_id": format!("F{number}") }),
        )
    }

    /// Takes the bytes of a file.
    pub(super) fn upload(&mut self, number: &str, bytes: Vec<u8>) -> bool {
        let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        match index.and_then(|index| self.files.get_mut(index)) {
            Some(file) if file.bytes.is_none() && file.length == bytes.len() as u64 => {
                file.bytes = Some(bytes);
                true
            }
            Some(_) | None => false,
        }
    }

    fn share(&mut self, fields: &Value) -> Done {
        self.place(fields)?;
        let id = text(fields, "channel_id").unwrap_or_default().to_owned();
        let asked = match &fields["files"] {
            Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
            files => files.clone(),
        };
        let mut files = Vec::new();
        for file in asked.as_array().into_iter().flatten() {
            let file_id = file["id"].as_str().unwrap_or_default();
            let index = file_id.strip_prefix('F').and_then(|number| number.parse::<usize>().ok());
            let known = index.and_then(|index| self.files.get(index - 1));
            let known =
                known.filter(|file| file.bytes.is_some()).ok_or_else(|| no("file_not_found"))?;
            files.push(json!({
                "id": file_id, "name": known.name, "title": file["title"], "size": known.length,
            }));
        }
        let thread = text(fields, "thread_ts").map(str::to_owned);
        let said = text(fields, "initial_comment").unwrap_or_default().to_owned();
        let more = json!({ "files": files, "subtype": "file_share" });
        self.say(BOT, &id, &said, thread.as_deref(), &more);
        Ok(json!({ "files": files }))
    }

    fn set_status(&mut self, fields: &Value) -> Done {
        let chat = self.place(fields)?;
        let thread = text(fields, "thread_ts").unwrap_or_default().to_owned();
        if !chat.messages.iter().any(|it| it["ts"] == thread) {
            return Err(no("invalid_thread_ts"));
        }
        self.statuses.push((thread, text(fields, "status").unwrap_or_default().to_owned()));
        Ok(json!({}))
    }
}

fn text<'a>(fields: &'a Value, name: &str) -> Option<&'a str> {
    fields[name].as_str().filter(|text| !text.is_empty())
}

/// Whether a field says yes: in forms there are two words for it.
fn is_set(fields: &Value, name: &str) -> bool {
    fields[name] == true || matches!(text(fields, name), Some("true" | "1"))
}

/// Whether a message is in the span of time that was asked for.
fn within(message: &Value, fields: &Value) -> bool {
    let key = |ts: &str| {
        let (seconds, rest) = ts.split_once('.').unwrap_or((ts, ""));
        (seconds.parse::<u64>().unwrap_or_default(), format!("{rest:0<6}"))
    };
    let ts = key(message["ts"].as_str().unwrap_or_default());
    let inclusive = is_set(fields, "inclusive");
    let after = text(fields, "oldest").is_none_or(|oldest| {
        let oldest = key(oldest);
        ts > oldest || (inclusive && ts == oldest)
    });
    let before = text(fields, "latest").is_none_or(|latest| {
        let latest = key(latest);
        ts < latest || (inclusive && ts == latest)
    });
    after && before
}

/// A message as it is shown: what other apps say beside it only to whoever asks for that.
fn shown(message: &Value, fields: &Value) -> Value {
    let mut message = message.clone();
    let all = is_set(fields, "include_all_metadata");
    if !all && let Some(metadata) = message.get_mut("metadata") {
        metadata.as_object_mut().into_iter().for_each(|it| drop(it.remove("event_payload")));
    }
    message
}

/// A page, and where the next one is.
fn page(
    all: Vec<Value>,
    fields: &Value,
    usual: usize,
    most: usize,
) -> Result<(Vec<Value>, String), Value> {
    let limit = match &fields["limit"] {
        Value::Null => usual,
        Value::String(text) => text.parse().map_err(|_| no("invalid_limit"))?,
        limit => {
            limit.as_u64().and_then(|it| it.try_into().ok()).ok_or_else(|| no("invalid_limit"))?
        }
    };
    let limit = limit.clamp(1, most);
    // What is newer than a page does not move the next one.
    let begin = match text(fields, "cursor") {
        None => 0,
        Some(cursor) => {
            let last = cursor.strip_prefix("after-").ok_or_else(|| no("invalid_cursor"))?;
            let known = all.iter().position(|it| it["ts"] == last || it["id"] == last);
            known.ok_or_else(|| no("invalid_cursor"))? + 1
        }
    };
    let page: Vec<Value> = all.iter().skip(begin).take(limit).cloned().collect();
    let last = page.last().filter(|_| begin + page.len() < all.len());
    let name = |it: &Value| it["ts"].as_str().or(it["id"].as_str()).unwrap_or_default().to_owned();
    let next = last.map(|it| format!("after-{}", name(it))).unwrap_or_default();
    Ok((page, next))
}

/// What Slack does not take.
fn check_message(fields: &Value, said: &str) -> Result<(), Value> {
    let blocks = match &fields["blocks"] {
        Value::String(text) => {
            serde_json::from_str(text).map_err(|_| no("invalid_blocks_format"))?
        }
        blocks => blocks.clone(),
    };
    let blocks = blocks.as_array().cloned().unwrap_or_default();
    if said.is_empty() && blocks.is_empty() {
        return Err(no("no_text"));
    }
    if blocks.len() > 50 {
        return Err(no("invalid_blocks"));
    }
    let long = |value: &Value, most: usize| {
        value.as_str().is_none_or(|text| text.is_empty() || text.chars().count() > most)
    };
    for block in &blocks {
        let is_wrong = match block["type"].as_str() {
            Some("section") => long(&block["text"]["text"], BLOCK_MAX),
            Some("actions") => {
                let elements = block["elements"].as_array().cloned().unwrap_or_default();
                let mut ids: Vec<_> =
                    elements.iter().map(|it| it["action_id"].to_string()).collect();
                ids.sort();
                let is_double = ids.windows(2).any(|two| two[0] == two[1]);
                let wrong = |it: &Value| {
                    it["type"] != "button"
                        || it["text"]["type"] != "plain_text"
                        || long(&it["text"]["text"], BUTTON_MAX)
                        || long(&it["value"], VALUE_MAX)
                        || long(&it["action_id"], 255)
                };
                elements.is_empty()
                    || elements.len() > 25
                    || is_double
                    || elements.iter().any(wrong)
            }
            Some("context") => {
                block["elements"].as_array().is_none_or(|it| it.is_empty() || it.len() > 10)
            }
            _ => true,
        };
        if is_wrong {
            return Err(no("invalid_blocks"));
        }
    }
    Ok(())
}
