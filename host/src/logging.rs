//! Where log lines go: to standard error, for people or as JSON.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object in each line.
    Json,
}

/// The variable that says what is logged.
pub const VARIABLE: &str = "TWOBOX_LOG";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not understood.
    #[error(
        "{VARIABLE}={given} is not a log filter: use \"info\", \"debug\" or a list such as \
             \"info,twobox_host=debug\""
    )]
    Filter {
        /// What the variable holds.
        given: String,
        /// Why not.
        source: ParseError,
    },
    /// Somebody else has set it up in this process.
    #[error("logging was set up twice")]
    Twice,
}

/// Sets up logging for the process. `filter` is the content of [`VARIABLE`], `info` without it.
///
/// # Errors
/// [`LoggingError::Filter`].
pub fn set_up(format: LogFormat, filter: Option<&str>) -> Result<(), LoggingError> {
    let given = filter.filter(|filter| !filter.is_empty()).unwrap_or("info");
    let filter = EnvFilter::try_new(given)
        .map_err(|source| LoggingError::Filter { given: given.to_owned(), source })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    match format {
        LogFormat::Text => lines.with_ansi(colour).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|_| LoggingError::Twice)
}
