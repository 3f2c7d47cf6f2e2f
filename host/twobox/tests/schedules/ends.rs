//! The end of runs.

use twobox_shared::ids::{SessionId, SystemIds};
use twobox_shared::inbox::DeliveryStatus;
use twobox_shared::seq::Seq;
use twobox_store::schedules::{
    self, Definition, End, Finished, Load, MetricsPage, Reason, RunMetrics, RunOutcome, SlotClaim,
    SlotFate, SlotRow, Status, Streaks, Verdict,
};

use super::world::{World, at, definition, dump, end, host_id, leave, next, pause, run_id, world};

fn timeout() -> RunOutcome {
    RunOutcome::Failed { reason: Reason::Timeout, error: "it took too long".to_owned() }
}

#[test]
fn a_run_ends_once_by_its_owner() {
    let cases = [
        (RunOutcome::Completed, Status::Completed, None, None),
        (timeout(), Status::Failed, Some(Reason::Timeout), Some("it took too long")),
        (
            RunOutcome::Cancelled { reason: Reason::Aborted, error: None },
            Status::Cancelled,
            Some(Reason::Aborted),
            None,
        ),
    ];
    for (outcome, status, reason, error) in cases {
        let mut world = world();
        let id = world.add("report");
        let (run, owner, other) = (world.fire(id), host_id(), host_id());
        let ended = End { turns: Some(4), output: Some("well".to_owned()), ..end(outcome, 1700) };
        let finish = |world: &mut World, owner| {
            world.db.runs().finish(run, owner, ended.clone(), leave).wait().unwrap()
        };
        assert_eq!(finish(&mut world, owner), Finished::NotOurs, "it was not started");
        world.begin(run, owner, 1200);
        let as_it_was = dump(&world.db.raw());
        assert_eq!(finish(&mut world, other), Finished::NotOurs);
        assert_eq!(dump(&world.db.raw()), as_it_was);
        assert_eq!(finish(&mut world, owner), Finished::Done { paused: None, teller: None });
        let as_it_is = dump(&world.db.raw());
        let again =
            End { output: Some("otherwise".to_owned()), ..end(RunOutcome::Completed, 1800) };
        let repeated = world
            .db
            .runs()
            .finish(run, owner, again, |_, _| panic!("there is nothing to judge"))
            .wait();
        assert_eq!((repeated.unwrap(), dump(&world.db.raw())), (Finished::NotOurs, as_it_is));
        let stored = world.run(run);
        assert_eq!((stored.status, stored.reason), (status, reason));
        assert_eq!((stored.error.as_deref(), stored.output.as_deref()), (error, Some("well")));
        assert_eq!((stored.turns, stored.ended_at), (Some(4), Some(at(1700))));
    }
}

#[test]
fn the_schedule_is_judged_by_the_ended_run_in_the_same_breath() {
    let mut world = world();
    let id = world.add("report");
    let owner = host_id();
    let (run, waiting) = (world.fire(id), world.fire(id));
    world.begin(run, owner, 1000);
    let before = world.schedule(id);
    let judge = move |schedule: &schedules::Schedule, ended: &schedules::Run| {
        assert_eq!(schedule, &before);
        assert_eq!((ended.id, ended.status), (run, Status::Failed));
        Verdict {
            streaks: Streaks { breaches: 2, failures: schedule.streaks.failures + 1 },
            pause: Some(pause("it fails")),
            news: None,
        }
    };
    let finished = world.db.runs().finish(run, owner, end(timeout(), 2000), judge).wait().unwrap();
    let Finished::Done { paused: Some(itself), .. } = finished else { panic!("{finished:?}") };
    let teller = itself.teller.expect("its agent listens to its terminal");
    let told = world.db.notices().open(teller, Seq(7)).wait().unwrap();
    let told: Vec<_> =
        told.iter().map(|notice| (&*notice.text, &*notice.address.platform_id)).collect();
    assert_eq!(told, [("I have paused it: it fails.", "ann")]);
    assert_eq!(world.db.sessions().due(at(0)).wait().unwrap(), [teller], "somebody has to look");
    let paused = world.schedule(id);
    assert_eq!(paused.streaks, Streaks { breaches: 2, failures: 1 });
    assert_eq!((paused.pause_reason.as_deref(), paused.next), (Some("it fails"), None));
    assert_eq!(world.run(waiting).reason, Some(Reason::Paused));
}

#[test]
fn a_paused_schedule_keeps_its_reason_and_counts_on() {
    let mut world = world();
    let id = world.add("report");
    let (run, owner) = (world.fire(id), host_id());
    world.begin(run, owner, 1000);
    world.db.schedules().pause(id, "by ann", None, at(1500)).wait().unwrap();
    let judge = |_: &_, _: &_| Verdict {
        streaks: Streaks { breaches: 0, failures: 3 },
        pause: Some(pause("it fails")),
        news: None,
    };
    let finished = world.db.runs().finish(run, owner, end(timeout(), 2000), judge).wait().unwrap();
    assert_eq!(finished, Finished::Done { paused: None, teller: None });
    let schedule = world.schedule(id);
    assert_eq!(schedule.pause_reason.as_deref(), Some("by ann"));
    assert_eq!((schedule.streaks.failures, schedule.revision), (3, 2));
}

#[test]
fn what_a_run_cost_is_kept_longer_than_the_run() {
    let mut world = world();
    let id = world.add("report");
    let owner = host_id();
    let load = Load { host_loop_lag_ms: 3, chat_turns_in_flight: 2, runs_in_flight: 1 };
    // Claimed at its slot, 1000; then a clock that goes back.
    let times = [(1000, 1250, 1900, 250, 650), (2000, 1990, 1980, 0, 0)];
    let mut runs = Vec::new();
    for (slot, started, ended, slot_wait_ms, duration_ms) in times {
        let run = world.fire(id);
        assert_eq!(world.run(run).due, at(slot));
        world.begin(run, owner, started);
        let end = End { turns: Some(7), load, ..end(timeout(), ended) };
        world.db.runs().finish(run, owner, end, leave).wait().unwrap();
        runs.push(RunMetrics {
            run,
            schedule: id,
            at: at(ended),
            slot_wait_ms,
            duration_ms,
            turns: Some(7),
            max_turns: None,
            load,
            reason: Some(Reason::Timeout),
        });
    }
    let page = |world: &World, ms, before, limit| {
        let page = MetricsPage { schedule: None, since: at(ms), before, limit };
        world.db.runs().metrics(&page).wait().unwrap().rows
    };
    let since = |world: &World, ms, limit| page(world, ms, None, limit);
    let (first, second) = (runs[0].run, runs[1].run);
    runs.reverse();
    assert_eq!(world.db.runs().prune(at(9000), 10).wait().unwrap(), 2);
    assert_eq!(since(&world, 0, 10), runs);
    assert_eq!(since(&world, 1901, 10), runs[..1]);
    assert_eq!(since(&world, 0, 1), runs[..1], "the newest");
    assert_eq!(page(&world, 0, Some(second), 10), runs[1..]);
    assert_eq!(page(&world, 0, Some(first), 10), []);
    assert_eq!(page(&world, 0, Some(run_id()), 10), [], "one that is forgotten");
    assert_eq!(world.db.runs().prune_metrics(at(1900), 10).wait().unwrap(), 0);
    assert_eq!(world.db.runs().prune_metrics(at(9000), 1).wait().unwrap(), 1);
    assert_eq!(since(&world, 0, 10), runs[..1]);
}

#[test]
fn a_slot_that_was_caught_up_waited_since_its_claim() {
    let mut world = world();
    let id = world.add("report");
    let (row, owner) =
        (SlotRow { id: run_id(), slot: at(1000), due: at(1000), fate: SlotFate::Run }, host_id());
    let claim = SlotClaim {
        schedule: id,
        revision: 1,
        slot: at(1000),
        open: vec![],
        rows: vec![row],
        replaces: Vec::new(),
        next: next(90_000),
        now: at(80_000),
    };
    world.db.schedules().claim_slot(claim).wait().unwrap();
    world.begin(row.id, owner, 80_300);
    world.finish(row.id, owner, RunOutcome::Completed, 81_000);
    let page = MetricsPage { schedule: None, since: at(0), before: None, limit: 1 };
    let metrics = world.db.runs().metrics(&page).wait().unwrap().rows.remove(0);
    assert_eq!((metrics.slot_wait_ms, metrics.duration_ms), (300, 700));
}

#[test]
fn a_schedule_that_pauses_itself_says_so_where_somebody_listens() {
    let mut world = world();
    let pause = pause("no such zone");
    let itself = |world: &mut World, session| {
        let name = format!("{session:?}");
        let id = world.add_as(&Definition { session, ..definition(&name) });
        let stale =
            world.db.schedules().pause_itself(id, 2, pause.clone(), at(2000)).wait().unwrap();
        assert_eq!((stale, world.schedule(id).pause_reason), (None, None), "it was edited");
        let paused =
            world.db.schedules().pause_itself(id, 1, pause.clone(), at(2000)).wait().unwrap();
        assert_eq!(world.schedule(id).pause_reason.as_deref(), Some("no such zone"));
        let again =
            world.db.schedules().pause_itself(id, 2, pause.clone(), at(2000)).wait().unwrap();
        assert_eq!(again, None, "it is paused");
        paused.unwrap().teller
    };
    let thread = |world: &World, teller: Option<SessionId>| {
        let told = world.db.notices().open(teller.unwrap(), Seq(7)).wait().unwrap();
        told.into_iter().map(|notice| notice.address.thread_id).collect::<Vec<_>>()
    };

    let first = itself(&mut world, None);
    assert_eq!((first, thread(&world, first)), (Some(pause.session), vec![None]), "a new session");
    let named = world.session("t");
    let teller = itself(&mut world, Some(named));
    assert_eq!((teller, thread(&world, teller)), (Some(named), vec![Some("t".to_owned())]));

    // A chat in which only runs speak has nobody who reads it.
    world
        .db
        .raw()
        .execute_batch("UPDATE messaging_groups SET channel_type = 'schedule'; DELETE FROM wirings")
        .unwrap();
    let runs_own = world.db.raw().query_row(
        "INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, created_at_ms,
           last_active_at_ms)
         SELECT ?1, agent_group_id, messaging_group_id, 'run', 1, 1 FROM sessions WHERE id = ?2
         RETURNING id",
        [SessionId::generate(&SystemIds), named],
        |row| row.get(0),
    );
    assert_eq!(itself(&mut world, Some(runs_own.unwrap())), None, "its agent listens to nobody");
}

#[test]
fn a_notice_whose_mark_was_cleared_is_found() {
    let mut world = world();
    let id = world.add("report");
    let paused =
        world.db.schedules().pause_itself(id, 1, pause("broken"), at(2000)).wait().unwrap();
    let teller = paused.unwrap().teller.unwrap();
    world.db.sessions().mark(teller, None).wait().unwrap();
    assert_eq!(world.db.sessions().due(at(0)).wait().unwrap(), [teller]);
    let mut notice = world.db.notices().open(teller, Seq(7)).wait().unwrap().remove(0);
    assert_eq!(notice.behind, Some(Seq(7)), "behind what its session has seen");
    let again = world.db.notices().open(teller, Seq(90)).wait().unwrap().remove(0);
    assert_eq!(again.behind, Some(Seq(7)), "and there it stays, whoever looks again");
    notice.record.status = DeliveryStatus::Delivered;
    assert!(world.db.notices().record(teller, &notice.cause, &notice.record).wait().unwrap());
    assert!(
        !world.db.notices().record(teller, &notice.cause, &notice.record).wait().unwrap(),
        "final"
    );
    assert_eq!(world.db.sessions().due(at(i64::MAX)).wait().unwrap(), []);
}

#[test]
fn a_schedule_that_cannot_be_read_keeps_no_run_from_its_end() {
    let mut world = world();
    let id = world.add("report");
    let (run, owner) = (world.fire(id), host_id());
    world.begin(run, owner, 1000);
    let spoil = "PRAGMA foreign_keys = OFF; UPDATE schedules SET agent_group_id = 'x'";
    world.db.raw().execute_batch(spoil).unwrap();
    world.db.schedules().find("report").wait().unwrap_err();
    let finished = world
        .db
        .runs()
        .finish(run, owner, end(timeout(), 2000), |_, _| panic!("nobody can judge"))
        .wait();
    assert_eq!(finished.unwrap(), Finished::Done { paused: None, teller: None });
    assert_eq!(world.run(run).status, Status::Failed);
}
