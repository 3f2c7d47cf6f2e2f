//! `twobox up`: configuration and logging, then the daemon.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use twobox_shared::errors::chain;

use super::Context;
use super::output::Failure;
use crate::logging::{self, LogFormat};
use crate::service;
use twobox_config::{Config, ConfigError};
use twobox_system::data::{DataDir, DataError};
use twobox_system::errno::is_shortage;
use twobox_system::owner;

/// Runs the host. Exit code 78 says that it is of no use to start it again before a person has changed
/// something.
pub(super) fn run(context: &Context, format: LogFormat) -> Result<ExitCode, Failure> {
    start(context, format).inspect_err(|failure| service::fails(failure.reason()))
}

fn start(context: &Context, format: LogFormat) -> Result<ExitCode, Failure> {
    let wrong = |error: &dyn Error| Failure::configuration(chain(error));
    let data = DataDir::open(&context.data).map_err(|error| of_data(&error))?;
    let (config, warnings) = Config::load(&data.config(), &context.env)
        .map_err(|error| judged(&error, !is_shortage_of(&error)))?;
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
        .block_on(crate::daemon::run(data, config, &context.env, warnings))
        .map_err(|error| judged(&error, error.is_configuration()))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether the configuration could not be read for want of something. Whatever else is wrong there was
/// written by a person.
fn is_shortage_of(error: &ConfigError) -> bool {
    matches!(error, ConfigError::Unreadable { source, .. } if is_shortage(source))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_cannot_be_read_for_want_of_something_is_no_mistake() {
        let cases = [(23, true), (24, true), (12, true), (5, true), (13, false), (21, false)];
        for (errno, expected) in cases {
            let source = std::io::Error::from_raw_os_error(errno);
            let error = ConfigError::Unreadable { path: "twobox.toml".into(), source };
            assert_eq!(is_shortage_of(&error), expected, "{error:?}");
        }
    }
}
