//! Accounts: the host logs in, and knows who else has.

use twobox_tests::{Software, wait_for};

use super::{BOT, Place, ROOM};
use crate::scripts::echo;

#[test]
fn the_host_logs_in_over_tls_and_tells_who_has_an_account_from_who_has_a_nick() {
    let Some(mut place) = Place::make(Software::InspircdWithServices, echo()) else { return };
    drop(place.ircd.register("botacc"));
    place.set("account = \"botacc\"\npassword_secret = \"irc\"");
    place.world.set_secret("irc", "wrong");
    place.world.up();
    wait_for("the reason", || {
        let (state, channel) = place.state()?;
        (state == "down" && channel["reason"].as_str()?.contains("twobox secrets set irc"))
            .then_some(())
    });
    place.world.set_secret("irc", "password-botacc");
    place.wait_there();
    place.ask("by a nick");
    let about = place.last_about();
    assert!(about["sender_id"].as_str().unwrap().starts_with("nick:me!"), "{about}");
    let mut known = place.ircd.register("known");
    known.join(ROOM);
    known.say(ROOM, "by an account");
    place.me.wait_said(BOT, ROOM, "echo: by an account");
    let about = place.last_about();
    assert_eq!(about["sender_id"], "account:known");
    assert!(about["sent_at"].is_i64() || about["sent_at"].is_string(), "{about}");
    let said = place.doctor();
    assert!(
        said.contains("it is let in, as botacc") && said.contains("the server says what it took"),
        "{said}"
    );
    let log = place.world.host_log();
    for secret in ["password-botacc", "cGFzc3dvcmQtYm90YWNj"] {
        assert!(!log.contains(secret), "it is in the log");
    }
}

#[test]
fn where_nobody_can_log_in_the_host_waits_and_says_so() {
    let Some(place) = Place::make(Software::Ngircd, echo()) else { return };
    place.set("password_secret = \"irc\"");
    let missing = place.doctor();
    assert!(missing.contains("twobox secrets set irc"), "{missing}");
    place.world.set_secret("irc", "s3cret");
    place.world.up();
    wait_for("the reason", || {
        let (state, channel) = place.state()?;
        (state == "down" && channel["reason"].as_str()?.contains("offers no SASL")).then_some(())
    });
}
