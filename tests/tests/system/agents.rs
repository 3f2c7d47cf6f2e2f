//! Agents that do not work as they are, and agents that change under their runners.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use twobox_tests::{
    Runtime, Setup, World, docker, image, on_all_runtimes, on_docker, on_process, wait_for,
};

use crate::scripts::{echo, hangs_at_first};

on_all_runtimes!(
    a_broken_agent_says_so_at_once_and_answers_when_it_is_mended,
    one_turn_is_tried_outside_of_any_conversation,
);

on_process!(
    what_the_host_says_meanwhile_is_no_message_of_somebody_else,
    a_mistake_in_the_configuration_is_told_at_once,
    a_run_of_a_broken_agent_ends_at_once,
    a_line_that_is_none_of_the_protocol_fails_the_message_at_once,
    a_change_counts_from_the_next_turn_on,
    a_restart_gives_the_turn_to_a_fresh_runner,
    a_retry_never_reuses_the_runner_that_failed,
    a_removed_agent_starts_nothing_and_who_waits_is_told,
    what_a_living_runner_prints_stays_small,
    an_agent_that_is_removed_while_no_host_runs_starts_nothing_later,
);

on_docker!(a_new_image_counts_from_the_next_turn_on);

/// Answers with what stands in a file of its program folder; lives as long as its runner.
const SAYS_ITS_NAME: &str = r#"
    name=$(cat name)
    while read -r turn; do
        echo "{\"type\":\"reply\",\"text\":\"I am $name\"}"
        echo '{"type":"turn_done"}'
    done"#;

fn runs(command: &[&str]) -> Value {
    json!({ "provider": "command", "command": command, "lifetime": "runner" })
}

/// A world whose agent runs `command`.
fn world_of(setup: Setup, command: &[&str]) -> World {
    let world = setup.agent("ada", echo()).make();
    world.configure_agent("ada", &runs(command));
    world.up();
    world
}

fn what_the_host_says_meanwhile_is_no_message_of_somebody_else(setup: Setup) {
    let world = world_of(setup, &["no-such-program"]);
    let waited = world.run(&["send", "--agent", "ada", "--wait", "3", "hello"]);
    let said = String::from_utf8_lossy(&waited.stderr).into_owned();
    assert_eq!(waited.status.code(), Some(3), "{said}");
    let line = said.lines().find(|line| line.contains("no-such-program")).unwrap_or_default();
    assert!(line.starts_with("(the host says) "), "{said}");
}

fn a_broken_agent_says_so_at_once_and_answers_when_it_is_mended(setup: Setup) {
    let world = world_of(setup, &["no-such-program"]);
    let chat = world.chat("ada");
    let first = chat.say("hello");
    let told = chat.wait_letters(1).remove(0);
    assert!(
        told.text.contains("no-such-program") && told.text.contains("there is no such program"),
        "{told:?}"
    );
    assert!(told.text.contains("is kept"), "{told:?}");
    let session = world.session("ada");
    let second = chat.say("are you there?");
    let again = chat.wait_letters(2).remove(1);
    assert!(again.text.contains("no-such-program"), "{again:?}");
    assert_eq!(world.starts(), 1, "nothing is started for an agent that is as it was");
    let shown = world.twobox(&["sessions", "show", &session.id]);
    assert!(shown.contains("no-such-program"), "{shown}");

    let config = json!({ "provider": "scripted", "command": [], "lifetime": "turn" });
    world.configure_agent("ada", &config);
    world.assert_answered_once(&chat, &session, &first, "echo: hello");
    world.assert_answered_once(&chat, &session, &second, "echo: are you there?");
    let message = session.message(&first);
    assert_eq!((message.tries, message.forgiven), (1, 1), "nobody was charged");
    assert_eq!((world.starts(), chat.notices().len()), (2, 2));
    let shown = world.twobox(&["sessions", "show", &session.id]);
    assert!(!shown.contains("no-such-program"), "{shown}");
}

fn a_mistake_in_the_configuration_is_told_at_once(setup: Setup) {
    let world = setup.agent("ada", echo()).make();
    world.configure_agent("ada", &json!({ "max_turn": 1 }));
    world.up();
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let told = chat.wait_letters(1).remove(0);
    assert!(told.text.contains("ada.json") && told.text.contains("`max_turn`"), "{told:?}");
    let path = world.data().join("agents/ada.json");
    fs::write(&path, r#"{ "provider": "scripted" "#).unwrap();
    let other = chat.wait_letters(2).remove(1);
    assert!(other.text.contains("EOF"), "another mistake is another word: {other:?}");
    assert_eq!(world.starts(), 0);
    fs::write(&path, r#"{ "provider": "scripted" }"#).unwrap();
    world.assert_answered_once(&chat, &world.session("ada"), &id, "echo: hello");
}

fn a_run_of_a_broken_agent_ends_at_once(setup: Setup) {
    let world = world_of(setup, &["no-such-program"]);
    let add = ["schedules", "add", "tidy", "--agent", "ada", "--prompt", "Hi", "--hourly", "0"];
    world.twobox(&add);
    for run in 1..=2 {
        world.twobox(&["schedules", "run", "tidy"]);
        wait_for("the run to fail", || {
            let runs = world.twobox(&["--json", "schedules", "runs", "tidy"]);
            (runs.matches("there is no such program").count() >= run).then_some(())
        });
    }
}

fn a_line_that_is_none_of_the_protocol_fails_the_message_at_once(setup: Setup) {
    let script = r#"
        while read -r turn; do
            case $turn in
                *debug*) echo "got a turn" ;;
                *) echo '{"type":"reply","text":"fine"}'; echo '{"type":"turn_done"}' ;;
            esac
        done"#;
    let world = world_of(setup, &["/bin/sh", "-c", script]);
    let chat = world.chat("ada");
    let id = chat.say("debug");
    let session = world.session("ada");
    session.wait_status(&id, "failed");
    let told = chat.wait_letters(1).remove(0);
    assert!(
        told.text.contains("could not answer") && told.text.contains(": got a turn."),
        "{told:?}"
    );
    assert_eq!(chat.ask("hello"), "fine", "nobody else is kept from it");
}

fn a_change_counts_from_the_next_turn_on(setup: Setup) {
    let world = world_of(setup, &["/bin/sh", "-c", SAYS_ITS_NAME]);
    let name = world.program_folder("ada").join("name");
    fs::write(&name, "one").unwrap();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("who?"), "I am one");
    assert_eq!((chat.ask("who?"), world.starts()), ("I am one".into(), 1));
    // The program.
    fs::write(&name, "the second").unwrap();
    assert_eq!((chat.ask("who?"), world.starts()), ("I am the second".into(), 2));
    // The configuration, and a host in between: it knows what its predecessor has started.
    world.kill_host();
    world.up();
    assert_eq!((chat.ask("who?"), world.starts()), ("I am the second".into(), 2));
    world.configure_agent("ada", &json!({ "provider": "echo", "command": [], "lifetime": "turn" }));
    assert_eq!((chat.ask("who?"), world.starts()), ("echo: who?".into(), 3));
    let session = world.session("ada");
    assert!(session.messages().iter().all(|message| message.tries == 0));
    world.assert_fsck_clean();
}

fn a_new_image_counts_from_the_next_turn_on(setup: Setup) {
    let tag = format!("twobox-changing:{}", std::process::id());
    docker(&["tag", &image().unwrap(), &tag]);
    let world = setup.setting("containers.image", &tag).agent("ada", echo()).up();
    let chat = world.chat("ada");
    let first = chat.ask("hello");
    let context = tempfile::tempdir().unwrap();
    let file = context.path().join("Dockerfile");
    fs::write(&file, format!("FROM {}\nLABEL generation=2\n", image().unwrap())).unwrap();
    let build = ["build", "--quiet", "--tag", &tag, context.path().to_str().unwrap()];
    let built = Command::new("docker").args(build).output().unwrap();
    // The engine is not asked with each message.
    std::thread::sleep(Duration::from_secs(2));
    let second = built.status.success().then(|| chat.ask("hello"));
    let starts = world.starts();
    drop(world);
    docker(&["rmi", "--force", &tag]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert_eq!((first.as_str(), second.as_deref()), ("echo: hello", Some("echo: hello")));
    assert_eq!(starts, 2);
}

fn a_restart_gives_the_turn_to_a_fresh_runner(setup: Setup) {
    let world = setup.setting("containers.stop_grace", "1s").agent("ada", hangs_at_first()).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "hang");
    let said = world.twobox(&["sessions", "restart", &session.id]);
    assert!(said.contains("its container is gone"), "{said}");
    assert!(!container.lives());
    world.assert_answered_once(&chat, &session, &id, "echo: hang");
    let message = session.message(&id);
    assert_eq!((message.tries, message.forgiven), (1, 1), "nobody was charged");
    world.container(&session).expect("it waits").kill();
    wait_for("the host to know", || (!world.session("ada").running).then_some(()));
    let said = world.twobox(&["sessions", "restart", &session.id]);
    assert!(said.contains("had no container"), "{said}");
}

fn a_retry_never_reuses_the_runner_that_failed(setup: Setup) {
    let failure = json!({ "reason": "auth_failed", "detail": "no key", "retryable": false });
    let world = setup.agent("ada", json!({ "otherwise": [{ "fail": failure }] })).up();
    let chat = world.chat("ada");
    let id = chat.say("hello");
    assert!(chat.wait_letters(1)[0].text.contains("no key"));
    let session = world.session("ada");
    let before = world.container(&session).expect("it waits for more");
    world.set_script("ada", &echo());
    world.twobox(&["sessions", "retry", &session.id]);
    assert!(!before.lives());
    world.assert_answered_once(&chat, &session, &id, "echo: hello");
}

fn one_turn_is_tried_outside_of_any_conversation(setup: Setup) {
    let runtime = setup.runtime();
    let script = json!({
        "rules": [
            { "match": "key", "do": [{ "fail": { "reason": "auth_failed", "detail": "no key" } }] },
            { "match": "task", "do": [{ "system": { "action": "list_tasks" } }, { "reply": "asked" }] },
        ],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let world = setup.agent("ada", script).make();
    let test = |arguments: &[&str]| {
        let output = world.run(&[&["agents", "test", "ada"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said + &String::from_utf8_lossy(&output.stderr))
    };
    let (code, said) = test(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("ada answered within") && said.contains("reply    echo: hello"),
        "{said}"
    );
    let (_, said) = test(&["--json"]);
    let json: Value = serde_json::from_str(&said).unwrap();
    let trial = &json["trial"];
    assert_eq!(
        (&trial["answered"], &trial["said"][0]["text"]),
        (&true.into(), &"echo: hello".into())
    );
    if runtime == Runtime::Process {
        let (code, said) = test(&["task"]);
        assert!(code == Some(0) && said.contains("request  {\"action\":\"list_tasks\"}"), "{said}");
        let (code, said) = test(&["the key"]);
        assert!(code == Some(1) && said.contains("auth_failed: no key (in a chat it"), "{said}");
        world.configure_agent("ada", &runs(&["no-such-program"]));
        let (code, said) = test(&[]);
        assert!(code == Some(1) && said.contains("agent_broken: could not start"), "{said}");
        assert!(said.contains("log      agent-runner: "), "{said}");
        world.configure_agent("ada", &json!({ "max_turn": 1 }));
        let (code, said) = test(&[]);
        assert!(code == Some(1) && said.contains("`max_turn`"), "{said}");
    }
    assert!(world.sessions().is_empty() && world.containers().is_empty());
    let left: Vec<_> = fs::read_dir(world.data().join("scratch")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Makes a task when it hears `task`, hangs at `hang`, and answers all else.
fn with_tasks() -> Value {
    let task = json!({ "action": "schedule_task", "prompt": "tick", "recurrence": "every 1s" });
    json!({
        "rules": [
            { "match": "^task", "do": [{ "system": task }, { "reply": "every second" }] },
            { "match": "^hang", "do": [{ "hang": true }] },
        ],
        "otherwise": [{ "reply": "echo: {text}" }],
    })
}

/// The occurrences of tasks that are still to come, or pending.
fn live_tasks(world: &World) -> usize {
    let session = world.session("ada").id;
    let shown = world.twobox(&["--json", "sessions", "tasks", &session]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    shown["live"].as_array().unwrap().len()
}

fn a_removed_agent_starts_nothing_and_who_waits_is_told(setup: Setup) {
    let setup = setup.setting("containers.stop_grace", "1s").setting("schedule.min_interval", "1s");
    let world = setup.agent("ada", with_tasks()).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("task"), "every second");
    wait_for("the task", || (live_tasks(&world) == 1).then_some(()));
    let (id, session, container) = world.occupy(&chat, "ada", "hang");
    let said = world.twobox(&["agents", "remove", "ada"]);
    assert!(said.contains("its sessions are closed, its tasks over"), "{said}");
    container.wait_gone();
    session.wait_status(&id, "failed");
    assert_eq!(live_tasks(&world), 0);
    let told = |text: &str| chat.notices().iter().any(|letter| letter.text.contains(text));
    wait_for("who waits to be told", || told("the agent was removed").then_some(()));
    let list = world.twobox(&["sessions", "list"]);
    assert!(list.contains("closed"), "{list}");
    wait_for("the mark to go", || (!world.is_marked(&session)).then_some(()));
    let starts = world.starts();
    world.stop_host();
    world.up();
    assert!(!world.is_marked(&session), "there is nothing to look at");
    assert_eq!((world.starts(), world.containers().len()), (starts, 0));

    world.twobox(&["agents", "add", "ada", "--provider", "scripted"]);
    assert_eq!(chat.ask("hello"), "echo: hello", "it comes back with its conversations");
    assert_eq!(live_tasks(&world), 0, "and without its tasks");
}

fn an_agent_that_is_removed_while_no_host_runs_starts_nothing_later(setup: Setup) {
    let world = setup.setting("schedule.min_interval", "1s").agent("ada", with_tasks()).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("task"), "every second");
    wait_for("the task", || (live_tasks(&world) == 1).then_some(()));
    let session = world.session("ada");
    let container = world.wait_container(&session);
    world.kill_host();
    world.twobox(&["agents", "remove", "ada"]);
    let starts = world.starts();
    world.up();
    container.wait_gone();
    wait_for("its tasks to end", || (live_tasks(&world) == 0).then_some(()));
    wait_for("the mark to go", || (!world.is_marked(&session)).then_some(()));
    assert_eq!(world.starts(), starts);
}

fn what_a_living_runner_prints_stays_small(setup: Setup) {
    let script = r#"
        while read -r turn; do
            head -c 3000000 /dev/zero | tr '\\0' x >&2
            echo '{"type":"reply","text":"said much"}'
            echo '{"type":"turn_done"}'
        done"#
        .replace("\\\\", "\\");
    let world = world_of(setup, &["/bin/sh", "-c", &script]);
    let chat = world.chat("ada");
    assert_eq!(chat.ask("talk"), "said much");
    let session = world.session("ada");
    let runner = world.container(&session).expect("it waits for more");
    let size = |name: &str| fs::metadata(session.folder.join(name)).map_or(0, |meta| meta.len());
    for _ in 0..2 {
        assert_eq!(chat.ask("talk"), "said much");
        wait_for("the log to be moved", || (size("runner.log") < 1 << 20).then_some(()));
        assert!(size("runner.log.1") > 0);
    }
    assert_eq!(world.container(&session), Some(runner), "the same runner");
    world.assert_fsck_clean();
}
