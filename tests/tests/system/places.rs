//! How many containers run, and for how long.

use twobox_tests::{Setup, on_all_runtimes};

use crate::scripts::{echo, slow};

on_all_runtimes!(
    an_idle_container_leaves_and_the_next_message_starts_another,
    one_place_serves_two_agents_one_after_the_other,
);

fn an_idle_container_leaves_and_the_next_message_starts_another(setup: Setup) {
    let world = setup.setting("containers.idle", "700ms").agent("ada", echo()).up();
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let session = world.session("ada");
    let first = world.wait_container(&session);
    chat.wait_answer(&id);
    first.wait_gone();
    let second = chat.say("again");
    world.assert_answered_once(&chat, &session, &second, "echo: again");
    let runners: Vec<_> = session.acks().into_iter().filter_map(|ack| ack.runner).collect();
    assert_ne!(runners[0], runners[1]);
    assert_eq!((world.starts(), chat.deliveries().len()), (2, 2));
    for id in [id, second] {
        assert_eq!(session.message(&id).tries, 0, "leaving costs nothing");
    }
    world.wait_no_containers();
}

fn one_place_serves_two_agents_one_after_the_other(setup: Setup) {
    let world = setup
        .setting("containers.max_running", 1)
        .agent("ada", slow(1500))
        .agent("bob", echo())
        .up();
    let (ada, bob) = (world.chat("ada"), world.chat("bob"));
    let (first, session, container) = world.occupy(&ada, "ada", "slow");
    let second = bob.say("hello");
    assert_eq!(bob.wait_answer(&second).text, "echo: hello");
    // Whoever worked was not disturbed, and left when it had nothing to do.
    world.assert_answered_once(&ada, &session, &first, "echo: slow");
    assert_eq!(session.message(&first).tries, 0);
    assert!(!container.lives());
    assert_eq!(world.containers().len(), 1);
    assert_eq!(ada.ask("and back"), "echo: and back");
    assert_eq!(world.containers().len(), 1);
    assert_eq!(world.session("bob").message(&second).tries, 0);
}
