//! The host and the homeserver die in the middle, and the witness counts.

use serde_json::json;
use twobox_shared::fault::CrashPoint;
use twobox_tests::{Pace, wait_for, wait_within};

use super::Place;
use crate::scripts::{echo, slow};

/// A host that dies at `point` while a message is heard and answered, and the next one.
fn survives(point: CrashPoint) {
    let Some((place, room)) = Place::up(Pace::Free, echo()) else { return };
    place.ask(&room, "before");
    place.world.stop_host();
    place.me.say(&room, "in the middle");
    place.world.start(&[("TWOBOX_CRASH_AT", point.name())]);
    let ended = place.world.wait_host_gone();
    assert!(!ended.success(), "{point:?} was not reached");
    place.world.up();
    place.me.wait_said(&room, &place.bot, "echo: in the middle");
    place.ask(&room, "after");
    place.world.session("ada").wait_settled();
    assert_eq!(place.world.session("ada").messages().len(), 3, "{point:?}");
    assert_eq!(
        place.answers(&room),
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
fn a_host_that_is_killed_again_and_again_between_parts_shows_each_once() {
    let long = "A sentence of an answer that is long.\n\n".repeat(15_000);
    let script = json!({
        "rules": [{ "match": "^long", "do": [{ "reply": long }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let Some((place, room)) = Place::up(Pace::Free, script) else { return };
    place.me.say(&room, "long");
    for parts in 1..=4 {
        wait_for("another part", || (place.answers(&room).len() >= parts).then_some(()));
        place.world.kill_host();
        place.world.up();
    }
    place.ask(&room, "after");
    let mut answers = place.answers(&room);
    assert_eq!(answers.pop().as_deref(), Some("echo: after"));
    assert_eq!(answers.join("\n\n").trim(), long.trim());
}

#[test]
fn a_homeserver_that_is_killed_and_comes_back_is_answered_once() {
    let Some((mut place, room)) = Place::up(Pace::Free, slow(1_500)) else { return };
    place.ask(&room, "before");
    place.me.say(&room, "slow answer");
    let session = place.world.session("ada");
    wait_for("the message", || (session.messages().len() == 2).then_some(()));
    place.synapse.kill();
    place.wait_state("down");
    wait_for("the answer", || (session.rows().len() == 2).then_some(()));
    place.synapse.start();
    place.wait_state("up");
    place.me.wait_said(&room, &place.bot, "echo: slow answer");
    place.ask(&room, "after");
    assert_eq!(place.answers(&room), ["echo: before", "echo: slow answer", "echo: after"]);
}

#[test]
fn two_hundred_messages_that_were_said_meanwhile_are_heard_in_their_order() {
    let Some((place, room)) = Place::up(Pace::Free, echo()) else { return };
    place.ask(&room, "before");
    place.world.stop_host();
    let said: Vec<String> = (0..200).map(|number| format!("message {number}")).collect();
    for text in &said {
        place.me.say(&room, text);
    }
    place.world.up();
    let session = place.world.session("ada");
    wait_within(std::time::Duration::from_secs(90), "all messages", || {
        (session.messages().len() > 200).then_some(())
    });
    session.wait_settled();
    place.ask(&room, "after");
    let texts: Vec<String> = session
        .messages()
        .iter()
        .map(|message| serde_json::from_str::<serde_json::Value>(&message.content).unwrap())
        .map(|content| content["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(texts[1..201], said[..], "none lost, none twice, in their order");
    assert_eq!(texts.len(), 202);
    let count = place.me.count(&room, &place.bot);
    assert!(count.values().all(|times| *times == 1), "{count:?}");
    assert!(count.contains_key("echo: message 199"), "{count:?}");
    assert_eq!(place.kept()["behind"], json!({}));
}

#[test]
fn what_a_day_has_made_the_homeserver_forget_is_looked_for_before_it_is_sent() {
    let Some((mut place, room)) = Place::up(Pace::Free, echo()) else { return };
    place.ask(&room, "before");
    place.world.stop_host();
    place.me.say(&room, "in the middle");
    place.world.start(&[("TWOBOX_CRASH_AT", CrashPoint::HostDeliverSent.name())]);
    assert!(!place.world.wait_host_gone().success());
    // The homeserver forgets the transactions, as it does after a day, and the host was away for longer.
    let forget = "DELETE FROM event_txn_id_device_id;";
    place.synapse.change_db(forget);
    let path = place.world.data().join("channels/matrix/state.json");
    let mut kept = place.kept();
    kept["alive_at"] = json!("2026-01-01T00:00:00Z");
    std::fs::write(path, kept.to_string()).unwrap();
    place.world.up();
    place.ask(&room, "after");
    assert_eq!(place.answers(&room), ["echo: before", "echo: in the middle", "echo: after"]);
}
