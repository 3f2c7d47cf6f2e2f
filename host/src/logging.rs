//! Where log lines go: to standard error, for people or as JSON.

use std::io::{self, Write};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use twobox_shared::visible;

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
    let colour = io::IsTerminal::is_terminal(&io::stderr());
    let writer = move || Clean { out: io::stderr(), format, colour };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => lines.with_ansi(colour).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|_| LoggingError::Twice)
}

/// Writes events, of which each comes in one piece, as one line each: what a container or a stranger
/// wrote steers no terminal and begins no line.
struct Clean<W> {
    out: W,
    format: LogFormat,
    /// Whether colours are ours.
    colour: bool,
}

impl<W: Write> Write for Clean<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let line = match self.format {
            LogFormat::Json => visible::json(text),
            LogFormat::Text if self.colour => with_colours(text),
            LogFormat::Text => visible::line(text),
        };
        self.out.write_all(format!("{line}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// As [`visible::line`], but for the sequences that set colours, such as `ESC [ 3 m`.
fn with_colours(text: &str) -> String {
    let mut pieces = text.split('\u{1b}');
    let mut line = visible::line(pieces.next().unwrap_or_default());
    for piece in pieces {
        let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == ';');
        let colour = piece.strip_prefix('[').and_then(|rest| rest.split_once('m'));
        match colour.filter(|(digits_of, _)| digits(digits_of)) {
            Some((code, rest)) => line.push_str(&format!("\u{1b}[{code}m{}", visible::line(rest))),
            None => line.push_str(&visible::line(&format!("\u{1b}{piece}"))),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: LogFormat, colour: bool, event: &str) -> String {
        let mut clean = Clean { out: Vec::new(), format, colour };
        clean.write_all(event.as_bytes()).unwrap();
        String::from_utf8(clean.out).unwrap()
    }

    #[test]
    fn an_event_is_one_line_whatever_it_quotes() {
        let event = "WARN a: \u{1b}]0;x\u{7} b\nERROR forged\u{202e}\u{9b}2J\n";
        let line = "WARN a: \\u{1b}]0;x\\u{7} b\\nERROR forged\\u{202e}\\u{9b}2J\n";
        assert_eq!(written(LogFormat::Text, false, event), line);
        assert_eq!(written(LogFormat::Text, true, event), line);
        let coloured = "\u{1b}[33mWARN\u{1b}[0m \u{1b}[2J\u{1b}\n";
        let line = "\u{1b}[33mWARN\u{1b}[0m \\u{1b}[2J\\u{1b}\n";
        assert_eq!(written(LogFormat::Text, true, coloured), line);
        assert_eq!(
            written(LogFormat::Json, false, "{\"a\":\"\u{9b}\"}\n"),
            "{\"a\":\"\\u009b\"}\n"
        );
    }
}
