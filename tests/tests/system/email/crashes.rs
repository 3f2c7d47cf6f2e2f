//! The host and the servers die in the middle, and the witness counts.

use std::time::Duration;

use twobox_shared::fault::CrashPoint;
use twobox_tests::{Parting, wait_for, wait_within};

use super::Place;
use crate::scripts::{echo, slow};

/// A host that dies at `point` while a mail is heard and answered, and the next one.
fn survives(point: CrashPoint) {
    let Some(place) = Place::up(echo()) else { return };
    place.ask("before");
    place.world.stop_host();
    place.mail.write("me", "", "", "in the middle");
    place.world.start(&[("TWOBOX_CRASH_AT", point.name())]);
    let ended = place.world.wait_host_gone();
    assert!(!ended.success(), "{point:?} was not reached");
    place.start();
    place.mail.wait_mail("me", "echo: in the middle");
    place.ask("after");
    place.world.session("ada").wait_settled();
    assert_eq!(place.told(), ["before", "in the middle", "after"], "{point:?}");
    assert_eq!(
        place.answers(),
        ["echo: before", "echo: in the middle", "echo: after"],
        "{point:?}: each once and in their order"
    );
}

#[test]
fn a_host_that_dies_before_a_mail_is_durable_hears_it_again() {
    survives(CrashPoint::HostAcceptMarked);
}

#[test]
fn a_host_that_dies_before_the_position_has_moved_takes_no_mail_twice() {
    survives(CrashPoint::HostAcceptCommitted);
}

#[test]
fn a_host_that_dies_before_it_knows_that_a_mail_was_sent_sends_none_twice() {
    survives(CrashPoint::HostDeliverSent);
}

#[test]
fn a_host_that_dies_after_it_has_recorded_a_mail_sends_none_twice() {
    survives(CrashPoint::HostDeliverRecorded);
}

#[test]
fn a_connection_that_breaks_before_the_mail_has_sent_nothing() {
    let Some(place) = Place::up(echo()) else { return };
    let parted = place.mail.parted();
    place.world.stop_host();
    place.set(parted.port(), "");
    place.start();
    parted.part(&[Parting::BeforeTheMail, Parting::BeforeTheMail]);
    place.ask("hello");
    assert_eq!(parted.left(), 0);
    place.ask("again");
    assert_eq!(place.answers(), ["echo: hello", "echo: again"]);
}

#[test]
fn a_connection_that_closes_after_the_dot_leaves_a_mail_uncertain_and_sends_it_once() {
    let Some(place) = Place::up(echo()) else { return };
    let parted = place.mail.parted();
    place.world.stop_host();
    place.set(parted.port(), "");
    place.start();
    parted.part(&[Parting::AfterTheDot]);
    place.mail.write("me", "", "", "hello");
    place.mail.wait_mail("me", "echo: hello");
    let session = place.world.session("ada");
    wait_for("the answer to be over", || {
        let deliveries = session.deliveries();
        deliveries.iter().any(|it| it.status == "uncertain").then_some(())
    });
    place.ask("again");
    assert_eq!(place.answers(), ["echo: hello", "echo: again"], "none lost, and none twice");
    // A person may have it sent once more, under its id.
    place.world.twobox(&["dead", "redrive", &session.id, "--all"]);
    wait_for("the same mail again", || (place.answers().len() == 3).then_some(()));
    let ids: Vec<String> =
        place.mail.mails("me").iter().map(|mail| mail.header("Message-ID")).collect();
    assert_eq!((&ids[0], place.answers()[2].as_str()), (&ids[2], "echo: hello"));
}

#[test]
fn a_folder_of_what_was_sent_says_whether_a_mail_left() {
    let Some(place) = Place::up(echo()) else { return };
    let parted = place.mail.parted();
    place.ask("before"); // the server makes the folder
    place.world.stop_host();
    place.set(parted.port(), "sent_folder = \"Sent\"");
    place.start();
    parted.part(&[Parting::AfterTheDot]);
    place.mail.write("me", "", "", "hello");
    place.mail.wait_mail("me", "echo: hello");
    place.ask("again");
    place.world.session("ada").wait_settled();
    let deliveries = place.world.session("ada").deliveries();
    assert!(deliveries.iter().all(|it| it.status == "delivered"), "{deliveries:?}");
    assert_eq!(place.answers(), ["echo: before", "echo: hello", "echo: again"]);
}

#[test]
fn a_host_that_is_killed_again_and_again_loses_nothing_and_doubles_nothing() {
    let Some(place) = Place::up(slow(300)) else { return };
    for number in 0..6 {
        place.mail.write("me", "", "", &format!("slow {number}"));
        std::thread::sleep(Duration::from_millis(150 * number)); // at another place each time
        place.world.kill_host();
        place.world.up();
    }
    place.wait_state("up");
    place.ask("after");
    place.world.session("ada").wait_settled();
    let expected: Vec<String> =
        (0..6).map(|it| format!("slow {it}")).chain(["after".to_owned()]).collect();
    // The agent is told of what may not have arrived.
    let mut told = place.told();
    told.retain(|text| !text.starts_with("A message to mail"));
    assert_eq!(told, expected);
    let count = place.mail.count("me");
    assert!(count.values().all(|times| *times == 1), "{count:?}");
    let uncertain = place.world.session("ada").deliveries();
    let uncertain = uncertain.iter().filter(|it| it.status == "uncertain").count();
    assert!(count.len() + uncertain >= expected.len(), "{count:?}, {uncertain} are uncertain");
}

#[test]
fn servers_that_are_killed_and_come_back_lose_nothing() {
    let Some(mut place) = Place::up(slow(1_500)) else { return };
    place.ask("before");
    place.mail.write("me", "", "", "slow answer");
    let session = place.world.session("ada");
    wait_for("the mail", || (session.messages().len() == 2).then_some(()));
    place.mail.kill_exim();
    place.mail.kill_dovecot();
    place.wait_state("down");
    wait_for("the answer", || (session.rows().len() == 2).then_some(()));
    place.mail.start_exim();
    place.mail.start_dovecot();
    place.wait_state("up");
    place.mail.wait_mail("me", "echo: slow answer");
    place.ask("after");
    assert_eq!(place.answers(), ["echo: before", "echo: slow answer", "echo: after"]);
}

#[test]
fn a_hundred_mails_that_came_meanwhile_are_heard_in_their_order() {
    let Some(place) = Place::up(echo()) else { return };
    place.ask("before");
    place.world.stop_host();
    let written: Vec<String> = (0..100).map(|number| format!("mail {number}")).collect();
    for text in &written {
        place.mail.write("me", "", "", text);
    }
    wait_for("all mail", || (place.mail.mails("bot").len() == 101).then_some(()));
    place.start();
    let session = place.world.session("ada");
    wait_within(Duration::from_secs(90), "all mail to be heard", || {
        (session.messages().len() > 100).then_some(())
    });
    session.wait_settled();
    let numbered = place.mail.texts_by_number("bot");
    assert_eq!(place.told(), numbered, "none lost, none twice, in the order of their numbers");
    wait_within(Duration::from_secs(90), "all answers", || {
        (place.answers().iter().any(|it| it.contains("mail 99"))).then_some(())
    });
    place.ask("after");
    let count = place.mail.count("me");
    assert!(count.values().all(|times| *times == 1), "{count:?}");
}
