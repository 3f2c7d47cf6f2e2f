//! Agents that the real Codex answers, in the version that is pinned, with a stand-in in the vendor's place.

use std::fs;

use serde_json::json;
use twobox_tests::models::{End, ModelServer, Rule, Step, Trouble};
use twobox_tests::{Setup, World, cli, on_all_runtimes, on_process, wait_for};

use super::{KEY, LONG, assert_counted, set_secret, tokens, towards, used, wait_used};

on_all_runtimes!(
    codex_answers_and_goes_on_where_it_was,
    a_runner_that_is_killed_while_codex_answers_asks_again_with_nothing_said_twice,
    a_host_that_is_killed_while_codex_answers_is_followed_by_one_that_is_asked_again,
);

/// The image of the tests has no shell.
mod with_a_shell {
    use super::{
        what_a_turn_of_codex_left_running_ends_with_it,
        what_comes_while_a_tool_of_codex_runs_stands_beside_its_result,
    };
    twobox_tests::on_sandbox!(
        what_comes_while_a_tool_of_codex_runs_stands_beside_its_result,
        what_a_turn_of_codex_left_running_ends_with_it,
    );
}

on_process!(
    what_comes_while_a_tool_of_codex_runs_stands_beside_its_result,
    what_comes_while_codex_answers_waits_for_its_own_turn,
    a_turn_of_codex_whose_time_is_over_is_broken_off_and_codex_lives_on,
    an_answer_to_codex_that_breaks_off_is_asked_for_again,
    what_an_upstream_refuses_codex_is_asked_once_and_told,
    a_thread_that_codex_has_lost_is_followed_by_a_new_one,
    a_new_conversation_with_codex_knows_nothing_of_the_one_before,
    an_upstream_that_does_not_speak_as_codex_does_is_refused,
);

/// An installation in which Codex answers for `ada`; `None` where there is no Codex.
fn made(setup: Setup, server: &ModelServer) -> Option<World> {
    let clis = cli("codex")?;
    let setup =
        setup.setting("containers.clis", clis.display()).setting("shutdown.containers", "stop");
    let world = towards(setup, server).make();
    set_secret(&world, "openai", KEY);
    world.twobox(&["agents", "add", "ada", "--provider", "codex", "--model", "openai/gpt-x"]);
    Some(world)
}

fn up(setup: Setup, server: &ModelServer) -> Option<World> {
    let world = made(setup, server)?;
    world.up();
    Some(world)
}

fn stalls() -> Step {
    Step::text(&"never heard ".repeat(50)).in_pieces(12).with(Trouble::Stall(700))
}

fn shell(line: &str) -> Step {
    Step::call("exec_command", json!({"cmd": line}))
}

/// What a model was shown, as one text.
fn shown(server: &ModelServer, request: usize) -> String {
    server.requests()[request].body["input"].to_string()
}

fn codex_answers_and_goes_on_where_it_was(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = up(setup, &server) else { return };
    server.script(vec![Step::text("one"), Step::text("two")]);
    let chat = world.chat("ada");
    assert_eq!(chat.ask("the first word"), "one");
    assert_eq!(chat.ask("the second word"), "two");
    let input = shown(&server, 1);
    for said in ["the first word", "\"one\"", "the second word", "You are ada"] {
        assert_eq!(input.matches(said).count(), 1, "{said}: {input}");
    }
    assert_eq!(server.requests().len(), 2, "nothing else is asked");
    let tools = server.requests()[0].body["tools"].to_string();
    assert!(!tools.contains("web_search"), "{tools}");
    assert_counted(&wait_used(&world, 2), &server);
    world.assert_fsck_clean();
    world.stop_host();
    world.wait_no_containers();
    let key =
        fs::read_to_string(world.session("ada").folder.join("work/.twobox/codex/config.toml"));
    assert!(!key.unwrap().contains(KEY));
}

fn a_runner_that_is_killed_while_codex_answers_asks_again_with_nothing_said_twice(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = up(setup, &server) else { return };
    server.script(vec![Step::text("long since"), stalls(), Step::text("heard")]);
    let chat = world.chat("ada");
    assert_eq!(chat.ask("to begin with"), "long since");
    let id = chat.say("hello there");
    server.wait_stalled(1);
    let session = world.session("ada");
    world.container(&session).expect("whoever asks lives").kill();
    chat.wait_answer_within(LONG, &id);
    world.assert_answered_once(&chat, &session, &id, "heard");
    assert_eq!(session.message(&id).tries, 1);
    let ends: Vec<End> = server.wait_ended(3).iter().map(|request| request.end).collect();
    assert_eq!(ends, [End::Sold, End::Cut, End::Sold]);
    let input = shown(&server, 2);
    for said in ["to begin with", "long since", "hello there", "An earlier attempt"] {
        assert_eq!(input.matches(said).count(), 1, "{said}: {input}");
    }
    let used = wait_used(&world, 3);
    assert_counted(&used, &server);
    assert_eq!(used["unknown"], 1, "{used}");
    assert!(used["unknown_tokens"].as_u64().unwrap() >= tokens(&server.cut()), "{used}");
}

fn a_host_that_is_killed_while_codex_answers_is_followed_by_one_that_is_asked_again(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = up(setup, &server) else { return };
    server.script(vec![stalls(), Step::text("heard")]);
    let chat = world.chat("ada");
    let id = chat.say("hello there");
    server.wait_stalled(1);
    let session = world.session("ada");
    let container = world.container(&session).expect("whoever asks lives");
    world.kill_host();
    assert!(container.lives());
    world.up();
    chat.wait_answer_within(LONG, &id);
    world.assert_answered_once(&chat, &session, &id, "heard");
    assert_eq!(session.message(&id).tries, 0);
    assert_eq!(world.container(&session), Some(container), "it was adopted");
    let input = shown(&server, 1);
    assert_eq!(input.matches("hello there").count(), 1, "{input}");
}

fn what_comes_while_a_tool_of_codex_runs_stands_beside_its_result(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = up(setup, &server) else { return };
    let until_told = "touch begun; until [ -e go ]; do sleep 0.02; done; echo went";
    server.script(vec![shell(until_told), Step::text("to both")]);
    let chat = world.chat("ada");
    let first = chat.say("do it");
    let session = world.session("ada");
    let work = session.folder.join("work");
    wait_for("the tool to run", || work.join("begun").exists().then_some(()));
    let second = chat.say("and another thing");
    session.wait_claimed(&second);
    // Codex has it before the tool ends, or not: it is answered once in any case, and nothing is lost.
    fs::write(work.join("go"), "").unwrap();
    let answer = wait_for("an answer to the first", || {
        chat.letters().into_iter().find(|letter| letter.answers.contains(&first))
    });
    assert_eq!(answer.text, "to both");
    wait_for("the second to be completed", || {
        (session.message(&second).status == "completed").then_some(())
    });
    let input = shown(&server, 1);
    assert!(input.contains("went"), "{input}");
    assert_counted(&used(&world), &server);
}

fn what_comes_while_codex_answers_waits_for_its_own_turn(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = up(setup, &server) else { return };
    server.script(vec![
        Step::text("first answer").in_pieces(3).with(Trouble::Stall(700)),
        Step::text("second answer"),
    ]);
    let chat = world.chat("ada");
    let first = chat.say("one");
    server.wait_stalled(1);
    let session = world.session("ada");
    let second = chat.say("two");
    session.wait_claimed(&second);
    server.release();
    chat.wait_answer_within(LONG, &second);
    world.assert_answered_once(&chat, &session, &first, "first answer");
    world.assert_answered_once(&chat, &session, &second, "second answer");
    let ends: Vec<End> = server.wait_ended(2).iter().map(|request| request.end).collect();
    assert_eq!(ends, [End::Sold, End::Sold], "no answer is dropped that is paid for");
}

fn a_turn_of_codex_whose_time_is_over_is_broken_off_and_codex_lives_on(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = made(setup, &server) else { return };
    world.configure_agent("ada", &json!({"turn_timeout_sec": 3}));
    server.script(vec![stalls(), Step::text("in time")]);
    world.up();
    let chat = world.chat("ada");
    let id = chat.say("hello there");
    chat.wait_answer_within(LONG, &id);
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &id, "in time");
    let ends: Vec<End> = server.wait_ended(2).iter().map(|request| request.end).collect();
    assert_eq!(ends, [End::Cut, End::Sold]);
    let input = shown(&server, 1);
    assert_eq!(input.matches("hello there").count(), 1, "{input}");
}

fn an_answer_to_codex_that_breaks_off_is_asked_for_again(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = up(setup, &server) else { return };
    let cut = Step { trouble: Some(Trouble::Cut(700)), ..stalls() };
    server.script(vec![cut, Step::text("whole")]);
    let chat = world.chat("ada");
    let id = chat.say("hello there");
    chat.wait_answer_within(LONG, &id);
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &id, "whole");
    assert_eq!(session.message(&id).tries, 0);
    let input = shown(&server, 1);
    assert_eq!(input.matches("hello there").count(), 1, "{input}");
    assert_eq!(wait_used(&world, 2)["unknown"], 1);
}

fn what_an_upstream_refuses_codex_is_asked_once_and_told(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = up(setup, &server) else { return };
    let chat = world.chat("ada");
    let cases = [
        (401, "refused the host's key"),
        (402, "has to see to the account"),
        (400, "Invalid request."),
    ];
    for (count, (status, told)) in cases.into_iter().enumerate() {
        server.script(Step::refuse(status));
        let id = chat.say(&format!("case {status}"));
        let session = world.session("ada");
        let failure = session.wait_status(&id, "failed").failure.unwrap_or_default();
        assert!(failure.contains(told), "{status}: {failure}");
        assert!(!failure.contains("127.0.0.1") && !failure.contains(KEY), "{status}: {failure}");
        assert_eq!(server.wait_ended(count + 1).len(), count + 1, "{status}: it is asked once");
    }
    // A busy upstream is asked again by the host, a server's error by the next attempt.
    server.script(vec![Step::rate_limited(1), Step::refuse(500), Step::text("at last")]);
    let id = chat.say("go on");
    assert_eq!(chat.wait_answer_within(LONG, &id).text, "at last");
    let statuses: Vec<u16> =
        server.wait_ended(6).iter().skip(3).map(|request| request.status).collect();
    assert_eq!(statuses, [429, 500, 200]);
    let input = shown(&server, 5);
    assert!(!input.contains("case 40"), "what failed is no part of the conversation: {input}");
}

fn a_thread_that_codex_has_lost_is_followed_by_a_new_one(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = up(setup, &server) else { return };
    server.script(vec![Step::text("one"), Step::text("two")]);
    let chat = world.chat("ada");
    assert_eq!(chat.ask("alpha centauri"), "one");
    world.stop_host();
    world.wait_no_containers();
    let session = world.session("ada");
    fs::remove_dir_all(session.folder.join("work/.twobox/codex")).unwrap();
    world.up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("beta hydri"), "two");
    let input = shown(&server, 1);
    assert!(!input.contains("alpha centauri") && input.contains("beta hydri"), "{input}");
}

fn a_new_conversation_with_codex_knows_nothing_of_the_one_before(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = up(setup, &server) else { return };
    server.script(vec![Step::text("one"), Step::text("two")]);
    let chat = world.chat("ada");
    assert_eq!(chat.ask("alpha centauri"), "one");
    assert!(chat.ask("/new").contains("new conversation begins"));
    assert_eq!(chat.ask("beta hydri"), "two");
    let input = shown(&server, 1);
    assert!(!input.contains("alpha centauri") && input.contains("beta hydri"), "{input}");
}

fn what_a_turn_of_codex_left_running_ends_with_it(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = up(setup, &server) else { return };
    let background = "setsid sleep 4711 >/dev/null 2>&1 & echo $! >pid";
    server.script(Rule::text("leave", shell(background)).times(1));
    server.script(vec![Step::text("left"), Step::text("gone")]);
    let chat = world.chat("ada");
    assert_eq!(chat.ask("leave something"), "left");
    assert_eq!(chat.ask("again"), "gone");
    let still = || {
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.starts_with(b"sleep\x004711\0")
        })
    };
    assert!(!still(), "it outlived its turn");
}

fn an_upstream_that_does_not_speak_as_codex_does_is_refused(setup: Setup) {
    let server = ModelServer::start();
    let Some(world) = made(setup, &server) else { return };
    world.configure_agent("ada", &json!({"provider": {"kind": "codex", "model": "anthropic/x"}}));
    let tested = world.run(&["agents", "test", "ada"]);
    let said = String::from_utf8_lossy(&[tested.stdout, tested.stderr].concat()).into_owned();
    assert!(!tested.status.success() && said.contains("codex speaks OpenAI's Responses"), "{said}");
    let several =
        world.run(&["agents", "edit", "ada", "--model", "openai/a", "--model", "openai/b"]);
    let said = String::from_utf8_lossy(&several.stderr).into_owned();
    assert!(
        !several.status.success() && said.contains("--provider codex asks one model"),
        "{said}"
    );
}
