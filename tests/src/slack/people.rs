//! People of the workspace: what they say and press, and what they see.

use serde_json::{Value, json};

use super::SlackServer;
use super::state::{BOT, BOT_ID, Chat, Fault, Rules, Say, State, TEAM};

impl SlackServer {
    /// Somebody who is called so. Returns their id.
    pub fn person(&self, name: &str) -> String {
        self.shared.change(|state| {
            let id = format!("U{}", state.number());
            state.people.insert(id.clone(), name.to_owned());
            id
        })
    }

    /// A public channel with these people and the bot. Returns its id.
    pub fn channel(&self, name: &str, people: &[&str]) -> String {
        self.make("C", "channel", name, people)
    }

    /// The conversation of somebody with the bot alone. Returns its id.
    pub fn direct(&self, person: &str) -> String {
        self.make("D", "im", "", &[person])
    }

    fn make(&self, letter: &str, kind: &'static str, name: &str, people: &[&str]) -> String {
        self.shared.change(|state| {
            let id = format!("{letter}{}", state.number());
            let members = people.iter().copied().chain([BOT]).map(str::to_owned).collect();
            let (name, messages) = (name.to_owned(), Vec::new());
            let chat = Chat { kind, name, members, archived: false, messages, full: None };
            state.chats.insert(id.clone(), chat);
            id
        })
    }

    /// Nobody may say anything there any more.
    pub fn archive(&self, chat: &str) {
        self.shared.change(|state| state.chats.get_mut(chat).unwrap().archived = true);
    }

    /// Somebody says something. Returns its `ts`.
    pub fn say(&self, person: &str, chat: &str, text: &str) -> String {
        self.shared.change(|state| state.say(person, chat, text, None, &json!({})))
    }

    /// Somebody says something in a thread. Returns its `ts`.
    pub fn reply(&self, person: &str, chat: &str, thread: &str, text: &str) -> String {
        self.shared.change(|state| state.say(person, chat, text, Some(thread), &json!({})))
    }

    /// Somebody says something that has `more` beside its text. Returns its `ts`.
    pub fn say_with(&self, person: &str, chat: &str, text: &str, more: &Value) -> String {
        self.shared.change(|state| state.say(person, chat, text, None, more))
    }

    /// What the bot has said in a conversation and its threads, oldest first.
    pub fn said(&self, chat: &str) -> Vec<Value> {
        self.shared.look(|state| said(state, chat))
    }

    /// The texts of that.
    pub fn texts(&self, chat: &str) -> Vec<String> {
        texts(&self.said(chat))
    }

    /// Waits until the bot has said this, and returns it.
    #[track_caller]
    pub fn wait_said(&self, chat: &str, text: &str) -> Value {
        let find = |state: &State| said(state, chat).into_iter().find(|it| it["text"] == text);
        self.shared.wait(&format!("{text:?} in {chat}"), find)
    }

    /// Waits until the bot has said so much there.
    #[track_caller]
    pub fn wait_count(&self, chat: &str, count: usize) {
        let what = format!("{count} messages in {chat}");
        self.shared.wait(&what, |state| (said(state, chat).len() >= count).then_some(()));
    }

    /// Presses the button with this value of a message.
    #[track_caller]
    pub fn press(&self, person: &str, chat: &str, ts: &str, value: &str) {
        let pressed = self.shared.change(|state| state.press(person, chat, ts, value));
        assert!(pressed, "there is no button {value:?}: {:#?}", self.said(chat));
    }

    /// A message as it is now.
    pub fn message(&self, chat: &str, ts: &str) -> Option<Value> {
        self.shared
            .look(|state| state.chats[chat].messages.iter().find(|it| it["ts"] == ts).cloned())
    }

    /// Waits until a message is so.
    #[track_caller]
    pub fn wait_message(&self, chat: &str, ts: &str, is: impl Fn(&Value) -> bool) {
        self.shared.wait(&format!("another message {ts}"), |state| {
            let mut messages = state.chats[chat].messages.iter();
            messages.find(|it| it["ts"] == ts && is(it)).map(drop)
        });
    }

    /// What was said to one person alone, with whom.
    pub fn whispers(&self) -> Vec<(String, String)> {
        self.shared.look(|state| state.whispers.clone())
    }

    /// What was shown to be under way, by thread.
    pub fn statuses(&self) -> Vec<(String, String)> {
        self.shared.look(|state| state.statuses.clone())
    }

    /// What is in a file that was shared, by its id.
    pub fn file(&self, id: &str) -> Option<Vec<u8>> {
        let index = id.strip_prefix('F')?.parse::<usize>().ok()?.checked_sub(1)?;
        self.shared.look(|state| state.files.get(index)?.bytes.clone())
    }

    /// The next request for `method` goes wrong so.
    pub fn fault(&self, method: &str, fault: Fault) {
        self.shared.change(|state| {
            state.faults.entry(method.to_owned()).or_default().push_back(fault);
        });
    }

    /// How often `method` was asked and said `what`.
    pub fn count(&self, method: &str, what: &str) -> usize {
        let is = |it: &&(String, String)| it.0 == method && it.1 == what;
        self.shared.look(|state| state.asked.iter().filter(is).count())
    }

    /// Waits until `method` was asked so often and said `what`.
    #[track_caller]
    pub fn wait_asked(&self, method: &str, what: &str, times: usize) {
        self.shared.wait(&format!("{times} times {method} {what}"), |state| {
            let is = |it: &&(String, String)| it.0 == method && it.1 == what;
            (state.asked.iter().filter(is).count() >= times).then_some(())
        });
    }

    /// How many connections the app has.
    pub fn connections(&self) -> usize {
        self.shared.look(|state| state.lines.len())
    }

    /// Waits until it has so many.
    #[track_caller]
    pub fn wait_connections(&self, count: usize) {
        self.shared.wait(&format!("{count} connections"), |state| {
            (state.lines.len() == count).then_some(())
        });
    }

    /// Waits until the app has acknowledged everything.
    #[track_caller]
    pub fn wait_acknowledged(&self) {
        self.shared.wait("everything to be acknowledged", |state| {
            state.deliveries.is_empty().then_some(())
        });
    }

    /// How much the app has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.shared.look(|state| state.deliveries.len())
    }

    /// Breaks every connection off, without a word.
    pub fn cut(&self) {
        self.shared.change(|state| {
            for line in state.lines.values() {
                drop(line.send.send(Say::End { in_order: false })); // it may have gone by now
            }
        });
    }

    /// Says to the connections that they are closed soon, and closes them.
    pub fn refresh(&self) {
        let shared = std::sync::Arc::clone(&self.shared);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(super::server::refresh(&shared));
    }

    /// Nobody is there any more, or somebody is again.
    pub fn set_down(&self, down: bool) {
        self.shared.change(|state| state.down = down);
        if down {
            self.cut();
        }
    }

    /// Changes how strict it is.
    pub fn rule(&self, change: impl FnOnce(&mut Rules)) {
        self.shared.change(|state| change(&mut state.rules));
    }

    /// What was to be handed over again is over: the app was away for so long.
    pub fn give_up(&self) {
        self.shared.change(|state| {
            state.given_up += state.deliveries.len();
            state.deliveries.clear();
        });
    }
}

fn said(state: &State, chat: &str) -> Vec<Value> {
    let by_bot = |it: &&Value| it["user"] == BOT;
    state.chats[chat].messages.iter().filter(by_bot).cloned().collect()
}

fn texts(said: &[Value]) -> Vec<String> {
    said.iter().map(|it| it["text"].as_str().unwrap_or_default().to_owned()).collect()
}

impl State {
    /// Somebody presses a button. Returns whether there is such a one.
    pub(super) fn press(&mut self, person: &str, chat: &str, ts: &str, value: &str) -> bool {
        let at = self.ts();
        let Some(place) = self.chats.get(chat) else { return false };
        let Some(message) = place.messages.iter().find(|it| it["ts"] == ts) else { return false };
        let blocks = message["blocks"].as_array().into_iter().flatten();
        let mut buttons = blocks.flat_map(|block| {
            let elements = block["elements"].as_array().into_iter().flatten();
            elements.map(move |element| (block["block_id"].clone(), element))
        });
        let Some((block, button)) = buttons.find(|(_, it)| it["value"] == value) else {
            return false;
        };
        let action = json!({
            "type": "button", "action_id": button["action_id"], "block_id": block,
            "text": button["text"], "value": value, "action_ts": at,
        });
        let mut container = json!({
            "type": "message", "message_ts": ts, "channel_id": chat, "is_ephemeral": false,
        });
        if !message["thread_ts"].is_null() {
            container["thread_ts"] = message["thread_ts"].clone();
        }
        let name = self.people.get(person).cloned().unwrap_or_default();
        let payload = json!({
            "type": "block_actions", "team": { "id": TEAM, "domain": "stand-in" },
            "user": { "id": person, "username": name, "name": name, "team_id": TEAM },
            "api_app_id": super::state::APP, "token": "verification", "trigger_id": format!("trigger-{at}"),
            "channel": { "id": chat, "name": place.name }, "container": container,
            "message": message, "actions": [action], "bot_id": BOT_ID,
            "response_url": "https://hooks.example/none", "state": { "values": {} },
        });
        self.deliver("interactive", payload);
        true
    }
}
