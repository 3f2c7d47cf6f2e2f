//! Where channels are: in which guild, and of threads, in which channel. Told by the gateway, asked for where it has
//! not been told, and forgotten when there is too much of it.

use std::collections::HashMap;
use std::sync::Mutex;

use twobox_model::channel::Address;
use twobox_system::lock::lock;

use super::api::Question;
use super::kept::Place;
use super::pace::Route;
use super::snowflake::Snowflake;
use super::trouble::Trouble;
use super::wire::{self, Channel, Message};
use super::{Account, DiscordChannel};

/// How many channels are remembered.
const PLACES_MAX: usize = 50_000;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<Snowflake, Place>>);

impl Places {
    /// A channel is there.
    pub(super) fn learn(&self, channel: Snowflake, place: Place) {
        let mut all = lock(&self.0);
        if all.len() >= PLACES_MAX && !all.contains_key(&channel) {
            all.clear();
        }
        all.insert(channel, place);
    }

    fn of(&self, channel: Snowflake) -> Option<Place> {
        lock(&self.0).get(&channel).copied()
    }
}

impl DiscordChannel {
    /// Where this channel is.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn place(
        &self,
        account: &Account,
        channel: Snowflake,
    ) -> Result<Place, Trouble> {
        let known = self.places.of(channel);
        let known = known.or_else(|| lock(&self.kept).known.get(&channel).map(|known| known.place));
        if let Some(place) = known {
            return Ok(place);
        }
        let route = Route::new("GET channel", channel.to_string());
        let question = Question::get(route, &format!("channels/{channel}")).by(&account.token);
        let found: Channel = self.api.read(question).await?;
        let place = Place { guild: found.guild_id, parent: found.thread_of() };
        self.places.learn(channel, place);
        Ok(place)
    }

    /// Where this message was said.
    ///
    /// # Errors
    /// [`Trouble`]; not if the channel cannot be seen.
    pub(super) async fn place_of(
        &self,
        account: &Account,
        message: &Message,
    ) -> Result<Place, Trouble> {
        let channel = message.channel_id;
        let here = Place { guild: message.guild_id, parent: None };
        let is_thread = message.channel_type.map(wire::is_thread);
        if message.guild_id.is_none() || is_thread == Some(false) {
            return Ok(here);
        }
        match self.place(account, channel).await {
            Err(trouble) if trouble.is_final() => Ok(here),
            place => place,
        }
    }

    /// What the host calls a channel: a thread is one in the channel that it belongs to.
    pub(super) fn address(&self, channel: Snowflake, place: Place) -> Address {
        let thread_id = place.parent.map(|_| channel.to_string());
        let platform_id = place.parent.unwrap_or(channel).to_string();
        Address { channel_type: self.id.clone(), platform_id, thread_id }
    }
}
