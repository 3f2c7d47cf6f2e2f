//! A runner that dies between two steps of a turn that a model answers: what the next life does.

use serde_json::json;
use twobox_shared::fault::CrashPoint;
use twobox_tests::models::{ModelServer, Step};
use twobox_tests::{Chat, Mode, Runtime, Setup, World, wait_for};

use super::permissions::{RUN, runs};
use super::{MODEL, made};
use crate::approvals::prompt;
use crate::crash_points::points;

/// With `ada`, who has to ask before she uses a shell if it `asks`, and no host yet.
fn world(server: &ModelServer, asks: bool) -> World {
    let world = made(Setup::new(Runtime::Process), server, Mode::Shared, &[MODEL]);
    let tools = json!({ "bash": if asks { "ask" } else { "allow" } });
    let provider = json!({ "kind": "model", "model": MODEL, "tools": tools });
    world.configure_agent("ada", &json!({ "provider": provider }));
    world
}

fn run() -> Step {
    Step::call("bash", json!({ "command": RUN }))
}

/// The newest prompt that says `what`, and its code.
fn prompt_with(chat: &Chat, what: &str) -> String {
    wait_for("a prompt", || {
        let texts = chat.letters().into_iter().map(|letter| letter.text);
        let mut prompts = texts.filter(|text| text.starts_with('[') && text.contains(what));
        prompts.next_back().map(|text| text[1..5].to_owned())
    })
}

/// The runner dies at `point`; whatever the model wants done is not done twice without a word.
pub(crate) fn survive(point: CrashPoint) {
    let asks = point == CrashPoint::RunnerPermissionUsed;
    let server = ModelServer::start();
    let world = world(&server, asks);
    let log = world.agent_folder("ada").join("points");
    world.up_with(&[
        ("TWOBOX_RUNNER_CRASH_AT", point.name()),
        ("TWOBOX_RUNNER_CRASH_LOG", log.to_str().unwrap()),
    ]);
    server.script(match point {
        // What was done is not wanted again.
        CrashPoint::RunnerToolDone => vec![run(), Step::text("done")],
        _ => vec![run(), run(), Step::text("done")],
    });
    let chat = world.chat("ada");
    let id = chat.say("do it");
    if asks {
        let (_, code) = prompt(&chat);
        chat.say(&format!("{code} 1"));
    }
    wait_for("the runner to die", || {
        points(&log).iter().any(|reached| reached == point.name()).then_some(())
    });
    // Its successors would die as well, for they inherit the order.
    world.kill_host();
    world.up();
    if asks {
        let code = prompt_with(&chat, "may have been done already");
        assert_eq!(runs(&world), "", "nobody has allowed that");
        chat.wait_listening();
        chat.say(&format!("{code} 1"));
    }
    assert_eq!(chat.wait_answer(&id).text, "done");
    let session = world.session("ada");
    session.wait_status(&id, "completed");
    assert_eq!((runs(&world).as_str(), session.message(&id).tries), ("ran\n", 1));
    let told = server.wait_ended(2)[1].body["messages"].to_string();
    // Of what was heard and not kept nothing was begun.
    assert_eq!(told.contains("outcome unknown"), point != CrashPoint::RunnerAnswerHeard, "{told}");
    world.assert_fsck_clean();
}

/// The points that a turn passes in which a person allows a tool.
pub(crate) fn reached() -> Vec<String> {
    let server = ModelServer::start();
    let world = world(&server, true);
    let log = world.agent_folder("ada").join("points");
    world.up_with(&[("TWOBOX_RUNNER_CRASH_LOG", log.to_str().unwrap())]);
    server.script(vec![run(), Step::text("done")]);
    let chat = world.chat("ada");
    let id = chat.say("do it");
    let (_, code) = prompt(&chat);
    chat.say(&format!("{code} 1"));
    assert_eq!(chat.wait_answer(&id).text, "done");
    points(&log)
}
