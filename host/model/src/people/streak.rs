//! Programs that answer programs: two agents in one chat, of whatever hosts, would answer each other for ever.
//! Whoever is the only one to speak in a group, many times in a row, is heard as context after that, until somebody
//! else speaks or there was a pause.

use std::time::Duration;

use twobox_shared::time::UnixMillis;

/// How many messages of one sender in a row start turns in a group.
pub const STREAK_MAX: u32 = 20;

/// The shortest time between two that count. Somebody who answers what an agent says takes as long at least; what comes
/// faster was said by and by, and is handed in at once by a host that was away.
const PACE: Duration = Duration::from_secs(1);

/// How long a pause ends a row.
pub const PAUSE: Duration = Duration::from_secs(2 * 60);

/// What one sender has said last in a group, with nobody else in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streak {
    sender: String,
    count: u32,
    last: UnixMillis,
    /// When the last one was said that counts.
    counted_at: UnixMillis,
}

impl Streak {
    /// What `sender` begins.
    pub fn new(sender: &str, now: UnixMillis) -> Self {
        Self { sender: sender.to_owned(), count: 1, last: now, counted_at: now }
    }

    /// With one more message.
    pub fn and(self, sender: &str, now: UnixMillis) -> Self {
        let goes_on = self.sender == sender && !self.is_over(now);
        match (goes_on, now.since(self.counted_at) >= PACE) {
            (true, true) => {
                Self { count: self.count.saturating_add(1), last: now, counted_at: now, ..self }
            }
            (true, false) => Self { last: now, ..self },
            (false, _) => Self::new(sender, now),
        }
    }

    /// Whether `sender` has begun it.
    pub fn is_of(&self, sender: &str) -> bool {
        self.sender == sender
    }

    /// Whether nothing of it counts any more.
    pub fn is_over(&self, now: UnixMillis) -> bool {
        now.since(self.last) >= PAUSE
    }

    /// Whether its last message starts no turn.
    pub fn is_too_long(&self) -> bool {
        self.count > STREAK_MAX
    }

    /// Whether its last message is the first that starts none.
    pub fn has_just_become_too_long(&self) -> bool {
        self.count == STREAK_MAX + 1 && self.counted_at == self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(said: &[(&str, u64)]) -> Streak {
        let at = |minute: u64| UnixMillis(0) + Duration::from_secs(60 * minute);
        let ((sender, minute), rest) = said.split_first().unwrap();
        let first = Streak::new(sender, at(*minute));
        rest.iter().fold(first, |streak, (sender, minute)| streak.and(sender, at(*minute)))
    }

    #[test]
    fn two_who_answer_each_other_end_by_themselves_and_people_go_on() {
        let row = |count: u64| (0..count).map(|n| ("bot", n)).collect::<Vec<_>>();
        let most = u64::from(STREAK_MAX);
        assert!(!after(&row(most)).is_too_long());
        assert!(after(&row(most + 1)).has_just_become_too_long());
        let longer = after(&row(most + 5));
        assert!(longer.is_too_long() && !longer.has_just_become_too_long(), "it is told once");
        let interrupted = [row(most), vec![("ann", most)], vec![("bot", most + 1)]].concat();
        assert!(!after(&interrupted).is_too_long(), "somebody else spoke");
        let second = |n: u64| UnixMillis(0) + Duration::from_millis(n * 10);
        let burst = (1..500).fold(Streak::new("ann", second(0)), |it, n| it.and("ann", second(n)));
        assert!(!burst.is_too_long(), "what was said while a host was away");
        let at = |ms: u64| UnixMillis(0) + Duration::from_millis(ms);
        let (mut streak, mut told) = (Streak::new("bot", at(0)), 0);
        for n in 1..400 {
            streak = streak.and("bot", at(n * 100));
            told += u32::from(streak.has_just_become_too_long());
        }
        assert!(streak.is_too_long() && told == 1, "quick ones, too, and it is told once");
        let pause = [row(most), vec![("bot", most + 10)]].concat();
        assert!(!after(&pause).is_too_long(), "there was a pause");
    }
}
