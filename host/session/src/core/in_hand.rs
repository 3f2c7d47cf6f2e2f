//! What channels have in their hands of what people are asked: it may have been shown, which nothing says yet that
//! is durable. Every session that hears the chat has to know that, whichever asks.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use twobox_shared::ids::{ApprovalId, SessionId};
use twobox_system::lock::lock;

/// What was handed to a channel whose outcome is not recorded yet, and by whom. After a restart of the host that is
/// nothing: what is not recorded is sent once more.
#[derive(Debug, Default)]
pub(crate) struct InHand(Mutex<HashMap<ApprovalId, SessionId>>);

impl InHand {
    /// `session` is about to hand these to a channel.
    pub(crate) fn add(&self, session: SessionId, asked: impl Iterator<Item = ApprovalId>) {
        lock(&self.0).extend(asked.map(|id| (id, session)));
    }

    /// What became of these is recorded: that says from now on whether they were shown.
    pub(crate) fn over(&self, asked: impl Iterator<Item = ApprovalId>) {
        let mut all = lock(&self.0);
        for id in asked {
            all.remove(&id);
        }
    }

    /// All of them. Whoever reads records too reads them after this: what has left in between is recorded.
    pub(crate) fn all(&self) -> HashSet<ApprovalId> {
        lock(&self.0).keys().copied().collect()
    }

    /// The session is no more.
    pub(super) fn forget(&self, session: SessionId) {
        lock(&self.0).retain(|_, asks| *asks != session);
    }
}

#[cfg(test)]
mod tests {
    use twobox_shared::ids::SystemIds;

    use super::*;

    #[test]
    fn what_was_handed_over_is_known_until_its_outcome_is_recorded_or_its_session_is_gone() {
        let in_hand = InHand::default();
        let [ada, bob] = [0; 2].map(|_| SessionId::generate(&SystemIds));
        let [one, two, three] = [0; 3].map(|_| ApprovalId::generate(&SystemIds));
        in_hand.add(ada, [one, two].into_iter());
        in_hand.add(bob, [three].into_iter());
        in_hand.add(ada, [one].into_iter());
        assert_eq!(in_hand.all(), HashSet::from([one, two, three]));
        in_hand.over([one].into_iter());
        assert_eq!(in_hand.all(), HashSet::from([two, three]));
        in_hand.forget(ada);
        assert_eq!(in_hand.all(), HashSet::from([three]));
    }
}
