//! Agents that do not work as they are: their configuration cannot be read, or their program cannot
//! be started. Nothing is started for them until something of that has changed, which is looked for
//! once a second while there is one.
//!
//! What the host has found holds all conversations of an agent. What a container says of its agent
//! holds its own conversation only: it may be lying.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use twobox_shared::ids::{AgentGroupId, SessionId};

use crate::core::Core;
use crate::signal::Reason;
use crate::stamp;
use twobox_system::lock::lock;

/// How soon a change is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The agents of one host that do not work.
#[derive(Debug, Default)]
pub(crate) struct Broken(Mutex<HashMap<AgentGroupId, State>>);

#[derive(Debug)]
struct State {
    /// What the agent was made of when it did not work.
    stamp: String,
    /// Why it did not, in one sentence: for all, by the host, or for one session, by its container.
    reasons: HashMap<Option<SessionId>, String>,
    /// Who waits for a change.
    waiting: HashSet<SessionId>,
}

impl Broken {
    /// Why an agent that is made of `stamp` does not work, if that is known. The session is then woken
    /// when that changes.
    pub(crate) fn why(&self, agent: AgentGroupId, stamp: &str, asker: SessionId) -> Option<String> {
        let mut agents = lock(&self.0);
        let state = agents.get_mut(&agent).filter(|state| state.stamp == stamp)?;
        let reason = state.reasons.get(&None).or_else(|| state.reasons.get(&Some(asker)))?;
        state.waiting.insert(asker);
        Some(reason.clone())
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

    /// Takes in that an agent made of `stamp` does not work, `by` the word of that session's container
    /// or, without one, the host's. Whoever `waits` is woken when that changes, from this moment on: a
    /// change that is seen before they ask why would wake nobody. Returns whether nobody looks after it
    /// yet.
    fn add(
        &self,
        agent: AgentGroupId,
        by: Option<SessionId>,
        waits: SessionId,
        stamp: String,
        reason: String,
    ) -> bool {
        let mut agents = lock(&self.0);
        let is_new = !agents.contains_key(&agent);
        // A container that was begun under another word says nothing of what the host has found.
        let elsewhere = agents
            .get(&agent)
            .is_some_and(|state| state.stamp != stamp && state.reasons.contains_key(&None));
        if by.is_some() && elsewhere {
            return false;
        }
        let state = agents.entry(agent).or_insert_with(|| State {
            stamp: stamp.clone(),
            reasons: HashMap::new(),
            waiting: HashSet::new(),
        });
        if state.stamp != stamp {
            state.stamp = stamp;
            state.reasons.clear();
        }
        state.reasons.insert(by, reason);
        state.waiting.insert(waits);
        is_new
    }
}

impl Core {
    /// Takes in that the agent whose folder is called `folder`, made of `stamp`, does not work, and
    /// why, `by` the word of a session's container or the host's own. The session that `waits` is woken
    /// when it has changed, as is whoever asks [`Broken::why`] until then.
    pub(crate) fn agent_is_broken(
        self: &Arc<Self>,
        agent: AgentGroupId,
        by: Option<SessionId>,
        waits: SessionId,
        folder: &str,
        stamp: String,
        reason: String,
    ) {
        tracing::warn!(agent = folder, agent_id = %agent, reason, "an agent does not work as it is");
        if !self.broken.add(agent, by, waits, stamp, reason) {
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
        assert!(
            broken.add(agent, None, session, "one".into(), "no program".into()),
            "somebody has to look"
        );
        assert_eq!(broken.why(agent, "one", session).as_deref(), Some("no program"));
        assert_eq!(broken.why(agent, "two", session), None, "it has changed");
        assert_eq!(broken.changed(agent, Some("one")), None);
        assert_eq!(broken.changed(agent, None), None, "nobody knows");
        assert!(
            !broken.add(agent, None, session, "two".into(), "no rights".into()),
            "somebody looks already"
        );
        assert_eq!(broken.changed(agent, Some("one")), Some(HashSet::from([session])));
        assert_eq!(broken.why(agent, "two", session), None);
        broken.add(agent, None, session, "two".into(), "no rights".into());
        broken.why(agent, "two", session);
        assert_eq!(broken.forget(agent), HashSet::from([session]), "a person's word");
        assert!(broken.changed(agent, Some("two")).is_some_and(|all| all.is_empty()));
    }

    #[test]
    fn who_finds_an_agent_broken_is_woken_however_soon_it_changes() {
        let (broken, agent) = (Broken::default(), AgentGroupId::generate(&SystemIds));
        let [first, second] = [0; 2].map(|_| SessionId::generate(&SystemIds));
        broken.add(agent, None, first, "one".into(), "no program".into());
        broken.add(agent, None, second, "two".into(), "no rights".into());
        // Mended before either of them asks why.
        assert_eq!(broken.changed(agent, Some("three")), Some(HashSet::from([first, second])));
    }

    #[test]
    fn a_container_that_calls_its_agent_broken_stops_its_own_conversation_only() {
        let (broken, agent) = (Broken::default(), AgentGroupId::generate(&SystemIds));
        let [liar, other] = [0; 2].map(|_| SessionId::generate(&SystemIds));
        assert!(broken.add(agent, Some(liar), liar, "one".into(), "so it says".into()));
        assert_eq!(broken.why(agent, "one", liar).as_deref(), Some("so it says"));
        assert_eq!(broken.why(agent, "one", other), None);
        assert_eq!(broken.changed(agent, Some("two")), Some(HashSet::from([liar])));
        broken.add(agent, Some(liar), liar, "two".into(), "so it says".into());
        broken.add(agent, None, other, "two".into(), "no program".into());
        assert_eq!(broken.why(agent, "two", other).as_deref(), Some("no program"));
        assert!(!broken.add(agent, Some(liar), liar, "one".into(), "so it says".into()));
        assert_eq!(broken.why(agent, "two", other).as_deref(), Some("no program"), "as before");
    }
}
