//! How an agent group answers. The configuration is the host's, outside of every folder that a
//! container can write. At each start the host copies it as `agent.json` into the session's inbox
//! half, where the runner reads it.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which program answers a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// Says back what was said.
    #[default]
    Echo,
    /// Plays `script.json` from the program folder.
    Scripted,
    /// Runs any program.
    Command,
}

/// How long the program of [`ProviderKind::Command`] lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifetime {
    /// One process for each turn.
    #[default]
    Turn,
    /// One process for as long as the runner lives.
    Runner,
}

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

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An agent group's configuration. Spans are whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// Which program answers.
    pub provider: ProviderKind,
    /// Program and arguments of `command`, run in the program folder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// How long that program lives.
    pub lifetime: Lifetime,
    /// What the conversations may do with the folder that they share. Left out where it is the
    /// default: an older runner knows no such field.
    #[serde(skip_serializing_if = "SharedFolder::is_default")]
    pub shared_folder: SharedFolder,
    /// Model turns that one turn may take.
    pub max_turns: u32,
    /// How long a turn may take.
    pub turn_timeout_sec: u64,
    /// How long a tool may run that declares no limit of its own.
    pub tool_timeout_sec: u64,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            provider: ProviderKind::default(),
            command: Vec::new(),
            lifetime: Lifetime::default(),
            shared_folder: SharedFolder::default(),
            max_turns: 50,
            turn_timeout_sec: 30 * 60,
            tool_timeout_sec: 10 * 60,
        }
    }
}

/// Why a configuration cannot be used. The message names the file and the field.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct ConfigError {
    path: String,
    reason: String,
}

impl AgentConfig {
    /// Reads and checks the file at `path`; a missing file is the default.
    ///
    /// # Errors
    /// [`ConfigError`] for anything that is not a valid configuration.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with_text(path).map(|(config, _)| config)
    }

    /// As [`AgentConfig::load`], together with the text that was checked; `{}` for a missing file.
    /// The text and not this type is what another version of the runner is given: that version may
    /// not know each of our fields.
    ///
    /// # Errors
    /// As for [`AgentConfig::load`].
    pub fn load_with_text(path: &Path) -> Result<(Self, String), ConfigError> {
        let error = |reason: String| ConfigError { path: path.display().to_string(), reason };
        let text = match crate::bounds::CONFIG_FILE.read_to_string(path) {
            // Some editors write a byte order mark.
            Ok(text) => text.trim_start_matches('\u{feff}').to_owned(),
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => "{}".to_owned(),
            Err(other) => return Err(error(other.to_string())),
        };
        let config: Self = serde_json::from_str(&text).map_err(|cause| error(cause.to_string()))?;
        config.check().map_err(error)?;
        Ok((config, text))
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn check(&self) -> Result<(), String> {
        if self.provider == ProviderKind::Command
            && self.command.first().is_none_or(String::is_empty)
        {
            return Err("command: provider \"command\" needs a program, such as \
                        [\"python3\", \"agent.py\"]"
                .to_owned());
        }
        if self.provider != ProviderKind::Command && !self.command.is_empty() {
            return Err("command: only provider \"command\" runs a program".to_owned());
        }
        let spans = [
            ("max_turns", u64::from(self.max_turns)),
            ("turn_timeout_sec", self.turn_timeout_sec),
            ("tool_timeout_sec", self.tool_timeout_sec),
        ];
        match spans.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(format!("{name}: must be at least 1")),
            None => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_runner_is_not_told_what_is_usual() {
        let text = serde_json::to_string(&AgentConfig::default()).unwrap();
        assert!(!text.contains("shared_folder"), "{text}");
        for word in SharedFolder::WORDS {
            assert_eq!(SharedFolder::parse(word).map(SharedFolder::word), Some(word));
        }
        assert_eq!(SharedFolder::parse("RW"), None);
    }

    #[test]
    fn mistakes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.json");
        let cases = [
            (r#"{"provider":"command"}"#, "needs a program"),
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
        let missing = AgentConfig::load_with_text(&path).unwrap();
        assert_eq!(missing, (AgentConfig::default(), "{}".to_owned()));
    }
}
