//! What of a room's events is handed to the host, and what becomes of that.

use serde_json::Value;
use twobox_model::channel::{Address, Inbound, Refusal};
use twobox_shared::bounds;
use twobox_shared::content::{About, Chat};
use twobox_shared::ids::MessageId;
use twobox_shared::visible;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use super::super::client::Ask;
use super::super::compose::{self, Kind, Relation};
use super::super::events::{self, Batch, Event, Message};
use super::super::kept::ROOMS_MAX;
use super::super::path::{step, transaction};
use super::super::rooms::Who;
use super::super::{Account, MatrixChannel};
use crate::instance::Surroundings;

/// What is said in a room that is encrypted.
const ENCRYPTED: &str = "This room is encrypted, and I cannot read or write in such a room. Please invite me \
                         to one without encryption.";

/// How many messages are remembered to which nobody listened.
const UNHEARD_MAX: usize = 10_000;

impl MatrixChannel {
    /// Takes in the events of one room, in their order. What was said before the account was in the room is
    /// passed over.
    ///
    /// # Errors
    /// Why a message could not be taken now: those behind it are not taken either.
    pub(super) async fn hear(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        room: &str,
        batch: &Batch,
    ) -> Result<(), String> {
        self.pass_over_unreadable(room, batch);
        let events = &batch.events;
        let came = |event: &Value| {
            matches!(events::read(event), Some(Event::Member { user, joined: true, was_joined: false, .. })
                if user == account.user)
        };
        let begin = events.iter().rposition(came);
        for (index, event) in events.iter().enumerate() {
            let is_before = begin.is_some_and(|begin| index < begin);
            match events::read(event) {
                Some(Event::Message(message)) if !is_before => {
                    self.hear_message(surroundings, account, room, message).await?;
                }
                Some(Event::Encrypted(sender)) if !is_before => {
                    if sender != account.user && self.settings.senders.may_ever_hear(&sender) {
                        self.refuse_encrypted(account, room).await;
                    }
                }
                Some(Event::Encryption) => self.refuse_encrypted(account, room).await,
                Some(Event::Member { user, name, joined, .. }) => {
                    self.rooms.member(room, &user, name, joined);
                }
                Some(Event::Message(_) | Event::Encrypted(_)) | None => {}
            }
        }
        if let Some(last) = events.iter().rev().find_map(|event| event["event_id"].as_str()) {
            lock(&self.kept).hear(room, last);
        }
        Ok(())
    }

    /// Says that something cannot be read, once for each room, and goes on.
    fn pass_over_unreadable(&self, room: &str, batch: &Batch) {
        if batch.unreadable == 0 {
            return;
        }
        self.rooms.doubt(room);
        if let Some(before) = warned("unreadable event", &format!("{} {room}", self.id)) {
            let (channel, room, count) = (&self.id, visible::line(room), batch.unreadable);
            tracing::warn!(
                channel,
                room,
                count,
                before,
                "what somebody has put into a room cannot be read and is passed over"
            );
        }
    }

    /// Takes note of what a room is like.
    pub(super) async fn note_state(&self, account: &Account, room: &str, batch: &Batch) {
        self.pass_over_unreadable(room, batch);
        if batch.events.iter().any(|event| events::read(event) == Some(Event::Encryption)) {
            self.refuse_encrypted(account, room).await;
        }
    }

    async fn hear_message(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        room: &str,
        message: Message,
    ) -> Result<(), String> {
        if message.sender == account.user {
            return Ok(()); // its own word
        }
        if lock(&self.unheard).contains(&message.id) {
            return Ok(());
        }
        let (client, token, us) = (&self.client, &account.token, account.user.as_str());
        let who = match self.rooms.who(client, token, room, &message.sender, us).await {
            Ok(who) => who,
            // It is not in the room any more: it is heard as in any group.
            Err(trouble) if trouble.is_final() => Who::default(),
            Err(trouble) => return Err(trouble.to_string()),
        };
        let event = message.id.clone();
        let file = message.file.clone();
        let Some(mut inbound) = self.inbound(account, room, message, who) else { return Ok(()) };
        // It is there until the message is accepted or refused.
        let _staged = match file {
            Some(file) => {
                self.attach(surroundings.intake.as_ref(), account, &mut inbound, *file).await?
            }
            None => None,
        };
        let (id, thread) = (inbound.id.clone(), inbound.address.thread_id.clone());
        match surroundings.intake.accept(inbound).await {
            Ok(_) => {}
            Err(Refusal::NobodyListens { .. }) => {
                self.note_unheard(event);
                self.tell_unwired(room);
            }
            Err(Refusal::Unheard { say: None }) => self.note_unheard(event),
            Err(refusal @ (Refusal::TooManyThreads { .. } | Refusal::Unheard { say: Some(_) })) => {
                self.note_unheard(event);
                let relation = Relation { thread, reply_to: None };
                let key = format!("host:{id}");
                self.say(account, room, &key, &refusal.to_string(), &relation).await;
            }
            Err(refusal @ (Refusal::TryAgain { .. } | Refusal::Blocked { .. })) => {
                return Err(refusal.to_string());
            }
        }
        Ok(())
    }

    /// The message for the host, which decides who is heard and what engages an agent.
    fn inbound(
        &self,
        account: &Account,
        room: &str,
        message: Message,
        who: Who,
    ) -> Option<Inbound> {
        let addressed = events::addressed(&message, &account.user, who.ours.as_deref());
        // Ids of old rooms may have a slash.
        let id = MessageId::parse(&message.id.replace('/', "%2F")).ok();
        if id.is_none() || room.len() > bounds::NAME.most {
            tracing::warn!(channel = self.id, room, "a message has no id that can be kept");
        }
        let id = id.filter(|_| room.len() <= bounds::NAME.most)?;
        let sender = who.name.filter(|name| !name.is_empty());
        let address = Address {
            channel_type: self.id.clone(),
            platform_id: room.to_owned(),
            thread_id: message.thread,
        };
        let chat = Chat {
            text: addressed.text,
            sender: Some(sender.unwrap_or_else(|| message.sender.clone())),
            about: Some(About {
                sender_id: Some(message.sender),
                group: Some(!who.direct),
                mentioned: addressed.mentioned,
                reply_to: message.reply_to,
                sent_at: message.sent_at,
            }),
            ..Chat::default()
        };
        Some(Inbound::new(address, id, chat))
    }

    /// Nobody listened to this message when it was heard.
    fn note_unheard(&self, event: String) {
        let mut unheard = lock(&self.unheard);
        if unheard.len() >= UNHEARD_MAX {
            unheard.clear();
        }
        unheard.insert(event);
    }

    /// Says to the operator, once for each room, how it can be heard.
    fn tell_unwired(&self, room: &str) {
        if warned("unwired room", &format!("{} {room}", self.id)).is_some_and(|before| before == 0)
        {
            tracing::warn!(
                channel = self.id,
                "somebody speaks in a room to which no agent listens: `twobox wire add AGENT {} '{}'` has \
                 one listen",
                self.id,
                room.replace('\'', "")
            );
        }
    }

    /// Says in a room, once, that nothing is read there.
    async fn refuse_encrypted(&self, account: &Account, room: &str) {
        self.rooms.encrypt(room);
        if lock(&self.kept).told.contains(room) {
            return;
        }
        tracing::warn!(
            channel = self.id,
            room,
            "a room is encrypted: nothing is read or sent there"
        );
        let key = format!("encrypted:{room}");
        if self.say(account, room, &key, ENCRYPTED, &Relation::default()).await {
            let noted = self.keep(|kept| {
                if kept.told.len() < ROOMS_MAX {
                    kept.told.insert(room.to_owned());
                }
            });
            if let Err(error) = noted.await {
                tracing::warn!(
                    channel = self.id,
                    error,
                    "what a room was told is not written down"
                );
            }
        }
    }

    /// Tells a room something of the host's own, under a key that no message has. Returns whether that is done
    /// with.
    async fn say(
        &self,
        account: &Account,
        room: &str,
        key: &str,
        text: &str,
        relation: &Relation,
    ) -> bool {
        let transaction = transaction(key, "1");
        let event = compose::event(Kind::Notice, text, relation, &transaction);
        let path = format!("client/v3/rooms/{}/send/m.room.message/{transaction}", step(room));
        match self.client.ask::<Value>(Ask::put(&account.token, path, &event)).await {
            Ok(_) => true,
            Err(trouble) => {
                tracing::debug!(channel = self.id, room, error = %trouble, "it was not told");
                trouble.is_final()
            }
        }
    }
}
