//! What became of the look around at the start.

use serde::Serialize;
use twobox_runtime::probe::Probed;
use twobox_shared::time::UnixMillis;

/// What became of the look around at the start, which tries whether agents can start here.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum LookAround {
    /// It has not ended.
    #[default]
    #[serde(rename = "not yet")]
    NotYet,
    /// Agents can start.
    Ok {
        /// When that was seen.
        at: UnixMillis,
        /// What was seen.
        seen: Probed,
    },
    /// The runtime did not answer.
    Waiting {
        /// When it was asked last.
        at: UnixMillis,
        /// What it was.
        error: String,
    },
    /// No agent can start.
    Failed {
        /// When that was seen.
        at: UnixMillis,
        /// What was seen, if a look around could be started.
        #[serde(skip_serializing_if = "Option::is_none")]
        seen: Option<Probed>,
        /// Why none could.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}
