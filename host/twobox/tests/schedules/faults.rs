//! A statement that fails in the middle: everything is as it was, and the same works afterwards.

use twobox_shared::ids::{HostId, RunId, ScheduleId, SystemIds};
use twobox_store::DbError;
use twobox_store::schedules::{
    self, Capacity, Claimed, Definition, Finished, Hold, Prepared, Reason, Run, RunOutcome,
    SlotClaim, SlotFate, SlotRow, Streaks, Verdict,
};

use super::world::{
    World, at, definition, dump, end, host_id, next, past, pause, run_id, start, world,
};

/// What an operation works on.
struct Props {
    id: ScheduleId,
    idle: ScheduleId,
    owner: HostId,
    running: RunId,
    waiting: RunId,
}

fn props(world: &mut World) -> Props {
    let (id, idle) = (world.add("report"), world.add("idle"));
    let (running, owner) = (world.fire(id), host_id());
    let waiting = world.fire(id);
    world.begin(running, owner, 1000);
    Props { id, idle, owner, running, waiting }
}

/// Carries `act` out once for each fault and shows that nothing of it stays, that the fault was met,
/// and that it succeeds without the fault.
fn each_fault(faults: &[&str], act: impl Fn(&mut World, &Props) -> Result<(), DbError>) {
    let at_commit = "at commit";
    for &fault in faults.iter().chain([&at_commit]) {
        let mut world = world();
        let props = props(&mut world);
        match fault == at_commit {
            true => world.db.raw().commit_hook(Some(|| true)).unwrap(),
            false => world
                .db
                .raw()
                .execute_batch(&format!(
                    "CREATE TRIGGER fault {fault} BEGIN SELECT RAISE(ABORT, 'injected'); END"
                ))
                .unwrap(),
        }
        let as_it_was = dump(&world.db.raw());
        let error = act(&mut world, &props).expect_err(fault);
        if fault != at_commit {
            let DbError::Sqlite { source, .. } = &error else { panic!("{fault}: {error}") };
            assert!(source.to_string().contains("injected"), "{fault}: {source}");
        }
        assert!(world.db.raw().is_autocommit(), "{fault}: no transaction is left open");
        assert_eq!(dump(&world.db.raw()), as_it_was, "{fault}");
        world.db.raw().commit_hook(None::<fn() -> bool>).unwrap();
        world.db.raw().execute_batch("DROP TRIGGER IF EXISTS fault").unwrap();
        act(&mut world, &props).unwrap();
        assert_ne!(dump(&world.db.raw()), as_it_was, "{fault}");
    }
}

#[test]
fn a_claim_is_whole_or_nothing() {
    let fates = [
        SlotFate::Missed { reason: Reason::Window, count: 2, last_slot: at(4000) },
        SlotFate::Skipped(Reason::Overlap),
        SlotFate::Run,
    ];
    let faults = [
        "BEFORE INSERT ON runs WHEN NEW.status = 'missed'",
        "AFTER INSERT ON runs WHEN NEW.status = 'missed'",
        "BEFORE INSERT ON runs WHEN NEW.status = 'skipped'",
        "AFTER INSERT ON runs WHEN NEW.status = 'skipped'",
        "BEFORE INSERT ON runs WHEN NEW.status = 'queued'",
        "AFTER INSERT ON runs WHEN NEW.status = 'queued'",
        "BEFORE UPDATE ON runs WHEN NEW.status = 'cancelled'",
        "AFTER UPDATE ON runs WHEN NEW.status = 'cancelled'",
        "BEFORE UPDATE ON runs WHEN NEW.status = 'running'",
        "AFTER UPDATE ON runs WHEN NEW.status = 'running'",
        "BEFORE UPDATE ON schedules",
        "AFTER UPDATE ON schedules",
    ];
    each_fault(&faults, |world, props| {
        let rows: Vec<SlotRow> = [3000, 5000, 6000]
            .into_iter()
            .zip(fates)
            .map(|(slot, fate)| SlotRow { id: run_id(), slot: at(slot), due: at(slot), fate })
            .collect();
        let open = [props.running, props.waiting];
        let claim = SlotClaim {
            schedule: props.id,
            revision: 1,
            slot: at(3000),
            open: open.to_vec(),
            rows: rows.clone(),
            replaces: open.to_vec(),
            next: next(7000),
            now: at(6000),
        };
        world
            .db
            .schedules()
            .claim_slot(claim)
            .wait()
            .map(|claimed| assert_eq!(claimed, Claimed::Done { already: vec![] }))
    });
}

#[test]
fn an_end_is_whole_or_nothing() {
    let faults = [
        "BEFORE UPDATE ON runs WHEN NEW.status = 'failed'",
        "AFTER UPDATE ON runs WHEN NEW.status = 'failed'",
        "BEFORE INSERT ON run_metrics",
        "AFTER INSERT ON run_metrics",
        "BEFORE UPDATE OF failure_streak ON schedules",
        "AFTER UPDATE OF failure_streak ON schedules",
        "BEFORE UPDATE OF pause_reason ON schedules",
        "AFTER UPDATE OF pause_reason ON schedules",
        "BEFORE UPDATE ON runs WHEN NEW.status = 'cancelled'",
        "AFTER UPDATE ON runs WHEN NEW.status = 'cancelled'",
        "BEFORE INSERT ON sessions",
        "AFTER INSERT ON sessions",
        "BEFORE INSERT ON notices",
        "AFTER INSERT ON notices",
        "BEFORE UPDATE ON sessions",
        "AFTER UPDATE ON sessions",
    ];
    each_fault(&faults, |world, props| {
        let failed =
            RunOutcome::Failed { reason: Reason::ProviderError, error: "no answer".to_owned() };
        let judge = |_: &_, _: &_| Verdict {
            streaks: Streaks { breaches: 0, failures: 3 },
            pause: Some(pause("3 failures in a row")),
            news: None,
        };
        let end = end(failed, 2000);
        world.db.runs().finish(props.running, props.owner, end, judge).wait().map(|finished| {
            assert!(matches!(finished, Finished::Done { paused: Some(_), teller: None }))
        })
    });
}

#[test]
fn a_forced_execution_is_whole_or_nothing() {
    let faults = [
        "BEFORE INSERT ON runs",
        "AFTER INSERT ON runs",
        "BEFORE UPDATE ON runs",
        "AFTER UPDATE ON runs",
        "BEFORE INSERT ON audit",
        "AFTER INSERT ON audit",
    ];
    each_fault(&faults, |world, props| {
        let forced = Capacity::Forced { actor: "ann".to_owned() };
        world
            .db
            .runs()
            .execute(props.idle, run_id(), forced, start(host_id(), 3000))
            .wait()
            .map(|executed| assert!(matches!(executed, schedules::Executed::Run(_))))
    });
}

#[test]
fn what_people_do_is_whole_or_nothing() {
    let faults = [
        "BEFORE UPDATE ON schedules",
        "AFTER UPDATE ON schedules",
        "BEFORE UPDATE ON runs",
        "AFTER UPDATE ON runs",
    ];
    each_fault(&faults, |world, props| {
        world.db.schedules().pause(props.id, "ann", None, at(2000)).wait().map(|_| ())
    });
    each_fault(&faults, |world, props| {
        world.db.schedules().remove(props.id, at(2000)).wait().map(|_| ())
    });
    each_fault(&["AFTER INSERT ON runs WHEN NEW.slot_ms = 200"], |world, props| {
        let slots = [past(run_id(), 100), past(run_id(), 200)];
        world.db.runs().enqueue_backfill(props.id, &slots, at(2000)).wait().map(|_| ())
    });
    each_fault(&["AFTER INSERT ON schedules"], |world, _| {
        let id = ScheduleId::generate(&SystemIds);
        let other = Definition { jitter_ms: 1, ..definition("third") };
        world.db.schedules().add(id, world.agent.id, &other, None, at(1)).wait().map(|_| ())
    });
    each_fault(&["AFTER UPDATE ON schedules"], |world, props| {
        let other = Definition { jitter_ms: 1, ..definition("renamed") };
        world
            .db
            .schedules()
            .edit(props.id, 1, &other, schedules::NextSlot::Reckoned(None), None, at(1))
            .wait()
            .map(|_| ())
    });
}

/// A run of `schedule` that was just started.
fn begun(world: &mut World, schedule: ScheduleId) -> Run {
    let run = world.fire(schedule);
    world.begin(run, host_id(), 1000);
    world.run(run)
}

fn prepare(world: &mut World, run: &Run) -> Result<Prepared, DbError> {
    world.db.runs().prepare(run, run.hold.as_ref().unwrap(), &SystemIds, at(1001)).wait()
}

#[test]
fn preparing_is_whole_or_nothing() {
    let faults = [
        "BEFORE INSERT ON messaging_groups",
        "AFTER INSERT ON messaging_groups",
        "BEFORE INSERT ON sessions",
        "AFTER INSERT ON sessions",
        "BEFORE UPDATE ON runs",
        "AFTER UPDATE ON runs",
    ];
    each_fault(&faults, |world, props| {
        let run = world.run(props.running);
        prepare(world, &run).map(|prepared| assert_eq!(prepared, Prepared::Done))
    });
}

#[test]
fn preparing_again_changes_nothing_and_whoever_lost_the_run_makes_nothing() {
    let mut world = world();
    let schedule = world.add("tidy");
    let run = begun(&mut world, schedule);
    let stranger = Hold { owner: host_id(), ..run.hold.clone().unwrap() };
    let before = dump(&world.db.raw());
    let lost = world.db.runs().prepare(&run, &stranger, &SystemIds, at(1001)).wait().unwrap();
    assert_eq!((lost, dump(&world.db.raw())), (Prepared::NotOurs, before));

    assert_eq!(prepare(&mut world, &run).unwrap(), Prepared::Done);
    let after = dump(&world.db.raw());
    assert_eq!(prepare(&mut world, &run).unwrap(), Prepared::NotOurs, "it is beyond that");
    assert_eq!(dump(&world.db.raw()), after);
}

#[test]
fn a_session_that_cannot_be_used_is_refused_with_the_reason() {
    let cases = [
        ("DELETE FROM sessions", "there is no session"),
        (
            "UPDATE sessions SET status = 'quarantined', quarantine_reason = 'broken'",
            "is quarantined",
        ),
        ("UPDATE agent_groups SET removed_at_ms = 5", "its agent was removed"),
    ];
    for (change, reason) in cases {
        let mut world = world();
        let session = Some(world.session("t"));
        let schedule = world.add_as(&Definition { session, ..definition("tidy") });
        let run = begun(&mut world, schedule);
        world.db.raw().execute_batch(&format!("PRAGMA foreign_keys = OFF; {change}")).unwrap();
        let before = dump(&world.db.raw());
        let Prepared::Refused(said) = prepare(&mut world, &run).unwrap() else {
            panic!("{change}: not refused")
        };
        assert!(said.contains(reason), "{change}: {said}");
        assert_eq!(dump(&world.db.raw()), before, "{change}");
    }
}

#[test]
fn an_edit_after_the_start_of_a_run_is_for_later_runs() {
    let mut world = world();
    let (named, other) = (world.session("t"), world.session("u"));
    let cases = [
        (None, Some(named), "to a session"),
        (Some(named), None, "to sessions of their own"),
        (Some(named), Some(other), "to another session"),
    ];
    for (before, after, case) in cases {
        let old = Definition { session: before, ..definition(case) };
        let schedule = world.add_as(&old);
        let run = begun(&mut world, schedule);
        let count = |world: &World| {
            let all = "SELECT count(*) FROM sessions";
            world.db.raw().query_row(all, [], |row| row.get::<_, i64>(0)).unwrap()
        };
        let (sessions, new) = (count(&world), Definition { session: after, ..old.clone() });
        let kept = schedules::NextSlot::Kept;
        world.db.schedules().edit(schedule, 1, &new, kept, None, at(1)).wait().unwrap();
        assert_eq!(prepare(&mut world, &run).unwrap(), Prepared::Done, "{case}");
        let made = i64::from(before.is_none());
        assert_eq!(count(&world), sessions + made, "{case}");
        let hold = world.run(run.id).hold.unwrap();
        assert!(before.is_none_or(|session| session == hold.session), "{case}");
        assert!(world.db.sessions().find(hold.session).wait().unwrap().is_some(), "{case}");
        world.finish(run.id, hold.owner, RunOutcome::Completed, 1002); // one at a time goes there
    }
}
