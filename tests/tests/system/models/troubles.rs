//! Upstreams that do not answer: what the host tries again, what the runner does, what a person hears.

use twobox_tests::models::{ModelServer, Options, Rule, Step};
use twobox_tests::{Mode, Setup, on_process, wait_for};

use super::{KEY, LONG, MODEL, assert_counted, made, set_secret, up, used, wait_used};

on_process!(
    who_is_asked_to_slow_down_asks_once_more_and_there_is_one_answer,
    an_overloaded_model_is_followed_by_the_next_of_the_chain,
    a_key_that_is_refused_is_told_at_once_and_never_shown,
    a_key_that_is_set_late_serves_what_waits_for_it,
);

fn who_is_asked_to_slow_down_asks_once_more_and_there_is_one_answer(setup: Setup) {
    let server = ModelServer::start();
    let world = up(setup, &server);
    server.script(vec![Step::rate_limited(1), Step::text("now")]);
    let chat = world.chat("ada");
    let id = chat.say("hello");
    chat.wait_answer(&id);
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &id, "now");
    assert_eq!(session.message(&id).tries, 0);
    let statuses: Vec<u16> = server.wait_ended(2).iter().map(|request| request.status).collect();
    assert_eq!(statuses, [429, 200]);
    assert_counted(&wait_used(&world, 1), &server);
}

fn an_overloaded_model_is_followed_by_the_next_of_the_chain(setup: Setup) {
    let server = ModelServer::start();
    let world = made(setup, &server, Mode::Shared, &[MODEL, "openai/gpt-x"]);
    world.up();
    let busy =
        Rule { model: Some("claude-x".to_owned()), step: Step::refuse(529), ..Rule::default() };
    server.script(busy);
    server.script(Step::text("from the second"));
    let chat = world.chat("ada");
    let id = chat.say("hello");
    chat.wait_answer_within(LONG, &id);
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &id, "from the second");
    assert_eq!(session.message(&id).tries, 0);
    let asked: Vec<(String, u16)> = server
        .wait_ended(5)
        .iter()
        .map(|it| (it.body["model"].as_str().unwrap().to_owned(), it.status))
        .collect();
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert!(asked[..4].iter().all(|it| *it == ("claude-x".to_owned(), 529)), "{asked:?}");
    assert_eq!(asked[4], ("gpt-x".to_owned(), 200));
    assert_counted(&wait_used(&world, 2), &server);
}

fn a_key_that_is_refused_is_told_at_once_and_never_shown(setup: Setup) {
    let right = Options { key: Some("sk-another".to_owned()), ..Options::default() };
    let server = ModelServer::start_with(right);
    let world = up(setup, &server);
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let told = wait_for("the host's word", || chat.notices().pop()).text;
    let session = world.session("ada");
    let message = session.wait_status(&id, "failed");
    assert!(message.failure.as_deref().unwrap().contains("provider_error"), "{message:?}");
    assert_eq!((message.tries, chat.notices().len()), (1, 1), "it is told at once, and once");
    assert!(told.contains("invalid x-api-key") && !told.contains(KEY), "{told}");
    assert_eq!(server.wait_ended(1).len(), 1, "asking again is of no use");
    assert!(world.host_log().contains("refuses the host's key"));
    assert!(!world.host_log().contains(KEY));
    assert_eq!(used(&world)["output"], 0);
    // A key that is set is used from the next message on, by the same host.
    set_secret(&world, "anthropic", "sk-another");
    server.script(Step::text("there"));
    assert_eq!(chat.ask("again"), "there");
}

fn a_key_that_is_set_late_serves_what_waits_for_it(setup: Setup) {
    let server = ModelServer::start();
    let world = made(setup, &server, Mode::Shared, &[MODEL]);
    world.twobox(&["secrets", "remove", "anthropic"]);
    world.up();
    let chat = world.chat("ada");
    let id = chat.say("hello");
    let session = world.session("ada");
    wait_for("the turn to fail", || (session.message(&id).tries > 0).then_some(()));
    assert!(server.requests().is_empty(), "nobody was asked");
    set_secret(&world, "anthropic", KEY);
    server.script(Step::text("there"));
    chat.wait_answer_within(LONG, &id);
    world.assert_answered_once(&chat, &session, &id, "there");
}
