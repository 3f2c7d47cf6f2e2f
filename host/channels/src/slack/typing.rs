//! Showing in a thread that an answer is being written: elsewhere Slack has no word for that which an app may say. It is no message:
//! what cannot be shown is lost.
//!
//! Source: <https://docs.slack.dev/reference/methods/assistant.threads.setStatus>.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::sleep;
use twobox_system::lock::lock;

use super::SlackChannel;

/// What is shown.
const STATUS: &str = "is working on it…";

/// When it is said again: Slack shows it for two minutes.
const AGAIN: Duration = Duration::from_secs(80);

/// After how long without a word of it an agent is taken to be at it no more.
const STALE: Duration = Duration::from_secs(10 * 60);

/// How often is looked whether it has to be said again.
const TICK: Duration = Duration::from_secs(5);

/// In how many threads it is shown at once.
const THREADS_MAX: usize = 100;

/// Where something is shown: a conversation and a thread.
type Place = (String, String);

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct Typing {
    places: Mutex<HashMap<Place, Shown>>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    /// When an agent was last seen at it; `None` once it is over.
    seen: Option<Instant>,
    /// When Slack was last told.
    told: Option<Instant>,
}

impl Typing {
    /// An agent is at something there, or is at it no more.
    pub(super) fn show(&self, chat: &str, thread: &str, is_at_it: bool, now: Instant) {
        {
            let mut places = lock(&self.places);
            let place = (chat.to_owned(), thread.to_owned());
            if let Some(shown) = places.get_mut(&place) {
                shown.seen = is_at_it.then_some(now);
            } else if is_at_it && places.len() < THREADS_MAX {
                places.insert(place, Shown { seen: Some(now), told: None });
            } else {
                return;
            }
        }
        self.changed.notify_one();
    }

    /// What Slack is to be told now.
    fn due(&self, now: Instant) -> Vec<(Place, bool)> {
        let mut places = lock(&self.places);
        let mut due = Vec::new();
        places.retain(|place, shown| {
            let goes_on = shown.seen.is_some_and(|seen| now.duration_since(seen) < STALE);
            match (goes_on, shown.told) {
                (true, Some(told)) if now.duration_since(told) < AGAIN => {}
                (true, _) => {
                    shown.told = Some(now);
                    due.push((place.clone(), true));
                }
                (false, Some(_)) => due.push((place.clone(), false)),
                (false, None) => {}
            }
            goes_on
        });
        due
    }
}

impl SlackChannel {
    /// Tells Slack, for ever.
    pub(super) async fn show_typing(&self) {
        loop {
            for ((chat, thread), is_at_it) in self.typing.due(Instant::now()) {
                let Some(account) = self.account() else { continue };
                let status = if is_at_it { STATUS } else { "" };
                let body = json!({ "channel_id": chat, "thread_ts": thread, "status": status });
                let method = "assistant.threads.setStatus";
                drop(self.api.json::<Value>(&account.bot, method, &body).await); // it is no message
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
        let said = |is_at_it| vec![(("C".to_owned(), "1".to_owned()), is_at_it)];
        let show = |is_at_it, seconds| typing.show("C", "1", is_at_it, at(seconds));
        show(false, 0);
        assert_eq!(typing.due(at(0)), [], "nobody was at anything");
        show(true, 0);
        assert_eq!(typing.due(at(0)), said(true));
        show(true, 10);
        assert_eq!(typing.due(at(10)), [], "it is shown still");
        assert_eq!(typing.due(at(80)), said(true));
        show(false, 81);
        assert_eq!(typing.due(at(81)), said(false));
        assert_eq!(typing.due(at(82)), [], "once");
        show(true, 90);
        assert_eq!(typing.due(at(90)), said(true));
        assert_eq!(typing.due(at(900)), said(false), "nobody says that it ended");
    }
}
