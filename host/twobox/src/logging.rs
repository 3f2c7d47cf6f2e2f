//! Where log lines go: to standard error, for people or as JSON.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;
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
             \"info,twobox=debug\""
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
        LogFormat::Json => lines.fmt_fields(JsonFields::new()).event_format(JsonLines).try_init(),
    }
    .map_err(|_| LoggingError::Twice)?;
    if format == LogFormat::Json {
        // What a parser reads has nothing else in it.
        std::panic::set_hook(Box::new(|panic| fatal(&panic.to_string())));
    }
    Ok(())
}

/// Says as a line of JSON why the program ends, whatever is logged otherwise.
pub fn fatal(reason: &str) {
    let mut time = String::new();
    if SystemTime.format_time(&mut Writer::new(&mut time)).is_err() {
        time.clear(); // no reason to say nothing
    }
    let fields = Fields::of_event(&time, "ERROR", env!("CARGO_CRATE_NAME"), reason);
    let mut clean = Clean { out: io::stderr(), format: LogFormat::Json, colour: false };
    drop(clean.write_all(fields.to_line().as_bytes())); // there is nobody left to tell
}

/// An event as one JSON object, in which each key is there once: a parser that keeps the last of two
/// would lose the sentence to a field.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut said = Fields(Vec::new());
        event.record(&mut said);
        let message = said.take("message").unwrap_or_default();
        let meta = event.metadata();
        let message = message.as_str().unwrap_or_default();
        let mut fields = Fields::of_event(&time, meta.level().as_str(), meta.target(), message);
        said.0.into_iter().for_each(|(name, value)| fields.add(&name, value));
        // The innermost first: what is nearer to the event counts.
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let Some(known) = extensions.get::<FormattedFields<N>>() else { continue };
            if let Ok(Value::Object(known)) = serde_json::from_str(&known.fields) {
                known.into_iter().for_each(|(name, value)| fields.add_if_new(&name, value));
            }
        }
        writer.write_str(&fields.to_line())
    }
}

/// Fields in their order, each name once.
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn of_event(time: &str, level: &str, target: &str, message: &str) -> Self {
        let fields =
            [("timestamp", time), ("level", level), ("target", target), ("message", message)];
        Self(fields.map(|(name, value)| (name.to_owned(), value.into())).to_vec())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    /// Under another name if that one is taken: nothing that was logged is lost.
    fn add(&mut self, name: &str, value: Value) {
        let mut name = name.to_owned();
        while self.has(&name) {
            name.push('_');
        }
        self.0.push((name, value));
    }

    fn add_if_new(&mut self, name: &str, value: Value) {
        if !self.has(name) {
            self.0.push((name.to_owned(), value));
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(index).1)
    }

    fn to_line(&self) -> String {
        let pairs: Vec<String> =
            self.0.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        format!("{{{}}}\n", pairs.join(","))
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value.into());
    }
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
    fn a_line_of_json_has_each_key_once_and_loses_nothing() {
        #[derive(Clone, Default)]
        struct Kept(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let kept = Kept::default();
        let out = kept.clone();
        let writer = move || Clean { out: out.clone(), format: LogFormat::Json, colour: false };
        let lines = tracing_subscriber::fmt()
            .with_writer(writer)
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines);
        tracing::subscriber::with_default(lines.finish(), || {
            let outer = tracing::error_span!("session", agent = "ada", chat = "42");
            let _outer = outer.enter();
            let _inner = tracing::error_span!("run", chat = "43", run = 7).entered();
            let id = "m1";
            tracing::warn!(message = id, level = 3, agent = "bob", odd = f64::NAN, "a \"message\"");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let (time, rest) = text.split_once(',').unwrap();
        assert!(time.starts_with("{\"timestamp\":\"20") && time.ends_with("Z\""), "{text}");
        let expected = "\"level\":\"WARN\",\"target\":\"twobox_host::logging::tests\",\
            \"message\":\"a \\\"message\\\"\",\"message_\":\"m1\",\"level_\":3,\"agent\":\"bob\",\
            \"odd\":null,\"chat\":\"43\",\"run\":7}\n";
        assert_eq!(rest, expected);
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
