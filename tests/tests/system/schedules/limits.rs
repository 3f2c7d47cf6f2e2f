//! What ends a run before its time, and what does not count against its schedule.

use std::time::Duration;

use serde_json::json;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_slots::reason::Reason;
use twobox_slots::{missed, overlap};
use twobox_store::schedules::{Run, Status};
use twobox_tests::{Setup, on_process, wait_for};

use super::{Book, Rhythm};
use crate::scripts::slow;

on_process!(
    a_runner_that_does_not_obey_is_stopped_and_the_chat_in_its_session_goes_on,
    a_run_whose_time_is_over_before_its_turn_leaves_the_chat_before_it_alone,
    breaches_right_after_an_edit_of_the_budget_do_not_count,
    show_tells_what_goes_on_and_why_something_waits,
);

fn a_runner_that_does_not_obey_is_stopped_and_the_chat_in_its_session_goes_on(setup: Setup) {
    let world = setup.setting("containers.stop_grace", "1s").agent("ada", slow(600_000)).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    let session = world.session("ada");
    session.wait_settled(); // chat comes first
    let book = Book::of(&world);
    let home = session.id.parse().unwrap();
    let hang = book.add("slow hang", Rhythm::Once, |it| {
        it.session = Some(home);
        it.max_run_ms = Some(3_000);
    });
    let run = wait_for("the run", || book.runs(hang).pop()?.hold);
    session.wait_claimed(run.message.as_str());
    let container = world.container(&session).expect("it claimed the message");
    assert!(container.freeze(), "it is there");
    let asked = chat.say("still there?");

    let run = book.wait_ended(hang);
    assert_eq!((run.status, run.reason), (Status::Failed, Some(Reason::LeaseExpired)), "{run:?}");
    assert!(!container.lives(), "it was told, and then stopped");
    assert!(world.host_log().contains("stopping the container"));
    world.assert_answered_once(&chat, &session, &asked, "echo: still there?");
    assert_eq!(session.message(&asked).tries, 0, "it had no part in the run");
    assert_eq!(session.message(run.hold.unwrap().message.as_str()).status, "cancelled");
    assert_ne!(world.container(&session), Some(container));
    let notice =
        wait_for("the notice, for nothing comes after a one-shot", || chat.notices().pop());
    assert!(notice.text.contains("slow hang"), "{notice:?}");
    world.assert_fsck_clean();
}

fn a_run_whose_time_is_over_before_its_turn_leaves_the_chat_before_it_alone(setup: Setup) {
    let world = setup.setting("containers.stop_grace", "1s").agent("ada", slow(6_000)).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    let book = Book::of(&world);
    let home = world.session("ada").id.parse().unwrap();
    let tomorrow = SystemClock.now() + Duration::from_secs(24 * 3600);
    let tidy = book.add_at("tidy", Rhythm::Once, tomorrow, |it| {
        it.session = Some(home);
        it.max_run_ms = Some(1_000);
    });
    let (asked, session, container) = world.occupy(&chat, "ada", "slow question");
    world.twobox(&["schedules", "run", "tidy"]);
    let run = book.wait_ended(tidy);
    assert_eq!((run.status, run.reason), (Status::Failed, Some(Reason::LeaseExpired)), "{run:?}");
    assert!(session.is_claimed(&asked), "it goes on");
    world.assert_answered_once(&chat, &session, &asked, "echo: slow question");
    assert_eq!(session.message(&asked).tries, 0);
    assert_eq!(session.message(run.hold.unwrap().message.as_str()).status, "cancelled");
    assert_eq!(world.container(&session), Some(container), "nobody disturbed it");
    world.assert_fsck_clean();
}

fn breaches_right_after_an_edit_of_the_budget_do_not_count(setup: Setup) {
    let wordy = json!([{ "sleep_ms": 500 }, { "turns": 5 }, { "reply": "echo: {text}" }]);
    let world = setup
        .setting("schedule.max_concurrent", 1)
        .setting("schedule.min_interval", "1s")
        .agent("ada", json!({ "otherwise": wordy }))
        .make();
    let book = Book::of(&world);
    // Each slot has a run, one after the other.
    let tick = book.add("tick", Rhythm::EverySecond, |it| {
        it.max_turns = Some(2);
        it.missed = missed::Policy::All;
        it.overlap = overlap::Policy::Allow;
    });
    world.up();
    let chat = world.chat("ada");
    book.wait_runs(tick, 1);
    world.twobox(&["schedules", "edit", "tick", "--max-turns", "3"]);
    let edited = book.schedule(tick);
    assert!(edited.streaks.breaches < 5, "an edit comes before the pause");
    let edited_at = edited.turns_edited_at.unwrap().0;
    let reason = book.wait_paused(tick);
    assert!(reason.starts_with("5 runs in a row used up"), "{reason}");

    let anchor = edited.definition.anchor.0;
    let slot = |number: i64| anchor + ((edited_at - anchor) / 1000 + number) * 1000;
    let (first, second, third) = (slot(1), slot(2), slot(3));
    let breaches: Vec<Run> =
        book.runs(tick).into_iter().filter(|run| run.status == Status::Failed).collect();
    assert!(breaches.iter().all(|run| run.reason == Some(Reason::TurnLimitExceeded)));
    let in_grace = |run: &&Run| run.ended_at.unwrap().0 > edited_at && run.slot.unwrap().0 < third;
    let forgiven: Vec<i64> =
        breaches.iter().filter(in_grace).map(|run| run.slot.unwrap().0).collect();
    assert!(forgiven.contains(&first) && forgiven.contains(&second), "{forgiven:?}");
    assert_eq!(breaches.len() - forgiven.len(), 5, "{breaches:?}");
    let notices = wait_for("the notice", || Some(chat.notices()).filter(|all| !all.is_empty()));
    assert_eq!(notices.len(), 1, "{notices:?}");
}

fn show_tells_what_goes_on_and_why_something_waits(setup: Setup) {
    let world = setup.setting("schedule.max_concurrent", 1).agent("ada", slow(600_000)).up();
    let book = Book::of(&world);
    let add = |name: &str, policy: overlap::Policy, first: Status| {
        let id = book.add(name, Rhythm::EverySecond, |it| it.overlap = policy);
        wait_for(&format!("{name} to fire"), || {
            book.runs(id).iter().any(|run| run.status == first).then_some(())
        });
    };
    let shown = |name: &str, words: &[&str]| {
        let shown = world.twobox(&["schedules", "show", name]);
        words.iter().for_each(|word| assert!(shown.contains(word), "no {word:?} in {shown}"));
    };
    add("slow-one", overlap::Policy::Queue, Status::Running);
    wait_for("its next slot to wait", || {
        let shown = world.twobox(&["schedules", "show", "slow-one"]);
        shown.contains("now       a run waits for its turn").then_some(())
    });
    let goes_on = ["now       a run goes on since", "at the latest", "begins when the run"];
    shown("slow-one", &goes_on);
    add("slow-two", overlap::Policy::Skip, Status::Queued);
    shown("slow-two", &["now       a run waits for its turn", "schedule.max_concurrent"]);
}
