//! What is printed, and how a failure is told.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;
use twobox_shared::errors::chain;
use twobox_shared::visible;

use crate::logging;

/// Exit code of a command that waited in vain.
pub(super) const TIMED_OUT: u8 = 3;

/// Exit code of a host that is of no use before a person has changed something: `EX_CONFIG` of
/// sysexits.h, by which a service manager knows not to start it again.
pub(super) const CONFIGURATION: u8 = 78;

/// Where and how a command prints.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// JSON instead of text.
    pub json: bool,
    /// What to add to a command of ours that people are told to run, so that it is about the same data
    /// directory: `--data DIR`, where that was said on the command line.
    pub(super) same_data: Option<&'static str>,
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

    /// A host cannot start, and a person has to change something first: exit code 78.
    pub(super) fn configuration(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), code: CONFIGURATION }
    }

    /// The sentence.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// Tells it as the last line of a log of JSON.
    pub(super) fn log(&self, output: Output) -> ExitCode {
        logging::fatal(&output.advise(&self.reason));
        ExitCode::from(self.code)
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

/// What a command of ours looks like where people are told to run it.
const COMMAND: &str = "`twobox ";

/// `word` as a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+,:@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// `--flag value`, as one types it.
pub(super) fn flag(name: &str, value: &str) -> String {
    format!("--{name} {}", quoted(value))
}

impl Output {
    /// For a program that was told on its command line that its data is in `given`, if it was told
    /// anything. Called once: what it makes stays for the life of the process.
    pub(super) fn new(json: bool, given: Option<&Path>) -> Self {
        let flag = given.map(|data| flag("data", &data.to_string_lossy()));
        Self { json, same_data: flag.map(|flag| &*flag.leak()) }
    }

    /// `text`, in which the commands of ours that people are told to run are about the data directory
    /// that they have named. Whoever set a variable, or is in the right folder, need not be told.
    pub(super) fn advise(self, text: &str) -> String {
        let Some(same_data) = self.same_data else { return text.to_owned() };
        let mut parts = text.split(COMMAND);
        let mut advice = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            advice.push_str(COMMAND);
            if !part.starts_with("--data ") {
                advice.push_str(same_data);
                advice.push(' ');
            }
            advice.push_str(part);
        }
        advice
    }

    /// Prints `value` as one line of JSON, or what `text` makes of it.
    pub fn show<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) {
        match self.json {
            true => json_line(value),
            false => print(&printable(&text(value))),
        }
    }

    /// Tells on standard error what is wrong although the command goes on.
    pub(super) fn warn(self, reason: &str) {
        let line = match self.json {
            true => json!({ "warning": self.advise(reason) }).to_string(),
            false => format!("twobox: warning: {}", printable(&self.advise(reason))),
        };
        note(&line);
    }

    /// Tells an error on standard error.
    pub(super) fn complain(self, reason: &str) {
        note(&self.complaint(reason));
    }

    /// The line that tells an error.
    pub(super) fn complaint(self, reason: &str) -> String {
        let reason = self.advise(reason);
        match self.json {
            true => visible::json(&json!({ "error": reason }).to_string()),
            false => format!("twobox: {}", visible::line(&reason)),
        }
    }
}

/// A line on standard output; what breaks it is marked, see [`lines`].
pub(super) fn say(line: &str) {
    print(&one(line));
}

/// A value as one line of JSON, in which nothing steers a terminal.
pub(super) fn json_line<T: Serialize>(value: &T) {
    print(&json_text(value));
}

/// The line of [`json_line`].
pub(super) fn json_text<T: Serialize>(value: &T) -> String {
    visible::json(&serde_json::to_string(value).expect("what we print serialises"))
}

/// Text that is fit to be printed, on standard output. When nobody reads it any more, the program is
/// done.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = match text.is_empty() {
        true => Ok(()),
        false => writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()),
    };
    if written.is_err() {
        std::process::exit(1);
    }
}

/// A line on standard error, as with [`say`]; a closed one is no reason to stop.
pub(super) fn note(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{}", one(line)));
}

/// What stands before every further line of a text that others wrote, so that it is none of ours.
const MARK: &str = "    | ";

/// `text` without what would steer the terminal: a container may have written it. Its line breaks
/// stay, so they have to be our own, or meant for somebody who sees nothing else: see [`lines`].
pub(super) fn printable(text: &str) -> String {
    visible::block(text)
}

/// One line for each of `items`; line breaks within one begin no line that looks like another.
pub(super) fn lines<T: AsRef<str>>(items: &[T]) -> String {
    let marked: Vec<String> = items.iter().map(|item| one(item.as_ref())).collect();
    marked.join("\n")
}

/// As [`lines`], of one.
pub(super) fn one(item: &str) -> String {
    visible::marked(item, MARK)
}

/// A reply among lines of our own: one that begins like those is set apart too.
pub(super) fn reply(text: &str) -> String {
    let ours = ["twobox:", "(", "["].iter().any(|start| text.trim_start().starts_with(start));
    match ours {
        true => visible::marked(&format!("\n{text}"), MARK).trim_start_matches('\n').to_owned(),
        false => one(text),
    }
}

/// So many of something, in words.
pub(super) fn count(count: impl Into<i128>, one: &str, many: &str) -> String {
    match count.into() {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    }
}

/// As [`count`], of what a collection holds.
pub(super) fn count_of(length: usize, one: &str, many: &str) -> String {
    count(i128::try_from(length).unwrap_or(i128::MAX), one, many)
}

/// Columns, as wide as they need to be. A cell is one line, whoever wrote it.
pub(super) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| visible::line(cell))).collect();
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
    fn what_a_container_writes_cannot_steer_the_terminal_or_forge_a_line() {
        assert_eq!(printable("a\x1b[2Jb\nc\td"), "a\\u{1b}[2Jb\nc\td");
        assert_eq!(lines(&["thread x\nstatus  active", "b"]), "thread x\n    | status  active\nb");
        assert_eq!(table(["N", "X"], &[["a\nb".into(), "1".into()]]), "N     X\na\\nb  1");
        let replies = [
            ("hi\ntwobox: broken", "hi\n    | twobox: broken"),
            ("twobox: broken", "    | twobox: broken"),
            ("[file x]\ny", "    | [file x]\n    | y"),
            ("hi", "hi"),
        ];
        for (said, shown) in replies {
            assert_eq!(reply(said), shown);
        }
        assert_eq!(json_text(&"\u{9b}\u{202e}"), r#""\u009b\u202e""#);
    }

    #[test]
    fn what_to_run_is_about_the_directory_that_was_named() {
        let text = "start it with `twobox up`, or `twobox --data /b init`; `runs` shows more";
        assert_eq!(Output::new(false, None).advise(text), text);
        let cases = [
            ("/a/b", "--data /a/b"),
            ("my data", "--data 'my data'"),
            ("it's", r"--data 'it'\''s'"),
            ("$(x)", "--data '$(x)'"),
        ];
        for (given, flag) in cases {
            let output = Output::new(false, Some(Path::new(given)));
            let expected = text.replacen("`twobox up`", &format!("`twobox {flag} up`"), 1);
            assert_eq!(output.advise(text), expected);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "1".to_owned()], ["bcdef".to_owned(), "2".to_owned()]];
        assert_eq!(table(["n", "x"], &rows), "n      x\na      1\nbcdef  2");
    }
}
