//! Wall clocks that jump, and machines that stand still: nothing is lost, answered twice, put off, or
//! stopped as stuck because of it.

use std::time::Duration;

use serde_json::json;
use twobox_tests::faults::shim::Shim;
use twobox_tests::{Session, Setup, World, binary, holds_for, on_process, wait_for};

use crate::scripts::{echo, slow};

on_process!(
    messages_flow_while_the_clock_jumps,
    a_clock_set_back_puts_off_no_retry,
    a_clock_set_back_while_no_host_runs_puts_off_no_retry,
    a_clock_set_back_puts_off_no_start,
    a_clock_far_ahead_loses_no_letter_that_somebody_takes,
    a_host_that_was_down_for_weeks_waits_for_those_who_come_back,
    a_machine_that_stands_still_for_a_while_stops_nobody,
);

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A world whose host and runners live by the shim's clock. There is no host yet.
fn under_shim(setup: Setup, shim: &Shim) -> World {
    setup.runner_under(shim).make()
}

fn up(world: &World, shim: &Shim) {
    let env = shim.host_env();
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    world.up_with(&env);
}

fn messages_flow_while_the_clock_jumps(setup: Setup) {
    let shim = Shim::build();
    let world = under_shim(setup.agent("ada", slow(700)), &shim);
    up(&world, &shim);
    let chat = world.chat("ada");
    chat.ask("hello");
    let session = world.session("ada");
    let ahead = |span| shim.clock_ahead(span);
    let behind = |span| shim.clock_behind(span);
    let jumps: [&dyn Fn(); 6] = [
        &|| ahead(5 * HOUR),
        &|| behind(7 * HOUR),
        &|| ahead(40 * DAY),
        &|| behind(Duration::from_millis(1500)),
        &|| behind(3 * DAY),
        &|| ahead(Duration::ZERO),
    ];
    for (number, jump) in jumps.iter().enumerate() {
        let in_turn = chat.say(&format!("slow {number}"));
        session.wait_claimed(&in_turn);
        jump();
        let after = chat.say(&format!("after {number}"));
        for id in [&in_turn, &after] {
            wait_for(&format!("the answer after jump {number}"), || {
                chat.letters().iter().any(|letter| letter.answers.contains(id)).then_some(())
            });
        }
        session.wait_settled();
    }
    let messages = session.messages();
    assert_eq!(messages.len(), 13);
    assert!(messages.iter().all(|it| it.status == "completed" && it.tries == 0), "{messages:?}");
    let seqs: Vec<i64> = messages.iter().map(|message| message.seq).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
    assert_eq!((chat.notices().len(), chat.deliveries().len()), (0, chat.letters().len()));
    assert_eq!(world.starts(), 1, "nobody was stopped");
    assert!(!world.host_log().contains("stopping the container"));
    world.assert_fsck_clean();
}

/// Two attempts fail, and the third waits for 5 s.
fn fails_twice() -> serde_json::Value {
    let failure = json!({ "reason": "rate_limited", "retryable": true });
    let fail =
        |attempt| json!({ "match": "^try", "attempt": attempt, "do": [{ "fail": failure }] });
    json!({ "rules": [fail(0), fail(1)], "otherwise": [{ "reply": "echo: {text}" }] })
}

fn a_clock_set_back_puts_off_no_retry(setup: Setup) {
    let shim = Shim::build();
    let world = under_shim(setup.agent("ada", fails_twice()), &shim);
    up(&world, &shim);
    let chat = world.chat("ada");
    let id = chat.say("try this");
    let session = world.session("ada");
    wait_for("the second charge", || (session.message(&id).tries == 2).then_some(()));
    shim.clock_behind(10 * HOUR);
    world.assert_answered_once(&chat, &session, &id, "echo: try this");
    assert_eq!((session.message(&id).tries, world.starts()), (2, 1));
    world.assert_fsck_clean();
}

fn a_clock_set_back_while_no_host_runs_puts_off_no_retry(setup: Setup) {
    let shim = Shim::build();
    let world = under_shim(setup.agent("ada", fails_twice()), &shim);
    up(&world, &shim);
    let chat = world.chat("ada");
    let id = chat.say("try this");
    let session = world.session("ada");
    wait_for("the second charge", || (session.message(&id).tries == 2).then_some(()));
    world.container(&session).expect("it waits for the third").kill();
    wait_for("its end to be recorded", || (!world.session("ada").running).then_some(()));
    wait_for("the session to be put off", || {
        world.session("ada").next_due_ms.filter(|due| *due > 0)
    });
    world.kill_host();
    drop(chat); // whoever listens makes the host look
    shim.clock_behind(10 * HOUR);
    up(&world, &shim);
    session.wait_status(&id, "completed");
    let chat = world.chat("ada");
    world.assert_answered_once(&chat, &session, &id, "echo: try this");
    assert_eq!(session.message(&id).tries, 2);
    world.assert_fsck_clean();
}

fn a_clock_set_back_puts_off_no_start(setup: Setup) {
    let shim = Shim::build();
    let world = under_shim(setup.agent("ada", echo()), &shim);
    let runner = shim.runner();
    up(&world, &shim); // no host starts without one
    std::fs::remove_file(&runner).unwrap();
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let session = world.session("ada");
    wait_for("two starts to fail", || {
        (world.host_log().matches("a start led to nothing").count() >= 2).then_some(())
    });
    shim.clock_behind(10 * HOUR);
    std::os::unix::fs::symlink(binary("agent-runner"), &runner).unwrap();
    world.assert_answered_once(&chat, &session, &id, "echo: hello");
    world.assert_fsck_clean();
}

/// Whether a week has passed with the machine off or the clock was wrong, the host cannot know. A
/// message that somebody is there to take is not too old for that.
fn a_clock_far_ahead_loses_no_letter_that_somebody_takes(setup: Setup) {
    let shim = Shim::build();
    let world = under_shim(setup.agent("ada", slow(500)), &shim);
    up(&world, &shim);
    let (session, id) = leave_a_letter(&world);
    shim.clock_ahead(30 * DAY);
    assert_taken(&world, &session, &id);
}

fn a_host_that_was_down_for_weeks_waits_for_those_who_come_back(setup: Setup) {
    let shim = Shim::build();
    let world = under_shim(setup.agent("ada", slow(500)), &shim);
    up(&world, &shim);
    let (session, id) = leave_a_letter(&world);
    world.stop_host();
    shim.clock_ahead(30 * DAY);
    up(&world, &shim);
    wait_for("the host to find nobody", || {
        (world.host_log().matches(": sending ").count() >= 2).then_some(())
    });
    assert_taken(&world, &session, &id);
}

/// Has somebody ask and leave, and waits until the answer is held.
fn leave_a_letter(world: &World) -> (Session, String) {
    let away = world.chat("ada");
    let id = away.say("slow one");
    drop(away);
    let session = world.session("ada");
    session.wait_status(&id, "completed");
    wait_for("the answer to be held", || {
        session.deliveries().iter().any(|row| row.status == "held").then_some(())
    });
    (session, id)
}

#[track_caller]
fn assert_taken(world: &World, session: &Session, id: &str) {
    world.chat("ada").wait_answer(id);
    session.wait_settled();
    assert_eq!(session.deliveries()[0].status, "delivered");
    world.assert_fsck_clean();
}

/// A virtual machine that is paused, or a debugger: whoever stood still cannot have given a sign.
fn a_machine_that_stands_still_for_a_while_stops_nobody(setup: Setup) {
    let tolerance = Duration::from_secs(12); // a heartbeat comes every 10 s
    let world = setup
        .setting("limits.claim_tolerance", "12s")
        .setting("limits.start_grace", "1s")
        .agent("ada", slow(6_000))
        .up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "slow one");
    world.freeze_host();
    container.freeze();
    holds_for(tolerance + Duration::from_secs(4), "frozen", || container.lives());
    world.thaw_host();
    container.thaw();
    world.assert_answered_once(&chat, &session, &id, "echo: slow one");
    assert_eq!((session.message(&id).tries, world.starts()), (0, 1));
    assert!(!world.host_log().contains("stopping the container"));
    world.assert_fsck_clean();
}
