use serde_json::json;

use super::*;

fn bot() -> Bot {
    Bot { id: 7, username: "TwoBot".to_owned(), can_read_all_group_messages: false }
}

/// What Ada says to the bot alone, and `more`.
fn direct(more: Value) -> Value {
    let mut message = json!({
        "message_id": 5, "date": 1_700_000_000,
        "chat": { "id": 42, "type": "private", "first_name": "Ada" },
        "from": { "id": 42, "is_bot": false, "first_name": "Ada", "last_name": "L." },
    });
    merge(&mut message, more);
    message
}

/// What Ada says in a group, and `more`.
fn grouped(more: Value) -> Value {
    let mut message = direct(json!({ "chat": { "id": -100, "type": "supergroup", "title": "G" } }));
    merge(&mut message, more);
    message
}

fn merge(into: &mut Value, more: Value) {
    let Value::Object(more) = more else { panic!("{more}") };
    into.as_object_mut().unwrap().extend(more);
}

fn said(message: Value) -> Option<Message> {
    match read(&json!({ "update_id": 1, "message": message }), &bot()) {
        Said::Message(message) => Some(message),
        Said::Nothing => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_says_who_said_it_where_and_when() {
    let message = said(direct(json!({ "text": "hello" }))).unwrap();
    assert_eq!(message.place, Place { chat: 42, direct: true, thread: None });
    assert_eq!(message.sender, Sender { id: 42, name: "Ada L.".to_owned() });
    assert_eq!((message.id, message.text.as_str(), message.mentioned), (5, "hello", false));
    assert_eq!(message.sent_at, Some(UnixMillis(1_700_000_000_000)));
    let topic = json!({ "text": "x", "message_thread_id": 9, "is_topic_message": true });
    assert_eq!(said(grouped(topic)).unwrap().place.thread, Some(9));
    let answer =
        json!({ "text": "x", "message_thread_id": 9, "reply_to_message": { "message_id": 3 } });
    let answer = said(grouped(answer)).unwrap();
    assert_eq!((answer.place.thread, answer.reply_to), (None, Some(3)));
    let root = json!({ "message_id": 9, "forum_topic_created": { "name": "T" } });
    let first = json!({ "text": "x", "message_thread_id": 9, "is_topic_message": true, "reply_to_message": root });
    assert_eq!(said(grouped(first)).unwrap().reply_to, None, "it answers nothing");
}

#[test]
fn only_people_are_heard() {
    let from = |id: i64, is_bot: bool| json!({ "id": id, "is_bot": is_bot, "first_name": "X" });
    let bot = json!({ "text": "x", "from": from(8, true) });
    assert_eq!(said(grouped(bot.clone())), None);
    let mut veiled = bot;
    merge(
        &mut veiled,
        json!({ "from": from(UNNAMED_ADMIN, true), "sender_chat": { "id": -100, "title": "G" } }),
    );
    assert_eq!(said(grouped(veiled)).unwrap().sender, Sender { id: -100, name: "G".to_owned() });
    let channel = json!({ "text": "x", "from": from(777_000, false), "sender_chat": { "id": -200, "title": "C" } });
    assert_eq!(said(grouped(channel)).unwrap().sender.id, -200);
    let nobody = json!({ "text": "x", "from": null });
    assert_eq!(said(grouped(nobody)), None);
    let came = json!({ "new_chat_members": [from(9, false)] });
    assert_eq!(said(grouped(came)), None);
    let hidden =
        json!({ "text": "x", "from": { "id": 1, "is_bot": false, "first_name": "a\u{202e}\nb" } });
    assert_eq!(said(direct(hidden)).unwrap().sender.name, "a\\u{202e}\\nb");
}

#[test]
fn a_bot_is_named_by_its_mark_by_an_answer_to_it_and_by_nothing_else() {
    let mark = |kind: &str, offset: usize, length: usize| json!([{ "type": kind, "offset": offset, "length": length }]);
    let cases = [
        ("@twobot hi", mark("mention", 0, 7), true),
        ("😀 @TWOBOT", mark("mention", 3, 7), true),
        ("@twobot hi", json!([]), false),
        ("@other hi", mark("mention", 0, 6), false),
        ("@twobots hi", mark("mention", 0, 8), false),
        ("@twobot", mark("code", 0, 7), false),
        ("@twobot", mark("mention", 3, 99), false),
        ("/go@twobot", mark("bot_command", 0, 10), true),
        ("/go@other", mark("bot_command", 0, 9), false),
        ("/go", mark("bot_command", 0, 3), false),
        (
            "you",
            json!([{ "type": "text_mention", "offset": 0, "length": 3, "user": { "id": 7 } }]),
            true,
        ),
        (
            "you",
            json!([{ "type": "text_mention", "offset": 0, "length": 3, "user": { "id": 8 } }]),
            false,
        ),
    ];
    for (text, entities, expected) in cases {
        let message = said(grouped(json!({ "text": text, "entities": entities }))).unwrap();
        assert_eq!(message.mentioned, expected, "{text} {entities}");
        let photo = json!({
            "caption": text, "caption_entities": entities, "photo": [{ "file_id": "a" }],
        });
        assert_eq!(said(grouped(photo)).unwrap().mentioned, expected, "{text} {entities}");
    }
    let reply = |id: i64| json!({ "text": "x", "reply_to_message": { "message_id": 4, "from": { "id": id } } });
    assert!(said(grouped(reply(7))).unwrap().mentioned);
    assert!(!said(grouped(reply(8))).unwrap().mentioned);
}

#[test]
fn a_word_to_the_host_stands_without_the_name_of_the_bot() {
    let cases = [
        ("/stop@TwoBot", "/stop"),
        ("/stop@twobot ", "/stop"),
        ("/weather@twobot in Rome", "/weather in Rome"),
        ("/stop@otherbot", "/stop@otherbot"),
        ("@twobot /stop", "/stop"),
        ("@twobot: /new", "/new"),
        ("@twobot, 2", "2"),
        ("@twobot hello there", "@twobot hello there"),
        ("@other /stop", "@other /stop"),
        ("mail me@twobot", "mail me@twobot"),
        ("/", "/"),
    ];
    for (text, expected) in cases {
        assert_eq!(said(grouped(json!({ "text": text }))).unwrap().text, expected, "{text}");
    }
}

#[test]
fn what_is_no_text_is_named() {
    let file = |name: &str| json!({ "file_id": "F", "file_name": name, "file_size": 9 });
    let bare = || json!({ "file_id": "F" });
    let cases = [
        (json!({ "document": file("plan.pdf"), "caption": "look" }), "[file: plan.pdf]\nlook"),
        (json!({ "photo": [{ "file_id": "small" }, bare()] }), "[image: photo.jpg]"),
        (json!({ "voice": bare() }), "[voice: voice.ogg]"),
        (json!({ "document": file("a.gif"), "animation": file("a.gif") }), "[animation: a.gif]"),
        (json!({ "document": file("a\n]b") }), "[file: a\\n]b]"),
        (json!({ "sticker": { "file_id": "F", "emoji": "😀" } }), "[sticker: 😀]"),
        (json!({ "location": { "latitude": 1.5, "longitude": -2.0 } }), "[location: 1.5, -2]"),
        (json!({ "contact": { "first_name": "Bo", "phone_number": "+1" } }), "[contact: Bo +1]"),
        (json!({ "poll": { "question": "why?" } }), "[poll: why?]"),
        (json!({ "dice": { "value": 4 } }), "[dice: 4]"),
        (
            json!({ "text": "x", "forward_origin": { "type": "hidden_user", "sender_user_name": "B" } }),
            "[forwarded from B]\nx",
        ),
    ];
    for (more, expected) in cases {
        assert_eq!(said(direct(more)).unwrap().text, expected);
    }
    let message = said(direct(json!({ "document": file("plan.pdf"), "caption": "look" }))).unwrap();
    assert_eq!(message.bare, "look");
    let files = message.files;
    let expected = File { id: "F".to_owned(), name: "plan.pdf".to_owned(), size: Some(9) };
    assert_eq!(files, [expected]);
    let photo = said(direct(json!({ "photo": [{ "file_id": "small" }, bare()] }))).unwrap();
    assert_eq!(photo.files[0].id, "F", "the largest");
}

#[test]
fn clicks_and_moves_are_what_they_are() {
    let click = json!({ "update_id": 1, "callback_query": {
        "id": "900", "from": { "id": 42, "is_bot": false, "first_name": "Ada" }, "data": "AB2C3 1",
        "message": { "message_id": 6, "chat": { "id": -100, "type": "supergroup" } },
    } });
    let Said::Click(found) = read(&click, &bot()) else { panic!("{click}") };
    assert_eq!((found.id.as_str(), found.message, found.data.as_str()), ("900", 6, "AB2C3 1"));
    assert_eq!(chat_of(&click), Some(-100));
    let to = json!({ "message": grouped(json!({ "migrate_to_chat_id": -1001 })) });
    assert_eq!(read(&to, &bot()), Said::Moved { from: -100, to: -1001 });
    let from = json!({ "message": grouped(json!({ "migrate_from_chat_id": -5 })) });
    assert_eq!(read(&from, &bot()), Said::Moved { from: -5, to: -100 });
    for other in [json!({}), json!({ "message": 5 }), json!({ "edited_message": {} }), json!(null)]
    {
        assert_eq!(read(&other, &bot()), Said::Nothing, "{other}");
    }
}

#[test]
fn what_cannot_be_read_keeps_nothing_beside_it_from_being_read() {
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let text = format!(
        "[{{\"update_id\":1,\"message\":{deep}}},{{\"update_id\":2}},{{\"no\":3}},{{\"update_id\":4}}]"
    );
    let Batch(updates) = serde_json::from_str(&text).unwrap();
    let read: Vec<_> = updates.iter().map(|it| (it.id, it.what.is_some())).collect();
    assert_eq!(read, [(1, false), (2, true), (4, true)]);
}
