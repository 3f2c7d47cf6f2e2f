//! The `bridge` channel: a program at the host's socket that carries messages both ways, with that program as the
//! witness of what was handed over.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use twobox_tests::{Bridge, Session, Setup, World, on_all_runtimes, on_process, wait_for};

use crate::scripts::echo;

on_all_runtimes!(what_a_bridge_hands_in_is_answered_through_it,);

on_process!(
    a_second_bridge_is_refused_while_the_first_is_there,
    what_waits_for_a_bridge_comes_with_it,
    what_a_bridge_says_of_a_message_is_what_becomes_of_it,
    a_bridge_that_dies_with_a_message_leaves_it_uncertain_without_keys,
    a_bridge_that_dies_with_a_message_is_followed_by_one_that_gets_it_with_keys,
    a_bridge_that_does_not_answer_is_sent_away,
    a_host_that_dies_with_a_message_at_a_bridge_never_hands_it_over_again_without_keys,
    a_host_that_dies_with_a_message_at_a_bridge_hands_it_over_again_with_keys,
    a_bridge_gets_what_is_long_in_parts_and_sees_what_an_agent_is_at,
    what_a_bridge_says_wrongly_is_told_and_changes_nothing,
    the_documented_bridge_loses_nothing_and_doubles_nothing,
);

/// `ada` listens to chat 42 of the channel `own`.
fn wired(setup: Setup, keys: bool, script: Value) -> World {
    let world = setup
        .setting("channels.own.kind", "bridge")
        .setting("channels.own.keys", keys)
        .agent("ada", script)
        .make();
    world.twobox(&["wire", "add", "ada", "own", "42"]);
    world
}

fn with_keys(keys: bool) -> Value {
    json!({ "keys": keys })
}

fn state(world: &World) -> Option<String> {
    world.status()?["channels"]["own"]["state"].as_str().map(str::to_owned)
}

#[track_caller]
fn wait_state(world: &World, wanted: &str) {
    wait_for(&format!("the channel to be {wanted}"), || (state(world)? == wanted).then_some(()));
}

/// Shows that the channel works: a further message is answered.
#[track_caller]
fn assert_goes_on(bridge: &mut Bridge, session: &Session, id: &str) {
    bridge.hand_in("own", "42", id, id);
    bridge.take(&format!("echo: {id}"));
    session.wait_delivery(&format!("echo: {id}"), "delivered");
}

fn what_a_bridge_hands_in_is_answered_through_it(setup: Setup) {
    let world = wired(setup, false, echo());
    world.up();
    wait_state(&world, "down");
    let mut bridge = world.bridge("own", &json!({ "name": "mine 1.0" }));
    wait_state(&world, "up");
    bridge.say(&json!({
        "op": "message", "channel": "own", "chat": "42", "thread": "t", "sender": "Ann", "id": "m1",
        "about": { "sender_id": "7", "group": true }, "text": "hello",
    }));
    bridge.wait("accepted");
    let letter = bridge.wait("deliver");
    assert_eq!((&letter["text"], &letter["chat"]), (&json!("echo: hello"), &json!("42")));
    assert_eq!((&letter["thread"], &letter["in_reply_to"]), (&json!("t"), &json!("m1")));
    bridge.answer(&letter, "delivered", &json!({ "platform_message_id": "p1" }));
    let session = world.session("ada");
    let record = session.wait_delivery("echo: hello", "delivered");
    assert_eq!(record.platform_message_id.as_deref(), Some("p1"));
    drop(bridge);
    wait_state(&world, "down");
    let status = world.status().unwrap();
    assert_eq!(status["channels"]["own"]["reason"], "no bridge is connected: start its program");
}

fn a_second_bridge_is_refused_while_the_first_is_there(setup: Setup) {
    let world = wired(setup, false, echo());
    world.up();
    let mut first = world.bridge("own", &json!({ "name": "first" }));
    let mut second = world.connect_bridge();
    second.say(&json!({ "op": "bridge", "channel": "own" }));
    let said = second.wait("error");
    assert_eq!(said["reason"], "another bridge is connected for own (first): end it first");
    let session_of = |bridge: &mut Bridge| {
        bridge.hand_in("own", "42", "m1", "hello");
        bridge.take("echo: hello");
        world.session("ada")
    };
    let session = session_of(&mut first);
    session.wait_delivery("echo: hello", "delivered");
    drop(first);
    wait_for("the seat to be free", || {
        second.say(&json!({ "op": "bridge", "channel": "own" }));
        (second.hear(Duration::from_secs(5))?["event"] == "bridging").then_some(())
    });
    assert_goes_on(&mut second, &session, "m2");
}

fn what_waits_for_a_bridge_comes_with_it(setup: Setup) {
    let world = wired(setup, false, echo());
    world.up();
    world.twobox(&["send", "--channel", "own", "--chat", "42", "--id", "m1", "hello"]);
    let session = world.session("ada");
    wait_for("its answer", || (!session.rows().is_empty()).then_some(()));
    let mut bridge = world.bridge("own", &json!({}));
    bridge.take("echo: hello");
    session.wait_delivery("echo: hello", "delivered");
}

fn what_a_bridge_says_of_a_message_is_what_becomes_of_it(setup: Setup) {
    let world = wired(setup, false, echo());
    world.up();
    let mut bridge = world.bridge("own", &json!({}));
    for (id, outcome, status) in
        [("never", "permanent", "failed"), ("perhaps", "uncertain", "uncertain")]
    {
        bridge.hand_in("own", "42", id, id);
        let letter = bridge.wait("deliver");
        bridge.answer(&letter, outcome, &json!({ "error": "no such room\u{1b}[2J" }));
        let record = world.session("ada").wait_delivery(&format!("echo: {id}"), status);
        let error = record.error.unwrap();
        assert!(error.contains("no such room") && !error.contains('\u{1b}'), "{error}");
    }
    let session = world.session("ada");
    bridge.hand_in("own", "42", "later", "later");
    let letter = bridge.wait("deliver");
    bridge.answer(&letter, "transient", &json!({ "error": "429", "retry_after_ms": 1500 }));
    assert_eq!(session.wait_delivery("echo: later", "held").error.as_deref(), Some("429"));
    assert_eq!(bridge.hear(Duration::from_millis(700)), None, "not before it said");
    assert_eq!(bridge.take("echo: later")["key"], letter["key"]);
    session.wait_delivery("echo: later", "delivered");
}

fn a_bridge_that_dies_with_a_message_leaves_it_uncertain_without_keys(setup: Setup) {
    let world = wired(setup, false, echo());
    world.up();
    let mut bridge = world.bridge("own", &json!({}));
    bridge.hand_in("own", "42", "m1", "hello");
    bridge.wait("deliver");
    drop(bridge);
    let session = world.session("ada");
    let record = session.wait_delivery("echo: hello", "uncertain");
    assert!(record.error.unwrap().contains("left before it had answered"));
    let mut next = world.bridge("own", &json!({}));
    assert_goes_on(&mut next, &session, "m2");
}

fn a_bridge_that_dies_with_a_message_is_followed_by_one_that_gets_it_with_keys(setup: Setup) {
    let world = wired(setup, true, echo());
    world.up();
    let mut bridge = world.bridge("own", &with_keys(true));
    bridge.hand_in("own", "42", "m1", "hello");
    let letter = bridge.wait("deliver");
    drop(bridge);
    let session = world.session("ada");
    let mut next = loop {
        let mut next = world.connect_bridge();
        next.say(&json!({ "op": "bridge", "channel": "own", "keys": true }));
        if next.hear(Duration::from_secs(5)).unwrap()["event"] == "bridging" {
            break next;
        }
    };
    assert_eq!(next.take("echo: hello")["key"], letter["key"], "which is how it knows");
    session.wait_delivery("echo: hello", "delivered");
    assert_eq!(next.wait("forget")["key"], letter["key"], "it is not sent again");
    assert_goes_on(&mut next, &session, "m2");
}

fn a_bridge_that_does_not_answer_is_sent_away(setup: Setup) {
    let world = wired(setup.setting("channels.own.timeout", "1s"), false, echo());
    world.up();
    let mut bridge = world.bridge("own", &json!({}));
    bridge.hand_in("own", "42", "m1", "hello");
    bridge.wait("deliver");
    bridge.wait_closed();
    let session = world.session("ada");
    let record = session.wait_delivery("echo: hello", "uncertain");
    assert_eq!(record.error.as_deref(), Some("the bridge did not answer within 1s"));
    let mut next = world.bridge("own", &json!({}));
    assert_goes_on(&mut next, &session, "m2");
}

fn a_host_that_dies_with_a_message_at_a_bridge_never_hands_it_over_again_without_keys(
    setup: Setup,
) {
    let world = wired(setup, false, echo());
    world.up();
    let mut bridge = world.bridge("own", &json!({}));
    bridge.hand_in("own", "42", "m1", "hello");
    bridge.wait("deliver");
    world.kill_host();
    world.up();
    let session = world.session("ada");
    let mut next = world.bridge("own", &json!({}));
    session.wait_delivery("echo: hello", "uncertain");
    assert_goes_on(&mut next, &session, "m2");
}

fn a_host_that_dies_with_a_message_at_a_bridge_hands_it_over_again_with_keys(setup: Setup) {
    let world = wired(setup, true, echo());
    world.up();
    let mut bridge = world.bridge("own", &with_keys(true));
    bridge.hand_in("own", "42", "m1", "hello");
    let letter = bridge.wait("deliver");
    world.kill_host();
    world.up();
    let session = world.session("ada");
    let mut next = world.bridge("own", &with_keys(true));
    assert_eq!(next.take("echo: hello")["key"], letter["key"]);
    session.wait_delivery("echo: hello", "delivered");
    assert_goes_on(&mut next, &session, "m2");
}

fn a_bridge_gets_what_is_long_in_parts_and_sees_what_an_agent_is_at(setup: Setup) {
    let long = (1..=40).map(|number| format!("line {number}")).collect::<Vec<_>>().join("\n");
    let script = json!({ "otherwise": [{ "sleep_ms": 500 }, { "reply": long }] });
    let world = wired(setup, false, script);
    world.up();
    let mut bridge = world.bridge("own", &json!({ "longest": 150, "progress": true }));
    bridge.hand_in("own", "42", "m1", "hello");
    let activity = bridge.wait("activity");
    assert_eq!((&activity["chat"], &activity["progress"]["message"]), (&json!("42"), &json!("m1")));
    let first = bridge.wait("deliver");
    bridge.answer(&first, "delivered", &json!({}));
    let mut texts = vec![first["text"].as_str().unwrap().to_owned()];
    let mut keys = vec![first["key"].as_str().unwrap().to_owned()];
    let second = bridge.wait("deliver");
    texts.push(second["text"].as_str().unwrap().to_owned());
    keys.push(second["key"].as_str().unwrap().to_owned());
    assert_eq!(keys[1], format!("{}/2", keys[0]));
    bridge.answer(&second, "transient", &json!({ "error": "busy", "retry_after_ms": 0 }));
    while texts.join("\n") != long {
        let part = bridge.wait("deliver");
        if part["key"] == keys[1].as_str() {
            assert_eq!(part["text"], texts[1].as_str(), "it goes on where it was");
        } else {
            texts.push(part["text"].as_str().unwrap().to_owned());
        }
        bridge.answer(&part, "delivered", &json!({}));
        assert!(texts.iter().all(|text| text.len() <= 150), "{texts:?}");
    }
    let session = world.session("ada");
    session.wait_delivery(&long, "delivered");
}

fn what_a_bridge_says_wrongly_is_told_and_changes_nothing(setup: Setup) {
    let world = wired(setup, true, echo());
    world.up();
    let mut bridge = world.connect_bridge();
    let cases = [
        (json!({ "op": "bridge", "channel": "other" }), "no channel \"other\" of kind \"bridge\""),
        (json!({ "op": "bridge", "channel": "terminal" }), "no channel \"terminal\" of kind"),
        (json!({ "op": "bridge", "channel": "own" }), "channels.own.keys = true promises"),
        (json!({ "op": "bridge", "channel": "own", "keys": true, "longest": 9 }), "longest: say"),
        (json!({ "op": "bridge", "channel": "own", "name": "\u{7}" }), "name: use 1 to 255 bytes"),
        (json!({ "op": "outcome", "key": "k", "outcome": "delivered" }), "say bridge first"),
        (json!({ "op": "outcome", "key": "k", "outcome": "lost" }), "unknown variant `lost`"),
    ];
    for (line, expected) in cases {
        bridge.say(&line);
        let said = bridge.wait("error");
        assert!(said["reason"].as_str().unwrap().contains(expected), "{said}");
    }
    bridge.say(&json!({ "op": "bridge", "channel": "own", "keys": true }));
    bridge.wait("bridging");
    bridge.say(&json!({ "op": "bridge", "channel": "own", "keys": true }));
    let said = bridge.wait("error");
    assert!(said["reason"].as_str().unwrap().contains("is a bridge already"), "{said}");
    // Of a message that it was never handed.
    bridge.say(&json!({ "op": "outcome", "key": "made up", "outcome": "delivered" }));
    bridge.hand_in("own", "42", "m1", "hello");
    bridge.take("echo: hello");
    world.session("ada").wait_delivery("echo: hello", "delivered");
}

/// The program of the page, which is killed when this is dropped.
struct Program(Child);

impl Program {
    fn start(world: &World, folder: &Path) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/bridge.py");
        let socket = world.data().join("host.sock");
        let mut command = Command::new("python3");
        command.args([Path::new(script), &socket, Path::new("own"), folder]).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn files(chat: &Path, ending: &str) -> Vec<String> {
    let all = std::fs::read_dir(chat).unwrap().map(|file| file.unwrap().path());
    let ours = all.filter(|path| path.extension().is_some_and(|it| it == ending));
    let mut texts: Vec<_> = ours.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    texts.sort();
    texts
}

fn the_documented_bridge_loses_nothing_and_doubles_nothing(setup: Setup) {
    const COUNT: usize = 9;
    let world = wired(setup, true, echo());
    let folder = tempfile::tempdir().unwrap();
    let chat = folder.path().join("42");
    let elsewhere = folder.path().join("43");
    std::fs::create_dir(&chat).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("m1.in"), "hello").unwrap();
    std::fs::write(elsewhere.join("a\\b.in"), "no id").unwrap();
    world.up();
    let mut program = Some(Program::start(&world, folder.path()));
    for number in 0..COUNT {
        let fresh = chat.join("fresh");
        std::fs::write(&fresh, format!("say {number}")).unwrap();
        let written = chat.join(format!("m{number}.in"));
        std::fs::rename(fresh, &written).unwrap();
        // In the middle of whatever they are at.
        match number % 3 {
            1 => {
                wait_for("it to be seen", || (!written.exists()).then_some(()));
                drop(program.take());
                program = Some(Program::start(&world, folder.path()));
            }
            2 => {
                wait_for("it to be seen", || (!written.exists()).then_some(()));
                world.kill_host();
                world.up();
            }
            _ => {}
        }
        wait_for("its answer", || (files(&chat, "out").len() > number).then_some(()));
    }
    world.session("ada").wait_settled();
    let expected: Vec<_> = (0..COUNT).map(|number| format!("echo: say {number}")).collect();
    assert_eq!(files(&chat, "out"), expected);
    assert_eq!((files(&chat, "said").len(), files(&chat, "in").len()), (COUNT, 0));
    // Nobody is wired there, and that is no id of a message.
    wait_for("what nobody hears to be put aside", || {
        (files(&elsewhere, "refused").len() == 2).then_some(())
    });
}
