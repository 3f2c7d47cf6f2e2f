//! Schedules: each slot has one run, never more than so many go at once, and none is stuck.

mod answers;
mod chat;
mod cost;
mod faults;
mod limits;
mod sessions;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::{RunId, ScheduleId, SystemIds};
use twobox_shared::inbox::Origin;
use twobox_shared::time::UnixMillis;
use twobox_slots::reason::Reason;
use twobox_slots::{missed, overlap};
use twobox_store::Store;
use twobox_store::schedules::{Added, Definition, Next, PastSlot, Phase, Run, Schedule, Status};
use twobox_tests::faults::shim::Shim;
use twobox_tests::{Setup, World, on_both_runtimes, on_process, wait_for};

use crate::scripts::{echo, slow};

on_both_runtimes!(
    each_slot_makes_one_run_and_what_it_said_is_kept,
    five_at_once_under_a_cap_of_two_follow_each_other,
    a_run_that_outlives_its_lease_is_ended_and_chat_goes_on,
);

on_process!(
    runs_that_use_up_their_turns_pause_their_schedule_and_a_person_is_told,
    runs_that_fail_pause_their_schedule_and_a_person_is_told,
    a_one_shot_that_fails_for_good_tells_somebody,
    a_run_in_a_conversation_leaves_the_chat_alone,
    a_person_waits_for_one_run_at_most_while_many_are_made_up_for,
    a_run_whose_session_is_quarantined_ends_and_makes_room,
    runs_for_a_quarantined_session_pause_their_schedule_and_a_person_is_told,
    a_person_runs_a_paused_schedule_beyond_the_cap_and_ends_a_run,
    a_host_that_was_away_runs_the_latest_slot_and_records_the_others,
    a_clock_that_jumps_ends_no_run,
);

/// When a schedule of a test fires.
pub(crate) enum Rhythm {
    /// At once, and never again.
    Once,
    /// Each second.
    EverySecond,
}

/// The schedules of the agent `ada`, in the world's own `host.db`.
pub(crate) struct Book {
    db: Store,
    path: PathBuf,
}

impl Book {
    pub(crate) fn of(world: &World) -> Self {
        let path = world.data().join("host.db");
        Self { db: Store::create(&path).unwrap(), path }
    }

    /// A schedule that says its own name, with what `change` makes of it.
    pub(crate) fn add(
        &self,
        name: &str,
        rhythm: Rhythm,
        change: impl FnOnce(&mut Definition),
    ) -> ScheduleId {
        self.add_at(name, rhythm, SystemClock.now(), change)
    }

    /// A time that no test lives to see.
    fn later() -> UnixMillis {
        SystemClock.now() + Duration::from_secs(24 * 3600)
    }

    /// The same, whose first slot is `first`.
    pub(crate) fn add_at(
        &self,
        name: &str,
        rhythm: Rhythm,
        first: UnixMillis,
        change: impl FnOnce(&mut Definition),
    ) -> ScheduleId {
        let (kind, value) = match rhythm {
            Rhythm::Once => ("once", first.to_rfc3339()),
            Rhythm::EverySecond => ("every", "1s".to_owned()),
        };
        let mut definition = Definition {
            name: name.to_owned(),
            prompt: name.to_owned(),
            cadence_kind: kind.to_owned(),
            cadence_value: value,
            time_zone: "UTC".to_owned(),
            anchor: first,
            session: None,
            to: Origin::default(),
            max_turns: None,
            max_run_ms: None,
            missed: missed::Policy::Latest,
            missed_window_ms: 24 * 3_600_000,
            overlap: overlap::Policy::Skip,
            jitter_ms: 0,
            not_before: None,
            not_after: None,
            max_runs: None,
        };
        change(&mut definition);
        let agent = self.db.agents().find("ada").wait().expect("the agent of every test here");
        let id = ScheduleId::generate(&SystemIds);
        let next = Next { slot: first, due: first };
        let db = Store::create(&self.path).unwrap();
        let added =
            db.schedules().add(id, agent.id, &definition, Some(next), SystemClock.now()).wait();
        assert_eq!(added.unwrap(), Added::Done);
        self.tell_host();
        id
    }

    /// Has a host look that is up already.
    fn tell_host(&self) {
        let socket = self.path.with_file_name("host.sock");
        if let Ok(mut host) = UnixStream::connect(socket) {
            writeln!(host, r#"{{"op":"schedules","do":"look"}}"#).unwrap();
            let mut answer = String::new();
            BufReader::new(host).read_line(&mut answer).unwrap();
            assert!(answer.contains("schedules"), "{answer}");
        }
    }

    /// The runs of a schedule, oldest first.
    pub(crate) fn runs(&self, schedule: ScheduleId) -> Vec<Run> {
        let mut listed = self.db.runs().page(Some(schedule), None, 1000).wait().unwrap();
        assert_eq!(listed.unreadable, []);
        listed.rows.reverse();
        listed.rows
    }

    pub(crate) fn wait_ended(&self, schedule: ScheduleId) -> Run {
        wait_for("a run to end", || {
            self.runs(schedule).into_iter().find(|run| run.ended_at.is_some())
        })
    }

    fn wait_runs(&self, schedule: ScheduleId, count: usize) -> Vec<Run> {
        wait_for(&format!("{count} runs to end"), || {
            let runs = self.runs(schedule);
            let ended = runs.iter().filter(|run| run.ended_at.is_some()).count();
            (ended >= count).then_some(runs)
        })
    }

    /// The id of the schedule with this name.
    fn id(&self, name: &str) -> ScheduleId {
        self.db.schedules().find(name).wait().unwrap().unwrap().id
    }

    fn schedule(&self, id: ScheduleId) -> Schedule {
        self.db.schedules().find(&id.to_string()).wait().unwrap().unwrap()
    }

    fn wait_paused(&self, id: ScheduleId) -> String {
        wait_for("the schedule to pause itself", || self.schedule(id).pause_reason)
    }
}

fn each_slot_makes_one_run_and_what_it_said_is_kept(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    let book = Book::of(&world);
    let tick = book.add("tick", Rhythm::EverySecond, |it| {
        it.max_runs = Some(3);
        it.overlap = overlap::Policy::Allow;
    });
    world.up();
    let runs = book.wait_runs(tick, 3);
    let slots: Vec<i64> = runs.iter().map(|run| run.slot.unwrap().0).collect();
    assert_eq!(slots.len(), 3, "{runs:?}");
    assert!(slots.windows(2).all(|pair| pair[1] - pair[0] == 1000), "{slots:?}");
    for run in &runs {
        assert_eq!((run.status, run.output.as_deref()), (Status::Completed, Some("echo: tick")));
    }
    assert_eq!(world.sessions().len(), 3, "each had a session of its own");
    assert_eq!(book.schedule(tick).next, None, "it is over");
    world.sessions().iter().for_each(|session| session.wait_settled());
    world.wait_no_containers(); // though they may idle for long
    world.assert_fsck_clean();
}

fn five_at_once_under_a_cap_of_two_follow_each_other(setup: Setup) {
    let world = setup.setting("schedule.max_concurrent", 2).agent("ada", slow(1500)).make();
    let book = Book::of(&world);
    // Looks at each start in the transaction that makes it, not now and then.
    let watch = "
        CREATE TABLE starts (run TEXT, running INTEGER, queued INTEGER);
        CREATE TRIGGER watch AFTER UPDATE OF status ON runs WHEN NEW.status = 'running' BEGIN
          INSERT INTO starts SELECT NEW.id, sum(status = 'running'), sum(status = 'queued')
          FROM runs;
        END";
    book.db.raw().execute_batch(watch).unwrap();
    let first = SystemClock.now();
    let names = ["slow a", "slow b", "slow c", "slow d", "slow e"];
    // Added from the last to the first, so that neither ids nor the order of rows is what decides.
    let mut all: Vec<ScheduleId> = (0..5)
        .rev()
        .map(|n| {
            let slot = first + Duration::from_millis(n);
            book.add_at(names[usize::try_from(n).unwrap()], Rhythm::Once, slot, |_| {})
        })
        .collect();
    all.reverse();
    world.up();
    all.iter().for_each(|id| drop(book.wait_ended(*id)));
    let runs: Vec<Run> = all.iter().flat_map(|id| book.runs(*id)).collect();
    assert_eq!(runs.len(), 5, "one each");
    assert!(runs.iter().all(|run| run.status == Status::Completed), "{runs:?}");
    let raw = book.db.raw();
    let mut select = raw.prepare("SELECT run, running, queued FROM starts ORDER BY rowid");
    let starts: Vec<(RunId, i64, i64)> = select
        .as_mut()
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    drop(select);
    drop(raw);
    let started: Vec<RunId> = starts.iter().map(|(run, ..)| *run).collect();
    let by_slot: Vec<RunId> = runs.iter().map(|run| run.id).collect();
    assert_eq!(started, by_slot, "oldest first");
    let counts: Vec<(i64, i64)> =
        starts.iter().map(|(_, running, queued)| (*running, *queued)).collect();
    assert!(counts.iter().all(|(running, _)| *running <= 2), "never more than two: {counts:?}");
    assert_eq!(counts[1], (2, 3), "two at once, and three wait: {counts:?}");
    book.db.raw().execute_batch("DROP TRIGGER watch; DROP TABLE starts").unwrap();
    world.assert_fsck_clean();
}

fn a_run_that_outlives_its_lease_is_ended_and_chat_goes_on(setup: Setup) {
    let hangs = json!({
        "rules": [{ "match": "^hang", "do": [{ "hang": true }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let world = setup.agent("ada", hangs).make();
    let book = Book::of(&world);
    let hang = book.add("hang", Rhythm::Once, |it| it.max_run_ms = Some(2_000));
    world.up();
    wait_for("the run", || book.runs(hang).pop()); // before somebody chats, who would come first
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    let run = book.wait_ended(hang);
    assert_eq!((run.status, run.reason), (Status::Failed, Some(Reason::LeaseExpired)), "{run:?}");
    assert_eq!(chat.ask("still there?"), "echo: still there?");
    let session = run.hold.unwrap().session.to_string();
    let session = world.sessions().into_iter().find(|it| it.id == session).unwrap();
    assert_eq!(session.messages()[0].status, "cancelled");
    // Nothing comes after a one-shot, so somebody is told.
    let notice = wait_for("the notice", || chat.notices().pop());
    assert!(notice.text.contains("hang"), "{notice:?}");
    world.assert_fsck_clean();
}

/// Takes five model turns for each message.
fn wordy() -> Value {
    json!({ "otherwise": [{ "turns": 5 }, { "reply": "echo: {text}" }] })
}

fn runs_that_use_up_their_turns_pause_their_schedule_and_a_person_is_told(setup: Setup) {
    let world = setup.agent("ada", wordy()).make();
    let book = Book::of(&world);
    let tick = book.add("tick", Rhythm::EverySecond, |it| it.max_turns = Some(2));
    world.up();
    let chat = world.chat("ada");
    let reason = book.wait_paused(tick);
    assert!(reason.starts_with("5 runs in a row used up"), "{reason}");
    let notices = wait_for("the notice", || Some(chat.notices()).filter(|all| !all.is_empty()));
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].text.contains("\"tick\""), "{notices:?}");
    let failed: Vec<Run> =
        book.runs(tick).into_iter().filter(|run| run.status == Status::Failed).collect();
    assert_eq!(failed.len(), 5);
    assert!(
        failed
            .iter()
            .all(|run| run.reason == Some(Reason::TurnLimitExceeded) && run.turns == Some(5))
    );
    assert_eq!(book.schedule(tick).next, None);
    world.assert_fsck_clean();
}

fn runs_that_fail_pause_their_schedule_and_a_person_is_told(setup: Setup) {
    let failure = json!({ "reason": "auth_failed", "detail": "no key", "retryable": false });
    let world = setup.agent("ada", json!({ "otherwise": [{ "fail": failure }] })).make();
    let book = Book::of(&world);
    let tick = book.add("tick", Rhythm::EverySecond, |_| {});
    world.up();
    let chat = world.chat("ada");
    let reason = book.wait_paused(tick);
    assert!(reason.contains("3 runs in a row failed") && reason.contains("no key"), "{reason}");
    let failed = book.runs(tick).into_iter().filter(|run| run.reason == Some(Reason::AuthFailed));
    assert_eq!(failed.count(), 3);
    let notices = wait_for("the notice", || Some(chat.notices()).filter(|all| !all.is_empty()));
    assert_eq!(notices.len(), 1, "{notices:?}");
    let told = &notices[0].text;
    assert!(told.contains("\"tick\"") && told.contains("no key"), "{told}");
}

fn a_run_in_a_conversation_leaves_the_chat_alone(setup: Setup) {
    let world = setup.agent("ada", slow(700)).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    let session = world.session("ada");
    session.wait_settled(); // chat comes first
    let book = Book::of(&world);
    let home = session.id.parse().unwrap();
    let tidy = book.add("slow tidy", Rhythm::Once, |it| it.session = Some(home));
    wait_for("the run", || book.runs(tidy).pop());
    let asked = chat.say("and you?");
    assert_eq!(chat.wait_answer(&asked).text, "echo: and you?");
    let run = book.wait_ended(tidy);
    assert_eq!((run.status, run.output.as_deref()), (Status::Completed, Some("echo: slow tidy")));
    wait_for("the run's answer in the chat", || {
        chat.letters().iter().any(|letter| letter.text == "echo: slow tidy").then_some(())
    });
    assert_eq!(world.sessions().len(), 1);
    world.assert_fsck_clean();
}

fn a_one_shot_that_fails_for_good_tells_somebody(setup: Setup) {
    let failure =
        json!({ "fail": { "reason": "auth_failed", "detail": "no key", "retryable": false } });
    let world = setup.agent("ada", json!({ "otherwise": [failure] })).up();
    let chat = world.chat("ada");
    let book = Book::of(&world);
    let once = book.add("reminder", Rhythm::Once, |_| {});
    assert_eq!(book.wait_ended(once).status, Status::Failed);
    let notices = wait_for("the notice", || Some(chat.notices()).filter(|all| !all.is_empty()));
    assert_eq!(notices.len(), 1, "{notices:?}");
    let text = &notices[0].text;
    assert!(text.contains("\"reminder\" was to run once") && text.contains("no key"), "{text}");
}

fn a_person_waits_for_one_run_at_most_while_many_are_made_up_for(setup: Setup) {
    let world = setup.setting("schedule.max_concurrent", 4).agent("ada", slow(200)).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    let home = world.session("ada").id.parse().unwrap();
    let book = Book::of(&world);
    let many = book.add_at("slow news", Rhythm::EverySecond, Book::later(), |it| {
        it.session = Some(home);
        it.overlap = overlap::Policy::Allow;
    });
    let slots: Vec<_> = (1..=20)
        .map(|second| PastSlot {
            run: RunId::generate(&SystemIds),
            slot: UnixMillis(second * 1000),
            following: None,
        })
        .collect();
    let db = Store::open(&world.data().join("host.db")).unwrap();
    db.runs().enqueue_backfill(many, &slots, SystemClock.now()).wait().unwrap();
    book.tell_host();
    let ended = || book.runs(many).iter().filter(|run| run.ended_at.is_some()).count();
    for _ in 0..2 {
        let goes_on = |run: &Run| run.hold.as_ref().is_some_and(|it| it.phase == Phase::Executing);
        wait_for("a run that goes on", || {
            book.runs(many).iter().any(|run| run.ended_at.is_none() && goes_on(run)).then_some(())
        });
        let before = ended();
        assert_eq!(chat.ask("and me?"), "echo: and me?");
        let waited = ended() - before;
        assert!(waited <= 2, "it waited for {waited} runs"); // the second has begun after its answer
    }
    world.twobox(&["schedules", "pause", "slow news"]);
    assert!(ended() < 20, "the pause ends the backfill");
}

fn a_run_whose_session_is_quarantined_ends_and_makes_room(setup: Setup) {
    let world = setup.setting("schedule.max_concurrent", 1).agent("ada", slow(60_000)).up();
    let book = Book::of(&world);
    let long = book.add("slow one", Rhythm::Once, |_| {});
    let session = wait_for("its session", || world.sessions().pop());
    wait_for("its turn", || {
        session.messages().iter().any(|message| session.is_claimed(&message.id)).then_some(())
    });
    let outbox = session.paths().outbound_db();
    std::fs::write(&outbox, vec![b'x'; 8192]).unwrap();
    let run = book.wait_ended(long);
    assert_eq!((run.status, run.reason), (Status::Failed, Some(Reason::ProviderError)), "{run:?}");
    assert!(run.error.unwrap().contains("quarantined"));
    let short = book.add("short", Rhythm::Once, |_| {});
    assert_eq!(book.wait_ended(short).status, Status::Completed);
}

fn runs_for_a_quarantined_session_pause_their_schedule_and_a_person_is_told(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    let session = world.session("ada");
    session.wait_settled();
    world.container(&session).unwrap().kill();
    wait_for("its end", || (!world.session("ada").running).then_some(()));
    world.stop_host();
    let book = Book::of(&world);
    let broken = "UPDATE sessions SET status = 'quarantined', quarantine_reason = 'as was asked'";
    assert_eq!(book.db.raw().execute(broken, []).unwrap(), 1);
    let home = session.id.parse().unwrap();
    let tick = book.add("tick", Rhythm::EverySecond, |it| it.session = Some(home));
    world.up();
    let reason = book.wait_paused(tick);
    assert!(reason.contains("is quarantined"), "{reason}");
    let notices = wait_for("the notice", || Some(chat.notices()).filter(|all| !all.is_empty()));
    assert!(notices[0].text.contains("\"tick\""), "{notices:?}");
}

fn a_person_runs_a_paused_schedule_beyond_the_cap_and_ends_a_run(setup: Setup) {
    let world = setup.setting("schedule.max_concurrent", 1).agent("ada", slow(60_000)).up();
    let book = Book::of(&world);
    let add = |name: &str, prompt: &str| {
        let words = ["schedules", "add", name, "--agent", "ada", "--prompt", prompt];
        world.twobox(&[&words[..], &["--daily", "03:00"]].concat());
        book.db.schedules().find(name).wait().unwrap().unwrap().id
    };
    let (long, short) = (add("long", "slow one"), add("short", "hello"));
    world.twobox(&["schedules", "pause", "long"]);
    let next = book.schedule(short).next;

    world.twobox(&["schedules", "run", "long"]);
    let run = book.runs(long).pop().unwrap();
    assert_eq!((run.status, run.slot), (Status::Running, None), "a manual run claims no slot");
    let refused = world.run(&["schedules", "run", "short"]);
    let reason = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && reason.contains("max_concurrent"), "{reason}");
    assert!(book.runs(short).is_empty(), "nothing was stored");
    world.twobox(&["schedules", "run", "short", "--force"]);
    let forced = book.wait_ended(short);
    assert_eq!((forced.status, forced.output.as_deref()), (Status::Completed, Some("echo: hello")));
    assert_eq!(book.schedule(short).next, next, "the cadence goes on as it was");

    world.twobox(&["schedules", "cancel", &run.id.to_string()]);
    let ended = book.wait_ended(long);
    assert_eq!((ended.status, ended.reason), (Status::Cancelled, Some(Reason::Aborted)));
    assert_eq!(book.schedule(long).streaks.failures, 0);
    assert!(!world.host_log().contains("stopping the container"), "its runner did as it was told");
    world.assert_fsck_clean();
}

fn a_host_that_was_away_runs_the_latest_slot_and_records_the_others(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    let book = Book::of(&world);
    let hours = |count: u64| Duration::from_secs(count * 3600);
    let long_ago = SystemClock.now() - hours(30);
    let tick = book.add_at("tick", Rhythm::EverySecond, long_ago, |it| {
        it.cadence_value = "1h".to_owned();
    });
    world.up();
    let runs = wait_for("the slots to be settled", || {
        let runs = book.runs(tick);
        (runs.iter().filter(|run| run.status == Status::Completed).count() == 1).then_some(runs)
    });
    let missed: Vec<_> = runs.iter().filter(|run| run.status == Status::Missed).collect();
    let count: i64 = missed.iter().map(|run| run.slot_count).sum();
    assert_eq!(count, 30, "31 slots had come: {missed:?}");
    let reasons: Vec<_> = missed.iter().map(|run| run.reason.unwrap()).collect();
    assert_eq!(reasons, [Reason::Window, Reason::Policy]);
    let next = book.schedule(tick).next.unwrap();
    assert!(next.slot > SystemClock.now(), "the cadence goes on");
}

fn a_clock_that_jumps_ends_no_run(setup: Setup) {
    let shim = Shim::build();
    let tool = json!({ "name": "wait", "timeout_ms": 60_000, "run_ms": 2_000 });
    let world = setup
        .runner_under(&shim)
        .agent("ada", json!({ "otherwise": [{ "tool": tool }, { "reply": "echo: {text}" }] }))
        .make();
    let env = shim.host_env();
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    world.up_with(&env);
    let book = Book::of(&world);
    for (number, jump) in [Duration::from_secs(6 * 3600), Duration::ZERO].into_iter().enumerate() {
        let id = book.add(&format!("slow {number}"), Rhythm::Once, |_| {});
        wait_for("its turn", || {
            let hold = book.runs(id).pop()?.hold?;
            let session =
                world.sessions().into_iter().find(|it| it.id == hold.session.to_string())?;
            session.tool() // the time that is left was reckoned before
        });
        shim.clock_ahead(jump); // ahead, and then back
        let run = book.wait_ended(id);
        assert_eq!((run.status, run.reason), (Status::Completed, None), "{run:?}");
    }
}
