//! The `model` provider, with a test in the place of the host and of its models.

use std::sync::mpsc;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use twobox_shared::content::{Chat, Failure};
use twobox_shared::inbox::NewMessage;
use twobox_shared::outbox::AckStatus;

use crate::gateway::{Answer, Gateway};
use crate::session::{Session, message, wait_for};

/// A session with an agent that a model answers.
fn session(answers: Vec<Answer>) -> (Session, Gateway) {
    session_with(answers, json!({}))
}

pub(crate) fn session_with(answers: Vec<Answer>, tools: Value) -> (Session, Gateway) {
    let session = Session::new();
    let route = json!({
        "name": "up/m",
        "api": "messages",
        "path": "/up/v1/messages",
        "context_tokens": 200_000,
        "max_output_tokens": 1_000,
        "images": true,
    });
    let config = json!({
        "provider": {"kind": "model", "model": "up/m", "tools": tools},
        "gateway": {"key": "k", "routes": [route]},
    });
    session.configure(&config.to_string());
    let gateway = Gateway::at(&session.paths.gateway_socket(), answers);
    (session, gateway)
}

pub(crate) fn bash(line: &str) -> Answer {
    Answer::Wants(vec![("bash", json!({"command": line}))])
}

/// What the messages of a request say, in one text.
fn conversation(asked: &Value) -> String {
    asked["messages"].to_string()
}

#[test]
fn two_tools_of_one_answer_are_used_and_the_last_words_are_the_answer() {
    let tools = vec![
        ("bash", json!({"command": "echo from the shell"})),
        ("write_file", json!({"path": "a.txt", "content": "from the tool"})),
    ];
    let (session, gateway) = session(vec![Answer::Wants(tools), Answer::Says("done")]);
    session.program_file("AGENTS.md", "Be brief.");
    session.say("m1", "do both");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    assert_eq!(session.texts(), ["done"]);
    let made = std::fs::read_to_string(session.folder("work").join("a.txt")).unwrap();
    assert_eq!(made, "from the tool");
    let first = gateway.asked(0);
    assert!(first["system"].to_string().contains("Be brief."), "{first}");
    assert!(conversation(&first).contains("do both"), "{first}");
    let second = conversation(&gateway.asked(1));
    assert!(second.contains("from the shell\\n") && second.contains("a.txt was made"), "{second}");
    runner.stop();
}

#[test]
fn what_is_said_during_a_stream_is_answered_in_the_same_turn() {
    let (go_on, held) = mpsc::channel();
    let (session, gateway) = session(vec![Answer::Held("one", held), Answer::Says("two")]);
    session.say("m1", "first");
    let runner = session.start();
    wait_for("the request", || (gateway.bodies().len() == 1).then_some(()));
    session.say("m2", "second");
    wait_for("the claim", || session.ack("m2"));
    go_on.send(()).unwrap();
    session.wait_ack("m2", AckStatus::Completed);
    session.wait_ack("m1", AckStatus::Completed);
    assert_eq!(session.texts(), ["one", "two"]);
    assert!(conversation(&gateway.asked(1)).contains("second"));
    runner.stop();
}

#[test]
fn a_file_goes_with_the_answer_to_what_came_before_it() {
    let (go_on, held) = mpsc::channel();
    let tools = vec![
        ("write_file", json!({"path": "a.txt", "content": "x"})),
        ("send_file", json!({"path": "a.txt"})),
    ];
    let answers = vec![Answer::Held("one", held), Answer::Wants(tools), Answer::Says("two")];
    let (session, gateway) = session(answers);
    session.say("m1", "first");
    let runner = session.start();
    wait_for("the request", || (gateway.bodies().len() == 1).then_some(()));
    session.say("m2", "and a file");
    wait_for("the claim", || session.ack("m2"));
    go_on.send(()).unwrap();
    session.wait_ack("m2", AckStatus::Completed);
    session.wait_ack("m1", AckStatus::Completed);
    assert_eq!(session.texts(), ["one", "two"]);
    let files: Vec<_> = session.rows().iter().map(|row| row.chat().files).collect();
    assert_eq!(files, [vec![], vec!["a.txt".to_owned()]]);
    runner.stop();
}

#[test]
fn what_is_said_behind_the_beginning_of_a_conversation_is_answered_in_it() {
    let (session, gateway) = session(vec![Answer::Says("one"), Answer::Says("hello")]);
    session.say("m1", "before");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    session.accept(&[message("m2", "/new"), message("m3", "hi")]);
    session.wait_ack("m3", AckStatus::Completed);
    session.wait_ack("m2", AckStatus::Completed);
    let texts = session.texts();
    assert!(texts[1].starts_with("A new conversation begins") && texts[2] == "hello", "{texts:?}");
    let asked = conversation(&gateway.asked(1));
    assert!(
        !asked.contains("/new") && !asked.contains("before") && asked.contains("hi"),
        "{asked}"
    );
    runner.stop();
}

#[test]
fn a_turn_that_is_taken_back_ends_in_the_middle_of_a_stream_and_is_forgotten() {
    let (session, gateway) = session(vec![Answer::Says("one"), Answer::Stalls]);
    session.say("m1", "first");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    session.say("m2", "second");
    wait_for("the request", || (gateway.bodies().len() == 2).then_some(()));
    session.take_back(&["m2"]);
    assert_eq!(session.wait_failed("m2").reason, Failure::ABORTED);
    gateway.then([Answer::Says("three")]);
    session.say("m3", "third");
    session.wait_ack("m3", AckStatus::Completed);
    assert_eq!(session.texts(), ["one", "three"]);
    let third = conversation(&gateway.asked(2));
    assert!(third.contains("first") && !third.contains("second"), "{third}");
    runner.stop();
}

#[test]
fn a_turn_that_is_taken_back_ends_its_shell() {
    let (session, _gateway) = session(vec![bash("touch begun; sleep 60; touch late")]);
    session.say("m1", "wait");
    let runner = session.start();
    let begun = session.folder("work").join("begun");
    wait_for("the shell", || begun.exists().then_some(()));
    session.take_back(&["m1"]);
    assert_eq!(session.wait_failed("m1").reason, Failure::ABORTED);
    wait_for("no tool", || session.tool().is_none().then_some(()));
    runner.stop();
}

#[test]
fn a_killed_turn_is_told_what_it_had_begun_and_the_conversation_goes_on() {
    let answers = vec![Answer::Says("one"), bash("echo pushed"), bash("touch begun-1; sleep 60")];
    let (session, gateway) = session(answers);
    session.say("m1", "first");
    let mut runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    session.say("m2", "second");
    for (tries, next) in [(0, bash("touch begun-2; sleep 60")), (1, Answer::Says("two"))] {
        let begun = session.folder("work").join(format!("begun-{}", tries + 1));
        wait_for("the shell", || begun.exists().then_some(()));
        runner.signal(Signal::SIGKILL);
        runner.end();
        session.charge("m2", tries);
        gateway.then([next]);
        runner = session.start();
    }
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(session.texts(), ["one", "two"]);
    let again = conversation(&gateway.asked(4));
    for (call, end) in [("echo pushed", "done"), ("begun-1", "unknown"), ("begun-2", "unknown")] {
        let told = again.split("\\n- ").find(|line| line.contains(call));
        assert!(told.is_some_and(|line| line.contains(end)), "{call}: {again}");
    }
    assert!(again.contains("first") && !again.contains("tool_use"), "it was cut back: {again}");
    runner.stop();
}

#[test]
fn the_next_turn_begins_with_the_bytes_of_the_one_before() {
    let answers = vec![bash("seq 1 500"), Answer::Says("one"), Answer::Says("two")];
    let (session, gateway) = session(answers);
    session.program_file("AGENTS.md", &"Think before you speak. ".repeat(100));
    session.say("m1", "first");
    let first = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    first.stop();
    // Another process, which has it from the transcript alone.
    let runner = session.start();
    session.say("m2", "second");
    session.wait_ack("m2", AckStatus::Completed);
    // The marks of what is to be cached move on, and are no part of what is read.
    let mark = ",\"cache_control\":{\"type\":\"ephemeral\"}";
    let bodies: Vec<String> = gateway.bodies().iter().map(|body| body.replace(mark, "")).collect();
    for pair in bodies.windows(2) {
        let same = pair[0].bytes().zip(pair[1].bytes()).take_while(|(one, two)| one == two).count();
        assert!(same * 10 >= pair[0].len() * 9, "{same} of {} bytes: {pair:?}", pair[0].len());
    }
    assert!(gateway.bodies()[0].contains("cache_control"), "{}", gateway.bodies()[0]);
    runner.stop();
}

#[test]
fn a_new_conversation_begins_with_a_word_and_knows_nothing_of_the_old_one() {
    let (session, gateway) = session(vec![Answer::Says("one"), Answer::Says("two")]);
    let runner = session.start();
    for (id, text) in [("m1", "first"), ("m2", " /new "), ("m3", "third")] {
        session.say(id, text);
        session.wait_ack(id, AckStatus::Completed);
    }
    let texts = session.texts();
    assert!(texts[1].starts_with("A new conversation begins here"), "{texts:?}");
    assert_eq!([&texts[0], &texts[2]], ["one", "two"]);
    let asked = conversation(&gateway.asked(1));
    assert!(asked.contains("third") && !asked.contains("first"), "{asked}");
    runner.stop();
}

#[test]
fn a_transcript_that_was_tampered_with_costs_the_conversation_and_no_message() {
    let (session, gateway) = session(vec![Answer::Says("one"), Answer::Says("two")]);
    session.say("m1", "first");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    let kept = session.folder("work").join(".twobox");
    for entry in std::fs::read_dir(kept).unwrap().flatten() {
        std::fs::write(entry.path(), "{}\n").unwrap();
    }
    session.say("m2", "second");
    session.wait_ack("m2", AckStatus::Completed);
    assert_eq!(session.texts(), ["one", "two"]);
    assert!(!conversation(&gateway.asked(1)).contains("first"));
    assert!(runner.stop().contains("the conversation so far is lost"));
}

#[test]
fn a_tool_that_is_denied_is_not_told_of_and_not_used() {
    let answers = vec![bash("touch x"), Answer::Says("I may not")];
    let (session, gateway) = session_with(answers, json!({"bash": "deny"}));
    session.say("m1", "do it");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    let first = gateway.asked(0);
    let tools = first["tools"].as_array().unwrap();
    assert!(!tools.iter().any(|tool| tool["name"] == "bash"), "{tools:?}");
    assert!(conversation(&gateway.asked(1)).contains("may not be used here"));
    assert!(!session.folder("work").join("x").exists());
    runner.stop();
}

#[test]
fn a_permission_for_a_tool_that_nobody_has_breaks_the_agent() {
    let (session, gateway) = session_with(Vec::new(), json!({"bsh": "deny"}));
    session.say("m1", "x");
    let mut runner = session.start();
    let (code, stderr) = runner.end();
    assert_eq!(code, Some(78), "{stderr}");
    let failure = session.wait_failed("m1");
    assert!(failure.detail.starts_with("provider.tools: there is no tool \"bsh\""), "{failure:?}");
    assert!(gateway.bodies().is_empty(), "nobody was asked");
}

#[test]
fn a_picture_that_comes_with_a_message_is_shown_also_when_its_file_is_gone() {
    let (session, gateway) = session(vec![Answer::Says("a cat"), Answer::Says("a black one")]);
    let folder = session.paths.inbox_files().join("m1");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("cat.png"), b"\x89PNG\r\n\x1a\n and a cat").unwrap();
    let chat = Chat { files: vec!["cat.png".to_owned()], ..Chat::text("what is this?") };
    session.accept(&[NewMessage { content: chat.to_json(), ..message("m1", "") }]);
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    std::fs::remove_dir_all(folder).unwrap();
    session.say("m2", "and of which colour?");
    session.wait_ack("m2", AckStatus::Completed);
    let bytes = "iVBORw0KGgogYW5kIGEgY2F0";
    for number in [0, 1] {
        let asked = conversation(&gateway.asked(number));
        assert!(asked.contains(bytes) && asked.contains("cat.png, shown below"), "{asked}");
    }
    runner.stop();
}

#[test]
fn what_is_sent_elsewhere_is_sent_at_once_and_files_go_with_the_answer() {
    let tools = vec![
        ("write_file", json!({"path": "a.txt", "content": "x"})),
        ("send_file", json!({"path": "a.txt"})),
        ("send_message", json!({"to": "team", "text": "news"})),
        ("send_message", json!({"to": "nobody", "text": "news"})),
    ];
    let (session, gateway) = session(vec![Answer::Wants(tools), Answer::Says("sent")]);
    session.destination("team");
    session.say("m1", "tell them");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    assert_eq!(session.texts(), ["news", "sent"]);
    assert_eq!(session.rows()[1].chat().files, ["a.txt"]);
    let results = conversation(&gateway.asked(1));
    assert!(results.contains("It was sent.") && results.contains("no such destination"));
    runner.stop();
}

#[test]
fn a_runner_that_is_given_no_way_to_a_model_says_so_and_leaves() {
    let session = Session::new();
    session.configure(r#"{"provider": {"kind": "model", "model": "up/m"}}"#);
    session.say("m1", "x");
    let mut runner = session.start();
    let (code, stderr) = runner.end();
    assert_eq!(code, Some(78), "{stderr}");
    let failure = session.wait_failed("m1");
    assert!(failure.detail.contains("no way to a model"), "{failure:?}");
}

/// Prints what a runner holds, and how soon it asks, at first and with a conversation of 50 turns. What
/// people get is a release build.
#[test]
#[ignore = "it measures, and asserts nothing"]
fn memory_of_a_conversation() {
    let (session, gateway) = session(Vec::new());
    let runner = session.start();
    let report = |turns: usize| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", runner.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
        println!("{turns} turns: {line}");
    };
    for turn in 1..=50 {
        gateway.then([bash("seq 1 600"), Answer::Says("That is what I have found.")]);
        let id = format!("m{turn}");
        let before = gateway.bodies().len();
        let accepted = std::time::Instant::now();
        session.say(&id, &"What about this? ".repeat(20));
        while gateway.bodies().len() == before {
            std::thread::yield_now();
        }
        let asked = accepted.elapsed();
        session.wait_ack(&id, AckStatus::Completed);
        if turn == 1 || turn == 50 {
            report(turn);
            println!("{turn} turns: asked {asked:?} after the message was there to be accepted");
        }
    }
    runner.stop();
}

#[test]
fn a_confined_agent_asks_its_model_and_has_a_shell_and_a_place_for_temporary_files() {
    let line = "touch \"$TMPDIR/x\" && echo \"made it\"";
    let (session, gateway) = session(vec![bash(line), Answer::Says("done")]);
    session.say("m1", "try");
    let runner = session.start_with(&["--confine"]);
    session.wait_ack("m1", AckStatus::Completed);
    let results = conversation(&gateway.asked(1));
    assert!(results.contains("made it"), "{results}");
    runner.stop();
}
