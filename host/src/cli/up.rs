//! `twobox up`: configuration and logging, then the daemon.

use std::process::ExitCode;

use super::Context;
use super::output::Failure;
use crate::logging::{self, LogFormat};

pub(super) fn run(context: &Context, format: LogFormat) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let (config, warnings) = context.load_config(&data.config())?;
    logging::set_up(format, context.env.get(logging::VARIABLE).map(String::as_str))?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("could not start the daemon's threads: {error}")))?
        .block_on(crate::daemon::run(data, config, warnings))?;
    Ok(ExitCode::SUCCESS)
}
