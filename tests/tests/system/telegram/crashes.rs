//! The host and Telegram die in the middle, and the witness counts.

use serde_json::json;
use twobox_shared::fault::CrashPoint;
use twobox_tests::telegram::{Order, Weather};
use twobox_tests::{wait_for, wait_within};

use super::{ME, Place};
use crate::scripts::{echo, slow};

/// A host that dies at `point` while a message is heard and answered, and the next one.
fn survives(point: CrashPoint) {
    let place = Place::up(echo());
    place.ask("before");
    place.world.stop_host();
    place.telegram.say(ME, "in the middle");
    place.world.start(&[("TWOBOX_CRASH_AT", point.name())]);
    let ended = place.world.wait_host_gone();
    assert!(!ended.success(), "{point:?} was not reached");
    place.world.up();
    place.telegram.wait_said(ME, "echo: in the middle");
    place.ask("after");
    place.world.session("ada").wait_settled();
    assert_eq!(place.world.session("ada").messages().len(), 3, "{point:?}");
    assert_eq!(
        place.telegram.texts(ME),
        ["echo: before", "echo: in the middle", "echo: after"],
        "{point:?}: each once and in their order"
    );
}

#[test]
fn a_host_that_dies_before_a_message_is_durable_hears_it_again() {
    survives(CrashPoint::HostAcceptMarked);
}

#[test]
fn a_host_that_dies_before_the_position_has_moved_takes_nothing_twice() {
    survives(CrashPoint::HostAcceptCommitted);
}

#[test]
fn a_host_that_dies_before_it_knows_what_was_sent_sends_nothing_twice() {
    survives(CrashPoint::HostDeliverSent);
}

#[test]
fn a_host_that_dies_after_it_has_recorded_that_sends_nothing_twice() {
    survives(CrashPoint::HostDeliverRecorded);
}

#[test]
fn a_host_that_dies_while_telegram_is_asked_shows_nothing_twice_and_says_that_it_does_not_know() {
    let place = Place::up(echo());
    place.ask("before");
    place.telegram.fail("sendMessage", 1, Weather::Stalled);
    place.telegram.say(ME, "in the middle");
    place.telegram.wait_stalled();
    place.world.kill_host();
    place.telegram.order(Order::Release);
    place.world.up();
    place.ask("after");
    place.world.session("ada").wait_delivery("echo: in the middle", "uncertain");
    let expected = ["echo: before", "echo: in the middle", "echo: after"];
    assert_eq!(place.telegram.texts(ME), expected, "it was there, and is there once");
}

/// How many parts are recorded as taken.
fn taken(place: &Place) -> usize {
    let db = rusqlite::Connection::open(place.world.data().join("host.db")).unwrap();
    let count = "SELECT count(*) FROM sent_parts WHERE state = 'taken'";
    let count: i64 = db.query_row(count, [], |row| row.get(0)).unwrap_or_default();
    usize::try_from(count).unwrap()
}

#[test]
fn a_host_that_is_killed_again_and_again_between_parts_shows_each_once() {
    let long = "A sentence of an answer that is long.\n\n".repeat(1_200);
    let script = json!({
        "rules": [{ "match": "^long", "do": [{ "reply": long }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let place = Place::up(script);
    // A host that begins anew has forgotten how fast the one before was.
    place.telegram.order(Order::Flood { on: false });
    place.telegram.say(ME, "long");
    for parts in [3, 6, 9] {
        // The pace has what follows three at once wait for three seconds.
        wait_for("another few parts, and their records", || (taken(&place) >= parts).then_some(()));
        place.world.kill_host();
        place.world.up();
    }
    wait_for("the rest", || {
        (place.telegram.texts(ME).concat().matches("sentence").count() >= 1_200).then_some(())
    });
    let session = place.world.session("ada");
    session.wait_settled();
    let answers = place.telegram.texts(ME);
    assert_eq!(answers.join("\n\n").trim(), long.trim(), "nothing is lost, nothing is there twice");
}

#[test]
fn an_answer_that_is_lost_on_its_way_is_not_sent_again_and_said_to_be_unknown() {
    for weather in [Weather::Silent, Weather::Lost] {
        let is_there = weather == Weather::Silent;
        let place = Place::up(echo());
        place.ask("before");
        place.telegram.fail("sendMessage", 1, weather.clone());
        place.telegram.say(ME, "in the middle");
        place.ask("after");
        place.world.session("ada").wait_delivery("echo: in the middle", "uncertain");
        let mut expected = vec!["echo: before", "echo: in the middle", "echo: after"];
        expected.retain(|text| is_there || *text != "echo: in the middle");
        assert_eq!(place.telegram.texts(ME), expected, "{weather:?}");
    }
}

#[test]
fn what_was_said_and_answered_in_an_outage_arrives_once_it_is_over() {
    let place = Place::up(slow(1_500));
    place.ask("before");
    place.telegram.say(ME, "slow answer");
    let session = place.world.session("ada");
    wait_for("the message", || (session.messages().len() == 2).then_some(()));
    place.telegram.cut(true);
    let down = place.wait_state("down");
    assert!(down["reason"].as_str().unwrap().contains("Telegram"), "{down}");
    place.telegram.say(ME, "meanwhile");
    wait_for("the answer", || (session.rows().len() == 2).then_some(()));
    place.telegram.cut(false);
    place.wait_state("up");
    place.telegram.wait_said(ME, "echo: slow answer");
    place.telegram.wait_said(ME, "echo: meanwhile");
    place.ask("after");
    let expected = ["echo: before", "echo: slow answer", "echo: meanwhile", "echo: after"];
    assert_eq!(place.telegram.texts(ME), expected);
    place.assert_token_unseen();
}

#[test]
fn a_thousand_messages_that_were_said_meanwhile_are_heard_in_their_order() {
    let script = json!({
        "rules": [{ "match": "^message", "do": [{ "sleep_ms": 0 }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let place = Place::up(script);
    place.ask("before");
    place.world.stop_host();
    let said: Vec<String> = (0..1_000).map(|number| format!("message {number}")).collect();
    for text in &said {
        place.telegram.say(ME, text);
    }
    place.world.up();
    let session = place.world.session("ada");
    wait_within(std::time::Duration::from_secs(90), "all messages", || {
        (session.messages().len() > 1_000).then_some(())
    });
    let texts: Vec<String> = session
        .messages()
        .iter()
        .map(|message| serde_json::from_str::<serde_json::Value>(&message.content).unwrap())
        .map(|content| content["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(texts[1..], said[..], "none lost, none twice, in their order");
    wait_for("everything to be confirmed", || (place.telegram.pending() == 0).then_some(()));
    assert_eq!(place.kept()["held"], json!({}));
}
