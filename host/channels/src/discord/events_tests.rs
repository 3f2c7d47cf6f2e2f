use serde_json::{Value, json};
use twobox_shared::time::UnixMillis;

use super::*;

fn us() -> Us {
    Us { id: Snowflake(7), roles: BTreeSet::from([Snowflake(70)]) }
}

fn message(more: &Value) -> Message {
    let mut message = json!({
        "id": "175928847299117063", "channel_id": "5", "type": 0, "content": "hello",
        "author": { "id": "1", "username": "ada", "global_name": "Ada L." },
    });
    for (key, value) in more.as_object().unwrap() {
        message[key] = value.clone();
    }
    serde_json::from_value(message).unwrap()
}

fn text(more: &Value) -> String {
    chat(&message(more), &us(), true).unwrap().text
}

#[test]
fn what_people_write_is_said_and_nothing_else() {
    let said = |more: Value| chat(&message(&more), &us(), true).is_some();
    assert!(said(json!({})) && said(json!({ "type": 19 })));
    assert!(!said(json!({ "author": { "id": "2", "bot": true } })), "another bot");
    assert!(!said(json!({ "webhook_id": "3" })), "a webhook");
    for system in [6, 7, 18, 21, 46, 999] {
        assert!(!said(json!({ "type": system })), "{system}");
    }
}

#[test]
fn everything_that_is_known_is_said_with_it() {
    let said = chat(
        &message(&json!({
            "member": { "nick": "The\nCountess" },
            "mentions": [{ "id": "7", "username": "bot" }],
            "message_reference": { "message_id": "9", "channel_id": "5" },
        })),
        &us(),
        true,
    );
    let said = said.unwrap();
    assert_eq!((said.text.as_str(), said.sender.as_deref()), ("hello", Some("The\\nCountess")));
    let about = said.about.unwrap();
    assert_eq!((about.sender_id.as_deref(), about.group), (Some("1"), Some(true)));
    assert_eq!((about.mentioned, about.reply_to.as_deref()), (true, Some("9")));
    assert_eq!(about.sent_at, Some(UnixMillis(1_462_015_105_796)));
    let plain = chat(&message(&json!({})), &us(), false).unwrap();
    assert_eq!(plain.sender.as_deref(), Some("Ada L."));
    let about = plain.about.unwrap();
    assert_eq!((about.mentioned, about.group, about.reply_to), (false, Some(false), None));
    let role = chat(&message(&json!({ "mention_roles": ["70"] })), &us(), true).unwrap();
    assert!(role.about.unwrap().mentioned, "the role that is the bot's own");
    let other = chat(&message(&json!({ "mention_roles": ["71"] })), &us(), true).unwrap();
    assert!(!other.about.unwrap().mentioned);
}

#[test]
fn names_stand_in_the_place_of_ids() {
    let named = json!([{ "id": "8", "username": "bo", "member": { "nick": "Bo!" } }]);
    let cases = [
        ("<@7> hello", "hello"),
        ("<@!7>: hello <@7>", "hello <@7>"),
        ("<@&70>, hello", "hello"),
        ("<@&71> hello", "<@&71> hello"),
        ("hi <@8> and <@!8> and <@9>", "hi @Bo! and @Bo! and <@9>"),
        ("<:cat:123> <a:dog_2:4> <:no> <:a b:1> <t:1:R>", ":cat: :dog_2: <:no> <:a b:1> <t:1:R>"),
        ("a < b <@8", "a < b <@8"),
        ("<<@8>>", "<@Bo!>"),
        ("/stop", "/stop"),
        ("<@7> /stop", "/stop"),
    ];
    for (content, expected) in cases {
        assert_eq!(text(&json!({ "content": content, "mentions": named })), expected, "{content}");
    }
}

#[test]
fn what_is_attached_is_named() {
    let files = json!([
        { "filename": "plan.png", "content_type": "image/png" },
        { "filename": "a\nb.zip", "content_type": "application/zip" },
    ]);
    assert_eq!(
        text(&json!({ "attachments": files, "sticker_items": [{ "name": "Wave" }] })),
        "hello\n[image: plan.png]\n[file: a\\nb.zip]\n[sticker: Wave]"
    );
    assert_eq!(text(&json!({ "content": "", "attachments": [{}] })), "[file: ]");
    let forwarded = json!({
        "content": "", "message_reference": { "type": 1, "message_id": "9" },
        "message_snapshots": [{ "message": { "content": "old", "attachments": files } }],
        "poll": { "question": { "text": "Tea?" } },
    });
    let said = chat(&message(&forwarded), &us(), true).unwrap();
    assert_eq!(said.text, "[forwarded] old\n[image: plan.png]\n[file: a\\nb.zip]\n[poll: Tea?]");
    assert_eq!(said.about.unwrap().reply_to, None, "what is handed on is no answer");
    let many: Vec<Value> = (0..30).map(|_| json!({ "filename": "x" })).collect();
    assert!(text(&json!({ "attachments": many })).ends_with("[file: x]\n[10 more files]"));
}

#[test]
fn a_button_says_what_it_stands_for() {
    let said = |more: Value| {
        let mut whole = json!({
            "id": "175928847299117063", "type": 3, "token": "t", "channel_id": "5",
            "data": { "custom_id": "abcd 1" }, "message": { "id": "9" },
        });
        for (key, value) in more.as_object().unwrap() {
            whole[key] = value.clone();
        }
        pressed(&serde_json::from_value(whole).unwrap())
    };
    let in_guild = said(json!({
        "guild_id": "2", "member": { "nick": "Al", "user": { "id": "1", "username": "a" } },
    }));
    let in_guild = in_guild.unwrap();
    assert_eq!((in_guild.text.as_str(), in_guild.sender.as_deref()), ("abcd 1", Some("Al")));
    let about = in_guild.about.unwrap();
    assert_eq!((about.sender_id.as_deref(), about.reply_to.as_deref()), (Some("1"), Some("9")));
    assert_eq!(about.group, Some(true));
    let direct = said(json!({ "user": { "id": "1", "username": "a" } })).unwrap();
    assert_eq!(direct.about.unwrap().group, Some(false));
    assert_eq!(said(json!({})), None, "nobody");
}
