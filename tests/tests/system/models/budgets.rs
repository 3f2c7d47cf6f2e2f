//! Budgets: the person is told once, and nothing is sold beyond.

use serde_json::json;
use twobox_tests::models::{ModelServer, Rule, Step, Trouble};
use twobox_tests::{Chat, Mode, Session, Setup, World, on_process, wait_for};

use super::{LONG, MODEL, add, assert_counted, made, tokens, wait_used};

on_process!(
    a_budget_that_is_used_up_is_told_once_and_nothing_is_asked,
    an_agent_has_a_budget_of_its_own,
    a_budget_that_was_raised_between_two_hosts_counts_from_the_start,
    many_conversations_at_once_never_use_more_than_the_budget,
    a_message_that_costs_too_much_fails_and_each_has_a_budget_of_its_own,
    what_a_message_may_have_cost_before_the_host_died_counts_in_its_budget,
);

/// Room for a few requests: each reserves a token for each byte, and has a fourth of that counted.
const LIMIT: u64 = 30_000;

/// Short answers, so that what is reserved is about what is asked.
fn frugal(setup: Setup) -> Setup {
    setup.setting("gateway.upstreams.anthropic.models.claude-x.max_output_tokens", 500)
}

/// Says things until one is refused, and returns its id and how many were answered.
fn until_refused(chat: &Chat) -> (String, usize) {
    for answered in 0..50 {
        let id = chat.say(&format!("thing {answered}"));
        let is_answered = wait_for("an answer or the host's word", || {
            let is_answered = !chat.answers(&id).is_empty();
            (is_answered || !chat.notices().is_empty()).then_some(is_answered)
        });
        if !is_answered {
            return (id, answered);
        }
    }
    panic!("all was answered");
}

#[track_caller]
fn assert_over_budget(world: &World, agent: &str, chat: &Chat, id: &str, whose: &str) {
    let session = world.session(agent);
    let message = wait_for("it to be put off", || {
        Some(session.message(id)).filter(|message| message.tries > 0)
    });
    assert_eq!((message.status.as_str(), message.tries, message.forgiven), ("pending", 1, 1));
    let told = chat.notices();
    assert_eq!(told.len(), 1, "{told:?}");
    for part in ["the budget of today is used up", "I go on with it at 00:00", whose] {
        assert!(told[0].text.contains(part), "{}", told[0].text);
    }
    assert!(chat.answers(id).is_empty());
}

fn a_budget_that_is_used_up_is_told_once_and_nothing_is_asked(setup: Setup) {
    let server = ModelServer::start();
    let setup = frugal(setup).setting("gateway.tokens_per_day", LIMIT);
    let world = made(setup, &server, Mode::Shared, &[MODEL]);
    add(&world, "bob", Mode::Shared, &[MODEL]);
    world.up();
    let chat = world.chat("ada");
    let (id, answered) = until_refused(&chat);
    assert!(answered > 0);
    assert_over_budget(&world, "ada", &chat, &id, "all agents together");
    assert_eq!(server.wait_ended(answered).len(), answered, "what was refused was not asked");
    let bob = world.chat("bob");
    let (id, more) = until_refused(&bob);
    assert_over_budget(&world, "bob", &bob, &id, "all agents together");
    let answered = answered + more;
    assert!(tokens(&server.sold()) <= LIMIT);
    assert_counted(&wait_used(&world, answered as u64), &server);
}

fn an_agent_has_a_budget_of_its_own(setup: Setup) {
    let server = ModelServer::start();
    let world = made(frugal(setup), &server, Mode::Shared, &[MODEL]);
    add(&world, "bob", Mode::Shared, &[MODEL]);
    world.configure_agent("ada", &json!({"budget": {"tokens_per_day": LIMIT}}));
    world.up();
    let chat = world.chat("ada");
    let (id, answered) = until_refused(&chat);
    assert!(answered > 0);
    assert_over_budget(&world, "ada", &chat, &id, "this agent");
    assert!(tokens(&server.sold()) <= LIMIT);
    assert!(world.chat("bob").ask("hello").contains("you said"), "others go on");
    let more = format!("budget.tokens_per_day={}", LIMIT * 10);
    world.twobox(&["agents", "set", "ada", &more]);
    chat.wait_answer_within(LONG, &id);
    let session = world.session("ada");
    session.wait_settled();
    assert_eq!(session.message(&id).status, "completed", "it was kept, and went on by itself");
    assert_eq!(chat.notices().len(), 1);
}

fn a_budget_that_was_raised_between_two_hosts_counts_from_the_start(setup: Setup) {
    let server = ModelServer::start();
    let world = made(frugal(setup), &server, Mode::Shared, &[MODEL]);
    world.configure_agent("ada", &json!({"budget": {"tokens_per_day": LIMIT}}));
    world.up();
    let chat = world.chat("ada");
    let (id, _) = until_refused(&chat);
    let session = world.session("ada");
    wait_for("it to be put off", || (session.message(&id).tries > 0).then_some(()));
    assert_eq!(chat.notices().len(), 1);
    world.kill_host();
    world.configure_agent("ada", &json!({"budget": {"tokens_per_day": LIMIT * 10}}));
    world.up();
    wait_for("an answer", || (session.message(&id).status == "completed").then_some(()));
    session.wait_settled();
}

fn many_conversations_at_once_never_use_more_than_the_budget(setup: Setup) {
    let server = ModelServer::start();
    let setup = frugal(setup)
        .setting("gateway.tokens_per_day", LIMIT)
        .setting("containers.max_running", 10);
    let world = made(setup, &server, Mode::PerThread, &[MODEL]);
    let slow = Step::text("you said something").in_pieces(2).with_pauses(20);
    server.script(Rule::text("", slow));
    world.up();
    let threads: Vec<String> = (0..10).map(|n| format!("thread {n}")).collect();
    let chat =
        world.chat_in("ada", &threads.iter().map(|it| Some(it.as_str())).collect::<Vec<_>>());
    let ids: Vec<String> = threads
        .iter()
        .flat_map(|thread| (0..3).map(|n| chat.say_in(Some(thread), &format!("thing {n}"))))
        .collect();
    ids.iter().for_each(|id| {
        // Those that one turn answers together have one answer.
        wait_for("each message to have its end", || {
            let messages = world.sessions().into_iter().flat_map(|session| session.messages());
            messages
                .into_iter()
                .find(|it| it.id == *id && (it.status != "pending" || it.forgiven > 0))
        });
    });
    let messages: Vec<_> = world.sessions().iter().flat_map(|it| it.messages()).collect();
    let waiting = messages.iter().filter(|it| it.status == "pending").count();
    assert!(waiting > 0 && waiting < ids.len(), "{messages:?}");
    assert!(messages.iter().all(|it| it.status != "failed"), "{messages:?}");
    let answers = server.requests().len();
    server.wait_ended(answers);
    assert!(tokens(&server.sold()) <= LIMIT, "{:?}", server.sold());
    assert_counted(&wait_used(&world, answers as u64), &server);
}

/// Answers of about 200 tokens where 500 are allowed, and a token costs a thousandth of a USD.
fn dear(setup: Setup) -> Setup {
    let of = |setting: &str| format!("gateway.upstreams.anthropic.models.claude-x.{setting}");
    frugal(setup).setting(&of("input_usd"), 0).setting(&of("output_usd"), 1000)
}

fn long() -> Step {
    Step::text(&"abcdefg ".repeat(100))
}

#[track_caller]
fn assert_run_over_budget(session: &Session, chat: &Chat, id: &str) {
    let message = wait_for("it to fail", || {
        Some(session.message(id)).filter(|message| message.status == "failed")
    });
    let failure = message.failure.unwrap_or_default();
    assert!(failure.contains("run_budget_exceeded"), "{failure}");
    let told = wait_for("the person to be told", || chat.notices().pop());
    for part in ["the budget of this run is used up", "0.7500 USD", "budget.usd_per_run"] {
        assert!(told.text.contains(part), "{}", told.text);
    }
}

fn a_message_that_costs_too_much_fails_and_each_has_a_budget_of_its_own(setup: Setup) {
    let server = ModelServer::start();
    let world = made(dear(setup), &server, Mode::Shared, &[MODEL]);
    world.configure_agent("ada", &json!({"budget": {"usd_per_run": 0.75}}));
    world.up();
    let chat = world.chat("ada");
    for n in 0..5 {
        server.script(vec![long()]);
        chat.ask(&format!("thing {n}"));
    }
    let note =
        |n: u32| long().and_call("write_file", json!({"path": format!("{n}"), "content": "x"}));
    server.script(vec![note(1), note(2)]);
    let id = chat.say("a great work");
    let session = world.session("ada");
    assert_run_over_budget(&session, &chat, &id);
    assert_eq!(server.wait_ended(7).len(), 7, "a third model turn was not asked for");
    server.script(vec![long()]);
    chat.ask("another thing");
    assert_eq!(chat.notices().len(), 1);

    world.twobox(&["agents", "set", "ada", "budget.usd_per_run=5"]);
    server.script(vec![Step::text("done at last")]);
    world.twobox(&["sessions", "retry", &session.id]);
    chat.wait_answer_within(LONG, &id);
    world.assert_answered_once(&chat, &session, &id, "done at last");
    assert_counted(&wait_used(&world, 9), &server);
}

fn what_a_message_may_have_cost_before_the_host_died_counts_in_its_budget(setup: Setup) {
    let server = ModelServer::start();
    let world = made(dear(setup), &server, Mode::Shared, &[MODEL]);
    world.configure_agent("ada", &json!({"budget": {"usd_per_run": 0.75}}));
    world.up();
    server.script(vec![long().in_pieces(12).with(Trouble::Stall(700)), Step::text("never asked")]);
    let chat = world.chat("ada");
    let id = chat.say("hello");
    server.wait_stalled(1);
    let session = world.session("ada");
    world.kill_host();
    world.up();
    assert_run_over_budget(&session, &chat, &id);
    let used = wait_used(&world, 1);
    assert_eq!((&used["unknown"], server.requests().len()), (&json!(1), 1), "{used}");
}
