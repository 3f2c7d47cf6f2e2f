//! The daemon. A stand-in until the core arrives.

use crate::config::Config;
use crate::data::DataDir;

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
#[error("this build has no daemon")]
pub struct DaemonError;

/// Runs until it is told to stop.
///
/// # Errors
/// Always.
pub async fn run(
    _data: DataDir,
    _config: Config,
    warnings: Vec<String>,
) -> Result<(), DaemonError> {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Err(DaemonError)
}
