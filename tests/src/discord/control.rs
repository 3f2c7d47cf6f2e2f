//! What is not Discord's: how somebody outside of this process has people say something, and things go wrong.

use serde_json::{Value, json};

use super::say::id_of;
use super::server::Fault;
use super::state::{State, Told};

/// Does `what`; `None` if there is no such thing.
pub(super) fn control(
    state: &mut State,
    what: &str,
    query: Option<&str>,
    body: &[u8],
) -> Option<Value> {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    match what {
        "say" => {
            let by = id_of(&asked["by"]).unwrap_or(state.me);
            let channel = id_of(&asked["channel"]).filter(|id| state.channels.contains_key(id))?;
            let id = state.say(by, channel, asked["text"].as_str()?, id_of(&asked["reply_to"]));
            Some(json!(id.to_string()))
        }
        "press" => {
            let by = id_of(&asked["by"]).unwrap_or(state.me);
            let pressed = state.press(by, id_of(&asked["message"])?, asked["custom_id"].as_str()?);
            Some(json!(pressed?.to_string()))
        }
        "answer" => {
            let answer = &state.interactions.get(&id_of(&asked["interaction"])?)?.answer;
            Some(answer.clone().unwrap_or_default())
        }
        "drop" => {
            state.to_all(|| Told::Drop);
            Some(json!(null))
        }
        "reconnect" => {
            state.to_all(|| Told::Text(json!({ "op": 7, "d": null }).to_string()));
            Some(json!(null))
        }
        "beat" => {
            state.to_all(|| Told::Text(json!({ "op": 1, "d": null }).to_string()));
            Some(json!(null))
        }
        "invalidate" => {
            state.invalidate();
            Some(json!(null))
        }
        "fault" => {
            state.faults.push_back(Fault::of(asked.as_str()?)?);
            Some(json!(null))
        }
        "place" => {
            let channels: Vec<String> = state.channels.keys().map(u64::to_string).collect();
            Some(json!({
                "bot": state.bot.to_string(), "me": state.me.to_string(), "other": state.other_bot.to_string(),
                "guild": state.guild.to_string(), "role": state.role.to_string(), "channels": channels,
            }))
        }
        "messages" => {
            let channel = query?.strip_prefix("channel=")?.parse().ok()?;
            Some(state.channels.get(&channel)?.messages.clone().into())
        }
        "counts" => {
            let counts = state.counts;
            Some(json!({
                "identified": counts.identified, "resumed": counts.resumed, "invalid": counts.invalid,
                "limited": counts.limited,
            }))
        }
        _ => None,
    }
}

impl State {
    /// No session goes on any more.
    pub(super) fn invalidate(&mut self) {
        self.to_all(|| Told::Text(json!({ "op": 9, "d": false }).to_string()));
        self.sessions.clear();
    }
}
