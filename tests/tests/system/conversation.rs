//! Conversations in which nothing goes wrong.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use twobox_tests::{
    Mode, PATIENCE, Runtime, Setup, World, binary, on_all_runtimes, on_process, wait_for,
};

use crate::scripts::{at_first, echo, hangs_at_first, slow};

on_all_runtimes!(
    a_round_trip,
    several_messages_are_answered_in_one_turn,
    a_follow_up_is_acked_with_the_turn_that_used_it,
    a_stuck_session_keeps_nobody_waiting,
    sessions_of_threads_do_not_mix,
    replies_in_a_shared_session_go_to_the_right_thread,
    an_agent_may_be_added_while_the_host_runs,
    two_messages_that_race_start_one_container,
    letters_wait_for_a_listener_and_come_in_order,
    send_with_wait_prints_the_reply,
);

/// A sandbox starts too quickly for anything to be written meanwhile.
mod slow_starts {
    use super::a_message_written_while_the_container_starts_is_answered;
    twobox_tests::on_both_runtimes!(a_message_written_while_the_container_starts_is_answered);
}

on_process!(
    every_listener_gets_a_letter_and_one_ack_settles_it,
    a_message_that_is_stopped_is_worked_on_no_longer,
    a_message_that_is_stopped_of_several_leaves_the_others_to_be_answered,
);

fn a_round_trip(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &id, "echo: hello");
    let message = session.message(&id);
    assert_eq!((message.tries, message.forgiven, message.seq), (0, 0, 2));
    let rows = session.rows();
    assert_eq!((rows.len(), rows[0].seq), (1, 3), "the answer has the next odd number");
    assert_eq!(chat.deliveries().len(), 1, "no doubles");
    assert_eq!(chat.ask("again"), "echo: again");
    assert_eq!(world.starts(), 1, "the container stayed");
}

fn several_messages_are_answered_in_one_turn(setup: Setup) {
    let world = setup.agent("ada", slow(1500)).up();
    let chat = world.chat_in("ada", &[None, Some("t")]);
    let (first, session, _) = world.occupy(&chat, "ada", "slow");
    // Another thread: these are no follow-ups of the turn that runs.
    let ids = ["one", "two", "three"].map(|text| chat.say_in(Some("t"), text));
    assert!(session.is_claimed(&first), "they came during the turn");
    world.assert_answered_once(&chat, &session, &ids[2], "echo: three");
    chat.wait_answer(&first);
    assert_eq!(chat.letters().len(), 2, "one answer for each turn");
    for id in &ids {
        assert_eq!(session.message(id).status, "completed");
    }
    let acks = session.acks();
    let times: HashSet<_> =
        acks.iter().filter(|ack| ids.contains(&ack.message)).map(|ack| &ack.changed).collect();
    assert_eq!(times.len(), 1, "acked in one commit: {acks:?}");
}

fn a_follow_up_is_acked_with_the_turn_that_used_it(setup: Setup) {
    let world = setup.agent("ada", slow(2000)).up();
    let chat = world.chat("ada");
    let (first, session, _) = world.occupy(&chat, "ada", "slow");
    let second = chat.say("more");
    session.wait_claimed(&second);
    assert!(session.is_claimed(&first), "claimed while the first is worked on");
    world.assert_answered_once(&chat, &session, &first, "echo: slow");
    world.assert_answered_once(&chat, &session, &second, "echo: more");
    let acks = session.acks();
    assert_eq!(acks.len(), 2);
    assert_eq!(acks[0].changed, acks[1].changed, "one commit ended both");
}

fn a_stuck_session_keeps_nobody_waiting(setup: Setup) {
    let world = setup.agent("ada", hangs_at_first()).agent("bob", echo()).up();
    let (ada, bob) = (world.chat("ada"), world.chat("bob"));
    let (stuck, session, _) = world.occupy(&ada, "ada", "hang");
    let id = bob.say("hello");
    bob.wait_answer_within(Duration::from_secs(10), &id);
    assert_eq!(bob.ask("and again"), "echo: and again");
    assert!(session.is_claimed(&stuck));
}

fn sessions_of_threads_do_not_mix(setup: Setup) {
    let world = setup.agent_with("ada", Mode::PerThread, echo()).up();
    let chats = [None, Some("red"), Some("blue")].map(|it| (it, world.chat_in("ada", &[it])));
    let said: Vec<_> = ["one", "two"]
        .into_iter()
        .flat_map(|round| chats.iter().map(move |(thread, chat)| (*thread, chat, round)))
        .map(|(thread, chat, round)| {
            let text = format!("{} {round}", thread.unwrap_or("main"));
            (thread, chat, chat.say_in(thread, &text), text)
        })
        .collect();
    assert_eq!(world.sessions().len(), 3);
    for (thread, chat, id, text) in &said[3..] {
        // It may share a turn with the one before it, and then answers both.
        assert_eq!(chat.wait_answer(id).text, format!("echo: {text}"));
        world.session_in("ada", thread.unwrap_or_default()).wait_settled();
        let prefix = format!("echo: {}", thread.unwrap_or("main"));
        assert!(chat.letters().iter().all(|letter| letter.text.starts_with(&prefix)));
    }
    for (thread, _, id, _) in &said {
        for session in world.sessions() {
            let has = session.messages().iter().any(|message| message.id == *id);
            assert_eq!(has, session.thread == thread.unwrap_or_default(), "{session:?}");
        }
    }
}

fn replies_in_a_shared_session_go_to_the_right_thread(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let main = world.chat("ada");
    let red = world.chat_in("ada", &[Some("red")]);
    let blue = world.chat_in("ada", &[Some("blue")]);
    let chats = [(&main, None), (&red, Some("red")), (&blue, Some("blue"))];
    let said: Vec<_> = (0..3)
        .flat_map(|round| chats.map(|(chat, thread)| (chat, thread, round)))
        .map(|(chat, thread, round)| {
            let text = format!("{} {round}", thread.unwrap_or("main"));
            (chat, chat.say_in(thread, &text), text)
        })
        .collect();
    let session = world.session("ada");
    session.wait_settled();
    for (chat, id, text) in &said {
        // Messages of one thread may share a turn, whose answer names the newest.
        for answer in chat.answers(id) {
            assert_eq!(answer.text, format!("echo: {text}"));
        }
    }
    for (chat, thread) in chats {
        let newest = said.iter().rev().find(|(other, ..)| std::ptr::eq(*other, chat)).unwrap();
        chat.wait_answer(&newest.1);
        let prefix = format!("echo: {}", thread.unwrap_or("main"));
        assert!(chat.letters().iter().all(|letter| letter.text.starts_with(&prefix)));
    }
}

/// Puts a program in the runner's place that takes a second to become the runner.
fn with_slow_start(setup: Setup, aside: &std::path::Path) -> Setup {
    if setup.runtime() != Runtime::Process {
        return setup; // slow enough by itself, and nothing else of this machine is seen inside
    }
    let script = aside.join("agent-runner");
    let real = binary("agent-runner");
    std::fs::write(&script, format!("#!/bin/sh\nsleep 1\nexec {} \"$@\"\n", real.display()))
        .unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    setup.setting("containers.runner", script.display())
}

fn a_message_written_while_the_container_starts_is_answered(setup: Setup) {
    let aside = tempfile::tempdir().unwrap();
    let world = with_slow_start(setup, aside.path()).agent("ada", echo()).up();
    let chat = world.chat_in("ada", &[None, Some("t")]);
    let first = chat.say("one");
    let session = world.session("ada");
    wait_for("the start to begin", || world.session("ada").running.then_some(()));
    let second = chat.say_in(Some("t"), "two");
    assert_eq!(session.acks(), [], "nobody has claimed anything");
    world.assert_answered_once(&chat, &session, &first, "echo: one");
    world.assert_answered_once(&chat, &session, &second, "echo: two");
    assert_eq!(world.starts(), 1);
}

fn an_agent_may_be_added_while_the_host_runs(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");
    world.add_agent("bob", Mode::Shared, &json!({ "otherwise": [{ "reply": "bob: {text}" }] }));
    assert_eq!(world.chat("bob").ask("hello"), "bob: hello");
}

fn two_messages_that_race_start_one_container(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let (left, right) = (world.chat("ada"), world.chat_in("ada", &[Some("t")]));
    let one = left.hand_in(None, "one");
    let two = right.hand_in(Some("t"), "two");
    left.wait_answer(&one);
    right.wait_answer(&two);
    let session = world.session("ada");
    let runners: HashSet<_> = session.acks().into_iter().map(|ack| ack.runner).collect();
    assert_eq!((runners.len(), world.starts()), (1, 1));
    assert_eq!(world.containers().len(), 1);
}

fn letters_wait_for_a_listener_and_come_in_order(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    for text in ["one", "two", "three"] {
        world.twobox(&["send", "--agent", "ada", text]);
        let session = world.session("ada");
        wait_for("the answer to be held", || {
            session.messages().iter().all(|it| it.status == "completed").then_some(())
        });
    }
    let session = world.session("ada");
    assert!(!session.is_settled(), "nobody has got anything");
    let chat = world.chat("ada");
    session.wait_settled();
    let texts: Vec<_> = chat.deliveries().into_iter().map(|letter| letter.text).collect();
    assert_eq!(texts, ["echo: one", "echo: two", "echo: three"]);
}

fn send_with_wait_prints_the_reply(setup: Setup) {
    let world = setup.agent("ada", slow(300)).up();
    let wait = PATIENCE.as_secs().to_string();
    let said = world.twobox(&["send", "--agent", "ada", "--wait", &wait, "slow"]);
    assert_eq!(said, "echo: slow\n");
    let late = world.run(&["send", "--agent", "ada", "--wait", "0.01", "slow"]);
    assert_eq!(late.status.code(), Some(3), "timed out");
    settle_unheard(&world);
}

/// The answer that nobody waited for reaches the next listener.
fn settle_unheard(world: &World) {
    let chat = world.chat("ada");
    assert_eq!(chat.wait_letters(1)[0].text, "echo: slow");
}

/// Says one thing at the host's socket, and returns the answer.
fn ask(world: &World, request: &Value) -> Value {
    let mut stream = UnixStream::connect(world.data().join("host.sock")).unwrap();
    writeln!(stream, "{request}").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

fn a_message_that_is_stopped_is_worked_on_no_longer(setup: Setup) {
    let world = setup.agent("ada", slow(60_000)).up();
    let chat = world.chat("ada");
    let (id, session, _) = world.occupy(&chat, "ada", "slow");
    let stop = json!({ "op": "stop", "session": session.id, "message": id });
    wait_for("it to be over", || {
        let answer = ask(&world, &stop);
        assert_eq!(answer["event"], "stopped", "{answer}");
        (answer["outcome"] == "stopped").then_some(())
    });
    assert_eq!(session.message(&id).status, "cancelled");
    assert_eq!(chat.ask("and now?"), "echo: and now?", "the session goes on");
    let answered = ask(&world, &json!({ "op": "stop", "session": session.id, "message": "x" }));
    assert_eq!(answered["outcome"], "over", "{answered}");
    assert!(chat.answers(&id).is_empty() && chat.notices().is_empty(), "nothing more is said");
}

fn a_message_that_is_stopped_of_several_leaves_the_others_to_be_answered(setup: Setup) {
    let world = setup.agent("ada", at_first("(?s)slow", &json!([{ "sleep_ms": 60_000 }]))).up();
    let chat = world.chat("ada");
    let (slow, session, _) = world.occupy(&chat, "ada", "slow");
    let wrong = chat.say("wrong");
    wait_for("a follow-up", || session.acks().into_iter().find(|ack| ack.message == wrong));
    let stop = json!({ "op": "stop", "session": session.id, "message": slow });
    wait_for("it to be over", || {
        let answer = ask(&world, &stop);
        (answer["outcome"] == "stopped").then_some(())
    });
    chat.wait_answer(&wrong);
    session.wait_settled();
    let texts: Vec<_> = chat.letters().into_iter().map(|letter| letter.text).collect();
    assert_eq!(texts, ["echo: wrong"], "of the other nothing is said");
    let left = session.message(&wrong);
    assert_eq!((left.status.as_str(), left.tries - left.forgiven), ("completed", 0), "uncharged");
    assert_eq!(session.message(&slow).status, "cancelled");
}

fn every_listener_gets_a_letter_and_one_ack_settles_it(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let (left, right) = (world.chat("ada"), world.chat("ada"));
    let id = left.say("hello");
    world.assert_answered_once(&left, &world.session("ada"), &id, "echo: hello");
    right.wait_answer(&id);
    assert_eq!((left.deliveries().len(), right.deliveries().len()), (1, 1));
}
