use serde_json::{Value, json};

use super::*;

fn came(event: &Value) -> Option<What> {
    let text = json!({
        "type": "events_api", "envelope_id": "e", "accepts_response_payload": false,
        "payload": { "type": "event_callback", "event": event },
    });
    match read(&text.to_string()) {
        Came::Envelope { id, what } if id == "e" => what,
        other => panic!("{other:?}"),
    }
}

fn message(more: &Value) -> Option<Message> {
    let mut event = json!({
        "type": "message", "channel": "C1", "channel_type": "channel", "user": "U1",
        "text": "hello", "ts": "10.000001",
    });
    for (name, value) in more.as_object().unwrap() {
        event[name] = value.clone();
    }
    match came(&event)? {
        What::Message(message) => Some(message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_people_say_is_told_from_what_nobody_has_to_hear() {
    let ts = |text: &str| Ts::parse(text).unwrap();
    let plain = message(&json!({})).unwrap();
    assert_eq!((plain.chat.as_str(), plain.sender.as_str()), ("C1", "U1"));
    assert_eq!((plain.ts, plain.thread, plain.direct), (ts("10.000001"), None, Some(false)));
    let direct = message(&json!({ "channel_type": "im", "channel": "D1" })).unwrap();
    assert_eq!(direct.direct, Some(true));
    let mention = message(&json!({ "type": "app_mention", "channel_type": null })).unwrap();
    assert_eq!((mention.ts, mention.direct), (plain.ts, None));
    let reply = message(&json!({ "thread_ts": "9.000001" })).unwrap();
    assert_eq!(reply.thread, Some(ts("9.000001")));
    let root = message(&json!({ "thread_ts": "10.000001" })).unwrap();
    assert_eq!(root.thread, None, "a message is no answer to itself");
    let broadcast = json!({ "subtype": "thread_broadcast", "thread_ts": "9.000001" });
    assert_eq!(message(&broadcast).unwrap().thread, Some(ts("9.000001")));
    let passed_over = [
        json!({ "bot_id": "B1" }),
        json!({ "subtype": "bot_message" }),
        json!({ "subtype": "message_changed" }),
        json!({ "subtype": "message_deleted" }),
        json!({ "subtype": "channel_join" }),
        json!({ "type": "reaction_added" }),
        json!({ "user": null }),
        json!({ "user": "U1\nx" }),
        json!({ "ts": "soon" }),
        json!({ "text": " " }),
        json!({ "channel": "C".repeat(300) }),
    ];
    for more in passed_over {
        assert_eq!(message(&more), None, "{more}");
    }
}

#[test]
fn files_are_named_and_names_hide_nothing() {
    let files = |count: usize| vec![json!({ "id": "F1", "name": "a<@U2>\n\u{1b}b.png" }); count];
    let said = message(&json!({ "subtype": "file_share", "files": files(1) })).unwrap();
    assert_eq!(said.text, "hello\n[file: a&lt;@U2&gt;\\n\\u{1b}b.png]");
    let alone = message(&json!({ "text": "", "files": [{ "id": "F1" }] })).unwrap();
    assert_eq!(alone.text, "[file: a file]");
    let many = message(&json!({ "files": files(50) })).unwrap();
    assert!(many.text.ends_with("\n[30 more files]"), "{}", many.text);
}

#[test]
fn a_button_that_was_pressed_is_read() {
    let payload = json!({
        "type": "block_actions", "user": { "id": "U1" }, "channel": { "id": "C1" },
        "container": { "type": "message", "message_ts": "9.000001", "channel_id": "C1" },
        "message": { "text": "may I?", "thread_ts": "8.000001", "blocks": [{ "type": "section" }] },
        "actions": [{
            "type": "button", "value": "abcd 1", "action_ts": "11.000001",
            "text": { "type": "plain_text", "text": "Yes" },
        }],
    });
    let envelope = |payload: &Value| {
        let text = json!({ "type": "interactive", "envelope_id": "e", "payload": payload });
        match read(&text.to_string()) {
            Came::Envelope { what, .. } => what,
            other => panic!("{other:?}"),
        }
    };
    let Some(What::Click(click)) = envelope(&payload) else { panic!() };
    assert_eq!((click.value.as_str(), click.label.as_str()), ("abcd 1", "Yes"));
    assert_eq!(click.thread, Ts::parse("8.000001"));
    assert_eq!(click.blocks, r#"[{"type":"section"}]"#);
    for (at, value) in [
        ("/type", json!("view_submission")),
        ("/actions/0/type", json!("static_select")),
        ("/actions/0/value", json!("")),
        ("/user/id", json!("U 1")),
    ] {
        let mut other = payload.clone();
        *other.pointer_mut(at).unwrap() = value;
        assert_eq!(envelope(&other), None, "{at}");
    }
}

#[test]
fn what_is_no_event_is_acknowledged_or_passed_over() {
    assert_eq!(read(r#"{"type":"hello","num_connections":2}"#), Came::Hello { connections: 2 });
    let reason = "refresh_requested".to_owned();
    let text = r#"{"type":"disconnect","reason":"refresh_requested"}"#;
    assert_eq!(read(text), Came::Disconnect { reason });
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = format!(
        r#"{{"type":"events_api","envelope_id":"e","payload":{{"event":{{"type":"message","blocks":{deep}}}}}}}"#
    );
    assert_eq!(read(&text), Came::Envelope { id: "e".to_owned(), what: None });
    let text = r#"{"type":"slash_commands","envelope_id":"e","payload":{}}"#;
    assert_eq!(read(text), Came::Envelope { id: "e".to_owned(), what: None });
    for nothing in ["", "hello", "[]", "{}", r#"{"type":"new"}"#] {
        assert_eq!(read(nothing), Came::Nothing, "{nothing}");
    }
}

#[test]
fn one_message_that_cannot_be_read_keeps_none_beside_it() {
    let page = json!({
        "ok": true,
        "messages": [
            { "type": "message", "user": "U1", "text": "one", "ts": "1.000001" },
            { "type": "message", "ts": 5 },
            { "type": "message", "user": "U1", "text": "two", "ts": "2.000001", "latest_reply": "3.000001" },
        ],
        "response_metadata": { "next_cursor": "next" },
    });
    let mut page: Page = serde_json::from_str(&page.to_string()).unwrap();
    assert_eq!((page.messages.messages.len(), page.messages.unreadable), (2, 1));
    assert_eq!(page.next().as_deref(), Some("next"));
    let mut last: Page =
        serde_json::from_str(r#"{"response_metadata":{"next_cursor":""}}"#).unwrap();
    assert_eq!(last.next(), None);
}
