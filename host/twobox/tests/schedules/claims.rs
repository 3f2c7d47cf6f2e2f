//! Claiming slots, and putting them off.

use std::time::Duration;

use twobox_shared::ids::{ScheduleId, SystemIds};
use twobox_slots::Slot;
use twobox_store::Store;
use twobox_store::schedules::{
    self, Claimed, Definition, Reason, SlotClaim, SlotFate, SlotRow, Status, Trigger,
};

use super::world::{World, at, definition, dump, host_id, next, past, run_id, world};

/// A claim of the slot 1000 of a fresh schedule, as one run.
fn of_1000(id: ScheduleId, rows: &[SlotRow]) -> SlotClaim {
    SlotClaim {
        schedule: id,
        revision: 1,
        slot: at(1000),
        open: vec![],
        rows: rows.to_vec(),
        replaces: Vec::new(),
        next: next(2000),
        now: at(1000),
    }
}

fn row(slot: i64, fate: SlotFate) -> SlotRow {
    SlotRow { id: run_id(), slot: at(slot), due: at(slot + 5), fate }
}

fn claim(world: &mut World, claim: &SlotClaim) -> Claimed {
    world.db.schedules().claim_slot(claim.clone()).wait().unwrap()
}

const DONE: Claimed = Claimed::Done { already: vec![] };

#[test]
fn a_claim_stores_its_rows_and_moves_the_schedule_on() {
    let mut world = world();
    let id = world.add_as(&Definition {
        max_turns: Some(9),
        max_run_ms: Some(60_000),
        ..definition("report")
    });
    let missed = SlotFate::Missed { reason: Reason::Window, count: 3, last_slot: at(3000) };
    let one = SlotFate::Missed { reason: Reason::Limit, count: 1, last_slot: at(4000) };
    let rows = [
        row(1000, missed),
        row(4000, one),
        row(5000, SlotFate::Skipped(Reason::Overlap)),
        row(6000, SlotFate::Run),
    ];
    let outcome =
        claim(&mut world, &SlotClaim { next: next(7000), now: at(6500), ..of_1000(id, &rows) });
    assert_eq!(outcome, DONE);
    let schedule = world.schedule(id);
    assert_eq!((schedule.next, schedule.fired, schedule.revision), (next(7000), 1, 1));
    let stored = rows.map(|row| world.run(row.id));
    let states = stored.clone().map(|run| (run.status, run.reason, run.slot_count, run.last_slot));
    let expected = [
        (Status::Missed, Some(Reason::Window), 3, Some(at(3000))),
        (Status::Missed, Some(Reason::Limit), 1, None),
        (Status::Skipped, Some(Reason::Overlap), 1, None),
        (Status::Queued, None, 1, None),
    ];
    assert_eq!(states, expected);
    for (run, row) in stored.iter().zip(rows) {
        assert_eq!((run.slot, run.due, run.created_at), (Some(row.slot), row.due, at(6500)));
        assert_eq!(run.ended_at.is_some(), run.status != Status::Queued);
        assert_eq!((run.trigger, &run.hold), (Trigger::Scheduled, &None));
        assert_eq!((run.max_turns, run.max_run_ms), (Some(9), Some(60_000)));
        assert_eq!(run.prompt, "do report");
    }
}

#[test]
fn who_does_not_get_the_slot_leaves_no_trace() {
    type Before = fn(&mut World, ScheduleId);
    let cases: [(&str, Before, Claimed); 7] = [
        (
            "another claimed it",
            |world, id| {
                world.claim(id, &[SlotFate::Skipped(Reason::Overlap)]);
            },
            Claimed::Taken,
        ),
        (
            "another moved it to a later slot without any row",
            |world, id| {
                let empty = SlotClaim { next: next(5000), ..of_1000(id, &[]) };
                assert_eq!(world.db.schedules().claim_slot(empty).wait().unwrap(), DONE);
            },
            Claimed::Taken,
        ),
        (
            "it was edited",
            |world, id| {
                let edited = definition("report");
                world
                    .db
                    .schedules()
                    .edit(id, 1, &edited, schedules::NextSlot::Reckoned(next(1000)), None, at(900))
                    .wait()
                    .unwrap();
            },
            Claimed::Changed,
        ),
        (
            "a run of it was enqueued",
            |world, id| {
                world.db.runs().enqueue_manual(id, run_id(), at(900)).wait().unwrap();
            },
            Claimed::Changed,
        ),
        (
            "it was paused",
            |world, id| {
                world.db.schedules().pause(id, "ann", None, at(900)).wait().unwrap();
            },
            Claimed::Disabled,
        ),
        (
            "it was paused and resumed at the same slot",
            |world, id| {
                world.db.schedules().pause(id, "ann", None, at(900)).wait().unwrap();
                world.db.schedules().resume(id, 2, next(1000), at(900)).wait().unwrap();
            },
            Claimed::Changed,
        ),
        (
            "it was removed",
            |world, id| {
                world.db.schedules().remove(id, at(900)).wait().unwrap();
            },
            Claimed::Gone,
        ),
    ];
    for (case, before, expected) in cases {
        let mut world = world();
        let id = world.add("report");
        before(&mut world, id);
        let as_it_was = dump(&world.db.raw());
        let rows = [row(1000, SlotFate::Run)];
        assert_eq!(claim(&mut world, &of_1000(id, &rows)), expected, "{case}");
        assert_eq!(dump(&world.db.raw()), as_it_was, "{case}");
    }
    let mut world = world();
    let unknown = ScheduleId::generate(&SystemIds);
    assert_eq!(claim(&mut world, &of_1000(unknown, &[])), Claimed::Gone);
}

#[test]
fn a_run_that_ended_meanwhile_asks_for_a_new_decision() {
    let mut world = world();
    let id = world.add("report");
    let (earlier, owner) = (world.fire(id), host_id());
    world.begin(earlier, owner, 1000);
    world.finish(earlier, owner, schedules::RunOutcome::Completed, 1900);
    let rows = [row(2000, SlotFate::Skipped(Reason::Overlap))];
    let stale = SlotClaim { slot: at(2000), next: next(3000), ..of_1000(id, &rows) };
    let seen = SlotClaim { open: vec![earlier], ..stale.clone() };
    assert_eq!(claim(&mut world, &seen), Claimed::Changed);
    assert_eq!(claim(&mut world, &stale), DONE);
}

#[test]
fn a_slot_that_a_backfill_ran_ahead_of_time_does_not_stop_the_cadence() {
    let mut world = world();
    let id = world.add("report");
    let ahead = run_id();
    world.db.runs().enqueue_backfill(id, &[past(ahead, 1000)], at(900)).wait().unwrap();
    let rows = [row(1000, SlotFate::Run), row(2000, SlotFate::Run)];
    let both = SlotClaim { open: vec![ahead], next: next(3000), ..of_1000(id, &rows) };
    assert_eq!(claim(&mut world, &both), Claimed::Done { already: vec![at(1000)] });
    assert_eq!(world.schedule(id).fired, 1, "only one of them was fired by the cadence");
    assert_eq!(world.schedule(id).next, next(3000));
    assert_eq!(world.count("SELECT count(*) FROM runs"), 2);
}

#[test]
fn bounds_are_looked_at_again_and_the_last_run_ends_the_schedule() {
    let mut world = world();
    let id = world.add_as(&Definition {
        max_runs: Some(2),
        not_before: Some(at(1000)),
        not_after: Some(at(4000)),
        ..definition("report")
    });
    let as_it_was = dump(&world.db.raw());
    for slots in [&[999][..], &[4001], &[1000, 2000, 3000]] {
        let rows: Vec<_> = slots.iter().map(|&slot| row(slot, SlotFate::Run)).collect();
        let outcome = claim(&mut world, &SlotClaim { next: next(3500), ..of_1000(id, &rows) });
        assert_eq!(outcome, Claimed::OutOfBounds, "{slots:?}");
        assert_eq!(dump(&world.db.raw()), as_it_was, "{slots:?}");
    }
    let rows = [row(1000, SlotFate::Run)];
    assert_eq!(claim(&mut world, &of_1000(id, &rows)), DONE);
    assert_eq!(world.schedule(id).next, next(2000));
    world.claim(id, &[SlotFate::Skipped(Reason::Overlap)]);
    assert_eq!(world.schedule(id).next, next(3000), "what is skipped is no run");
    world.claim(id, &[SlotFate::Run]);
    let over = world.schedule(id);
    assert_eq!((over.next, over.fired, over.pause_reason), (None, 2, None));
    assert_eq!(world.db.schedules().due(at(99_000), 10).wait().unwrap().rows, []);
}

#[test]
fn a_claim_that_would_repeat_itself_is_an_error() {
    let mut world = world();
    let id = world.add("report");
    let as_it_was = dump(&world.db.raw());
    let rows = [row(1000, SlotFate::Run)];
    for stuck in [1000, 999] {
        let again = SlotClaim { next: next(stuck), ..of_1000(id, &rows) };
        assert!(world.db.schedules().claim_slot(again).wait().is_err());
        assert_eq!(dump(&world.db.raw()), as_it_was);
    }
}

#[test]
fn a_later_slot_takes_the_place_of_earlier_runs() {
    let mut world = world();
    let id = world.add("report");
    let (running, waiting) = (world.fire(id), world.fire(id));
    world.begin(running, host_id(), 1000);
    let rows = [row(3000, SlotFate::Run)];
    let open = [running, waiting];
    let replacing = SlotClaim {
        slot: at(3000),
        next: next(4000),
        open: open.to_vec(),
        replaces: open.to_vec(),
        now: at(3001),
        ..of_1000(id, &rows)
    };
    assert_eq!(claim(&mut world, &replacing), DONE);
    let waited = world.run(waiting);
    assert_eq!((waited.status, waited.reason), (Status::Cancelled, Some(Reason::Replaced)));
    let ran = world.run(running);
    assert_eq!((ran.status, ran.cancel_requested_at), (Status::Running, Some(at(3001))));
    assert_eq!(world.open(id), [running, rows[0].id]);
}

#[test]
fn a_busy_database_is_told_apart() {
    let mut world = world();
    let id = world.add("report");
    let other = Store::create(&world.path).unwrap();
    other.raw().execute_batch("BEGIN IMMEDIATE").unwrap();
    world.db.raw().busy_timeout(Duration::ZERO).unwrap();
    let rows = [row(1000, SlotFate::Run)];
    let busy = world.db.schedules().claim_slot(of_1000(id, &rows)).wait().unwrap_err();
    assert!(busy.is_busy(), "{busy}");
    other.raw().execute_batch("ROLLBACK").unwrap();
    assert_eq!(claim(&mut world, &of_1000(id, &rows)), DONE);
    let rows = [SlotRow { slot: at(2000), ..rows[0] }];
    let twice = SlotClaim {
        slot: at(2000),
        next: next(3000),
        open: vec![rows[0].id],
        ..of_1000(id, &rows)
    };
    let refused = world.db.schedules().claim_slot(twice).wait().unwrap_err();
    assert!(!refused.is_busy(), "the id of a run is used twice: {refused}");
}

#[test]
fn putting_off_moves_the_look_and_not_the_slot() {
    let mut world = world();
    let id = world.add("report");
    let put_off = |world: &World, revision, slot, until| {
        world.db.schedules().put_off(id, revision, at(slot), at(until)).wait().unwrap()
    };
    for (case, revision, slot, until) in [
        ("other revision", 2, 1000, 4000),
        ("other slot", 1, 999, 4000),
        ("no later", 1, 1000, 1000),
    ] {
        assert!(!put_off(&world, revision, slot, until), "{case}");
        assert_eq!(world.schedule(id).next, next(1000), "{case}");
    }
    assert!(put_off(&world, 1, 1000, 4000));
    let moved = world.schedule(id).next.unwrap();
    assert_eq!((moved.slot, moved.due), (at(1000), at(4000)));
    assert_eq!(world.db.schedules().due(at(3999), 10).wait().unwrap().rows, []);
    world.db.schedules().pause(id, "ann", None, at(1)).wait().unwrap();
    assert!(!put_off(&world, 2, 1000, 9000), "paused");
}

#[test]
fn a_row_for_missed_slots_stands_for_none_that_a_backfill_ran_ahead_of_time() {
    for ahead in [1000, 2000, 3000] {
        let mut world = world();
        let id = world.add("report");
        let run = run_id();
        world.db.runs().enqueue_backfill(id, &[past(run, ahead)], at(3900)).wait().unwrap();
        let taken = world.db.schedules().taken(id, at(1000), at(3900)).wait().unwrap();
        assert_eq!(taken, [(Slot(at(ahead)), Slot(at(ahead)))]);
        let before = dump(&world.db.raw());
        let fate = SlotFate::Missed { reason: Reason::Policy, count: 3, last_slot: at(3000) };
        let rows = [row(1000, fate)];
        let stale = SlotClaim { open: vec![run], next: next(4000), ..of_1000(id, &rows) };
        assert_eq!(claim(&mut world, &stale), Claimed::Changed, "slot {ahead}");
        assert_eq!(dump(&world.db.raw()), before, "slot {ahead}: it leaves no trace");
    }
}
