//! The host, the connection and Slack's answers die in the middle, and the witness counts.

use std::time::Duration;

use serde_json::{Value, json};
use twobox_shared::fault::CrashPoint;
use twobox_tests::slack::Fault;
use twobox_tests::{wait_for, wait_within};

use super::Place;
use crate::scripts::{echo, slow};

/// A host that dies at `point` while a message is heard and answered, and the next one.
fn survives(point: CrashPoint) {
    let (place, chat) = Place::up(echo());
    place.ask(&chat, "before");
    place.world.stop_host();
    place.say(&chat, "in the middle");
    place.world.start(&[("TWOBOX_CRASH_AT", point.name())]);
    let ended = place.world.wait_host_gone();
    assert!(!ended.success(), "{point:?} was not reached");
    place.world.up();
    place.slack.wait_said(&chat, "echo: in the middle");
    place.ask(&chat, "after");
    place.slack.wait_acknowledged();
    place.world.session("ada").wait_settled();
    assert_eq!(place.heard(), ["before", "in the middle", "after"], "{point:?}");
    assert_eq!(
        place.slack.texts(&chat),
        ["echo: before", "echo: in the middle", "echo: after"],
        "{point:?}: each once and in their order"
    );
}

#[test]
fn a_host_that_dies_before_a_message_is_durable_hears_it_again() {
    survives(CrashPoint::HostAcceptMarked);
}

#[test]
fn a_host_that_dies_before_it_has_acknowledged_a_message_takes_nothing_twice() {
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
    let long = "A sentence of an answer that is long.\n\n".repeat(900);
    let script = json!({
        "rules": [{ "match": "^long", "do": [{ "reply": long }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let (place, chat) = Place::up(script);
    place.say(&chat, "long");
    for parts in [1, 3, 5] {
        place.slack.wait_count(&chat, parts);
        place.world.kill_host();
        place.world.up();
    }
    place.say(&chat, "after");
    wait_within(Duration::from_secs(120), "the answer behind it", || {
        place.slack.texts(&chat).contains(&"echo: after".to_owned()).then_some(())
    });
    let mut answers = place.slack.texts(&chat);
    assert_eq!(answers.pop().as_deref(), Some("echo: after"));
    assert_eq!(answers.join("\n\n").trim(), long.trim());
}

#[test]
fn what_slack_has_taken_and_not_said_is_found_and_what_it_has_not_is_sent_again() {
    let (place, chat) = Place::up(echo());
    place.ask(&chat, "before");
    place.slack.fault("chat.postMessage", Fault::Silent);
    place.say(&chat, "taken");
    place.slack.wait_said(&chat, "echo: taken");
    place.ask(&chat, "between");
    place.slack.fault("chat.postMessage", Fault::Lost);
    place.say(&chat, "lost");
    place.slack.wait_said(&chat, "echo: lost");
    place.ask(&chat, "after");
    let expected = ["before", "taken", "between", "lost", "after"].map(|it| format!("echo: {it}"));
    assert_eq!(place.slack.texts(&chat), expected);
}

#[test]
fn what_was_said_while_the_host_was_away_is_heard_in_its_order_also_in_threads() {
    let (place, chat) = Place::up(echo());
    let other = place.slack.channel("general", &[&place.me]);
    place.wire(&other);
    let root = place.say(&other, "@ada: the root");
    place.ask(&chat, "before");
    place.slack.wait_acknowledged();
    place.world.stop_host();
    let said: Vec<String> = (0..250).map(|number| format!("message {number}")).collect();
    for text in &said {
        place.say(&chat, text);
    }
    // A thread below what was said before, where nobody had said anything, and a conversation that is new.
    place.slack.reply(&place.me, &other, &root, "<@UBOT> in the thread");
    let fresh = place.slack.direct(&place.slack.person("Grace"));
    place.wire(&fresh);
    place.slack.say("UBOT", &fresh, "its own word");
    place.say(&fresh, "a new conversation");
    // Slack has given up to hand it over.
    place.slack.give_up();
    place.world.up();
    place.slack.wait_said(&other, "echo: @bot in the thread");
    place.slack.wait_said(&fresh, "echo: a new conversation");
    wait_within(Duration::from_secs(90), "all messages", || {
        let heard = place.heard();
        let ours: Vec<String> =
            heard.into_iter().filter(|text| text.starts_with("message ")).collect();
        (ours == said).then_some(())
    });
}

#[test]
fn a_connection_that_is_lost_or_renewed_loses_and_doubles_nothing() {
    let (place, chat) = Place::up(slow(500));
    place.ask(&chat, "before");
    let mut expected = vec!["before".to_owned()];
    for round in 0..3 {
        place.slack.cut();
        for number in 0..3 {
            let text = format!("cut {round} {number}");
            place.say(&chat, &text);
            expected.push(text);
        }
        place.slack.wait_connections(1);
    }
    place.slack.rule(|rules| rules.warning = Duration::from_secs(1));
    place.wait_state("up");
    // The other connection is there before the first is closed, and what is said meanwhile goes to either.
    std::thread::scope(|scope| {
        scope.spawn(|| place.slack.refresh());
        for number in 0..10 {
            let text = format!("renewed {number}");
            place.say(&chat, &text);
            expected.push(text);
        }
        place.slack.wait_connections(2);
    });
    place.slack.wait_connections(1);
    expected.push("after".to_owned());
    place.ask(&chat, "after");
    place.slack.wait_acknowledged();
    place.world.session("ada").wait_settled();
    let mut heard = place.heard();
    let mut all = expected.clone();
    heard.sort();
    all.sort();
    assert_eq!(heard, all, "none lost, none twice");
    // What came while the agent was at something is answered together.
    let mut said = place.slack.texts(&chat);
    let count = said.len();
    said.sort();
    said.dedup();
    assert_eq!(said.len(), count, "none is answered twice");
}

#[test]
fn slack_that_is_away_and_comes_back_is_answered_once() {
    let (place, chat) = Place::up(slow(1_500));
    place.ask(&chat, "before");
    place.say(&chat, "slow answer");
    let session = place.world.session("ada");
    wait_for("the message", || (session.messages().len() == 2).then_some(()));
    place.slack.set_down(true);
    place.wait_state("down");
    wait_for("the answer", || (session.rows().len() == 2).then_some(()));
    place.slack.set_down(false);
    place.wait_state("up");
    place.slack.wait_said(&chat, "echo: slow answer");
    place.ask(&chat, "after");
    assert_eq!(place.slack.texts(&chat), ["echo: before", "echo: slow answer", "echo: after"]);
    let status: Value = place.world.status().unwrap();
    assert_eq!(status["channels"]["slack"]["state"], "up");
}
