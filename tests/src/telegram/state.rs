//! What there is: chats, what was said in them, what the bot has not fetched, and what is to go wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use twobox_shared::clock::{Clock, SystemClock};

use super::{BOT, BOT_NAME, GROUP, SUPERGROUP, TOPIC};

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weather {
    /// It is refused.
    Refuse {
        /// With this code.
        code: u16,
        /// In these words.
        description: String,
        /// With a pause of so many seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// It is done, and the connection is closed without an answer.
    Silent,
    /// It is not done, and the connection is closed without an answer.
    Lost,
    /// It is not done, and something in Telegram's place answers 502.
    Gateway,
    /// It is done, and not answered before [`Order::Release`].
    Stalled,
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// With which method.
    pub method: String,
    /// After how many requests that it is not for.
    #[serde(default)]
    pub after: usize,
    /// How often.
    #[serde(default = "once")]
    pub times: usize,
    /// What.
    pub weather: Weather,
}

const fn once() -> usize {
    1
}

/// What a person or fate does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Somebody says something. A chat with a number above zero is a person's own.
    Say {
        /// Where.
        chat: i64,
        /// Who.
        from: i64,
        /// What.
        text: String,
        /// More fields of the message, such as `message_thread_id`, or others in place of those that it has.
        #[serde(default)]
        more: Value,
    },
    /// Somebody has put a file on Telegram's servers.
    Put {
        /// Its id.
        id: String,
        /// What is in it.
        content: String,
    },
    /// Somebody presses a button.
    Click {
        /// Of a message in this chat.
        chat: i64,
        /// The message.
        message: i64,
        /// Who.
        from: i64,
        /// Which button, from 0.
        button: usize,
    },
    /// Something goes wrong.
    Fail(Fault),
    /// What is stalled is answered.
    Release,
    /// A person blocks the bot, or no longer.
    Block {
        /// Their chat.
        chat: i64,
        /// Whether they do.
        blocked: bool,
    },
    /// A group becomes a supergroup.
    Upgrade {
        /// The group.
        group: i64,
        /// What it becomes.
        to: i64,
    },
    /// In groups the bot is told everything, or only what is said to it.
    Privacy {
        /// The latter.
        on: bool,
    },
    /// Whether Telegram wants pauses by itself.
    Flood {
        /// It does.
        on: bool,
    },
}

/// A chat.
#[derive(Debug, Clone)]
pub(super) struct Chat {
    pub(super) kind: &'static str,
    pub(super) title: String,
    pub(super) topics: BTreeSet<i64>,
    pub(super) blocked: bool,
    pub(super) became: Option<i64>,
    /// What was said there, by its number.
    pub(super) messages: BTreeMap<i64, Value>,
    /// When the bot said something there.
    pub(super) times: VecDeque<Instant>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct State {
    pub(super) chats: BTreeMap<i64, Chat>,
    pub(super) updates: VecDeque<Value>,
    pub(super) next_update: i64,
    next_message: i64,
    next_click: i64,
    pub(super) allowed: Option<Vec<String>>,
    pub(super) webhook: String,
    /// Clicks that were not answered yet.
    pub(super) clicks: BTreeSet<String>,
    pub(super) faults: Vec<Fault>,
    /// What is in files, by their ids.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// What the bot has shown: the chat and the number, in their order.
    pub(super) shown: Vec<(i64, i64)>,
    /// What was asked.
    pub(super) calls: Vec<(String, Value)>,
    /// The number of the poll that has the last word.
    pub(super) poll: u64,
    pub(super) privacy: bool,
    pub(super) flood: bool,
    pub(super) times: VecDeque<Instant>,
    /// How many answers may go on that were stalled.
    pub(super) released: usize,
    pub(super) stalled: usize,
    /// How many polls wait for something to be said.
    pub(super) waiting: usize,
}

impl State {
    pub(super) fn new() -> Self {
        let mut state = Self {
            chats: BTreeMap::new(),
            updates: VecDeque::new(),
            next_update: 500_000_001,
            next_message: 1,
            next_click: 4_200_000_000_000,
            allowed: None,
            webhook: String::new(),
            clicks: BTreeSet::new(),
            faults: Vec::new(),
            files: BTreeMap::new(),
            shown: Vec::new(),
            calls: Vec::new(),
            poll: 0,
            privacy: true,
            flood: true,
            times: VecDeque::new(),
            released: 0,
            stalled: 0,
            waiting: 0,
        };
        state.make_chat(GROUP, "group");
        state.make_chat(SUPERGROUP, "supergroup").topics.insert(TOPIC);
        state
    }

    pub(super) fn make_chat(&mut self, id: i64, kind: &'static str) -> &mut Chat {
        self.chats.entry(id).or_insert_with(|| Chat {
            kind,
            title: format!("chat {id}"),
            topics: BTreeSet::new(),
            blocked: false,
            became: None,
            messages: BTreeMap::new(),
            times: VecDeque::new(),
        })
    }

    /// The chat as messages have it.
    pub(super) fn chat_json(&self, id: i64) -> Value {
        let chat = &self.chats[&id];
        let mut json = json!({ "id": id, "type": chat.kind });
        match chat.kind {
            "private" => json["first_name"] = json!(name_of(id)),
            _ => json["title"] = json!(chat.title),
        }
        if !chat.topics.is_empty() {
            json["is_forum"] = json!(true);
        }
        json
    }

    /// A number for a message in this chat: in a supergroup of its own, elsewhere one for all.
    pub(super) fn number(&mut self, chat: i64) -> i64 {
        let own = &self.chats[&chat];
        if own.kind == "supergroup" {
            return own.messages.keys().next_back().copied().unwrap_or(100) + 1;
        }
        self.next_message += 1;
        self.next_message
    }

    /// Has the bot told of something, if it wants to be.
    pub(super) fn tell(&mut self, kind: &str, what: Value) {
        let wanted = match &self.allowed {
            Some(allowed) if !allowed.is_empty() => allowed.iter().any(|it| it == kind),
            _ => true,
        };
        if wanted {
            let id = self.next_update;
            self.next_update += 1;
            self.updates.push_back(json!({ "update_id": id, kind: what }));
        }
    }

    pub(super) fn next_click(&mut self) -> String {
        self.next_click += 1;
        self.next_click.to_string()
    }

    /// What happens to a request for `method`.
    pub(super) fn weather(&mut self, method: &str) -> Option<Weather> {
        let index = self.faults.iter().position(|it| it.method.eq_ignore_ascii_case(method))?;
        let fault = &mut self.faults[index];
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        let weather = fault.weather.clone();
        fault.times -= 1;
        if fault.times == 0 {
            self.faults.remove(index);
        }
        Some(weather)
    }
}

/// A person.
pub(super) fn person(id: i64) -> Value {
    json!({ "id": id, "is_bot": false, "first_name": name_of(id), "language_code": "en" })
}

/// The bot.
pub(super) fn bot() -> Value {
    json!({ "id": BOT, "is_bot": true, "first_name": "Two", "username": BOT_NAME })
}

pub(super) fn name_of(id: i64) -> String {
    format!("Person {id}")
}

/// Now, as messages have it.
pub(super) fn date() -> i64 {
    SystemClock.now().0 / 1000
}
