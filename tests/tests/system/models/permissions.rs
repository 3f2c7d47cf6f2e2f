//! Tools that a person has to allow, and questions in the middle of a turn.

use serde_json::json;
use twobox_tests::models::{ModelServer, Step};
use twobox_tests::{Chat, Setup, World, on_process, wait_for};

use super::{MODEL, up};
use crate::approvals::{heard, prompt};

on_process!(
    a_shell_waits_until_a_person_has_allowed_it_and_runs_once,
    a_turn_waits_for_people_over_the_death_of_the_host,
    what_a_person_denies_is_not_run_and_the_model_is_told,
    a_runner_that_dies_while_it_waits_asks_no_second_time,
    a_question_of_a_model_waits_for_its_answer,
);

pub(super) const RUN: &str = "echo ran >> runs.txt";

/// With `ada`, who has to ask before she uses a shell or writes a file.
fn asking(setup: Setup, server: &ModelServer) -> World {
    let world = up(setup, server);
    let tools = json!({ "bash": "ask", "write_file": "ask" });
    world.configure_agent(
        "ada",
        &json!({
            "provider": { "kind": "model", "model": MODEL, "tools": tools },
        }),
    );
    world
}

pub(super) fn runs(world: &World) -> String {
    let file = world.session("ada").folder.join("work/runs.txt");
    std::fs::read_to_string(file).unwrap_or_default()
}

fn prompts(chat: &Chat) -> usize {
    chat.letters().iter().filter(|letter| letter.text.contains("The agent asks")).count()
}

fn a_shell_waits_until_a_person_has_allowed_it_and_runs_once(setup: Setup) {
    let server = ModelServer::start();
    let world = asking(setup, &server);
    server.script(vec![Step::call("bash", json!({"command": RUN})), Step::text("done")]);
    let chat = world.chat("ada");
    let id = chat.say("do it");
    let (prompt, code) = prompt(&chat);
    assert!(prompt.text.contains(&format!("\n  | command=\"{RUN}\"\n")), "{prompt:?}");
    assert_eq!((runs(&world).as_str(), server.requests().len()), ("", 1), "it waits");
    let answer = chat.say(&format!("{code} 1"));
    assert!(chat.wait_answer(&answer).text.contains("allowed by the chat"));
    assert_eq!(chat.wait_answer(&id).text, "done");
    assert_eq!(runs(&world), "ran\n");
    assert_eq!((server.wait_ended(2).len(), prompts(&chat)), (2, 1));
    world.assert_fsck_clean();
}

fn a_turn_waits_for_people_over_the_death_of_the_host(setup: Setup) {
    let server = ModelServer::start();
    let world = asking(setup, &server);
    server.script(vec![Step::call("bash", json!({"command": RUN})), Step::text("done")]);
    let chat = world.chat("ada");
    let id = chat.say("do it");
    let (_, code) = prompt(&chat);
    world.kill_host();
    world.up();
    chat.wait_listening();
    chat.say(&format!("{code} 1"));
    assert_eq!(chat.wait_answer(&id).text, "done");
    assert_eq!((runs(&world).as_str(), prompts(&chat)), ("ran\n", 1));
}

fn what_a_person_denies_is_not_run_and_the_model_is_told(setup: Setup) {
    let server = ModelServer::start();
    let world = asking(setup, &server);
    server.script(vec![Step::call("bash", json!({"command": RUN})), Step::text("I may not")]);
    let chat = world.chat("ada");
    let id = chat.say("do it");
    let (_, code) = prompt(&chat);
    world.twobox(&["approvals", "deny", &code]);
    assert_eq!(chat.wait_answer(&id).text, "I may not");
    let told = server.wait_ended(2)[1].body.to_string();
    assert!(told.contains("A person denied the use of bash") && told.contains("Nothing was done"));
    assert_eq!(runs(&world), "");
}

fn a_runner_that_dies_while_it_waits_asks_no_second_time(setup: Setup) {
    let server = ModelServer::start();
    let world = asking(setup, &server);
    let run = || Step::call("bash", json!({"command": RUN}));
    server.script(vec![run(), run(), Step::text("done")]);
    let chat = world.chat("ada");
    let id = chat.say("do it");
    let (_, code) = prompt(&chat);
    world.wait_container(&world.session("ada")).kill();
    server.wait_ended(2);
    world.twobox(&["approvals", "approve", &code]);
    assert_eq!(chat.wait_answer(&id).text, "done");
    assert_eq!((runs(&world).as_str(), prompts(&chat)), ("ran\n", 1));
    assert_eq!(heard(&chat, &format!("[{code}] use of \"bash\": allowed")).len(), 1);
    world.assert_fsck_clean();
}

fn a_question_of_a_model_waits_for_its_answer(setup: Setup) {
    let server = ModelServer::start();
    let world = asking(setup, &server);
    let tea = json!({"question": "Which tea?", "choices": "green\nblack"});
    server.script(vec![Step::call("ask", tea), Step::text("black it is")]);
    let chat = world.chat("ada");
    let id = chat.say("make tea");
    let (prompt, _) = prompt(&chat);
    assert!(prompt.text.contains("2. \"black\""), "{prompt:?}");
    chat.say("2");
    assert_eq!(chat.wait_answer(&id).text, "black it is");
    let told = wait_for("the answer to be told", || server.wait_ended(2).pop());
    assert!(told.body.to_string().contains("with choice 2: black"));
}
