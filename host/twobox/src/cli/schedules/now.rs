//! How it stands now: what goes on, what waits, and how soon the next slot comes.

use std::time::Duration;

use twobox_shared::time::UnixMillis;

use twobox_schedule::service::view::{Shown, Upcoming};
use twobox_slots::cadence::parse_instant;
use twobox_store::schedules::Status;

/// What goes on and what waits; nothing if neither is so.
pub(super) fn going_on(shown: &Shown) -> Vec<String> {
    let going = shown.runs.iter().filter(|run| run.status == Status::Running).map(|run| {
        let times = (run.started_at.as_deref(), run.lease_until.as_deref());
        let (since, until) = (times.0.unwrap_or("?"), times.1.unwrap_or("?"));
        format!("a run goes on since {since}, until {until} at the latest")
    });
    let waiting = match shown.waiting {
        0 => None,
        1 => Some("a run waits for its turn".to_owned()),
        count => Some(format!("{count} runs wait for their turn")),
    };
    going.chain(waiting).map(|line| format!("now       {line}")).collect()
}

/// How long after `at` the first of the slots fires, as the end of its line.
pub(super) fn in_how_long(next: &[Upcoming], at: UnixMillis) -> Option<String> {
    let due = parse_instant(&next.first()?.due).ok()?;
    let span = due.since(at);
    Some(match span < Duration::from_secs(1) {
        true => ", which is now".to_owned(),
        false => format!(", in {}", humantime::format_duration(about(span))),
    })
}

/// A span as exactly as people want to know it.
fn about(span: Duration) -> Duration {
    const HOUR: u64 = 60 * 60;
    let seconds = span.as_secs();
    let grain = match seconds {
        0..HOUR => 1,
        HOUR..86_400 => 60,
        _ => HOUR,
    };
    Duration::from_secs(seconds / grain * grain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_slot_is_told_as_exactly_as_it_is_near() {
        let at = UnixMillis(1_800_000_000_000);
        let slot = |ms: i64| {
            let time = UnixMillis(at.0 + ms).to_rfc3339();
            vec![Upcoming { slot: at.to_rfc3339(), due: time }]
        };
        let cases = [
            (-5_000, ", which is now"),
            (999, ", which is now"),
            (61_500, ", in 1m 1s"),
            (3_661_000, ", in 1h 1m"),
            (90_061_000, ", in 1day 1h"),
        ];
        for (ms, expected) in cases {
            assert_eq!(in_how_long(&slot(ms), at).unwrap(), expected, "{ms} ms");
        }
        assert_eq!(in_how_long(&[], at), None);
    }
}
