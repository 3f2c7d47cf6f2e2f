//! Connections that end, sessions that go on and that do not, and what was said meanwhile.

use std::time::Duration;

use serde_json::json;
use twobox_tests::discord::Options;
use twobox_tests::{wait_for, wait_within};

use super::{Place, told};
use crate::scripts::{echo, slow};

#[test]
fn a_connection_that_is_cut_off_goes_on_and_nothing_is_missed() {
    let place = Place::up(echo());
    place.ask(&place.channel, "before");
    for (number, code) in [None, Some(4000), Some(1001)].into_iter().enumerate() {
        match code {
            None => place.discord.drop_connections(),
            Some(code) => place.discord.close_connections(code),
        }
        place.ask(&place.channel, &format!("after {number}"));
    }
    let (identified, resumed) = place.discord.sessions();
    assert_eq!(identified, 1, "the session goes on");
    assert!(resumed >= 3, "{resumed}");
    assert_eq!(place.health().unwrap()["state"], "up", "that is nothing to be told");
    let texts: Vec<_> = told(&place.world).iter().map(|it| it["text"].clone()).collect();
    assert_eq!(texts, ["before", "after 0", "after 1", "after 2"], "none lost, none twice");
}

#[test]
fn a_session_that_is_over_is_followed_by_another_and_what_was_said_between_is_read() {
    let place = Place::up(echo());
    let (direct, quiet) = (place.discord.direct(), place.discord.make_channel("quiet"));
    place.wire(&direct);
    place.wire(&quiet);
    place.ask(&place.channel, "before");
    place.discord.say(&direct, "hello");
    place.discord.wait_said(&direct, "echo: hello");
    place.discord.invalidate();
    // Nobody is told of these as they are said.
    place.say(&place.channel, "between");
    place.discord.say(&direct, "also between");
    place.say(&quiet, "for the first time");
    place.discord.wait_said(&place.channel, "echo: between");
    place.discord.wait_said(&direct, "echo: also between");
    place.discord.wait_said(&quiet, "echo: for the first time");
    assert_eq!(place.discord.sessions().0, 2);
    place.ask(&place.channel, "after");
    assert_eq!(place.answers(), ["echo: before", "echo: between", "echo: after"]);
}

#[test]
fn two_hundred_messages_that_were_said_meanwhile_are_heard_in_their_order() {
    let place = Place::up(echo());
    let thread = place.discord.make_thread(&place.channel);
    place.ask(&thread, "a thread is known");
    place.ask(&place.channel, "before");
    place.world.session("ada").wait_settled();
    place.world.stop_host();
    place.discord.invalidate();
    let said: Vec<String> = (0..205).map(|number| format!("message {number}")).collect();
    for text in &said {
        place.say(&place.channel, text);
    }
    place.say(&thread, "in the thread meanwhile");
    place.start();
    let session = place.world.session("ada");
    wait_within(Duration::from_secs(90), "all messages", || {
        (session.messages().len() == 208).then_some(())
    });
    // At Discord's pace, so many answers take most of a minute.
    wait_within(Duration::from_secs(120), "the last answer", || {
        place.answers().iter().any(|it| it == "echo: message 204").then_some(())
    });
    session.wait_settled();
    let texts: Vec<_> = told(&place.world)
        .iter()
        .map(|it| it["text"].as_str().unwrap().to_owned())
        .filter(|text| text.starts_with("message"))
        .collect();
    assert_eq!(texts, said, "none lost, none twice, in their order");
    place.discord.wait_said(&place.channel, "echo: message 204");
    let count = place.discord.count(&place.channel);
    assert!(count.values().all(|times| *times == 1), "{count:?}");
    assert_eq!(place.discord.answers(&thread).len(), 2);
}

#[test]
fn what_is_said_while_the_host_is_away_for_a_moment_is_told_by_the_session() {
    let place = Place::up(echo());
    let direct = place.discord.direct();
    place.wire(&direct);
    place.ask(&place.channel, "before");
    place.world.session("ada").wait_settled();
    place.world.kill_host();
    place.say(&place.channel, "meanwhile");
    place.discord.say(&direct, "for the first time");
    place.start();
    place.discord.wait_said(&place.channel, "echo: meanwhile");
    place.discord.wait_said(&direct, "echo: for the first time");
    assert_eq!(place.discord.sessions().0, 1, "it went on");
}

#[test]
fn discord_that_is_away_is_told_once_and_answered_when_it_is_back() {
    let place = Place::up(slow(1_500));
    place.ask(&place.channel, "before");
    place.say(&place.channel, "slow answer");
    let session = place.world.session("ada");
    wait_for("the message", || (session.messages().len() == 2).then_some(()));
    place.discord.go_down();
    place.wait_state("down");
    wait_for("the answer", || (session.rows().len() == 2).then_some(()));
    place.discord.come_back();
    place.wait_state("up");
    place.discord.wait_said(&place.channel, "echo: slow answer");
    place.ask(&place.channel, "after");
    assert_eq!(place.answers(), ["echo: before", "echo: slow answer", "echo: after"]);
}

#[test]
fn a_bot_that_may_not_read_says_what_to_do_and_goes_on_when_it_may() {
    let place = Place::make(Options { may_read: false, ..Options::default() }, echo());
    place.wire(&place.channel);
    place.world.up();
    place.wait_state("down");
    let health = place.health().unwrap().to_string();
    assert!(health.contains("Message Content Intent"), "{health}");
    place.discord.let_read(true);
    place.wait_state("up");
    place.ask(&place.channel, "hello");
}

#[test]
fn a_token_that_is_none_is_told_and_another_one_is_taken() {
    let place = Place::make(Options::default(), echo());
    place.wire(&place.channel);
    place.world.set_secret("discord", "not.the.one");
    place.world.up();
    place.wait_state("down");
    let health = place.health().unwrap().to_string();
    assert!(health.contains("twobox secrets set discord"), "{health}");
    assert!(!health.contains("not.the.one"), "{health}");
    place.world.set_secret("discord", &place.discord.token());
    place.wait_state("up");
    place.ask(&place.channel, "hello");
    let refused = place.discord.asked().into_iter().filter(|(_, _, status)| *status == 401);
    assert!(refused.count() < 10, "whoever is refused does not ask again and again");
}

#[test]
fn a_line_on_which_signs_of_life_are_wanted_often_lives() {
    let options = Options { beat: Duration::from_millis(300), ..Options::default() };
    let place = Place::up_with(options, echo());
    place.ask(&place.channel, "one");
    let began = std::time::Instant::now();
    wait_within(Duration::from_secs(20), "some beats", || {
        (began.elapsed() > Duration::from_secs(3)).then_some(())
    });
    place.ask(&place.channel, "two");
    assert_eq!(place.discord.sessions(), (1, 0), "nobody was cut off");
    assert_eq!(json!(place.answers()), json!(["echo: one", "echo: two"]));
}
