//! Tools of servers of MCP. What their server says is bounded like all that a tool says, and none fails a turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
            Err(trouble) => Err(not_done(&trouble, &self.server.name, bench.most)),
        }
    }
}

/// What the model reads where the server `name`, of which an answer was wanted within `most`, has given none. What
/// may have been done all the same is not told as what was not.
fn not_done(trouble: &Trouble, name: &str, most: Duration) -> String {
    let unknown = match trouble.may_be_done() {
        true => ", and nobody knows whether it was done",
        false => "",
    };
    match trouble {
        Trouble::Silent => format!("it has not answered in {} s{unknown}", most.as_secs()),
        // The host's words name it.
        Trouble::Refused { .. }
        | Trouble::Unreached(_)
        | Trouble::Unanswered(_)
        | Trouble::Forbidden(_)
        | Trouble::Unasked(_)
        | Trouble::Cancelled => format!("{trouble}{unknown}"),
        Trouble::Gone
        | Trouble::Status(..)
        | Trouble::Forgotten
        | Trouble::NoMcp(_)
        | Trouble::TooLong
        | Trouble::Cut(_) => format!("the MCP server {name}: {trouble}{unknown}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_done_is_not_told_as_what_was_not() {
        let unknown = ", and nobody knows whether it was done";
        let why = || "Twobox: why".to_owned();
        let refused = Trouble::Refused { code: -1, message: "no".to_owned(), data: Value::Null };
        for (trouble, expected, may_be_done) in [
            (refused, "it refuses: no (-1)", false),
            (Trouble::Unreached(why()), "Twobox: why", false),
            (Trouble::Forbidden(why()), "Twobox: why", false),
            (Trouble::Unasked(why()), "Twobox: why", false),
            (Trouble::Gone, "the MCP server far: it has ended", false),
            (Trouble::Unanswered(why()), "Twobox: why", true),
            (Trouble::Silent, "it has not answered in 2 s", true),
            (
                Trouble::Status(500, String::new()),
                "the MCP server far: it answers with the HTTP status 500",
                true,
            ),
            (Trouble::TooLong, "the MCP server far: it answers more than 16 MiB", true),
            (
                Trouble::Cut("it ended".to_owned()),
                "the MCP server far: its answer broke off: it ended",
                true,
            ),
        ] {
            let told = not_done(&trouble, "far", Duration::from_secs(2));
            let (words, is_unknown) = match told.strip_suffix(unknown) {
                Some(words) => (words, true),
                None => (told.as_str(), false),
            };
            assert_eq!((words, is_unknown), (expected, may_be_done), "{trouble:?}");
        }
    }
}
