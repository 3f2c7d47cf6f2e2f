//! Servers of MCP whose tools an agent has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The most servers that an agent has.
const SERVERS_MAX: usize = 20;

/// The servers, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Server>", into = "BTreeMap<String, Server>")]
pub struct Servers(BTreeMap<String, Server>);

/// A program that is started in the container and speaks on its standard streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Program and arguments, run in the program folder.
    pub command: Vec<String>,
    /// What it has in its environment besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Whether no turn is to go on without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}

impl Servers {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Server)> {
        self.0.iter().map(|(name, server)| (name.as_str(), server))
    }

    /// What a tool of the server `name` is called by models, before the tool's own name.
    pub fn prefix(name: &str) -> String {
        format!("mcp__{name}__")
    }
}

impl TryFrom<BTreeMap<String, Server>> for Servers {
    type Error = String;

    fn try_from(servers: BTreeMap<String, Server>) -> Result<Self, String> {
        if servers.len() > SERVERS_MAX {
            return Err(format!("mcp: an agent has {SERVERS_MAX} servers at most"));
        }
        for (name, server) in &servers {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if name.is_empty() || name.len() > 24 || !name.chars().all(fits) {
                return Err(format!(
                    "mcp: {name:?} is no name of a server: letters, digits and \"-\", 24 at most"
                ));
            }
            if server.command.first().is_none_or(String::is_empty) {
                return Err(format!(
                    "mcp.{name}.command: needs a program, such as [\"python3\", \"server.py\"]"
                ));
            }
            let wrong = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
            if let Some(wrong) = server.env.keys().find(wrong) {
                return Err(format!("mcp.{name}.env: {wrong:?} is no name of a variable"));
            }
        }
        Ok(Self(servers))
    }
}

impl From<Servers> for BTreeMap<String, Server> {
    fn from(servers: Servers) -> Self {
        servers.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (r#"{"a_b": {"command": ["x"]}}"#, "\"a_b\" is no name of a server"),
            (r#"{"": {"command": ["x"]}}"#, "is no name of a server"),
            (r#"{"a": {"command": []}}"#, "mcp.a.command: needs a program"),
            (r#"{"a": {}}"#, "missing field `command`"),
            (r#"{"a": {"command": ["x"], "url": "http://x"}}"#, "unknown field `url`"),
            (r#"{"a": {"command": ["x"], "env": {"A=B": "c"}}}"#, "mcp.a.env: \"A=B\""),
        ];
        for (text, expected) in cases {
            let error = serde_json::from_str::<Servers>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let text =
            r#"{"a":{"command":["x"],"env":{"B":"c"},"required":true},"b":{"command":["y"]}}"#;
        let servers: Servers = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&servers).unwrap(), text);
        assert_eq!(servers.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
    }
}
