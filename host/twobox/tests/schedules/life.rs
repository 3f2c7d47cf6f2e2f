//! Phases, leases, owners, cancelling.

use twobox_store::schedules::{Cancelled, Phase, Reason, RunOutcome, Status};

use super::world::{World, at, dump, host_id, run_id, start, started, world};

#[test]
fn only_the_owner_moves_a_run_and_only_from_the_phase_it_is_in() {
    let mut world = world();
    let id = world.add("report");
    let (run, owner, other) = (world.fire(id), host_id(), host_id());
    let advance = |world: &World, owner, from, to| {
        world.db.runs().advance(run, owner, from, to).wait().unwrap()
    };
    assert!(!advance(&world, owner, Phase::Claimed, Phase::Prepared), "it does not run yet");
    world.begin(run, owner, 1000);
    assert!(!advance(&world, other, Phase::Claimed, Phase::Prepared), "not its run");
    assert!(!advance(&world, owner, Phase::Prepared, Phase::Executing), "not there yet");
    assert!(advance(&world, owner, Phase::Claimed, Phase::Prepared));
    assert!(!advance(&world, owner, Phase::Claimed, Phase::Prepared), "there already");
    assert!(advance(&world, owner, Phase::Prepared, Phase::Executing));
    assert_eq!(world.run(run).hold.unwrap().phase, Phase::Executing);
    world.finish(run, owner, RunOutcome::Completed, 2000);
    assert!(!advance(&world, owner, Phase::Executing, Phase::Executing), "ended");
}

#[test]
fn a_bad_row_hides_no_other_that_runs() {
    let mut world = world();
    let runs = ["a", "b", "c"].map(|name| {
        let id = world.add(name);
        world.fire(id)
    });
    for (run, now) in runs.into_iter().zip([1000, 1001, 1002]) {
        world.begin(run, host_id(), now);
    }
    let spoil = "UPDATE runs SET session_id = 'nowhere' WHERE id = ?1";
    assert_eq!(world.db.raw().execute(spoil, [runs[0]]).unwrap(), 1);
    let left = world.db.runs().left_behind(host_id(), at(1003)).wait();
    for listed in [world.db.runs().running().wait(), left] {
        let listed = listed.unwrap();
        assert_eq!(listed.rows.iter().map(|run| run.id).collect::<Vec<_>>(), runs[1..]);
        let bad: Vec<_> = listed.unreadable.into_iter().map(|bad| bad.id).collect();
        assert_eq!(bad, [runs[0].to_string()]);
    }
}

#[test]
fn a_run_is_taken_over_from_the_owner_and_the_lease_that_were_seen() {
    let mut world = world();
    let id = world.add("report");
    let (run, dead, fresh) = (world.fire(id), host_id(), host_id());
    let before = world.begin(run, dead, 1000).hold.unwrap();
    let take = |world: &World, from, seen| {
        world.db.runs().take_over(run, from, at(seen), fresh, at(5000)).wait().unwrap()
    };
    let others = |world: &World, owner| {
        let listed = world.db.runs().left_behind(owner, at(1050)).wait().unwrap().rows;
        listed.into_iter().map(|run| run.id).collect::<Vec<_>>()
    };
    assert_eq!((others(&world, fresh), others(&world, dead)), (vec![run], vec![]));
    let as_it_was = dump(&world.db.raw());
    assert!(!take(&world, host_id(), 1100), "not the owner");
    assert!(!take(&world, dead, 1000), "not the lease");
    assert_eq!(dump(&world.db.raw()), as_it_was);
    assert!(take(&world, dead, 1100));
    assert!(!take(&world, dead, 1100), "only one takes it");
    let after = world.run(run).hold.unwrap();
    assert_eq!((after.owner, after.lease_until), (fresh, at(5000)));
    assert_eq!((after.session, after.message), (before.session, before.message));
    assert_eq!((after.phase, after.started_at), (before.phase, before.started_at));
    assert_eq!((others(&world, fresh), others(&world, dead)), (vec![], vec![run]));
    world.finish(run, fresh, RunOutcome::Completed, 2000);
    assert!(!take(&world, fresh, 5000), "ended");
}

#[test]
fn cancelling_ends_what_waits_and_asks_who_runs() {
    let mut world = world();
    let id = world.add("report");
    let (running, waiting, owner) = (world.fire(id), world.fire(id), host_id());
    world.begin(running, owner, 1000);
    let cancel =
        |world: &mut World, run, now| world.db.runs().request_cancel(run, at(now)).wait().unwrap();
    assert_eq!(cancel(&mut world, waiting, 2000), Cancelled::BeforeStart);
    let ended = world.run(waiting);
    assert_eq!((ended.status, ended.reason), (Status::Cancelled, Some(Reason::Aborted)));
    assert_eq!((ended.ended_at, ended.hold), (Some(at(2000)), None));
    assert_eq!(cancel(&mut world, waiting, 2100), Cancelled::Ended);
    assert_eq!(cancel(&mut world, running, 2000), Cancelled::Requested);
    assert_eq!(cancel(&mut world, running, 2100), Cancelled::RequestedBefore);
    assert_eq!(cancel(&mut world, run_id(), 2000), Cancelled::Unknown);
    let to_end = world.run(running);
    assert_eq!((to_end.status, to_end.ended_at), (Status::Running, None));
    assert_eq!(to_end.cancel_requested_at, Some(at(2000)), "the first wish counts");
    world.finish(
        running,
        owner,
        RunOutcome::Cancelled { reason: Reason::Aborted, error: None },
        2500,
    );
    assert_eq!(cancel(&mut world, running, 2600), Cancelled::Ended);
}

#[test]
fn runs_that_cannot_be_read_are_ended_and_stand_before_nobody() {
    let mut world = world();
    let id = world.add("report");
    let (running, first, second) = (world.fire(id), world.fire(id), world.fire(id));
    world.begin(running, host_id(), 1000);
    for (run, change) in [(running, "owner = 'x'"), (first, "id = '!'")] {
        world
            .db
            .raw()
            .execute_batch(&format!("UPDATE runs SET {change} WHERE id = '{run}'"))
            .unwrap();
    }
    let ended = world.db.runs().end_unreadable(at(2000)).wait().unwrap();
    let ids: Vec<_> = ended.into_iter().map(|run| run.id).collect();
    assert_eq!(ids, ["!".to_owned(), running.to_string()]);
    let rows = world
        .db
        .raw()
        .prepare("SELECT status, reason, error LIKE '%cannot be read%', ended_at_ms FROM runs ORDER BY id")
        .unwrap()
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap()
        .collect::<Result<Vec<(String, Option<String>, Option<bool>, Option<i64>)>, _>>()
        .unwrap();
    let over =
        |status: &str| (status.to_owned(), Some("interrupted".to_owned()), Some(true), Some(2000));
    let waits = ("queued".to_owned(), None, None, None);
    assert_eq!(rows, [over("cancelled"), over("failed"), waits]);
    assert_eq!(world.db.runs().end_unreadable(at(2100)).wait().unwrap(), []);
    let next = world.db.runs().start_next(1, start(host_id(), 3000)).wait().unwrap();
    assert_eq!(started(next).id, second, "neither a place nor the head of the queue is lost");
}
