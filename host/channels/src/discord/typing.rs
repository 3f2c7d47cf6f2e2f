//! Showing in a channel that an answer is being written. Nobody can say that it ended: that shows by itself.

use std::time::{Duration, Instant};

use serde_json::json;

use super::DiscordChannel;
use super::api::Question;
use super::pace::Route;

/// When it is said again: Discord shows it for ten seconds.
pub(super) const AGAIN: Duration = Duration::from_secs(8);

/// How long it may take to say it.
const PATIENCE: Duration = Duration::from_secs(5);

/// In how many channels it is shown at once.
pub(super) const CHANNELS_MAX: usize = 50;

impl DiscordChannel {
    /// Tells Discord, for ever.
    pub(super) async fn show_typing(&self) {
        loop {
            for channel in self.typing.begun(Instant::now()) {
                let Some(account) = self.account() else { continue };
                let route = Route::new("POST typing", channel.as_str());
                let path = format!("channels/{channel}/typing");
                let question = Question::post(route, &path, &json!({})).by(&account.token);
                drop(self.api.ask(question.patient(PATIENCE).now()).await); // it is no message
            }
            self.typing.wait().await;
        }
    }
}
