//! Spans of time, as people write them.

use std::time::Duration;

/// The longest span that can be set: added to any instant, it stays in range.
const SPAN_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A span as people write it: months of 30.44 days are nobody's unit.
pub(super) fn show_span(span: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match span.as_secs() {
        seconds if seconds > 0 && seconds % DAY == 0 && span.subsec_nanos() == 0 => {
            let days = seconds / DAY;
            format!("{days}day{}", if days == 1 { "" } else { "s" })
        }
        _ => humantime::format_duration(span).to_string(),
    }
}

/// The time that people write so, such as `10m`; `None` if it is none, or not above zero and up to a year.
pub fn span(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim())
        .ok()
        .filter(|span| *span >= Duration::from_millis(1) && *span <= SPAN_MAX)
}
