//! `twobox up`: configuration and logging, then the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Context;
use super::output::Failure;
use crate::data::DataDir;
use crate::logging::{self, LogFormat};
use crate::owner;

pub(super) fn run(context: &Context, format: LogFormat) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let (config, warnings) = context.load_config(&data.config())?;
    logging::set_up(format, context.env.get(logging::VARIABLE).map(String::as_str))?;
    if let Some(uid) = context.became {
        tracing::info!("running as user {}, whose the data directory is", owner::name(uid));
    }
    tell_closed(&data, &data.close_to_others()?);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("could not start the daemon's threads: {error}")))?
        .block_on(crate::daemon::run(data, config, warnings))?;
    Ok(ExitCode::SUCCESS)
}

/// Says what others could read until now. What is written there may be known to them.
fn tell_closed(data: &DataDir, closed: &[PathBuf]) {
    let Some(first) = closed.first() else { return };
    tracing::warn!(
        count = closed.len(),
        first = %first.display(),
        "files and folders of the host were open to other users, and are not any more"
    );
    if closed.contains(&data.api_token()) && closed.contains(&data.root().to_owned()) {
        tracing::warn!(
            "other users could read the API's token: `twobox --data {} token renew` makes another one",
            data.root().display()
        );
    }
}
