//! How many names are looked up at once. A name server that says nothing keeps a thread for longer than anybody
//! waits, and whoever has names asked there must not keep the names of others waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use twobox_shared::ids::AgentGroupId;
use twobox_system::lock::lock;

use super::fits;

/// How many names all sessions together may have looked up at once. Each takes a thread for as long as the
/// system's resolver likes.
const LOOKUPS_MAX: usize = 64;

/// How many of these one agent may have, in all its sessions.
pub(super) const OF_AGENT_MAX: usize = 8;

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
pub(super) struct Lookups(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// How many each agent has that has any.
    of_agents: Mutex<HashMap<AgentGroupId, usize>>,
    freed: Notify,
}

/// One of them, until it is dropped.
pub(super) struct Lookup {
    agent: AgentGroupId,
    shared: Arc<Shared>,
}

impl Lookups {
    /// One more for `agent`, which has at most a quarter of what the others leave; `None` if it has.
    pub(super) fn take(&self, agent: AgentGroupId) -> Option<Lookup> {
        let mut of_agents = lock(&self.0.of_agents);
        let free = LOOKUPS_MAX - of_agents.values().sum::<usize>();
        let with_this = of_agents.get(&agent).map_or(1, |count| count + 1);
        if with_this > OF_AGENT_MAX || !fits(with_this, free) {
            return None;
        }
        of_agents.insert(agent, with_this);
        Some(Lookup { agent, shared: Arc::clone(&self.0) })
    }

    /// Waits until there is one more for `agent`.
    pub(super) async fn turn(&self, agent: AgentGroupId) -> Lookup {
        loop {
            let mut freed = std::pin::pin!(self.0.freed.notified());
            freed.as_mut().enable(); // what ends from here on is not missed
            if let Some(lookup) = self.take(agent) {
                return lookup;
            }
            freed.await;
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        let mut of_agents = lock(&self.shared.of_agents);
        if let Some(count) = of_agents.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                of_agents.remove(&self.agent);
            }
        }
        drop(of_agents);
        self.shared.freed.notify_waiters();
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
        assert!(lock(&lookups.0.of_agents).is_empty(), "those that have ended count no more");
    }
}
