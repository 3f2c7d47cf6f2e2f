//! The host, the server and the way between them die in the middle, and the witness counts.

use serde_json::json;
use twobox_shared::fault::CrashPoint;
use twobox_tests::{Software, wait_for};

use super::long::Listener;
use super::{BOT, Place, ROOM};
use crate::scripts::{echo, slow};

/// A host that dies at `point` while a message is heard and answered, and the next one. Whether it is heard at all is
/// nobody's to promise: a server says it once.
fn survives(point: CrashPoint, heard: bool) {
    let Some(mut place) = Place::up(Software::Inspircd, echo()) else { return };
    place.ask("before");
    place.world.stop_host();
    place.world.start(&[("TWOBOX_CRASH_AT", point.name())]);
    place.wait_there();
    place.me.say(ROOM, "in the middle");
    let ended = place.world.wait_host_gone();
    assert!(!ended.success(), "{point:?} was not reached");
    place.world.up();
    place.wait_there();
    place.ask("after");
    place.world.session("ada").wait_settled();
    let middle = heard.then_some("echo: in the middle");
    let expected: Vec<&str> =
        ["echo: before"].into_iter().chain(middle).chain(["echo: after"]).collect();
    assert_eq!(place.answers(), expected, "{point:?}: each once and in their order");
}

#[test]
fn a_host_that_dies_before_a_message_is_durable_has_not_heard_it_and_says_so() {
    survives(CrashPoint::HostAcceptMarked, false);
}

#[test]
fn a_host_that_dies_after_a_message_is_durable_answers_it_once() {
    survives(CrashPoint::HostAcceptCommitted, true);
}

#[test]
fn a_host_that_dies_before_it_knows_what_was_sent_sends_nothing_twice() {
    survives(CrashPoint::HostDeliverSent, true);
}

#[test]
fn a_host_that_dies_after_it_has_recorded_that_sends_nothing_twice() {
    survives(CrashPoint::HostDeliverRecorded, true);
}

#[test]
fn a_host_that_is_killed_again_and_again_between_lines_shows_none_twice_and_loses_none_in_silence()
{
    let lines: Vec<String> = (0..20).map(|number| format!("line {number}")).collect();
    let text = lines.join("\n");
    let script = json!({
        "rules": [{ "match": "lines", "do": [{ "reply": text }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let Some(mut place) = Place::up(Software::Ngircd, script) else { return };
    place.me.say(ROOM, "lines");
    for seen in [3, 7, 11] {
        wait_for("some lines", || (place.answers().len() >= seen).then_some(()));
        place.world.kill_host();
        place.world.up();
        place.wait_there();
    }
    place.me.wait_said(BOT, ROOM, "line 19");
    let session = place.world.session("ada");
    let delivery = wait_for("it to be over", || {
        session
            .delivery_of(&text)
            .filter(|it| ["delivered", "uncertain"].contains(&it.status.as_str()))
    });
    let answers = place.answers();
    let count = place.me.count(BOT, ROOM);
    assert!(count.values().all(|times| *times == 1), "none twice: {count:?}");
    let missing: Vec<&String> = lines.iter().filter(|it| !answers.contains(it)).collect();
    assert!(missing.is_empty() || delivery.status == "uncertain", "{missing:?} lost in silence");
    assert!(missing.len() <= 3, "at most the one that was on its way at each kill: {missing:?}");
    place.ask("after");
}

#[test]
fn a_server_that_is_killed_and_comes_back_is_answered_once_and_the_gap_is_said() {
    for software in [Software::Ngircd, Software::Inspircd] {
        let Some(mut place) = Place::up(software, slow(1_500)) else { return };
        place.ask("before");
        place.me.say(ROOM, "slow answer");
        let session = place.world.session("ada");
        wait_for("the message", || (session.messages().len() == 2).then_some(()));
        place.ircd.kill();
        place.wait_state("down");
        wait_for("the answer", || (session.rows().len() == 2).then_some(()));
        // Whoever is to see the answer has to be there first.
        place.world.freeze_host();
        place.ircd.start();
        place.me = place.ircd.person("me");
        place.me.join(ROOM);
        place.world.thaw_host();
        place.me.wait_said(BOT, ROOM, "echo: slow answer");
        place.ask("after");
        assert_eq!(place.answers(), ["echo: slow answer", "echo: after"], "{software:?}");
        assert!(place.world.host_log().contains("nobody listened on IRC meanwhile"));
        let said = place.doctor();
        assert!(said.contains("was not heard: nobody was there"), "{said}");
    }
}

#[test]
fn a_line_whose_answer_is_lost_is_uncertain_and_never_said_twice() {
    let Some(mut place) = Place::make(Software::Ngircd, echo()) else { return };
    let listener = Listener::before(place.ircd.address());
    place.set_at(listener.address, "tls = false");
    place.world.up();
    place.wait_there();
    place.ask("before");
    let session = place.world.session("ada");
    place.me.say(ROOM, "in the middle");
    wait_for("the message", || (session.messages().len() == 2).then_some(()));
    listener.deafen(true);
    place.me.wait_said(BOT, ROOM, "echo: in the middle");
    listener.cut();
    listener.deafen(false);
    session.wait_delivery("echo: in the middle", "uncertain");
    place.wait_there();
    place.ask("after");
    assert_eq!(place.answers(), ["echo: before", "echo: in the middle", "echo: after"]);
}
