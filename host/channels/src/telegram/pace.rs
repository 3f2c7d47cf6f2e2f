//! How fast messages may leave: once a second in a chat, with a few at once, twenty a minute in a group, and
//! thirty a second in all; and later where Telegram wants a pause. Pure: whoever waits has the clock.
//!
//! Source: "My bot is hitting limits" in <https://core.telegram.org/bots/faq>.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How many may leave within so long.
#[derive(Debug, Clone, Copy)]
struct Rate {
    most: usize,
    within: Duration,
}

/// In all.
const ALL: Rate = Rate { most: 30, within: Duration::from_secs(1) };

/// In one chat. "Short bursts" are allowed there: how short is a guess.
const CHAT: Rate = Rate { most: 3, within: Duration::from_secs(3) };

/// In one group.
const GROUP: Rate = Rate { most: 20, within: Duration::from_secs(60) };

/// How many chats are remembered, before those are forgotten in which nothing was said for a while.
const CHATS_MAX: usize = 1_000;

/// When the last ones left, or will leave.
#[derive(Debug, Default)]
struct Past(VecDeque<Instant>);

impl Past {
    /// The first instant from `at` on at which another one may leave.
    fn next(&self, rate: Rate, at: Instant) -> Instant {
        let Some(index) = self.0.len().checked_sub(rate.most) else { return at };
        at.max(self.0[index] + rate.within)
    }

    fn note(&mut self, at: Instant, keep: usize) {
        self.0.push_back(at);
        while self.0.len() > keep {
            self.0.pop_front();
        }
    }
}

#[derive(Debug, Default)]
struct Chat {
    past: Past,
    /// Until when Telegram wants nothing there.
    paused: Option<Instant>,
}

/// The pace of one bot.
#[derive(Debug, Default)]
pub(super) struct Pace {
    all: Past,
    chats: HashMap<i64, Chat>,
}

impl Pace {
    /// Takes the next place for a message to `chat`, and says when it may leave.
    ///
    /// # Errors
    /// For how long Telegram wants nothing there: no place was taken.
    pub(super) fn take(&mut self, chat: i64, now: Instant) -> Result<Instant, Duration> {
        if let Some(pause) = self.paused(chat, now) {
            return Err(pause);
        }
        self.forget(now);
        let past = &mut self.chats.entry(chat).or_default().past;
        let mut at = past.next(CHAT, self.all.next(ALL, now));
        if chat < 0 {
            at = past.next(GROUP, at);
        }
        past.note(at, GROUP.most);
        self.all.note(at, ALL.most);
        Ok(at)
    }

    /// For how long Telegram wants nothing in `chat`, if it does.
    pub(super) fn paused(&self, chat: i64, now: Instant) -> Option<Duration> {
        let until = self.chats.get(&chat)?.paused?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Telegram wants nothing in `chat` for so long.
    pub(super) fn pause(&mut self, chat: i64, now: Instant, pause: Duration) {
        self.chats.entry(chat).or_default().paused = Some(now + pause);
    }

    fn forget(&mut self, now: Instant) {
        if self.chats.len() < CHATS_MAX {
            return;
        }
        let is_recent = |at: Instant| now.saturating_duration_since(at) < GROUP.within;
        self.chats.retain(|_, chat| {
            chat.past.0.back().copied().is_some_and(is_recent)
                || chat.paused.is_some_and(|it| it > now)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When messages leave, in milliseconds from the first, each of which asks for a place at once.
    fn times(chats: impl Iterator<Item = i64>) -> Vec<u128> {
        let (mut pace, now) = (Pace::default(), Instant::now());
        chats.map(|chat| (pace.take(chat, now).unwrap() - now).as_millis()).collect()
    }

    #[test]
    fn a_chat_gets_a_few_at_once_and_then_one_a_second() {
        let all = times(std::iter::repeat_n(1, 9));
        assert_eq!(all, [0, 0, 0, 3000, 3000, 3000, 6000, 6000, 6000]);
    }

    #[test]
    fn a_group_gets_twenty_in_any_minute() {
        let all = times(std::iter::repeat_n(-1, 100));
        for pair in all.windows(21) {
            assert!(pair[20] - pair[0] >= 60_000, "{pair:?}");
        }
        assert_eq!(all[19], 18_000);
        assert_eq!(all[20], 60_000);
    }

    #[test]
    fn all_together_get_thirty_a_second() {
        let all = times(1..=100);
        assert_eq!((all[29], all[30], all[60], all[99]), (0, 1000, 2000, 3000));
    }

    #[test]
    fn a_pause_is_kept_to_the_millisecond_and_is_of_one_chat() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.pause(1, now, Duration::from_secs(7));
        assert_eq!(pace.take(1, now), Err(Duration::from_secs(7)));
        assert_eq!(pace.take(1, now + Duration::from_millis(6_999)), Err(Duration::from_millis(1)));
        assert_eq!(pace.take(2, now), Ok(now));
        let over = now + Duration::from_secs(7);
        assert_eq!(pace.take(1, over), Ok(over));
    }

    #[test]
    fn chats_that_are_quiet_are_forgotten_and_nothing_else() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        for chat in 1..=CHATS_MAX as i64 {
            pace.take(chat, now).unwrap();
        }
        pace.pause(1, now, Duration::from_secs(600));
        let later = now + Duration::from_secs(200);
        pace.take(-5, later).unwrap();
        assert_eq!(pace.chats.len(), 2);
        assert!(pace.paused(1, later).is_some());
    }
}
