//! What leaves: faults on the way, limits, files, and buttons.

use std::time::Duration;

use serde_json::{Value, json};
use twobox_tests::discord::{Fault, Options};
use twobox_tests::wait_for;

use super::Place;
use crate::approvals::{asks, decisions, tea};
use crate::scripts::echo;

#[test]
fn each_fault_on_the_way_shows_the_message_once() {
    let place = Place::up(echo());
    for fault in [Fault::Unsent, Fault::Silent, Fault::Broken] {
        place.discord.fail(fault);
        place.ask(&place.channel, &format!("{fault:?}"));
    }
    // Nobody answers for so long that it is tried again by the host itself.
    (0..2).for_each(|_| place.discord.fail(Fault::Silent));
    place.ask(&place.channel, "twice silent");
    place.world.session("ada").wait_settled();
    assert_eq!(
        place.answers(),
        ["echo: Unsent", "echo: Silent", "echo: Broken", "echo: twice silent"]
    );
}

#[test]
fn the_pace_that_discord_wants_is_kept() {
    let options =
        Options { messages: 2, period: Duration::from_millis(1_500), ..Options::default() };
    let script = json!({
        "rules": [{ "match": "^many", "do": (0..9).map(|it| json!({ "reply": format!("answer {it}") })).collect::<Vec<_>>() }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let place = Place::up_with(options, script);
    place.say(&place.channel, "many");
    place.discord.wait_said(&place.channel, "answer 8");
    let expected: Vec<String> = (0..9).map(|number| format!("answer {number}")).collect();
    assert_eq!(place.answers(), expected, "in their order");
    assert!(place.discord.limited() <= 1, "{} were too early", place.discord.limited());
}

#[test]
fn a_channel_in_which_the_bot_may_not_speak_keeps_no_other_waiting() {
    let place = Place::up(echo());
    let closed = place.discord.make_channel("closed");
    place.wire(&closed);
    place.discord.close(&closed, Some(50_013));
    place.say(&closed, "hello");
    wait_for("the refusal", || {
        let dead = place.world.twobox(&["dead", "list", "--json"]);
        dead.contains("may not do that in this channel").then_some(())
    });
    place.ask(&place.channel, "hello");
    place.discord.close(&closed, None);
    place.ask(&closed, "again");
}

#[test]
fn long_answers_are_cut_where_a_reader_pauses_and_tables_stand_in_columns() {
    let code = format!("```sh\n{}```", "echo hello\n".repeat(300));
    let script = json!({
        "rules": [
            { "match": "^code", "do": [{ "reply": code }] },
            { "match": "^table", "do": [{ "reply": "|a|b|\n|-|-|\n|1|2|" }] },
        ],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let place = Place::up(script);
    place.say(&place.channel, "code");
    wait_for("some parts", || (place.answers().len() >= 2).then_some(()));
    place.world.session("ada").wait_settled();
    place.say(&place.channel, "table");
    place.discord.wait_said(&place.channel, "```\na  b\n-  -\n1  2\n```");
    let mut answers = place.answers();
    answers.pop();
    assert!(answers.len() >= 2, "{answers:?}");
    for answer in &answers {
        assert!(answer.starts_with("```sh\n") && answer.ends_with("```"), "{answer}");
        assert!(answer.chars().count() <= 2_000);
    }
    let lines: usize = answers.iter().map(|answer| answer.matches("echo hello").count()).sum();
    assert_eq!(lines, 300);
}

#[test]
fn files_are_sent_and_what_cannot_be_is_named() {
    let script = json!({
        "rules": [{ "match": "^file", "do": [
            { "reply": "see" },
            { "file": { "name": "plan.txt", "text": "the plan" } },
        ] }, { "match": "^large", "do": [
            { "reply": "see too" },
            { "file": { "name": "large.bin", "text": "x".repeat(11_000_000) } },
        ] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let place = Place::up(script);
    place.say(&place.channel, "file");
    place.discord.wait_said(&place.channel, "see");
    place.say(&place.channel, "large");
    let told = wait_for("what is missing", || {
        place.answers().into_iter().find(|text| text.starts_with("Not sent:"))
    });
    assert!(told.contains("`large.bin`: it has 11000000 bytes"), "{told}");
    let sent: Vec<Value> = place
        .discord
        .messages(&place.channel)
        .into_iter()
        .filter(|message| message["attachments"].as_array().is_some_and(|all| !all.is_empty()))
        .collect();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0]["attachments"][0]["filename"], "plan.txt");
    assert_eq!(place.discord.files(&sent[0]), [b"the plan"]);
}

#[test]
fn a_button_answers_once_and_shows_who_has_pressed_it() {
    let place = Place::up(asks(&tea()));
    place.say(&place.channel, "ask");
    let asked = wait_for("the question", || {
        let all = place.discord.messages(&place.channel);
        all.into_iter().find(|it| it["components"].as_array().is_some_and(|all| !all.is_empty()))
    });
    let text = asked["content"].as_str().unwrap();
    assert!(text.contains("Which tea?") && text.contains("2. \"black\""), "{text}");
    let buttons = asked["components"][0]["components"].as_array().unwrap().clone();
    let labels: Vec<_> = buttons.iter().map(|it| it["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["1. green", "2. black"]);
    let id = asked["id"].as_str().unwrap();
    let black = buttons[1]["custom_id"].as_str().unwrap();
    let pressed = place.discord.press(id, black).unwrap();
    assert_eq!(place.discord.wait_answered(&pressed)["type"], 7);
    let session = place.world.session("ada");
    let decided = wait_for("the decision", || decisions(&session).into_iter().next());
    assert!(decided.to_string().contains("black"), "{decided}");
    let shown = place.discord.messages(&place.channel);
    let shown = shown.iter().find(|it| it["id"] == id).unwrap();
    let left = &shown["components"][0]["components"];
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    assert_eq!((&left[0]["label"], &left[0]["disabled"]), (&json!("2. black — me"), &json!(true)));
    assert_eq!(place.discord.press(id, black), None, "it is not to be pressed again");
    place.ask(&place.channel, "after");
    assert_eq!(decisions(&session).len(), 1);
}
