use twobox_shared::ids::{AgentGroupId, ScheduleId};
use twobox_shared::inbox::Origin;
use uuid::Uuid;

use super::*;
use crate::service;
use twobox_slots::missed::Policy;
use twobox_slots::overlap;
use twobox_store::schedules::{Definition, Streaks};

const HOUR: i64 = 3_600_000;

/// A schedule that fires each hour and whose next slot is the first.
pub(in crate::scheduler) fn hourly(missed: Policy, max_runs: Option<i64>) -> Schedule {
    let slot = UnixMillis(HOUR);
    let definition = Definition {
        name: "tidy".to_owned(),
        prompt: "p".to_owned(),
        cadence_kind: "every".to_owned(),
        cadence_value: "1h".to_owned(),
        time_zone: "UTC".to_owned(),
        anchor: UnixMillis(0),
        session: None,
        to: Origin::default(),
        max_turns: None,
        max_run_ms: None,
        missed,
        missed_window_ms: 24 * HOUR,
        overlap: overlap::Policy::Allow,
        jitter_ms: 0,
        not_before: None,
        not_after: None,
        max_runs,
    };
    Schedule {
        id: ScheduleId::from_uuid(Uuid::from_u128(1)),
        agent_group: AgentGroupId::from_uuid(Uuid::from_u128(2)),
        definition,
        fired: 0,
        pause_reason: None,
        revision: 1,
        next: Some(Next { slot, due: slot }),
        streaks: Streaks::default(),
        turns_edited_at: None,
        created_at: UnixMillis(0),
        updated_at: UnixMillis(0),
        removed_at: None,
    }
}

#[test]
fn slots_that_have_a_row_get_no_other_and_all_others_get_one() {
    use SlotFate::{Missed, Run};
    let of = |count, last: i64| Missed {
        reason: Reason::Policy,
        count,
        last_slot: UnixMillis(last * HOUR),
    };
    // Somebody wanted the first, the third and the fifth while the host was away.
    let row = |hour: i64| (Slot(UnixMillis(hour * HOUR)), Slot(UnixMillis(hour * HOUR)));
    let taken = [1, 3, 5].map(row);
    let cases = [
        (Policy::Skip, None, vec![(2, of(1, 2)), (4, of(1, 4)), (6, of(1, 6))]),
        (Policy::Latest, None, vec![(2, of(1, 2)), (4, of(1, 4)), (6, Run)]),
        (Policy::All, None, vec![(2, Run), (4, Run), (6, Run)]),
        (Policy::All, Some(2), vec![(2, Run), (4, Run)]), // those of others do not count
    ];
    for (policy, max_runs, expected) in cases {
        let schedule = hourly(policy, max_runs);
        let timetable = service::Times::of(&schedule.definition).unwrap().timetable;
        let known = Known { open: Vec::new(), taken: taken.to_vec() };
        let (next, now) = (schedule.next.unwrap(), UnixMillis(6 * HOUR + HOUR / 2));
        let fresh = || RunId::from_uuid(Uuid::from_u128(3));
        let plan = plan(&schedule, &timetable, next, &known, now, fresh);
        let rows: Vec<(i64, SlotFate)> =
            plan.rows.iter().map(|row| (row.slot.0 / HOUR, row.fate)).collect();
        assert_eq!(rows, expected, "{policy:?}");
    }
}

/// What is decided at this hour about a schedule of which nothing has run yet.
fn planned_at(schedule: &Schedule, hour: i64) -> Plan {
    let timetable = service::Times::of(&schedule.definition).unwrap().timetable;
    let (next, now) = (schedule.next.unwrap(), UnixMillis(hour * HOUR));
    let mut id = 0;
    let fresh = || {
        id += 1;
        RunId::from_uuid(Uuid::from_u128(id))
    };
    plan(schedule, &timetable, next, &Known::default(), now, fresh)
}

#[test]
fn all_missed_slots_are_made_up_for_whatever_overlaps_among_themselves() {
    use overlap::Policy::{Allow, Queue, Replace, Skip};
    let skipped = SlotFate::Skipped(Reason::Overlap);
    let replaced = SlotFate::Skipped(Reason::Replaced);
    // Three slots came while the host was away; the fourth is on time.
    let cases = [
        (Allow, [SlotFate::Run; 4]),
        (Skip, [SlotFate::Run, SlotFate::Run, SlotFate::Run, skipped]),
        (Queue, [SlotFate::Run, SlotFate::Run, SlotFate::Run, skipped]),
        (Replace, [replaced, replaced, replaced, SlotFate::Run]),
    ];
    for (overlap, expected) in cases {
        let mut schedule = hourly(Policy::All, None);
        schedule.definition.overlap = overlap;
        let plan = planned_at(&schedule, 4);
        let fates: Vec<SlotFate> = plan.rows.iter().map(|row| row.fate).collect();
        assert_eq!(fates, expected, "{overlap:?}");
    }
}

#[test]
fn the_newest_slot_has_the_last_id() {
    let schedule = hourly(Policy::Latest, None);
    let plan = planned_at(&schedule, 4);
    let rows: Vec<_> = plan.rows.iter().map(|row| (row.slot.0 / HOUR, row.id)).collect();
    assert_eq!(rows.len(), 2, "the missed ones, and the latest: {rows:?}");
    assert!(rows.is_sorted(), "{rows:?}");
}
