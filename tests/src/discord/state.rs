//! What there is: people, one server with its channels and threads, what was said, and the sessions that are told.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use super::limits::Limits;
use super::options::Options;
use super::server::Fault;

/// The first millisecond of Discord's time.
const EPOCH: u64 = 1_420_070_400_000;

/// How many events of a session are remembered.
const EVENTS_MAX: usize = 1_000;

pub(super) const GUILDS: u64 = 1;
pub(super) const GUILD_MESSAGES: u64 = 1 << 9;
pub(super) const DIRECT_MESSAGES: u64 = 1 << 12;
pub(super) const MESSAGE_CONTENT: u64 = 1 << 15;

/// Intents that somebody has to have allowed: members, presences, and content.
pub(super) const PRIVILEGED: u64 = (1 << 1) | (1 << 8) | MESSAGE_CONTENT;

/// Every intent there is.
pub(super) const INTENTS: u64 = (1 << 26) - 1;

/// What goes to a connection.
pub(super) enum Told {
    Text(String),
    /// It is closed with this code.
    Close(u16),
    /// It is cut off.
    Drop,
}

#[derive(Debug, Clone)]
pub(super) struct Channel {
    pub(super) kind: u64,
    pub(super) name: String,
    /// A direct chat has none, and its person instead.
    pub(super) guild: Option<u64>,
    pub(super) parent: Option<u64>,
    pub(super) recipient: Option<u64>,
    pub(super) messages: Vec<Value>,
    /// The number of the error by which the bot is refused here.
    pub(super) closed: Option<u64>,
}

pub(super) struct Session {
    pub(super) intents: u64,
    pub(super) last: u64,
    pub(super) events: VecDeque<(u64, String)>,
    /// Its connection, or since when it has none.
    pub(super) line: Result<UnboundedSender<Told>, Instant>,
}

pub(super) struct Interaction {
    pub(super) token: String,
    pub(super) message: u64,
    pub(super) channel: u64,
    pub(super) made: Instant,
    /// What it was answered with.
    pub(super) answer: Option<Value>,
}

/// How often something happened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) identified: u64,
    pub(super) resumed: u64,
    pub(super) invalid: u64,
    pub(super) limited: u64,
}

pub(super) struct State {
    pub(super) options: Options,
    pub(super) users: BTreeMap<u64, Value>,
    pub(super) bot: u64,
    pub(super) me: u64,
    pub(super) other_bot: u64,
    pub(super) guild: u64,
    pub(super) role: u64,
    pub(super) channels: BTreeMap<u64, Channel>,
    pub(super) sessions: HashMap<String, Session>,
    /// Messages by author and nonce.
    pub(super) nonces: HashMap<(u64, String), (Instant, u64, u64)>,
    pub(super) interactions: HashMap<u64, Interaction>,
    pub(super) limits: Limits,
    pub(super) faults: VecDeque<Fault>,
    pub(super) introduced: VecDeque<Instant>,
    pub(super) counts: Counts,
    /// What was asked: method, path, and the status of the answer.
    pub(super) asked: Vec<(String, String, u16)>,
    pub(super) files: HashMap<u64, Vec<u8>>,
    pub(super) gateway: String,
    last_id: u64,
}

impl State {
    pub(super) fn new(options: Options, gateway: String) -> Self {
        let limits = Limits::new(&options);
        let mut state = Self {
            options,
            users: BTreeMap::new(),
            bot: 0,
            me: 0,
            other_bot: 0,
            guild: 0,
            role: 0,
            channels: BTreeMap::new(),
            sessions: HashMap::new(),
            nonces: HashMap::new(),
            interactions: HashMap::new(),
            limits,
            faults: VecDeque::new(),
            introduced: VecDeque::new(),
            counts: Counts::default(),
            asked: Vec::new(),
            files: HashMap::new(),
            gateway,
            last_id: 0,
        };
        state.bot = state.add_user("twobox", true);
        state.me = state.add_user("me", false);
        state.other_bot = state.add_user("other", true);
        state.guild = state.id();
        state.role = state.id();
        let guild = state.guild;
        state.add_channel(0, "general", Some(guild), None, None);
        state
    }

    /// An id that was never there, with the time in it.
    #[expect(clippy::disallowed_methods, reason = "ids are made of the time, as Discord's are")]
    pub(super) fn id(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let id = (u64::try_from(now).unwrap() - EPOCH) << 22;
        self.last_id = id.max(self.last_id + 1);
        self.last_id
    }

    pub(super) fn add_user(&mut self, name: &str, bot: bool) -> u64 {
        let id = self.id();
        let user = json!({
            "id": id.to_string(), "username": name, "discriminator": "0", "global_name": null,
            "avatar": null, "bot": bot, "public_flags": 0,
        });
        self.users.insert(id, user);
        id
    }

    pub(super) fn add_channel(
        &mut self,
        kind: u64,
        name: &str,
        guild: Option<u64>,
        parent: Option<u64>,
        recipient: Option<u64>,
    ) -> u64 {
        let id = self.id();
        let (name, messages) = (name.to_owned(), Vec::new());
        let channel = Channel { kind, name, guild, parent, recipient, messages, closed: None };
        self.channels.insert(id, channel);
        if guild.is_some() {
            let event = if parent.is_some() { "THREAD_CREATE" } else { "CHANNEL_CREATE" };
            let data = self.channel(id);
            self.tell(event, GUILDS, |_| data.clone());
        }
        id
    }

    /// A channel, as it is told.
    pub(super) fn channel(&self, id: u64) -> Value {
        let channel = &self.channels[&id];
        let last = channel.messages.last().map(|message| message["id"].clone());
        let mut told = json!({
            "id": id.to_string(), "type": channel.kind, "last_message_id": last, "flags": 0,
        });
        if let Some(guild) = channel.guild {
            told["guild_id"] = json!(guild.to_string());
            told["name"] = json!(channel.name);
            told["position"] = json!(0);
            told["permission_overwrites"] = json!([]);
            told["parent_id"] = json!(channel.parent.map(|id| id.to_string()));
            told["nsfw"] = json!(false);
            told["rate_limit_per_user"] = json!(0);
        }
        if channel.parent.is_some() {
            told["owner_id"] = json!(self.me.to_string());
            told["message_count"] = json!(channel.messages.len());
            told["member_count"] = json!(2);
            told["thread_metadata"] = json!({
                "archived": false, "auto_archive_duration": 60, "locked": false,
                "archive_timestamp": "2026-01-01T00:00:00.000000+00:00",
            });
        }
        if let Some(recipient) = channel.recipient {
            told["recipients"] = json!([self.users[&recipient]]);
        }
        told
    }

    /// The server with everything in it, as it is told.
    pub(super) fn guild(&self) -> Value {
        let of = |is_thread: bool| -> Vec<Value> {
            let ids = self.channels.iter().filter(|(_, channel)| {
                channel.guild.is_some() && channel.parent.is_some() == is_thread
            });
            ids.map(|(id, _)| self.channel(*id)).collect()
        };
        let guild = self.guild.to_string();
        let role = |id: u64, name: &str, tags: Value| {
            json!({
                "id": id.to_string(), "name": name, "color": 0, "hoist": false, "position": 0, "permissions": "0",
                "managed": tags != json!({}), "mentionable": false, "tags": tags, "flags": 0,
                "colors": { "primary_color": 0, "secondary_color": null, "tertiary_color": null },
            })
        };
        let ours = role(self.role, "twobox", json!({ "bot_id": self.bot.to_string() }));
        json!({
            "id": guild, "name": "a server", "unavailable": false, "owner_id": self.me.to_string(),
            "channels": of(false), "threads": of(true),
            "roles": [role(self.guild, "@everyone", json!({})), ours],
            "emojis": [], "stickers": [], "features": [], "voice_states": [], "presences": [],
            "members": [self.member(self.bot)], "member_count": 3, "large": false,
            "stage_instances": [], "guild_scheduled_events": [], "soundboard_sounds": [],
            "joined_at": "2026-01-01T00:00:00.000000+00:00", "afk_timeout": 300, "afk_channel_id": null,
            "verification_level": 0, "default_message_notifications": 0, "explicit_content_filter": 0,
            "mfa_level": 0, "nsfw_level": 0, "premium_tier": 0, "preferred_locale": "en-US", "icon": null,
            "splash": null, "discovery_splash": null, "banner": null, "description": null,
            "system_channel_id": null, "system_channel_flags": 0, "rules_channel_id": null,
            "public_updates_channel_id": null, "safety_alerts_channel_id": null, "application_id": null,
            "vanity_url_code": null, "premium_progress_bar_enabled": false,
        })
    }

    /// Somebody as a member of the server.
    pub(super) fn member(&self, user: u64) -> Value {
        json!({
            "user": self.users[&user], "nick": null, "avatar": null, "roles": [], "flags": 0,
            "joined_at": "2026-01-01T00:00:00.000000+00:00", "deaf": false, "mute": false, "pending": false,
        })
    }

    /// Tells every session that has this intent.
    pub(super) fn tell(&mut self, event: &str, intent: u64, data: impl Fn(u64) -> Value) {
        for session in self.sessions.values_mut() {
            if intent == 0 || session.intents & intent != 0 {
                session.tell(event, &data(session.intents));
            }
        }
    }

    /// Everything that is connected is told this, and no session remembers it.
    pub(super) fn to_all(&self, told: impl Fn() -> Told) {
        for line in self.sessions.values().filter_map(|session| session.line.as_ref().ok()) {
            drop(line.send(told()));
        }
    }
}

impl Session {
    pub(super) fn tell(&mut self, event: &str, data: &Value) {
        self.last += 1;
        let text = json!({ "op": 0, "s": self.last, "t": event, "d": data }).to_string();
        if let Ok(line) = &self.line {
            drop(line.send(Told::Text(text.clone())));
        }
        self.events.push_back((self.last, text));
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }
}
