//! What a person says in a chat to the host, and not to the agent: `/stop`, `/status`, `/help`.

use serde_json::json;
use twobox_tests::models::{ModelServer, Step, Trouble};
use twobox_tests::{Chat, Mode, Setup, on_all_runtimes, on_process, wait_for};

use crate::models::{MODEL, made};
use crate::scripts::{echo, hangs_at_first};

on_all_runtimes!(a_stop_ends_the_turn_and_leaves_what_waits);

on_process!(
    a_stop_takes_back_what_waits_where_nothing_is_worked_on,
    a_second_stop_ends_a_container_that_does_not_obey,
    whose_message_is_stopped_from_elsewhere_is_told,
    a_word_is_carried_out_once_however_often_it_is_handed_in,
    a_status_says_what_is_worked_on_and_what_was_used,
    a_word_that_the_host_does_not_know_is_the_agents,
);

/// Says a word to the host, and returns what it says.
#[track_caller]
fn word(chat: &Chat, word: &str) -> String {
    let id = chat.say(word);
    chat.wait_answer(&id).text
}

fn a_stop_ends_the_turn_and_leaves_what_waits(setup: Setup) {
    let world = setup.agent("ada", hangs_at_first()).up();
    let chat = world.chat_in("ada", &[None, Some("t")]);
    let (hanging, session, _) = world.occupy(&chat, "ada", "hang");
    let waiting = chat.say_in(Some("t"), "later");
    let stop = chat.say("/stop");
    let told = chat.wait_answer(&stop);
    assert!(told.text.starts_with("Stopped: what I was working on"), "{}", told.text);
    assert!(told.text.ends_with("1 message waits."), "{}", told.text);
    assert!(told.answers.contains(&hanging), "no answer to it follows: {:?}", told.answers);
    chat.wait_answer(&waiting);
    session.wait_settled();
    let message = session.message(&hanging);
    assert_eq!((message.status.as_str(), message.tries), ("cancelled", 0), "nor is it tried again");
    assert_eq!(session.message(&waiting).status, "completed");
    assert_eq!(session.message(&stop).status, "completed");
    let texts: Vec<_> = chat.answers(&hanging).into_iter().map(|it| it.text).collect();
    assert!(texts.is_empty(), "{texts:?}");
    assert_eq!(word(&chat, "/stop"), "There is nothing to stop: I am working on nothing.");
    assert_eq!(session.rows().len(), 1, "no word reached the agent");
    world.assert_fsck_clean();
}

fn a_stop_takes_back_what_waits_where_nothing_is_worked_on(setup: Setup) {
    // Nothing is ever claimed: there is no place for a second container.
    let setup = setup.setting("containers.max_running", 1).agent("ada", echo());
    let world = setup.agent("bob", hangs_at_first()).up();
    let bob = world.chat("bob");
    world.occupy(&bob, "bob", "hang");
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let told = word(&chat, "/stop");
    assert_eq!(told, "Stopped before I began: your message is taken back.");
    assert_eq!(world.session("ada").message(&id).status, "cancelled");
    bob.say("/stop");
    assert_eq!(chat.ask("and now?"), "echo: and now?");
    assert!(chat.answers(&id).is_empty());
}

fn a_second_stop_ends_a_container_that_does_not_obey(setup: Setup) {
    let world = setup.agent("ada", hangs_at_first()).up();
    let chat = world.chat("ada");
    let (id, session, container) = world.occupy(&chat, "ada", "hang");
    assert!(container.freeze());
    let waiting = chat.say("later");
    assert!(word(&chat, "/stop").starts_with("Stopped"));
    let status = word(&chat, "/status");
    assert!(status.starts_with("I am being stopped"), "{status}");
    assert!(word(&chat, "/stop").starts_with("I did not end when I was told to"));
    container.wait_gone();
    assert_eq!(chat.wait_answer(&waiting).text, "echo: later");
    session.wait_settled();
    assert_eq!(session.message(&id).status, "cancelled");
    assert_eq!(chat.ask("and now?"), "echo: and now?");
}

fn whose_message_is_stopped_from_elsewhere_is_told(setup: Setup) {
    let world = setup.agent("ada", hangs_at_first()).up();
    let chat = world.chat_in("ada", &[None, Some("t")]);
    let (hanging, session, _) = world.occupy(&chat, "ada", "hang");
    let stop = chat.say_in(Some("t"), "/stop");
    let told = chat.wait_answer(&stop);
    assert!(told.text.starts_with("Stopped: what I was working on"), "{}", told.text);
    assert!(!told.answers.contains(&hanging), "it was not said there: {:?}", told.answers);
    let told = chat.wait_answer(&hanging).text;
    assert!(told.starts_with("Somebody has said /stop elsewhere: your message is"), "{told}");
    session.wait_settled();
    assert_eq!(session.message(&hanging).status, "cancelled");
}

fn a_word_is_carried_out_once_however_often_it_is_handed_in(setup: Setup) {
    let world = setup.agent("ada", hangs_at_first()).up();
    let chat = world.chat("ada");
    let (first, session, _) = world.occupy(&chat, "ada", "hang");
    let hand_in = || world.twobox(&["send", "--agent", "ada", "--id", "w", "/stop"]);
    hand_in();
    wait_for("the first to be stopped", || {
        (session.message(&first).status == "cancelled").then_some(())
    });
    let (second, ..) = world.occupy(&chat, "ada", "hang again");
    hand_in();
    world.kill_host();
    world.up();
    hand_in();
    chat.wait_listening();
    let told = word(&chat, "/status");
    assert!(told.starts_with("I am working on what you said"), "{told}");
    assert_eq!(session.message(&second).status, "pending", "it was said after the word");
    let stops: Vec<_> =
        chat.notices().into_iter().filter(|it| it.text.starts_with("Stopped")).collect();
    assert_eq!(stops.len(), 1, "{stops:?}");
}

fn a_status_says_what_is_worked_on_and_what_was_used(setup: Setup) {
    let server = ModelServer::start();
    let world = made(setup, &server, Mode::Shared, &[MODEL]);
    let limit = json!({"budget": {"tokens_per_day": 1_000_000}});
    world.configure_agent("ada", &limit);
    let stalls = Step::text(&"never heard ".repeat(50)).in_pieces(12).with(Trouble::Stall(700));
    server.script(vec![Step::text("first"), stalls]);
    world.up();
    let chat = world.chat("ada");
    let before = word(&chat, "/status");
    assert!(before.starts_with("I am working on nothing."), "{before}");
    assert!(before.contains(&format!("Model: {MODEL}.")), "{before}");
    assert!(before.contains("Used today: 0 tokens of 1000000"), "{before}");
    assert_eq!(chat.ask("hello"), "first");
    super::models::wait_used(&world, 1);
    chat.say("more");
    server.wait_stalled(1);
    let during = word(&chat, "/status");
    assert!(during.starts_with("I am working on what you said"), "{during}");
    assert!(!during.contains("Used today: 0 tokens"), "{during}");
    let help = word(&chat, "/HELP ");
    for known in ["/stop", "/status", "/new", "/help"] {
        assert!(help.contains(known), "{known}: {help}");
    }
    assert_eq!(server.requests().len(), 2, "no model was asked");
}

fn a_word_that_the_host_does_not_know_is_the_agents(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let chat = world.chat("ada");
    for text in ["/stop it", "/weather", "/etc/hosts"] {
        assert_eq!(chat.ask(text), format!("echo: {text}"));
    }
    assert!(!word(&chat, "/help").contains("/new"), "an echo has no conversation");
}
