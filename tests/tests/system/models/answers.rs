//! A person asks, a model thinks and uses tools, and the person has one answer.

use serde_json::json;
use twobox_tests::models::{ModelServer, Step};
use twobox_tests::{Mode, Runtime, Setup, on_all_runtimes, on_process};

use super::{KEY, MODEL, add, made, up};

on_all_runtimes!(
    a_message_is_answered_through_a_tool,
    a_conversation_goes_on_in_another_container_with_the_cache_of_the_first,
);

on_process!(
    every_api_answers_through_a_tool,
    a_trial_with_a_model_prints_its_answer_and_is_counted,
);

fn a_message_is_answered_through_a_tool(setup: Setup) {
    let server = ModelServer::start();
    let has_shell = setup.runtime() != Runtime::Docker; // its image is empty
    let world = up(setup, &server);
    let write = Step::thinking("a note first")
        .and_call("write_file", json!({"path": "note.txt", "content": "written by a model\n"}));
    let look = match has_shell {
        true => Step::call("bash", json!({"command": "cat note.txt"})),
        false => Step::call("read_file", json!({"path": "note.txt"})),
    };
    server.script(vec![write, look, Step::text("It is written.").in_pieces(3)]);
    let chat = world.chat("ada");
    let id = chat.say("write a note");
    chat.wait_answer(&id);
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &id, "It is written.");
    let note = std::fs::read_to_string(session.folder.join("work/note.txt")).unwrap();
    assert_eq!(note, "written by a model\n");
    let requests = server.wait_ended(3);
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(requests[0].body["messages"].to_string().contains("write a note"));
    assert!(requests[2].body["messages"].to_string().contains("written by a model"));
    assert!(requests.iter().all(|it| it.body["stream"] == true && it.path == "/v1/messages"));
    assert!(requests.iter().all(|it| it.headers.get("x-api-key").is_some_and(|key| key == KEY)));
}

fn a_conversation_goes_on_in_another_container_with_the_cache_of_the_first(setup: Setup) {
    let server = ModelServer::start();
    let world = up(setup, &server);
    server.script(vec![Step::text("one"), Step::text("two")]);
    let chat = world.chat("ada");
    assert_eq!(chat.ask("first"), "one");
    let first = world.wait_container(&world.session("ada"));
    first.kill();
    assert_eq!(chat.ask("second"), "two");
    let requests = server.wait_ended(2);
    let said = requests[1].body["messages"].to_string();
    assert!(said.contains("first") && said.contains("one"), "it remembers: {said}");
    let (before, again) = (requests[0].tokens, requests[1].tokens);
    assert!(again.cache_read * 10 >= before.prompt() * 9, "{before:?} {again:?}");
}

fn every_api_answers_through_a_tool(setup: Setup) {
    let server = ModelServer::start();
    let world = made(setup, &server, Mode::Shared, &[MODEL]);
    let cases = [
        ("ada", MODEL, "/v1/messages"),
        ("bob", "openai/gpt-x", "/v1/responses"),
        ("eve", "router/meta/llama", "/v1/chat/completions"),
    ];
    for (agent, model, _) in &cases[1..] {
        add(&world, agent, Mode::Shared, &[model]);
    }
    world.up();
    for (agent, model, path) in cases {
        let before = server.requests().len();
        server.script(vec![
            Step::thinking("by a tool")
                .and_call("bash", json!({"command": "echo from $((40 + 2))"})),
            Step::text("done"),
        ]);
        assert_eq!(world.chat(agent).ask("do it"), "done", "{model}");
        let asked = server.wait_ended(before + 2).split_off(before);
        assert_eq!(asked.len(), 2, "{model}: {asked:?}");
        assert!(asked.iter().all(|it| it.path == path), "{model}: {asked:?}");
        assert!(asked[1].body.to_string().contains("from 42"), "{model}: {:?}", asked[1].body);
    }
}

fn a_trial_with_a_model_prints_its_answer_and_is_counted(setup: Setup) {
    let server = ModelServer::start();
    let world = made(setup, &server, Mode::Shared, &[MODEL]);
    server
        .script(vec![Step::call("bash", json!({"command": "echo tried"})), Step::text("tried it")]);
    let said = world.twobox(&["agents", "test", "ada", "try it"]);
    assert!(said.contains("tried it"), "{said}");
    assert_eq!(server.wait_ended(2).len(), 2);
    super::assert_counted(&super::wait_used(&world, 2), &server);
    assert!(!said.contains(KEY), "{said}");
}
