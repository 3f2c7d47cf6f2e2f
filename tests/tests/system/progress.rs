//! What an agent is at, for whoever looks on: its tool, and its words as they come. Nothing of it is a message.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use twobox_tests::models::{ModelServer, Step, Trouble};
use twobox_tests::{Mode, PATIENCE, Setup, World, on_all_runtimes, on_process, wait_for};

use crate::models::{MODEL, made};
use crate::scripts::hangs_at_first;

on_all_runtimes!(whoever_looks_on_sees_what_is_written_until_it_is_stopped);

on_process!(whoever_looks_on_sees_the_tool, what_is_said_of_another_turn_is_not_shown);

/// One who looks on.
struct Onlooker(BufReader<UnixStream>);

impl Onlooker {
    fn at(world: &World, agent: &str) -> Self {
        let mut stream = UnixStream::connect(world.data().join("host.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(stream, "{}", json!({"op": "listen", "agent": agent, "progress": true})).unwrap();
        let mut onlooker = Self(BufReader::new(stream));
        assert_eq!(onlooker.event()["event"], "listening");
        onlooker
    }

    fn event(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("something is said in time");
        serde_json::from_str(&line).expect("the host is there")
    }

    /// The next progress, whatever else is said.
    fn progress(&mut self) -> Value {
        loop {
            let mut event = self.event();
            if event["event"] == "progress" {
                return event["progress"].take();
            }
        }
    }
}

fn whoever_looks_on_sees_what_is_written_until_it_is_stopped(setup: Setup) {
    let server = ModelServer::start();
    let world = made(setup, &server, Mode::Shared, &[MODEL]);
    server.script(Step::text(&"never heard ".repeat(50)).in_pieces(12).with(Trouble::Stall(3000)));
    world.up();
    let mut onlooker = Onlooker::at(&world, "ada");
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let progress = loop {
        let progress = onlooker.progress();
        assert_eq!((&progress["message"], &progress["attempt"]), (&json!(id), &json!(0)));
        if progress["state"] == "writing" {
            break progress;
        }
    };
    let text = progress["text"].as_str().unwrap();
    assert!(text.starts_with("never heard never heard"), "{text}");
    let stop = chat.say("/stop");
    while !onlooker.progress().is_null() {}
    chat.wait_answer(&stop);
    let session = world.session("ada");
    session.wait_settled();
    wait_for("its file to be gone", || (!session.paths().progress().exists()).then_some(()));
    assert!(chat.answers(&id).is_empty() && session.rows().is_empty(), "it was no message");
}

fn whoever_looks_on_sees_the_tool(setup: Setup) {
    let server = ModelServer::start();
    let world = made(setup, &server, Mode::Shared, &[MODEL]);
    let waits = json!({"command": "until test -e go; do sleep 0.05; done"});
    server.script(vec![Step::call("bash", waits), Step::text("done")]);
    world.up();
    let mut onlooker = Onlooker::at(&world, "ada");
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let progress = loop {
        let progress = onlooker.progress();
        if progress["state"] == "tool" {
            break progress;
        }
    };
    assert_eq!(progress["tool"], "bash");
    let session = world.session("ada");
    std::fs::write(session.paths().out_dir().with_file_name("work").join("go"), "").unwrap();
    world.assert_answered_once(&chat, &session, &id, "done");
    while !onlooker.progress().is_null() {}
}

fn what_is_said_of_another_turn_is_not_shown(setup: Setup) {
    let world = setup.agent("ada", hangs_at_first()).up();
    let mut onlooker = Onlooker::at(&world, "ada");
    let chat = world.chat("ada");
    let (id, session, _) = world.occupy(&chat, "ada", "hang");
    assert_eq!(onlooker.progress()["state"], "thinking");
    let say = |text: &str| {
        let fresh = session.paths().progress().with_extension("theirs");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(&fresh, session.paths().progress()).unwrap();
    };
    let of = |message: &str, attempt: i64, text: &str| json!({"message": message, "attempt": attempt, "state": "writing", "text": text});
    say(&of(&id, 7, "of another attempt").to_string());
    say(&of("other", 0, "of another message").to_string());
    say(&of(&id, 0, "torn").to_string()[..40]);
    let secret = world.aside().join("secret");
    std::fs::write(&secret, of(&id, 0, "of another file").to_string()).unwrap();
    std::fs::remove_file(session.paths().progress()).unwrap();
    symlink(&secret, session.paths().progress()).unwrap();
    // What is torn, and what is no file, says that nothing is known.
    let seen = wait_for("what is its own", || {
        say(&of(&id, 0, "its own").to_string());
        let seen = onlooker.progress();
        assert!(seen.is_null() || seen["text"] == "its own", "{seen}");
        Some(seen).filter(|seen| !seen.is_null())
    });
    assert_eq!(seen["attempt"], 0);
    assert!(chat.letters().is_empty());
}
