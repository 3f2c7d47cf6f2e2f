//! What a conversation is printed on, and where its lines come from if nobody edits them.

use std::io::BufRead;

use tokio::sync::mpsc;

use super::editor::{Editor, Input};
use crate::cli::output::{Output, note, print};

/// Where it is printed what others say, and what is to be known of it.
pub(super) struct Paper {
    pub(super) output: Output,
    /// The terminal, if a line is edited there.
    pub(super) screen: Option<Editor>,
}

impl Paper {
    /// What the agent says.
    pub(super) fn text(&mut self, text: &str) {
        match &mut self.screen {
            Some(screen) => screen.print(text),
            None => print(text),
        }
    }

    /// What is said of the conversation.
    pub(super) fn note(&mut self, line: &str) {
        match &mut self.screen {
            Some(screen) => screen.print(line),
            None => note(line),
        }
    }

    /// What the agent is at, which gives way to the next thing that is said. In a pipe nobody looks on.
    pub(super) fn show(&mut self, line: &str) {
        if let Some(screen) = &mut self.screen {
            screen.show(line);
        }
    }

    /// It is at nothing any more.
    pub(super) fn show_no_more(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.show_no_more();
        }
    }

    pub(super) fn complain(&mut self, reason: &str) {
        let line = self.output.complaint(reason);
        self.note(&line);
    }
}

/// How much of a line a terminal takes that edits it itself: what is longer it cuts without a word.
const CANONICAL_MAX: usize = 4095;

/// Standard input on a thread of its own, which a program that ends does not wait for.
pub(super) fn read_lines(at_terminal: bool) -> mpsc::UnboundedReceiver<Input> {
    // Its reader keeps up: it only hands on.
    let (lines, received) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().split(b'\n').map_while(Result::ok) {
            if at_terminal && line.len() >= CANONICAL_MAX {
                note(&format!(
                    "twobox: not sent: this terminal cuts a line at {CANONICAL_MAX} bytes; give it in \
                     a file or a pipe, or let standard output be the terminal too"
                ));
                continue;
            }
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if lines.send(Input::Line(line)).is_err() {
                return;
            }
        }
    });
    received
}
