//! Who is heard in which room, and what a room is sent.

use serde_json::{Value, json};
use twobox_tests::{Pace, wait_for, wait_within};

use super::Place;
use crate::scripts::{echo, slow};

/// How many levels are put into a message.
const DEEP: usize = 122;

#[test]
fn a_stranger_is_not_heard_and_invites_in_vain() {
    let Some((place, room)) = Place::up(Pace::Free, echo()) else { return };
    let eve = place.synapse.person("eve");
    place.me.invite(&room, &eve.id);
    eve.join(&room);
    let lured = eve.make_room(&[&place.bot], &json!({}));
    eve.say(&room, "bot: tell me all");
    eve.send(&room, &json!({ "msgtype": "m.text", "body": "/stop" }));
    let mention = json!({
        "msgtype": "m.text", "body": "bot: I was here", "m.mentions": { "user_ids": [place.bot] },
    });
    place.me.send(&room, &mention);
    place.me.wait_said(&room, &place.bot, "echo: bot: I was here");
    let session = place.world.session("ada");
    session.wait_settled();
    assert_eq!(session.messages().len(), 1, "of what was said before, nothing was taken");
    assert_eq!(place.answers(&room).len(), 1);
    let members = eve.ask("GET", &format!("/client/v3/rooms/{lured}/joined_members"), None);
    assert!(members["joined"].get(&place.bot).is_none(), "{members}");
    assert!(place.world.host_log().contains("an invitation of somebody who is never heard"));
}

#[test]
fn a_stranger_is_told_a_code_in_a_room_of_their_own_and_heard_once_somebody_lets_them_in() {
    let Some(place) = Place::make(Pace::Free, echo()) else { return };
    let config = place.world.data().join("twobox.toml");
    let set = std::fs::read_to_string(&config).unwrap();
    let known = set.lines().filter(|line| !line.starts_with("senders"));
    std::fs::write(&config, known.collect::<Vec<_>>().join("\n")).unwrap();
    place.world.up();
    let eve = place.synapse.person("eve");
    let room = eve.make_room(&[&place.bot], &json!({ "is_direct": true }));
    eve.wait_for_person(&room, &place.bot);
    place.wire(&room);
    eve.say(&room, "tell me all");
    let told = || {
        let said = eve.said_by(&room, &place.bot);
        said.into_iter().find(|text| text.contains("Your code is"))
    };
    let told = wait_for("a code", told);
    let code = told.split_once("Your code is ").unwrap().1[..9].to_owned();
    assert!(place.world.sessions().is_empty(), "nothing of it is stored");
    place.world.twobox(&["people", "pair", &code]);
    eve.say(&room, "hello");
    eve.wait_said(&room, &place.bot, "echo: hello");
    let said = eve.said_by(&room, &place.bot);
    assert_eq!(said.len(), 2, "it was told once, and heard nothing from before: {said:?}");
    let listed = place.world.twobox(&["people", "list"]);
    assert!(listed.contains("eve") && listed.contains(&format!("matrix:{}", eve.id)), "{listed}");
}

#[test]
fn in_a_group_the_account_has_to_be_named() {
    let Some((place, room)) = Place::up(Pace::Free, echo()) else { return };
    let ann = place.synapse.person("ann");
    place.me.invite(&room, &ann.id);
    ann.join(&room);
    place.me.say(&room, "just among us");
    let notice = json!({ "msgtype": "m.notice", "body": "bot: I am a program" });
    place.me.send(&room, &notice);
    let first = place.me.say(&room, "what do you think, Bot?");
    let answer = place.me.wait_said(&room, &place.bot, "echo: what do you think, Bot?");
    let quoted = &answer["content"]["m.relates_to"]["m.in_reply_to"]["event_id"];
    assert_eq!(*quoted, json!(first), "it says whom it answers");
    // A change of it is no other message.
    let edit = json!({
        "msgtype": "m.text", "body": "* bot: changed", "m.mentions": { "user_ids": [place.bot] },
        "m.new_content": { "msgtype": "m.text", "body": "bot: changed" },
        "m.relates_to": { "rel_type": "m.replace", "event_id": first },
    });
    place.me.send(&room, &edit);
    let thread = json!({
        "msgtype": "m.text", "body": "bot: in a thread",
        "m.relates_to": { "rel_type": "m.thread", "event_id": first },
    });
    place.me.send(&room, &thread);
    let answer = place.me.wait_said(&room, &place.bot, "echo: bot: in a thread");
    let relates = &answer["content"]["m.relates_to"];
    assert_eq!((&relates["rel_type"], &relates["event_id"]), (&json!("m.thread"), &json!(first)));
    // A word to the host needs no name.
    place.me.say(&room, "/help");
    wait_for("the host's answer", || {
        place.answers(&room).iter().any(|text| text.contains("/status")).then_some(())
    });
    let session = place.world.session("ada");
    session.wait_settled();
    let echoes = place.answers(&room).iter().filter(|text| text.starts_with("echo: ")).count();
    assert_eq!(echoes, 2, "{:?}", place.answers(&room));
    place.world.stop_host();
    place.set("groups = \"always\"\n");
    place.world.up();
    place.ask(&room, "among all of us");
}

#[test]
fn a_message_of_more_levels_than_are_read_keeps_no_other_from_being_heard() {
    let Some((place, room)) = Place::up(Pace::Free, echo()) else { return };
    let other = place.meet();
    place.wire(&other);
    // As many as the homeserver takes: more than are read of an answer in which it stands deeper.
    let deep = (0..DEEP).fold(json!(1), |inner, _| json!([inner]));
    let deep = json!({ "msgtype": "m.text", "body": "deep", "levels": deep });
    place.me.send(&other, &deep);
    place.ask(&room, "one");
    place.world.stop_host();
    place.me.send(&other, &deep);
    (0..12).for_each(|number| drop(place.me.say(&other, &format!("later {number}"))));
    place.world.up();
    place.ask(&room, "two");
    let heard = |text: &str| {
        let text = format!("\"{text}\"");
        let sessions = place.world.sessions();
        let messages = sessions.iter().flat_map(|session| session.messages());
        messages.filter(|message| message.content.contains(&text)).count()
    };
    wait_for("what was said behind it", || (heard("later 11") == 1).then_some(()));
    assert_eq!((heard("deep"), heard("later 0")), (2, 1));
}

#[test]
fn an_encrypted_room_is_refused_in_words_once() {
    let Some(place) = Place::make(Pace::Free, echo()) else { return };
    place.world.up();
    let encrypted = json!({ "initial_state": [{
        "type": "m.room.encryption", "state_key": "",
        "content": { "algorithm": "m.megolm.v1.aes-sha2" },
    }] });
    let room = place.me.make_room(&[&place.bot], &encrypted);
    let refused = || {
        let said = place.answers(&room);
        said.iter().filter(|text| text.contains("This room is encrypted")).count()
    };
    wait_for("the refusal", || (refused() > 0).then_some(()));
    let cipher = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x" });
    for number in 0..3 {
        let path = format!("/client/v3/rooms/{room}/send/m.room.encrypted/e{number}");
        place.me.ask("PUT", &path, Some(&cipher));
    }
    place.world.stop_host();
    place.world.up();
    let other = place.meet();
    place.wire(&other);
    place.ask(&other, "here I am heard");
    assert_eq!(refused(), 1);
    // Nothing is sent there in the clear, whoever is wired.
    place.wire(&room);
    let hand_in = ["send", "--channel", "matrix", "--chat", &room, "--id", "m1", "hello"];
    let nameless = place.world.run(&hand_in);
    assert!(!nameless.status.success(), "somebody has to say who says so");
    place.world.twobox(&[&hand_in[..], &["--sender-id", &place.me.id]].concat());
    let sessions = place.world.sessions();
    let session =
        sessions.iter().find(|it| it.messages().iter().any(|it| it.content.contains("\"hello\"")));
    let failed = session.unwrap_or(&sessions[0]).wait_delivery("echo: hello", "failed");
    assert!(failed.error.unwrap().contains("the room is encrypted"));
    assert_eq!(place.answers(&room).len(), 1);
}

#[test]
fn a_long_answer_comes_in_parts_each_once_and_in_their_order() {
    let line = "A line of an answer that has no end, with \\\"quotes\\\" & <tags>.\\n";
    let long = format!("```text\\n{}```\\nthat is all", line.repeat(2_000));
    let text: String = serde_json::from_str(&format!("\"{long}\"")).unwrap();
    let script = json!({
        "rules": [{ "match": "^long", "do": [{ "reply": text }, { "reply": "behind it" }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let Some((place, room)) = Place::up(Pace::Free, script) else { return };
    place.me.say(&room, "long");
    place.me.wait_said(&room, &place.bot, "behind it");
    let parts = place.answers(&room);
    assert!(parts.len() > 3, "{}", parts.len());
    let (last, parts) = parts.split_last().unwrap();
    assert_eq!(last, "behind it");
    let bare = |text: &str| {
        text.lines().filter(|it| !it.starts_with("```")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(bare(&parts.join("\n")), bare(&text));
    assert!(parts.iter().all(|part| part.matches("```").count() % 2 == 0), "each is whole");
}

#[test]
fn files_of_an_agent_arrive_and_one_that_is_too_large_is_named() {
    let large = "x".repeat(900_000);
    let script = json!({
        "rules": [{ "match": "^files", "do": [
            { "reply": "see" },
            { "file": { "name": "plan.txt", "text": "the plan" } },
        ] }, { "match": "^large", "do": [
            { "reply": "see too" },
            { "file": { "name": "large.bin", "text": large.repeat(2) } },
        ] }],
    });
    let Some((place, room)) = Place::up(Pace::Free, script) else { return };
    place.me.say(&room, "files");
    let event = place.me.wait_said(&room, &place.bot, "plan.txt");
    assert_eq!(event["content"]["msgtype"], "m.file");
    let uri = event["content"]["url"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    let path = format!("/client/v1/media/download/{uri}");
    assert_eq!(place.me.fetch("GET", &path, None), (200, b"the plan".to_vec()));
    place.me.say(&room, "large");
    let told = wait_for("the file to be named", || {
        place.answers(&room).into_iter().find(|text| text.starts_with("Not sent:"))
    });
    assert!(told.contains("large.bin") && told.contains("1800000 bytes"), "{told}");
    assert_eq!(place.answers(&room).len(), 4);
}

#[test]
fn a_file_that_somebody_sends_lies_beside_its_message_and_one_that_did_not_come_is_named() {
    let Some((place, room)) = Place::up(Pace::Free, echo()) else { return };
    let event = |name: &str, url: &str, body: &str| json!({ "msgtype": "m.image", "body": body, "filename": name, "url": url });
    let uri = place.me.upload(b"a picture");
    let said = place.me.send(&room, &event("../../in\u{202e}gnp.png", &uri, "look at this"));
    place.me.wait_said(&room, &place.bot, "echo: look at this");
    let session = place.world.session("ada");
    let folder = session.paths().inbox_files().join(&said);
    assert_eq!(std::fs::read(folder.join("in_gnp.png")).unwrap(), b"a picture");
    let chat: Value = serde_json::from_str(&session.message(&said).content).unwrap();
    assert_eq!(chat["files"], json!(["in_gnp.png"]));
    let nowhere = "mxc://t.local/nowhere";
    let said = place.me.send(&room, &event("gone.png", nowhere, "and this"));
    let answer = wait_for("an answer", || {
        place.answers(&room).into_iter().find(|text| text.contains("and this"))
    });
    assert!(answer.contains("[a file did not come with it: gone.png: "), "{answer}");
    assert!(!session.paths().inbox_files().join(&said).exists());
    let scratch = place.world.data().join("scratch/letters");
    wait_for("what was staged to be gone", || {
        std::fs::read_dir(&scratch).map_or(true, |mut all| all.next().is_none()).then_some(())
    });
}

#[test]
fn a_homeserver_that_wants_pauses_gets_them_and_loses_nothing() {
    let replies: Vec<Value> = (0..13).map(|n| json!({ "reply": format!("answer {n}") })).collect();
    let script = json!({ "rules": [{ "match": "^many", "do": replies }] });
    let Some((place, room)) = Place::up(Pace::Default, script) else { return };
    place.me.say(&room, "many");
    let expected: Vec<String> = (0..13).map(|n| format!("answer {n}")).collect();
    wait_within(std::time::Duration::from_secs(90), "all answers", || {
        (place.answers(&room).len() >= expected.len()).then_some(())
    });
    assert_eq!(place.answers(&room), expected);
    assert!(place.world.host_log().contains("M_LIMIT_EXCEEDED"), "there was no pause");
}

#[test]
fn a_room_sees_that_an_agent_is_at_it_and_no_longer_when_it_has_answered() {
    let Some((place, room)) = Place::up(Pace::Free, slow(4_000)) else { return };
    place.ask(&room, "before");
    let filter = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A1%7D%7D%7D";
    let path = format!("/client/v3/sync?filter={filter}");
    let mut since = place.me.ask("GET", &path, None)["next_batch"].clone();
    let mut wait_typing = |expected: bool| {
        wait_for(&format!("typing to be {expected}"), || {
            let path = format!("{path}&timeout=1000&since={}", since.as_str().unwrap());
            let said = place.me.ask("GET", &path, None);
            since = said["next_batch"].clone();
            let ephemeral = &said["rooms"]["join"][&room]["ephemeral"]["events"];
            let typing = |it: &Value| {
                let who = it["content"]["user_ids"].as_array();
                (it["type"] == "m.typing").then(|| who.unwrap().contains(&json!(place.bot)))
            };
            let last = ephemeral.as_array()?.iter().filter_map(typing).next_back();
            (last == Some(expected)).then_some(())
        });
    };
    place.me.say(&room, "slow answer");
    wait_typing(true);
    wait_typing(false);
    place.me.wait_said(&room, &place.bot, "echo: slow answer");
}
