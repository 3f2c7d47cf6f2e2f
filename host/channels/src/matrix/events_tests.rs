use serde_json::json;

use super::*;

fn said(content: Value) -> Value {
    json!({
        "type": "m.room.message", "event_id": "$e", "sender": "@ann:x", "origin_server_ts": 5,
        "content": content,
    })
}

fn text(content: Value) -> Option<String> {
    match read(&said(content))? {
        Event::Message(message) => Some(message.text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_people_say_is_a_message_and_nothing_else_is() {
    let cases = [
        ("text", json!({ "msgtype": "m.text", "body": "hi" }), Some("hi")),
        ("emote", json!({ "msgtype": "m.emote", "body": "waves" }), Some("* waves")),
        ("notice", json!({ "msgtype": "m.notice", "body": "hi" }), None),
        ("file", json!({ "msgtype": "m.file", "body": "a.pdf" }), Some("[file: a.pdf]")),
        (
            "with words",
            json!({ "msgtype": "m.image", "body": "look", "filename": "a\n.png" }),
            Some("[image: a\\n.png]\nlook"),
        ),
        ("redacted", json!({}), None),
        ("no text", json!({ "msgtype": "m.text", "body": 5 }), None),
        ("unknown", json!({ "msgtype": "org.x", "body": "hi" }), None),
        (
            "a change of it",
            json!({ "msgtype": "m.text", "body": "* ho", "m.new_content": { "body": "ho" },
                    "m.relates_to": { "rel_type": "m.replace", "event_id": "$a" } }),
            None,
        ),
        (
            "with a quote",
            json!({ "msgtype": "m.text", "body": "> <@b:x> one\n> two\n\nthree\n> four",
                    "m.relates_to": { "m.in_reply_to": { "event_id": "$a" } } }),
            Some("three\n> four"),
        ),
        ("no answer", json!({ "msgtype": "m.text", "body": "> <b> x\n\ny" }), Some("> <b> x\n\ny")),
    ];
    for (case, content, expected) in cases {
        assert_eq!(text(content).as_deref(), expected, "{case}");
    }
    for odd in [json!(null), json!([]), json!({ "type": "m.room.message" }), json!({ "type": 5 })] {
        assert_eq!(read(&odd), None, "{odd}");
    }
}

#[test]
fn where_it_was_said_is_told_apart() {
    let of = |relates: Value| {
        let content = json!({ "msgtype": "m.text", "body": "hi", "m.relates_to": relates });
        let Some(Event::Message(message)) = read(&said(content)) else { panic!("no message") };
        (message.thread, message.reply_to)
    };
    let some = |id: &str| Some(id.to_owned());
    let in_thread = |falls_back: bool| {
        json!({ "rel_type": "m.thread", "event_id": "$root", "is_falling_back": falls_back,
                "m.in_reply_to": { "event_id": "$last" } })
    };
    assert_eq!(of(json!({ "m.in_reply_to": { "event_id": "$a" } })), (None, some("$a")));
    assert_eq!(of(in_thread(true)), (some("$root"), None));
    assert_eq!(of(in_thread(false)), (some("$root"), some("$last")));
    assert_eq!(of(json!({ "rel_type": "m.thread", "event_id": "x".repeat(300) })), (None, None));
    assert_eq!(of(json!("nonsense")), (None, None));
}

#[test]
fn an_account_is_named_by_its_id_or_in_the_text() {
    let cases = [
        ("hi all", false, "hi all"),
        ("hi Ada!", true, "hi Ada!"),
        ("ada: hi", true, "ada: hi"),
        ("adams is here", false, "adams is here"),
        ("ask @bot:x", true, "ask @bot:x"),
        ("ask @bot:xy", false, "ask @bot:xy"),
        ("Ada: /stop", true, "/stop"),
        ("@bot:x /stop", true, "/stop"),
        ("@Ada, /new", true, "/new"),
        ("bot: /stop", false, "/stop"),
        ("Ada: abcd yes", true, "abcd yes"),
        ("Ada: 2", true, "2"),
        ("Ada /stop it", true, "Ada /stop it"),
    ];
    for (text, mentioned, rest) in cases {
        let content = json!({ "msgtype": "m.text", "body": text });
        let Some(Event::Message(message)) = read(&said(content)) else { panic!("no message") };
        let expected = Addressed { mentioned, text: rest.to_owned() };
        assert_eq!(addressed(&message, "@bot:x", Some("Ada")), expected, "{text}");
    }
    let pill =
        json!({ "msgtype": "m.text", "body": "hi", "m.mentions": { "user_ids": ["@bot:x"] } });
    let Some(Event::Message(message)) = read(&said(pill)) else { panic!("no message") };
    assert!(addressed(&message, "@bot:x", None).mentioned);
}

#[test]
fn a_name_is_bounded_and_hides_nothing() {
    let odd = name(&format!("  an\u{202e}n\n{}", "x".repeat(999)));
    assert!(odd.chars().count() <= NAME_MAX + 1 && !odd.contains(['\n', '\u{202e}']), "{odd}");
}

#[test]
fn whoever_changes_a_name_was_in_the_room_before() {
    let of = |unsigned: Value| {
        let event = json!({
            "type": "m.room.member", "sender": "@bot:x", "state_key": "@bot:x",
            "content": { "membership": "join", "displayname": "Bot" }, "unsigned": unsigned,
        });
        let Some(Event::Member { joined: true, was_joined, .. }) = read(&event) else {
            panic!("no member")
        };
        was_joined
    };
    let after =
        |before: &str| json!({ "replaces_state": "$a", "prev_content": { "membership": before } });
    assert!(!of(json!({})) && !of(after("invite")) && !of(after("leave")));
    assert!(of(after("join")) && of(json!({ "replaces_state": "$a" })));
}
