//! Which agent and which session a command means.

use super::output::Failure;
use twobox_store::Store;
use twobox_store::agents::AgentGroup;
use twobox_store::overview::SessionOverview;

/// The agent that was named, or the only one, or `assistant`.
pub(super) fn agent(store: &Store, named: Option<&str>) -> Result<AgentGroup, Failure> {
    if let Some(name) = named {
        return Ok(store.agents().find(name).wait()?);
    }
    let mut all = store.agents().list().wait()?;
    if all.len() == 1 {
        return Ok(all.remove(0));
    }
    match all.into_iter().find(|agent| agent.name == "assistant") {
        Some(assistant) => Ok(assistant),
        None => Err(Failure::usage(format!(
            "say which agent with --agent; {}",
            store.agents().known().wait()?
        ))),
    }
}

/// The session whose id begins or ends with `part`.
pub(super) fn session(store: &Store, part: &str) -> Result<SessionOverview, Failure> {
    let mut found = match part.is_empty() {
        true => Vec::new(),
        false => store.sessions().like(part).wait()?,
    };
    match found.len() {
        0 => Err(Failure::new(format!(
            "there is no session {part:?}: `twobox sessions list` shows them"
        ))),
        1 => Ok(found.remove(0)),
        _ => {
            let ids: Vec<String> = found.iter().map(|session| session.id.to_string()).collect();
            Err(Failure::new(format!(
                "{part:?} fits several sessions, give more of the id: {}",
                ids.join(", ")
            )))
        }
    }
}
