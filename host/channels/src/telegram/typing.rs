//! Showing in a chat that an answer is being written. Nobody can say that it ended: that shows by itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twobox_model::channel::Address;
use twobox_system::lock::lock;

use super::TelegramChannel;

/// When it is said again: Telegram shows it for five seconds.
pub(super) const AGAIN: Duration = Duration::from_millis(4_500);

/// How long it may take to say it.
const PATIENCE: Duration = Duration::from_secs(4);

/// In how many chats it is shown at once.
pub(super) const CHATS_MAX: usize = 50;

/// A chat, as it is called here, and a topic in it.
pub(super) type Place = (i64, Option<i64>);

/// The place that `address` is, if it is one.
pub(super) fn place(address: &Address) -> Option<Place> {
    let thread = address.thread_id.as_deref().map(str::parse).transpose().ok()?;
    Some((address.platform_id.parse().ok()?, thread))
}

impl TelegramChannel {
    /// Tells Telegram, for ever.
    pub(super) async fn show_typing(&self) {
        loop {
            let due = self.typing.begun(Instant::now());
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
            self.typing.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_chat_and_perhaps_a_topic() {
        let at = |chat: &str, thread: Option<&str>| {
            place(&Address {
                channel_type: "t".to_owned(),
                platform_id: chat.to_owned(),
                thread_id: thread.map(str::to_owned),
            })
        };
        assert_eq!(at("-5", Some("9")), Some((-5, Some(9))));
        assert_eq!(at("-5", None), Some((-5, None)));
        assert_eq!(at("-5", Some("x")), None, "that is no topic");
        assert_eq!(at("x", None), None);
    }
}
