//! Several hosts on one `host.db`: threads with a connection each, and processes.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;

use twobox_slots::overlap;
use twobox_store::Store;
use twobox_store::schedules::{
    Claimed, Definition, Finished, RunOutcome, SlotClaim, SlotFate, SlotRow, Started,
};

use super::world::{
    World, at, definition, end, host_id, leave, next, run_id, start, started, world,
};

const SCHEDULES: i64 = 10;
const SLOTS: i64 = 100;
const LAST: i64 = SLOTS * 1000;

/// Schedules with the slots 1000, 2000, … up to [`LAST`] before them.
fn due_schedules() -> World {
    let mut world = world();
    for n in 0..SCHEDULES {
        world.add_as(&Definition {
            not_after: Some(at(LAST)),
            overlap: overlap::Policy::Allow,
            ..definition(&format!("schedule {n}"))
        });
    }
    world
}

/// How many slots a host got, and how many another one had got before.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    won: usize,
    lost: usize,
}

/// One of two hosts, which `meet` each other at every step: both read what is due before either claims,
/// and then claim all of it, one from the `front` and one from the back. So whatever the machine does,
/// each gets what it begins with and is refused what the other one began with.
fn claim_all(path: &Path, front: bool, mut meet: impl FnMut()) -> Tally {
    let db = Store::create(path).unwrap();
    let mut tally = Tally::default();
    loop {
        meet(); // nobody claims any more
        let mut due: Vec<_> = db
            .schedules()
            .due(at(i64::MAX), 100)
            .wait()
            .unwrap()
            .rows
            .into_iter()
            .map(|schedule| {
                let open = db.runs().open_of(schedule.id).wait().unwrap().rows;
                (schedule, open.iter().map(|run| run.id).collect::<Vec<_>>())
            })
            .collect();
        if !front {
            due.reverse();
        }
        meet(); // both have read
        if due.is_empty() {
            return tally;
        }
        for (number, (schedule, open)) in due.iter().enumerate() {
            let slot = schedule.next.unwrap().slot;
            let row = SlotRow { id: run_id(), slot, due: slot, fate: SlotFate::Run };
            let claim = SlotClaim {
                schedule: schedule.id,
                revision: schedule.revision,
                slot,
                open: open.clone(),
                rows: vec![row],
                replaces: Vec::new(),
                next: next(slot.0 + 1000).filter(|next| next.slot.0 <= LAST),
                now: slot,
            };
            match db.schedules().claim_slot(claim).wait().unwrap() {
                Claimed::Done { already } => {
                    assert_eq!(already, []);
                    tally.won += 1;
                }
                Claimed::Taken | Claimed::Changed => tally.lost += 1,
                other => panic!("{other:?}"),
            }
            if number == 0 {
                meet(); // each has got one
            }
        }
    }
}

/// Who lost knows that, and each had its part.
fn assert_both_raced(hosts: &[Tally; 2]) {
    let slots = usize::try_from(SCHEDULES * SLOTS).unwrap();
    for Tally { won, lost } in hosts {
        assert_eq!(won + lost, slots, "{hosts:?}");
        assert!(*won > 0 && *lost > 0, "{hosts:?}");
    }
    assert_eq!(hosts.iter().map(|host| host.won).sum::<usize>(), slots, "{hosts:?}");
}

/// Each slot of each schedule has one run.
fn assert_each_slot_ran_once(world: &World) {
    let mut seen = HashMap::new();
    let mut before = None;
    loop {
        let page = world.db.runs().page(None, before, 100).wait().unwrap().rows;
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        for run in page {
            *seen.entry((run.schedule, run.slot.unwrap())).or_insert(0) += 1;
        }
    }
    assert_eq!(i64::try_from(seen.len()).unwrap(), SCHEDULES * SLOTS);
    let twice: Vec<_> = seen.into_iter().filter(|&(_, count)| count != 1).collect();
    assert_eq!(twice, []);
}

#[test]
fn two_hosts_in_one_process_claim_each_slot_once() {
    let world = due_schedules();
    let barrier = Barrier::new(2);
    let hosts = thread::scope(|scope| {
        let host = |front| {
            let (path, barrier) = (&world.path, &barrier);
            scope.spawn(move || {
                claim_all(path, front, || {
                    barrier.wait();
                })
            })
        };
        [host(true), host(false)].map(|host| host.join().unwrap())
    });
    assert_each_slot_ran_once(&world);
    assert_both_raced(&hosts);
}

/// Tell the test below which file it has to work on as a second process, and from which end.
const AS_HOST_ON: &str = "TWOBOX_TEST_CLAIM_SLOTS_OF";
const FROM_FRONT: &str = "TWOBOX_TEST_FROM_FRONT";

/// What a process says when it has come to a step. Then it waits for a line.
const HERE: &str = "here";

/// A host as a process of its own, which meets the other one through its parent.
fn claim_as_process(path: &Path) {
    let front = std::env::var(FROM_FRONT).unwrap() == "true";
    let tally = claim_all(path, front, || {
        io::stderr().write_all(format!("{HERE}\n").as_bytes()).unwrap();
        assert_ne!(io::stdin().read_line(&mut String::new()).unwrap(), 0, "the parent is gone");
    });
    let said = format!("{} {}\n", tally.won, tally.lost);
    io::stderr().write_all(said.as_bytes()).unwrap();
}

#[test]
fn two_host_processes_claim_each_slot_once() {
    if let Some(path) = std::env::var_os(AS_HOST_ON) {
        return claim_as_process(Path::new(&path));
    }
    let world = due_schedules();
    let spawn = |front: bool| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "races::two_host_processes_claim_each_slot_once"])
            .env(AS_HOST_ON, &world.path)
            .env(FROM_FRONT, front.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut hosts = [spawn(true), spawn(false)];
    let mut said = hosts.each_mut().map(|host| BufReader::new(host.stderr.take().unwrap()).lines());
    let tallies = loop {
        let lines = said.each_mut().map(|said| said.next().expect("it goes on").unwrap());
        if lines.iter().any(|line| line != HERE) {
            break lines;
        }
        for host in &mut hosts {
            writeln!(host.stdin.as_mut().unwrap()).unwrap();
        }
    };
    let tallies = tallies.map(|line| {
        let (won, lost) = line.split_once(' ').expect(&line);
        Tally { won: won.parse().unwrap(), lost: lost.parse().unwrap() }
    });
    for mut host in hosts {
        assert!(host.wait().unwrap().success());
    }
    assert_each_slot_ran_once(&world);
    assert_both_raced(&tallies);
}

#[test]
fn however_many_start_runs_the_cap_holds_at_every_change() {
    const CAP: u32 = 3;
    let mut world = due_schedules();
    let ids: Vec<_> =
        world.db.schedules().list(None).wait().unwrap().rows.iter().map(|one| one.id).collect();
    for id in &ids {
        for _ in 0..10 {
            world.fire(*id);
        }
    }
    // Looks at each change in the transaction that makes it, not now and then.
    world
        .db
        .raw()
        .execute_batch(&format!(
            "CREATE TRIGGER over_the_cap AFTER UPDATE OF status ON runs
             WHEN (SELECT count(*) FROM runs WHERE status = 'running') > {CAP}
             BEGIN SELECT RAISE(ABORT, 'more runs than the cap'); END"
        ))
        .unwrap();
    // These two go on all the time, so that a host which has one run more is refused another.
    let long = [(); 2].map(|()| {
        started(world.db.runs().start_next(CAP, start(host_id(), LAST)).wait().unwrap()).id
    });
    let host = |path: &Path| {
        let db = Store::create(path).unwrap();
        let owner = host_id();
        let (mut held, mut ended, mut refused) = (None, 0, 0);
        loop {
            let outcome = db.runs().start_next(CAP, start(owner, LAST)).wait().unwrap();
            if let Some(run) = held.take() {
                let end = end(RunOutcome::Completed, LAST + 1);
                let finished = db.runs().finish(run, owner, end, leave).wait().unwrap();
                assert_eq!(finished, Finished::Done { paused: None, teller: None });
                ended += 1;
            }
            match outcome {
                Started::Run(run) => held = Some(run.id),
                Started::Full => refused += 1,
                Started::Nothing => return (ended, refused),
            }
        }
    };
    let (ended, refused) = thread::scope(|scope| {
        let hosts = [(); 3].map(|()| scope.spawn(|| host(&world.path)));
        hosts
            .map(|host| host.join().unwrap())
            .iter()
            .fold((0, 0), |sum, (ended, refused)| (sum.0 + ended, sum.1 + refused))
    });
    assert_eq!(ended, 98, "each other run was started and ended by one host");
    assert!(refused >= 98, "the cap was not reached, so nothing was tried");
    assert_eq!(world.count("SELECT count(*) FROM runs WHERE status = 'completed'"), 98);
    assert!(long.iter().all(|&run| world.run(run).ended_at.is_none()));
}
