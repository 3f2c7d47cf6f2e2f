//! What the runner says to its operator: one line on standard error for each thing to act on.

use std::io::Write;

use twobox_shared::visible;

/// Writes one line to standard error.
macro_rules! say {
    ($($arg:tt)*) => { $crate::say::line(&format!($($arg)*)) };
}
pub(crate) use say;

/// What it quotes, a provider or a message, others have written: it is one line, with escapes.
///
/// Whoever read our standard error may be gone, as when the host is upgraded. That must not end a
/// conversation, so a line that cannot be written is dropped.
pub(crate) fn line(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "agent-runner: {}", visible::line(text)));
}

/// Writes the answer to `--help` and the like to standard output.
pub(crate) fn print(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}")); // as in `line`
}
