//! Who waits for a channel that had nobody to take an outbound message, or may have to: from the moment
//! at which outbound messages leave until their channel has said what became of them, and on if it was
//! [`twobox_model::channel::Outcome::Unavailable`]. So somebody who comes wakes those whom it may
//! concern, and nobody else, however many are awake. A session may sleep meanwhile.

use std::collections::{HashMap, HashSet};

use twobox_model::channel::Address;
use twobox_shared::ids::SessionId;

/// For how many addresses one session is known to wait. A container chooses threads as it likes: a
/// session with more waits for anybody, and pays for its looks itself.
const ADDRESSES_MAX: usize = 64;

/// Who waits where.
#[derive(Debug, Default)]
pub struct Waiting {
    by_address: HashMap<Address, HashSet<SessionId>>,
    by_session: HashMap<SessionId, HashSet<Address>>,
    /// Those with more addresses than are kept.
    anywhere: HashSet<SessionId>,
}

impl Waiting {
    /// `session` waits for somebody at `address`.
    pub fn add(&mut self, session: SessionId, address: &Address) {
        let addresses = self.by_session.entry(session).or_default();
        if addresses.len() >= ADDRESSES_MAX && !addresses.contains(address) {
            self.anywhere.insert(session);
            return;
        }
        if addresses.insert(address.clone()) {
            self.by_address.entry(address.clone()).or_default().insert(session);
        }
    }

    /// Whether nobody has come to `address` since `session` waits there. Of one that waits for anybody
    /// that is not known for each address, and `true` only for those that are kept.
    pub fn has(&self, session: SessionId, address: &Address) -> bool {
        self.by_address.get(address).is_some_and(|sessions| sessions.contains(&session))
    }

    /// Whether whoever comes to `address` will wake `session`.
    pub fn will_wake(&self, session: SessionId, address: &Address) -> bool {
        self.anywhere.contains(&session) || self.has(session, address)
    }

    /// `session` waits at `address` no longer.
    pub fn remove(&mut self, session: SessionId, address: &Address) {
        if let Some(addresses) = self.by_session.get_mut(&session) {
            addresses.remove(address);
            if addresses.is_empty() {
                self.by_session.remove(&session);
            }
        }
        if let Some(sessions) = self.by_address.get_mut(address) {
            sessions.remove(&session);
            if sessions.is_empty() {
                self.by_address.remove(address);
            }
        }
    }

    /// Somebody has come to `address`: returns whoever waited for that, and waits no longer.
    pub fn take(&mut self, address: &Address) -> HashSet<SessionId> {
        let mut all = self.by_address.get(address).cloned().unwrap_or_default();
        for session in &all {
            self.remove(*session, address);
        }
        all.extend(self.anywhere.drain());
        all
    }

    /// The channel with this id is up again: returns whoever waited at any address of it.
    pub fn take_channel(&mut self, channel: &str) -> HashSet<SessionId> {
        let of_it = |address: &&Address| address.channel_type == channel;
        let addresses: Vec<Address> = self.by_address.keys().filter(of_it).cloned().collect();
        let mut all: HashSet<SessionId> = self.anywhere.drain().collect();
        for address in addresses {
            all.extend(self.take(&address));
        }
        all
    }

    /// `session` is no more.
    pub fn forget(&mut self, session: SessionId) {
        let addresses = self.by_session.get(&session).cloned().unwrap_or_default();
        for address in &addresses {
            self.remove(session, address);
        }
        self.anywhere.remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::ids::SystemIds;

    fn address(thread: &str) -> Address {
        Address {
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
            waiting.add(session, &address(thread));
        }
        assert_eq!(waiting.take(&address("c")), HashSet::new());
        assert_eq!(waiting.take(&address("a")), HashSet::from([ann, bob]));
        assert_eq!(waiting.take(&address("a")), HashSet::new(), "they know");
        assert!(!waiting.has(bob, &address("a")) && waiting.has(bob, &address("b")));
        waiting.remove(bob, &address("b"));
        assert_eq!(waiting.take(&address("b")), HashSet::new());
        let elsewhere = Address { channel_type: "command".to_owned(), ..address("a") };
        waiting.add(ann, &address("a"));
        waiting.add(ann, &elsewhere);
        waiting.add(bob, &address("b"));
        assert_eq!(waiting.take_channel("terminal"), HashSet::from([ann, bob]));
        assert!(waiting.has(ann, &elsewhere), "of that channel alone");
        assert_eq!(waiting.take(&elsewhere), HashSet::from([ann]));
        assert!(waiting.by_address.is_empty() && waiting.by_session.is_empty(), "{waiting:?}");
    }

    #[test]
    fn one_session_that_waits_everywhere_fills_no_memory_and_misses_nobody() {
        let session = SessionId::generate(&SystemIds);
        let mut waiting = Waiting::default();
        for thread in 0..10_000 {
            waiting.add(session, &address(&thread.to_string()));
        }
        assert_eq!(waiting.by_address.len(), ADDRESSES_MAX);
        assert!(waiting.will_wake(session, &address("9999")));
        assert_eq!(waiting.take(&address("9999")), HashSet::from([session]));
        // Somebody came to one that is kept, and then it began to wait for anybody again.
        assert_eq!(waiting.take(&address("3")), HashSet::from([session]));
        waiting.add(session, &address("in its room"));
        waiting.add(session, &address("one too many"));
        assert!(!waiting.has(session, &address("3")), "its rows are tried again");
        assert!(waiting.has(session, &address("4")), "and nobody came there");
        waiting.forget(session);
        assert!(waiting.by_address.is_empty() && waiting.by_session.is_empty(), "{waiting:?}");
    }
}
