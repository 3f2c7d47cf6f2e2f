//! How an agent group answers, as far as its runners have to know. The configuration is the host's,
//! outside of every folder that a container can write, and says more: how an agent is confined, and
//! what only its program is to know. At each start the host writes this part of it as `agent.json` into
//! the session's inbox half, where the runner reads it.

mod codex;
mod model;
mod provider;
mod remote;
mod servers;
mod tools;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use codex::Codex;
pub use model::{
    Api, Claude, FETCH_PATH, Gateway, LENGTH_HEADER, Model, ModelName, PLACE_HEADER, Permission,
    REFUSAL_HEADER, Route,
};
pub use provider::{Kind, Lifetime, Provider, Written};
pub use remote::{HeaderText, Remote};
pub use servers::{Hosted, MCP_PATH, Place, Server, Servers};
pub use tools::{CLAUDE_NOT_HERE, HOST_SERVER, HOST_TOOLS, Permissions};

/// What an agent's conversations may do with the folder that they share. What one conversation
/// leaves there, the agent reads in the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SharedFolder {
    /// Read and write.
    #[default]
    Rw,
    /// Read what the operator puts there.
    Ro,
    /// It is not there for them.
    None,
}

impl SharedFolder {
    /// All words.
    pub const WORDS: [&str; 3] = ["rw", "ro", "none"];

    /// The word in configurations and options.
    pub fn word(self) -> &'static str {
        let [rw, ro, none] = Self::WORDS;
        match self {
            Self::Rw => rw,
            Self::Ro => ro,
            Self::None => none,
        }
    }

    /// What `word` means.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Rw, Self::Ro, Self::None].into_iter().find(|access| access.word() == word)
    }
}

/// An agent group's configuration. Spans are whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// What answers.
    pub provider: Provider,
    /// What the conversations may do with the folder that they share.
    pub shared_folder: SharedFolder,
    /// Model turns that one turn may take.
    pub max_turns: u32,
    /// How long a turn may take.
    pub turn_timeout_sec: u64,
    /// How long a tool may run that declares no limit of its own.
    pub tool_timeout_sec: u64,
    /// The way to models. A person does not write it: the host adds it for a runner that needs one.
    pub gateway: Option<Gateway>,
}

/// A configuration as it is written, for a runner or by a person. What is left out is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fields {
    /// What answers,
    pub provider: Option<Written>,
    /// and, where only its word is written, its program
    pub command: Option<Vec<String>>,
    /// and how long that lives.
    pub lifetime: Option<Lifetime>,
    /// See [`AgentConfig`], as for those that follow.
    pub shared_folder: Option<SharedFolder>,
    /// Model turns.
    pub max_turns: Option<u32>,
    /// Of a turn.
    pub turn_timeout_sec: Option<u64>,
    /// Of a tool.
    pub tool_timeout_sec: Option<u64>,
    /// The way to models.
    pub gateway: Option<Gateway>,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            provider: Provider::default(),
            shared_folder: SharedFolder::default(),
            max_turns: 50,
            turn_timeout_sec: 30 * 60,
            tool_timeout_sec: 10 * 60,
            gateway: None,
        }
    }
}

/// Why a configuration cannot be used. The message names the file and the field.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct AgentConfigError {
    path: String,
    reason: String,
}

impl AgentConfigError {
    /// What is wrong with the file at `path`.
    pub fn new(path: &Path, reason: String) -> Self {
        Self { path: path.display().to_string(), reason }
    }
}

/// The text of the file at `path`; `{}` for a missing one.
///
/// # Errors
/// [`AgentConfigError`] if it cannot be read.
pub fn read_text(path: &Path) -> Result<String, AgentConfigError> {
    match crate::bounds::CONFIG_FILE.read_to_string(path) {
        // Some editors write a byte order mark.
        Ok(text) => Ok(text.trim_start_matches('\u{feff}').to_owned()),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => Ok("{}".to_owned()),
        Err(other) => Err(AgentConfigError::new(path, other.to_string())),
    }
}

impl AgentConfig {
    /// Reads and checks the file at `path`, as a runner does; a missing file is the default.
    ///
    /// # Errors
    /// [`AgentConfigError`] for anything that is not a valid configuration.
    pub fn load(path: &Path) -> Result<Self, AgentConfigError> {
        let text = read_text(path)?;
        let fields = serde_json::from_str(&text).map_err(|cause| cause.to_string());
        fields.and_then(Self::of).map_err(|reason| AgentConfigError::new(path, reason))
    }

    /// What `fields` say.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn of(fields: Fields) -> Result<Self, String> {
        let usual = Self::default();
        let config = Self {
            provider: Provider::of_parts(fields.provider, fields.command, fields.lifetime)?,
            shared_folder: fields.shared_folder.unwrap_or(usual.shared_folder),
            max_turns: fields.max_turns.unwrap_or(usual.max_turns),
            turn_timeout_sec: fields.turn_timeout_sec.unwrap_or(usual.turn_timeout_sec),
            tool_timeout_sec: fields.tool_timeout_sec.unwrap_or(usual.tool_timeout_sec),
            gateway: fields.gateway,
        };
        config.provider.check().map_err(|wrong| format!("provider.{wrong}"))?;
        let spans = [
            ("max_turns", u64::from(config.max_turns)),
            ("turn_timeout_sec", config.turn_timeout_sec),
            ("tool_timeout_sec", config.tool_timeout_sec),
        ];
        match spans.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(format!("{name}: must be at least 1")),
            None => Ok(config),
        }
    }

    /// All of it, in the form that every runner knows.
    fn fields(&self) -> Fields {
        let (command, lifetime) = match &self.provider {
            Provider::Command { command, lifetime } => (Some(command.clone()), *lifetime),
            Provider::Echo
            | Provider::Scripted
            | Provider::Model(_)
            | Provider::Claude(_)
            | Provider::Codex(_) => (None, Lifetime::default()),
        };
        Fields {
            provider: Some(Written::from(&self.provider.for_runner())),
            command,
            lifetime: Some(lifetime),
            shared_folder: Some(self.shared_folder),
            max_turns: Some(self.max_turns),
            turn_timeout_sec: Some(self.turn_timeout_sec),
            tool_timeout_sec: Some(self.tool_timeout_sec),
            gateway: self.gateway.clone(),
        }
    }

    /// The text for a runner. What is the default is left out: an older runner may not know the field.
    pub fn for_runner(&self) -> String {
        let usual = json(&Self::default());
        let mut fields = json(self);
        fields.retain(|name, value| usual.get(name) != Some(value));
        Value::Object(fields).to_string()
    }

    /// How long a turn may take.
    pub fn turn_timeout(&self) -> Duration {
        Duration::from_secs(self.turn_timeout_sec)
    }

    /// How long a tool may run that declares no limit of its own.
    pub fn tool_timeout(&self) -> Duration {
        Duration::from_secs(self.tool_timeout_sec)
    }
}

/// In the form that every runner knows.
impl Serialize for AgentConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.fields().serialize(serializer)
    }
}

fn json(config: &AgentConfig) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(mut fields)) => {
            fields.retain(|_, value| !value.is_null());
            fields
        }
        other => unreachable!("words, numbers and texts are an object: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AgentConfig, String> {
        let fields = serde_json::from_str(text).map_err(|error| error.to_string())?;
        AgentConfig::of(fields)
    }

    #[test]
    fn an_older_runner_is_not_told_what_is_usual() {
        let cases = [
            ("{}", "{}"),
            (r#"{"provider":{"kind":"echo"},"max_turns":50,"shared_folder":"rw"}"#, "{}"),
            (r#"{"provider":{"kind":"scripted"}}"#, r#"{"provider":"scripted"}"#),
            (
                r#"{"provider":{"kind":"command","command":["a","b"]},"max_turns":7}"#,
                r#"{"command":["a","b"],"max_turns":7,"provider":"command"}"#,
            ),
            (
                r#"{"provider":{"kind":"command","command":["a"],"lifetime":"runner"}}"#,
                r#"{"command":["a"],"lifetime":"runner","provider":"command"}"#,
            ),
            (r#"{"shared_folder":"none"}"#, r#"{"shared_folder":"none"}"#),
            (
                r#"{"provider":{"kind":"codex","model":"openai/gpt-x"}}"#,
                r#"{"provider":{"kind":"codex","model":"openai/gpt-x"}}"#,
            ),
        ];
        for (written, told) in cases {
            let config = read(written).unwrap();
            assert_eq!(config.for_runner(), told, "{written}");
            assert_eq!(read(told).unwrap(), config, "{written}: the same is read");
        }
    }

    #[test]
    fn a_provider_is_written_with_what_it_needs_or_by_its_word() {
        let command = |lifetime| Provider::Command { command: vec!["a".to_owned()], lifetime };
        let cases = [
            ("{}", Provider::Echo),
            (r#"{"provider":"scripted","command":[],"lifetime":"turn"}"#, Provider::Scripted),
            (r#"{"provider":{"kind":"scripted"}}"#, Provider::Scripted),
            (r#"{"provider":"command","command":["a"]}"#, command(Lifetime::Turn)),
            (
                r#"{"provider":"command","command":["a"],"lifetime":"runner"}"#,
                command(Lifetime::Runner),
            ),
            (
                r#"{"provider":{"lifetime":"runner","command":["a"],"kind":"command"}}"#,
                command(Lifetime::Runner),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).unwrap().provider, expected, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.json");
        for word in SharedFolder::WORDS {
            assert_eq!(SharedFolder::parse(word).map(SharedFolder::word), Some(word));
        }
        assert_eq!(SharedFolder::parse("RW"), None);
        let cases = [
            (r#"{"provider":"command"}"#, "needs a program"),
            (r#"{"provider":{"kind":"command","command":[]}}"#, "needs a program"),
            (r#"{"provider":{"kind":"command"}}"#, "missing field `command`"),
            (r#"{"provider":{"kind":"echo","command":["x"]}}"#, "unknown field `command`"),
            (r#"{"provider":{"kind":"gpt"}}"#, "unknown variant `gpt`"),
            (r#"{"provider":{}}"#, "missing field `kind`"),
            (r#"{"provider":{"kind":"scripted"},"command":["x"]}"#, "belongs into the object"),
            (r#"{"provider":{"kind":"scripted"},"lifetime":"turn"}"#, "belongs into the object"),
            (r#"{"provider":"codex"}"#, "write it as an object"),
            (r#"{"provider":{"kind":"codex","model":["a/b"]}}"#, "expected a string"),
            (
                r#"{"provider":{"kind":"codex","model":"a/b","mcp":{"x":{"url":"https://a/"}}}}"#,
                "provider.mcp.x.url: provider \"codex\" has servers with a `command` alone",
            ),
            (r#"{"provider":7}"#, "the name of a provider, or an object with its `kind`"),
            (r#"{"provider":"gpt"}"#, "unknown variant `gpt`"),
            (r#"{"max_turn":1}"#, "unknown field `max_turn`"),
            (r#"{"shared_folder":"rx"}"#, "unknown variant `rx`"),
            (r#"{"max_turns":0}"#, "max_turns: must be at least 1"),
            (r#"{"command":["x"]}"#, "only provider"),
        ];
        for (text, expected) in cases {
            std::fs::write(&path, text).unwrap();
            let error = AgentConfig::load(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains("agent.json"), "{error}");
        }
        std::fs::write(&path, r#"{"shared_folder":"none"}"#).unwrap();
        assert_eq!(AgentConfig::load(&path).unwrap().shared_folder, SharedFolder::None);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(AgentConfig::load(&path).unwrap(), AgentConfig::default());
        assert_eq!(read_text(&path).unwrap(), "{}");
    }
}
