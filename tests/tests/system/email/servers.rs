//! What real servers do, each by the name of the fact.

use serde_json::Value;
use twobox_tests::{Secrecy, wait_for};

use super::Place;
use crate::scripts::echo;

#[test]
fn equal_message_ids_are_delivered_twice_and_heard_once() {
    let Some(place) = Place::up(echo()) else { return };
    let head = "Message-ID: <same@witness>\n";
    for _ in 0..2 {
        place.mail.write("me", "", head, "hello");
    }
    wait_for("both", || (place.mail.mails("bot").len() == 2).then_some(()));
    place.mail.wait_mail("me", "echo: hello");
    // Somebody else's mail under that id is another mail.
    place.wire("you");
    place.mail.write("you", "", head, "hello, too");
    place.mail.wait_mail("you", "echo: hello, too");
    place.ask("after");
    assert_eq!(place.answers(), ["echo: hello", "echo: after"]);
}

#[test]
fn mail_without_a_message_id_is_heard_once() {
    let Some(mut place) = Place::up(echo()) else { return };
    let (me, bot) = (place.mail.address("me"), place.mail.address("bot"));
    for text in ["one", "two"] {
        let mail = format!("From: {me}\nTo: {bot}\nSubject:\nX-Number: {text}\n\n{text}");
        assert!(place.mail.post(&me, &bot, &mail).starts_with("250"));
        place.mail.wait_mail("me", &format!("echo: {text}"));
    }
    place.mail.lose_uid_list("bot");
    place.wait_state("down");
    place.wait_state("up");
    place.ask("after");
    assert_eq!(place.told(), ["one", "two", "after"]);
}

#[test]
fn a_lost_list_of_uids_gives_all_mail_new_numbers_and_nothing_is_heard_twice() {
    let Some(mut place) = Place::make(Secrecy::Open, echo()) else { return };
    place.mail.write("me", "", "", "before the host was there");
    wait_for("the old mail", || (place.mail.mails("bot").len() == 1).then_some(()));
    place.start();
    place.wire("me");
    for text in ["one", "two", "three"] {
        place.ask(text);
    }
    let read = |kept: &Value| kept["read"].as_u64().unwrap();
    wait_for("the position", || (read(&place.kept()) >= 4).then_some(()));
    place.world.stop_host();
    let before = place.kept();
    place.mail.lose_uid_list("bot");
    place.mail.write("me", "", "", "while away");
    place.start();
    place.mail.wait_mail("me", "echo: while away");
    place.ask("after");
    let after = place.kept();
    assert!(
        after["uid_validity"] != before["uid_validity"] || read(&after) > read(&before) + 2,
        "the server has kept its numbers: {before} {after}"
    );
    place.world.session("ada").wait_settled();
    assert_eq!(place.told(), ["one", "two", "three", "while away", "after"]);
    assert_eq!(place.answers().len(), 5);
}

#[test]
fn a_mailbox_that_is_made_anew_is_read_from_its_beginning() {
    let Some(mut place) = Place::up(echo()) else { return };
    place.ask("one");
    place.world.stop_host();
    let before = place.kept();
    place.mail.renew_folder("bot");
    place.mail.write("me", "", "", "two");
    place.start();
    place.mail.wait_mail("me", "echo: two");
    assert_ne!(place.kept()["uid_validity"], before["uid_validity"]);
    place.ask("three");
    assert_eq!(place.told(), ["one", "two", "three"]);
}

#[test]
fn a_final_no_is_final_and_a_no_for_now_is_tried_again() {
    let Some(place) = Place::up(echo()) else { return };
    let state = |name: &str| {
        let address = place.mail.address(name);
        place.wire(name);
        let (id, text) = (format!("for-{name}"), format!("for {name}"));
        place.world.twobox(&["send", "--channel", "mail", "--chat", &address, "--id", &id, &text]);
    };
    state("full");
    wait_for("the final no", || {
        let said = place.world.twobox(&["dead", "list", "--json"]);
        said.contains("the mailbox is gone").then_some(())
    });
    state("busy");
    wait_for("the no for now", || {
        let status = place.world.status()?;
        let trouble = status["channels"]["mail"]["trouble"]["error"].as_str()?.to_owned();
        trouble.contains("come back later").then_some(())
    });
    place.ask("somebody else waits for nobody");
}

#[test]
fn all_is_said_by_tls_where_the_servers_speak_it() {
    let Some(place) = Place::make(Secrecy::Tls, echo()) else { return };
    place.wire("me");
    let certificate = place.mail.certificate();
    place.world.up();
    wait_for("nobody to be trusted whom nobody knows", || {
        let status = place.world.status()?;
        let down = &status["channels"]["mail"];
        (down["state"] == "down" && down["reason"].as_str()?.contains("by TLS")).then_some(())
    });
    place.world.stop_host();
    place.world.up_with(&[("SSL_CERT_FILE", certificate.to_str().unwrap())]);
    place.wait_state("up");
    let answer = place.ask("hello");
    assert!(answer.raw().contains("with esmtpsa"), "{}", answer.raw());
}
