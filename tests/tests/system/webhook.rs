//! The `webhook` channel: messages that are posted to the host and by it, with the receiver as the witness of what
//! was posted, and with its own signatures.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;

use serde_json::{Value, json};
use twobox_shared::fault::CrashPoint;
use twobox_tests::{
    Answer, Client, Receiver, Session, Setup, World, on_all_runtimes, on_process, wait_for,
};

use crate::scripts::echo;

on_all_runtimes!(what_is_posted_is_answered_by_a_post,);

on_process!(
    what_is_posted_again_changes_nothing,
    what_is_forged_or_old_or_wrong_is_told_apart_and_stored_nowhere,
    a_host_that_dies_while_it_takes_a_message_has_it_once,
    what_the_receiver_says_is_what_becomes_of_a_message,
    a_receiver_that_does_not_answer_makes_a_message_uncertain_without_keys,
    a_receiver_that_does_not_answer_gets_a_message_again_with_keys,
    a_host_that_dies_during_a_post_never_makes_a_second_without_keys,
    a_host_that_dies_during_a_post_makes_it_again_with_keys,
    a_secret_that_is_missing_keeps_messages_until_it_is_there,
);

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// `ada` listens to chat 42 of the channel `hook`.
fn wired(setup: Setup, receiver: &Receiver, keys: bool) -> World {
    let world = setup
        .api()
        .setting("channels.hook.kind", "webhook")
        .setting("channels.hook.url", receiver.url())
        .setting("channels.hook.signing_secret", "signs")
        .setting("channels.hook.keys", keys)
        .agent("ada", echo())
        .make();
    world.twobox(&["wire", "add", "ada", "hook", "42"]);
    world.set_secret("signs", SECRET);
    world
}

/// Posts a message as it stands.
#[track_caller]
fn post(client: &Client, receiver: &Receiver, id: &str, message: &Value) -> Answer {
    let body = message.to_string().into_bytes();
    let mut headers = receiver.sign(id, 0, &body);
    headers.push(format!("host: {}", client.address()));
    client.send("POST", "/hooks/hook", &headers, &body)
}

#[track_caller]
fn say(client: &Client, receiver: &Receiver, id: &str, text: &str) -> Answer {
    post(client, receiver, id, &json!({ "chat": "42", "text": text }))
}

/// Shows that the channel works: a further message is answered.
#[track_caller]
fn assert_goes_on(world: &World, receiver: &Receiver, session: &Session) {
    assert_eq!(say(&world.client(), receiver, "further", "further").status, 202);
    session.wait_delivery("echo: further", "delivered");
    assert_eq!(receiver.texts().last().unwrap(), "echo: further");
}

fn what_is_posted_is_answered_by_a_post(setup: Setup) {
    let receiver = Receiver::open(SECRET);
    let world = wired(setup, &receiver, false);
    world.up();
    let client = world.client();
    let message = json!({
        "chat": "42", "thread": "t", "sender": "Ann", "about": { "sender_id": "7" }, "text": "hello",
    });
    let taken = post(&client, &receiver, "m1", &message);
    assert_eq!((taken.status, &taken.body["id"]), (202, &json!("m1")), "{taken:?}");
    let session = world.session("ada");
    assert_eq!(taken.body["receipts"][0]["session"], session.id.as_str());
    session.wait_delivery("echo: hello", "delivered");
    let posts = receiver.posts();
    let [answer] = &posts[..] else { panic!("one answer: {posts:?}") };
    assert!(answer.is_signed, "{answer:?}");
    assert_eq!(answer.key(), answer.headers["webhook-id"]);
    assert_eq!(answer.body["key"], answer.key());
    let expected = json!({
        "type": "message", "channel": "hook", "key": answer.key(), "chat": "42", "thread": "t",
        "text": "echo: hello", "files": [], "in_reply_to": "m1", "answers": ["m1"], "failed": false,
        "prompt": null,
    });
    assert_eq!(answer.body, expected);
}

fn what_is_posted_again_changes_nothing(setup: Setup) {
    let receiver = Receiver::open(SECRET);
    let world = wired(setup, &receiver, false);
    world.up();
    let client = world.client();
    let body = json!({ "chat": "42", "text": "hello" }).to_string().into_bytes();
    // Byte by byte the same, as somebody has it who was on the way.
    let headers = receiver.sign("m1", 0, &body);
    let first = client.send("POST", "/hooks/hook", &headers, &body);
    let again = client.send("POST", "/hooks/hook", &headers, &body);
    assert_eq!((first.status, &first.body), (202, &again.body));
    let session = world.session("ada");
    session.wait_delivery("echo: hello", "delivered");
    // By another id in its head, and the same in its body.
    let named =
        post(&client, &receiver, "h2", &json!({ "chat": "42", "id": "m1", "text": "hello" }));
    assert_eq!((named.status, &named.body), (202, &first.body));
    session.wait_settled();
    assert_eq!((session.messages().len(), receiver.posts().len()), (1, 1));
}

fn what_is_forged_or_old_or_wrong_is_told_apart_and_stored_nowhere(setup: Setup) {
    let receiver = Receiver::open(SECRET);
    let world = wired(setup, &receiver, false);
    world.up();
    let client = world.client();
    let send = |target: &str, headers: &[String], body: &[u8]| {
        let answer = client.send("POST", target, headers, body);
        let (status, code) = answer.error();
        (status, code.to_owned(), answer.header("retry-after").map(str::to_owned))
    };
    let told = |status: u16, code: &str| (status, code.to_owned(), None);
    let body = json!({ "chat": "42", "text": "hello" }).to_string().into_bytes();
    let target = "/hooks/hook";
    let good = receiver.sign("m1", 0, &body);
    let forged = Receiver::open("fedcba9876543210fedcba9876543210").sign("m1", 0, &body);
    assert_eq!(send(target, &[], &body), told(401, "bad_signature"));
    assert_eq!(
        send(target, &client.headers(), &body),
        told(401, "bad_signature"),
        "a token is none"
    );
    assert_eq!(send(target, &forged, &body), told(401, "bad_signature"));
    assert_eq!(send(target, &good, b"{}"), told(401, "bad_signature"), "another body");
    for skew in [-301, -100_000, 302] {
        let headers = receiver.sign("m1", skew, &body);
        assert_eq!(send(target, &headers, &body), told(401, "clock_skew"), "{skew}");
    }
    assert_eq!(send("/hooks/none", &good, &body), told(404, "hook_not_found"));
    assert_eq!(send("/hooks/terminal", &good, &body), told(404, "hook_not_found"));
    let signed = |body: &str| {
        let headers = receiver.sign("m1", 0, body.as_bytes());
        send(target, &headers, body.as_bytes())
    };
    assert_eq!(signed("{"), told(400, "malformed_json"));
    assert_eq!(signed("{}x"), told(422, "invalid"));
    assert_eq!(signed(r#"{"chat":"42"}"#), told(422, "invalid"));
    assert_eq!(signed(r#"{"chat":"42","text":" "}"#), told(422, "invalid"));
    assert_eq!(signed(r#"{"chat":"","text":"x"}"#), told(422, "invalid"));
    assert_eq!(signed(r#"{"chat":"42","text":"x","colour":1}"#), told(422, "invalid"));
    assert_eq!(signed(r#"{"chat":"42","text":"x","id":"../x"}"#), told(422, "invalid"));
    assert_eq!(signed(r#"{"chat":"43","text":"x"}"#), told(409, "nobody_listens"));
    // What the host itself has posted is no message to it.
    let outgoing = r#"{"type":"message","channel":"hook","key":"k","chat":"42","text":"x"}"#;
    assert_eq!(signed(outgoing), told(422, "invalid"));
    let long = json!({ "chat": "42", "text": "x".repeat(2 << 20) }).to_string();
    let headers = receiver.sign("m1", 0, long.as_bytes());
    let mut stream = client.connect();
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\n{}\r\ncontent-length: {}\r\n\r\n",
        headers.join("\r\n"),
        long.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(twobox_tests::read_answer(&mut stream).error(), (413, "body_too_large"));
    assert!(world.sessions().is_empty() || world.session("ada").messages().is_empty());
    let log = world.host_log();
    assert!(log.contains("a message to a webhook is refused"), "the operator is told");
    assert!(!log.contains(SECRET));
    // From within the window, and with more than one signature.
    let mut headers = receiver.sign("m1", -290, &body);
    headers[2] = headers[2].replace("v1,", "v1,AAAA v1,");
    assert_eq!(client.send("POST", target, &headers, &body).status, 202);
    world.session("ada").wait_delivery("echo: hello", "delivered");
}

fn a_host_that_dies_while_it_takes_a_message_has_it_once(setup: Setup) {
    let runtime = setup.runtime();
    for point in [CrashPoint::HostAcceptMarked, CrashPoint::HostAcceptCommitted] {
        let receiver = Receiver::open(SECRET);
        let world = wired(Setup::new(runtime), &receiver, true);
        world.up_with(&[("TWOBOX_CRASH_AT", point.name())]);
        let client = world.client();
        let body = json!({ "chat": "42", "text": "hello" }).to_string();
        let headers = receiver.sign("m1", 0, body.as_bytes()).join("\r\n");
        let length = body.len();
        let request = format!(
            "POST /hooks/hook HTTP/1.1\r\nhost: x\r\n{headers}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let mut stream = client.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let status = world.wait_host_gone();
        assert_eq!(status.signal(), Some(nix::libc::SIGKILL), "the host ended with {status}");
        world.up();
        assert_eq!(say(&world.client(), &receiver, "m1", "hello").status, 202, "it is said again");
        let session = world.session("ada");
        session.wait_delivery("echo: hello", "delivered");
        session.wait_settled();
        assert_eq!((session.messages().len(), receiver.texts()), (1, vec!["echo: hello".into()]));
    }
}

fn what_the_receiver_says_is_what_becomes_of_a_message(setup: Setup) {
    let receiver = Receiver::open(SECRET);
    let world = wired(setup, &receiver, false);
    world.up();
    let client = world.client();
    let session = || world.session("ada");
    receiver.plan("never", 1, 422, "");
    say(&client, &receiver, "m1", "never");
    let record = session().wait_delivery("echo: never", "failed");
    assert_eq!(record.error.as_deref(), Some("the receiver answered 422"));
    receiver.plan("later", 1, 429, "retry-after: 2\r\n");
    say(&client, &receiver, "m2", "later");
    session().wait_delivery("echo: later", "held");
    let began = std::time::Instant::now();
    session().wait_delivery("echo: later", "delivered");
    assert!(began.elapsed().as_millis() > 1000, "not before it said");
    receiver.plan("broken", 1, 500, "");
    say(&client, &receiver, "m3", "broken");
    let record = session().wait_delivery("echo: broken", "uncertain");
    assert_eq!(record.error.as_deref(), Some("the receiver answered 500"));
    receiver.plan("moved", 1, 302, "location: http://127.0.0.1:1/\r\n");
    say(&client, &receiver, "m4", "moved");
    let record = session().wait_delivery("echo: moved", "held");
    assert!(record.error.unwrap().contains("is not followed"));
    session().wait_delivery("echo: moved", "delivered");
    let posts = receiver.posts();
    assert!(posts.iter().all(|post| post.is_signed), "each is signed when it is posted");
    let keys = |text: &str| {
        let of = posts.iter().filter(|post| post.text() == text);
        of.map(|post| post.key().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((keys("echo: never").len(), keys("echo: broken").len()), (1, 1));
    let later = keys("echo: later");
    assert!(later.len() == 2 && later[0] == later[1], "{later:?}");
    assert_goes_on(&world, &receiver, &session());
}

fn a_receiver_that_does_not_answer_makes_a_message_uncertain_without_keys(setup: Setup) {
    let receiver = Receiver::open(SECRET);
    let world = wired(setup.setting("channels.hook.timeout", "1s"), &receiver, false);
    world.up();
    receiver.plan_silence("hello", 1);
    say(&world.client(), &receiver, "m1", "hello");
    let record = world.session("ada").wait_delivery("echo: hello", "uncertain");
    assert!(record.error.unwrap().contains("nothing came within 1 s"));
    assert_goes_on(&world, &receiver, &world.session("ada"));
    assert_eq!(receiver.texts(), ["echo: hello", "echo: further"]);
}

fn a_receiver_that_does_not_answer_gets_a_message_again_with_keys(setup: Setup) {
    let receiver = Receiver::open(SECRET);
    let world = wired(setup.setting("channels.hook.timeout", "1s"), &receiver, true);
    world.up();
    receiver.plan_silence("hello", 1);
    receiver.plan("hello", 1, 502, "");
    say(&world.client(), &receiver, "m1", "hello");
    let session = world.session("ada");
    session.wait_delivery("echo: hello", "delivered");
    let posts = receiver.posts();
    assert_eq!(posts.len(), 3, "{posts:?}");
    assert!(posts.iter().all(|post| post.key() == posts[0].key() && post.is_signed));
    assert_goes_on(&world, &receiver, &session);
}

fn a_host_that_dies_during_a_post_never_makes_a_second_without_keys(setup: Setup) {
    let receiver = Receiver::open(SECRET);
    let world = wired(setup, &receiver, false);
    world.up();
    receiver.plan_silence("hello", 1);
    say(&world.client(), &receiver, "m1", "hello");
    receiver.wait_posts(1);
    world.kill_host();
    world.up();
    let session = world.session("ada");
    session.wait_delivery("echo: hello", "uncertain");
    assert_goes_on(&world, &receiver, &session);
    assert_eq!(receiver.texts(), ["echo: hello", "echo: further"]);
}

fn a_host_that_dies_during_a_post_makes_it_again_with_keys(setup: Setup) {
    let receiver = Receiver::open(SECRET);
    let world = wired(setup, &receiver, true);
    world.up();
    receiver.plan_silence("hello", 1);
    say(&world.client(), &receiver, "m1", "hello");
    receiver.wait_posts(1);
    world.kill_host();
    world.up();
    let session = world.session("ada");
    session.wait_delivery("echo: hello", "delivered");
    assert_goes_on(&world, &receiver, &session);
    let posts = receiver.posts();
    assert_eq!(receiver.texts(), ["echo: hello", "echo: hello", "echo: further"]);
    assert_eq!(posts[0].key(), posts[1].key());
}

fn a_secret_that_is_missing_keeps_messages_until_it_is_there(setup: Setup) {
    let receiver = Receiver::open(SECRET);
    let world = wired(setup, &receiver, false);
    world.twobox(&["secrets", "remove", "signs"]);
    world.up();
    let client = world.client();
    let refused = say(&client, &receiver, "m1", "hello");
    assert_eq!(refused.error(), (503, "not_ready"));
    assert!(!refused.body.to_string().contains("signs"), "a stranger learns no name: {refused:?}");
    world.twobox(&["send", "--channel", "hook", "--chat", "42", "--id", "m2", "hello"]);
    let held = world.session("ada").wait_delivery("echo: hello", "held");
    assert!(held.error.unwrap().starts_with("there is no secret signs"));
    let doctor = String::from_utf8(world.run(&["doctor"]).stdout).unwrap();
    let line = doctor.lines().find(|line| line.contains("hook channel")).expect("a check");
    assert!(line.starts_with("FAIL") && line.contains("twobox secrets set signs"), "{doctor}");
    world.set_secret("signs", SECRET);
    world.session("ada").wait_delivery("echo: hello", "delivered");
    let doctor = wait_for("doctor", || String::from_utf8(world.run(&["doctor"]).stdout).ok());
    let line = doctor.lines().find(|line| line.contains("hook channel")).expect("a check");
    assert!(line.starts_with("ok") && line.contains("the receiver answers"), "{doctor}");
}
