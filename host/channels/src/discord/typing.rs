//! Showing in a channel that an answer is being written. It is no message: what cannot be shown is lost.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Notify;
use tokio::time::sleep;
use twobox_system::lock::lock;

use super::DiscordChannel;
use super::api::Question;
use super::pace::Route;

/// When it is said again: Discord shows it for ten seconds.
const AGAIN: Duration = Duration::from_secs(8);

/// After how long without a word of it an agent is taken to be at it no more.
const STALE: Duration = Duration::from_secs(10 * 60);

/// How often is looked whether it has to be said again.
const TICK: Duration = Duration::from_secs(2);

/// How long it may take to say it.
const PATIENCE: Duration = Duration::from_secs(5);

/// In how many channels it is shown at once.
const CHANNELS_MAX: usize = 50;

/// Where something is shown. Nobody can say that it ended: that shows by itself.
#[derive(Debug, Default)]
pub(super) struct Typing {
    channels: Mutex<HashMap<String, Shown>>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    /// When an agent was last seen at it.
    seen: Instant,
    /// When Discord was last told.
    told: Option<Instant>,
}

impl Typing {
    /// An agent is at something for `channel`, or is at it no more.
    pub(super) fn show(&self, channel: &str, is_at_it: bool, now: Instant) {
        let mut channels = lock(&self.channels);
        if !is_at_it {
            channels.remove(channel);
        } else if let Some(shown) = channels.get_mut(channel) {
            shown.seen = now;
        } else if channels.len() < CHANNELS_MAX {
            channels.insert(channel.to_owned(), Shown { seen: now, told: None });
            self.changed.notify_one();
        }
    }

    /// Where it is to be said now.
    fn due(&self, now: Instant) -> Vec<String> {
        let mut channels = lock(&self.channels);
        channels.retain(|_, shown| now.saturating_duration_since(shown.seen) < STALE);
        let is_due = |shown: &Shown| {
            shown.told.is_none_or(|told| now.saturating_duration_since(told) >= AGAIN)
        };
        let mut due = Vec::new();
        for (channel, shown) in channels.iter_mut().filter(|(_, shown)| is_due(shown)) {
            shown.told = Some(now);
            due.push(channel.clone());
        }
        due
    }
}

impl DiscordChannel {
    /// Tells Discord, for ever.
    pub(super) async fn show_typing(&self) {
        loop {
            for channel in self.typing.due(Instant::now()) {
                let Some(account) = self.account() else { continue };
                let route = Route::new("POST typing", channel.as_str());
                let path = format!("channels/{channel}/typing");
                let question = Question::post(route, &path, &json!({})).by(&account.token);
                drop(self.api.ask(question.patient(PATIENCE).now()).await); // it is no message
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
    fn it_is_said_when_it_begins_and_every_now_and_then() {
        let typing = Typing::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let here = vec!["5".to_owned()];
        typing.show("5", false, at(0));
        assert_eq!(typing.due(at(0)), Vec::<String>::new(), "nobody was at anything");
        typing.show("5", true, at(0));
        assert_eq!(typing.due(at(0)), here);
        typing.show("5", true, at(7));
        assert_eq!(typing.due(at(7)), Vec::<String>::new(), "it is shown still");
        assert_eq!(typing.due(at(8)), here);
        typing.show("5", false, at(9));
        assert_eq!(typing.due(at(20)), Vec::<String>::new(), "it is over");
        typing.show("5", true, at(21));
        assert_eq!(typing.due(at(21)), here);
        assert_eq!(typing.due(at(700)), Vec::<String>::new(), "nobody says that it ended");
    }
}
