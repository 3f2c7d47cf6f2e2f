//! What of an update is handed to the host, and what becomes of that.

use serde_json::{Value, json};
use twobox_model::approval::named_code;
use twobox_model::channel::{Address, Asked, Inbound, Receipt, Refusal};
use twobox_shared::content::{About, Chat, shorten};
use twobox_shared::ids::MessageId;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use super::super::compose::Target;
use super::super::updates::{self, Click, File, Message, Place, Said};
use super::super::{Entered, TelegramChannel};
use crate::instance::Surroundings;

/// The longest word that is shown above a button, in characters. Telegram takes 200.
const TOLD_MAX: usize = 190;

/// What becomes of something that was handed in, unless it is for later.
enum Handed {
    Taken,
    /// It was not, and that is all; perhaps something is said about it.
    Over(Option<String>),
}

impl TelegramChannel {
    /// Hands in what an update says; `None` is one that cannot be read.
    ///
    /// # Errors
    /// Why it cannot be taken now.
    pub(super) async fn hear(
        &self,
        surroundings: &Surroundings,
        entered: &Entered,
        update: Option<&Value>,
    ) -> Result<(), String> {
        let Some(update) = update else {
            if let Some(before) = warned("unreadable update", &self.id) {
                let channel = &self.id;
                tracing::warn!(channel, before, "something cannot be read and is passed over");
            }
            return Ok(());
        };
        match updates::read(update, &entered.bot) {
            Said::Message(message) => self.hear_message(surroundings, entered, message).await,
            Said::Click(click) => self.hear_click(surroundings, entered, click).await,
            Said::Moved { from, to } => {
                self.note_moved(from, to).await;
                Ok(())
            }
            Said::Nothing => Ok(()),
        }
    }

    async fn hear_message(
        &self,
        surroundings: &Surroundings,
        entered: &Entered,
        message: Message,
    ) -> Result<(), String> {
        let place = message.place.clone();
        let quoted = |id: i64| format!("{}:{id}", place.chat);
        let id = quoted(message.id);
        let target = Target {
            chat: place.chat,
            thread: place.thread,
            reply_to: (!place.direct).then_some(message.id),
        };
        let code = named_code(&message.text);
        let about = About {
            sender_id: Some(message.sender.id.to_string()),
            group: Some(!place.direct),
            mentioned: message.mentioned,
            reply_to: message.reply_to.map(quoted),
            sent_at: message.sent_at,
        };
        let chat = Chat {
            text: message.text,
            sender: Some(message.sender.name).filter(|name| !name.is_empty()),
            about: Some(about),
            ..Chat::default()
        };
        let files = (&message.files[..], message.bare);
        let text = chat.text.clone();
        match self.hand_in(surroundings, entered, (&place, &id, chat), files).await? {
            Handed::Taken => {
                if let Some(code) = code
                    && self.is_over(surroundings, (&place, &id), &text).await
                {
                    self.take_buttons_of(entered, &code).await;
                }
            }
            Handed::Over(Some(say)) => {
                let (name, key) = (self.name_of(place.chat), format!("host:{}:{id}", self.id));
                self.say(entered, name, target, &key, &say).await;
            }
            Handed::Over(None) => {}
        }
        Ok(())
    }

    async fn hear_click(
        &self,
        surroundings: &Surroundings,
        entered: &Entered,
        click: Click,
    ) -> Result<(), String> {
        let place = &click.place;
        let message = format!("{}:{}", place.chat, click.message);
        let about = About {
            sender_id: Some(click.sender.id.to_string()),
            group: Some(!place.direct),
            mentioned: true,
            reply_to: Some(message.clone()),
            sent_at: None,
        };
        let chat = Chat {
            text: click.data.clone(),
            sender: Some(click.sender.name.clone()).filter(|name| !name.is_empty()),
            about: Some(about),
            ..Chat::default()
        };
        let id = format!("{message}:click-{}", click.id);
        let said = (place, id.as_str(), chat);
        let handed = self.hand_in(surroundings, entered, said, (&[], String::new())).await?;
        let mut answer = json!({ "callback_query_id": click.id });
        if let Handed::Over(say) = &handed {
            let nobody = "nobody listens here any more";
            answer["text"] = json!(shorten(say.as_deref().unwrap_or(nobody), TOLD_MAX));
            answer["show_alert"] = json!(true);
        }
        let asked = self.api.call::<Value>(&entered.token, "answerCallbackQuery", &answer);
        if let Err(trouble) = asked.await {
            // Telegram takes no answer to what is long ago.
            tracing::debug!(channel = self.id, %trouble, "that a button was pressed is not answered");
        }
        // Others may press what whoever pressed it may not decide.
        if matches!(handed, Handed::Taken)
            && self.is_over(surroundings, (place, &id), &click.data).await
        {
            if let Some(code) = named_code(&click.data) {
                lock(&self.asked).remove(&code);
            }
            self.take_buttons(entered, place.chat, click.message).await;
        }
        Ok(())
    }

    /// Hands something in that was said at a place, with its files.
    async fn hand_in(
        &self,
        surroundings: &Surroundings,
        entered: &Entered,
        (place, id, chat): (&Place, &str, Chat),
        files: (&[File], String),
    ) -> Result<Handed, String> {
        let Ok(id) = MessageId::parse(id) else { return Ok(Handed::Over(None)) };
        let name = self.name_of(place.chat);
        let address = self.address(place);
        let intake = surroundings.intake.as_ref();
        let mut inbound = Inbound::new(address, id, chat);
        // They are there until the message is accepted or refused.
        let _staged = self.attach(intake, entered, &mut inbound, files).await?;
        let accepted: Result<Vec<Receipt>, Refusal> = intake.accept(inbound).await;
        match accepted {
            Ok(_) => Ok(Handed::Taken),
            Err(Refusal::NobodyListens { .. }) => {
                self.tell_unwired(name);
                Ok(Handed::Over(None))
            }
            Err(Refusal::Unheard { say }) => Ok(Handed::Over(say)),
            Err(refusal @ Refusal::TooManyThreads { .. }) => {
                Ok(Handed::Over(Some(refusal.to_string())))
            }
            Err(refusal @ (Refusal::TryAgain { .. } | Refusal::Blocked { .. })) => {
                Err(refusal.to_string())
            }
        }
    }

    /// Whether nobody can answer any more what `text` was said to.
    async fn is_over(
        &self,
        surroundings: &Surroundings,
        (place, id): (&Place, &str),
        text: &str,
    ) -> bool {
        let Ok(id) = MessageId::parse(id) else { return false };
        surroundings.intake.asked(&self.address(place), &id, text).await != Asked::Open
    }

    fn address(&self, place: &Place) -> Address {
        Address {
            channel_type: self.id.clone(),
            platform_id: self.name_of(place.chat).to_string(),
            thread_id: place.thread.map(|thread| thread.to_string()),
        }
    }

    /// What a chat is called here.
    fn name_of(&self, chat: i64) -> i64 {
        lock(&self.kept).name_of(chat)
    }

    /// Says to the operator, once for each chat, how it can be heard.
    fn tell_unwired(&self, chat: i64) {
        if warned("unwired chat", &format!("{} {chat}", self.id)).is_some_and(|before| before == 0)
        {
            tracing::warn!(
                channel = self.id,
                "somebody speaks in a chat to which no agent listens: `twobox wire add AGENT {} {chat}` has \
                 one listen",
                self.id,
            );
        }
    }
}
