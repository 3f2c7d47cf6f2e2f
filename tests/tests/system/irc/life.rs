//! Nicks, channels, and what is in the way.

use twobox_tests::{Software, wait_for};

use super::{BOT, Place, ROOM};
use crate::scripts::echo;

#[test]
fn a_nick_that_is_taken_is_another_until_it_is_free() {
    let Some(mut place) = Place::make(Software::Ngircd, echo()) else { return };
    let mut ghost = place.ircd.person(BOT);
    place.world.up();
    place.me.wait_for_person(ROOM, "adabot_");
    place.me.say(ROOM, "hello");
    place.me.wait_said("adabot_", ROOM, "echo: hello");
    let said = place.doctor();
    assert!(said.contains("it is let in"), "{said}");
    ghost.line("QUIT");
    place.wait_there();
    place.ask("again");
}

#[test]
fn a_nick_that_is_too_long_for_the_server_is_shorter_and_that_is_said() {
    let Some(mut place) = Place::make(Software::Ngircd, echo()) else { return };
    let path = place.world.data().join("twobox.toml");
    let text =
        std::fs::read_to_string(&path).unwrap().replace("\"adabot\"", "\"adabot-the-second\"");
    std::fs::write(path, text).unwrap();
    place.world.up();
    place.me.wait_for_person(ROOM, "adabot-th");
    place.me.say(ROOM, "hello");
    place.me.wait_said("adabot-th", ROOM, "echo: hello");
    let said = place.doctor();
    assert!(said.contains("nicks of 9 letters at most"), "{said}");
}

#[test]
fn whoever_is_kept_out_of_a_channel_says_why_and_waits_and_nothing_is_lost() {
    let Some(mut place) = Place::make(Software::Inspircd, echo()) else { return };
    place.me.line(&format!("MODE {ROOM} +b {BOT}!*@*"));
    place.world.up();
    wait_for("the reason", || {
        place.world.host_log().contains("not in a channel of IRC").then_some(())
    });
    wait_for("it to be kept", || place.kept()["outside"][ROOM].is_string().then_some(()));
    let said = place.doctor();
    assert!(said.contains("it is not in #room") && said.contains("banned"), "{said}");
    // What the agent has to say there waits for it.
    place.world.twobox(&["send", "--channel", "irc", "--chat", ROOM, "hello"]);
    let session = place.world.session("ada");
    wait_for("the answer", || (!session.rows().is_empty()).then_some(()));
    place.me.line(&format!("MODE {ROOM} -b {BOT}!*@*"));
    place.me.line(&format!("INVITE {BOT} {ROOM}"));
    place.me.wait_said(BOT, ROOM, "echo: hello");
    assert_eq!(place.answers(), ["echo: hello"]);
    // Whoever is kicked out comes back when somebody asks for it.
    place.me.line(&format!("KICK {ROOM} {BOT} :enough"));
    wait_for("it to be told", || {
        place.world.host_log().contains("has kicked it out: enough").then_some(())
    });
    place.me.line(&format!("INVITE {BOT} {ROOM}"));
    place.wait_there();
    place.ask("again");
}

#[test]
fn a_channel_without_colours_is_spoken_to_without_and_one_that_is_not_set_not_at_all() {
    let script = serde_json::json!({
        "otherwise": [{ "reply": "some **bold** words\nand more" }],
    });
    let Some(mut place) = Place::up(Software::Inspircd, script) else { return };
    place.me.say(ROOM, "say it");
    place.me.wait_said(BOT, ROOM, "some \u{2}bold\u{2} words");
    place.me.line(&format!("MODE {ROOM} +c"));
    place.me.say(ROOM, "say it");
    place.me.wait_said(BOT, ROOM, "some bold words");
    wait_for("the rest", || (place.answers().len() == 4).then_some(()));
    assert_eq!(place.answers()[2..], ["some bold words", "and more"]);
    place.wire("#elsewhere");
    place.world.twobox(&["send", "--channel", "irc", "--chat", "#elsewhere", "hello"]);
    wait_for("the failure", || {
        let dead = place.world.twobox(&["dead", "list"]);
        dead.contains("not among the `channels`").then_some(())
    });
}

#[test]
fn a_server_that_wants_a_password_says_so_and_is_given_it() {
    let Some(mut place) = Place::make(Software::Ngircd, echo()) else { return };
    place.ircd.kill();
    place.ircd.start_with("Password = s3cret-of-it");
    place.world.up();
    wait_for("the reason", || {
        let (state, channel) = place.state()?;
        (state == "down" && channel["reason"].as_str()?.contains("server_password_secret"))
            .then_some(())
    });
    place.world.stop_host();
    place.set("server_password_secret = \"ircd\"");
    place.world.set_secret("ircd", "s3cret-of-it");
    place.world.up();
    place.wait_state("up");
    assert!(!place.world.host_log().contains("s3cret"), "it is in the log");
}

#[test]
fn another_certificate_than_the_one_that_is_set_is_nobody() {
    let Some(place) = Place::make(Software::Ngircd, echo()) else { return };
    place.set_at(place.ircd.tls_address(), &format!("fingerprint = \"{}\"", "00".repeat(32)));
    place.world.up();
    let wait_reason = |part: &str| {
        wait_for("the reason", || {
            let (state, channel) = place.state()?;
            (state == "down" && channel["reason"].as_str()?.contains(part)).then_some(())
        });
    };
    wait_reason("is its certificate another than `fingerprint` says?");
    place.world.stop_host();
    place.set_at(place.ircd.tls_address(), "");
    place.world.up();
    wait_reason("set `fingerprint`");
}
