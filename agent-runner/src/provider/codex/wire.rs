//! What Codex says, one JSON object a line: answers to what it was asked, questions of its own, and what
//! happens. Only what is heeded is read, for it changes from week to week, and the rest is passed over. Pure.

use serde::Deserialize;
use serde_json::Value;

use super::question::Change;

/// A line, as far as it is heeded.
#[derive(Debug)]
pub(super) enum Heard {
    /// An answer to the request with this number.
    Answer(u64, Result<Value, String>),
    /// It asks something, which has to be answered under its own id.
    Asks { id: Value, method: String, params: Value },
    /// Something has happened in a turn of a thread.
    Happened { turn: String, event: Happening },
    /// It complains of its configuration.
    Complains(String),
    /// Anything else.
    Other,
}

/// What happens in a turn.
#[derive(Debug)]
pub(super) enum Happening {
    /// A part of it begins.
    Begun(Item),
    /// A part of it is whole.
    Ended(Item),
    /// A model has answered; so many tokens were used in the thread since it exists.
    Used(u64),
    /// The turn has ended.
    Over(Over),
}

/// A part of a turn: something that was said, or a tool that runs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Item {
    /// What kind it is, such as `agentMessage`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) id: String,
    /// Of what was said.
    pub(super) text: Option<String>,
    /// Of what the model said: whether it is `commentary`, where it says so.
    pub(super) phase: Option<String>,
    /// Of what a person said: the id that it was given to Codex with.
    pub(super) client_id: Option<String>,
    /// Of a command.
    pub(super) command: Option<String>,
    /// Of a tool of an MCP server.
    pub(super) server: Option<String>,
    pub(super) tool: Option<String>,
    /// Of a patch.
    pub(super) changes: Vec<Change>,
    /// Of a tool: `inProgress`, `completed` and so on.
    pub(super) status: Option<String>,
}

/// How a turn has ended.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) id: String,
    /// `completed`, `interrupted` or `failed`; something else if it does not say.
    pub(super) status: String,
    pub(super) error: Option<Wrong>,
    pub(super) items: Vec<Item>,
}

/// Why a turn has failed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wrong {
    pub(super) message: String,
    /// A word, or an object with a word and a status in it.
    #[serde(default)]
    pub(super) codex_error_info: Value,
}

#[derive(Debug, Deserialize)]
struct Line {
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    error: Option<Problem>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    #[serde(default)]
    message: String,
}

impl Heard {
    /// What a line says.
    ///
    /// # Errors
    /// It is no JSON object.
    pub(super) fn read(line: &[u8]) -> Result<Self, serde_json::Error> {
        let Line { id, method, params, result, error } = serde_json::from_slice(line)?;
        Ok(match (id, method) {
            (Some(id), Some(method)) => Self::Asks { id, method, params },
            (Some(id), None) => match (id.as_u64(), error) {
                (Some(id), Some(problem)) => Self::Answer(id, Err(problem.message)),
                (Some(id), None) => Self::Answer(id, Ok(result)),
                (None, _) => Self::Other,
            },
            (None, Some(method)) => happening(&method, params).unwrap_or(Self::Other),
            (None, None) => Self::Other,
        })
    }
}

impl Heard {
    /// Whether it says that this turn has ended.
    pub(super) fn ends(&self, turn: &str) -> bool {
        matches!(self, Self::Happened { turn: of, event: Happening::Over(_) } if of == turn)
    }
}

/// What is heeded of what happens; nothing for what is not, or has another shape than it should.
fn happening(method: &str, mut params: Value) -> Option<Heard> {
    if !params.is_object() {
        return None;
    }
    let item = |params: &mut Value| Item::deserialize(params["item"].take()).ok();
    let event = match method {
        "item/started" => Happening::Begun(item(&mut params)?),
        "item/completed" => Happening::Ended(item(&mut params)?),
        "thread/tokenUsage/updated" => {
            Happening::Used(params["tokenUsage"]["total"]["totalTokens"].as_u64()?)
        }
        "turn/completed" => {
            let over = Over::read(params["turn"].take())?;
            return Some(Heard::Happened { turn: over.id.clone(), event: Happening::Over(over) });
        }
        "configWarning" => {
            let said = |name: &str| params[name].as_str().map(str::to_owned);
            return Some(Heard::Complains(said("summary").or(said("message"))?));
        }
        _ => return None,
    };
    Some(Heard::Happened { turn: params["turnId"].as_str()?.to_owned(), event })
}

impl Over {
    /// What is readable of it: that a turn has ended must not be missed for what else is said of it. `None` if
    /// it does not say which.
    fn read(mut turn: Value) -> Option<Self> {
        let id = turn["id"].as_str()?.to_owned();
        let status = turn["status"].as_str().unwrap_or("it does not say how").to_owned();
        let error = Wrong::deserialize(turn["error"].take()).ok();
        let items = Vec::<Item>::deserialize(turn["items"].take()).unwrap_or_default();
        Some(Self { id, status, error, items })
    }
}

impl Item {
    /// The tool that runs while this part does, for people; `None` if it is none.
    pub(super) fn tool(&self) -> Option<String> {
        match self.kind.as_str() {
            "commandExecution" => Some("shell".to_owned()),
            "fileChange" => Some("apply_patch".to_owned()),
            "imageView" => Some("view_image".to_owned()),
            "mcpToolCall" | "dynamicToolCall" => {
                let tool = self.tool.as_deref().unwrap_or("tool");
                Some(match &self.server {
                    Some(server) => format!("{server}.{tool}"),
                    None => tool.to_owned(),
                })
            }
            _ => None,
        }
    }

    /// What it was, for a model that is told of it, with whether it came to an end.
    pub(super) fn told(&self) -> Option<String> {
        let tool = self.tool()?;
        let what = match &self.command {
            Some(command) => format!("{tool}: {command}"),
            None => tool,
        };
        let known = matches!(self.status.as_deref(), Some("completed" | "failed" | "declined"));
        Some(format!("{what} ({})", if known { "done" } else { "outcome unknown" }))
    }
}

impl Wrong {
    /// Its word, and the status of the upstream if it tells one.
    pub(super) fn kind(&self) -> (&str, Option<u16>) {
        match &self.codex_error_info {
            Value::String(word) => (word, None),
            Value::Object(fields) => {
                let Some((word, more)) = fields.iter().next() else { return ("", None) };
                let status = more["httpStatusCode"].as_u64().and_then(|it| u16::try_from(it).ok());
                (word, status)
            }
            _ => ("", None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_passed_over() {
        let others = [
            r#"{"method":"item/reasoning/textDelta","params":{"turnId":"t"}}"#,
            r#"{"method":"item/started","params":{"turnId":"t","item":7}}"#,
            r#"{"method":"turn/completed","params":{"turn":{"status":"completed"}}}"#,
            r#"{"method":"turn/completed","params":7}"#,
            r#"{"id":"x","result":{}}"#,
            r#"{}"#,
        ];
        for line in others {
            assert!(matches!(Heard::read(line.as_bytes()), Ok(Heard::Other)), "{line}");
        }
        assert!(Heard::read(b"oops").is_err());
    }

    #[test]
    fn the_end_of_a_turn_is_heard_whatever_else_is_said_of_it() {
        let cases = [
            (r#"{"id":"t","status":"completed","items":[7]}"#, "completed"),
            (r#"{"id":"t","status":"failed","error":{"message":null},"items":null}"#, "failed"),
            (r#"{"id":"t","status":{"type":"done"}}"#, "it does not say how"),
            (r#"{"id":"t"}"#, "it does not say how"),
        ];
        for (turn, status) in cases {
            let line = format!(r#"{{"method":"turn/completed","params":{{"turn":{turn}}}}}"#);
            let heard = Heard::read(line.as_bytes()).unwrap();
            assert!(heard.ends("t"), "{turn}");
            let Heard::Happened { event: Happening::Over(over), .. } = heard else {
                panic!("{turn}")
            };
            assert_eq!((over.status.as_str(), over.error.is_none()), (status, true), "{turn}");
        }
    }

    #[test]
    fn answers_questions_and_happenings_are_told_apart() {
        let read = |line: &str| Heard::read(line.as_bytes()).unwrap();
        assert!(matches!(read(r#"{"id":3,"result":{"a":1}}"#), Heard::Answer(3, Ok(_))));
        let wrong = read(r#"{"id":4,"error":{"code":-32600,"message":"no rollout"}}"#);
        assert!(matches!(wrong, Heard::Answer(4, Err(why)) if why == "no rollout"));
        let asks = read(r#"{"id":0,"method":"item/tool/requestUserInput","params":{}}"#);
        assert!(matches!(asks, Heard::Asks { method, .. } if method.starts_with("item/tool")));
        let begun = r#"{"method":"item/started","params":{"turnId":"t","item":{"type":"commandExecution",
            "id":"c","command":"ls","status":"inProgress"}}}"#;
        let Heard::Happened { turn, event: Happening::Begun(item) } = read(begun) else {
            panic!("{begun}")
        };
        assert_eq!((turn.as_str(), item.tool().as_deref()), ("t", Some("shell")));
        assert_eq!(item.told().as_deref(), Some("shell: ls (outcome unknown)"));
        let over = r#"{"method":"turn/completed","params":{"threadId":"h","turn":{"id":"t","status":"failed",
            "error":{"message":"no","codexErrorInfo":{"httpConnectionFailed":{"httpStatusCode":402}}}}}}"#;
        let Heard::Happened { event: Happening::Over(over), .. } = read(over) else {
            panic!("{over}")
        };
        assert_eq!(over.error.unwrap().kind(), ("httpConnectionFailed", Some(402)));
    }
}
