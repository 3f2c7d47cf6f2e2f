//! What the workspace is: who is there, what was said, and what the app was told of it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The bot's token.
pub const BOT_TOKEN: &str = "xoxb-stand-in";

/// The app's token.
pub const APP_TOKEN: &str = "xapp-stand-in";

/// The bot, as a person.
pub const BOT: &str = "UBOT";

/// The bot, as a bot; its app, and its workspace.
pub(super) const BOT_ID: &str = "BBOT";
pub(super) const APP: &str = "ABOT";
pub(super) const TEAM: &str = "T1";

/// Every scope that the bot may have.
pub(super) const SCOPES: [&str; 12] = [
    "app_mentions:read",
    "channels:history",
    "channels:read",
    "chat:write",
    "files:write",
    "groups:history",
    "groups:read",
    "im:history",
    "im:read",
    "mpim:history",
    "mpim:read",
    "users:read",
];

/// How strict it is.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Within what time an event has to be acknowledged.
    pub ack_within: Duration,
    /// After what times it is handed over again.
    pub retries: Vec<Duration>,
    /// How long before it is closed a connection is told so.
    pub warning: Duration,
    /// How many messages a conversation takes at once, before it takes one in a second; `None` is any number.
    pub burst: Option<usize>,
    /// The scopes that the bot has not.
    pub without: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            ack_within: Duration::from_secs(3),
            retries: [0, 60, 300].map(Duration::from_secs).to_vec(),
            warning: Duration::from_secs(10),
            burst: None,
            without: Vec::new(),
        }
    }
}

/// What goes wrong with the next request for a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It wants to be left alone for so many seconds.
    Busy(u64),
    /// It is done, and the connection ends before that is said.
    Silent,
    /// The connection ends before anything is done.
    Lost,
    /// It says this word.
    Says(String),
}

/// A conversation.
#[derive(Debug, Clone)]
pub(super) struct Chat {
    /// `channel`, `group`, `im` or `mpim`.
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) members: Vec<String>,
    pub(super) archived: bool,
    /// What was said, oldest first.
    pub(super) messages: Vec<Value>,
    /// When it takes messages as fast as they come again.
    pub(super) full: Option<Instant>,
}

/// A file.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) length: u64,
    pub(super) bytes: Option<Vec<u8>>,
}

/// A connection of the app.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) send: mpsc::UnboundedSender<Say>,
}

/// What a connection is to do.
#[derive(Debug)]
pub(super) enum Say {
    Text(String),
    /// It ends, in order or not.
    End {
        in_order: bool,
    },
}

/// Something that the app has to acknowledge.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) kind: &'static str,
    pub(super) payload: Value,
    pub(super) envelope: String,
    pub(super) tries: usize,
    pub(super) next: Instant,
    pub(super) reason: &'static str,
    /// The connection that has it.
    pub(super) line: Option<u64>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) rules: Rules,
    pub(super) people: BTreeMap<String, String>,
    pub(super) chats: BTreeMap<String, Chat>,
    pub(super) files: Vec<File>,
    pub(super) lines: BTreeMap<u64, Line>,
    pub(super) deliveries: VecDeque<Delivery>,
    /// Tickets with which a connection may be made, each once.
    pub(super) tickets: Vec<String>,
    pub(super) faults: HashMap<String, VecDeque<Fault>>,
    /// The methods that were asked, with what they said.
    pub(super) asked: Vec<(String, String)>,
    /// What was said to one person alone: to whom, and what.
    pub(super) whispers: Vec<(String, String)>,
    /// What is shown to be under way, by thread.
    pub(super) statuses: Vec<(String, String)>,
    /// How many envelopes were acknowledged, and how many were given up.
    pub(super) acknowledged: usize,
    pub(super) given_up: usize,
    /// Nobody is there.
    pub(super) down: bool,
    last_ts: u64,
    counter: u64,
    turn: u64,
}

impl State {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            people: BTreeMap::from([(BOT.to_owned(), "bot".to_owned())]),
            chats: BTreeMap::new(),
            files: Vec::new(),
            lines: BTreeMap::new(),
            deliveries: VecDeque::new(),
            tickets: Vec::new(),
            faults: HashMap::new(),
            asked: Vec::new(),
            whispers: Vec::new(),
            statuses: Vec::new(),
            acknowledged: 0,
            given_up: 0,
            down: false,
            last_ts: 0,
            counter: 0,
            turn: 0,
        }
    }

    /// A number that nothing else has.
    pub(super) fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// The time of the next message: later than that of any before.
    pub(super) fn ts(&mut self) -> String {
        let since = std::time::UNIX_EPOCH.elapsed().expect("the clock is behind 1970");
        let now = u64::try_from(since.as_micros()).expect("it is not that late");
        self.last_ts = now.max(self.last_ts + 1);
        format!("{}.{:06}", self.last_ts / 1_000_000, self.last_ts % 1_000_000)
    }

    /// Somebody says something, and the app is told. Returns its `ts`.
    pub(super) fn say(
        &mut self,
        user: &str,
        chat: &str,
        text: &str,
        thread: Option<&str>,
        more: &Value,
    ) -> String {
        let ts = self.ts();
        let mut message = json!({
            "type": "message", "user": user, "text": text, "ts": ts, "team": TEAM,
        });
        if user == BOT {
            message["bot_id"] = json!(BOT_ID);
            message["app_id"] = json!(APP);
        } else {
            message["client_msg_id"] = json!(format!("client-{ts}"));
        }
        if let Some(thread) = thread {
            message["thread_ts"] = json!(thread);
        }
        for (name, value) in more.as_object().into_iter().flatten() {
            message[name] = value.clone();
        }
        let place = self.chats.get_mut(chat).expect("there is such a conversation");
        if let Some(root) =
            place.messages.iter_mut().find(|it| thread.is_some_and(|thread| it["ts"] == thread))
        {
            root["thread_ts"] = root["ts"].clone();
            root["reply_count"] = json!(root["reply_count"].as_u64().unwrap_or(0) + 1);
            root["latest_reply"] = json!(ts);
        }
        place.messages.push(message.clone());
        let (kind, members) = (place.kind, place.members.clone());
        if members.iter().any(|member| member == BOT) {
            message["channel"] = json!(chat);
            message["channel_type"] = json!(kind);
            message["event_ts"] = json!(ts);
            message.as_object_mut().expect("it is one").remove("metadata");
            self.tell(&message);
            if text.contains(&format!("<@{BOT}>")) && kind != "im" && user != BOT {
                message["type"] = json!("app_mention");
                message.as_object_mut().expect("it is one").remove("channel_type");
                self.tell(&message);
            }
        }
        ts
    }

    /// Tells the app of an event.
    pub(super) fn tell(&mut self, event: &Value) {
        let number = self.number();
        let payload = json!({
            "token": "verification", "team_id": TEAM, "api_app_id": APP, "event": event,
            "type": "event_callback", "event_id": format!("Ev{number}"),
            "event_time": std::time::UNIX_EPOCH.elapsed().expect("it is later").as_secs(),
            "authorizations": [{ "team_id": TEAM, "user_id": BOT, "is_bot": true }],
        });
        self.deliver("events_api", payload);
    }

    /// Hands something over to the app.
    pub(super) fn deliver(&mut self, kind: &'static str, payload: Value) {
        let envelope = format!("envelope-{}", self.number());
        let (next, line) = (Instant::now(), None);
        self.deliveries.push_back(Delivery {
            kind,
            payload,
            envelope,
            tries: 0,
            next,
            reason: "",
            line,
        });
    }

    /// Hands over what is due, each to one connection, in turn.
    pub(super) fn hand_over(&mut self, now: Instant) {
        let mut left = VecDeque::new();
        while let Some(mut delivery) = self.deliveries.pop_front() {
            if delivery.next > now {
                left.push_back(delivery);
                continue;
            }
            // What a person pressed is tried once.
            let retries = match delivery.kind {
                "interactive" => &[][..],
                _ => &self.rules.retries[..],
            };
            if delivery.tries > retries.len() {
                self.given_up += 1;
                continue;
            }
            self.turn += 1;
            let lines: Vec<u64> = self.lines.keys().copied().collect();
            let turn = usize::try_from(self.turn).expect("it is not that late");
            delivery.line = (!lines.is_empty()).then(|| lines[turn % lines.len()]);
            if let Some(line) = delivery.line.and_then(|line| self.lines.get(&line)) {
                let text = json!({
                    "type": delivery.kind, "envelope_id": delivery.envelope,
                    "payload": delivery.payload, "accepts_response_payload": delivery.kind != "events_api",
                    "retry_attempt": delivery.tries, "retry_reason": delivery.reason,
                });
                drop(line.send.send(Say::Text(text.to_string()))); // it may have gone by now
            }
            let pause = retries.get(delivery.tries).copied().unwrap_or_default();
            delivery.next = now + self.rules.ack_within + pause;
            delivery.reason = "timeout";
            delivery.tries += 1;
            left.push_back(delivery);
        }
        self.deliveries = left;
    }

    /// The app acknowledges something.
    pub(super) fn acknowledge(&mut self, envelope: &str) {
        let before = self.deliveries.len();
        self.deliveries.retain(|delivery| delivery.envelope != envelope);
        self.acknowledged += before - self.deliveries.len();
    }
}
