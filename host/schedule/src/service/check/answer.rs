//! In which conversation a run takes place, and into which chat its answer goes, as a person says it.

use twobox_shared::ids::{AgentGroupId, SessionId};
use twobox_shared::inbox::Origin;

use crate::service::{Mistake, ServiceError, WrittenChat};
use twobox_store::messaging::WiredAddress;
use twobox_store::{Store, wirings};

/// The session of `agent` whose id begins or ends with `part`.
pub(super) fn session(
    store: &Store,
    agent: AgentGroupId,
    part: &str,
) -> Result<SessionId, ServiceError> {
    let mistake = |problem: String| Err(Mistake::new("session", part, problem).into());
    let mut found = match part.is_empty() {
        true => Vec::new(),
        false => store.sessions().like(part).wait()?,
    };
    match found.len() {
        0 => mistake(format!(
            "there is no session {part:?}: `twobox sessions list` shows them; without one, each run \
             gets a session of its own"
        )),
        1 => {
            let session = found.remove(0);
            if session.agent_id != agent {
                let agent = session.agent;
                return mistake(format!("session {part:?} belongs to the agent {agent:?}"));
            }
            if session.status == "closed" {
                return mistake(format!("session {part:?} is closed: choose another one"));
            }
            Ok(session.id)
        }
        count => mistake(format!("{part:?} fits {count} sessions: give more of the id")),
    }
}

/// The chat that a person means: one that `agent` listens to, and so may send to.
pub(super) fn destination(
    store: &Store,
    agent: AgentGroupId,
    said: &WrittenChat,
) -> Result<Origin, ServiceError> {
    let WrittenChat { chat, channel, thread } = said;
    let mistake = |problem: String| Err(Mistake::new("to", chat, problem).into());
    let parts = [("channel", channel), ("thread", thread)];
    let parts = parts.into_iter().filter_map(|(what, said)| Some((what, said.as_deref()?)));
    for (what, value) in std::iter::once(("chat", chat.as_str())).chain(parts) {
        if let Err(error) = wirings::check_chat(what, value) {
            return mistake(error.to_string());
        }
    }
    let mut addresses = store.wirings().addresses_of(agent).wait()?;
    addresses
        .retain(|address| channel.as_ref().is_none_or(|channel| *channel == address.channel_type));
    // A name is one chat's, an id may be that of chats on several channels.
    let of_name: Vec<&WiredAddress> =
        addresses.iter().filter(|address| address.name == *chat).collect();
    let found = match of_name.is_empty() {
        true => addresses.iter().filter(|address| address.platform_id == *chat).collect(),
        false => of_name,
    };
    match found.as_slice() {
        [address] => Ok(Origin {
            channel_type: Some(address.channel_type.clone()),
            platform_id: Some(address.platform_id.clone()),
            thread_id: thread.clone(),
        }),
        [] => mistake(not_wired(store, agent, said)?),
        several => {
            let names: Vec<&str> = several.iter().map(|address| address.name.as_str()).collect();
            mistake(format!(
                "{chat:?} is a chat on several channels: say what the agent calls the one that you mean: \
                 {}",
                names.join(", ")
            ))
        }
    }
}

/// Why the agent cannot send to a chat, and what helps.
fn not_wired(
    store: &Store,
    agent: AgentGroupId,
    said: &WrittenChat,
) -> Result<String, ServiceError> {
    let WrittenChat { chat, channel, .. } = said;
    let agent =
        store.agents().by_id(agent).wait()?.map_or_else(|| agent.to_string(), |agent| agent.name);
    let mut elsewhere = store.wirings().list().wait()?;
    elsewhere.retain(|wiring| {
        (wiring.name == *chat || wiring.platform_id == *chat)
            && channel.as_ref().is_none_or(|channel| *channel == wiring.channel_type)
    });
    Ok(match elsewhere.first() {
        Some(other) => format!(
            "{agent} does not listen to {} {:?}, as {} does, and so may not send there: `twobox wire add \
             {agent} {} {}` lets it",
            other.channel_type,
            other.platform_id,
            other.agent,
            other.channel_type,
            other.platform_id
        ),
        None => format!(
            "{agent} knows no chat {chat:?}: `twobox wire list` shows those that it does, and `twobox \
             wire add {agent} command CHAT` has it listen to another one"
        ),
    })
}
