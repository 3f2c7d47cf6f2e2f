//! Which agent and which session a command means.

use rusqlite::Connection;

use super::output::Failure;
use twobox_store::agents::{self, AgentGroup};
use twobox_store::overview::{self, SessionOverview};

/// The agent that was named, or the only one, or `assistant`.
pub(super) fn agent(db: &Connection, named: Option<&str>) -> Result<AgentGroup, Failure> {
    if let Some(name) = named {
        return Ok(agents::find(db, name)?);
    }
    let mut all = agents::list(db)?;
    if all.len() == 1 {
        return Ok(all.remove(0));
    }
    match all.into_iter().find(|agent| agent.name == "assistant") {
        Some(assistant) => Ok(assistant),
        None => {
            Err(Failure::usage(format!("say which agent with --agent; {}", agents::known(db)?)))
        }
    }
}

/// The session whose id begins or ends with `part`.
pub(super) fn session(db: &Connection, part: &str) -> Result<SessionOverview, Failure> {
    let mut found = match part.is_empty() {
        true => Vec::new(),
        false => overview::sessions_like(db, part)?,
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
