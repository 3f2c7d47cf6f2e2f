//! Admission: which of the sessions that want a container may start one now. Pure state, without a
//! clock: the order of requests is all that it needs.
//!
//! At most `max_running` containers run. Waiting starts are served oldest first, chat before
//! scheduled work; no agent group may hold every place while another exists; and when places are
//! short, idle containers are asked to leave.

use std::collections::HashMap;

use twobox_shared::ids::{AgentGroupId, SessionId};

/// What a start is for. Earlier variants go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A person waits.
    Chat,
    /// A schedule fired.
    Scheduled,
}

/// What the holder of this state has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// This session has its place: start.
    Grant(SessionId),
    /// This session's container is idle and its place is wanted: ask it to leave.
    Evict(SessionId),
}

#[derive(Debug, Clone, Copy)]
struct Holder {
    group: AgentGroupId,
    idle: bool,
    leaving: bool,
}

#[derive(Debug, Clone, Copy)]
struct Waiter {
    session: SessionId,
    group: AgentGroupId,
    class: Class,
}

/// Who holds a place and who waits for one.
#[derive(Debug)]
pub struct Admission {
    max_running: usize,
    holders: HashMap<SessionId, Holder>,
    waiting: Vec<Waiter>,
}

impl Admission {
    /// With room for `max_running` containers.
    pub fn new(max_running: usize) -> Self {
        Self { max_running, holders: HashMap::new(), waiting: Vec::new() }
    }

    /// Asks for a place. Asking again while holding one changes nothing, and while waiting only if a
    /// person waits as well by now.
    pub fn request(&mut self, session: SessionId, group: AgentGroupId, class: Class) {
        if self.holders.contains_key(&session) {
            return;
        }
        if let Some(at) = self.waiting.iter().position(|waiter| waiter.session == session) {
            if self.waiting[at].class <= class {
                return;
            }
            self.waiting.remove(at);
        }
        let at = self.waiting.partition_point(|other| other.class <= class);
        self.waiting.insert(at, Waiter { session, group, class });
    }

    /// Counts a container that runs already, whether or not there is room for it.
    pub fn adopt(&mut self, session: SessionId, group: AgentGroupId) {
        self.waiting.retain(|waiter| waiter.session != session);
        self.holders.insert(session, Holder { group, idle: false, leaving: false });
    }

    /// Gives a place back, or stops waiting for one.
    pub fn release(&mut self, session: SessionId) {
        self.holders.remove(&session);
        self.waiting.retain(|waiter| waiter.session != session);
    }

    /// Says whether a holder's container has nothing to do.
    pub fn set_idle(&mut self, session: SessionId, idle: bool) {
        if let Some(holder) = self.holders.get_mut(&session) {
            holder.idle = idle;
            holder.leaving &= idle; // one that works again was not asked in time
        }
    }

    /// Whether `session` holds a place.
    pub fn holds(&self, session: SessionId) -> bool {
        self.holders.contains_key(&session)
    }

    /// How many hold a place, and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        (self.holders.len(), self.waiting.len())
    }

    /// What to do now. `several_groups` says whether the installation has more than one agent
    /// group. Granted places are taken at once; an order to leave is given once.
    pub fn orders(&mut self, several_groups: bool) -> Vec<Order> {
        let mut orders = Vec::new();
        let share = match several_groups && self.max_running > 1 {
            true => self.max_running - 1,
            false => self.max_running,
        };
        let mut kept = Vec::new();
        for waiter in std::mem::take(&mut self.waiting) {
            let room = self.holders.len() < self.max_running;
            if room && self.held_by(waiter.group) < share {
                let holder = Holder { group: waiter.group, idle: false, leaving: false };
                self.holders.insert(waiter.session, holder);
                orders.push(Order::Grant(waiter.session));
            } else {
                kept.push(waiter);
            }
        }
        self.waiting = kept;
        orders.extend(self.evictions(share));
        orders
    }

    /// For each waiter one idle holder whose place it could have, unless one is leaving already. A
    /// group that holds its share gets a place only from itself.
    fn evictions(&mut self, share: usize) -> Vec<Order> {
        let mut idle: Vec<(SessionId, Holder)> = self
            .holders
            .iter()
            .filter(|(_, holder)| holder.idle)
            .map(|(session, holder)| (*session, *holder))
            .collect();
        idle.sort_unstable_by_key(|(session, holder)| (!holder.leaving, *session));
        let mut orders = Vec::new();
        for waiter in &self.waiting {
            let only_own = self.held_by(waiter.group) >= share;
            let serves =
                |(_, holder): &(SessionId, Holder)| !only_own || holder.group == waiter.group;
            let Some(at) = idle.iter().position(serves) else { continue };
            let (session, holder) = idle.remove(at);
            if !holder.leaving {
                orders.push(Order::Evict(session));
            }
        }
        for order in &orders {
            if let Order::Evict(session) = order
                && let Some(holder) = self.holders.get_mut(session)
            {
                holder.leaving = true;
            }
        }
        orders
    }

    fn held_by(&self, group: AgentGroupId) -> usize {
        self.holders.values().filter(|holder| holder.group == group).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn session(n: u128) -> SessionId {
        SessionId::from_uuid(Uuid::from_u128(n))
    }

    fn group(n: u128) -> AgentGroupId {
        AgentGroupId::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn the_oldest_waits_least_and_chat_goes_before_scheduled_work() {
        let mut admission = Admission::new(1);
        admission.adopt(session(9), group(9));
        admission.request(session(1), group(1), Class::Scheduled);
        admission.request(session(2), group(1), Class::Chat);
        admission.request(session(3), group(2), Class::Chat);
        let mut served = Vec::new();
        for holder in [9, 2, 3] {
            admission.release(session(holder));
            served.extend(admission.orders(true));
        }
        assert_eq!(served, [2, 3, 1].map(|n| Order::Grant(session(n))));
    }

    #[test]
    fn a_session_that_waits_for_its_run_goes_with_the_chats_once_somebody_chats_there() {
        let mut admission = Admission::new(1);
        admission.adopt(session(9), group(9));
        admission.request(session(1), group(1), Class::Scheduled);
        admission.request(session(2), group(1), Class::Scheduled);
        admission.request(session(2), group(1), Class::Chat);
        admission.request(session(2), group(1), Class::Scheduled); // the person waits all the same
        admission.release(session(9));
        assert_eq!(admission.orders(true), [Order::Grant(session(2))]);
        assert_eq!(admission.counts(), (1, 1), "it waits once");
    }

    #[test]
    fn no_group_holds_every_place_while_there_is_another() {
        for (several, granted) in [(true, 2), (false, 3)] {
            let mut admission = Admission::new(3);
            for n in 0..5 {
                admission.request(session(n), group(1), Class::Chat);
            }
            assert_eq!(admission.orders(several).len(), granted, "several groups: {several}");
        }
        let mut one_place = Admission::new(1);
        one_place.request(session(1), group(1), Class::Chat);
        assert_eq!(one_place.orders(true).len(), 1, "a single place is not kept empty");
    }

    #[test]
    fn idle_containers_leave_when_places_are_short_and_are_asked_once() {
        let mut admission = Admission::new(2);
        admission.adopt(session(1), group(1));
        admission.adopt(session(2), group(1));
        admission.set_idle(session(2), true);
        admission.request(session(3), group(2), Class::Chat);
        assert_eq!(admission.orders(true), [Order::Evict(session(2))]);
        assert_eq!(admission.orders(true), []);
        admission.release(session(2));
        assert_eq!(admission.orders(true), [Order::Grant(session(3))]);
    }

    #[test]
    fn a_group_that_holds_its_share_gets_a_place_only_from_itself() {
        let mut admission = Admission::new(3);
        for (n, of) in [(1, 2), (2, 1), (3, 1)] {
            admission.adopt(session(n), group(of));
        }
        admission.set_idle(session(1), true);
        admission.request(session(4), group(1), Class::Chat);
        assert_eq!(admission.orders(true), [], "the other group's place would stay empty");
        admission.set_idle(session(3), true);
        assert_eq!(admission.orders(true), [Order::Evict(session(3))]);
    }

    #[test]
    fn asking_twice_takes_one_place() {
        let mut admission = Admission::new(2);
        admission.request(session(1), group(1), Class::Chat);
        admission.request(session(1), group(1), Class::Chat);
        assert_eq!(admission.orders(false), [Order::Grant(session(1))]);
        admission.request(session(1), group(1), Class::Chat);
        assert_eq!((admission.orders(false).len(), admission.counts()), (0, (1, 0)));
    }
}
