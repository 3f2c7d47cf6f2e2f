//! Errors as people read them: with everything beneath them, in one line, and nothing in them that a
//! terminal obeys.

use std::error::Error;

use crate::visible;

/// The longest reason that is kept, in characters of what was said.
const REASON_MAX: usize = 500;

/// A reason that may quote a container, as something that can be shown: short, in one line, and with
/// everything escaped that a terminal would obey or hide.
pub fn for_a_terminal(reason: &str) -> String {
    visible::line(&reason.chars().take(REASON_MAX).collect::<String>())
}

/// An error and everything beneath it, in one line. A cause that its consequence has quoted already is
/// left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let quoted = cause.to_string();
        if !text.contains(&quoted) {
            text = format!("{text}: {quoted}");
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().unwrap();
        Layer { text, source: (!rest.is_empty()).then(|| Box::new(layers(rest))) }
    }

    #[test]
    fn an_error_is_told_with_its_causes_in_one_line_and_each_once() {
        let cases: [(&[&str], &str); 4] = [
            (&["it broke"], "it broke"),
            (&["it broke", "as it was", "old"], "it broke: as it was: old"),
            (&["could not read: not there", "not there"], "could not read: not there"),
            (&["two\nlines", "a cause"], "two lines: a cause"),
        ];
        for (texts, expected) in cases {
            assert_eq!(chain(&layers(texts)), expected);
        }
    }

    #[test]
    fn a_reason_steers_no_terminal_and_is_short() {
        assert_eq!(for_a_terminal("\x1b[2Jgone\nfor good"), "\\u{1b}[2Jgone\\nfor good");
        assert_eq!(for_a_terminal(&"x".repeat(501)).len(), 500);
    }
}
