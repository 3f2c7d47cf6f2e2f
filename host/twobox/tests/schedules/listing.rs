//! Pages, counts, past runs, forgetting.

use twobox_shared::ids::{RunId, ScheduleId};
use twobox_store::schedules::{self, Counts, Past, Reason, RunOutcome};

use super::world::{World, at, end, host_id, leave, world};

#[test]
fn pages_go_from_the_newest_run_to_the_oldest_without_gap_or_repetition() {
    let mut world = world();
    let ids = [world.add("a"), world.add("b")];
    let made: Vec<(ScheduleId, RunId)> =
        (0..7).map(|n| ids[n % 2]).map(|id| (id, world.fire(id))).collect();
    for schedule in [None, Some(ids[0])] {
        let mut expected: Vec<RunId> = made
            .iter()
            .filter(|(id, _)| schedule.is_none_or(|only| only == *id))
            .map(|&(_, run)| run)
            .collect();
        expected.reverse();
        let mut paged = Vec::new();
        loop {
            let page = world.db.runs().page(schedule, paged.last().copied(), 3).wait().unwrap();
            assert_eq!(page.unreadable, []);
            let Some(count) = (!page.rows.is_empty()).then_some(page.rows.len()) else { break };
            assert!(count <= 3);
            paged.extend(page.rows.iter().map(|run| run.id));
        }
        assert_eq!(paged, expected, "{schedule:?}");
    }
}

/// Three runs, ended at 1500, 2600 and 3700; the second one failed.
fn three_ended(world: &mut World, id: ScheduleId) -> Vec<RunId> {
    let owner = host_id();
    let outcomes = [
        RunOutcome::Completed,
        RunOutcome::Failed { reason: Reason::Timeout, error: "late".to_owned() },
        RunOutcome::Completed,
    ];
    let end_one = |(n, outcome)| {
        let run = world.fire(id);
        world.begin(run, owner, n * 1000);
        let end = schedules::End { turns: Some(n), ..end(outcome, n * 1100 + 400) };
        world.db.runs().finish(run, owner, end, leave).wait().unwrap();
        run
    };
    (1..).zip(outcomes).map(end_one).collect()
}

#[test]
fn counts_and_past_runs_are_those_of_the_table() {
    let mut world = world();
    let (id, other) = (world.add("report"), world.add("other"));
    three_ended(&mut world, id);
    assert_eq!(world.db.runs().counts().wait().unwrap(), Counts { queued: 0, running: 0 });
    let past = |id, limit| world.db.runs().past(id, limit).wait().unwrap();
    let last = Past { duration_ms: 700, turns: Some(3) };
    assert_eq!(past(id, 10), [last, Past { duration_ms: 500, turns: Some(1) }]);
    assert_eq!((past(id, 1), past(other, 10)), (vec![last], vec![]));
    let run = world.fire(other);
    world.fire(other);
    world.begin(run, host_id(), 5000);
    assert_eq!(world.db.runs().counts().wait().unwrap(), Counts { queued: 1, running: 1 });
    assert_eq!(world.db.runs().running().wait().unwrap().rows, [world.run(run)]);
}

#[test]
fn only_old_ended_runs_are_forgotten_and_never_many_at_once() {
    let mut world = world();
    let (id, other) = (world.add("report"), world.add("other"));
    let ended = three_ended(&mut world, id);
    let (running, queued) = (world.fire(other), world.fire(other));
    world.begin(running, host_id(), 1000);
    let left = |world: &World| {
        let mut ids: Vec<_> = world
            .db
            .runs()
            .page(None, None, 10)
            .wait()
            .unwrap()
            .rows
            .iter()
            .map(|r| r.id)
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(world.db.runs().prune(at(1500), 10).wait().unwrap(), 0, "ended at that very time");
    assert_eq!(world.db.runs().prune(at(99_999), 1).wait().unwrap(), 1);
    assert_eq!(left(&world), [ended[1], ended[2], running, queued]);
    assert_eq!(world.db.runs().prune(at(3000), 10).wait().unwrap(), 1);
    assert_eq!(world.db.runs().prune(at(99_999), 10).wait().unwrap(), 1);
    assert_eq!(world.db.runs().prune(at(99_999), 10).wait().unwrap(), 0);
    assert_eq!(left(&world), [running, queued]);
}
