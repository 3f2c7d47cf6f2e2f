//! Showing what an agent is at to whoever looks on. The runner writes a small file while the host says that
//! somebody does, and a file event says that it was replaced. It is what a container wrote: it is shown only
//! where it speaks of a message and an attempt that the living container holds, now and then, and nothing
//! depends on it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use twobox_shared::ids::MessageId;
use twobox_shared::progress::Progress;

use super::boxes::BoxSnapshot;
use super::compose::address_of_origin;
use super::task::Task;
use crate::signal::Reason;
use twobox_model::channel::Address;
use twobox_system::blocking::blocking;

/// How often it is shown at most, however often a container writes it.
const PAUSE: Duration = Duration::from_millis(200);

/// What is known of those who look on.
#[derive(Debug, Default)]
pub(crate) struct Onlookers {
    /// What the living container holds, and where the answer to it goes.
    held: Vec<Held>,
    /// Whether its runner was told that somebody looks on; `None` if nobody knows.
    told: Option<bool>,
    /// Where something was shown last that may go on.
    shown: Option<Address>,
    /// When it may be shown next.
    next: Option<Instant>,
    /// Whether something came too early to be shown.
    waits: bool,
}

/// An attempt that a container works on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    message: MessageId,
    attempt: i64,
    address: Address,
}

impl Onlookers {
    /// Returns when something is to be shown that came too early.
    pub(crate) async fn due(&self) {
        match self.next.filter(|_| self.waits) {
            Some(next) => sleep_until(next).await,
            None => std::future::pending().await,
        }
    }
}

impl Task {
    /// Notes what the living container holds, of the `claims` among what waits.
    pub(crate) fn note_held(&mut self, snapshot: &BoxSnapshot, claims: &[(MessageId, i64)]) {
        let held = claims.iter().filter_map(|(id, attempt)| {
            let message = snapshot.pending.iter().find(|message| message.id == *id)?;
            let address = address_of_origin(&message.origin, &self.reply_address);
            Some(Held { message: id.clone(), attempt: *attempt, address })
        });
        self.onlookers.held = held.collect();
    }

    /// Tells the runner whether somebody looks on, and whoever does if nothing is worked on any more.
    pub(crate) async fn mind_onlookers(&mut self) {
        if self.container.is_none() {
            self.onlookers.held.clear();
        }
        let is_watched = self.onlookers.held.iter().any(|held| self.is_watched(&held.address));
        if self.onlookers.told != Some(is_watched) {
            let boxes = Arc::clone(&self.boxes);
            let told = blocking(move || boxes.tell_watched(is_watched)).await;
            self.onlookers.told = told.is_ok().then_some(is_watched);
        }
        let goes_on = |shown: &Address| self.onlookers.held.iter().any(|it| it.address == *shown);
        if self.onlookers.shown.as_ref().is_some_and(|shown| !goes_on(shown)) {
            self.show_over();
        }
        if is_watched && !self.watched {
            self.show_progress().await; // no event says that it has changed
        }
    }

    fn is_watched(&self, address: &Address) -> bool {
        let channel = self.core.parts.channels.get(address.channel_type.as_str());
        channel.is_some_and(|channel| channel.is_watched(address))
    }

    /// Shows what the container says that it is at, if it may say so.
    pub(crate) async fn show_progress(&mut self) {
        self.onlookers.waits = false;
        if !self.onlookers.held.iter().any(|held| self.is_watched(&held.address)) {
            return;
        }
        let now = Instant::now();
        if self.onlookers.next.is_some_and(|next| now < next) {
            self.onlookers.waits = true;
            return;
        }
        self.onlookers.next = Some(now + PAUSE);
        let path = self.boxes.paths().progress();
        let read = self.at_its_expense(move || Progress::read_untrusted(&path)).await;
        let Some(progress) = read else { return self.show_over() };
        let is_it =
            |held: &&Held| held.message == progress.message && held.attempt == progress.attempt;
        let Some(held) = self.onlookers.held.iter().find(is_it) else { return };
        let address = held.address.clone();
        if let Some(channel) = self.core.parts.channels.get(address.channel_type.as_str()) {
            channel.show(&address, Some(&progress));
            self.onlookers.shown = Some(address);
        }
    }

    fn show_over(&mut self) {
        let Some(address) = self.onlookers.shown.take() else { return };
        if let Some(channel) = self.core.parts.channels.get(address.channel_type.as_str()) {
            channel.show(&address, None);
        }
    }

    /// Whether the container says anew what it is at; it is said once.
    pub(crate) fn takes_progress(&self) -> bool {
        self.handle.signal.take_only(Reason::Progress)
    }
}
