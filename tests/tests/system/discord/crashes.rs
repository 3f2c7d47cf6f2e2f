//! The host dies in the middle, and the witness counts.

use serde_json::json;
use twobox_shared::fault::CrashPoint;
use twobox_tests::wait_for;

use super::Place;
use crate::scripts::echo;

/// A host that dies at `point` while a message is heard and answered, and the next one. Between the two `meanwhile`
/// happens.
fn survives(point: CrashPoint, meanwhile: impl Fn(&Place)) {
    let place = Place::up(echo());
    place.ask(&place.channel, "before");
    place.world.session("ada").wait_settled();
    place.world.stop_host();
    place.say(&place.channel, "in the middle");
    place.world.start(&[("TWOBOX_CRASH_AT", point.name())]);
    let ended = place.world.wait_host_gone();
    assert!(!ended.success(), "{point:?} was not reached");
    meanwhile(&place);
    place.start();
    place.discord.wait_said(&place.channel, "echo: in the middle");
    place.ask(&place.channel, "after");
    place.world.session("ada").wait_settled();
    assert_eq!(place.world.session("ada").messages().len(), 3, "{point:?}");
    assert_eq!(
        place.answers(),
        ["echo: before", "echo: in the middle", "echo: after"],
        "{point:?}: each once and in their order"
    );
}

#[test]
fn a_host_that_dies_before_a_message_is_durable_hears_it_again() {
    survives(CrashPoint::HostAcceptMarked, |_| {});
}

#[test]
fn a_host_that_dies_before_the_position_has_moved_takes_nothing_twice() {
    survives(CrashPoint::HostAcceptCommitted, |_| {});
}

#[test]
fn a_host_that_dies_before_it_knows_what_was_sent_sends_nothing_twice() {
    survives(CrashPoint::HostDeliverSent, |_| {});
}

#[test]
fn what_some_minutes_have_made_discord_forget_is_looked_for_before_it_is_sent() {
    survives(CrashPoint::HostDeliverSent, |place| {
        place.discord.forget_nonces();
        place.discord.invalidate();
    });
}

#[test]
fn a_host_that_dies_after_it_has_recorded_that_sends_nothing_twice() {
    survives(CrashPoint::HostDeliverRecorded, |_| {});
}

#[test]
fn a_host_that_is_killed_again_and_again_between_parts_shows_each_once() {
    let long: String = (0..600).map(|number| format!("Sentence {number} is long.\n\n")).collect();
    let script = json!({
        "rules": [{ "match": "^long", "do": [{ "reply": long }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let place = Place::up(script);
    place.say(&place.channel, "long");
    for parts in 1..=4 {
        wait_for("another part", || (place.answers().len() >= parts).then_some(()));
        place.world.kill_host();
        place.start();
    }
    place.ask(&place.channel, "after");
    let mut answers = place.answers();
    assert_eq!(answers.pop().as_deref(), Some("echo: after"));
    assert!(answers.len() > 4, "{}", answers.len());
    assert_eq!(answers.join("\n\n"), long.trim());
    let refused = place.discord.asked().into_iter().filter(|(_, _, status)| *status == 429);
    assert!(refused.count() <= 8, "each life learns the pace once");
}
