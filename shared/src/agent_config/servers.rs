//! Servers of MCP whose tools an agent has.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::Remote;

/// The most servers that an agent has.
const SERVERS_MAX: usize = 20;

/// The longest name of one, in bytes.
const NAME_MAX: usize = 24;

/// The path at the session's socket where the host asks the server that `?server=` names.
pub const MCP_PATH: &str = "/mcp";

/// The servers, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Written>", into = "BTreeMap<String, Written>")]
pub struct Servers(BTreeMap<String, Server>);

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// How it is reached.
    pub place: Place,
    /// Whether no turn is to go on without it.
    pub required: bool,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A program that is started in the container and speaks on its standard streams.
    Program {
        /// Program and arguments, run in the program folder. It is not empty.
        command: Vec<String>,
        /// What it has in its environment besides.
        env: BTreeMap<String, String>,
    },
    /// Somewhere else: the host asks it over HTTP, and no container knows where that is.
    Remote(Remote),
}

/// A server as the host tells a runner of it that reaches it by the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosted {
    /// Its name.
    pub name: String,
    /// Whether no turn is to go on without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}

/// A server as a person writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "unquoted")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    insecure: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
}

/// Headers. No error quotes what is written there: it may be a secret, and errors are said in chats.
fn unquoted<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let Value::Object(fields) = Value::deserialize(from)? else {
        return Err(D::Error::custom("mcp: headers: has to be an object, of texts by their names"));
    };
    let text = |(name, value)| match value {
        Value::String(text) => Ok((name, text)),
        _ => Err(D::Error::custom(format!("mcp: headers.{name}: has to be a text, in quotes"))),
    };
    fields.into_iter().map(text).collect()
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

    /// Those that the host reaches, with their names.
    pub fn remote(&self) -> impl Iterator<Item = (&str, &Remote)> {
        self.iter().filter_map(|(name, server)| match &server.place {
            Place::Remote(remote) => Some((name, remote)),
            Place::Program { .. } => None,
        })
    }

    /// Those that the host reaches, as a runner is told of them.
    pub fn hosted(&self) -> Vec<Hosted> {
        let hosted = |(name, server): (&str, &Server)| match server.place {
            Place::Remote(_) => Some(Hosted { name: name.to_owned(), required: server.required }),
            Place::Program { .. } => None,
        };
        self.iter().filter_map(hosted).collect()
    }

    /// Those that a runner starts, without those that the host reaches: where these are and what they are told
    /// is not for containers.
    pub fn programs(&self) -> Self {
        let mut servers = self.0.clone();
        servers.retain(|_, server| matches!(server.place, Place::Program { .. }));
        Self(servers)
    }

    /// What a tool of the server `name` is called by models, before the tool's own name.
    pub fn prefix(name: &str) -> String {
        format!("mcp__{name}__")
    }
}

impl TryFrom<BTreeMap<String, Written>> for Servers {
    type Error = String;

    fn try_from(written: BTreeMap<String, Written>) -> Result<Self, String> {
        if written.len() > SERVERS_MAX {
            return Err(format!("mcp: an agent has {SERVERS_MAX} servers at most"));
        }
        let read = |(name, written): (String, Written)| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fits) {
                return Err(format!(
                    "mcp: {name:?} is no name of a server: letters, digits and \"-\", {NAME_MAX} at most"
                ));
            }
            let required = written.required;
            let place = place(written).map_err(|(field, wrong)| match field.is_empty() {
                true => format!("mcp.{name}: {wrong}"),
                false => format!("mcp.{name}.{field}: {wrong}"),
            })?;
            Ok((name, Server { place, required }))
        };
        written.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }
}

/// Where the server is that is `written`.
///
/// # Errors
/// Which field is wrong, and how.
fn place(written: Written) -> Result<Place, (String, String)> {
    let Written { command, env, url, headers, insecure, required: _ } = written;
    let wrong = |field: &str, wrong: &str| Err((field.to_owned(), wrong.to_owned()));
    match (command, url) {
        (Some(_), Some(_)) => wrong("", "has a `command` and a `url`: write one of them"),
        (None, None) => wrong(
            "",
            "needs a `command`, such as [\"python3\", \"server.py\"], or a `url`, such as \
             \"https://mcp.example/mcp\"",
        ),
        (None, Some(_)) if !env.is_empty() => {
            wrong("env", "is of a program: one with a `url` has `headers`")
        }
        (None, Some(url)) => Remote::of(url, headers, insecure).map(Place::Remote),
        (Some(_), None) if !headers.is_empty() || insecure => {
            let field = if insecure { "insecure" } else { "headers" };
            wrong(field, "is of a server with a `url`: a program has `env`")
        }
        (Some(command), None) => {
            if command.first().is_none_or(String::is_empty) {
                return wrong("command", "needs a program, such as [\"python3\", \"server.py\"]");
            }
            let is_wrong = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
            match env.keys().find(is_wrong) {
                Some(name) => wrong("env", &format!("{name:?} is no name of a variable")),
                None => Ok(Place::Program { command, env }),
            }
        }
    }
}

impl From<Servers> for BTreeMap<String, Written> {
    fn from(servers: Servers) -> Self {
        let written = |(name, Server { place, required }): (String, Server)| {
            let written = match place {
                Place::Program { command, env } => {
                    Written { command: Some(command), env, required, ..Written::default() }
                }
                Place::Remote(remote) => Written {
                    url: Some(remote.url().to_owned()),
                    headers: remote.written(),
                    insecure: remote.is_insecure(),
                    required,
                    ..Written::default()
                },
            };
            (name, written)
        };
        servers.0.into_iter().map(written).collect()
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
            (r#"{"a": {}}"#, "mcp.a: needs a `command`"),
            (r#"{"a": {"command": ["x"], "url": "https://x"}}"#, "mcp.a: has a `command` and"),
            (r#"{"a": {"command": ["x"], "uri": "https://x"}}"#, "unknown field `uri`"),
            (r#"{"a": {"command": ["x"], "env": {"A=B": "c"}}}"#, "mcp.a.env: \"A=B\""),
            (r#"{"a": {"command": ["x"], "headers": {"X": "c"}}}"#, "mcp.a.headers: is of"),
            (r#"{"a": {"command": ["x"], "insecure": true}}"#, "mcp.a.insecure: is of"),
            (r#"{"a": {"url": "https://x", "env": {"A": "c"}}}"#, "mcp.a.env: is of a program"),
            (r#"{"a": {"url": "http://x.example/"}}"#, "mcp.a.url: would be asked in clear text"),
            (r#"{"a": {"url": "https://x", "headers": {"Host": "c"}}}"#, "mcp.a.headers.Host: is"),
            (r#"{"a": {"url": "https://x", "headers": "s3cret"}}"#, "has to be an object"),
            (
                r#"{"a": {"url": "https://x", "headers": {"X": ["s3cret"]}}}"#,
                "headers.X: has to be",
            ),
        ];
        for (text, expected) in cases {
            let error = serde_json::from_str::<Servers>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{text}: {error}");
        }
        let text =
            r#"{"a":{"command":["x"],"env":{"B":"c"},"required":true},"b":{"command":["y"]}}"#;
        let servers: Servers = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&servers).unwrap(), text);
        assert_eq!(servers.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_runner_is_told_the_name_of_a_server_that_the_host_reaches_and_nothing_else() {
        let text = r#"{"far":{"url":"https://x/mcp","headers":{"X-A":"${secret:hub}"},"required":true},"near":{"command":["y"]},"own":{"url":"http://nas/","insecure":true}}"#;
        let servers: Servers = serde_json::from_str(text).unwrap();
        let again: Servers =
            serde_json::from_str(&serde_json::to_string(&servers).unwrap()).unwrap();
        assert_eq!(again, servers, "nothing is lost where it is written again");
        let told = serde_json::to_string(&(servers.programs(), servers.hosted())).unwrap();
        let expected =
            r#"[{"near":{"command":["y"]}},[{"name":"far","required":true},{"name":"own"}]]"#;
        assert_eq!(told, expected);
        assert_eq!(servers.remote().map(|(name, _)| name).collect::<Vec<_>>(), ["far", "own"]);
    }
}
