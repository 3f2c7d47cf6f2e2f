//! What an instance keeps from one life to the next: how far it has heard, and the session of the gateway that it may
//! go on with. It is the instance's [state](crate::state), one for each bot that it has been.
//!
//! A position is written when everything before it is durable elsewhere, and never before.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::snowflake::Snowflake;
use super::wire::Guild;
use crate::state;

/// How many direct chats and threads are remembered.
pub(super) const KNOWN_MAX: usize = 2_000;

/// How many channels may be behind.
const BEHIND_MAX: usize = 20_000;

/// How much is read again, for what was said in two channels at the same time comes in any order.
const OVERLAP: Duration = Duration::from_secs(5);

/// The state of one bot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// The session, as long as it may go on.
    pub(super) session: Option<Session>,
    /// The latest message that was heard of. Everything before is done with, but for what is behind or awaited.
    pub(super) heard: Snowflake,
    /// Guilds that the gateway has not told of yet, with the message behind which they may have something new.
    pub(super) awaited: BTreeMap<Snowflake, Snowflake>,
    /// Channels of which not everything could be taken in.
    pub(super) behind: BTreeMap<Snowflake, Behind>,
    /// Direct chats, and threads, of which the gateway does not tell by itself.
    pub(super) known: BTreeMap<Snowflake, Known>,
    /// The bot's own roles.
    pub(super) roles: BTreeSet<Snowflake>,
}

/// A session of the gateway.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    /// Its id. Whoever has it and the token may go on with it.
    pub(super) id: String,
    /// Where it goes on.
    pub(super) url: String,
    /// The number of the last event that is done with.
    pub(super) last: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("last", &self.last).finish_non_exhaustive()
    }
}

/// Where a channel is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    /// Its guild; a direct chat has none.
    pub(super) guild: Option<Snowflake>,
    /// The channel in which it is a thread.
    pub(super) parent: Option<Snowflake>,
}

/// How far a channel was read that is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Behind {
    /// The last message that is done with.
    pub(super) after: Snowflake,
    /// The latest message that was heard of and not taken in.
    pub(super) newest: Snowflake,
    /// How often that was looked for in vain.
    #[serde(skip)]
    pub(super) looks: u32,
}

/// How far a channel is that is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is behind no more.
    There,
    /// There is more to read, or may be.
    Further,
    /// A message that was told of is not there, or not yet.
    Missing,
}

/// A direct chat or a thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Known {
    #[serde(flatten)]
    pub(super) place: Place,
    /// When something was said there last.
    pub(super) last: Snowflake,
}

impl Kept {
    /// Reads what lies in `folder`; nothing there says nothing. Blocks.
    ///
    /// # Errors
    /// Why it cannot be read, for people.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        state::read(&state::file(folder), "then what was said meanwhile is not heard")
    }

    /// Writes it in `folder`, which need not be there. Returns when it is on the disk. Blocks.
    ///
    /// # Errors
    /// The system's reason.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        state::write(folder, self)
    }

    /// A session begins anew, with these guilds, at `now` if it is the first: what was said between the two has to be
    /// looked for, in direct chats at once, in a guild when it is told of.
    pub(super) fn begin(&mut self, session: Session, guilds: &[Snowflake], now: Snowflake) {
        self.session = Some(session);
        let is_first = self.heard == Snowflake(0);
        if is_first {
            self.heard = now;
            return;
        }
        let from = self.overlapped();
        for guild in guilds {
            self.awaited.entry(*guild).or_insert(from);
        }
        let direct = self.known.iter().filter(|(_, known)| known.place.guild.is_none());
        let direct: Vec<Snowflake> = direct.map(|(id, _)| *id).collect();
        direct.into_iter().for_each(|id| self.fall_behind(id, from, Snowflake(0)));
    }

    /// A guild is told of: what is new there is behind. One that was not awaited is new to the bot, which hears there
    /// from now on.
    pub(super) fn take_guild(&mut self, guild: &Guild) {
        let Some(from) = self.awaited.remove(&guild.id) else { return };
        let listed: BTreeSet<Snowflake> =
            guild.channels.iter().chain(&guild.threads).map(|channel| channel.id).collect();
        for channel in guild.channels.iter().chain(&guild.threads) {
            if channel.last_message_id.is_some_and(|last| last > from) {
                self.fall_behind(channel.id, from, Snowflake(0));
            }
        }
        // Threads that were closed meanwhile are not told of.
        let closed = |(id, known): &(&Snowflake, &Known)| {
            known.place.guild == Some(guild.id) && !listed.contains(*id)
        };
        let closed: Vec<Snowflake> = self.known.iter().filter(closed).map(|(id, _)| *id).collect();
        closed.into_iter().for_each(|id| self.fall_behind(id, from, Snowflake(0)));
    }

    /// A guild is away for a while.
    pub(super) fn await_guild(&mut self, guild: Snowflake) {
        let from = self.overlapped();
        self.awaited.entry(guild).or_insert(from);
    }

    /// The bot is in this guild no more.
    pub(super) fn forget_guild(&mut self, guild: Snowflake) {
        self.awaited.remove(&guild);
        let gone: Vec<Snowflake> = self
            .known
            .iter()
            .filter(|(_, known)| known.place.guild == Some(guild))
            .map(|(id, _)| *id)
            .collect();
        gone.into_iter().for_each(|id| self.forget_channel(id));
    }

    /// There is no such channel any more.
    pub(super) fn forget_channel(&mut self, channel: Snowflake) {
        self.known.remove(&channel);
        self.behind.remove(&channel);
    }

    /// A message was heard of. Returns whether its channel is behind, in which its turn comes later; or else it is to
    /// be taken in, and then [done with](Self::done_with).
    pub(super) fn hear_of(&mut self, message: Snowflake, channel: Snowflake, place: Place) -> bool {
        // Before it stands what was said while nobody listened.
        let awaited = place.guild.and_then(|guild| self.awaited.get(&guild)).copied();
        if let Some(from) = awaited {
            self.fall_behind(channel, from, message);
        }
        let Some(behind) = self.behind.get_mut(&channel) else { return false };
        behind.newest = behind.newest.max(message);
        self.done_with(message);
        true
    }

    /// A message is durable elsewhere, or of no matter.
    pub(super) fn done_with(&mut self, message: Snowflake) {
        self.heard = self.heard.max(message);
    }

    /// Remembers a direct chat or a thread in which `message` was said.
    pub(super) fn know(&mut self, channel: Snowflake, place: Place, message: Snowflake) {
        if place.guild.is_some() && place.parent.is_none() {
            return; // the gateway tells of it by itself
        }
        let known = self.known.entry(channel).or_default();
        *known = Known { place, last: known.last.max(message) };
        if self.known.len() > KNOWN_MAX {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.last).map(|(id, _)| *id);
            oldest.map(|id| self.known.remove(&id));
        }
    }

    /// What was said in a channel behind `after` is to be read, up to `newest` at least.
    pub(super) fn fall_behind(&mut self, channel: Snowflake, after: Snowflake, newest: Snowflake) {
        if self.behind.len() >= BEHIND_MAX && !self.behind.contains_key(&channel) {
            tracing::warn!(%channel, "too many channels are behind: what was said there is not heard");
            return;
        }
        let behind = self.behind.entry(channel).or_insert(Behind { after, newest, looks: 0 });
        behind.after = behind.after.min(after);
        behind.newest = behind.newest.max(newest);
    }

    /// The messages of a channel that is behind are done with up to `after`.
    pub(super) fn come_forward(&mut self, channel: Snowflake, after: Snowflake) {
        if let Some(behind) = self.behind.get_mut(&channel) {
            behind.after = behind.after.max(after);
        }
    }

    /// How far a channel is, of which all was read that there is if `is_last`. A message that was told of is looked for
    /// `looks` times, and was deleted if it is never found.
    pub(super) fn progress(&mut self, channel: Snowflake, is_last: bool, looks: u32) -> Progress {
        let Some(behind) = self.behind.get_mut(&channel) else { return Progress::There };
        let is_missing = behind.newest > behind.after;
        if !is_last || (is_missing && behind.looks == 0) {
            // At first it may have been said after the page was asked for.
            behind.looks = u32::from(is_last);
            return Progress::Further;
        }
        if is_missing && behind.looks < looks {
            behind.looks += 1;
            return Progress::Missing;
        }
        self.behind.remove(&channel);
        Progress::There
    }

    fn overlapped(&self) -> Snowflake {
        Snowflake::at(self.heard.made_at() - OVERLAP)
    }
}

/// Where the state of the bot with the id `bot` lies, for the instance with the id `id`, in a data directory.
pub(super) fn folder(data: &Path, id: &str, bot: Snowflake) -> PathBuf {
    state::folder(data, id).join(format!("bot-{bot}"))
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
