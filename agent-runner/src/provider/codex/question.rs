//! What Codex asks of whoever uses it, as far as it is heeded. Pure.

use serde::Deserialize;
use serde_json::Value;

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Question {
    /// Whether a command may be run, in this folder if it is not the one where it works.
    Command { command: String, folder: Option<String> },
    /// Whether a patch may be applied, which began as this item of the turn.
    Patch { item: String },
    /// Whether a tool of a server of MCP may be used.
    Server { server: String, tool: String, given: Value },
    /// Something that nobody can be asked here.
    Other,
}

/// The form of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Approval,
    Elicitation,
}

/// A part of a patch.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Change {
    pub(super) path: String,
    /// An object with a `type`, such as `add`.
    pub(super) kind: Value,
    pub(super) diff: String,
}

impl Question {
    /// What is asked by `method` with `params` of somebody who works in `work`; `None` for what has no answer here
    /// but an error.
    pub(super) fn read(method: &str, params: &Value, work: &str) -> Option<(Self, Form)> {
        let text = |name: &str| params[name].as_str().map(str::to_owned);
        match method {
            "item/commandExecution/requestApproval" => {
                let question = match text("command") {
                    Some(command) if params["kind"].as_str().is_none_or(|it| it == "command") => {
                        Self::Command { command, folder: text("cwd").filter(|it| it != work) }
                    }
                    _ => Self::Other,
                };
                Some((question, Form::Approval))
            }
            "item/fileChange/requestApproval" => {
                let question = text("itemId").map_or(Self::Other, |item| Self::Patch { item });
                Some((question, Form::Approval))
            }
            "mcpServer/elicitation/request" => {
                let about = &params["_meta"];
                let question = match (about["codex_approval_kind"].as_str(), text("serverName")) {
                    (Some("mcp_tool_call"), Some(server)) => Self::Server {
                        server,
                        tool: tool(params["message"].as_str().unwrap_or_default()),
                        given: about["tool_params"].clone(),
                    },
                    _ => Self::Other,
                };
                Some((question, Form::Elicitation))
            }
            _ => None,
        }
    }
}

/// The tool of which a question speaks: `Allow the notes MCP server to run tool "drop"?`
fn tool(message: &str) -> String {
    let name = message.split_once("tool \"").and_then(|(_, rest)| rest.rsplit_once('"'));
    name.map_or("?", |(name, _)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_it_asks_is_read_as_it_asks_it() {
        let read = |method: &str, params: Value| Question::read(method, &params, "/w");
        let command = json!({"kind": "command", "command": "/bin/bash -lc ls", "cwd": "/w"});
        let asked = Question::Command { command: "/bin/bash -lc ls".to_owned(), folder: None };
        let method = "item/commandExecution/requestApproval";
        assert_eq!(read(method, command), Some((asked, Form::Approval)));
        let typed = json!({"kind": "writeStdin", "command": "y"});
        assert_eq!(read(method, typed), Some((Question::Other, Form::Approval)));
        let elsewhere = read(method, json!({"command": "x", "cwd": "/etc"})).unwrap().0;
        assert!(matches!(elsewhere, Question::Command { folder: Some(it), .. } if it == "/etc"));
        let patch = read("item/fileChange/requestApproval", json!({"itemId": "i"})).unwrap();
        assert_eq!(patch, (Question::Patch { item: "i".to_owned() }, Form::Approval));
        let method = "mcpServer/elicitation/request";
        let about = json!({"codex_approval_kind": "mcp_tool_call", "tool_params": {"a": 1}});
        let message = "Allow the s MCP server to run tool \"add\"?";
        let call = json!({"serverName": "s", "message": message, "_meta": about});
        let tool = Question::Server {
            server: "s".to_owned(),
            tool: "add".to_owned(),
            given: json!({"a": 1}),
        };
        assert_eq!(read(method, call), Some((tool, Form::Elicitation)));
        let own = json!({"serverName": "s", "message": "Your name?", "_meta": null});
        assert_eq!(read(method, own), Some((Question::Other, Form::Elicitation)));
        assert_eq!(read("item/tool/requestUserInput", json!({})), None);
    }
}
