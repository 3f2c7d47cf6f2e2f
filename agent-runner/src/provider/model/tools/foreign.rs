//! Tools of servers of MCP. What their server says is bounded like all that a tool says, and none fails a turn.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value};
use twobox_shared::agent_config::Servers;
use twobox_shared::content::shorten;
use twobox_shared::ids::{IdSource, SystemIds};

use super::bounded::Bounded;
use super::{Bench, Made, words};
use crate::mcp::link::{Trouble, Until};
use crate::provider::model::conversation::ToolSpec;
use crate::provider::model::servers::Ready;
use crate::say::say;

/// The most tools of all servers together: a model is told of each in every request.
const ALL_MAX: usize = 128;

/// The longest name that every API takes.
const NAME_MAX: usize = 64;

/// The servers that a turn can ask.
#[derive(Default)]
pub(in crate::provider::model) struct Foreign {
    /// The names of all that are configured.
    pub(in crate::provider::model) names: Vec<String>,
    /// Those that can be asked.
    pub(in crate::provider::model) ready: Vec<Arc<Ready>>,
}

/// A tool of a server.
pub(super) struct ForeignTool {
    pub(super) spec: ToolSpec,
    server: Arc<Ready>,
    /// What the server calls it.
    name: String,
}

impl Foreign {
    /// Whether a permission may be for this: a tool of a server that is configured, be it there or not, or
    /// all tools of one.
    pub(super) fn may_be(&self, permission: &str) -> bool {
        self.names.iter().any(|name| {
            let prefix = Servers::prefix(name);
            permission.starts_with(&prefix) || permission == prefix.trim_end_matches('_')
        })
    }

    /// The tools, without those that are denied.
    pub(super) fn tools(&self, denied: &[String]) -> Vec<ForeignTool> {
        let mut tools = Vec::new();
        for server in &self.ready {
            let prefix = Servers::prefix(&server.name);
            let is_denied = |name: &str| {
                denied.iter().any(|it| it == name || it == prefix.trim_end_matches('_'))
            };
            for tool in &server.tools {
                let name = format!("{prefix}{}", tool.name);
                if is_denied(&name) {
                    continue;
                }
                if name.len() > NAME_MAX || tools.len() >= ALL_MAX {
                    say!(
                        "the tool {name} is left out: its name is too long, or there are too many"
                    );
                    continue;
                }
                let (description, schema) = (tool.description.clone(), tool.schema.clone());
                let spec = ToolSpec { name, description, schema };
                let server = Arc::clone(server);
                tools.push(ForeignTool { spec, server, name: tool.name.clone() });
            }
        }
        tools
    }
}

impl ForeignTool {
    /// Uses it.
    pub(super) fn call(&self, bench: &Bench, arguments: &Map<String, Value>) -> Made {
        let until = Until { deadline: Instant::now() + bench.most, cancelled: &bench.cancelled };
        match self.server.client.call(&self.name, arguments, until) {
            Ok(result) => told(bench, &result),
            Err(Trouble::Silent) => Err(format!(
                "it has not answered in {} s, and nobody knows whether it was done",
                bench.most.as_secs()
            )),
            Err(trouble @ Trouble::Cut(_)) => Err(format!(
                "the MCP server {}: {trouble}, and nobody knows whether it was done",
                self.server.name
            )),
            // The host's words name it.
            Err(
                trouble @ (Trouble::Refused { .. } | Trouble::Unreached(_) | Trouble::Cancelled),
            ) => Err(trouble.to_string()),
            Err(
                trouble @ (Trouble::Gone
                | Trouble::Status(..)
                | Trouble::Forgotten
                | Trouble::NoMcp(_)
                | Trouble::TooLong),
            ) => Err(format!("the MCP server {}: {trouble}", self.server.name)),
        }
    }
}

/// Whether the tool `name` is one of the server that a permission is for, `mcp__SERVER`.
pub(super) fn is_of(name: &str, permission: &str) -> bool {
    permission.starts_with("mcp__")
        && name.strip_prefix(permission).is_some_and(|rest| rest.starts_with("__"))
}

/// What the model reads of a result.
fn told(bench: &Bench, result: &Value) -> Made {
    if result["resultType"].as_str().is_some_and(|kind| kind != "complete") {
        return Err("it wants to be told more in between, which nobody can do here".to_owned());
    }
    // The conversation may name the file for as long as it lasts: no other call is given its name.
    let name = format!("mcp-{}", SystemIds.uuid().simple());
    let mut text = Bounded::new(&bench.kept, name);
    let parts = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            text.push(b"\n");
        }
        match (part["text"].as_str(), part["resource"]["text"].as_str(), part["uri"].as_str()) {
            (Some(words), _, _) | (None, Some(words), _) => text.push(words.as_bytes()),
            (None, None, Some(uri)) => text.push(uri.as_bytes()),
            (None, None, None) => {
                let kind = shorten(part["type"].as_str().unwrap_or("something"), 40);
                text.push(format!("[{kind}, which is not shown here]").as_bytes());
            }
        }
    }
    if parts.is_empty() && !result["structuredContent"].is_null() {
        text.push(result["structuredContent"].to_string().as_bytes());
    }
    let text = text.end();
    match result["isError"].as_bool() {
        Some(true) => Err(text),
        _ if text.is_empty() => Ok(words("(It answered nothing.)")),
        _ => Ok(words(text)),
    }
}
