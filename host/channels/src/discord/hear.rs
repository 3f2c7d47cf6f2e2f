//! Taking in what the gateway tells, in its order.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use twobox_model::channel::{Address, Asked, Inbound, Refusal};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::content::Chat;
use twobox_shared::ids::MessageId;
use twobox_system::lock::lock;
use twobox_system::repeat::warned;

use super::compose::{self, Extras};
use super::events::{self, Us};
use super::gateway::words::Event;
use super::kept::{Place, Session};
use super::pace::Route;
use super::send::post_route;
use super::snowflake::Snowflake;
use super::wire::{COMPONENT, Channel, Guild, Interaction, Message, Ready};
use super::{Account, DiscordChannel};
use crate::discord::api::Question;
use crate::instance::Surroundings;

/// How many of its own messages are remembered that the gateway has shown.
const ECHOES_MAX: usize = 2_000;

/// What was accepted: where it was said, its id, and its text.
type Accepted = (Address, MessageId, String);

impl DiscordChannel {
    /// Takes in what was told, in its order. Then nothing of it is only in memory.
    ///
    /// # Errors
    /// The disk's reason, for people.
    pub(super) async fn take_in(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        batch: VecDeque<(u64, Event)>,
    ) -> Result<(), String> {
        for (number, event) in batch {
            self.take(surroundings, account, number, event).await;
            if let Some(session) = &mut lock(&self.kept).session {
                session.last = session.last.max(number);
            }
        }
        self.write_down(account.bot).await
    }

    async fn take(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        number: u64,
        event: Event,
    ) {
        match event {
            Event::Ready(ready) => {
                self.begin(ready, number);
                self.be_up(surroundings);
            }
            Event::Resumed => self.be_up(surroundings),
            Event::Message(message) => self.take_message(surroundings, account, message).await,
            Event::Interaction(interaction) => {
                self.take_interaction(surroundings, account, interaction).await;
            }
            Event::Guild(guild) => self.take_guild(account, &guild),
            Event::NoGuild(guild) if guild.unavailable => lock(&self.kept).await_guild(guild.id),
            Event::NoGuild(guild) => lock(&self.kept).forget_guild(guild.id),
            Event::Channel(channel) => self.learn(&channel, channel.guild_id),
            Event::NoChannel(channel) => lock(&self.kept).forget_channel(channel.id),
            Event::Unreadable(what) => {
                if let Some(before) = warned("unreadable event", &format!("{} {what}", self.id)) {
                    tracing::warn!(
                        channel = self.id,
                        what,
                        before,
                        "what Discord tells cannot be read and is passed over"
                    );
                }
            }
            Event::Other => {}
        }
    }

    fn be_up(&self, surroundings: &Surroundings) {
        self.failures.store(0, Ordering::Relaxed);
        surroundings.up();
        self.behind.notify_one();
    }

    fn begin(&self, ready: Ready, number: u64) {
        let guilds: Vec<Snowflake> = ready.guilds.iter().map(|guild| guild.id).collect();
        tracing::info!(
            channel = self.id,
            bot = ready.user.username,
            guilds = guilds.len(),
            "a session with Discord's gateway begins"
        );
        let session = Session { id: ready.session_id, url: ready.resume_gateway_url, last: number };
        let now = Snowflake::at(self.api.theirs(SystemClock.now()));
        lock(&self.kept).begin(session, &guilds, now);
    }

    fn take_guild(&self, account: &Account, guild: &Guild) {
        if guild.unavailable {
            return lock(&self.kept).await_guild(guild.id);
        }
        for channel in guild.channels.iter().chain(&guild.threads) {
            self.learn(channel, Some(guild.id));
        }
        let ours = guild.roles.iter().filter(|role| role.tags.bot_id == Some(account.bot));
        let mut kept = lock(&self.kept);
        kept.roles.extend(ours.map(|role| role.id));
        kept.take_guild(guild);
        self.behind.notify_one();
    }

    fn learn(&self, channel: &Channel, guild: Option<Snowflake>) {
        self.places.learn(channel.id, Place { guild, parent: channel.thread_of() });
    }

    async fn take_message(&self, surroundings: &Surroundings, account: &Account, message: Message) {
        if message.author.id == account.bot {
            self.note_echo(&message);
        }
        let (id, channel) = (message.id, message.channel_id);
        let place = self.place_of(account, &message).await;
        let rough = Place { guild: message.guild_id, parent: None };
        if lock(&self.kept).hear_of(id, channel, place.clone().unwrap_or(rough)) {
            return self.behind.notify_one();
        }
        let heard = match place {
            Ok(place) => self.hand_in(surroundings, account, place, &message).await,
            Err(trouble) => Err(trouble.to_string()),
        };
        let mut kept = lock(&self.kept);
        if let Err(why) = heard {
            tracing::debug!(channel = self.id, chat = %channel, why, "a channel is behind");
            kept.fall_behind(channel, id.before(), id);
            self.behind.notify_one();
        }
        kept.done_with(id);
    }

    /// What is its own is known by its nonce, which nobody remembers for long.
    fn note_echo(&self, message: &Message) {
        let Some(nonce) = message.nonce.as_ref().and_then(|nonce| nonce.as_str()) else { return };
        let mut echoes = lock(&self.echoes);
        if echoes.len() >= ECHOES_MAX {
            echoes.clear();
        }
        echoes.insert(nonce.to_owned(), message.id);
    }

    /// Hands a message to the host, if a person wrote it.
    ///
    /// # Errors
    /// Why it cannot be taken now.
    pub(super) async fn hand_in(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        place: Place,
        message: &Message,
    ) -> Result<(), String> {
        let us = Us { id: account.bot, roles: lock(&self.kept).roles.clone() };
        lock(&self.kept).know(message.channel_id, place, message.id);
        let Some(chat) = events::chat(message, &us, place.guild.is_some()) else { return Ok(()) };
        let id = message.id.to_string();
        let here = (message.channel_id, place);
        self.accept(surroundings, account, here, &id, chat).await.map(drop)
    }

    /// Hands in what somebody said. Returns whether anybody heard it.
    async fn accept(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        (channel, place): (Snowflake, Place),
        id: &str,
        chat: Chat,
    ) -> Result<Option<Accepted>, String> {
        let Ok(parsed) = MessageId::parse(id) else { return Ok(None) };
        let address = self.address(channel, place);
        let chat_id = address.platform_id.clone();
        let said = (address.clone(), parsed.clone(), chat.text.clone());
        match surroundings.intake.accept(Inbound::new(address, parsed, chat)).await {
            Ok(_) => return Ok(Some(said)),
            Err(Refusal::Unheard { say: None }) => {}
            Err(Refusal::NobodyListens { .. }) => self.tell_unwired(&chat_id),
            Err(Refusal::Unheard { say: Some(text) }) => {
                self.say(account, channel, id, &text).await
            }
            Err(refusal @ Refusal::TooManyThreads { .. }) => {
                self.say(account, channel, id, &refusal.to_string()).await;
            }
            Err(refusal @ (Refusal::TryAgain { .. } | Refusal::Blocked { .. })) => {
                return Err(refusal.to_string());
            }
        }
        Ok(None)
    }

    /// Says to the operator, once for each channel, how it can be heard.
    fn tell_unwired(&self, chat: &str) {
        let told = warned("unwired channel", &format!("{} {chat}", self.id));
        if told.is_some_and(|before| before == 0) {
            tracing::warn!(
                channel = self.id,
                "somebody speaks in a channel to which no agent listens: `twobox wire add AGENT {} {chat}` has \
                 one listen",
                self.id,
            );
        }
    }

    /// Says something of the host's own about a message, as well as it can.
    async fn say(&self, account: &Account, channel: Snowflake, id: &str, text: &str) {
        let text: String = compose::texts(text).into_iter().take(1).collect();
        let nonce = compose::nonce(&format!("host:{id}"), "1");
        let body = compose::message(&text, &nonce, &Extras::default());
        let path = format!("channels/{channel}/messages");
        let question = Question::post(post_route(&channel.to_string()), &path, &body);
        if let Err(trouble) = self.api.ask(question.by(&account.token)).await {
            tracing::debug!(channel = self.id, chat = %channel, error = %trouble, "it was not told");
        }
    }

    /// Somebody pressed a button. It is acknowledged when it is durable; Discord shows the others that it failed.
    async fn take_interaction(
        &self,
        surroundings: &Surroundings,
        account: &Account,
        interaction: Interaction,
    ) {
        let channel = interaction.channel.as_ref().map(|it| it.id).or(interaction.channel_id);
        let (COMPONENT, Some(channel), Some(chat)) =
            (interaction.kind, channel, events::pressed(&interaction))
        else {
            return;
        };
        let told = interaction.channel.as_ref().filter(|_| interaction.guild_id.is_some());
        let place = match told {
            Some(told) => Ok(Place { guild: interaction.guild_id, parent: told.thread_of() }),
            None if interaction.guild_id.is_none() => Ok(Place::default()),
            None => self.place(account, channel).await,
        };
        let Ok(place) = place else { return };
        let id = format!("press-{}", interaction.id);
        let (pressed, by) = (chat.text.clone(), chat.sender.clone().unwrap_or_default());
        let answer = match self.accept(surroundings, account, (channel, place), &id, chat).await {
            Ok(Some((address, id, text)))
                if surroundings.intake.asked(&address, &id, &text).await == Asked::DecidedByIt =>
            {
                let shown = interaction.message.map(|message| message.components);
                compose::pressed(&shown.unwrap_or_default(), &pressed, &by)
            }
            // Whoever may not decide it has pressed in vain, and others may press.
            Ok(_) => compose::acknowledged(),
            Err(why) => {
                let channel = &self.id;
                return tracing::info!(channel, why, "a button that was pressed is not taken now");
            }
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !interaction.token.chars().all(plain) {
            return;
        }
        let path = format!("interactions/{}/{}/callback", interaction.id, interaction.token);
        let route = Route::new("POST callback", "");
        if let Err(trouble) = self.api.ask(Question::post(route, &path, &answer).now()).await {
            tracing::debug!(channel = self.id, error = %trouble, "a button is not acknowledged");
        }
    }
}
