//! Showing in a chat that an answer is being written. It is no message: what cannot be shown is lost.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::sleep;
use twobox_model::channel::Address;
use twobox_system::lock::lock;

use super::TelegramChannel;

/// When it is said again: Telegram shows it for five seconds.
const AGAIN: Duration = Duration::from_millis(4_500);

/// After how long without a word of it an agent is taken to be at it no more.
const STALE: Duration = Duration::from_secs(10 * 60);

/// How often is looked whether it has to be said again.
const TICK: Duration = Duration::from_millis(500);

/// How long it may take to say it.
const PATIENCE: Duration = Duration::from_secs(4);

/// In how many chats it is shown at once.
const CHATS_MAX: usize = 50;

/// A chat, as it is called here, and a topic in it.
type Place = (i64, Option<i64>);

/// Where something is shown.
#[derive(Debug, Default)]
pub(super) struct Typing {
    places: Mutex<HashMap<Place, Shown>>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    /// When an agent was last seen at it.
    seen: Instant,
    /// When Telegram was last told.
    told: Option<Instant>,
}

impl Typing {
    /// An agent is at something for `address`, or is at it no more: then it is not said again.
    pub(super) fn show(&self, address: &Address, is_at_it: bool, now: Instant) {
        let thread = address.thread_id.as_deref().map(str::parse).transpose();
        let (Ok(chat), Ok(thread)) = (address.platform_id.parse(), thread) else { return };
        {
            let mut places = lock(&self.places);
            let has_room = places.len() < CHATS_MAX || places.contains_key(&(chat, thread));
            match is_at_it {
                true if has_room => {
                    let shown = Shown { seen: now, told: None };
                    places.entry((chat, thread)).or_insert(shown).seen = now;
                }
                true => return,
                false => drop(places.remove(&(chat, thread))),
            }
        }
        self.changed.notify_one();
    }

    /// Where Telegram is to be told now.
    fn due(&self, now: Instant) -> Vec<Place> {
        let mut places = lock(&self.places);
        places.retain(|_, shown| now.duration_since(shown.seen) < STALE);
        let mut due = Vec::new();
        for (place, shown) in places.iter_mut() {
            if shown.told.is_none_or(|told| now.duration_since(told) >= AGAIN) {
                shown.told = Some(now);
                due.push(*place);
            }
        }
        due
    }

    fn is_quiet(&self) -> bool {
        lock(&self.places).is_empty()
    }
}

impl TelegramChannel {
    /// Tells Telegram, for ever.
    pub(super) async fn show_typing(&self) {
        loop {
            let due = self.typing.due(Instant::now());
            let told = due.into_iter().map(|(chat, thread)| async move {
                let Some(entered) = self.entered() else { return };
                let chat = lock(&self.kept).chat_of(chat);
                let mut parameters = json!({ "chat_id": chat, "action": "typing" });
                if let Some(thread) = thread {
                    parameters["message_thread_id"] = json!(thread);
                }
                let (api, token) = (&self.api, &entered.token);
                let asked =
                    api.call_within::<Value>(token, "sendChatAction", &parameters, PATIENCE);
                drop(asked.await); // it is no message
            });
            futures_util::future::join_all(told).await;
            tokio::select! {
                () = self.typing.changed.notified() => {}
                () = sleep(TICK), if !self.typing.is_quiet() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_when_it_begins_and_now_and_then_until_it_ends() {
        let address = |thread: Option<&str>| Address {
            channel_type: "t".to_owned(),
            platform_id: "-5".to_owned(),
            thread_id: thread.map(str::to_owned),
        };
        let typing = Typing::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        typing.show(&address(Some("9")), true, at(0));
        assert_eq!(typing.due(at(0)), [(-5, Some(9))]);
        typing.show(&address(Some("9")), true, at(3));
        assert_eq!(typing.due(at(3)), [], "it is shown still");
        assert_eq!(typing.due(at(5)), [(-5, Some(9))]);
        typing.show(&address(Some("9")), false, at(6));
        assert_eq!(typing.due(at(60)), []);
        typing.show(&address(Some("x")), true, at(60));
        assert!(typing.is_quiet(), "that is no topic");
        typing.show(&address(None), true, at(60));
        assert_eq!(typing.due(at(700)), [], "nobody says that it ended");
    }
}
