//! What Claude Code says on its standard output, one JSON object a line: pure. What is not known here is
//! passed over, for every version says something more.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use twobox_shared::content::{Failure, shorten};
use twobox_shared::mend::mended;

use crate::provider::model::lent;

/// A line.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line {
    /// What becomes of a message that it was told.
    CommandLifecycle {
        /// The message's id.
        command_uuid: String,
        /// `queued`, `started`, `completed`, …
        state: String,
    },
    /// A piece of an answer of the model's.
    Assistant {
        message: Message,
        #[serde(default)]
        parent_tool_use_id: Option<String>,
    },
    /// What a tool gave.
    User {
        message: Message,
        #[serde(default)]
        parent_tool_use_id: Option<String>,
    },
    /// Something of its own, such as which servers of MCP it has.
    System {
        #[serde(default, deserialize_with = "or_default")]
        mcp_servers: Vec<Server>,
    },
    /// A question to us.
    ControlRequest { request_id: String, request: Value },
    /// A question to us wants no answer any more.
    ControlCancelRequest { request_id: String },
    /// A turn has ended.
    Result(Ended),
    /// Anything else.
    #[serde(other)]
    Other,
}

/// A server of MCP.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Server {
    pub(super) name: String,
    /// `connected`, `failed`, …
    pub(super) status: String,
}

/// A line that has not the shape that it should.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) why: serde_json::Error,
    /// Whether it says all the same that a turn has ended, which must not be missed.
    pub(super) ends: bool,
}

/// What a line says. Halves of characters, which JavaScript lets stand, are mended.
///
/// # Errors
/// It has another shape.
pub(super) fn read(line: &[u8]) -> Result<Line, Unreadable> {
    let text = String::from_utf8_lossy(line);
    let text = mended(&text);
    serde_json::from_str(&text).map_err(|why| {
        let value = serde_json::from_str::<Value>(&text);
        Unreadable { why, ends: value.is_ok_and(|value| value["type"] == "result") }
    })
}

/// What is null is as if it was not there.
fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// What a model or a tool said.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message {
    pub(super) id: Option<String>,
    content: Value,
}

impl Message {
    /// The parts of the kind `kind`.
    fn parts<'m>(&'m self, kind: &'m str) -> impl Iterator<Item = &'m Value> {
        let all = self.content.as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(move |part| part["type"] == kind)
    }

    /// The tools that are to be used: their ids and names.
    pub(super) fn tools(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parts("tool_use")
            .filter_map(|part| Some((part["id"].as_str()?, part["name"].as_str()?)))
    }

    /// The ids of the tools whose results these are.
    pub(super) fn results(&self) -> impl Iterator<Item = &str> {
        self.parts("tool_result").filter_map(|part| part["tool_use_id"].as_str())
    }
}

/// How a turn ended.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ended {
    #[serde(deserialize_with = "or_default")]
    subtype: String,
    #[serde(deserialize_with = "or_default")]
    is_error: bool,
    result: Option<String>,
    #[serde(deserialize_with = "or_default")]
    errors: Vec<String>,
    api_error_status: Option<u16>,
    /// The messages that it answers.
    #[serde(deserialize_with = "or_default")]
    pub(super) user_message_uuids: Vec<String>,
}

/// The part of the result's text that says nothing.
const PREFIX: &str = "API Error:";

impl Ended {
    /// The answer of the model of `upstream`, or how it failed. Success is that it is no error, and never what
    /// `subtype` says.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) fn outcome(&self, upstream: &str) -> Result<String, Failure> {
        if !self.is_error {
            return Ok(self.result.clone().unwrap_or_default());
        }
        let detail = self.detail();
        Err(match (self.subtype.as_str(), self.api_error_status) {
            ("error_max_turns", _) => {
                Failure::permanent(Failure::TURN_LIMIT, format!("Claude Code: {detail}"))
            }
            ("error_max_budget_usd", _) => {
                Failure::permanent(Failure::BUDGET_EXCEEDED, format!("Claude Code: {detail}"))
            }
            ("success", Some(status)) => {
                let said = self.said();
                let said = said.strip_prefix(&status.to_string()).unwrap_or(&said);
                lent::refused(status, words(said.trim()), upstream)
            }
            // Broken or not reached: the same may be answered later.
            _ => Failure::retryable(Failure::PROVIDER_ERROR, detail),
        })
    }

    fn said(&self) -> String {
        let said = match self.errors.is_empty() {
            true => self.result.clone().unwrap_or_default(),
            false => self.errors.join("; "),
        };
        said.trim().trim_start_matches(PREFIX).trim().to_owned()
    }

    fn detail(&self) -> String {
        let said = self.said();
        let said = if said.is_empty() { &self.subtype } else { &said };
        let status = self.api_error_status.filter(|status| !said.contains(&status.to_string()));
        let status = status.map(|status| format!("status {status}: ")).unwrap_or_default();
        format!("{status}{}", shorten(said, 600))
    }
}

/// The error that an upstream has answered with, if it stands in what Claude Code says of it.
fn words(said: &str) -> &str {
    let json = said.find('{').zip(said.rfind('}')).and_then(|(from, to)| said.get(from..=to));
    let is_error = |json: &&str| {
        serde_json::from_str::<Value>(json).is_ok_and(|value| !value["error"].is_null())
    };
    json.filter(is_error).unwrap_or(said)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(text: &str) -> Result<String, Failure> {
        match read(text.as_bytes()).unwrap() {
            Line::Result(ended) => ended.outcome("up"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn success_is_what_is_no_error() {
        let good =
            r#"{"type":"result","subtype":"success","is_error":false,"result":"done","x":1}"#;
        assert_eq!(ended(good).unwrap(), "done");
        let api = |status: &str| {
            format!(
                r#"{{"type":"result","subtype":"success","is_error":true,"api_error_status":{status},
                    "result":"API Error: 529 {{\"x\":1}} busy"}}"#
            )
        };
        let refusal = |status: &str, why: &str| {
            let body = json!({"type": "error", "error": {"type": "x", "message": why}});
            json!({
                "type": "result", "subtype": "success", "is_error": true,
                "api_error_status": status.parse::<u16>().unwrap(),
                "result": format!("API Error: {status} {body}"),
            })
            .to_string()
        };
        let cases = [
            (api("401"), Failure::PROVIDER_ERROR, false, "status 401: 529"),
            (api("402"), Failure::PROVIDER_ERROR, false, "up wants to be paid"),
            (refusal("402", "Twobox: used up"), Failure::BUDGET_EXCEEDED, false, "Twobox: used up"),
            (refusal("402", "no credit"), Failure::PROVIDER_ERROR, false, "no credit"),
            (refusal("401", "Twobox: wrong key"), Failure::PROVIDER_ERROR, false, "Twobox: wrong"),
            (refusal("401", "wrong key"), Failure::PROVIDER_ERROR, false, "twobox secrets set"),
            (api("400"), Failure::PROVIDER_ERROR, false, "/new begins"),
            (api("429"), Failure::PROVIDER_ERROR, true, "busy"),
            (api("529"), Failure::PROVIDER_ERROR, true, "status 529: {\"x\":1} busy"),
            (api("null"), Failure::PROVIDER_ERROR, true, "busy"),
            (
                r#"{"type":"result","subtype":"error_max_turns","is_error":true,"errors":["a","b"]}"#
                    .to_owned(),
                Failure::TURN_LIMIT,
                false,
                "a; b",
            ),
            (
                r#"{"type":"result","subtype":"error_during_execution","is_error":true}"#.to_owned(),
                Failure::PROVIDER_ERROR,
                true,
                "error_during_execution",
            ),
        ];
        for (line, reason, retryable, detail) in cases {
            let failure = ended(&line).unwrap_err();
            assert_eq!((failure.reason.as_str(), failure.retryable), (reason, retryable), "{line}");
            assert!(failure.detail.contains(detail), "{line}: {}", failure.detail);
        }
    }

    #[test]
    fn the_end_of_a_turn_is_heard_also_if_it_has_another_shape() {
        let nulls = r#"{"type":"result","subtype":null,"is_error":null,"result":"done","errors":null,
            "api_error_status":null,"user_message_uuids":null}"#;
        assert_eq!(ended(nulls).unwrap(), "done");
        let half = r#"{"type":"result","is_error":false,"result":"\ud83d"}"#;
        assert_eq!(ended(half).unwrap(), "\u{fffd}");
        let ends = |line: &str| read(line.as_bytes()).unwrap_err().ends;
        assert!(ends(r#"{"type":"result","is_error":"no","result":"done"}"#));
        assert!(ends(r#"{"type":"result","result":7}"#));
        assert!(!ends(r#"{"type":"assistant","message":7}"#));
        assert!(!ends("result"));
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        let read = |text: &str| serde_json::from_str::<Line>(text).unwrap();
        let own = read(r#"{"type":"system","subtype":"init"}"#);
        assert!(matches!(own, Line::System { mcp_servers } if mcp_servers.is_empty()));
        assert!(matches!(read(r#"{"type":"tomorrow","message":7}"#), Line::Other));
        let Line::Assistant { message, .. } = read(
            r#"{"type":"assistant","message":{"id":"m","content":[{"type":"text","text":"a"},
                {"type":"tool_use","id":"t","name":"Bash","input":{}}]}}"#,
        ) else {
            panic!("it is the model's");
        };
        assert_eq!(message.tools().collect::<Vec<_>>(), [("t", "Bash")]);
        let Line::User { message, .. } = read(
            r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t"}]}}"#,
        ) else {
            panic!("it is a tool's");
        };
        assert_eq!(message.results().collect::<Vec<_>>(), ["t"]);
        let Line::User { message, .. } = read(r#"{"type":"user","message":{"content":"text"}}"#)
        else {
            panic!("it is somebody's");
        };
        assert_eq!(message.results().count(), 0);
    }
}
