//! Admission: which of the sessions that want a container may start one now. Pure state, without a
//! clock: the order of requests is all that it needs.
//!
//! At most `max_running` containers run. Chat goes before scheduled work. Among equals the place goes
//! to whoever's chat and sender hold fewest in their agent group, and of those to whoever has waited
//! longest, where a chat and a sender wait since they got their last place: with a queue of threads
//! one takes turns with the others and is not always the oldest. No agent group may hold every place
//! while another exists; in what a group may hold, no chat may hold every place while the agent
//! listens to another, and no sender whom a channel names may. A place that is kept free in this way
//! stays free: somebody who comes finds it, however long the turns of the others are. Beyond that
//! no place stays empty while somebody waits. When places are short, idle containers are asked to
//! leave, those of the chat with most first.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use twobox_shared::ids::{AgentGroupId, MessagingGroupId, SessionId};

use twobox_model::seats::{Population, Seat, Sender};

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
pub enum AdmissionOrder {
    /// This session has its place: start.
    Grant(SessionId),
    /// This session's container is idle and its place is wanted: ask it to leave.
    Evict(SessionId),
}

#[derive(Debug, Clone, Copy)]
struct Holder {
    seat: Seat,
    idle: bool,
    leaving: bool,
}

#[derive(Debug, Clone, Copy)]
struct Waiter {
    session: SessionId,
    seat: Seat,
    class: Class,
    /// The event of its request.
    since: u64,
}

/// Who holds a place and who waits for one.
#[derive(Debug, Clone)]
pub struct Admission {
    max_running: usize,
    population: Population,
    holders: HashMap<SessionId, Holder>,
    /// By class, and within it the oldest first.
    waiting: Vec<Waiter>,
    /// Counts requests and grants.
    events: u64,
    /// The event of the last grant to each chat and sender that holds a place or waits for one.
    served: HashMap<Party, u64>,
}

/// One of those between whom places are shared within an agent group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Party {
    Chat(AgentGroupId, MessagingGroupId),
    Sender(AgentGroupId, Sender),
}

fn parties(seat: Seat) -> impl Iterator<Item = Party> {
    let sender = seat.sender.map(|sender| Party::Sender(seat.group, sender));
    [Party::Chat(seat.group, seat.chat)].into_iter().chain(sender)
}

impl Admission {
    /// With room for `max_running` containers.
    pub fn new(max_running: usize) -> Self {
        Self {
            max_running,
            population: Population::new(),
            holders: HashMap::new(),
            waiting: Vec::new(),
            events: 0,
            served: HashMap::new(),
        }
    }

    /// Says for whom places are to be kept.
    pub fn set_population(&mut self, population: Population) {
        self.population = population;
    }

    /// Asks for a place. Asking again while holding one changes nothing, and while waiting only if a
    /// person waits as well by now.
    pub fn request(&mut self, session: SessionId, seat: Seat, class: Class) {
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
        self.events += 1;
        self.waiting.insert(at, Waiter { session, seat, class, since: self.events });
    }

    /// Counts a container that runs already, whether or not there is room for it.
    pub fn adopt(&mut self, session: SessionId, seat: Seat) {
        self.waiting.retain(|waiter| waiter.session != session);
        self.holders.insert(session, Holder { seat, idle: false, leaving: false });
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

    /// What to do now. Granted places are taken at once; an order to leave is given once.
    pub fn orders(&mut self) -> Vec<AdmissionOrder> {
        let mut orders = Vec::new();
        let mut held = Held::of(self.holders.values().map(|holder| holder.seat));
        while self.holders.len() < self.max_running
            && let Some(at) = self.next(&held)
        {
            let Waiter { session, seat, .. } = self.waiting.remove(at);
            self.holders.insert(session, Holder { seat, idle: false, leaving: false });
            held.count(seat);
            self.events += 1;
            self.served.extend(parties(seat).map(|party| (party, self.events)));
            orders.push(AdmissionOrder::Grant(session));
        }
        if self.served.len() > 2 * (self.holders.len() + self.waiting.len()) {
            self.forget_departed();
        }
        orders.extend(self.evictions(&held));
        orders
    }

    /// Who neither holds nor waits comes back later than everybody who waits by then, so when they
    /// were served last does not matter any more.
    fn forget_departed(&mut self) {
        let seats = self.holders.values().map(|holder| holder.seat);
        let seats = seats.chain(self.waiting.iter().map(|waiter| waiter.seat));
        let there: HashSet<Party> = seats.flat_map(parties).collect();
        self.served.retain(|party, _| there.contains(party));
    }

    /// The waiter that gets the next place, of those that may have one.
    fn next(&self, held: &Held) -> Option<usize> {
        let waiters = self.waiting.iter().enumerate();
        let may = waiters.filter(|(_, waiter)| self.full(waiter.seat, held).none());
        may.min_by_key(|(at, waiter)| (self.rank(waiter, held), *at)).map(|(at, _)| at)
    }

    /// Lower ranks go first: the class, how many places are held, and since when one waits.
    fn rank(&self, waiter: &Waiter, held: &Held) -> (Class, usize, u64) {
        let served = parties(waiter.seat).filter_map(|party| self.served.get(&party).copied());
        let since = served.fold(waiter.since, u64::max);
        (waiter.class, held.most(waiter.seat), since)
    }

    /// Who may hold no further place, of those that `seat` is of, however many are free.
    fn full(&self, seat: Seat, held: &Held) -> Full {
        let others = self.population.keys().any(|group| *group != seat.group);
        let group_share = leave_one(self.max_running, others);
        let chats = self.population.get(&seat.group).copied().unwrap_or(0);
        Full {
            group: held.by_group(seat) >= group_share,
            chat: held.by_chat(seat) >= leave_one(group_share, chats > 1),
            sender: seat.sender.is_some() && held.by_sender(seat) >= leave_one(group_share, true),
        }
    }

    /// For each waiter one idle holder whose place it could have, unless one is leaving already. Who
    /// holds their share get a place only from themselves.
    fn evictions(&mut self, held: &Held) -> Vec<AdmissionOrder> {
        let mut idle: Vec<(SessionId, Holder)> = self
            .holders
            .iter()
            .filter(|(_, holder)| holder.idle)
            .map(|(session, holder)| (*session, *holder))
            .collect();
        idle.sort_unstable_by_key(|(session, holder)| {
            (!holder.leaving, Reverse(held.by_chat(holder.seat)), *session)
        });
        let mut waiters: Vec<&Waiter> = match idle.is_empty() {
            true => Vec::new(),
            false => self.waiting.iter().collect(),
        };
        waiters.sort_by_key(|waiter| self.rank(waiter, held)); // stable: of one chat, by age
        let mut orders = Vec::new();
        for Waiter { seat, .. } in waiters {
            let full = self.full(*seat, held);
            let serves = |(_, holder): &(SessionId, Holder)| full.but_for(*seat, holder.seat);
            let Some(at) = idle.iter().position(serves) else { continue };
            let (session, holder) = idle.remove(at);
            if !holder.leaving {
                orders.push(AdmissionOrder::Evict(session));
            }
        }
        for order in &orders {
            if let AdmissionOrder::Evict(session) = order
                && let Some(holder) = self.holders.get_mut(session)
            {
                holder.leaving = true;
            }
        }
        orders
    }
}

/// Who holds as many places as they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Full {
    group: bool,
    chat: bool,
    sender: bool,
}

impl Full {
    fn none(self) -> bool {
        !(self.group || self.chat || self.sender)
    }

    /// Whether `seat` could have a place that `other` gave back.
    fn but_for(self, seat: Seat, other: Seat) -> bool {
        seat.group == other.group
            && (!self.chat || seat.chat == other.chat)
            && (!self.sender || seat.sender == other.sender)
            || self.none()
    }
}

/// How many of `places` one may hold if one is to be left for `others`. A single place is not kept
/// empty.
fn leave_one(places: usize, others: bool) -> usize {
    match others && places > 1 {
        true => places - 1,
        false => places,
    }
}

/// How many places are held.
#[derive(Debug, Default)]
struct Held {
    groups: HashMap<AgentGroupId, usize>,
    chats: HashMap<(AgentGroupId, MessagingGroupId), usize>,
    senders: HashMap<(AgentGroupId, Sender), usize>,
}

impl Held {
    fn of(seats: impl Iterator<Item = Seat>) -> Self {
        let mut held = Self::default();
        seats.for_each(|seat| held.count(seat));
        held
    }

    fn count(&mut self, Seat { group, chat, sender }: Seat) {
        *self.groups.entry(group).or_default() += 1;
        *self.chats.entry((group, chat)).or_default() += 1;
        if let Some(sender) = sender {
            *self.senders.entry((group, sender)).or_default() += 1;
        }
    }

    fn by_group(&self, seat: Seat) -> usize {
        self.groups.get(&seat.group).copied().unwrap_or(0)
    }

    fn by_chat(&self, seat: Seat) -> usize {
        self.chats.get(&(seat.group, seat.chat)).copied().unwrap_or(0)
    }

    fn by_sender(&self, seat: Seat) -> usize {
        let of = |sender| self.senders.get(&(seat.group, sender)).copied();
        seat.sender.and_then(of).unwrap_or(0)
    }

    /// By the chat, or by the sender if that is more.
    fn most(&self, seat: Seat) -> usize {
        self.by_chat(seat).max(self.by_sender(seat))
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
