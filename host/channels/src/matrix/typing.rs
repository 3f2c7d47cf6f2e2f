//! Showing in a room that an answer is being written.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::MatrixChannel;
use super::client::Ask;
use super::path::step;

/// For how long the homeserver shows it.
const SHOWN: Duration = Duration::from_secs(30);

/// When it is said again.
pub(super) const AGAIN: Duration = Duration::from_secs(20);

/// How long it may take to say it.
const PATIENCE: Duration = Duration::from_secs(5);

/// In how many rooms it is shown at once.
pub(super) const ROOMS_MAX: usize = 100;

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
            self.typing.wait().await;
        }
    }
}
