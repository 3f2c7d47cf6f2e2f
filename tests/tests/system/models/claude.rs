//! An agent that the real Claude Code answers, with the stand-in in the vendor's place: through the whole
//! host and, in Docker, without any network.

use serde_json::json;
use twobox_tests::models::{ModelServer, Step, Trouble};
use twobox_tests::{Mode, Runtime, Setup, World, agent_image, cli, on_all_runtimes, skipped};

use super::{KEY, LONG, MODEL, assert_counted, made, wait_used};

on_all_runtimes!(
    claude_code_answers_through_a_tool_and_is_counted,
    claude_code_goes_on_in_another_container,
    claude_code_outlives_a_host_that_is_killed_in_the_middle_of_its_stream,
);

/// With `ada` answered by Claude Code, or `None` with a loud word where something is missing.
fn world(setup: Setup, server: &ModelServer) -> Option<World> {
    let mut setup = setup.setting("containers.clis", cli("claude")?.display());
    if setup.runtime() == Runtime::Docker {
        let missing = |what: String| skipped("TWOBOX_REQUIRE_AGENT_IMAGE", &what);
        setup = setup.setting("containers.image", agent_image().map_err(missing).ok()?);
    }
    let world = made(setup, server, Mode::Shared, &[MODEL]);
    let provider = json!({"kind": "claude", "model": MODEL});
    // Where nothing counts the memory of all its processes together, each may reserve so much, and Claude Code
    // reserves far more than it uses.
    let limits = json!({"memory_mb": 2048});
    world.configure_agent("ada", &json!({"provider": provider, "limits": limits}));
    world.up();
    Some(world)
}

fn claude_code_answers_through_a_tool_and_is_counted(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = world(setup, &server) else { return };
    let look = json!({"command": "echo from $((40 + 2)) > note.txt; cat note.txt"});
    server.script(vec![Step::call("Bash", look), Step::text("It is written.")]);
    let chat = world.chat("ada");
    let id = chat.say("write a note");
    chat.wait_answer_within(LONG, &id);
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &id, "It is written.");
    let note = std::fs::read_to_string(session.folder.join("work/note.txt")).unwrap();
    assert_eq!(note, "from 42\n");
    let requests = server.wait_ended(2);
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(requests[1].body["messages"].to_string().contains("from 42"));
    for request in &requests {
        assert_eq!(request.headers.get("x-api-key").map(String::as_str), Some(KEY));
        let betas = &request.headers["anthropic-beta"];
        assert!(betas.contains("thinking-display-updates-"), "all of them pass: {betas}");
    }
    let used = wait_used(&world, 2);
    assert_counted(&used, &server);
}

fn claude_code_goes_on_in_another_container(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = world(setup, &server) else { return };
    server.script(vec![Step::text("one"), Step::text("two")]);
    let chat = world.chat("ada");
    let id = chat.say("first");
    chat.wait_answer_within(LONG, &id);
    world.wait_container(&world.session("ada")).kill();
    let id = chat.say("second");
    chat.wait_answer_within(LONG, &id);
    let said = server.wait_ended(2)[1].body["messages"].to_string();
    assert!(said.contains("first") && said.contains("one"), "it remembers: {said}");
}

fn claude_code_outlives_a_host_that_is_killed_in_the_middle_of_its_stream(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = world(setup, &server) else { return };
    let stalls = Step::text(&"never heard ".repeat(50)).in_pieces(12).with(Trouble::Stall(700));
    server.script(vec![stalls, Step::text("heard")]);
    let chat = world.chat("ada");
    let id = chat.say("hello");
    server.wait_stalled(1);
    let session = world.session("ada");
    let container = world.container(&session).expect("whoever asks lives");
    world.kill_host();
    world.up();
    chat.wait_answer_within(LONG, &id);
    world.assert_answered_once(&chat, &session, &id, "heard");
    assert_eq!(world.container(&session), Some(container), "it was adopted");
    world.assert_fsck_clean();
}
