//! What becomes of the slots of a schedule that has come due: pure functions of the schedule, its runs
//! that are not ended, the chats that go on, and the time.

use std::time::Duration;

use twobox_shared::ids::RunId;
use twobox_shared::time::UnixMillis;

use twobox_slots::missed::{self, CatchUp, Missed};
use twobox_slots::overlap::{self, Decision, Unended};
use twobox_slots::reason::Reason;
use twobox_slots::timetable::Timetable;
use twobox_slots::{Slot, jitter};
use twobox_store::schedules::{Next, Run, Schedule, SlotFate, SlotRow, Status, Trigger};

/// How late the host may be for a slot without having missed it.
const ON_TIME: Duration = Duration::from_secs(60);

/// For how long in all a firing is put off because chat turns are going on.
const CHAT_PAUSE_MAX: Duration = Duration::from_secs(10 * 60);

/// Until when the next slot of a schedule is put off because `chat_turns` are going on, by `pause` at a
/// time; `None` if it is to be fired now.
pub fn put_off(
    schedule: &Schedule,
    next: Next,
    chat_turns: usize,
    pause: Duration,
    now: UnixMillis,
) -> Option<UnixMillis> {
    let jitter = u64::try_from(schedule.definition.jitter_ms).unwrap_or(0);
    let patience = Duration::from_millis(jitter) + CHAT_PAUSE_MAX;
    let end = next.slot + patience;
    (chat_turns > 0 && now < end).then_some((now + pause).min(end))
}

/// What is to be stored.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// One row for each slot, or for several that were missed; oldest first.
    pub rows: Vec<SlotRow>,
    /// Runs that end because a newer one takes their place.
    pub replaces: Vec<RunId>,
    /// The slot that comes next.
    pub next: Option<Next>,
}

/// What is known of the runs of a schedule.
#[derive(Debug, Default)]
pub struct Known {
    /// Those that are not ended.
    pub open: Vec<Run>,
    /// The slots from the next one on for which rows stand already, each from the first to the last,
    /// oldest first: somebody wanted them before the cadence came to them.
    pub taken: Vec<(Slot, Slot)>,
}

/// Decides about all slots of `schedule` that have come by `now`, of which `next` is the first and which
/// have no row yet. `fresh` makes ids.
pub fn plan(
    schedule: &Schedule,
    timetable: &Timetable,
    next: Next,
    known: &Known,
    now: UnixMillis,
    mut fresh: impl FnMut() -> RunId,
) -> Plan {
    let Known { open, taken } = known;
    let definition = &schedule.definition;
    let span = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    // What was put off, by jitter or for chat, is late by intent.
    let grace = next.due.since(next.slot) + ON_TIME;
    let catch_up = CatchUp {
        policy: definition.missed,
        window: span(definition.missed_window_ms),
        ..CatchUp::default()
    };
    let due = |slot: Slot| {
        let following = timetable.next_after(slot);
        jitter::due(schedule.id, slot, span(definition.jitter_ms), following)
    };
    let reckoning = missed::reckon(timetable, Slot(next.slot), now, grace, catch_up);
    let left = definition.max_runs.map_or(i64::MAX, |most| most - schedule.fired);

    let mut rows: Vec<(UnixMillis, UnixMillis, SlotFate)> = Vec::new();
    let mut replaces = Vec::new();
    let before = count(open);
    let mut unended = before;
    let mut fired = 0;
    let is_taken = |slot: &Slot| taken.iter().any(|(first, last)| (first..=last).contains(&slot));
    for slot in reckoning.run.into_iter().filter(|slot| !is_taken(slot)) {
        if fired >= left {
            break; // the schedule is over
        }
        // Runs that make up for missed slots follow one another, and are no overlap for each other:
        // only what went on before they came is.
        let makes_up = now > slot.0 + grace && definition.overlap != overlap::Policy::Replace;
        let beside = if makes_up { before } else { unended };
        let fate = match overlap::decide(definition.overlap, beside) {
            Decision::Run | Decision::Wait => SlotFate::Run,
            Decision::Skip => SlotFate::Skipped(Reason::Overlap),
            Decision::Replace => {
                // What a person asked for is no slot that a newer one stands for.
                let by_cadence = open.iter().filter(|run| run.trigger == Trigger::Scheduled);
                replaces = by_cadence.map(|run| run.id).collect();
                for (_, _, fate) in rows.iter_mut().filter(|(_, _, fate)| *fate == SlotFate::Run) {
                    *fate = SlotFate::Skipped(Reason::Replaced);
                    fired -= 1;
                }
                unended = Unended::default();
                SlotFate::Run
            }
        };
        if fate == SlotFate::Run {
            fired += 1;
            unended.queued += 1;
        }
        rows.push((slot.0, due(slot), fate));
    }
    let missed = reckoning.missed.into_iter();
    rows.extend(missed.flat_map(|missed| missed.without(timetable, taken)).map(left_out));
    rows.sort_by_key(|(slot, _, _)| *slot);
    // The newest row has the last id: lists go by that.
    let row = |(slot, due, fate)| SlotRow { id: fresh(), slot, due, fate };
    let rows = rows.into_iter().map(row).collect();
    let next = reckoning.next.map(|slot| Next { slot: slot.0, due: due(slot) });
    Plan { rows, replaces, next }
}

/// The row of slots that were missed: its slot, when it is due, and what becomes of it.
fn left_out(missed: Missed) -> (UnixMillis, UnixMillis, SlotFate) {
    let fate = SlotFate::Missed {
        reason: missed.reason,
        count: i64::try_from(missed.count).unwrap_or(i64::MAX),
        last_slot: missed.last.0,
    };
    (missed.first.0, missed.first.0, fate)
}

fn count(open: &[Run]) -> Unended {
    let of = |status| open.iter().filter(|run| run.status == status).count() as u64;
    Unended { queued: of(Status::Queued), running: of(Status::Running) }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;

#[cfg(test)]
#[path = "put_off_tests.rs"]
mod put_off_tests;
