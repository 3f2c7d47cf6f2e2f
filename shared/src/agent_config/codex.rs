//! What a person says of an agent that Codex answers.

use serde::{Deserialize, Serialize};

use super::{ModelName, Permissions, Servers};

/// Has Codex answer, OpenAI's program, in a loop with tools of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Codex {
    /// Which model answers. Its upstream speaks OpenAI's Responses.
    pub model: ModelName,
    /// How much the model is to think, in its vendor's word, such as `low`; as Codex has it if it is left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// What its tools may do: `shell`, `apply_patch`, `view_image`, those of the host and of servers. One that is
    /// not named is allowed.
    #[serde(default, skip_serializing_if = "Permissions::is_empty")]
    pub tools: Permissions,
    /// Servers whose tools it has besides.
    #[serde(default, skip_serializing_if = "Servers::is_empty")]
    pub mcp: Servers,
}

impl Codex {
    /// One of which nothing is said but the model.
    pub fn asking(model: ModelName) -> Self {
        Self { model, reasoning_effort: None, tools: Permissions::new(), mcp: Servers::default() }
    }
}
