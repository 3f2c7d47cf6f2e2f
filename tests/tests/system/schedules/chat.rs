//! Chat comes first: what comes due while somebody waits for an answer is put off, and what goes on
//! already is left alone.

use std::time::Duration;

use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::time::UnixMillis;
use twobox_store::schedules::{MetricsPage, Next, Status};
use twobox_tests::faults::shim::Shim;
use twobox_tests::{Setup, on_process, wait_for};

use super::{Book, Rhythm};
use crate::scripts::hangs_at_first;

on_process!(a_slot_that_comes_due_in_a_chat_turn_waits_for_its_end_and_runs_once);

const PAUSE: Duration = Duration::from_secs(30);

/// The longest that chat may put a firing off.
const PAUSE_MAX: Duration = Duration::from_secs(10 * 60);

fn a_slot_that_comes_due_in_a_chat_turn_waits_for_its_end_and_runs_once(setup: Setup) {
    let shim = Shim::build();
    let world = setup.runner_under(&shim).agent("ada", hangs_at_first()).make();
    let env = shim.host_env();
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    world.up_with(&env);
    let chat = world.chat("ada");
    let (asked, talk, container) = world.occupy(&chat, "ada", "hang on");
    let book = Book::of(&world);
    let tidy = book.add("hang tidy", Rhythm::Once, |_| {});
    let slot = SystemClock.now();
    // The host's clock goes on to when it looks again, as often as it puts the slot off.
    let go_on_to = |next: Next| {
        shim.clock_ahead(next.due.since(SystemClock.now()));
        book.tell_host();
    };
    let mut due = slot;
    for _ in 0..3 {
        let next = wait_for("the slot to be put off", || {
            book.schedule(tidy).next.filter(|next| next.due > due)
        });
        assert!(next.slot <= slot && next.due >= due.max(next.slot), "{next:?} after {due}");
        assert_eq!(book.runs(tidy), [], "somebody waits for an answer");
        due = next.due;
        go_on_to(next);
    }
    assert!(due >= UnixMillis(slot.0) + PAUSE * 2, "half a minute each time");
    assert!(talk.is_claimed(&asked), "the turn goes on");
    container.kill();
    assert_eq!(chat.wait_answer(&asked).text, "echo: hang on");

    let hold = wait_for("the run", || {
        if let Some(next) = book.schedule(tidy).next {
            go_on_to(next);
        }
        book.runs(tidy).pop()?.hold
    });
    assert!(hold.started_at < slot + PAUSE_MAX, "it was the end of the turn that it waited for");
    let session = world.sessions().into_iter().find(|it| it.id == hold.session.to_string());
    let session = session.expect("it was made for the run");
    session.wait_claimed(hold.message.as_str());
    talk.wait_claimed(&chat.say("hang again"));
    world.container(&session).expect("it claimed the message").kill();
    let run = book.wait_ended(tidy);
    assert_eq!((run.status, run.output.as_deref()), (Status::Completed, Some("echo: hang tidy")));
    assert_eq!((book.runs(tidy).len(), book.schedule(tidy).next), (1, None), "once");
    let page = MetricsPage { schedule: Some(tidy), since: UnixMillis(0), before: None, limit: 10 };
    let metrics = book.db.runs().metrics(&page).wait().unwrap().rows;
    let [metrics] = &metrics[..] else { panic!("{metrics:?}") };
    assert_eq!(metrics.run, run.id);
    assert_eq!((metrics.load.chat_turns_in_flight, metrics.load.runs_in_flight), (1, 1));
    assert!((0..60_000).contains(&metrics.load.host_loop_lag_ms), "{metrics:?}");
    world.container(&talk).expect("somebody still waits").kill();
    world.assert_fsck_clean();
}
