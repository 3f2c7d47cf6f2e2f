//! Groups: what is meant for the bot, topics, and a group that becomes another chat.

use serde_json::{Value, json};
use twobox_tests::telegram::{GROUP, Order, SUPERGROUP, TOPIC};
use twobox_tests::wait_for;

use super::{ME, Place};
use crate::scripts::echo;

#[test]
fn in_a_group_an_answer_says_whom_it_answers_and_a_mention_is_told() {
    let place = Place::up(echo());
    place.wire(GROUP);
    place.telegram.say_in(GROUP, 7, "among us", Value::Null);
    let asked = place.telegram.say_in(GROUP, ME, "@two_box_bot what do you think?", Value::Null);
    let answer = place.telegram.wait_said(GROUP, "echo: @two_box_bot what do you think?");
    assert_eq!(answer["reply_to_message"]["message_id"], asked);
    let said = answer["message_id"].as_i64().unwrap();
    place.telegram.say_in(GROUP, ME, "and why?", json!({ "answers": said }));
    place.telegram.wait_said(GROUP, "echo: and why?");
    let session = place.world.session("ada");
    session.wait_settled();
    let abouts: Vec<Value> = session
        .messages()
        .iter()
        .map(|it| serde_json::from_str::<Value>(&it.content).unwrap()["about"].clone())
        .collect();
    assert_eq!(
        abouts.len(),
        2,
        "of what is not meant for it a bot in privacy mode is told nothing"
    );
    assert!(abouts.iter().all(|it| it["group"] == true && it["mentioned"] == true), "{abouts:?}");
    assert_eq!(abouts[1]["reply_to"], format!("{GROUP}:{said}"));
}

#[test]
fn a_word_to_the_host_may_name_the_bot() {
    let place = Place::up(echo());
    place.wire(GROUP);
    place.telegram.say_in(GROUP, ME, "/status@two_box_bot", Value::Null);
    wait_for("an answer", || {
        let texts = place.telegram.texts(GROUP);
        (!texts.is_empty()).then_some(())
    });
    let texts = place.telegram.texts(GROUP);
    assert!(!texts[0].starts_with("echo:"), "it is the host's word: {texts:?}");
    assert_eq!(place.world.session("ada").rows().len(), 0, "no agent has answered");
}

#[test]
fn a_topic_is_a_thread_and_answers_stay_there() {
    let place = Place::up(echo());
    place.wire(SUPERGROUP);
    let topic = json!({ "message_thread_id": TOPIC });
    place.telegram.say_in(SUPERGROUP, ME, "@two_box_bot in the topic", topic);
    let answer = place.telegram.wait_said(SUPERGROUP, "echo: @two_box_bot in the topic");
    assert_eq!(answer["message_thread_id"], TOPIC);
    place.telegram.say_in(SUPERGROUP, ME, "@two_box_bot beside it", Value::Null);
    let answer = place.telegram.wait_said(SUPERGROUP, "echo: @two_box_bot beside it");
    assert!(answer.get("message_thread_id").is_none(), "{answer}");
}

#[test]
fn a_group_that_becomes_a_supergroup_keeps_its_conversation() {
    let place = Place::up(echo());
    place.wire(GROUP);
    place.telegram.say_in(GROUP, ME, "/before@two_box_bot", Value::Null);
    place.telegram.wait_said(GROUP, "echo: /before");
    let to = -1_001_234_567_890;
    place.telegram.order(Order::Upgrade { group: GROUP, to });
    place.telegram.say_in(to, ME, "/after@two_box_bot", Value::Null);
    let answer = place.telegram.wait_said(to, "echo: /after");
    assert_eq!(answer["chat"]["id"], to);
    assert_eq!(place.world.session("ada").messages().len(), 2, "it is one conversation");
    assert_eq!(place.kept()["moved"][to.to_string()], GROUP);
    // A host that does not know it yet learns it when it sends.
    place.world.stop_host();
    let path = place.world.data().join("channels/telegram/state.json");
    let mut kept = place.kept();
    kept["moved"] = json!({});
    std::fs::write(path, kept.to_string()).unwrap();
    place.world.up();
    place.world.twobox(&["send", "--channel", "telegram", "--chat", &GROUP.to_string(), "late"]);
    place.telegram.wait_said(to, "echo: late");
}
