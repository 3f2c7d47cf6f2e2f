//! When each chat is tried again that takes nothing, or of which nothing can be read, at the moment.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use twobox_model::backoff::Backoff;

/// The pauses of a chat. How many may come is bounded by how many chats are kept.
pub(crate) const PAUSE: Backoff =
    Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

/// The chats that wait.
#[derive(Debug)]
pub(crate) struct Pauses {
    backoff: Backoff,
    chats: HashMap<String, (i64, Instant)>,
}

impl Pauses {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { backoff, chats: HashMap::new() }
    }

    /// How long nothing has to be tried, at most `most`.
    pub(crate) fn left(&self, most: Duration) -> Duration {
        let now = Instant::now();
        let next = self.chats.values().map(|(_, next)| next.saturating_duration_since(now)).min();
        next.map_or(most, |next| next.min(most))
    }

    pub(crate) fn is_due(&self, chat: &str, now: Instant) -> bool {
        self.chats.get(chat).is_none_or(|(_, next)| *next <= now)
    }

    /// It is tried again after a pause that grows, and not before `wait` is over, if its platform asks for that.
    pub(crate) fn fail(&mut self, chat: &str, now: Instant, wait: Option<Duration>) {
        let failures = self.chats.get(chat).map_or(0, |(failures, _)| *failures) + 1;
        let pause = self.backoff.after(failures).max(wait.unwrap_or_default());
        self.chats.insert(chat.to_owned(), (failures, now + pause));
    }

    /// There is more of it, and it goes on after `pause`.
    pub(crate) fn go_on(&mut self, chat: &str, now: Instant, pause: Duration) {
        self.chats.insert(chat.to_owned(), (0, now + pause));
    }

    /// It waits no more.
    pub(crate) fn end(&mut self, chat: &str) {
        self.chats.remove(chat);
    }

    /// Only chats that are so wait any longer.
    pub(crate) fn retain(&mut self, is: impl Fn(&str) -> bool) {
        self.chats.retain(|chat, _| is(chat));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_that_takes_nothing_is_tried_less_and_less_often() {
        let mut pauses = Pauses::new(PAUSE);
        let most = Duration::from_secs(30);
        let now = Instant::now();
        assert_eq!((pauses.left(most), pauses.is_due("r", now)), (most, true));
        pauses.fail("r", now, None);
        assert!(!pauses.is_due("r", now) && pauses.is_due("r", now + PAUSE.first));
        assert!(pauses.left(most) <= PAUSE.first);
        (0..9).for_each(|_| pauses.fail("r", now, None));
        assert!(!pauses.is_due("r", now + PAUSE.most / 2) && pauses.is_due("s", now));
        pauses.fail("r", now, Some(PAUSE.most * 2));
        assert!(!pauses.is_due("r", now + PAUSE.most), "the platform wants a longer one");
        pauses.go_on("r", now, Duration::ZERO);
        assert!(pauses.is_due("r", now));
        assert_eq!(pauses.left(most), Duration::ZERO);
        pauses.retain(|chat| chat != "r");
        assert_eq!(pauses.left(most), most);
    }
}
