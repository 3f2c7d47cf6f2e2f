//! When each room is tried again that could not be read or entered.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use twobox_model::backoff::Backoff;

/// The pauses of a room. How many may come is bounded by how many rooms are kept.
pub(super) const PAUSE: Backoff =
    Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

/// The rooms that wait.
#[derive(Debug)]
pub(super) struct Pauses {
    backoff: Backoff,
    rooms: HashMap<String, (i64, Instant)>,
}

impl Pauses {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { backoff, rooms: HashMap::new() }
    }

    /// How long nothing has to be tried, at most `most`.
    pub(super) fn left(&self, most: Duration) -> Duration {
        let now = Instant::now();
        let next = self.rooms.values().map(|(_, next)| next.saturating_duration_since(now)).min();
        next.map_or(most, |next| next.min(most))
    }

    pub(super) fn is_due(&self, room: &str, now: Instant) -> bool {
        self.rooms.get(room).is_none_or(|(_, next)| *next <= now)
    }

    /// It is tried again after a pause that grows, and not before `wait` is over, if the homeserver asks for that.
    pub(super) fn fail(&mut self, room: &str, now: Instant, wait: Option<Duration>) {
        let failures = self.rooms.get(room).map_or(0, |(failures, _)| *failures) + 1;
        let pause = self.backoff.after(failures).max(wait.unwrap_or_default());
        self.rooms.insert(room.to_owned(), (failures, now + pause));
    }

    /// There is more of it, and it goes on after `pause`.
    pub(super) fn go_on(&mut self, room: &str, now: Instant, pause: Duration) {
        self.rooms.insert(room.to_owned(), (0, now + pause));
    }

    /// It waits no more.
    pub(super) fn end(&mut self, room: &str) {
        self.rooms.remove(room);
    }

    /// Only rooms that are so wait any longer.
    pub(super) fn retain(&mut self, is: impl Fn(&str) -> bool) {
        self.rooms.retain(|room, _| is(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_that_takes_nothing_is_tried_less_and_less_often() {
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
        assert!(!pauses.is_due("r", now + PAUSE.most), "the homeserver wants a longer one");
        pauses.go_on("r", now, Duration::ZERO);
        assert!(pauses.is_due("r", now));
        assert_eq!(pauses.left(most), Duration::ZERO);
        pauses.retain(|room| room != "r");
        assert_eq!(pauses.left(most), most);
    }
}
