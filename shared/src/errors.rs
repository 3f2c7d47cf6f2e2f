//! Errors as people read them: with everything beneath them, on one line, and nothing in them that a
//! terminal obeys.

/// The longest reason for a quarantine, in characters.
const REASON_MAX: usize = 500;

/// A reason that may quote a container, as something that can be shown: short, and without the
/// control characters that a terminal would obey.
pub fn for_a_terminal(reason: &str) -> String {
    let safe = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    reason.chars().take(REASON_MAX).map(safe).collect()
}

/// An error and everything beneath it, for one log line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
