//! How a channel does: whether it is up, what it refused last and since when, how many messages wait for
//! it, and how long its calls under way take. Values, and how they change; `instance` keeps them.

use std::collections::HashMap;

use serde::Serialize;
use twobox_shared::content::shorten;
use twobox_shared::time::UnixMillis;

use crate::life::Life;
use twobox_model::channel::{Capabilities, Outcome};

/// How many messages that wait are told apart; more are only fewer than there are.
const WAITING_MAX: usize = 10_000;

/// The longest error that is kept, in characters.
const ERROR_MAX: usize = 300;

/// How a channel does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The kind of the channel.
    pub kind: &'static str,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Whether it takes messages.
    #[serde(flatten)]
    pub life: Life,
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

/// What was seen of a channel.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) life: Life,
    pub(super) trouble: Option<Trouble>,
    /// When each message was refused first, by its key.
    pub(super) waiting: HashMap<String, UnixMillis>,
    calls: HashMap<u64, UnixMillis>,
    next_call: u64,
}

impl Seen {
    /// Takes in what a channel said of messages, in their order.
    pub(super) fn take_in(
        &mut self,
        chat: &str,
        keys: &[String],
        outcomes: &[Outcome],
        now: UnixMillis,
    ) {
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

    /// A message that is over waits no more. Of what went wrong that says nothing.
    pub(super) fn forget(&mut self, key: &str) {
        self.waiting.remove(key);
    }

    /// A call begins; returns its number.
    pub(super) fn begin(&mut self, now: UnixMillis) -> u64 {
        self.next_call += 1;
        self.calls.insert(self.next_call, now);
        self.next_call
    }

    /// A call has ended.
    pub(super) fn end(&mut self, number: u64) {
        self.calls.remove(&number);
    }

    /// How the channel does, which is of this `kind` and can do so much.
    pub(super) fn health(&self, kind: &'static str, capabilities: Capabilities) -> Health {
        Health {
            kind,
            capabilities,
            life: self.life.clone(),
            trouble: self.trouble.clone(),
            waiting: self.waiting.len(),
            waiting_since: self.waiting.values().min().copied(),
            calls: self.calls.len(),
            calling_since: self.calls.values().min().copied(),
        }
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
        let mut state = Seen::default();
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
