//! A profile as a person writes it: `agents/<agent>.json`. Every field may be left out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use twobox_shared::agent_config::{
    AgentConfig, AgentConfigError, Fields, Lifetime, SharedFolder, Written, read_text,
};

use super::ExtraMount;
use twobox_model::egress::Egress;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// What answers,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Written>,
    /// and, where only its word is written, its program
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// and how long that lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
    /// What conversations may do with the folder that they share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_folder: Option<SharedFolder>,
    /// Model turns that one turn may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// Seconds that a turn may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_timeout_sec: Option<u64>,
    /// Seconds that a tool may run that declares no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_timeout_sec: Option<u64>,
    /// The image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// What of the network it may reach through the host.
    #[serde(skip_serializing_if = "Egress::is_empty")]
    pub egress: Egress,
    /// What a conversation may use up.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// What its models may use up in a day.
    #[serde(skip_serializing_if = "Budget::is_empty")]
    pub budget: Budget,
    /// Whether what its models answer is recorded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub record: bool,
    /// Folders of the machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<ExtraMount>,
    /// The environment of its program.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

/// What a conversation may use up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
}

/// The most USD of a day: above it is a mistake.
const USD_MAX: f64 = 1_000_000.0;

/// What the models of an agent may use up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Money in USD, in a day and all its conversations; no limit if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_day: Option<f64>,
    /// Tokens, in the same; no limit if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Money in USD for one message, or one run of a schedule; no limit if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_run: Option<f64>,
}

impl Budget {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the numbers are some that a person can mean.
    pub(super) fn check(&self) -> Result<(), String> {
        let all = [("usd_per_day", self.usd_per_day), ("usd_per_run", self.usd_per_run)];
        let wrong = |usd: f64| !(0.0..=USD_MAX).contains(&usd);
        match all.into_iter().find_map(|(name, usd)| Some((name, usd.filter(|usd| wrong(*usd))?))) {
            Some((name, usd)) => Err(format!(
                "budget.{name}: {usd} is not from 0 to {USD_MAX}; leave it out for no limit"
            )),
            None => Ok(()),
        }
    }
}

impl Limits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The field whose values are shown to nobody.
const ENVIRONMENT: &str = "environment";

impl File {
    /// What says `config`, with the numbers that people may want to change.
    pub fn of(config: &AgentConfig) -> Self {
        Self {
            provider: Some(Written::Object(config.provider.clone())),
            shared_folder: Some(config.shared_folder).filter(|it| *it != SharedFolder::default()),
            max_turns: Some(config.max_turns),
            turn_timeout_sec: Some(config.turn_timeout_sec),
            tool_timeout_sec: Some(config.tool_timeout_sec),
            ..Self::default()
        }
    }

    /// Reads the file at `path`, which may be missing.
    ///
    /// # Errors
    /// [`AgentConfigError`] with the field.
    pub fn load(path: &Path) -> Result<Self, AgentConfigError> {
        let text = read_text(path)?;
        Self::parse(&text).map_err(|reason| AgentConfigError::new(path, reason))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// The field, what is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut json = serde_json::Deserializer::from_str(text);
        let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let (path, cause) = (error.path().to_string(), error.inner());
            match path.as_str() {
                // The cause quotes what is there, which may be a secret, and this is said in chats.
                path if path.starts_with(ENVIRONMENT) => {
                    let (line, column) = (cause.line(), cause.column());
                    format!("{path}: has to be a text, in quotes, at line {line} column {column}")
                }
                "." | "?" => cause.to_string(),
                path => format!("{path}: {cause}"),
            }
        })?;
        json.end().map_err(|error| error.to_string())?;
        Ok(read)
    }

    /// The text of the file, for people to go on with.
    pub fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("words, numbers and texts serialise");
        format!("{text}\n")
    }

    /// The part that runners are told.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn agent(&self) -> Result<AgentConfig, String> {
        AgentConfig::of(Fields {
            provider: self.provider.clone(),
            command: self.command.clone(),
            lifetime: self.lifetime,
            shared_folder: self.shared_folder,
            max_turns: self.max_turns,
            turn_timeout_sec: self.turn_timeout_sec,
            tool_timeout_sec: self.tool_timeout_sec,
            gateway: None, // the host's to add
        })
    }
}
