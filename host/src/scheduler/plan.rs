//! What becomes of the slots of a schedule that has come due: a pure function of the schedule, its
//! runs that are not ended, and the time.

use std::time::Duration;

use twobox_shared::ids::RunId;
use twobox_shared::time::UnixMillis;

use crate::db::schedules::{Fate, Next, Run, Schedule, SlotRow, Status};
use crate::schedule::missed::{self, CatchUp};
use crate::schedule::overlap::{self, Decision, Unended};
use crate::schedule::reason::Reason;
use crate::schedule::timetable::Timetable;
use crate::schedule::{Slot, jitter};

/// How late the host may be for a slot without having missed it.
const ON_TIME: Duration = Duration::from_secs(60);

/// What is to be stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// One row for each slot, or for several that were missed; oldest first.
    pub(super) rows: Vec<SlotRow>,
    /// Runs that end because a newer one takes their place.
    pub(super) replaces: Vec<RunId>,
    /// The slot that comes next.
    pub(super) next: Option<Next>,
}

/// Decides about all slots of `schedule` that have come by `now`, of which `next` is the first.
/// `open` are its runs that are not ended, and `fresh` makes ids.
pub(super) fn plan(
    schedule: &Schedule,
    timetable: &Timetable,
    next: Next,
    open: &[Run],
    now: UnixMillis,
    mut fresh: impl FnMut() -> RunId,
) -> Plan {
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

    let mut rows: Vec<SlotRow> = Vec::new();
    let mut replaces = Vec::new();
    let mut unended = count(open);
    let mut fired = 0;
    for slot in reckoning.run {
        if fired >= left {
            break; // the schedule is over
        }
        let fate = match overlap::decide(definition.overlap, unended) {
            Decision::Run | Decision::Wait => Fate::Run,
            Decision::Skip => Fate::Skipped(Reason::Overlap),
            Decision::Replace => {
                replaces = open.iter().map(|run| run.id).collect();
                for row in rows.iter_mut().filter(|row| row.fate == Fate::Run) {
                    row.fate = Fate::Skipped(Reason::Replaced);
                    fired -= 1;
                }
                unended = Unended::default();
                Fate::Run
            }
        };
        if fate == Fate::Run {
            fired += 1;
            unended.queued += 1;
        }
        rows.push(SlotRow { id: fresh(), slot: slot.0, due: due(slot), fate });
    }
    for missed in reckoning.missed {
        let fate = Fate::Missed {
            reason: missed.reason,
            count: i64::try_from(missed.count).unwrap_or(i64::MAX),
            last_slot: missed.last.0,
        };
        rows.push(SlotRow { id: fresh(), slot: missed.first.0, due: missed.first.0, fate });
    }
    rows.sort_by_key(|row| row.slot);
    let next = reckoning.next.map(|slot| Next { slot: slot.0, due: due(slot) });
    Plan { rows, replaces, next }
}

fn count(open: &[Run]) -> Unended {
    let of = |status| open.iter().filter(|run| run.status == status).count() as u64;
    Unended { queued: of(Status::Queued), running: of(Status::Running) }
}
