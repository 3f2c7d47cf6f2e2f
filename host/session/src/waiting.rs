//! Who waits for a channel that had nobody to take a letter, or may have to: from the moment at which
//! letters leave until their channel has said what became of them, and on if it was
//! [`twobox_model::channel::Outcome::Unavailable`]. So somebody who comes wakes those whom it may
//! concern, and nobody else, however many are awake. A session may sleep meanwhile.

use std::collections::{HashMap, HashSet};

use twobox_model::channel::Place;
use twobox_shared::ids::SessionId;

/// For how many places one session is known to wait. A container chooses threads as it likes: a
/// session with more waits for anybody, and pays for its looks itself.
const PLACES_MAX: usize = 64;

/// Who waits where.
#[derive(Debug, Default)]
pub struct Waiting {
    by_place: HashMap<Place, HashSet<SessionId>>,
    by_session: HashMap<SessionId, HashSet<Place>>,
    /// Those with more places than are kept.
    anywhere: HashSet<SessionId>,
}

impl Waiting {
    /// `session` waits for somebody at `place`.
    pub fn add(&mut self, session: SessionId, place: &Place) {
        let places = self.by_session.entry(session).or_default();
        if places.len() >= PLACES_MAX && !places.contains(place) {
            self.anywhere.insert(session);
            return;
        }
        if places.insert(place.clone()) {
            self.by_place.entry(place.clone()).or_default().insert(session);
        }
    }

    /// Whether nobody has come to `place` since `session` waits there. Of one that waits for anybody
    /// that is not known for each place, and `true` only for those that are kept.
    pub fn has(&self, session: SessionId, place: &Place) -> bool {
        self.by_place.get(place).is_some_and(|sessions| sessions.contains(&session))
    }

    /// Whether whoever comes to `place` will wake `session`.
    pub fn will_wake(&self, session: SessionId, place: &Place) -> bool {
        self.anywhere.contains(&session) || self.has(session, place)
    }

    /// `session` waits at `place` no longer.
    pub fn remove(&mut self, session: SessionId, place: &Place) {
        if let Some(places) = self.by_session.get_mut(&session) {
            places.remove(place);
            if places.is_empty() {
                self.by_session.remove(&session);
            }
        }
        if let Some(sessions) = self.by_place.get_mut(place) {
            sessions.remove(&session);
            if sessions.is_empty() {
                self.by_place.remove(place);
            }
        }
    }

    /// Somebody has come to `place`: returns whoever waited for that, and waits no longer.
    pub fn take(&mut self, place: &Place) -> HashSet<SessionId> {
        let mut all = self.by_place.get(place).cloned().unwrap_or_default();
        for session in &all {
            self.remove(*session, place);
        }
        all.extend(self.anywhere.drain());
        all
    }

    /// `session` is no more.
    pub fn forget(&mut self, session: SessionId) {
        let places = self.by_session.get(&session).cloned().unwrap_or_default();
        for place in &places {
            self.remove(session, place);
        }
        self.anywhere.remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::ids::SystemIds;

    fn place(thread: &str) -> Place {
        Place {
            channel_type: "terminal".to_owned(),
            platform_id: "anna".to_owned(),
            thread_id: Some(thread.to_owned()),
        }
    }

    #[test]
    fn whoever_comes_wakes_those_who_wait_there_and_each_once() {
        let [ann, bob] = [0; 2].map(|_| SessionId::generate(&SystemIds));
        let mut waiting = Waiting::default();
        for (session, thread) in [(ann, "a"), (bob, "b"), (bob, "a"), (bob, "a")] {
            waiting.add(session, &place(thread));
        }
        assert_eq!(waiting.take(&place("c")), HashSet::new());
        assert_eq!(waiting.take(&place("a")), HashSet::from([ann, bob]));
        assert_eq!(waiting.take(&place("a")), HashSet::new(), "they know");
        assert!(!waiting.has(bob, &place("a")) && waiting.has(bob, &place("b")));
        waiting.remove(bob, &place("b"));
        assert_eq!(waiting.take(&place("b")), HashSet::new());
        assert!(waiting.by_place.is_empty() && waiting.by_session.is_empty(), "{waiting:?}");
    }

    #[test]
    fn one_session_that_waits_everywhere_fills_no_memory_and_misses_nobody() {
        let session = SessionId::generate(&SystemIds);
        let mut waiting = Waiting::default();
        for thread in 0..10_000 {
            waiting.add(session, &place(&thread.to_string()));
        }
        assert_eq!(waiting.by_place.len(), PLACES_MAX);
        assert!(waiting.will_wake(session, &place("9999")));
        assert_eq!(waiting.take(&place("9999")), HashSet::from([session]));
        // Somebody came to one that is kept, and then it began to wait for anybody again.
        assert_eq!(waiting.take(&place("3")), HashSet::from([session]));
        waiting.add(session, &place("in its room"));
        waiting.add(session, &place("one too many"));
        assert!(!waiting.has(session, &place("3")), "its letters are tried again");
        assert!(waiting.has(session, &place("4")), "and nobody came there");
        waiting.forget(session);
        assert!(waiting.by_place.is_empty() && waiting.by_session.is_empty(), "{waiting:?}");
    }
}
