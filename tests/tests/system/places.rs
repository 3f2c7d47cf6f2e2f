//! How many containers run, for how long, and for whom.

use twobox_tests::{Courier, Mode, Setup, on_all_runtimes, on_process, wait_for};

use crate::scripts::{echo, hangs_at_first, slow};

on_all_runtimes!(
    an_idle_container_leaves_and_the_next_message_starts_another,
    one_place_serves_two_agents_one_after_the_other,
    a_chat_with_many_threads_keeps_no_other_chat_waiting,
);

on_process!(
    a_sender_with_many_threads_keeps_no_other_sender_waiting,
    a_chat_begins_no_more_threads_than_it_may_and_goes_on_in_those_that_it_has,
);

fn an_idle_container_leaves_and_the_next_message_starts_another(setup: Setup) {
    let world = setup.setting("containers.idle", "700ms").agent("ada", echo()).up();
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let session = world.session("ada");
    let first = world.wait_container(&session);
    chat.wait_answer(&id);
    first.wait_gone();
    let second = chat.say("again");
    world.assert_answered_once(&chat, &session, &second, "echo: again");
    let runners: Vec<_> = session.acks().into_iter().filter_map(|ack| ack.runner).collect();
    assert_ne!(runners[0], runners[1]);
    assert_eq!((world.starts(), chat.deliveries().len()), (2, 2));
    for id in [id, second] {
        assert_eq!(session.message(&id).tries, 0, "leaving costs nothing");
    }
    world.wait_no_containers();
}

fn one_place_serves_two_agents_one_after_the_other(setup: Setup) {
    let world = setup
        .setting("containers.max_running", 1)
        .agent("ada", slow(1500))
        .agent("bob", echo())
        .up();
    let (ada, bob) = (world.chat("ada"), world.chat("bob"));
    let (first, session, container) = world.occupy(&ada, "ada", "slow");
    let second = bob.say("hello");
    assert_eq!(bob.wait_answer(&second).text, "echo: hello");
    // Whoever worked was not disturbed, and left when it had nothing to do.
    world.assert_answered_once(&ada, &session, &first, "echo: slow");
    assert_eq!(session.message(&first).tries, 0);
    assert!(!container.lives());
    assert_eq!(world.containers().len(), 1);
    assert_eq!(ada.ask("and back"), "echo: and back");
    assert_eq!(world.containers().len(), 1);
    assert_eq!(world.session("bob").message(&second).tries, 0);
}

fn a_chat_with_many_threads_keeps_no_other_chat_waiting(setup: Setup) {
    let courier = Courier::new();
    let world = setup
        .setting("containers.max_running", 4)
        .courier(&courier, false)
        .agent_with("ada", Mode::PerThread, hangs_at_first())
        .make();
    world.twobox(&["agents", "remove", "assistant"]); // no place is kept for another agent
    world.wire("ada", "42");
    world.up();
    let threads: Vec<String> = (0..17).map(|n| format!("t{n}")).collect();
    let threads: Vec<Option<&str>> = threads.iter().map(|thread| Some(thread.as_str())).collect();
    let chat = world.chat_in("ada", &threads);
    let said: Vec<_> =
        threads.iter().map(|thread| (thread, chat.say_in(*thread, "hang"))).collect();
    let at_work = || {
        let claimed = said.iter().filter(|(thread, id)| {
            world.session_in("ada", thread.unwrap_or_default()).is_claimed(id)
        });
        claimed.count()
    };
    wait_for("three of the threads to be at work", || (at_work() == 3).then_some(()));
    world.hand_in("42", "m1", "hello");
    wait_for("the other chat's answer", || (courier.texts() == ["echo: hello"]).then_some(()));
    assert_eq!((at_work(), world.containers().len()), (3, 4), "none of them was disturbed");
}

fn a_sender_with_many_threads_keeps_no_other_sender_waiting(setup: Setup) {
    let courier = Courier::new();
    let world = setup
        .setting("containers.max_running", 3)
        .courier(&courier, false)
        .agent("ada", hangs_at_first())
        .make();
    world.twobox(&["agents", "remove", "assistant"]);
    world.twobox(&["wire", "add", "ada", "command", "42", "--session-mode", "per-thread"]);
    world.twobox(&["wire", "remove", "ada", "terminal", "ada"]); // there is one chat only
    world.up();
    let say = |sender: &str, thread: &str, text: &str| {
        let to = ["send", "--channel", "command", "--chat", "42", "--thread", thread];
        world.twobox(&[&to[..], &["--sender", sender, text]].concat());
    };
    for thread in ["a", "b", "c", "d"] {
        say("mallory", thread, "hang");
    }
    wait_for("two of them to be at work", || (world.containers().len() == 2).then_some(()));
    say("ann", "e", "hello");
    wait_for("the other sender's answer", || (courier.texts() == ["echo: hello"]).then_some(()));
}

fn a_chat_begins_no_more_threads_than_it_may_and_goes_on_in_those_that_it_has(setup: Setup) {
    let courier = Courier::new();
    let world = setup
        .setting("limits.new_sessions_per_hour", 2)
        .courier(&courier, false)
        .agent_with("ada", Mode::PerThread, echo())
        .make();
    world.wire("ada", "42");
    world.up();
    let chat = world.chat_in("ada", &[Some("a"), Some("b")]);
    for thread in ["a", "b"] {
        let id = chat.say_in(Some(thread), "hello");
        assert_eq!(chat.wait_answer(&id).text, "echo: hello");
    }
    let refused = |thread: &str| {
        let sent = world.run(&["send", "--agent", "ada", "--thread", thread, "hello"]);
        assert_eq!(sent.status.code(), Some(1));
        let said = String::from_utf8_lossy(&sent.stderr).into_owned();
        let kind = "begun 2 new threads within an hour, which is as many as it may: go on in one";
        assert!(said.contains(kind), "{said}");
    };
    for n in 0..5 {
        refused(&format!("new-{n}"));
    }
    world.kill_host();
    world.up();
    refused("c");
    assert_eq!(world.sessions().len(), 2);
    let id = chat.say_in(Some("b"), "and on");
    assert_eq!(chat.wait_answer(&id).text, "echo: and on");
    world.hand_in("42", "m1", "hello");
    wait_for("another chat's answer", || (courier.texts() == ["echo: hello"]).then_some(()));
    let told = world.host_log().matches("begins too many threads").count();
    assert_eq!(told, 2, "one line for each life of the host");
}
