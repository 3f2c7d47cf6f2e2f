//! Channels: how rows of an outbox reach people. A channel is told a batch of messages for one
//! destination and says, message by message, what became of them. What comes in goes to an [`Intake`], so
//! that no channel knows sessions or `host.db`.

pub mod bridge;
pub mod command;
#[cfg(test)]
mod conformance;
pub mod discord;
pub mod email;
pub mod format;
pub mod guide;
pub mod health;
pub mod hears;
pub mod http;
pub mod instance;
pub mod irc;
pub mod kinds;
pub mod life;
pub mod matrix;
mod media;
mod parcel;
pub mod parts;
mod pauses;
pub mod slack;
pub mod socket;
pub mod staged;
mod state;
pub mod telegram;
pub mod terminal;
mod typing;
pub mod webhook;
pub mod websocket;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::progress::Progress;

use instance::Surroundings;
use twobox_model::approval::{Approval, ApprovalOrder};
use twobox_model::channel::{
    Address, Asked, Capabilities, Inbound, Outbound, Outcome, Receipt, Refusal, ScheduleOrder,
    Stopped,
};
use twobox_model::dead_letter::{DeadLetterOrder, Handled};

/// One way out, and perhaps in. What is the same for all, its id, its life and how it does, is
/// [`instance::Instance`]'s.
pub trait Channel: Send + Sync {
    /// What it can do. Nothing that changes while it lives.
    fn capabilities(&self) -> Capabilities;

    /// Lives until it is told to stop, and says when it is up and down. One that only takes what it is
    /// handed is up all the time.
    ///
    /// # Errors
    /// Why it ended by itself, for people. It is begun anew after a pause.
    fn run(&self, mut surroundings: Surroundings) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            surroundings.up();
            surroundings.stopped().await;
            Ok(())
        })
    }

    /// Hands over `messages` in order, all for `address`. Returns an outcome for each one that was
    /// tried: the first that is not [`Outcome::Delivered`] ends the batch.
    fn deliver<'a>(
        &'a self,
        address: &'a Address,
        outbounds: Vec<Outbound>,
    ) -> BoxFuture<'a, Vec<Outcome>>;

    /// The message with this key waits no more, whoever decided so: it was kept for too long, may not be
    /// sent any more, or was taken.
    fn forget(&self, _key: &str) {}

    /// Whether somebody at `address` looks on while an agent works.
    fn is_watched(&self, _address: &Address) -> bool {
        false
    }

    /// Shows those what an agent is at, or that it is at it no more. It is no message: what is not shown
    /// is lost. `progress` is what a container wrote, within bounds.
    fn show(&self, _address: &Address, _progress: Option<&Progress>) {}

    /// Where one of the host's own doors leads to it, if one does.
    fn door(&self) -> Option<Door> {
        None
    }

    /// How it does, if somebody looks after that.
    fn health(&self) -> Option<health::Health> {
        None
    }
}

/// Sends `outbounds` one after the other by `send`, up to the first that is not delivered: nothing overtakes it.
async fn in_order<'a, S: Future<Output = Outcome>>(
    outbounds: &'a [Outbound],
    send: impl Fn(&'a Outbound) -> S,
) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(outbounds.len());
    for outbound in outbounds {
        let outcome = send(outbound).await;
        let delivered = matches!(outcome, Outcome::Delivered { .. });
        outcomes.push(outcome);
        if !delivered {
            break;
        }
    }
    outcomes
}

/// What of a channel the host's own doors need: their clients are its platform.
pub enum Door {
    /// A program that connects to the socket sits there.
    Bridge(Arc<bridge::Seat>),
    /// What is posted to the HTTP API is looked at there.
    Webhook(Arc<webhook::Hook>),
}

/// Where channels hand in what people said, and say that somebody is there.
pub trait Intake: Send + Sync {
    /// Accepts a message: when this returns `Ok`, it is durable. One receipt for each agent that
    /// listens there.
    ///
    /// # Errors
    /// [`Refusal`]; nothing was stored.
    fn accept(&self, message: Inbound) -> BoxFuture<'_, Result<Vec<Receipt>, Refusal>>;

    /// Whether an agent would be given what came with `message` if it were handed in now. Whoever fetches files asks
    /// first, for what strangers send is not fetched.
    fn takes_files<'a>(&'a self, message: &'a Inbound) -> BoxFuture<'a, bool>;

    /// What became of the question whose code begins `text`, which was said at `address` in the message with this
    /// id, and was accepted: for whoever shows buttons.
    fn asked<'a>(
        &'a self,
        address: &'a Address,
        id: &'a MessageId,
        text: &'a str,
    ) -> BoxFuture<'a, Asked>;

    /// Messages for `address` can be delivered again: rows that were held for it are due.
    fn ready(&self, address: &Address);

    /// The channel with this id takes messages again: what was held for it is due.
    fn up(&self, channel: &str);
}

/// What a person may ask of the running host.
pub trait Operations: Send + Sync {
    /// The daemon's state, for `twobox status`.
    fn status(&self) -> BoxFuture<'_, Value>;

    /// Gives the failed messages of a session, or one of them, new attempts, and lifts a
    /// quarantine. Returns how many messages will be tried again.
    ///
    /// # Errors
    /// A sentence for people.
    fn retry(
        &self,
        session: SessionId,
        message: Option<MessageId>,
    ) -> BoxFuture<'_, Result<usize, String>>;

    /// Lets a session's container go, so that the next turn has a fresh one. What it works on is tried
    /// again, and nobody is charged. Returns whether there was one.
    ///
    /// # Errors
    /// A sentence for people.
    fn restart(&self, session: SessionId) -> BoxFuture<'_, Result<bool, String>>;

    /// Has a message worked on no longer; with `force` the container that goes on with it is stopped.
    ///
    /// # Errors
    /// A sentence for people.
    fn stop(
        &self,
        session: SessionId,
        message: MessageId,
        force: bool,
    ) -> BoxFuture<'_, Result<Stopped, String>>;

    /// Carries out a person's order about schedules that needs the running host.
    ///
    /// # Errors
    /// A sentence for people.
    fn schedules(&self, order: ScheduleOrder) -> BoxFuture<'_, Result<Value, String>>;

    /// Carries out a person's decision about what an agent asks. Returns it as it is then.
    ///
    /// # Errors
    /// A sentence for people: nothing was changed.
    fn decide(&self, order: ApprovalOrder) -> BoxFuture<'_, Result<Approval, String>>;

    /// Carries out a person's order about what ended without success in a session, and says what
    /// became of each thing.
    ///
    /// # Errors
    /// A sentence for people.
    fn dead(
        &self,
        session: SessionId,
        order: DeadLetterOrder,
    ) -> BoxFuture<'_, Result<Vec<Handled>, String>>;
}
