//! What of what was said is handed to the host, and what becomes of that.

use std::collections::HashMap;

use serde_json::{Value, json};
use twobox_model::channel::{Address, Asked, Inbound, Refusal};
use twobox_shared::content::{About, Chat};
use twobox_shared::ids::MessageId;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use super::super::events::{Click, Message};
use super::super::settings::Answers;
use super::super::ts::Ts;
use super::super::{Account, SlackChannel, compose, text};
use super::chats::Ack;
use crate::instance::Surroundings;

impl SlackChannel {
    /// Takes what came over a connection: at once, or when the conversation was read up to there.
    pub(super) async fn take(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        message: Message,
        ack: Ack,
    ) {
        // One after the other: what came over two connections is in no order but this.
        let _turn = self.hearing.lock().await;
        let Some((message, ack)) = self.chats.wait(message, ack) else { return };
        match self.hear(surroundings, account, &message).await {
            Ok(()) => ack.send(),
            Err(why) => {
                self.tell_of_waiting(&message.chat, &why);
                self.chats.fall_behind(message, ack);
            }
        }
    }

    /// Hands a message to the host. The position moves behind it.
    ///
    /// # Errors
    /// Why it could not be taken now: those behind it are not taken either.
    pub(super) async fn hear(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        message: &Message,
    ) -> Result<(), String> {
        let (chat, ts, thread) = (message.chat.as_str(), message.ts, message.thread);
        if message.sender == account.user || lock(&self.kept).is_unheard(chat, ts) {
            return Ok(());
        }
        let Some(inbound) = self.inbound(account, message).await else { return Ok(()) };
        let (id, address) = (inbound.id.clone(), inbound.address.clone());
        match surroundings.intake.accept(inbound).await {
            Ok(_) => lock(&self.kept).hear(chat, ts, thread),
            Err(Refusal::NobodyListens { .. }) => {
                lock(&self.kept).pass_over(chat, ts);
                self.tell_unwired(chat);
            }
            Err(Refusal::Unheard { say: None }) => lock(&self.kept).hear(chat, ts, thread),
            Err(refusal @ (Refusal::TooManyThreads { .. } | Refusal::Unheard { say: Some(_) })) => {
                lock(&self.kept).hear(chat, ts, thread);
                self.whisper(&address, &message.sender, &id, &refusal.to_string()).await;
            }
            Err(refusal @ (Refusal::TryAgain { .. } | Refusal::Blocked { .. })) => {
                return Err(refusal.to_string());
            }
        }
        self.moved.notify_one();
        Ok(())
    }

    async fn inbound(&self, account: &Account, message: &Message) -> Option<Inbound> {
        let addressed = text::addressed(&message.text, &account.user);
        let text = match addressed.word {
            Some(word) => word,
            None => {
                let mut names = HashMap::new();
                for id in text::named(addressed.text) {
                    if let Some(name) = self.name(account, id).await {
                        names.insert(id.to_owned(), name);
                    }
                }
                text::plain(addressed.text, &names)
            }
        };
        // The ids of conversations with one person begin with a D.
        let direct = message.direct.unwrap_or_else(|| message.chat.starts_with('D'));
        let in_thread = self.settings.answers == Answers::Thread && !direct;
        let thread = message.thread.or_else(|| in_thread.then_some(message.ts));
        let id = MessageId::parse(&format!("{}-{}", message.chat, message.ts)).ok()?;
        let about = About {
            sender_id: Some(message.sender.clone()),
            group: Some(!direct),
            mentioned: addressed.mentioned,
            reply_to: None,
            sent_at: Some(message.ts.time()),
        };
        let sender = self.name(account, &message.sender).await;
        let chat = Chat {
            text,
            sender: Some(sender.unwrap_or_else(|| message.sender.clone())),
            about: Some(about),
            ..Chat::default()
        };
        Some(Inbound::new(self.address(&message.chat, thread), id, chat))
    }

    async fn name(&self, account: &Account, id: &str) -> Option<String> {
        self.people.name(&self.api, &account.bot, id).await
    }

    fn address(&self, chat: &str, thread: Option<Ts>) -> Address {
        Address {
            channel_type: self.id.clone(),
            platform_id: chat.to_owned(),
            thread_id: thread.map(|thread| thread.to_string()),
        }
    }

    /// Takes an answer that was given by a button. One that is not taken is not acknowledged: then Slack tells
    /// whoever pressed it that it did not work.
    pub(super) async fn take_click(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        click: Click,
        ack: Ack,
    ) {
        let id = format!("{}-click-{}-{}", click.chat, click.at, click.sender);
        let Ok(id) = MessageId::parse(&id) else { return ack.send() };
        let direct = click.chat.starts_with('D');
        let sender = self.name(account, &click.sender).await;
        let chat = Chat {
            text: click.value.clone(),
            sender: Some(sender.unwrap_or_else(|| click.sender.clone())),
            about: Some(About {
                sender_id: Some(click.sender.clone()),
                group: Some(!direct),
                mentioned: true,
                reply_to: None,
                sent_at: Some(click.at.time()),
            }),
            ..Chat::default()
        };
        let address = self.address(&click.chat, click.thread);
        let inbound = Inbound::new(address.clone(), id.clone(), chat);
        match surroundings.intake.accept(inbound).await {
            Ok(_) => {
                ack.send();
                // Whoever may not decide it has pressed in vain, and others may press.
                let asked = surroundings.intake.asked(&address, &id, &click.value).await;
                if asked == Asked::DecidedByIt {
                    self.show_decided(account, &click).await;
                }
            }
            Err(Refusal::NobodyListens { .. } | Refusal::Unheard { say: None }) => ack.send(),
            Err(refusal @ (Refusal::TooManyThreads { .. } | Refusal::Unheard { say: Some(_) })) => {
                ack.send();
                self.whisper(&address, &click.sender, &id, &refusal.to_string()).await;
            }
            Err(refusal @ (Refusal::TryAgain { .. } | Refusal::Blocked { .. })) => {
                self.tell_of_waiting(&click.chat, &refusal.to_string());
            }
        }
    }

    /// Has a question show what was answered, and by whom, in the place of its buttons.
    async fn show_decided(&self, account: &Account, click: &Click) {
        let Some(blocks) = compose::decided(click) else { return };
        let ts = click.ts.to_string();
        let body = json!({
            "channel": click.chat, "ts": ts, "text": click.text, "blocks": blocks,
        });
        if let Err(trouble) = self.api.json::<Value>(&account.bot, "chat.update", &body).await {
            let error = trouble.to_string();
            tracing::debug!(channel = self.id, error, "the buttons of a question are left");
        }
    }

    /// Says to the operator, once for each conversation, how it can be heard.
    fn tell_unwired(&self, chat: &str) {
        if warned("unwired chat", &format!("{} {chat}", self.id)).is_some_and(|before| before == 0)
        {
            tracing::warn!(
                channel = self.id,
                "somebody speaks in a conversation to which no agent listens: `twobox wire add AGENT {} {chat}` \
                 has one listen",
                self.id,
            );
        }
    }

    pub(super) fn tell_of_waiting(&self, chat: &str, why: &str) {
        if let Some(before) = warned("slack chat behind", &format!("{} {chat} {why}", self.id)) {
            tracing::warn!(channel = self.id, chat, why, before, "messages of a conversation wait");
        }
    }
}
