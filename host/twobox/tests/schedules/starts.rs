//! Starting runs.

use twobox_shared::ids::{ScheduleId, SystemIds};
use twobox_slots::overlap;
use twobox_store::schedules::{self, Capacity, Definition, Executed, Phase, Started, Status};

use super::world::{World, at, definition, dump, host_id, past, run_id, start, started, world};

#[test]
fn the_run_that_is_due_for_longest_starts_first_and_not_before_it_is_due() {
    let mut world = world();
    let [first, second] = ["first", "second"].map(|name| world.add(name));
    world.fire(second);
    let [later, earlier] = [second, first].map(|id| world.open(id).first().copied());
    assert_eq!(earlier, None);
    world.db.raw().execute("UPDATE runs SET due_ms = 2000", []).unwrap();
    let earlier = world.fire(first);
    let owner = host_id();
    let next = |world: &mut World, now| {
        let wanted = start(owner, now);
        (world.db.runs().start_next(9, wanted.clone()).wait().unwrap(), wanted)
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
    let started_ones = [(); 2]
        .map(|()| started(world.db.runs().start_next(2, start(owner, 5000)).wait().unwrap()).id);
    assert_eq!(started_ones, [runs[0], runs[1]]);
    let as_it_was = dump(&world.db.raw());
    let more = world.db.runs().start_next(2, start(owner, 5000)).wait().unwrap();
    assert_eq!((more, dump(&world.db.raw())), (Started::Full, as_it_was.clone()));
    let given =
        |capacity| world.db.runs().start(runs[2], capacity, start(owner, 5000)).wait().unwrap();
    assert_eq!(given(Capacity::AtMost(2)), Started::Full);
    assert_eq!(started(given(Capacity::Forced { actor: "ann".to_owned() })).id, runs[2]);
    assert_eq!(
        given(Capacity::Forced { actor: "ann".to_owned() }),
        Started::Nothing,
        "it runs already"
    );
    let audit: Vec<(i64, String, String, String)> = world
        .db
        .raw()
        .prepare("SELECT at_ms, actor, action, subject FROM audit")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(audit, [(5000, "ann".to_owned(), "force_run".to_owned(), runs[2].to_string())]);
    world.finish(runs[0], owner, schedules::RunOutcome::Completed, 6000);
    let fourth = world.add("d");
    world.fire(fourth);
    let next = world.db.runs().start_next(2, start(owner, 6000)).wait().unwrap();
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
        let forced = Capacity::Forced { actor: "ann".to_owned() };
        let beside = world.db.runs().start_next(9, start(owner, 5000)).wait().unwrap();
        if overlap == overlap::Policy::Allow {
            assert_eq!(started(beside).id, second);
            continue;
        }
        assert_eq!(beside, Started::Nothing, "{overlap:?}");
        let given = world.db.runs().start(second, forced, start(owner, 5000)).wait();
        assert_eq!(given.unwrap(), Started::Nothing, "{overlap:?}: no room is missing here");
        assert_eq!(world.count("SELECT count(*) FROM audit"), 1, "only for the first");
        // What waits for its predecessor does not stand in the way of others.
        let other = world.add("other");
        let third = world.fire(other);
        let next = world.db.runs().start_next(9, start(owner, 5000)).wait().unwrap();
        assert_eq!(started(next).id, third, "{overlap:?}");
        world.finish(first, owner, schedules::RunOutcome::Completed, 6000);
        let next = world.db.runs().start_next(9, start(owner, 6000)).wait().unwrap();
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
    world.db.schedules().remove(gone, at(600)).wait().unwrap();
    let owner = host_id();
    let execute = |id, capacity| {
        let run = run_id();
        let outcome = world.db.runs().execute(id, run, capacity, start(owner, 700)).wait().unwrap();
        (run, outcome, dump(&world.db.raw()))
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
    let (run, outcome, _) = execute(other, Capacity::Forced { actor: "ann".to_owned() });
    assert!(matches!(outcome, Executed::Run(stored) if stored.id == run));
}

/// Lets `count` slots of the past of a schedule wait for their turn.
fn backfill(world: &mut World, id: ScheduleId, count: i64, now: i64) {
    let slots: Vec<_> = (1..=count).map(|slot| past(run_id(), slot)).collect();
    world.db.runs().enqueue_backfill(id, &slots, at(now)).wait().unwrap();
}

fn started_names(world: &mut World, cap: u32, now: i64) -> Vec<String> {
    let owner = host_id();
    std::iter::from_fn(|| {
        match world.db.runs().start_next(cap, start(owner, now)).wait().unwrap() {
            Started::Run(run) => Some(world.schedule(run.schedule).definition.name),
            Started::Full | Started::Nothing => None,
        }
    })
    .collect()
}

fn end_all(world: &mut World, now: i64) {
    for run in world.db.runs().running().wait().unwrap().rows {
        let owner = run.hold.unwrap().owner;
        world.finish(run.id, owner, schedules::RunOutcome::Completed, now);
    }
}

#[test]
fn what_is_due_now_comes_before_what_is_made_up_for_and_that_leaves_a_place() {
    let mut world = world();
    let allow = Definition { overlap: overlap::Policy::Allow, ..definition("backlog") };
    let backlog = world.add_as(&allow);
    backfill(&mut world, backlog, 200, 1000);
    assert_eq!(started_names(&mut world, 3, 1000), ["backlog", "backlog"], "one place is left");
    let now = world.add("now");
    world.fire(now);
    assert_eq!(started_names(&mut world, 3, 1000), ["now"], "made later, and before 198 others");
    end_all(&mut world, 2000);
    assert_eq!(started_names(&mut world, 1, 2000), ["backlog"], "a single place is used");
    let by_hand = |world: &mut World, cap| {
        let capacity = Capacity::AtMost(cap);
        world.db.runs().execute(now, run_id(), capacity, start(host_id(), 2000)).wait().unwrap()
    };
    assert_eq!(by_hand(&mut world, 1), Executed::Full);
    assert!(matches!(by_hand(&mut world, 2), Executed::Run(_)), "with two there is one");
    end_all(&mut world, 3000);
    let kept = world.db.runs().start_due_now(1, start(host_id(), 3000)).wait().unwrap();
    assert_eq!(kept, Started::Nothing, "the single place is kept for who was refused");
    // Slots that were missed are made up for too.
    let missed = world.add("missed");
    world.fire(missed);
    let late = "UPDATE runs SET created_at_ms = due_ms + 3600000 WHERE schedule_id = ?1";
    world.db.raw().execute(late, [missed]).unwrap();
    world.fire(now);
    assert_eq!(started_names(&mut world, 2, 4_000_000)[0], "now");
}

#[test]
fn schedules_that_make_up_for_the_past_take_turns() {
    let mut world = world();
    let ids = ["a", "b", "c"].map(|name| {
        let overlap = overlap::Policy::Allow;
        world.add_as(&Definition { overlap, ..definition(name) })
    });
    for (now, id) in (1000..).zip(ids) {
        backfill(&mut world, id, 50, now); // all of one were wanted before any of the next
    }
    let mut turns = Vec::new();
    for now in (2000..).step_by(10).take(6) {
        turns.extend(started_names(&mut world, 2, now));
        end_all(&mut world, now + 5);
    }
    assert_eq!(turns, ["a", "b", "c", "a", "b", "c"]);
    assert_eq!(started_names(&mut world, 5, 3000), ["a", "b", "c", "a"]);
}

#[test]
fn of_one_conversation_one_run_goes_at_a_time_whatever_its_schedules_allow() {
    let mut world = world();
    let session = Some(world.session("t"));
    let shared = |name| Definition { session, overlap: overlap::Policy::Allow, ..definition(name) };
    let [first, second] = ["first", "second"].map(|name| world.add_as(&shared(name)));
    backfill(&mut world, first, 100, 1000);
    world.fire(second);
    assert_eq!(started_names(&mut world, 9, 1000), ["second"]);
    let forced = Capacity::Forced { actor: "ann".to_owned() };
    let by_hand = world.db.runs().execute(first, run_id(), forced, start(host_id(), 1000)).wait();
    assert_eq!(by_hand.unwrap(), Executed::Overlaps);
    end_all(&mut world, 2000);
    assert_eq!(started_names(&mut world, 9, 2000), ["first"]);
}

#[test]
fn a_pause_cancels_a_backfill_and_a_later_one_runs_all_the_same() {
    let mut world = world();
    let id = world.add("report");
    backfill(&mut world, id, 3, 1000);
    world.begin(world.open(id)[0], host_id(), 1000);
    let paused = world.db.schedules().pause(id, "ann", None, at(1100)).wait().unwrap();
    assert!(matches!(paused, schedules::Paused::Done { cancelled: 2, .. }), "{paused:?}");
    assert_eq!(world.open(id).len(), 1, "what runs goes on");
    backfill(&mut world, id, 3, 1200);
    assert_eq!(world.open(id).len(), 3, "the two that were cancelled wait again");
}
