//! Sending one message, part by part. Telegram honours no keys and cannot be asked what a bot has said: of a part
//! that was sent and not answered for nobody will ever know.

use std::sync::atomic::Ordering;
use std::time::Instant;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep_until;
use twobox_model::channel::{Address, Outbound, Outcome};
use twobox_shared::time::UnixMillis;
use twobox_system::blocking::blocking;
use twobox_system::lock::lock;

use super::compose::{self, Target};
use super::files::FileOut;
use super::trouble::Trouble;
use super::{Entered, TelegramChannel};
use crate::parts::{self, Looked, Part, Platform, Sent};

/// How many questions are remembered whose buttons are shown.
const ASKED_MAX: usize = 1_000;

/// A part of a message.
pub(super) enum What {
    /// A text, as the parameters of the request.
    Text {
        parameters: Value,
        /// The code of the question whose buttons are below it.
        code: Option<String>,
    },
    /// A file.
    File(FileOut),
}

/// What was shown.
#[derive(Deserialize)]
pub(super) struct Shown {
    message_id: i64,
}

/// One message on its way.
pub(super) struct Letter<'a> {
    pub(super) channel: &'a TelegramChannel,
    pub(super) entered: &'a Entered,
    /// The chat, as it is called here.
    pub(super) name: i64,
}

impl TelegramChannel {
    /// Sends one message, as far as that was not done before.
    pub(super) async fn send(&self, address: &Address, outbound: &Outbound) -> Outcome {
        let Some(entered) = self.entered() else { return Outcome::Unavailable };
        let Some((name, target)) = self.target(address, outbound) else {
            let error = "that is no chat of Telegram's: a chat has a number, and so has a topic";
            return Outcome::Permanent { error: error.to_owned() };
        };
        let letter = Letter { channel: self, entered: &entered, name };
        let text = outbound.text.clone();
        let texts = blocking(move || compose::texts(&text)).await;
        let keyboard = outbound.prompt.as_ref().and_then(compose::keyboard);
        let mut target = target;
        let mut all = Vec::new();
        for (index, rich) in texts.iter().enumerate() {
            let is_last = index + 1 == texts.len();
            let keyboard = keyboard.as_ref().filter(|_| is_last);
            let asks = outbound.prompt.as_ref().filter(|_| keyboard.is_some());
            all.push(Part {
                name: (index + 1).to_string(),
                what: What::Text {
                    parameters: compose::text(rich, &target, keyboard),
                    code: asks.map(|prompt| prompt.code.clone()),
                },
            });
            target = target.following();
        }
        let parcel = match self.pack(outbound).await {
            Ok(parcel) => parcel,
            Err(error) => {
                let error = format!("the files could not be put ready: {error}");
                return Outcome::Transient { error, retry_after: None };
            }
        };
        all.extend(self.file_parts(&parcel, &target));
        if all.is_empty() {
            let error = "there is nothing in it that could be seen".to_owned();
            return Outcome::Permanent { error };
        }
        let outcome = parts::deliver(&*self.journal, &outbound.key, &all, &letter).await;
        parcel.end().await;
        outcome
    }

    /// The chat as it is called here, and where that is. Whoever is alone with somebody quotes nobody.
    fn target(&self, address: &Address, outbound: &Outbound) -> Option<(i64, Target)> {
        let name: i64 = address.platform_id.parse().ok()?;
        let thread = address.thread_id.as_deref().map(str::parse).transpose().ok()?;
        let chat = lock(&self.kept).chat_of(name);
        let answered = outbound.in_reply_to.as_ref().and_then(|id| message_in(chat, id.as_str()));
        let reply_to = answered.filter(|_| chat < 0);
        Some((name, Target { chat, thread, reply_to }))
    }

    /// Says something of the host's own in a chat, once for each key, as well as that can be done.
    pub(super) async fn say(
        &self,
        entered: &Entered,
        name: i64,
        target: Target,
        key: &str,
        text: &str,
    ) {
        let letter = Letter { channel: self, entered, name };
        let part = |(index, rich)| Part {
            name: usize::to_string(&(index + 1)),
            what: What::Text { parameters: compose::text(rich, &target, None), code: None },
        };
        let texts = compose::texts(text);
        let all: Vec<_> = texts.iter().enumerate().map(part).collect();
        let outcome = parts::deliver(&*self.journal, key, &all, &letter).await;
        if !matches!(outcome, Outcome::Delivered { .. }) {
            tracing::debug!(channel = self.id, chat = name, ?outcome, "it was not told");
        }
    }

    /// Takes the buttons of a question away, as well as that can be done.
    pub(super) async fn take_buttons(&self, entered: &Entered, chat: i64, message: i64) {
        let parameters = json!({
            "chat_id": chat, "message_id": message, "reply_markup": { "inline_keyboard": [] },
        });
        let asked = self.api.call::<Value>(&entered.token, "editMessageReplyMarkup", &parameters);
        if let Err(trouble) = asked.await {
            tracing::debug!(channel = self.id, chat, %trouble, "buttons were not taken away");
        }
    }

    /// Takes the buttons away of the question with this code, if they are known.
    pub(super) async fn take_buttons_of(&self, entered: &Entered, code: &str) {
        let asked = lock(&self.asked).remove(code);
        if let Some((chat, message)) = asked {
            self.take_buttons(entered, chat, message).await;
        }
    }
}

impl Letter<'_> {
    /// The chat, as it is now.
    pub(super) fn chat(&self) -> i64 {
        lock(&self.channel.kept).chat_of(self.name)
    }

    async fn show_text(&self, parameters: &Value) -> Result<Shown, Trouble> {
        match self.call("sendMessage", parameters).await {
            Err(trouble) if trouble.is_about_marks() => {
                tracing::debug!(channel = self.channel.id, %trouble, "it is said without marks");
                self.call("sendMessage", &compose::plain(parameters.clone())).await
            }
            done => done,
        }
    }

    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        parameters: &Value,
    ) -> Result<T, Trouble> {
        let mut parameters = parameters.clone();
        parameters["chat_id"] = json!(self.chat());
        let (api, token) = (&self.channel.api, &self.entered.token);
        match api.call(token, method, &parameters).await {
            Err(trouble) if self.has_moved(&trouble).await => {
                parameters["chat_id"] = json!(self.chat());
                api.call(token, method, &parameters).await
            }
            done => done,
        }
    }

    /// Whether the group is said to be another chat, of which note was taken.
    pub(super) async fn has_moved(&self, trouble: &Trouble) -> bool {
        let Some(to) = trouble.moved_to() else { return false };
        self.channel.note_moved(self.chat(), to).await
    }

    /// What `trouble` means for a part; and for those that come after it.
    fn take_note(&self, trouble: &Trouble) -> Sent {
        let channel = self.channel;
        if trouble.is_about_token() {
            channel.in_doubt.notify_one();
        }
        if let Some(pause) = trouble.busy() {
            lock(&channel.pace).pause(self.chat(), Instant::now(), pause);
        }
        let sent = trouble.sent();
        if matches!(sent, Sent::Unknown(_)) {
            channel.is_suspect.store(true, Ordering::Relaxed);
        }
        sent
    }

    /// Asks Telegram something that changes nothing, where the last thing that was sent was not answered for: what
    /// follows is not to share its fate.
    async fn is_there(&self) -> Result<(), Outcome> {
        let channel = self.channel;
        if !channel.is_suspect.load(Ordering::Relaxed) {
            return Ok(());
        }
        let asked = channel.api.call::<Value>(&self.entered.token, "getMe", &json!({})).await;
        if let Err(trouble) = asked {
            let retry_after = trouble.busy();
            return Err(Outcome::Transient { error: trouble.to_string(), retry_after });
        }
        channel.is_suspect.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Waits for the pace.
    async fn waited(&self) -> Result<(), Outcome> {
        let channel = self.channel;
        let wanted = |pause| Outcome::Transient {
            error: "Telegram wants a pause in this chat".to_owned(),
            retry_after: Some(pause),
        };
        let at = lock(&channel.pace).take(self.chat(), Instant::now()).map_err(wanted)?;
        sleep_until(at.into()).await;
        let paused = lock(&channel.pace).paused(self.chat(), Instant::now());
        paused.map_or(Ok(()), |pause| Err(wanted(pause)))
    }
}

impl Platform<What> for Letter<'_> {
    fn ready<'a>(&'a self, _part: &'a Part<What>) -> BoxFuture<'a, Result<(), Outcome>> {
        Box::pin(async {
            self.waited().await?;
            self.is_there().await
        })
    }

    fn send<'a>(&'a self, part: &'a Part<What>) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let shown = match &part.what {
                What::Text { parameters, .. } => self.show_text(parameters).await,
                What::File(file) => self.show_file(file).await,
            };
            let Shown { message_id } = match shown {
                Ok(shown) => shown,
                Err(trouble) => return self.take_note(&trouble),
            };
            let chat = self.chat();
            if let What::Text { code: Some(code), .. } = &part.what {
                let mut asked = lock(&self.channel.asked);
                if asked.len() >= ASKED_MAX {
                    asked.clear(); // what stays is shown, and is answered by words when it is pressed
                }
                asked.insert(code.clone(), (chat, message_id));
            }
            Sent::Taken(Some(format!("{chat}:{message_id}")))
        })
    }

    fn look<'a>(&'a self, _part: &'a Part<What>, _begun: UnixMillis) -> BoxFuture<'a, Looked> {
        Box::pin(async { Looked::Unknown })
    }
}

/// The number of the message with the id `id`, if it was said in `chat`.
fn message_in(chat: i64, id: &str) -> Option<i64> {
    let mut steps = id.split(':');
    let said_in: i64 = steps.next()?.parse().ok()?;
    let message = steps.next()?.parse().ok()?;
    (said_in == chat && message > 0).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_in_a_chat_is_quoted_there() {
        let cases = [
            ("-5:7", Some(7)),
            ("-5:7:click-99", Some(7)),
            ("-6:7", None),
            ("7", None),
            ("task-1", None),
            ("-5:x", None),
            ("-5:0", None),
        ];
        for (id, expected) in cases {
            assert_eq!(message_in(-5, id), expected, "{id}");
        }
    }
}
