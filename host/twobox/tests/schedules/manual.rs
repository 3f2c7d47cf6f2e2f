//! Runs that a person asks for.

use twobox_shared::ids::{HostId, ScheduleId, SystemIds};
use twobox_store::schedules::{
    Backfilled, Enqueued, Reason, RunOutcome, SlotFate, Status, Trigger,
};

use super::world::{at, dump, host_id, next, past, run_id, world};

#[test]
fn a_manual_run_has_no_slot_and_leaves_the_cadence_alone() {
    let mut world = world();
    let id = world.add("report");
    world.db.schedules().pause(id, "ann", None, at(600)).wait().unwrap();
    let (before, runs) = (world.schedule(id), [run_id(), run_id()]);
    for run in runs {
        let enqueued = world.db.runs().enqueue_manual(id, run, at(700)).wait().unwrap();
        assert_eq!(enqueued, Enqueued::Done, "a paused schedule has manual runs too");
        let stored = world.run(run);
        assert_eq!((stored.trigger, stored.slot, stored.due), (Trigger::Manual, None, at(700)));
    }
    assert_eq!(world.schedule(id), before);
    world.db.schedules().remove(id, at(800)).wait().unwrap();
    let as_it_was = dump(&world.db.raw());
    for gone in [id, ScheduleId::generate(&SystemIds)] {
        let enqueued = world.db.runs().enqueue_manual(gone, run_id(), at(900)).wait().unwrap();
        assert_eq!(enqueued, Enqueued::Gone);
        let asked = world.db.runs().enqueue_backfill(gone, &[past(run_id(), 1)], at(900)).wait();
        assert_eq!(asked.unwrap(), Backfilled::Gone);
    }
    assert_eq!(dump(&world.db.raw()), as_it_was);
}

#[test]
fn a_backfill_runs_what_was_left_out_and_nothing_twice() {
    let mut world = world();
    let id = world.add("report");
    let missed = |count, last_slot| SlotFate::Missed {
        reason: Reason::Window,
        count,
        last_slot: at(last_slot),
    };
    world.claim(id, &[missed(1, 1000)]);
    world.claim(id, &[SlotFate::Skipped(Reason::Overlap)]);
    let ran = world.fire(id);
    let owner: HostId = host_id();
    world.begin(ran, owner, 3000);
    world.finish(ran, owner, RunOutcome::Completed, 3500);
    world.claim(id, &[missed(2, 5000)]);
    let before = world.schedule(id);

    let slots: Vec<_> = (0..5).map(|n| past(run_id(), n * 1000)).collect();
    let asked = world.db.runs().enqueue_backfill(id, &slots, at(9000)).wait().unwrap();
    let Backfilled::Done { queued, kept: 2 } = asked else { panic!("{asked:?}") };
    assert_eq!(queued[0], slots[0].run, "a slot without a row has the id that was given");
    let runs: Vec<_> = queued.iter().map(|&run| world.run(run)).collect();
    let slots_run: Vec<_> = runs.iter().map(|run| run.slot.unwrap().0).collect();
    assert_eq!(slots_run, [0, 1000, 2000]);
    for run in runs {
        assert_eq!((run.trigger, run.status), (Trigger::Backfill, Status::Queued));
        assert_eq!((run.due, run.reason, run.ended_at), (at(9000), None, None));
    }
    assert_eq!(world.schedule(id), before, "the cadence and its count stay");
    assert_eq!(world.schedule(id).next, next(5000));
    let several = "SELECT count(*) FROM runs WHERE status = 'missed' AND slot_count = 2";
    assert_eq!(world.count(several), 1);

    let as_it_was = dump(&world.db.raw());
    let again = world.db.runs().enqueue_backfill(id, &slots, at(9500)).wait().unwrap();
    assert_eq!(again, Backfilled::Done { queued: vec![], kept: 5 });
    assert_eq!(dump(&world.db.raw()), as_it_was);
}
