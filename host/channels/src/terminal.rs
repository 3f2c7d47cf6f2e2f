//! The terminal channel: messages for whoever listens at the socket.
//!
//! A listener names an agent and perhaps a thread, and gets the messages for exactly that. A message
//! is delivered when a listener has acknowledged its key, and not before: a line in a socket's
//! buffer has reached nobody. Nobody there means [`Outcome::Unavailable`], which costs nothing; a
//! listener that stays silent is disconnected, so that it cannot use up a message's attempts.
//!
//! Not here: lines, sockets and connections (`socket`), and the keys that a client has shown.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;
use twobox_shared::bounds::{self, TooMuch};
use twobox_shared::progress::Progress;

use super::Channel;
use super::socket::Event;
use twobox_model::channel::{Address, Capabilities, Outbound, Outcome, TERMINAL};
use twobox_system::lock::lock;

/// How long a listener may take to acknowledge a message.
pub const ACK_PATIENCE: Duration = Duration::from_secs(10);

/// What is listened to: an agent, and a thread or the chat itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Audience {
    pub(super) agent: String,
    pub(super) thread: Option<String>,
}

impl Audience {
    /// Who is meant by an address of this channel.
    fn at(address: &Address) -> Self {
        Self { agent: address.platform_id.clone(), thread: address.thread_id.clone() }
    }

    /// The audience as an address of this channel.
    pub(super) fn address(&self) -> Address {
        Address {
            channel_type: TERMINAL.to_owned(),
            platform_id: self.agent.clone(),
            thread_id: self.thread.clone(),
        }
    }
}

/// Names one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ListenerId(u64);

/// How a message reaches a connection, and how the connection is told to end.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) queue: mpsc::Sender<Event>,
    pub(super) dismissed: Arc<Notify>,
}

/// The terminal channel. One for the daemon, shared with the socket server.
#[derive(Debug)]
pub struct Terminal {
    state: Mutex<State>,
    patience: Duration,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    listeners: HashMap<ListenerId, Listener>,
    /// To how many addresses each listens.
    listens: HashMap<ListenerId, usize>,
    /// In the order in which they came.
    by_audience: HashMap<Audience, Vec<ListenerId>>,
    /// Who of them wants to be shown what an agent is at.
    onlookers: HashMap<Audience, Vec<ListenerId>>,
    /// Messages under way, by key.
    pending: HashMap<String, Pending>,
}

#[derive(Debug)]
struct Pending {
    /// The call of `deliver` that waits for it.
    call: u64,
    /// Who has it and may acknowledge it.
    holders: HashSet<ListenerId>,
    acknowledged: oneshot::Sender<()>,
}

impl Default for Terminal {
    fn default() -> Self {
        Self::with_patience(ACK_PATIENCE)
    }
}

impl Terminal {
    /// A terminal channel that nobody listens to yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Terminal::new`], with another time than [`ACK_PATIENCE`], for tests.
    pub fn with_patience(patience: Duration) -> Self {
        Self { state: Mutex::default(), patience }
    }

    /// Every change below is one that a panic cannot leave half done.
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Enters a connection, which listens to nothing yet.
    pub(super) fn enter(&self, listener: Listener) -> ListenerId {
        let mut state = self.state();
        let id = ListenerId(state.fresh());
        state.listeners.insert(id, listener);
        id
    }

    /// From now on `id` gets the messages for `audience`, and with `progress` what its agent is at.
    ///
    /// # Errors
    /// [`TooMuch`] if it listens to [`bounds::LISTENS`] others.
    pub(super) fn listen(
        &self,
        id: ListenerId,
        audience: Audience,
        progress: bool,
    ) -> Result<(), TooMuch> {
        let mut state = self.state();
        if state.by_audience.get(&audience).is_some_and(|there| there.contains(&id)) {
            return Ok(());
        }
        let count = state.listens.entry(id).or_default();
        bounds::LISTENS.check("this connection", *count + 1)?;
        *count += 1;
        if progress {
            state.onlookers.entry(audience.clone()).or_default().push(id);
        }
        state.by_audience.entry(audience).or_default().push(id);
        Ok(())
    }

    /// `id` has shown the message with this key. Returns whether somebody waited for that.
    pub(super) fn acknowledge(&self, id: ListenerId, key: &str) -> bool {
        let mut state = self.state();
        if !state.pending.get(key).is_some_and(|pending| pending.holders.contains(&id)) {
            return false;
        }
        let pending = state.pending.remove(key).expect("it was there a line ago");
        pending.acknowledged.send(()).is_ok()
    }

    /// `id` is gone; messages that only it had are nobody's.
    pub(super) fn leave(&self, id: ListenerId) {
        let mut state = self.state();
        let state = &mut *state;
        state.listeners.remove(&id);
        state.listens.remove(&id);
        for all in [&mut state.by_audience, &mut state.onlookers] {
            all.retain(|_, there| {
                there.retain(|other| *other != id);
                !there.is_empty()
            });
        }
        state.pending.retain(|_, pending| {
            pending.holders.remove(&id);
            !pending.holders.is_empty() // dropping the sender tells the waiting call
        });
    }

    async fn hand_over(&self, audience: &Audience, outbounds: Vec<Outbound>) -> Vec<Outcome> {
        let call = self.state().fresh();
        let _forget = Forget { terminal: self, call };
        let there = self.state().at(audience);
        if there.is_empty() {
            return vec![Outcome::Unavailable];
        }
        // Announced before they are sent: an acknowledgement never finds nobody waiting.
        let waiting: Vec<_> = outbounds
            .iter()
            .map(|outbound| self.state().announce(call, &outbound.key, &there))
            .collect();
        let sending = there.iter().map(|(_, listener)| send_all(listener, &outbounds));
        let receiving = async {
            let mut outcomes = Vec::with_capacity(waiting.len());
            for acknowledged in waiting {
                let outcome = match timeout(self.patience, acknowledged).await {
                    Ok(Ok(())) => Outcome::Delivered { platform_message_id: None },
                    Ok(Err(_gone)) => self.after_departure(audience),
                    Err(_silent) => {
                        self.dismiss(call);
                        let error = format!(
                            "the terminal did not acknowledge the message within {:?}",
                            self.patience
                        );
                        Outcome::Transient { error, retry_after: None }
                    }
                };
                let delivered = matches!(outcome, Outcome::Delivered { .. });
                outcomes.push(outcome);
                if !delivered {
                    break;
                }
            }
            outcomes
        };
        // Sending to a listener that does not read never ends; what counts is the receiving half.
        let sending = futures_util::future::join_all(sending);
        tokio::pin!(receiving);
        tokio::select! {
            outcomes = &mut receiving => outcomes,
            _ = sending => receiving.await,
        }
    }

    /// Nobody holds the message any more. Somebody who came meanwhile was announced as ready before
    /// this call ended, so the host has to try again by itself.
    fn after_departure(&self, audience: &Audience) -> Outcome {
        match self.state().at(audience).is_empty() {
            true => Outcome::Unavailable,
            false => Outcome::Transient {
                error: "the terminal left and another came".to_owned(),
                retry_after: Some(Duration::ZERO),
            },
        }
    }

    /// Disconnects everybody who owes `call` an acknowledgement.
    fn dismiss(&self, call: u64) {
        let state = self.state();
        let silent: HashSet<ListenerId> = state
            .pending
            .values()
            .filter(|pending| pending.call == call)
            .flat_map(|pending| pending.holders.iter().copied())
            .collect();
        for listener in silent.iter().filter_map(|id| state.listeners.get(id)) {
            listener.dismissed.notify_one();
        }
    }
}

impl State {
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn at(&self, audience: &Audience) -> Vec<(ListenerId, Listener)> {
        let ids = self.by_audience.get(audience).map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(|id| Some((*id, self.listeners.get(id)?.clone()))).collect()
    }

    fn announce(
        &mut self,
        call: u64,
        key: &str,
        there: &[(ListenerId, Listener)],
    ) -> oneshot::Receiver<()> {
        let (acknowledged, waiting) = oneshot::channel();
        // Whoever left since `there` was read is no holder, or nobody would ever be told.
        let holders: HashSet<_> =
            there.iter().map(|(id, _)| *id).filter(|id| self.listeners.contains_key(id)).collect();
        if !holders.is_empty() {
            self.pending.insert(key.to_owned(), Pending { call, holders, acknowledged });
        }
        waiting
    }
}

async fn send_all(listener: &Listener, outbounds: &[Outbound]) {
    for outbound in outbounds {
        if listener.queue.send(Event::message(outbound)).await.is_err() {
            return; // it is leaving, and `leave` tells the waiting call
        }
    }
}

/// Forgets a call's messages when it ends, also when it is dropped in the middle.
struct Forget<'a> {
    terminal: &'a Terminal,
    call: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.terminal.state().pending.retain(|_, pending| pending.call != self.call);
    }
}

impl Channel for Terminal {
    fn capabilities(&self) -> Capabilities {
        Capabilities { keys: true, threads: true, typing: true, ..Capabilities::TEXT }
    }

    fn deliver<'a>(
        &'a self,
        address: &'a Address,
        outbounds: Vec<Outbound>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            if outbounds.is_empty() {
                return Vec::new();
            }
            self.hand_over(&Audience::at(address), outbounds).await
        })
    }

    fn is_watched(&self, address: &Address) -> bool {
        self.state().onlookers.contains_key(&Audience::at(address))
    }

    fn show(&self, address: &Address, progress: Option<&Progress>) {
        let audience = Audience::at(address);
        let state = self.state();
        for id in state.onlookers.get(&audience).into_iter().flatten() {
            let Some(listener) = state.listeners.get(id) else { continue };
            let Audience { agent, thread } = audience.clone();
            let event = Event::Progress { agent, thread, progress: progress.cloned() };
            // Whoever has not read what came before misses it.
            drop(listener.queue.try_send(event));
        }
    }
}
