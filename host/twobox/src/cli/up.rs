//! `twobox up`: configuration and logging, then the daemon.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use super::Context;
use super::output::{Failure, chain};
use crate::logging::{self, LogFormat};
use crate::service;
use twobox_config::Config;
use twobox_system::data::{DataDir, DataError};
use twobox_system::owner;

/// Runs the host. Exit code 78 says that it is of no use to start it again before a person has changed
/// something.
pub(super) fn run(context: &Context, format: LogFormat) -> Result<ExitCode, Failure> {
    start(context, format).inspect_err(|failure| service::fails(failure.reason()))
}

fn start(context: &Context, format: LogFormat) -> Result<ExitCode, Failure> {
    let wrong = |error: &dyn Error| Failure::configuration(chain(error));
    let data = DataDir::open(&context.data).map_err(|error| of_data(&error))?;
    // Whatever is wrong there was written by a person.
    let (config, warnings) =
        Config::load(&data.config(), &context.env).map_err(|error| wrong(&error))?;
    logging::set_up(format, context.env.get(logging::VARIABLE).map(String::as_str))
        .map_err(|error| wrong(&error))?;
    if let Some(uid) = context.became {
        tracing::info!("running as user {}, whose the data directory is", owner::name(uid));
    }
    tell_closed(&data, &data.close_to_others().map_err(|error| of_data(&error))?);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("could not start the daemon's threads: {error}")))?
        .block_on(crate::daemon::run(data, config, warnings))
        .map_err(|error| judged(&error, error.is_configuration()))?;
    Ok(ExitCode::SUCCESS)
}

fn of_data(error: &DataError) -> Failure {
    judged(error, error.is_configuration())
}

fn judged(error: &dyn Error, is_configuration: bool) -> Failure {
    match is_configuration {
        true => Failure::configuration(chain(error)),
        false => Failure::new(chain(error)),
    }
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
