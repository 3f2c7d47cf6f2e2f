//! What a person says of an agent that Codex answers.

use serde::{Deserialize, Serialize};

use super::ModelName;

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
}
