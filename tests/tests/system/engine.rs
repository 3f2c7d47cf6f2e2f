//! A container engine that is away, slow or mad: messages queue, nobody is charged for it, there is
//! never a second container, and everything goes on by itself when the engine is well.

use std::time::Duration;

use twobox_tests::faults::engine::{Engine, Proxy};
use twobox_tests::{
    Chat, Session, Setup, World, binary, holds_for, on_docker, on_process, wait_for, wait_within,
};

use crate::scripts::{echo, hangs_at_first, slow};

on_docker!(
    an_engine_that_comes_up_after_the_host_finds_the_messages_queued,
    an_engine_that_refuses_connections_at_first_finds_the_messages_queued,
    an_engine_that_goes_away_in_the_middle_of_a_turn_costs_nothing,
    an_exit_while_the_engine_is_away_is_noticed_and_charged_once,
    an_exit_while_the_events_are_interrupted_is_noticed,
    a_start_whose_answer_is_lost_makes_no_second_container,
    a_creation_whose_answer_is_lost_holds_up_no_start,
    a_slow_engine_is_waited_for,
    a_silent_engine_holds_up_no_message,
    an_engine_that_answers_nonsense_is_no_engine,
    a_host_that_stops_while_the_engine_is_away_adopts_the_container_later,
);

on_process!(a_runner_that_is_gone_for_a_while_holds_the_messages);

/// As long as the longest pauses of the host's questions, added up generously.
const RECOVERY: Duration = Duration::from_secs(90);

fn behind(setup: Setup, proxy: &Proxy) -> Setup {
    setup.setting("containers.socket", proxy.socket().display())
}

/// What every scenario ends with: answered once, by `starts` containers, and `tries` ended attempts.
#[track_caller]
fn assert_answered(
    world: &World,
    chat: &Chat,
    (session, id, text): (&Session, &str, &str),
    (tries, starts): (i64, usize),
) {
    chat.wait_answer_within(RECOVERY, id);
    world.assert_answered_once(chat, session, id, &format!("echo: {text}"));
    let message = session.message(id);
    assert_eq!((message.tries, message.forgiven), (tries, 0), "charged attempts");
    assert_eq!(chat.notices(), [], "nothing failed");
    assert_eq!(chat.deliveries().len(), chat.letters().len(), "delivered once");
    assert_eq!(world.starts(), starts);
    assert!(world.containers().len() <= 1, "{:?}", world.containers());
    world.assert_fsck_clean();
}

/// Waits until the host has tried a start of its own.
#[track_caller]
fn settled(world: &World) {
    wait_for("the host to have looked around", || {
        (world.status()?["probe"]["state"] == "ok").then_some(())
    });
}

#[track_caller]
fn assert_degraded(world: &World) {
    wait_for("the host to say that the engine does not answer", || {
        (world.status()?["runtime"]["answers"] == false).then_some(())
    });
    let shown = world.twobox(&["status"]);
    assert!(shown.contains("does not answer"), "{shown}");
}

fn an_engine_that_comes_up_after_the_host_finds_the_messages_queued(setup: Setup) {
    comes_up_later(setup, Engine::Absent);
}

fn an_engine_that_refuses_connections_at_first_finds_the_messages_queued(setup: Setup) {
    comes_up_later(setup, Engine::Refusing);
}

fn comes_up_later(setup: Setup, engine: Engine) {
    let proxy = Proxy::start();
    proxy.set(engine);
    let world = behind(setup, &proxy).agent("ada", echo()).up();
    assert_degraded(&world);
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let session = world.session("ada");
    holds_for(Duration::from_secs(3), "queued", || session.message(&id).status == "pending");
    proxy.set(Engine::Well);
    assert_answered(&world, &chat, (&session, &id, "hello"), (0, 1));
    wait_for("the host to say that the engine answers", || {
        (world.status()?["runtime"]["answers"] == true).then_some(())
    });
}

fn an_engine_that_goes_away_in_the_middle_of_a_turn_costs_nothing(setup: Setup) {
    let proxy = Proxy::start();
    let world = behind(setup, &proxy).agent("ada", slow(2000)).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "slow one");
    proxy.set(Engine::Absent);
    assert_degraded(&world);
    // The files do not need the engine.
    assert_answered(&world, &chat, (&session, &id, "slow one"), (0, 1));
    let second = chat.say("are you there?");
    assert_answered(&world, &chat, (&session, &second, "are you there?"), (0, 1));
    proxy.set(Engine::Well);
    let third = chat.say("and now?");
    assert_answered(&world, &chat, (&session, &third, "and now?"), (0, 1));
    assert!(container.lives());
}

fn an_exit_while_the_engine_is_away_is_noticed_and_charged_once(setup: Setup) {
    let proxy = Proxy::start();
    let world = behind(setup, &proxy).agent("ada", hangs_at_first()).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "hang on");
    proxy.set(Engine::Refusing);
    assert_degraded(&world);
    container.kill();
    let second = chat.say("are you there?"); // a reason to look
    holds_for(Duration::from_secs(3), "not charged", || session.message(&id).tries == 0);
    proxy.set(Engine::Well);
    assert_answered(&world, &chat, (&session, &id, "hang on"), (1, 2));
    assert_answered(&world, &chat, (&session, &second, "are you there?"), (0, 2));
}

fn an_exit_while_the_events_are_interrupted_is_noticed(setup: Setup) {
    let proxy = Proxy::start();
    let world = behind(setup, &proxy).agent("ada", hangs_at_first()).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "hang on");
    wait_for("the events to be followed", || {
        world.host_log().contains("following the engine's events").then_some(())
    });
    proxy.cut_events();
    container.kill();
    assert_answered(&world, &chat, (&session, &id, "hang on"), (1, 2));
    assert!(world.host_log().contains("the engine's events are interrupted"));
}

fn a_start_whose_answer_is_lost_makes_no_second_container(setup: Setup) {
    let proxy = Proxy::start();
    let world = behind(setup, &proxy).agent("ada", slow(3000)).up();
    let chat = world.chat("ada");
    settled(&world);
    proxy.lose_answers("/start", 1);
    let id = chat.say("slow one");
    let session = world.session("ada");
    // It was started all the same, and nobody counts it as a start that was seen.
    assert_answered(&world, &chat, (&session, &id, "slow one"), (0, 0));
    assert_eq!(proxy.still_to_lose(), 0);
    assert!(world.host_log().contains("adopted a running container"));
}

fn a_creation_whose_answer_is_lost_holds_up_no_start(setup: Setup) {
    let proxy = Proxy::start();
    let world = behind(setup, &proxy).agent("ada", echo()).up();
    let chat = world.chat("ada");
    settled(&world);
    proxy.lose_answers("/create", 1);
    let id = chat.say("hello");
    let session = world.session("ada");
    assert_answered(&world, &chat, (&session, &id, "hello"), (0, 1));
    assert_eq!(proxy.still_to_lose(), 0);
}

fn a_slow_engine_is_waited_for(setup: Setup) {
    let proxy = Proxy::start();
    let world = behind(setup, &proxy).agent("ada", hangs_at_first()).up();
    proxy.set(Engine::Slow(Duration::from_secs(2)));
    let chat = world.chat("ada");
    let id = chat.say("hang on");
    let session = world.session("ada");
    wait_within(RECOVERY, "the claim", || session.is_claimed(&id).then_some(()));
    world.container(&session).expect("whoever claimed it lives").kill();
    assert_answered(&world, &chat, (&session, &id, "hang on"), (1, 2));
}

fn a_silent_engine_holds_up_no_message(setup: Setup) {
    let proxy = Proxy::start();
    let world = behind(setup, &proxy).agent("ada", echo()).up();
    proxy.set(Engine::Silent);
    let chat = world.chat("ada");
    let first = chat.hand_in(None, "hello");
    let asked = proxy.questions();
    chat.wait_accepted(&first);
    let session = world.session("ada");
    wait_for("the engine to be asked", || (proxy.questions() > asked).then_some(()));
    let second = chat.say("are you there?"); // while somebody waits for the engine's answer
    wait_for("somebody to lose patience", || {
        world.host_log().contains("no answer within").then_some(())
    });
    assert_eq!(session.message(&first).status, "pending");
    proxy.set(Engine::Well);
    for (id, text) in [(&first, "hello"), (&second, "are you there?")] {
        let answers = || chat.letters().into_iter().filter(|letter| letter.answers.contains(id));
        wait_within(RECOVERY, text, || (answers().count() > 0).then_some(()));
        assert_eq!(session.wait_status(id, "completed").tries, 0, "{text}");
        session.wait_settled();
        assert_eq!(answers().count(), 1, "{text}");
    }
    assert_eq!(chat.letters().len(), chat.deliveries().len());
    assert_eq!(world.starts(), 1);
    world.assert_fsck_clean();
}

fn an_engine_that_answers_nonsense_is_no_engine(setup: Setup) {
    let proxy = Proxy::start();
    let world = behind(setup, &proxy).agent("ada", hangs_at_first()).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "hang on");
    for (nonsense, text) in [(Engine::Garbling, "one"), (Engine::Babbling, "two")] {
        proxy.set(nonsense);
        proxy.cut();
        assert_degraded(&world);
        chat.say(text); // accepted, and a reason to look
        holds_for(Duration::from_secs(2), "left alone", || {
            container.lives() && session.message(&id).tries == 0
        });
    }
    container.kill();
    holds_for(Duration::from_secs(2), "not charged", || session.message(&id).tries == 0);
    proxy.set(Engine::Well);
    assert_answered(&world, &chat, (&session, &id, "hang on"), (1, 2));
    session.wait_settled();
    assert_eq!((chat.letters().len(), world.starts()), (3, 2));
}

fn a_host_that_stops_while_the_engine_is_away_adopts_the_container_later(setup: Setup) {
    let proxy = Proxy::start();
    let world = behind(setup, &proxy).agent("ada", slow(8000)).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "slow one");
    proxy.set(Engine::Absent);
    world.kill_host();
    world.up();
    assert_degraded(&world);
    proxy.set(Engine::Well);
    wait_for("the container to be adopted", || {
        world.host_log().contains("adopted a running container").then_some(())
    });
    assert_answered(&world, &chat, (&session, &id, "slow one"), (0, 1));
    assert!(container.lives());
}

/// It comes back before anybody has to be told.
fn a_runner_that_is_gone_for_a_while_holds_the_messages(setup: Setup) {
    let aside = tempfile::tempdir().unwrap();
    let runner = aside.path().join("agent-runner");
    let place = || std::os::unix::fs::symlink(binary("agent-runner"), &runner).unwrap();
    place();
    let setup = setup.setting("containers.runner", runner.display());
    let world = setup.agent("ada", hangs_at_first()).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "hang on");
    std::fs::remove_file(&runner).unwrap();
    container.kill();
    wait_for("a failed start to be explained", || {
        let shown = world.twobox(&["sessions", "show", &session.id]);
        shown.contains("check containers.runner").then_some(())
    });
    place();
    chat.wait_answer(&id);
    world.assert_answered_once(&chat, &session, &id, "echo: hang on");
    assert_eq!(session.message(&id).tries, 1);
    world.assert_fsck_clean();
}
