//! The `command` channel: messages of any chat, in through `twobox send` and out through a program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::fault::CrashPoint;
use twobox_tests::{
    Courier, Mode, Session, Setup, World, binary, on_all_runtimes, on_process, wait_for,
};

use crate::scripts::echo;

on_all_runtimes!(a_message_of_a_chat_is_answered_there,);

on_process!(
    two_programs_are_two_channels_and_neither_waits_for_the_other,
    what_the_platform_says_of_a_message_reaches_the_agent,
    an_agent_sends_to_a_chat_by_its_name_and_only_while_it_is_wired,
    what_is_sent_to_another_chat_quotes_no_message_of_that_chat,
    what_the_host_made_is_quoted_by_no_letter,
    the_files_of_a_letter_reach_its_program_and_go_with_it,
    a_program_that_asks_for_another_time_gets_it_and_nothing_overtakes,
    a_letter_that_is_refused_for_good_is_told_and_later_ones_go_on,
    a_channel_that_refuses_for_now_is_seen_everywhere,
    a_hanging_program_is_killed_and_its_letter_uncertain_without_keys,
    a_hanging_program_is_killed_and_its_letter_sent_again_with_keys,
    a_missing_program_keeps_its_letters_until_it_is_there,
    what_the_host_was_started_with_reaches_no_program,
    a_host_that_dies_before_or_after_a_call_without_keys_never_makes_a_second,
    a_host_that_dies_during_a_call_without_keys_never_makes_a_second,
    a_host_that_dies_after_a_call_with_keys_makes_it_again_under_the_same_key,
    a_notice_without_keys_is_never_sent_twice,
    a_call_may_end_while_the_host_stops,
    a_call_that_does_not_end_while_the_host_stops_is_killed,
    the_documented_scripts_carry_a_conversation,
);

/// `ada` listens to chat 42 through `courier`.
fn wired(setup: Setup, courier: &Courier, keys: bool, script: Value) -> World {
    let world = setup.courier(courier, keys).agent("ada", script).make();
    world.wire("ada", "42");
    world
}

/// The lines of the agent's inbox that the host wrote itself.
fn notes(session: &Session) -> Vec<String> {
    let content = |content: &str| serde_json::from_str::<Value>(content).unwrap();
    let notes = session.messages().into_iter().map(|message| content(&message.content));
    let texts = notes.filter_map(|content| content["text"].as_str().map(str::to_owned));
    texts.filter(|text| text.starts_with("A message to ")).collect()
}

fn dead(world: &World) -> Vec<(String, String, String)> {
    let list: Value = serde_json::from_str(&world.twobox(&["--json", "dead", "list"])).unwrap();
    let word = |dead: &Value, key: &str| dead[key].as_str().unwrap().to_owned();
    let all = list["dead"].as_array().unwrap().iter();
    all.map(|dead| (word(dead, "status"), word(dead, "text"), word(dead, "reason"))).collect()
}

/// Shows that the channel works: a further message is answered.
#[track_caller]
fn assert_goes_on(world: &World, courier: &Courier, session: &Session) {
    world.hand_in("42", "further", "further");
    session.wait_delivery("echo: further", "delivered");
    session.wait_settled();
    assert_eq!(courier.texts().last().unwrap(), "echo: further");
}

fn a_message_of_a_chat_is_answered_there(setup: Setup) {
    let courier = Courier::new();
    courier.plan(&json!([{ "text": "", "says": { "platform_message_id": "p1" } }]));
    let world = wired(setup, &courier, false, echo());
    world.up();
    let hand_in = || {
        let to = ["send", "--channel", "command", "--chat", "42", "--thread", "t", "--id", "m1"];
        world.twobox(&[&to[..], &["hello"]].concat());
    };
    hand_in();
    hand_in();
    let session = world.session("ada");
    let record = session.wait_delivery("echo: hello", "delivered");
    assert_eq!(record.platform_message_id.as_deref(), Some("p1"));
    hand_in();
    session.wait_settled();
    assert_eq!(session.messages().len(), 1, "stored once");
    let calls = courier.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    let call = &calls[0];
    assert_eq!((call.chat.as_str(), call.thread.as_deref()), ("42", Some("t")));
    assert_eq!((call.text.as_str(), call.in_reply_to.as_deref()), ("echo: hello", Some("m1")));
    assert!(call.key.ends_with(&format!(":{}:{}", session.id, session.rows()[0].id)));
    let elsewhere = world.run(&["send", "--channel", "command", "--chat", "43", "hello"]);
    assert_eq!(elsewhere.status.code(), Some(1));
    let said = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert!(said.contains("no agent listens to command \"43\""), "{said}");
}

fn an_agent_sends_to_a_chat_by_its_name_and_only_while_it_is_wired(setup: Setup) {
    let courier = Courier::new();
    let tell = json!([{ "send": { "to": "family", "text": "news: {text}" } }, { "reply": "told" }]);
    // Each turn has a container of its own, which learns the names when it starts.
    let world = setup
        .courier(&courier, false)
        .setting("containers.idle", "100ms")
        .agent("ada", json!({ "otherwise": tell }))
        .up();
    let chat = world.chat("ada");
    world.twobox(&["wire", "add", "ada", "command", "43", "--name", "family"]);
    assert_eq!(chat.ask("one"), "told", "no restart of the host");
    let session = world.session("ada");
    session.wait_delivery("news: one", "delivered");
    let calls = courier.calls();
    assert_eq!((calls.len(), calls[0].chat.as_str()), (1, "43"));
    world.twobox(&["wire", "remove", "ada", "command", "43"]);
    world.wait_no_containers();
    assert_eq!(chat.ask("two"), "told");
    session.wait_settled();
    assert_eq!(session.rows().len(), 3, "it knows no such name any more");
    let refused = world.run(&["send", "--channel", "command", "--chat", "43", "hello"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(courier.calls().len(), 1);
}

/// Ids are unique in a chat only: 42 and 43 have an `m1` each.
fn what_is_sent_to_another_chat_quotes_no_message_of_that_chat(setup: Setup) {
    let courier = Courier::new();
    let tell = json!([{ "send": { "to": "family", "text": "news: {text}" } }, { "reply": "told" }]);
    let script = json!({
        "rules": [{ "match": "^tell", "do": tell }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let world = wired(setup, &courier, false, script);
    world.twobox(&["wire", "add", "ada", "command", "43", "--name", "family"]);
    world.up();
    world.hand_in("43", "m1", "hello");
    courier.wait_calls(1);
    world.hand_in("42", "m1", "tell them");
    let calls = courier.wait_calls(3);
    let of = |text: &str| {
        let call = calls.iter().find(|call| call.text == text).unwrap();
        (call.chat.as_str(), call.in_reply_to.as_deref(), call.answers.clone())
    };
    assert_eq!(of("echo: hello"), ("43", Some("m1"), vec!["m1".to_owned()]));
    assert_eq!(of("news: tell them"), ("43", None, vec![]), "nobody there asked");
    assert_eq!(of("told"), ("42", Some("m1"), vec!["m1".to_owned()]));
}

/// A task, and a run in the conversation, have the chat as their origin and ids that it never saw.
fn what_the_host_made_is_quoted_by_no_letter(setup: Setup) {
    let courier = Courier::new();
    let due = SystemClock.now();
    let later = json!({ "action": "schedule_task", "prompt": "ring", "process_after": due });
    let script = json!({
        "rules": [{ "match": "^later", "do": [{ "system": later }, { "reply": "as you wish" }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let world = wired(setup, &courier, false, script);
    world.up();
    world.hand_in("42", "m1", "later");
    courier.wait_calls(2);
    let session = world.session("ada").id;
    let order =
        ["schedules", "add", "news", "--agent", "ada", "--session", &session, "--prompt", "news"];
    world.twobox(&[&order[..], &["--every", "24h"]].concat());
    world.twobox(&["schedules", "run", "news"]);
    let calls = courier.wait_calls(3);
    let of = |text: &str| {
        let call = calls.iter().find(|call| call.text == text).unwrap();
        (call.chat.as_str(), call.in_reply_to.as_deref(), call.answers.clone())
    };
    assert_eq!(of("as you wish"), ("42", Some("m1"), vec!["m1".to_owned()]));
    assert_eq!(of("echo: ring"), ("42", None, vec![]), "a task");
    assert_eq!(of("echo: news"), ("42", None, vec![]), "a run in the conversation");
}

fn the_files_of_a_letter_reach_its_program_and_go_with_it(setup: Setup) {
    let courier = Courier::new();
    courier.plan(&json!([{ "text": "last", "hang": true }]));
    let file = json!({ "file": { "name": "plan.txt", "text": "the plan" } });
    let script = json!({ "otherwise": [{ "reply": "see: {text}" }, file] });
    let world = wired(setup, &courier, false, script);
    world.up();
    let left = || {
        let letters = world.data().join("scratch/letters");
        std::fs::read_dir(letters).map_or(0, Iterator::count)
    };
    world.hand_in("42", "m1", "first");
    let session = world.session("ada");
    session.wait_delivery("see: first", "delivered");
    session.wait_settled();
    let calls = courier.calls();
    assert_eq!(calls.iter().flat_map(|call| &call.contents).collect::<Vec<_>>(), ["the plan"]);
    assert_eq!(left(), 0, "they went with the program");
    world.hand_in("42", "m2", "last");
    courier.wait_calls(2);
    world.kill_host();
    assert_eq!(left(), 1, "nobody was there to remove it");
    world.up();
    assert_eq!(left(), 0, "the next host removes it");
}

fn a_program_that_asks_for_another_time_gets_it_and_nothing_overtakes(setup: Setup) {
    let courier = Courier::new();
    courier.plan(&json!([{ "text": "one", "first": 1, "complains": "busy", "exit": 75 }]));
    let world = wired(setup, &courier, false, echo());
    world.up();
    world.hand_in("42", "m1", "one");
    let session = world.session("ada");
    let held = session.wait_delivery("echo: one", "held");
    assert_eq!(held.error.as_deref(), Some("busy"));
    world.hand_in("42", "m2", "two");
    session.wait_delivery("echo: two", "delivered");
    session.wait_settled();
    assert_eq!(courier.texts(), ["echo: one", "echo: one", "echo: two"]);
    let calls = courier.calls();
    assert_eq!(calls[0].key, calls[1].key);
    assert_ne!(calls[0].key, calls[2].key);
    assert!(session.deliveries().iter().all(|record| record.status == "delivered"));
    assert_eq!((dead(&world), notes(&session)), (vec![], vec![]));
}

fn a_letter_that_is_refused_for_good_is_told_and_later_ones_go_on(setup: Setup) {
    let courier = Courier::new();
    courier.plan(&json!([{ "text": "bad", "complains": "no such room", "exit": 1 }]));
    let world = wired(setup, &courier, false, echo());
    world.up();
    world.hand_in("42", "m1", "bad");
    let session = world.session("ada");
    let record = session.wait_delivery("echo: bad", "failed");
    assert_eq!(record.error.as_deref(), Some("no such room"));
    assert_goes_on(&world, &courier, &session);
    assert_eq!(courier.texts(), ["echo: bad", "echo: further"]);
    let found = dead(&world);
    assert_eq!(found, [("failed".into(), "echo: bad".into(), "no such room".into())]);
    let note = "A message to command \"42\" was not delivered: no such room";
    assert_eq!(notes(&session), [note]);
    assert!(world.host_log().contains("no such room"), "the operator is told");
}

fn a_hanging_program_is_killed_and_its_letter_uncertain_without_keys(setup: Setup) {
    let courier = Courier::new();
    courier.plan(&json!([{ "text": "hang", "hang": true }]));
    let setup = setup.setting("channels.command_timeout", "1s");
    let world = wired(setup, &courier, false, echo());
    world.up();
    world.hand_in("42", "m1", "hang");
    let session = world.session("ada");
    let record = session.wait_delivery("echo: hang", "uncertain");
    let error = "the program was killed after 1s";
    assert_eq!(record.error.as_deref(), Some(error));
    assert!(!courier.calls()[0].lives());
    assert_goes_on(&world, &courier, &session);
    assert_eq!(courier.texts(), ["echo: hang", "echo: further"]);
    assert_eq!(dead(&world), [("uncertain".into(), "echo: hang".into(), error.into())]);
    let note = format!("A message to command \"42\" may not have arrived: {error}");
    assert_eq!(notes(&session), [note]);
}

fn a_hanging_program_is_killed_and_its_letter_sent_again_with_keys(setup: Setup) {
    let courier = Courier::new();
    courier.plan(&json!([{ "text": "hang", "first": 1, "hang": true }]));
    let setup = setup.setting("channels.command_timeout", "1s");
    let world = wired(setup, &courier, true, echo());
    world.up();
    world.hand_in("42", "m1", "hang");
    let session = world.session("ada");
    session.wait_delivery("echo: hang", "delivered");
    let calls = courier.calls();
    assert_eq!((calls.len(), &calls[0].key), (2, &calls[1].key));
    assert!(!calls[0].lives());
    assert_goes_on(&world, &courier, &session);
    assert_eq!((dead(&world), notes(&session)), (vec![], vec![]));
}

fn a_missing_program_keeps_its_letters_until_it_is_there(setup: Setup) {
    let courier = Courier::new();
    std::fs::remove_file(courier.program()).unwrap();
    let world = wired(setup, &courier, false, echo());
    world.up();
    world.hand_in("42", "m1", "hello");
    let session = world.session("ada");
    let held = session.wait_delivery("echo: hello", "held");
    assert!(held.error.unwrap().contains("No such file"));
    courier.install();
    session.wait_delivery("echo: hello", "delivered");
    assert_eq!(courier.texts(), ["echo: hello"]);
}

/// Starts a host that dies at `point`, has it answer `hello`, and starts another one.
fn die_at(world: &World, point: CrashPoint) -> Session {
    world.up_with(&[("TWOBOX_CRASH_AT", point.name())]);
    world.hand_in("42", "m1", "hello");
    let status = world.wait_host_gone();
    assert_eq!(status.signal(), Some(nix::libc::SIGKILL), "the host ended with {status}");
    world.up();
    world.session("ada")
}

fn a_host_that_dies_before_or_after_a_call_without_keys_never_makes_a_second(setup: Setup) {
    let runtime = setup.runtime();
    for (point, calls) in [(CrashPoint::HostDeliverAnnounced, 0), (CrashPoint::HostDeliverSent, 1)]
    {
        let courier = Courier::new();
        let world = wired(Setup::new(runtime), &courier, false, echo());
        let session = die_at(&world, point);
        let record = session.wait_delivery("echo: hello", "uncertain");
        let error = "the host stopped while the channel was being called";
        assert_eq!(record.error.as_deref(), Some(error));
        assert_goes_on(&world, &courier, &session);
        assert_eq!(courier.texts().len(), calls + 1, "{}: {:?}", point.name(), courier.texts());
        assert_eq!(dead(&world), [("uncertain".into(), "echo: hello".into(), error.into())]);
        assert_eq!(notes(&session).len(), 1, "{:?}", notes(&session));
    }
}

fn a_host_that_dies_during_a_call_without_keys_never_makes_a_second(setup: Setup) {
    let courier = Courier::new();
    courier.plan(&json!([{ "text": "hello", "hang": true }]));
    let world = wired(setup, &courier, false, echo());
    world.up();
    world.hand_in("42", "m1", "hello");
    let call = courier.wait_calls(1).remove(0);
    world.kill_host();
    assert!(call.lives(), "it goes on by itself");
    world.up();
    let session = world.session("ada");
    session.wait_delivery("echo: hello", "uncertain");
    assert_goes_on(&world, &courier, &session);
    assert_eq!(courier.texts(), ["echo: hello", "echo: further"]);
}

fn a_host_that_dies_after_a_call_with_keys_makes_it_again_under_the_same_key(setup: Setup) {
    let courier = Courier::new();
    let world = wired(setup, &courier, true, echo());
    let session = die_at(&world, CrashPoint::HostDeliverSent);
    session.wait_delivery("echo: hello", "delivered");
    assert_goes_on(&world, &courier, &session);
    assert_eq!(courier.texts(), ["echo: hello", "echo: hello", "echo: further"]);
    let calls = courier.calls();
    assert_eq!(calls[0].key, calls[1].key, "which is how the program knows");
    assert_eq!((dead(&world), notes(&session)), (vec![], vec![]));
}

fn a_notice_without_keys_is_never_sent_twice(setup: Setup) {
    let runtime = setup.runtime();
    let failure = json!({ "reason": "auth_failed", "detail": "no key", "retryable": false });
    let fails = json!({ "otherwise": [{ "fail": failure }] });
    for (point, calls) in [(CrashPoint::HostDeliverAnnounced, 0), (CrashPoint::HostDeliverSent, 1)]
    {
        let courier = Courier::new();
        let world = wired(Setup::new(runtime), &courier, false, fails.clone());
        let session = die_at(&world, point);
        wait_for("the notice to be uncertain", || {
            let found = dead(&world);
            found
                .iter()
                .any(|(status, text, _)| status == "uncertain" && text.contains("no key"))
                .then_some(())
        });
        world.set_script("ada", &echo());
        assert_goes_on(&world, &courier, &session);
        assert_eq!(courier.texts().len(), calls + 1, "{}: {:?}", point.name(), courier.texts());
    }
}

fn a_call_may_end_while_the_host_stops(setup: Setup) {
    let courier = Courier::new();
    courier.plan(&json!([{ "text": "slow", "sleep_ms": 1500 }]));
    let world = wired(setup, &courier, false, echo());
    world.up();
    world.hand_in("42", "m1", "slow");
    courier.wait_calls(1);
    world.stop_host();
    let record = world.session("ada").delivery_of("echo: slow").unwrap();
    assert_eq!(record.status, "delivered", "{record:?}");
}

fn a_call_that_does_not_end_while_the_host_stops_is_killed(setup: Setup) {
    let courier = Courier::new();
    courier.plan(&json!([{ "text": "hang", "hang": true }]));
    let world = wired(setup.setting("shutdown.grace", "1s"), &courier, false, echo());
    world.up();
    world.hand_in("42", "m1", "hang");
    let call = courier.wait_calls(1).remove(0);
    world.stop_host();
    wait_for("the program to be gone", || (!call.lives()).then_some(()));
    let session = world.session("ada");
    assert_eq!(session.delivery_of("echo: hang").unwrap().status, "sending");
    world.up();
    session.wait_delivery("echo: hang", "uncertain");
    assert_goes_on(&world, &courier, &session);
    assert_eq!(courier.texts(), ["echo: hang", "echo: further"]);
}

/// A web hook that answers by what it is told, and keeps what it has taken.
struct Hook {
    address: String,
    taken: Arc<Mutex<Vec<(String, String)>>>,
}

impl Hook {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&taken);
        // It ends with the test's process.
        std::thread::spawn(move || {
            let mut busy = true;
            for stream in listener.incoming() {
                Self::serve(&stream.unwrap(), &kept, &mut busy);
            }
        });
        Self { address, taken }
    }

    fn serve(mut stream: &TcpStream, taken: &Mutex<Vec<(String, String)>>, busy: &mut bool) {
        let mut input = BufReader::new(stream);
        let (mut key, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            input.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                match line.trim_end() {
                    "" => break,
                    _request => continue,
                }
            };
            match name.to_lowercase().as_str() {
                "idempotency-key" => key = value.to_owned(),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let text = body["text"].as_str().unwrap().to_owned();
        let status = match text.as_str() {
            "echo: busy" if std::mem::take(busy) => "503 Busy",
            "echo: gone" => "404 Gone",
            "echo: unsure" => return,
            _ => "204 Fine",
        };
        taken.lock().unwrap().push((key, format!("{} {text}", &status[..3])));
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).unwrap();
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }
}

fn the_documented_scripts_carry_a_conversation(setup: Setup) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").canonicalize().unwrap();
    let script = |name: &str| docs.join("examples").join(name);
    let page = std::fs::read_to_string(docs.join("channels.md")).unwrap();
    for name in ["hook.sh", "feed.sh"] {
        let text = std::fs::read_to_string(script(name)).unwrap();
        assert!(page.contains(&text), "docs/channels.md does not show docs/examples/{name}");
    }
    for tool in ["jq", "curl"] {
        if Command::new(tool).arg("--version").output().is_err() {
            eprintln!("SKIPPED: {tool} is missing, so the documented scripts are not run");
            return;
        }
    }
    let hook = Hook::open();
    let world =
        setup.setting("channels.command", script("hook.sh").display()).agent("ada", echo()).make();
    std::fs::create_dir(world.data().join("hooks")).unwrap();
    std::fs::write(world.data().join("hooks/42"), &hook.address).unwrap();
    for chat in ["42", "43"] {
        world.wire("ada", chat);
    }
    // Every user of the machine sees what programs are called with: these write it down.
    let called = world.aside().join("called");
    let wrapped = world.aside().join("bin");
    std::fs::create_dir(&wrapped).unwrap();
    let ours = std::env::var("PATH").unwrap();
    let real = format!("{}:{ours}", binary("twobox").parent().unwrap().display());
    for tool in ["jq", "curl", "twobox"] {
        let file = wrapped.join(tool);
        let (called, name) = (called.display(), tool);
        let text = format!(
            "#!/bin/sh\nprintf '%s ' {name} \"$@\" >> {called}\nPATH='{real}' exec {name} \"$@\"\n"
        );
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{real}", wrapped.display());
    world.up_with(&[("PATH", &path)]);
    let feed = |chat: &str, id: &str, text: &str| {
        let mut feed = Command::new(script("feed.sh"))
            .env("TWOBOX_DATA", world.data())
            .env("PATH", &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let message = json!({ "chat": chat, "id": id, "text": text });
        let without = json!({ "chat": chat, "text": "left out, without an id" });
        let lines = format!("{without}\n{message}\nno JSON\n{message}");
        writeln!(feed.stdin.take().unwrap(), "{lines}").unwrap();
        assert!(feed.wait().unwrap().success());
    };
    let odd = "--help \"two\nlines\" $(exit 3)";
    feed("42", "m1", odd);
    let session = world.session("ada");
    let echoed = format!("echo: {odd}");
    session.wait_delivery(&echoed, "delivered");
    let cases = [
        ("busy", "delivered", None),
        ("gone", "failed", Some("the hook answered 404")),
        ("unsure", "uncertain", Some("the program was killed by signal 9")),
        ("fine", "delivered", None),
        ("-1001234", "delivered", None),
    ];
    for (text, status, error) in cases {
        feed("42", text, text);
        let record = session.wait_delivery(&format!("echo: {text}"), status);
        assert_eq!(record.error.as_deref(), error, "{text}");
    }
    let busy = [
        "503 echo: busy",
        "204 echo: busy",
        "404 echo: gone",
        "204 echo: fine",
        "204 echo: -1001234",
    ];
    assert_eq!(hook.taken()[1..], busy);
    assert_eq!(hook.taken()[0], format!("204 {echoed}"));
    let key = |number: usize| hook.taken.lock().unwrap()[number].0.clone();
    assert_eq!((key(1), key(1).contains(&session.id)), (key(2), true));
    assert_ne!(key(2), key(3));
    feed("43", "n1", "hello");
    let other = world.sessions().into_iter().find(|other| other.id != session.id).unwrap();
    let record = other.wait_delivery("echo: hello", "failed");
    assert!(record.error.unwrap().contains("hooks/43: No such file"));

    let called = std::fs::read_to_string(called).unwrap();
    for tool in ["jq", "curl", "twobox"] {
        assert!(called.contains(&format!("{tool} ")), "the test can tell: {called}");
    }
    for secret in [hook.address.trim_end_matches('/'), "two\nlines", "busy", "gone", "unsure"] {
        // The ids are called like the texts.
        let shown = called.replace(&format!("--id {secret} "), "");
        assert!(!shown.contains(secret), "{secret:?} is seen by everybody: {called}");
    }
}

fn what_the_platform_says_of_a_message_reaches_the_agent(setup: Setup) {
    let courier = Courier::new();
    let world = wired(setup, &courier, false, echo());
    // It says what it is told about the message, without the quotes.
    let says = r##"read -r turn
        about=$(printf '%s' "$turn" | sed 's/.*"about":{\([^}]*\)}.*/\1/' | tr -d '"')
        printf '{"type":"reply","text":"%s"}\n{"type":"turn_done"}\n' "$about""##;
    let command = json!({ "provider": "command", "command": ["sh", "-c", says] });
    world.configure_agent("ada", &command);
    world.up();
    let to = ["send", "--channel", "command", "--chat", "42", "--id", "m1", "--sender", "Ann"];
    let about = ["--sender-id", "7", "--group", "--mentioned", "--reply-to", "m0"];
    let when = ["--sent-at", "2027-01-15T09:00:00+01:00", "hello"];
    world.twobox(&[&to[..], &about, &when].concat());
    let text = wait_for("an answer", || courier.texts().pop());
    let when = "sent_at:2027-01-15T08:00:00.000Z";
    assert_eq!(text, format!("sender_id:7,group:true,mentioned:true,reply_to:m0,{when}"));
    let odd = ["send", "--channel", "command", "--chat", "42", "--reply-to", "\u{7}", "hello"];
    let refused = world.run(&odd);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("reply_to"), "{said}");
}

fn two_programs_are_two_channels_and_neither_waits_for_the_other(setup: Setup) {
    let [rooms, sms] = [(); 2].map(|()| Courier::new());
    let world = setup
        .courier(&rooms, false)
        .setting("channels.sms.kind", "command")
        .setting("channels.sms.program", sms.program().display())
        .setting("channels.sms.keys", true)
        .agent_with("ada", Mode::PerThread, echo())
        .make();
    world.wire("ada", "42");
    world.twobox(&["wire", "add", "ada", "sms", "42", "--name", "phone"]);
    world.up();
    let send = |channel: &str, id: &str| {
        world.twobox(&["send", "--channel", channel, "--chat", "42", "--id", id, id]);
    };
    // The chats have the same id, and their messages too.
    send("command", "m1");
    send("sms", "m1");
    for courier in [&rooms, &sms] {
        wait_for("an answer", || (courier.texts() == ["echo: m1"]).then_some(()));
    }
    std::fs::remove_file(rooms.program()).unwrap();
    send("command", "m2");
    send("sms", "m2");
    wait_for("the other answer", || (sms.texts() == ["echo: m1", "echo: m2"]).then_some(()));
    let status = wait_for("its trouble", || {
        let status = world.status()?;
        status["channels"]["command"]["trouble"].is_object().then_some(status)
    });
    for (id, keys) in [("command", false), ("sms", true)] {
        let health = &status["channels"][id];
        assert_eq!((&health["kind"], &health["state"]), (&json!("command"), &json!("up")));
        assert_eq!(health["capabilities"]["keys"], keys, "{health}");
    }
    assert!(status["channels"]["sms"]["trouble"].is_null(), "{status}");
    let doctor = String::from_utf8(world.run(&["doctor"]).stdout).unwrap();
    for (line, level) in [("command channel", "FAIL"), ("sms channel", "ok")] {
        let found = doctor.lines().find(|other| other.contains(line)).expect("a check");
        assert!(found.to_lowercase().starts_with(&level.to_lowercase()), "{doctor}");
    }
    rooms.install();
    wait_for("what waited", || (rooms.texts() == ["echo: m1", "echo: m2"]).then_some(()));
}

fn a_channel_that_refuses_for_now_is_seen_everywhere(setup: Setup) {
    let courier = Courier::new();
    courier.plan(&json!([{ "text": "", "exit": 75, "complains": "the platform is down" }]));
    let setup = setup.setting("delivery.max_hold", "1s");
    let world = wired(setup, &courier, false, echo());
    world.up();
    world.hand_in("42", "m1", "hello");
    let session = world.session("ada");
    let health = wait_for("the refusal", || {
        let health = world.status()?["channels"]["command"].clone();
        health["trouble"].is_object().then_some(health)
    });
    assert_eq!(health["trouble"]["error"], "the platform is down", "{health}");
    assert_eq!((&health["waiting"], &health["trouble"]["chat"]), (&json!(1), &json!("42")));
    assert!(health["waiting_since"].is_string(), "{health}");
    let said = world.twobox(&["status"]);
    let line = said.lines().find(|line| line.starts_with("channel ")).expect("a line");
    assert!(
        line.contains("the platform is down (since ") && line.contains("1 message waits"),
        "{said}"
    );
    let doctor = String::from_utf8(world.run(&["doctor"]).stdout).unwrap();
    let line = doctor.lines().find(|line| line.contains("  channels ")).expect("a check");
    assert!(line.starts_with("warn") && line.contains("the platform is down"), "{doctor}");
    let shown = world.twobox(&["sessions", "show", &session.id]);
    assert!(shown.contains("undelivered ") && shown.contains(": the platform is down"), "{shown}");
    let log = world.host_log();
    assert_eq!(log.matches("a channel did not take a message").count(), 1, "{log}");
    // In the end the reason is still there.
    let record = session.wait_delivery("echo: hello", "failed");
    assert!(record.error.is_some_and(|it| it.contains("expired") && it.contains("is down")));
    // It waits no more.
    wait_for("nothing to wait", || {
        let health = world.status()?["channels"]["command"].clone();
        (health["waiting"] == 0 && health["waiting_since"].is_null()).then_some(())
    });
    courier.plan(&json!([]));
    assert_goes_on(&world, &courier, &session);
    assert!(world.status().unwrap()["channels"]["command"]["trouble"].is_null());
}

/// A file that whoever started the host had open, as a shell with `exec 7<file`, is in no program.
fn what_the_host_was_started_with_reaches_no_program(setup: Setup) {
    let aside = tempfile::tempdir().unwrap();
    let (secret, seen) = (aside.path().join("secret"), aside.path().join("seen"));
    std::fs::write(&secret, "secret").unwrap();
    let program = aside.path().join("program");
    let script = "#!/bin/sh\nls -l /proc/self/fd >SEEN.new\nmv SEEN.new SEEN\ncat >/dev/null\n";
    std::fs::write(&program, script.replace("SEEN", seen.to_str().unwrap())).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    let setup = setup.setting("channels.command", program.display());
    let world = setup.agent("ada", echo()).make();
    world.wire("ada", "42");
    world.inherit(&secret);
    world.up();
    let open = format!("/proc/{}/fd/7", world.host_pid());
    assert_eq!(std::fs::read_link(open).unwrap(), secret, "the host has it");

    world.hand_in("42", "m1", "hello");
    let seen = wait_for("the program to look around", || std::fs::read_to_string(&seen).ok());
    assert!(seen.contains("0 -> pipe:"), "{seen}");
    assert!(!seen.contains(secret.to_str().unwrap()), "{seen}");
    // Nor does the runner have it, nor anybody else.
    let everywhere = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let files = std::fs::read_dir(process.path().join("fd")).ok()?;
        let has =
            |it: std::fs::DirEntry| std::fs::read_link(it.path()).is_ok_and(|it| it == secret);
        files.flatten().any(has).then_some(pid)
    });
    world.wait_container(&world.session("ada"));
    assert_eq!(everywhere.collect::<Vec<_>>(), [world.host_pid()]);
}
