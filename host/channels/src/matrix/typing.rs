//! Showing in a room that an answer is being written. It is no message: what cannot be shown is lost.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::sleep;
use twobox_system::lock::lock;

use super::MatrixChannel;
use super::client::Ask;
use super::path::step;

/// For how long the homeserver shows it.
const SHOWN: Duration = Duration::from_secs(30);

/// When it is said again.
const AGAIN: Duration = Duration::from_secs(20);

/// After how long without a word of it an agent is taken to be at it no more.
const STALE: Duration = Duration::from_secs(10 * 60);

/// How often is looked whether it has to be said again.
const TICK: Duration = Duration::from_secs(5);

/// How long it may take to say it.
const PATIENCE: Duration = Duration::from_secs(5);

/// In how many rooms it is shown at once.
const ROOMS_MAX: usize = 100;

/// Where something is shown.
#[derive(Debug, Default)]
pub(super) struct Typing {
    rooms: Mutex<HashMap<String, Shown>>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    /// When an agent was last seen at it; `None` once it is over.
    seen: Option<Instant>,
    /// When the homeserver was last told.
    told: Option<Instant>,
}

impl Typing {
    /// An agent is at something for `room`, or is at it no more.
    pub(super) fn show(&self, room: &str, is_at_it: bool, now: Instant) {
        {
            let mut rooms = lock(&self.rooms);
            if let Some(shown) = rooms.get_mut(room) {
                shown.seen = is_at_it.then_some(now);
            } else if is_at_it && rooms.len() < ROOMS_MAX {
                rooms.insert(room.to_owned(), Shown { seen: Some(now), told: None });
            } else {
                return;
            }
        }
        self.changed.notify_one();
    }

    /// What the homeserver is to be told now.
    fn due(&self, now: Instant) -> Vec<(String, bool)> {
        let mut rooms = lock(&self.rooms);
        let mut due = Vec::new();
        rooms.retain(|room, shown| {
            let goes_on = shown.seen.is_some_and(|seen| now.duration_since(seen) < STALE);
            match (goes_on, shown.told) {
                (true, Some(told)) if now.duration_since(told) < AGAIN => {}
                (true, _) => {
                    shown.told = Some(now);
                    due.push((room.clone(), true));
                }
                (false, Some(_)) => due.push((room.clone(), false)),
                (false, None) => {}
            }
            goes_on
        });
        due
    }
}

impl MatrixChannel {
    /// Tells the homeserver, for ever.
    pub(super) async fn show_typing(&self) {
        loop {
            for (room, typing) in self.typing.due(Instant::now()) {
                let Some(account) = self.account() else { continue };
                let (room, user) = (step(&room), step(&account.user));
                let path = format!("client/v3/rooms/{room}/typing/{user}");
                let mut body = json!({ "typing": typing });
                if typing {
                    body["timeout"] = json!(SHOWN.as_millis());
                }
                let ask = Ask::put(&account.token, path, &body).patient(PATIENCE);
                drop(self.client.ask::<Value>(ask).await); // it is no message
            }
            tokio::select! {
                () = self.typing.changed.notified() => {}
                () = sleep(TICK) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_when_it_begins_now_and_then_and_when_it_ends() {
        let typing = Typing::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let said = |typing| vec![("r".to_owned(), typing)];
        typing.show("r", false, at(0));
        assert_eq!(typing.due(at(0)), [], "nobody was at anything");
        typing.show("r", true, at(0));
        assert_eq!(typing.due(at(0)), said(true));
        typing.show("r", true, at(10));
        assert_eq!(typing.due(at(10)), [], "it is shown still");
        assert_eq!(typing.due(at(20)), said(true));
        typing.show("r", false, at(21));
        assert_eq!(typing.due(at(21)), said(false));
        assert_eq!(typing.due(at(22)), [], "once");
        typing.show("r", true, at(30));
        typing.show("r", false, at(30));
        assert_eq!(typing.due(at(30)), [], "it was over before anybody saw it");
        typing.show("r", true, at(40));
        assert_eq!(typing.due(at(40)), said(true));
        assert_eq!(typing.due(at(700)), said(false), "nobody says that it ended");
    }
}
