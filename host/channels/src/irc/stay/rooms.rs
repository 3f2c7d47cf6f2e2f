//! The channels of a server: where somebody is, and should be.

use std::time::Duration;

use tokio::time::Instant;
use twobox_model::channel::Address;
use twobox_system::lock::lock;

use super::super::enter::Stop;
use super::Stay;

/// How often it tries to go where it should be.
const REJOIN: Duration = Duration::from_secs(60);

/// How many channels are named in one line: as many as fit, however long their names are.
const JOIN_MAX: usize = 2;

/// Why a channel is not to be joined.
pub(super) const JOIN_ERRORS: [u16; 12] =
    [403, 405, 437, 448, 471, 473, 474, 475, 476, 477, 489, 520];

impl Stay<'_> {
    /// Goes where it should be and is not.
    pub(super) async fn join(&mut self, now: Instant) -> Result<(), Stop> {
        let due = self.outside.iter_mut().filter(|(_, at)| now >= **at).take(JOIN_MAX);
        let names: Vec<String> = due
            .map(|(name, at)| {
                *at = now + REJOIN;
                name.clone()
            })
            .collect();
        match names.is_empty() {
            true => Ok(()),
            false => self.say(&format!("JOIN {}", names.join(","))).await,
        }
    }

    /// The channel of this name, as it is set.
    fn configured(&self, name: &str) -> Option<String> {
        self.channel.settings.channels.iter().find(|it| self.server.alike(it, name)).cloned()
    }

    /// Somebody lets it in where it may not have been.
    pub(super) fn be_invited(&mut self, name: &str) {
        if let Some(name) = self.configured(name) {
            self.outside.entry(name).and_modify(|at| *at = Instant::now());
        }
    }

    /// It is in a channel.
    pub(super) fn come_in(&mut self, name: &str) {
        let folded = self.server.folded(name);
        if let Some(name) = self.configured(name) {
            self.outside.remove(&name);
            if lock(&self.channel.kept).outside.remove(&name).is_some() {
                tracing::info!(channel = self.channel.id, name, "it is in a channel of IRC again");
                self.alive_at = Instant::now(); // to be written down
            }
        }
        if let Some(seat) = &mut *lock(&self.channel.seat) {
            seat.inside.insert(folded.clone());
        }
        let channel_type = self.channel.id.clone();
        let address = Address { channel_type, platform_id: folded, thread_id: None };
        self.surroundings.intake.ready(&address);
    }

    /// It is not in a channel, and tries to be after a while, if it should be.
    pub(super) fn go_out(&mut self, name: &str, why: &str) {
        let folded = self.server.folded(name);
        if let Some(seat) = &mut *lock(&self.channel.seat) {
            seat.inside.remove(&folded);
        }
        let Some(name) = self.configured(name) else { return };
        let now = Instant::now();
        self.outside.insert(name.clone(), now + REJOIN);
        let before = lock(&self.channel.kept).outside.insert(name.clone(), why.to_owned());
        if before.as_deref() != Some(why) {
            tracing::warn!(
                channel = self.channel.id,
                name,
                why,
                "it is not in a channel of IRC; it tries again by itself"
            );
            self.alive_at = now;
        }
    }
}
