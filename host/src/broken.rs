//! Agents that do not work as they are: their configuration cannot be read, or their program cannot
//! be started. Nothing is started for them until something of that has changed, which is looked for
//! once a second while there is one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use twobox_shared::ids::{AgentGroupId, SessionId};

use crate::core::{Core, lock};
use crate::session::signal::Reason;
use crate::session::stamp;

/// How soon a change is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The agents of one host that do not work.
#[derive(Debug, Default)]
pub(crate) struct Broken(Mutex<HashMap<AgentGroupId, State>>);

#[derive(Debug)]
struct State {
    /// What the agent was made of when it did not work.
    stamp: String,
    /// Why it did not, in one sentence.
    reason: String,
    /// Who waits for a change.
    waiting: HashSet<SessionId>,
}

impl Broken {
    /// Why an agent that is made of `stamp` does not work, if that is known. The session is then woken
    /// when that changes.
    pub(crate) fn why(&self, agent: AgentGroupId, stamp: &str, asker: SessionId) -> Option<String> {
        let mut agents = lock(&self.0);
        let state = agents.get_mut(&agent).filter(|state| state.stamp == stamp)?;
        state.waiting.insert(asker);
        Some(state.reason.clone())
    }

    /// Lets `agent` be tried again, on a person's word. Returns who waits for that.
    pub(crate) fn forget(&self, agent: AgentGroupId) -> HashSet<SessionId> {
        lock(&self.0).remove(&agent).map(|state| state.waiting).unwrap_or_default()
    }

    /// Who waits, if `agent` is not made of what it was; it is then tried again.
    fn changed(&self, agent: AgentGroupId, stamp: Option<&str>) -> Option<HashSet<SessionId>> {
        let mut agents = lock(&self.0);
        match agents.get(&agent) {
            Some(state) if stamp.is_none_or(|stamp| stamp == state.stamp) => None,
            _ => Some(agents.remove(&agent).map(|state| state.waiting).unwrap_or_default()),
        }
    }

    /// Takes in that an agent made of `stamp` does not work. Returns whether nobody looks after it yet.
    fn add(&self, agent: AgentGroupId, stamp: String, reason: String) -> bool {
        let mut agents = lock(&self.0);
        match agents.get_mut(&agent) {
            Some(state) => {
                (state.stamp, state.reason) = (stamp, reason);
                false
            }
            None => {
                agents.insert(agent, State { stamp, reason, waiting: HashSet::new() });
                true
            }
        }
    }
}

impl Core {
    /// Takes in that the agent whose folder is called `folder`, made of `stamp`, does not work, and
    /// why. Whoever asks [`Broken::why`] from now on is woken when it has changed.
    pub(crate) fn agent_is_broken(
        self: &Arc<Self>,
        agent: AgentGroupId,
        folder: &str,
        stamp: String,
        reason: String,
    ) {
        tracing::warn!(%agent, folder, reason, "an agent does not work as it is");
        if !self.broken.add(agent, stamp, reason) {
            return;
        }
        let (core, folder) = (Arc::clone(self), folder.to_owned());
        tokio::spawn(async move {
            let mut stopping = core.stopping();
            loop {
                let stop = stopping.wait_for(|stopping| *stopping);
                if tokio::time::timeout(LOOK_EVERY, stop).await.is_ok() {
                    return;
                }
                let stamp = stamp::of(&core, &folder).await;
                if let Some(waiting) = core.broken.changed(agent, stamp.as_deref()) {
                    for session in waiting {
                        core.wake(session, Reason::Due);
                    }
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twobox_shared::ids::SystemIds;

    #[test]
    fn an_agent_is_tried_again_when_it_has_changed_and_not_before() {
        let (broken, agent) = (Broken::default(), AgentGroupId::generate(&SystemIds));
        let session = SessionId::generate(&SystemIds);
        assert_eq!(broken.why(agent, "one", session), None);
        assert!(broken.add(agent, "one".into(), "no program".into()), "somebody has to look");
        assert_eq!(broken.why(agent, "one", session).as_deref(), Some("no program"));
        assert_eq!(broken.why(agent, "two", session), None, "it has changed");
        assert_eq!(broken.changed(agent, Some("one")), None);
        assert_eq!(broken.changed(agent, None), None, "nobody knows");
        assert!(!broken.add(agent, "two".into(), "no rights".into()), "somebody looks already");
        assert_eq!(broken.changed(agent, Some("one")), Some(HashSet::from([session])));
        assert_eq!(broken.why(agent, "two", session), None);
        broken.add(agent, "two".into(), "no rights".into());
        broken.why(agent, "two", session);
        assert_eq!(broken.forget(agent), HashSet::from([session]), "a person's word");
        assert!(broken.changed(agent, Some("two")).is_some_and(|all| all.is_empty()));
    }
}
