//! The line that a person edits, and what is printed above it meanwhile.
//!
//! The editor blocks, so it has a thread of its own, which the program never waits for. What is printed
//! goes through the editor as long as it edits, and so above the line; in the moments between two lines
//! nothing is printed, or it would be glued to a prompt.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use nix::sys::termios::{self, SetArg, Termios};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Cmd, Config, ExternalPrinter, Helper, KeyCode, KeyEvent, Modifiers};
use tokio::sync::mpsc;

use twobox_system::lock::lock;

/// What stands before what is typed.
const PROMPT: &str = "> ";

/// How many lines are remembered, for as long as the program runs.
const HISTORY: usize = 1000;

/// A line that leaves no trace on the screen: up, and down again.
const NOTHING: &str = "\x1b[A\n";

/// Up, and nothing of what stood there.
const GONE: &str = "\x1b[A\x1b[J";

/// What a person did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Sent this, which may have several lines.
    Line(String),
    /// Gave up what stands there, by Ctrl-C.
    Interrupted,
    /// Wants to leave.
    End,
}

/// Where the editor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It shows a line, and takes what is to be printed.
    Editing,
    /// A line was just sent, and the next one is not there yet.
    Between,
    /// It could not go on.
    Gone,
}

#[derive(Debug)]
struct Gate {
    place: Mutex<Place>,
    changed: Condvar,
    /// How many lines were sent: what stands above the line then is not next to it any more.
    sent: AtomicU64,
}

impl Gate {
    fn set(&self, place: Place) {
        *lock(&self.place) = place;
        self.changed.notify_all();
    }

    /// Waits for a line to be there. Returns whether there is one.
    fn pass(&self) -> bool {
        let place = lock(&self.place);
        let between = |place: &mut Place| *place == Place::Between;
        let place = self.changed.wait_while(place, between);
        *place.unwrap_or_else(PoisonError::into_inner) == Place::Editing
    }
}

/// The terminal, with a line that is edited. Dropped, it is as it was before.
pub(super) struct Editor {
    printer: Box<dyn ExternalPrinter + Send>,
    gate: Arc<Gate>,
    before: Termios,
    /// Whether a line stands above that gives way to the next one, and how many were sent by then.
    passing: Option<u64>,
}

impl Editor {
    /// Begins to edit; what is sent comes out of the receiver. `None` where that is not possible: the
    /// streams are no terminal, or one that can do nothing.
    pub(super) fn begin() -> Option<(Self, mpsc::UnboundedReceiver<Input>)> {
        let before = termios::tcgetattr(std::io::stdin()).ok()?;
        let config = Config::builder().max_history_size(HISTORY).ok()?.build();
        let history = MemHistory::with_config(&config);
        let mut line = rustyline::Editor::with_history(config, history).ok()?;
        let printer = Box::new(line.create_external_printer().ok()?);
        let gate = Arc::new(Gate {
            place: Mutex::new(Place::Between),
            changed: Condvar::new(),
            sent: AtomicU64::new(0),
        });
        line.set_helper(Some(Watch(Arc::clone(&gate))));
        line.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
        // Unbounded: the editor must not wait for who waits for it.
        let (input, received) = mpsc::unbounded_channel();
        let theirs = Arc::clone(&gate);
        std::thread::spawn(move || edit(line, &theirs, &input));
        Some((Self { printer, gate, before, passing: None }, received))
    }

    /// Shows a line above the one that is edited, until there is something else to be shown there. Of what
    /// does not fit it is the end.
    pub(super) fn show(&mut self, text: &str) {
        self.put(&cut(text, columns()));
        self.passing = Some(self.gate.sent.load(Ordering::Relaxed));
    }

    /// Takes it away.
    pub(super) fn show_no_more(&mut self) {
        if self.passing.is_some() {
            self.put("");
        }
    }

    /// Prints lines above the one that is edited.
    pub(super) fn print(&mut self, text: &str) {
        self.put(text);
    }

    /// Prints `text` in the place of what gives way.
    fn put(&mut self, text: &str) {
        let gives_way = self.passing.take() == Some(self.gate.sent.load(Ordering::Relaxed));
        let line = match (gives_way, text.trim_end()) {
            (true, "") => GONE.to_owned(),
            (true, text) => format!("{GONE}{text}\n"),
            (false, text) => format!("{text}\n"),
        };
        if !self.gate.pass() || self.printer.print(line).is_err() {
            super::super::output::print(text); // the editor is gone, and nothing is edited
        }
    }

    /// Returns when everything that was printed is on the screen.
    fn settle(&mut self) {
        // The editor holds one text at most that it has not taken, and takes none before it has shown
        // the one before. So the second of these is let in when everything before the first is shown.
        for _ in 0..2 {
            if !self.gate.pass() || self.printer.print(NOTHING.to_owned()).is_err() {
                return;
            }
        }
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        self.settle();
        // Without brackets round what is pasted, and without the prompt.
        let mut out = std::io::stdout().lock();
        let said = out.write_all(b"\x1b[?2004l\r\x1b[J").and_then(|()| out.flush());
        let put_back = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.before);
        if said.is_err() || put_back.is_err() {
            tracing::debug!("the terminal is gone, and needs nothing");
        }
    }
}

/// How many columns the terminal has.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map_or(80, |size| usize::from(size.ws_col)).max(20)
}

/// As much of the end of `text` as surely fits into so many columns: a character may take two.
fn cut(text: &str, columns: usize) -> String {
    let width = |it: char| if it.is_ascii() { 1 } else { 2 };
    let mut left = columns.saturating_sub(2); // one for the mark
    let mut from = text.len();
    for (at, character) in text.char_indices().rev() {
        match left.checked_sub(width(character)) {
            Some(rest) => (left, from) = (rest, at),
            None => return format!("…{}", &text[from..]),
        }
    }
    text.to_owned()
}

type Line = rustyline::Editor<Watch, MemHistory>;

/// Edits line after line until nobody wants them. After the wish to leave too, so that what is printed
/// until then gets on the screen.
fn edit(mut line: Line, gate: &Gate, input: &mpsc::UnboundedSender<Input>) {
    loop {
        let prompt = Prompt { gate, entering: Mutex::new(true) };
        let read = line.readline(&prompt);
        gate.set(Place::Between);
        let happened = match read {
            Ok(text) => {
                // Only a line that is too long to be remembered is not, which is no loss.
                drop(line.add_history_entry(text.as_str()));
                Input::Line(text)
            }
            Err(ReadlineError::Interrupted) => Input::Interrupted,
            Err(ReadlineError::Eof) => Input::End,
            Err(error) => {
                tracing::debug!(%error, "the terminal is gone");
                gate.set(Place::Gone);
                drop(input.send(Input::End));
                return;
            }
        };
        if input.send(happened).is_err() {
            return gate.set(Place::Gone);
        }
    }
}

/// The prompt. The editor asks for it when the terminal is ready for a line.
struct Prompt<'a> {
    gate: &'a Gate,
    /// Whether it has not been asked for yet.
    entering: Mutex<bool>,
}

impl rustyline::Prompt for Prompt<'_> {
    fn raw(&self) -> &str {
        let mut entering = lock(&self.entering);
        if std::mem::take(&mut *entering) {
            self.gate.set(Place::Editing);
        }
        PROMPT
    }
}

/// Notices that a line is about to be sent.
struct Watch(Arc<Gate>);

impl Validator for Watch {
    fn validate(&self, _: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        self.0.sent.fetch_add(1, Ordering::Relaxed);
        self.0.set(Place::Between);
        Ok(ValidationResult::Valid(None))
    }
}

impl Highlighter for Watch {}

impl Hinter for Watch {
    type Hint = String;
}

impl Completer for Watch {
    type Candidate = String;
}

impl Helper for Watch {}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn what_is_shown_for_a_moment_takes_one_row() {
        let cases = [
            ("short", 10, "short"),
            ("as long as it may", 19, "as long as it may"),
            ("longer than it may", 12, "…han it may"),
            ("日本語の文", 8, "…語の文"),
        ];
        for (text, columns, expected) in cases {
            assert_eq!(cut(text, columns), expected, "{text}");
        }
    }
}
