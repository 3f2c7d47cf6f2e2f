//! Showing in a thread that an answer is being written: elsewhere Slack has no word for that which an app may say.
//!
//! Source: <https://docs.slack.dev/reference/methods/assistant.threads.setStatus>.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::SlackChannel;

/// What is shown.
const STATUS: &str = "is working on it…";

/// When it is said again: Slack shows it for two minutes.
pub(super) const AGAIN: Duration = Duration::from_secs(80);

/// In how many threads it is shown at once.
pub(super) const THREADS_MAX: usize = 100;

/// Where it is shown: a conversation and a thread.
pub(super) type Place = (String, String);

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
            self.typing.wait().await;
        }
    }
}
