//! What the host says was used is what was sold.

use serde_json::json;
use twobox_tests::models::{ModelServer, Rule, Script, Step};
use twobox_tests::{Mode, Setup, on_process};

use super::{MODEL, assert_counted, made, wait_used, whole};

on_process!(what_is_counted_is_what_was_sold);

const TURNS: usize = 20;

fn what_is_counted_is_what_was_sold(setup: Setup) {
    let server = ModelServer::start();
    let world = made(setup, &server, Mode::PerThread, &[MODEL]);
    let note = json!({"path": "note", "content": "one\ntwo\nthree\n"});
    server.script(Script {
        rules: vec![
            Rule::text(
                "twice",
                Step::call("write_file", note).and_call("glob", json!({"pattern": "*"})),
            ),
            Rule::text("think", Step::thinking("hm").and_text("thought over")),
            Rule::result("", Step::text("done")),
        ],
        ..Script::default()
    });
    world.up();
    let threads = ["one", "two", "three"];
    let chat = world.chat_in("ada", &threads.map(Some));
    for turn in 0..TURNS {
        let text = ["twice", "think", "say something"][turn % 3];
        let id = chat.say_in(Some(threads[turn % 4 % 3]), &format!("{text}, {turn}"));
        chat.wait_answer(&id);
    }
    let answers = server.requests().len();
    assert!(answers > TURNS, "some used tools: {answers}");
    server.wait_ended(answers);
    let used = wait_used(&world, answers as u64);
    assert_eq!(whole(&server.sold()).answers, answers as u64);
    assert_counted(&used, &server);
    assert_eq!((used["unknown"].as_u64(), used["failed"].as_u64()), (Some(0), Some(0)), "{used}");
    assert!(used["cache_read"].as_u64() > used["input"].as_u64(), "{used}");
}
