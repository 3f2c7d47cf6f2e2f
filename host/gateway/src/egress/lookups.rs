//! How many names are looked up at once. A name server that says nothing keeps a thread for longer than anybody
//! waits, and whoever has names asked there must not keep the names of others waiting.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use twobox_shared::ids::AgentGroupId;
use twobox_system::lock::lock;

use super::fits;

/// How many names all sessions together may have looked up at once. Each takes a thread for as long as the
/// system's resolver likes.
const LOOKUPS_MAX: usize = 64;

/// How many of these one agent may have, in all its sessions.
pub(super) const OF_AGENT_MAX: usize = 8;

/// How many are kept for agents that have none yet.
const KEPT: usize = 16;

/// How long a name is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until it is its turn.
    pub(super) turn: Duration,
    /// Until there is an answer from then on.
    pub(super) answer: Duration,
}

/// The system's resolver gives each name server five seconds: there is time for one behind two that are dead.
pub(super) const PATIENCE: Patience =
    Patience { turn: Duration::from_secs(5), answer: Duration::from_secs(15) };

/// The names that are being looked up.
#[derive(Default)]
pub(super) struct Lookups(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    /// How many each agent has that has any.
    of_agents: HashMap<AgentGroupId, usize>,
    /// Those who wait, in the order in which they came. None of them may have one as it is: whatever ends is given
    /// on at once.
    waiting: VecDeque<Waiter>,
}

/// Somebody who waits for one more for `agent`, or has gone.
struct Waiter {
    agent: AgentGroupId,
    given: oneshot::Sender<Lookup>,
}

/// One of them, until it is dropped.
pub(super) struct Lookup {
    agent: AgentGroupId,
    table: Arc<Mutex<Table>>,
}

impl Lookups {
    /// One more for `agent`, if it may have one.
    #[cfg(test)]
    pub(super) fn take(&self, agent: AgentGroupId) -> Option<Lookup> {
        lock(&self.0).take(agent, &self.0)
    }

    /// Waits until there is one more for `agent`. Of those who may have one, whoever came first is served first.
    pub(super) async fn turn(&self, agent: AgentGroupId) -> Lookup {
        let given = {
            let mut table = lock(&self.0);
            if let Some(lookup) = table.take(agent, &self.0) {
                return lookup;
            }
            let (give, given) = oneshot::channel();
            table.waiting.retain(|it| !it.given.is_closed());
            table.waiting.push_back(Waiter { agent, given: give });
            given
        };
        given.await.expect("who waits stands in the table until it is served")
    }
}

impl Table {
    /// Whether `agent` may have one more: its first as long as any is free, and of the others at most a quarter of
    /// what other agents leave of those that are not kept.
    fn may_have_more(&self, agent: AgentGroupId) -> bool {
        let free = LOOKUPS_MAX - self.of_agents.values().sum::<usize>();
        match self.of_agents.get(&agent) {
            None => free > 0,
            Some(count) => *count < OF_AGENT_MAX && fits(count + 1, free.saturating_sub(KEPT)),
        }
    }

    /// One more for `agent`, if it may have one, of this, which is behind `shared`.
    fn take(&mut self, agent: AgentGroupId, shared: &Arc<Mutex<Self>>) -> Option<Lookup> {
        if !self.may_have_more(agent) {
            return None;
        }
        *self.of_agents.entry(agent).or_default() += 1;
        Some(Lookup { agent, table: Arc::clone(shared) })
    }

    /// Serves all who wait and may have one. Returns those of whoever has gone in this moment, which are not to be
    /// dropped while this is locked.
    fn serve(&mut self, shared: &Arc<Mutex<Self>>) -> Vec<Lookup> {
        let mut late = Vec::new();
        for waiter in std::mem::take(&mut self.waiting) {
            if waiter.given.is_closed() {
                continue;
            }
            match self.take(waiter.agent, shared) {
                Some(lookup) => late.extend(waiter.given.send(lookup).err()),
                None => self.waiting.push_back(waiter),
            }
        }
        late
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        if let Some(count) = table.of_agents.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                table.of_agents.remove(&self.agent);
            }
        }
        let late = table.serve(&self.table);
        drop(table);
        drop(late);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::ids::SystemIds;

    #[tokio::test]
    async fn a_few_agents_cannot_have_all_names_looked_up() {
        let lookups = Lookups::default();
        let agents: Vec<_> = (0..9).map(|_| AgentGroupId::generate(&SystemIds)).collect();
        let mut held: Vec<Vec<Lookup>> = Vec::new();
        for agent in &agents {
            held.push(std::iter::from_fn(|| lookups.take(*agent)).collect());
        }
        let counts: Vec<usize> = held.iter().map(Vec::len).collect();
        assert_eq!(counts[..3], [OF_AGENT_MAX; 3], "where few others have any");
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        let mut waits = std::pin::pin!(lookups.turn(agents[0]));
        let early = tokio::time::timeout(Duration::ZERO, waits.as_mut()).await;
        assert!(early.is_err(), "it has its share");
        held[0].pop();
        held.truncate(1);
        let lookup = tokio::time::timeout(Duration::from_secs(60), waits).await;
        assert!(lookup.is_ok(), "whoever waits hears of what has ended");
        drop((lookup, held));
        assert!(lock(&lookups.0).of_agents.is_empty(), "those that have ended count no more");
    }

    #[tokio::test]
    async fn an_agent_that_has_none_is_served_where_others_have_to_wait() {
        let lookups = Lookups::default();
        let mut held: Vec<Vec<Lookup>> = Vec::new();
        for _ in 0..31 {
            let agent = AgentGroupId::generate(&SystemIds);
            held.push(std::iter::from_fn(|| lookups.take(agent)).collect());
        }
        let counts: Vec<usize> = held.iter().map(Vec::len).collect();
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), LOOKUPS_MAX, "{counts:?}");
        let greedy = held[0][0].agent;
        let mut greedy_waits = std::pin::pin!(lookups.turn(greedy));
        assert!(tokio::time::timeout(Duration::ZERO, greedy_waits.as_mut()).await.is_err());
        let agent = AgentGroupId::generate(&SystemIds);
        let mut waits = std::pin::pin!(lookups.turn(agent));
        assert!(tokio::time::timeout(Duration::ZERO, waits.as_mut()).await.is_err());
        held[0].pop();
        let lookup = waits.await;
        assert_eq!(lookup.agent, agent);
        assert!(
            tokio::time::timeout(Duration::ZERO, greedy_waits.as_mut()).await.is_err(),
            "others need them more"
        );
    }

    #[tokio::test]
    async fn whoever_came_first_is_served_first() {
        let lookups = Lookups::default();
        let agent = AgentGroupId::generate(&SystemIds);
        let mut held: Vec<Lookup> = std::iter::from_fn(|| lookups.take(agent)).collect();
        let mut gone = Box::pin(lookups.turn(agent));
        let mut first = std::pin::pin!(lookups.turn(agent));
        let mut second = std::pin::pin!(lookups.turn(agent));
        assert!(tokio::time::timeout(Duration::ZERO, gone.as_mut()).await.is_err());
        assert!(tokio::time::timeout(Duration::ZERO, first.as_mut()).await.is_err());
        assert!(tokio::time::timeout(Duration::ZERO, second.as_mut()).await.is_err());
        drop(gone);
        held.pop();
        assert!(tokio::time::timeout(Duration::ZERO, second.as_mut()).await.is_err(), "not yet");
        let lookup = first.await;
        drop(lookup);
        drop((second.await, held));
        let table = lock(&lookups.0);
        assert!(table.of_agents.is_empty() && table.waiting.is_empty());
    }

    #[tokio::test]
    async fn what_was_given_to_somebody_who_has_gone_is_given_on() {
        let lookups = Lookups::default();
        let agent = AgentGroupId::generate(&SystemIds);
        let mut held: Vec<Lookup> = std::iter::from_fn(|| lookups.take(agent)).collect();
        let mut gone = Box::pin(lookups.turn(agent));
        let mut next = std::pin::pin!(lookups.turn(agent));
        assert!(tokio::time::timeout(Duration::ZERO, gone.as_mut()).await.is_err());
        assert!(tokio::time::timeout(Duration::ZERO, next.as_mut()).await.is_err());
        held.pop();
        drop(gone); // It was served, and has not heard of it.
        drop((next.await, held));
        assert!(lock(&lookups.0).of_agents.is_empty());
    }
}
