//! What is printed, and how a failure is told.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

/// Exit code of a command that waited in vain.
pub(super) const TIMED_OUT: u8 = 3;

/// Where and how a command prints.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// JSON instead of text.
    pub json: bool,
}

/// Why a command failed: a whole sentence, with what to do.
#[derive(Debug)]
pub struct Failure {
    reason: String,
    code: u8,
}

impl Failure {
    /// A failure with exit code 1.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), code: 1 }
    }

    /// A mistake in the command line that only the command could see: exit code 2.
    pub(super) fn usage(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), code: 2 }
    }

    /// What was waited for did not come: exit code 3.
    pub(super) fn timed_out(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), code: TIMED_OUT }
    }

    /// The sentence.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// Tells it on standard error, in one line.
    pub(super) fn report(&self, output: Output) -> ExitCode {
        output.complain(&self.reason);
        ExitCode::from(self.code)
    }
}

/// Every error becomes its chain of causes in one line.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(chain(&error))
    }
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their cause in their own message.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}

impl Output {
    /// Prints `value` as one line of JSON, or what `text` makes of it.
    pub fn show<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) {
        match self.json {
            true => say(&serde_json::to_string(value).expect("what we print serialises")),
            false => say(&text(value)),
        }
    }

    /// Tells on standard error what is wrong although the command goes on.
    pub(super) fn warn(self, reason: &str) {
        let line = match self.json {
            true => json!({ "warning": reason }).to_string(),
            false => format!("twobox: warning: {}", printable(reason)),
        };
        note(&line);
    }

    /// Tells an error on standard error.
    pub(super) fn complain(self, reason: &str) {
        let line = match self.json {
            true => json!({ "error": reason }).to_string(),
            false => format!("twobox: {}", printable(reason)),
        };
        note(&line);
    }
}

/// A line on standard output. When nobody reads it any more, the program is done.
pub(super) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let written = match line.is_empty() {
        true => Ok(()),
        false => writeln!(out, "{}", line.trim_end()).and_then(|()| out.flush()),
    };
    if written.is_err() {
        std::process::exit(1);
    }
}

/// A line on standard error; a closed one is no reason to stop.
pub(super) fn note(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// `text` without what would steer the terminal: a container may have written it.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            // Directional marks can make a line read as another one.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Columns, as wide as they need to be.
pub(super) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&dyn Display; N]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{:<width$}", cell.to_string()))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(heads.each_ref().map(|head| head as &dyn Display))];
    lines.extend(rows.iter().map(|row| line(row.each_ref().map(|cell| cell as &dyn Display))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_writes_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\nc\td\u{202e}"), "a\u{fffd}[2Jb\u{fffd}\nc\td\u{fffd}");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "1".to_owned()], ["bcdef".to_owned(), "2".to_owned()]];
        assert_eq!(table(["n", "x"], &rows), "n      x\na      1\nbcdef  2");
    }
}
