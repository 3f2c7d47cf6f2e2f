//! The way to the network that agents have whom a vendor's real program answers.

use std::fs;

use serde_json::json;
use twobox_tests::models::{ModelServer, Step};
use twobox_tests::{Setup, on_process};

use super::vendors::{SERVER, bash, notes, shell, told, up};
use super::{KEY, LONG, set_secret};

on_process!(
    commands_of_vendors_programs_know_the_way_to_the_network,
    a_server_of_codex_knows_the_way_to_the_network,
);

fn commands_of_vendors_programs_know_the_way_to_the_network(setup: Setup) {
    let server = ModelServer::start();
    let more = json!({"egress": ["example.com"]});
    let Some(world) = up(setup, &server, "claude", json!({}), more.clone()) else { return };
    let look = "case \"$HTTPS_PROXY$https_proxy\" in *session:*@127.0.0.1:*session:*@*) echo way out; esac; \
                curl -sS -m 20 -o /dev/null https://else.where.test/ 2>&1";
    server.script(vec![bash(look), Step::text("one")]);
    let chat = world.chat("ada");
    assert_eq!(chat.ask("look"), "one");
    let (first, system) = (told(&server, 1), server.requests()[0].body["system"].to_string());
    assert!(first.contains("way out") && first.contains("403"), "{first}");
    assert!(system.contains("through a proxy"), "{system}");
    let provider = json!({"kind": "codex", "model": "openai/gpt-x"});
    set_secret(&world, "openai", KEY);
    world.configure_agent("ada", &json!({"provider": provider}));
    server.script(vec![shell(look), Step::text("two")]);
    let id = chat.say("look");
    assert_eq!(chat.wait_answer_within(LONG, &id).text, "two");
    let second = told(&server, 3);
    assert!(second.contains("way out") && second.contains("403"), "{second}");
}

fn a_server_of_codex_knows_the_way_to_the_network(setup: Setup) {
    let server = ModelServer::start();
    let (own, more) = (json!({"mcp": notes()}), json!({"egress": ["example.com"]}));
    let Some(world) = up(setup, &server, "codex", own, more) else { return };
    let program = SERVER.replace("'AGENTS'", "'HTTPS_PROXY'");
    fs::write(world.data().join("programs/ada/notes.py"), program).unwrap();
    server.script(vec![Step::call("mcp__notes/look", json!({})), Step::text("looked")]);
    let chat = world.chat("ada");
    assert_eq!(chat.ask("look"), "looked");
    let told = told(&server, 1);
    assert!(told.contains("its own and http://session:") && told.contains("@127.0.0.1:"), "{told}");
}
