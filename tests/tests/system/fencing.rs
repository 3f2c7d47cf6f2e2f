//! One session, one runner: whoever comes second leaves, and nobody comes second before the first is
//! known to be gone. Two hosts on one directory are in `restart`.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use twobox_tests::{
    Container, Runtime, Session, Setup, World, binary, docker, image, on_all_runtimes, wait_for,
};

use crate::scripts::{hangs_at_first, slow};

on_all_runtimes!(
    a_second_runner_on_one_session_leaves_with_75_and_touches_nothing,
    no_successor_starts_while_a_runner_that_stands_still_may_live,
    a_runner_that_comes_back_while_it_is_being_stopped_is_not_answered_for_twice,
    many_messages_at_once_make_one_container,
);

/// Everything in the outbox half but the heartbeat of whoever lives there.
fn picture(session: &Session) -> BTreeMap<PathBuf, (u64, i64, i64, Vec<u8>)> {
    let entries = session.paths().out_dir().read_dir().unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| !path.ends_with("heartbeat"))
        .map(|path| {
            let meta = path.symlink_metadata().unwrap();
            let bytes = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            (path, (meta.ino(), meta.mtime(), meta.mtime_nsec(), bytes))
        })
        .collect()
}

/// Starts another runner on the same folders, as no host does.
fn second_runner(world: &World, session: &Session, first: &Container) -> Output {
    let stranger = "00000000-0000-4000-8000-000000000000";
    let ids =
        ["--install", stranger, "--session", &session.id, "--runner", stranger, "--idle-ms", "0"];
    match world.runtime() {
        Runtime::Process | Runtime::Sandbox => {
            let (paths, agent) = (session.paths(), world.agent_folder("ada"));
            let mut command = Command::new(binary("agent-runner"));
            command.args(ids).arg("--in").arg(paths.in_dir()).arg("--out").arg(paths.out_dir());
            command.arg("--program").arg(world.program_folder("ada"));
            command.arg("--work").arg(session.folder.join("work"));
            command.arg("--agent").arg(agent).output().unwrap()
        }
        Runtime::Docker => {
            let inspected: Value =
                serde_json::from_str(&docker(&["inspect", &first.handle])).unwrap();
            let user = inspected[0]["Config"]["User"].as_str().unwrap();
            let mut command = Command::new("docker");
            command.args(["run", "--rm", "--network", "none", "--user", user]);
            command.args(["--volumes-from", &first.handle, &image().unwrap()]);
            command.args(ids).output().unwrap()
        }
    }
}

fn a_second_runner_on_one_session_leaves_with_75_and_touches_nothing(setup: Setup) {
    let world = setup.agent("ada", slow(4000)).up();
    let chat = world.chat("ada");
    let (id, session, first) = world.occupy(&chat, "ada", "slow");
    let before = picture(&session);
    let second = second_runner(&world, &session, &first);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(75), "{said}");
    assert!(said.contains("another runner"), "{said}");
    assert_eq!(picture(&session), before);
    world.assert_answered_once(&chat, &session, &id, "echo: slow");
    assert_eq!(session.message(&id).tries, 0);
    assert_eq!(world.container(&session), Some(first), "the first one went on");
}

/// Stops a container after a second of silence, and gives it three to leave.
fn impatient(setup: Setup) -> Setup {
    setup
        .setting("limits.start_grace", "500ms")
        .setting("limits.heartbeat", "1s")
        .setting("limits.claim_tolerance", "1s")
        .setting("containers.stop_grace", "3s")
}

/// The first attempt takes a second and the others no time.
fn slow_at_first() -> Value {
    let first = json!([{ "sleep_ms": 1000 }, { "reply": "echo: {text}" }]);
    json!({
        "rules": [{ "match": ".", "attempt": 0, "do": first }],
        "otherwise": [{ "reply": "again: {text}" }],
    })
}

fn is_being_stopped(world: &World) -> bool {
    world.host_log().contains("no sign of life since it claimed")
}

fn no_successor_starts_while_a_runner_that_stands_still_may_live(setup: Setup) {
    let world = impatient(setup).agent("ada", hangs_at_first()).up();
    let chat = world.chat("ada");
    let (id, session, first) = world.occupy(&chat, "ada", "hang on");
    first.freeze();
    wait_for("the first to be gone", || {
        let (starts, lives) = (world.starts(), first.lives()); // in this order
        assert!(starts == 1 || !lives, "a successor was started beside it");
        (!lives).then_some(())
    });
    assert!(is_being_stopped(&world));
    world.assert_answered_once(&chat, &session, &id, "echo: hang on");
    assert_eq!((session.message(&id).tries, world.starts()), (1, 2));
    assert_eq!(chat.deliveries().len(), 1);
}

fn a_runner_that_comes_back_while_it_is_being_stopped_is_not_answered_for_twice(setup: Setup) {
    let world = impatient(setup).agent("ada", slow_at_first()).up();
    let chat = world.chat("ada");
    let (id, session, first) = world.occupy(&chat, "ada", "hello");
    first.freeze();
    wait_for("the host's patience to end", || is_being_stopped(&world).then_some(()));
    assert!(first.lives(), "it has been told to leave, and cannot hear it");
    if world.runtime() != Runtime::Docker {
        first.thaw(); // an engine does so itself
    }
    first.wait_gone();
    chat.wait_answer(&id);
    session.wait_settled();
    let answers: Vec<_> = chat.answers(&id).into_iter().map(|letter| letter.text).collect();
    let message = session.message(&id);
    // Whether its last words came in time is its luck; that they count is the rule.
    match message.tries {
        0 => assert_eq!(answers, ["echo: hello"]),
        _ => assert_eq!(answers, ["again: hello"]),
    }
    assert_eq!((message.status.as_str(), chat.deliveries().len()), ("completed", 1));
}

fn many_messages_at_once_make_one_container(setup: Setup) {
    const PEOPLE: usize = 4;
    const EACH: usize = 10;
    let world = setup.agent("ada", slow(0)).up();
    let watchers: Vec<_> = (0..PEOPLE).map(|_| world.chat("ada")).collect();
    for n in 0..PEOPLE * EACH {
        watchers[n % PEOPLE].hand_in(None, &format!("message {n}"));
    }
    let completed = |session: &Session| {
        session.messages().iter().filter(|message| message.status == "completed").count()
    };
    wait_for("every message to be answered", || {
        let session = world.sessions().pop()?;
        (completed(&session) == PEOPLE * EACH).then_some(())
    });
    let session = world.session("ada");
    session.wait_settled();
    assert_eq!(session.messages().len(), PEOPLE * EACH);
    assert!(session.messages().iter().all(|message| message.tries == 0));
    assert_eq!((world.starts(), world.containers().len()), (1, 1));
}
