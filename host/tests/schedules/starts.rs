//! Starting runs.

use twobox_host::db::schedules::{self, Capacity, Definition, Executed, Phase, Started, Status};
use twobox_host::schedule::overlap;
use twobox_shared::ids::{ScheduleId, SystemIds};

use super::world::{World, at, definition, dump, host_id, run_id, start, started, world};

#[test]
fn the_run_that_is_due_for_longest_starts_first_and_not_before_it_is_due() {
    let mut world = world();
    let [first, second] = ["first", "second"].map(|name| world.add(name));
    world.fire(second);
    let [later, earlier] = [second, first].map(|id| world.open(id).first().copied());
    assert_eq!(earlier, None);
    world.db.execute("UPDATE runs SET due_ms = 2000", []).unwrap();
    let earlier = world.fire(first);
    let owner = host_id();
    let next = |world: &mut World, now| {
        let wanted = start(owner, now);
        (schedules::start_next(&mut world.db, 9, &wanted).unwrap(), wanted)
    };
    assert_eq!(next(&mut world, 999).0, Started::Nothing);
    let (outcome, wanted) = next(&mut world, 1500);
    let run = started(outcome);
    assert_eq!((run.id, run.status), (earlier, Status::Running));
    let hold = run.hold.unwrap();
    assert_eq!((hold.phase, hold.owner), (Phase::Claimed, owner));
    assert_eq!((hold.session, &hold.message), (wanted.session, &wanted.message));
    assert_eq!((hold.started_at, hold.lease_until), (at(1500), at(1600)));
    assert_eq!(next(&mut world, 1999).0, Started::Nothing, "the other one is not due");
    let third = world.add("third");
    let between = world.fire(third);
    assert_eq!(started(next(&mut world, 2000).0).id, between, "made later and due earlier");
    assert_eq!(Some(started(next(&mut world, 2000).0).id), later);
    assert_eq!(next(&mut world, 9999).0, Started::Nothing, "none is left");
}

#[test]
fn at_most_so_many_run_at_once_unless_a_person_forces_one() {
    let mut world = world();
    let runs = ["a", "b", "c"].map(|name| {
        let id = world.add(name);
        world.fire(id)
    });
    let owner = host_id();
    let started_ones = [(); 2].map(|()| {
        started(schedules::start_next(&mut world.db, 2, &start(owner, 5000)).unwrap()).id
    });
    assert_eq!(started_ones, [runs[0], runs[1]]);
    let as_it_was = dump(&world.db);
    let more = schedules::start_next(&mut world.db, 2, &start(owner, 5000)).unwrap();
    assert_eq!((more, dump(&world.db)), (Started::Full, as_it_was.clone()));
    let mut given = |capacity| {
        schedules::start_run(&mut world.db, runs[2], capacity, &start(owner, 5000)).unwrap()
    };
    assert_eq!(given(Capacity::AtMost(2)), Started::Full);
    assert_eq!(started(given(Capacity::Forced { actor: "ann" })).id, runs[2]);
    assert_eq!(given(Capacity::Forced { actor: "ann" }), Started::Nothing, "it runs already");
    let audit: Vec<(i64, String, String, String)> = world
        .db
        .prepare("SELECT at_ms, actor, action, subject FROM audit")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(audit, [(5000, "ann".to_owned(), "force_run".to_owned(), runs[2].to_string())]);
    world.finish(runs[0], owner, schedules::Outcome::Completed, 6000);
    let fourth = world.add("d");
    world.fire(fourth);
    let next = schedules::start_next(&mut world.db, 2, &start(owner, 6000)).unwrap();
    assert_eq!(next, Started::Full, "the forced one counts");
}

#[test]
fn runs_of_one_schedule_follow_each_other_unless_it_allows_more() {
    for overlap in overlap::Policy::ALL.iter().copied() {
        let mut world = world();
        let id = world.add_as(&Definition { overlap, ..definition("report") });
        let owner = host_id();
        let (first, second) = (world.fire(id), world.fire(id));
        world.begin(first, owner, 1000);
        let forced = Capacity::Forced { actor: "ann" };
        let beside = schedules::start_next(&mut world.db, 9, &start(owner, 5000)).unwrap();
        if overlap == overlap::Policy::Allow {
            assert_eq!(started(beside).id, second);
            continue;
        }
        assert_eq!(beside, Started::Nothing, "{overlap:?}");
        let given = schedules::start_run(&mut world.db, second, forced, &start(owner, 5000));
        assert_eq!(given.unwrap(), Started::Nothing, "{overlap:?}: no room is missing here");
        assert_eq!(world.count("SELECT count(*) FROM audit"), 1, "only for the first");
        // What waits for its predecessor does not stand in the way of others.
        let other = world.add("other");
        let third = world.fire(other);
        let next = schedules::start_next(&mut world.db, 9, &start(owner, 5000)).unwrap();
        assert_eq!(started(next).id, third, "{overlap:?}");
        world.finish(first, owner, schedules::Outcome::Completed, 6000);
        let next = schedules::start_next(&mut world.db, 9, &start(owner, 6000)).unwrap();
        assert_eq!(started(next).id, second, "{overlap:?}");
    }
}

#[test]
fn a_schedule_says_where_and_for_how_long_its_runs_go() {
    let mut world = world();
    let session = world.session("t");
    let id = world.add_as(&Definition {
        session: Some(session),
        max_run_ms: Some(60_000),
        ..definition("report")
    });
    let run = world.fire(id);
    let hold = world.begin(run, host_id(), 1000).hold.unwrap();
    assert_eq!((hold.session, hold.lease_until), (session, at(61_000)));
}

#[test]
fn a_manual_execution_runs_at_once_or_leaves_no_trace() {
    let mut world = world();
    let [busy, other, gone] = ["busy", "other", "gone"].map(|name| world.add(name));
    schedules::remove(&mut world.db, gone, at(600)).unwrap();
    let owner = host_id();
    let mut execute = |id, capacity| {
        let run = run_id();
        let outcome =
            schedules::execute(&mut world.db, id, run, capacity, &start(owner, 700)).unwrap();
        (run, outcome, dump(&world.db))
    };
    let (run, outcome, as_it_was) = execute(busy, Capacity::AtMost(1));
    let Executed::Run(stored) = outcome else { panic!("{outcome:?}") };
    assert_eq!((stored.id, stored.status), (run, Status::Running));
    let refused = [
        (other, Capacity::AtMost(1), Executed::Full),
        (busy, Capacity::AtMost(9), Executed::Overlaps),
        (gone, Capacity::AtMost(9), Executed::Gone),
        (ScheduleId::generate(&SystemIds), Capacity::AtMost(9), Executed::Gone),
    ];
    for (id, capacity, expected) in refused {
        let (_, outcome, left) = execute(id, capacity);
        assert_eq!((outcome, left), (expected, as_it_was.clone()));
    }
    let (run, outcome, _) = execute(other, Capacity::Forced { actor: "ann" });
    assert!(matches!(outcome, Executed::Run(stored) if stored.id == run));
}
