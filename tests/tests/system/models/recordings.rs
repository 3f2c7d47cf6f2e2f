//! What models answered is kept where an agent's file says so, and answers again without a model.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use twobox_tests::models::{ModelServer, Step};
use twobox_tests::{Mode, Setup, on_process, wait_for};

use super::{KEY, MODEL, made, used, wait_used};

on_process!(
    what_was_recorded_is_answered_again_and_no_model_is_asked,
    a_conversation_is_recorded_while_its_agent_says_so,
);

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn what_was_recorded_is_answered_again_and_no_model_is_asked(setup: Setup) {
    let server = ModelServer::start();
    let world = made(setup, &server, Mode::Shared, &[MODEL]);
    let call = Step::call("write_file", json!({"path": "note.txt", "content": "from 42"}));
    server.script(vec![call, Step::text("written down")]);
    let file = world.aside().join("trial.jsonl");
    let test = |text: &str, how: &str| {
        world.run(&["agents", "test", "ada", text, how, file.to_str().unwrap()])
    };
    let first = test("the xylophone", "--record");
    assert!(String::from_utf8_lossy(&first.stdout).contains("written down"), "{first:?}");
    assert_eq!(server.wait_ended(2).len(), 2);
    let before = wait_used(&world, 2);
    let recorded = wait_for("both answers to be recorded", || {
        Some(std::fs::read_to_string(&file).unwrap_or_default())
            .filter(|it| it.lines().count() == 2)
    });
    assert!(!recorded.contains("xylophone"), "nothing of what was asked: {recorded}");
    assert!(!recorded.contains(KEY), "{recorded}");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is the host's alone");
    assert!(!test("the xylophone", "--record").status.success(), "it is there already");

    world.twobox(&["secrets", "remove", "anthropic"]);
    let again = test("the xylophone", "--replay");
    assert!(again.status.success(), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stdout).contains("written down"), "{again:?}");
    let other = test("the trombone", "--replay");
    let said = String::from_utf8_lossy(&other.stdout);
    assert!(!other.status.success(), "{said}");
    assert!(said.contains("no request like this one was recorded"), "{said}");
    assert!(said.contains("messages[0] (user) is another"), "{said}");
    assert_eq!((server.requests().len(), used(&world)), (2, before), "nobody was asked");
}

fn a_conversation_is_recorded_while_its_agent_says_so(setup: Setup) {
    let server = ModelServer::start();
    let world = made(setup, &server, Mode::Shared, &[MODEL]);
    world.up();
    let chat = world.chat("ada");
    chat.ask("one");
    let session = world.session("ada");
    let file = world.data().join(format!("recordings/ada/{}.jsonl", session.id));
    world.twobox(&["agents", "set", "ada", "record=true"]);
    server.script(vec![Step::text("heard")]);
    chat.ask("two");
    let recorded = wait_for("the answer to be recorded", || {
        Some(lines(&file)).filter(|lines| !lines.is_empty())
    });
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert_eq!(recorded[0]["request"]["model"], "claude-x");
    assert!(recorded[0]["answer"].as_str().unwrap().contains("heard"), "{recorded:?}");
    world.twobox(&["agents", "set", "ada", "record="]);
    chat.ask("three");
    world.stop_host();
    assert_eq!(lines(&file).len(), 1);
}
