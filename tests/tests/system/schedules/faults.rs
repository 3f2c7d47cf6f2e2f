//! What becomes of a run when a statement on its way fails: nothing is half done. What cannot be
//! prepared ends at once and makes room; everything else goes on by itself when the statement works
//! again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twobox_slots::reason::Reason;
use twobox_store::Store;
use twobox_store::schedules::{Phase, Run, Status};
use twobox_tests::{Setup, World, on_process, wait_for};

use super::{Book, Rhythm};
use crate::scripts::echo;

on_process!(
    a_scheduled_run_survives_the_failure_of_each_statement,
    a_manual_run_survives_the_failure_of_each_statement,
    a_scheduled_run_that_host_db_cannot_prepare_ends_at_once_and_makes_room,
    an_end_that_cannot_be_recorded_for_a_moment_is_as_soon_as_it_can,
    a_manual_run_that_host_db_cannot_prepare_is_refused_with_the_cause,
);

/// How far a run is while the statement fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stuck {
    /// It was not made.
    Unmade,
    /// It waits for its turn.
    Queued,
    /// It has come to this phase.
    Running(Phase),
}

impl Stuck {
    fn of(run: Option<&Run>) -> Self {
        match run {
            None => Self::Unmade,
            Some(Run { status: Status::Queued, .. }) => Self::Queued,
            Some(run) => Self::Running(run.hold.as_ref().expect("it runs").phase),
        }
    }

    /// How many sessions were made for the run.
    fn sessions(self) -> usize {
        usize::from(matches!(self, Self::Running(_)))
    }
}

/// Each statement outside of the preparations, as a trigger that lets it fail, and how far a run comes.
const FAULTS: [(&str, Stuck); 6] = [
    ("BEFORE INSERT ON runs", Stuck::Unmade),
    ("BEFORE UPDATE OF next_slot_ms ON schedules", Stuck::Unmade),
    ("BEFORE UPDATE ON runs WHEN NEW.phase = 'claimed'", Stuck::Queued),
    ("BEFORE UPDATE ON runs WHEN NEW.status = 'completed'", Stuck::Running(Phase::Executing)),
    ("BEFORE INSERT ON run_metrics", Stuck::Running(Phase::Executing)),
    ("BEFORE UPDATE OF failure_streak ON schedules", Stuck::Running(Phase::Executing)),
];

/// Each statement that prepares a run, and whether its session stays, with the message taken back.
const PREPARING: [(&str, bool); 5] = [
    ("BEFORE INSERT ON messaging_groups", false),
    ("BEFORE INSERT ON sessions", false),
    ("BEFORE UPDATE ON runs WHEN NEW.phase = 'prepared'", false),
    // Of the run's own session: that of whoever is told of its end is marked as well.
    (
        "BEFORE UPDATE OF next_due_at_ms ON sessions WHEN NEW.next_due_at_ms IS NOT NULL AND
         'schedule' = (SELECT channel_type FROM messaging_groups WHERE id = NEW.messaging_group_id)",
        false,
    ),
    ("BEFORE UPDATE ON runs WHEN NEW.phase = 'executing' AND NEW.status = 'running'", true),
];

/// Lets a statement fail as long as it lives, and says so in the host's log.
struct Fault<'a> {
    db: &'a Store,
    word: String,
}

impl<'a> Fault<'a> {
    fn inject(db: &'a Store, number: usize, event: &str) -> Self {
        let word = format!("injected {number}.");
        db.raw()
            .execute_batch(&format!(
                "CREATE TRIGGER fault {event} BEGIN SELECT RAISE(ABORT, '{word}'); END"
            ))
            .unwrap();
        Self { db, word }
    }

    fn wait_met(&self, world: &World) {
        wait_for("the fault to be met", || world.host_log().contains(&self.word).then_some(()));
    }
}

impl Drop for Fault<'_> {
    fn drop(&mut self) {
        self.db.raw().execute_batch("DROP TRIGGER fault").unwrap();
    }
}

fn count(db: &Store, what: &str) -> i64 {
    db.raw().query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get(0)).unwrap()
}

/// What is known of a run when all is over: one row, one cost, one session, one message, one answer.
fn assert_whole(world: &World, book: &Book, run: &Run, event: &str) {
    assert_eq!(run.status, Status::Completed, "{event}: {run:?}");
    assert_eq!(run.output.as_deref(), Some(&*format!("echo: {}", run.prompt)), "{event}");
    assert_eq!(count(&book.db, &format!("run_metrics WHERE run_id = '{}'", run.id)), 1, "{event}");
    let id = run.hold.as_ref().unwrap().session.to_string();
    let session = world.sessions().into_iter().find(|session| session.id == id).unwrap();
    session.wait_settled();
    let messages = session.messages();
    assert_eq!(messages.len(), 1, "{event}");
    assert_eq!((&*messages[0].status, messages[0].tries), ("completed", 0), "{event}");
    assert_eq!(session.rows().len(), 1, "{event}: it was done once");
}

fn a_scheduled_run_survives_the_failure_of_each_statement(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let book = Book::of(&world);
    for (number, (event, stuck)) in FAULTS.into_iter().enumerate() {
        let sessions = world.sessions().len();
        let fault = Fault::inject(&book.db, number, event);
        let id = book.add(&format!("tidy {number}"), Rhythm::Once, |_| {});
        fault.wait_met(&world);
        let runs = book.runs(id);
        assert_eq!((Stuck::of(runs.first()), runs.len() <= 1), (stuck, true), "{event}: {runs:?}");
        assert_eq!(book.schedule(id).next.is_some(), stuck == Stuck::Unmade, "{event}");
        assert_eq!(world.sessions().len() - sessions, stuck.sessions(), "{event}");
        assert_eq!(usize::try_from(count(&book.db, "run_metrics")), Ok(number), "{event}");
        drop(fault);
        assert_whole(&world, &book, &book.wait_ended(id), event);
        assert_eq!(book.runs(id).len(), 1, "{event}: one slot, one run");
    }
    world.assert_fsck_clean();
}

fn a_manual_run_survives_the_failure_of_each_statement(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let book = Book::of(&world);
    // Executing by hand moves no cadence.
    let faults = FAULTS.into_iter().filter(|(event, _)| !event.contains("next_slot_ms"));
    for (number, (event, stuck)) in faults.enumerate() {
        let name = format!("tidy-{number}");
        let far = Book::later();
        let id = book.add_at(&name, Rhythm::Once, far, |_| {});
        let next = book.schedule(id).next;
        let fault = Fault::inject(&book.db, number, event);
        let ran = world.run(&["schedules", "run", &name]);
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        // It is begun at once or not at all.
        let refused = matches!(stuck, Stuck::Unmade | Stuck::Queued);
        assert_eq!(ran.status.success(), !refused, "{event}: {said}");
        if refused {
            assert!(said.contains(&fault.word), "{event}: {said}");
            assert_eq!(book.runs(id).len(), 0, "{event}");
            drop(fault);
            world.twobox(&["schedules", "run", &name]);
        } else {
            fault.wait_met(&world);
            assert_eq!(Stuck::of(book.runs(id).first()), stuck, "{event}");
            drop(fault);
        }
        assert_whole(&world, &book, &book.wait_ended(id), event);
        assert_eq!((book.runs(id).len(), book.schedule(id).next), (1, next), "{event}");
    }
    world.assert_fsck_clean();
}

/// An echo that takes so many milliseconds for what matches `pattern`.
fn taking_time(pattern: &str, ms: u64) -> Value {
    let mut script = echo();
    let answer = json!([{ "sleep_ms": ms }, { "reply": "echo: {text}" }]);
    script["rules"] = json!([{ "match": pattern, "do": answer }]);
    script
}

/// A run that was not prepared: ended while the fault was still there, and nothing of it by halves.
fn assert_unprepared(world: &World, book: &Book, run: &Run, fault: &Fault<'_>, stays: bool) {
    let event = &fault.word;
    assert_eq!((run.status, run.reason), (Status::Failed, Some(Reason::PrepareFailed)), "{event}");
    let error = run.error.as_deref().unwrap();
    assert!(error.contains(&fault.word) && !error.contains("is left"), "{event}: {error}");
    assert_eq!(count(&book.db, &format!("run_metrics WHERE run_id = '{}'", run.id)), 1, "{event}");
    let id = run.hold.as_ref().unwrap().session.to_string();
    let session = world.sessions().into_iter().find(|session| session.id == id);
    assert_eq!(session.is_some(), stays, "{event}");
    if let Some(session) = session {
        let statuses: Vec<_> = session.messages().into_iter().map(|it| it.status).collect();
        assert_eq!(statuses, ["cancelled"], "{event}");
    }
}

fn a_scheduled_run_that_host_db_cannot_prepare_ends_at_once_and_makes_room(setup: Setup) {
    // What was stored all the same is not answered before it is taken back.
    let script = taking_time("^(one|two)", 20_000);
    let world = setup.setting("schedule.max_concurrent", 1).agent("ada", script).up();
    let book = Book::of(&world);
    for (number, (event, stays)) in PREPARING.into_iter().enumerate() {
        let fault = Fault::inject(&book.db, number, event);
        let began = Instant::now();
        let ids = ["one", "two"]
            .map(|which| book.add(&format!("{which} {number}"), Rhythm::Once, |_| {}));
        for id in ids {
            assert_unprepared(&world, &book, &book.wait_ended(id), &fault, stays);
            assert_eq!(book.schedule(id).streaks.failures, 1, "{event}");
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{event}: not at the end of its lease");
        drop(fault);
        let next = book.add(&format!("next {number}"), Rhythm::Once, |_| {});
        assert_whole(&world, &book, &book.wait_ended(next), event);
    }
    world.assert_fsck_clean();
}

fn a_manual_run_that_host_db_cannot_prepare_is_refused_with_the_cause(setup: Setup) {
    let script = taking_time("^tidy", 1500);
    let world = setup.api().setting("schedule.max_concurrent", 1).agent("ada", script).up();
    let (book, client) = (Book::of(&world), world.client());
    for (number, (event, stays)) in PREPARING.into_iter().enumerate() {
        let name = format!("tidy-{number}");
        let id = book.add_at(&name, Rhythm::Once, Book::later(), |_| {});
        let fault = Fault::inject(&book.db, number, event);
        let answer = client.ask("POST", &format!("/api/schedules/{name}/execute"));
        assert_eq!(answer.error(), (500, "prepare_failed"), "{event}");
        assert!(answer.body["error"]["message"].as_str().unwrap().contains(&fault.word), "{event}");
        let run = book.wait_ended(id);
        assert_eq!(answer.body["run"]["id"], run.id.to_string(), "{event}");
        assert_unprepared(&world, &book, &run, &fault, stays);
        let ran = world.run(&["schedules", "run", &name]);
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!ran.status.success() && said.contains(&fault.word), "{event}: {said}");
        drop(fault);
        world.twobox(&["schedules", "run", &name]);
        wait_for("the run that was prepared", || {
            book.runs(id).into_iter().find(|run| run.status == Status::Completed)
        });
    }
    world.assert_fsck_clean();
}

fn an_end_that_cannot_be_recorded_for_a_moment_is_as_soon_as_it_can(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let book = Book::of(&world);
    let fault = Fault::inject(&book.db, 0, PREPARING[3].0);
    // The end of a one-shot that failed tells somebody, in the same transaction.
    let untold = "CREATE TRIGGER untold BEFORE INSERT ON notices
                  BEGIN SELECT RAISE(ABORT, 'nobody is told'); END";
    book.db.raw().execute_batch(untold).unwrap();
    let id = book.add("one", Rhythm::Once, |_| {});
    wait_for("its end to fail", || {
        let log = world.host_log();
        (log.contains("cannot be followed for now") && log.contains("nobody is told")).then_some(())
    });
    let made = book.runs(id).pop().and_then(|run| run.hold).expect("it goes on").session;
    assert!(world.sessions().iter().all(|it| it.id != made.to_string()), "its session went first");
    drop(fault);
    book.db.raw().execute_batch("DROP TRIGGER untold").unwrap();
    let run = book.wait_ended(id);
    assert_eq!((run.status, run.reason), (Status::Failed, Some(Reason::PrepareFailed)), "{run:?}");
    world.assert_fsck_clean();
}
