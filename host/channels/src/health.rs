//! How a channel does: what it refused last and since when, how many messages wait for it, and how
//! long its calls under way take. Each channel of the daemon is wrapped in one [`Observed`], which
//! changes nothing of what it says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::future::BoxFuture;
use serde::Serialize;
use twobox_shared::clock::Clock;
use twobox_shared::content::shorten;
use twobox_shared::time::UnixMillis;

use super::Channel;
use twobox_model::channel::{Address, Outbound, Outcome};
use twobox_system::lock::lock;
use twobox_system::repeat::Repeats;

/// How many messages that wait are told apart; more are only fewer than there are.
const WAITING_MAX: usize = 10_000;

/// The longest error that is kept, in characters.
const ERROR_MAX: usize = 300;

/// How a channel does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// What went wrong last, unless something has gone well since.
    pub trouble: Option<Trouble>,
    /// Messages that it refused for now and that are tried again.
    pub waiting: usize,
    /// When the first of them was refused for the first time.
    pub waiting_since: Option<UnixMillis>,
    /// Calls under way.
    pub calls: usize,
    /// Since when the longest of them is.
    pub calling_since: Option<UnixMillis>,
}

/// Something that goes wrong, again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// The last error.
    pub error: String,
    /// The last chat that it was about.
    pub chat: String,
    /// When it was.
    pub at: UnixMillis,
    /// When the first error since the last success was.
    pub since: UnixMillis,
    /// How many there were since.
    pub times: u64,
}

#[derive(Debug, Default)]
struct State {
    trouble: Option<Trouble>,
    /// When each message was refused first, by its key.
    waiting: HashMap<String, UnixMillis>,
    calls: HashMap<u64, UnixMillis>,
    next_call: u64,
}

impl State {
    /// Takes in what a channel said of messages, in their order.
    fn take_in(&mut self, chat: &str, keys: &[String], outcomes: &[Outcome], now: UnixMillis) {
        for (key, outcome) in keys.iter().zip(outcomes) {
            let error = match outcome {
                Outcome::Delivered { .. } => {
                    self.waiting.remove(key);
                    self.trouble = None;
                    continue;
                }
                // That nobody is there is no trouble of the channel.
                Outcome::Unavailable => continue,
                Outcome::Transient { error, .. } => {
                    if self.waiting.len() < WAITING_MAX {
                        self.waiting.entry(key.clone()).or_insert(now);
                    }
                    error
                }
                Outcome::Permanent { error } | Outcome::Uncertain { error } => {
                    self.waiting.remove(key);
                    error
                }
            };
            let (since, times) =
                self.trouble.as_ref().map_or((now, 0), |trouble| (trouble.since, trouble.times));
            self.trouble = Some(Trouble {
                error: shorten(error, ERROR_MAX),
                chat: chat.to_owned(),
                at: now,
                since,
                times: times + 1,
            });
        }
    }
}

impl State {
    /// A message that is over waits no more. Of what went wrong that says nothing.
    fn forget(&mut self, key: &str) {
        self.waiting.remove(key);
    }
}

/// A channel under observation.
pub struct Observed {
    channel: Arc<dyn Channel>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// What the log was told. Errors may quote what an agent said, so a channel has a table of its own.
    logged: Repeats,
}

impl Observed {
    /// `channel`, of which nothing is known yet.
    pub fn new(channel: Arc<dyn Channel>, clock: Arc<dyn Clock>) -> Self {
        Self { channel, clock, state: Mutex::default(), logged: Repeats::default() }
    }

    /// Every change is one that a panic cannot leave half done.
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn begin(&self) -> Call<'_> {
        let mut state = self.state();
        state.next_call += 1;
        let number = state.next_call;
        state.calls.insert(number, self.clock.now());
        Call { observed: self, number }
    }

    fn end(&self, address: &Address, keys: &[String], outcomes: &[Outcome]) {
        let channel = self.channel.channel_type();
        let mut state = self.state();
        let before = state.trouble.as_ref().map(|trouble| trouble.times);
        state.take_in(&address.platform_id, keys, outcomes, self.clock.now());
        match (before, &state.trouble) {
            (_, Some(trouble)) if before != Some(trouble.times) => {
                if let Some(again) = self.logged.tell(&trouble.error, Instant::now()) {
                    tracing::warn!(
                        channel, chat = trouble.chat, error = trouble.error, waiting = state.waiting.len(),
                        since = %trouble.since, again, "a channel did not take a letter"
                    );
                }
            }
            (Some(times), None) => tracing::info!(channel, times, "a channel takes letters again"),
            _ => {}
        }
    }
}

/// A call under way, until it is dropped.
struct Call<'a> {
    observed: &'a Observed,
    number: u64,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.observed.state().calls.remove(&self.number);
    }
}

impl Channel for Observed {
    fn channel_type(&self) -> &'static str {
        self.channel.channel_type()
    }

    fn honours_keys(&self) -> bool {
        self.channel.honours_keys()
    }

    fn deliver<'a>(
        &'a self,
        address: &'a Address,
        outbounds: Vec<Outbound>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            let keys: Vec<String> = outbounds.iter().map(|outbound| outbound.key.clone()).collect();
            let call = self.begin();
            let outcomes = self.channel.deliver(address, outbounds).await;
            drop(call);
            self.end(address, &keys, &outcomes);
            outcomes
        })
    }

    fn forget(&self, key: &str) {
        self.state().forget(key);
        self.channel.forget(key);
    }

    fn health(&self) -> Option<Health> {
        let state = self.state();
        Some(Health {
            trouble: state.trouble.clone(),
            waiting: state.waiting.len(),
            waiting_since: state.waiting.values().min().copied(),
            calls: state.calls.len(),
            calling_since: state.calls.values().min().copied(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_counted_from_its_first_error_until_something_goes_well() {
        let transient =
            |error: &str| Outcome::Transient { error: error.to_owned(), retry_after: None };
        let delivered = || Outcome::Delivered { platform_message_id: None };
        let mut state = State::default();
        let mut say = |key: &str, outcome: Outcome, at: i64| {
            state.take_in("room", &[key.to_owned()], &[outcome], UnixMillis(at));
            let times = state.trouble.as_ref().map(|it| (it.since.0, it.times, it.error.clone()));
            (times, state.waiting.len())
        };
        assert_eq!(say("a", Outcome::Unavailable, 1), (None, 0), "nobody is there");
        assert_eq!(say("a", transient("full"), 2), (Some((2, 1, "full".into())), 1));
        assert_eq!(say("b", transient("full"), 3), (Some((2, 2, "full".into())), 2));
        let late = Outcome::Uncertain { error: "killed after 1m".into() };
        assert_eq!(say("b", late, 4), (Some((2, 3, "killed after 1m".into())), 1), "not again");
        assert_eq!(say("c", delivered(), 5), (None, 1), "another one still waits");
        assert_eq!(say("a", delivered(), 6), (None, 0));
        assert_eq!(say("d", transient("gone"), 7), (Some((7, 1, "gone".into())), 1));
        assert_eq!(say("e", transient("gone"), 8), (Some((7, 2, "gone".into())), 2));
        state.forget("d");
        assert_eq!(state.waiting.keys().collect::<Vec<_>>(), ["e"], "one was kept for too long");
        assert!(state.trouble.is_some(), "and the channel is as bad as before");
    }
}
