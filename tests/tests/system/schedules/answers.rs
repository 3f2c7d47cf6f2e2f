//! Where the answer of a run goes whose schedule names a chat.

use std::os::unix::process::ExitStatusExt;

use serde_json::Value;
use twobox_shared::fault::CrashPoint;
use twobox_store::schedules::{Run, Status};
use twobox_tests::{Courier, Session, Setup, World, on_all_runtimes, on_process, wait_for};

use super::Book;
use crate::scripts::echo;

on_all_runtimes!(the_answer_of_a_run_goes_to_the_chat_that_its_schedule_names);

on_process!(
    a_host_that_dies_while_it_delivers_the_answer_of_a_run_delivers_it_under_the_same_key,
    an_answer_of_a_run_that_cannot_be_delivered_is_dead_and_can_be_sent_once_more,
    an_answer_of_a_run_goes_to_no_chat_that_its_agent_no_longer_listens_to,
);

/// `ada` listens to chat 42, which it calls family, and a schedule sends its answers there.
fn told(setup: Setup, courier: &Courier) -> World {
    let world = setup.courier(courier, true).agent("ada", echo()).make();
    world.twobox(&["wire", "add", "ada", "command", "42", "--name", "family"]);
    let order =
        ["schedules", "add", "news", "--agent", "ada", "--prompt", "news", "--every", "24h"];
    world.twobox(&[&order[..], &["--to", "family", "--to-thread", "t"]].concat());
    world
}

/// Has the schedule run now, and waits for the end of that.
fn run_now(world: &World) -> (Run, Session) {
    world.twobox(&["schedules", "run", "news"]);
    ended(world)
}

fn ended(world: &World) -> (Run, Session) {
    let book = Book::of(world);
    let run = wait_for("the run to end", || {
        let runs = book.runs(book.id("news"));
        runs.iter().all(|run| run.ended_at.is_some()).then(|| runs.last().cloned())?
    });
    let id = run.hold.as_ref().unwrap().session.to_string();
    let session = world.sessions().into_iter().find(|session| session.id == id).unwrap();
    (run, session)
}

fn the_answer_of_a_run_goes_to_the_chat_that_its_schedule_names(setup: Setup) {
    let courier = Courier::new();
    let world = told(setup, &courier);
    world.up();
    let (run, session) = run_now(&world);
    assert_eq!((run.status, run.output.as_deref()), (Status::Completed, Some("echo: news")));
    session.wait_delivery("echo: news", "delivered");
    session.wait_settled();
    let calls = courier.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!((calls[0].chat.as_str(), calls[0].thread.as_deref()), ("42", Some("t")));
    assert_eq!(calls[0].text, "echo: news");
    let quoted = (calls[0].in_reply_to.as_deref(), calls[0].answers.as_slice());
    assert_eq!(quoted, (None, &[][..]), "nobody said in the chat what the schedule asks for");
    assert!(calls[0].key.ends_with(&format!(":{}:{}", session.id, session.rows()[0].id)));

    let cleared = ["schedules", "edit", "news", "--clear", "to"];
    world.twobox(&cleared);
    let (run, session) = run_now(&world);
    assert_eq!((run.status, run.output.as_deref()), (Status::Completed, Some("echo: news")));
    session.wait_delivery("echo: news", "delivered");
    assert_eq!(courier.calls().len(), 1, "it is only kept");
    world.assert_fsck_clean();
}

fn a_host_that_dies_while_it_delivers_the_answer_of_a_run_delivers_it_under_the_same_key(
    setup: Setup,
) {
    let courier = Courier::new();
    let world = told(setup, &courier);
    world.up_with(&[("TWOBOX_CRASH_AT", CrashPoint::HostDeliverSent.name())]);
    world.run(&["schedules", "run", "news"]); // which may hear no answer
    let status = world.wait_host_gone();
    assert_eq!(status.signal(), Some(nix::libc::SIGKILL), "the host ended with {status}");
    world.up();
    let (run, session) = ended(&world);
    assert_eq!((run.status, run.output.as_deref()), (Status::Completed, Some("echo: news")));
    session.wait_delivery("echo: news", "delivered");
    session.wait_settled();
    let calls = courier.calls();
    assert_eq!(calls.len(), 2, "it left once for each host: {calls:?}");
    assert_eq!(calls[0].key, calls[1].key, "so that it is shown once");
    assert_eq!(Book::of(&world).runs(run.schedule).len(), 1);
    world.assert_fsck_clean();
}

/// What `twobox dead list` says: text and reason.
fn dead(world: &World) -> Vec<(String, String)> {
    let list: Value = serde_json::from_str(&world.twobox(&["--json", "dead", "list"])).unwrap();
    let word = |dead: &Value, key: &str| dead[key].as_str().unwrap().to_owned();
    let all = list["dead"].as_array().unwrap().iter();
    all.map(|dead| (word(dead, "text"), word(dead, "reason"))).collect()
}

fn an_answer_of_a_run_that_cannot_be_delivered_is_dead_and_can_be_sent_once_more(setup: Setup) {
    let courier = Courier::new();
    let refuse = serde_json::json!([{ "text": "", "complains": "no such room", "exit": 1 }]);
    courier.plan(&refuse);
    let world = told(setup, &courier);
    world.up();
    let (run, session) = run_now(&world);
    assert_eq!(run.status, Status::Completed, "what the agent did is done: {run:?}");
    session.wait_delivery("echo: news", "failed");
    assert_eq!(dead(&world), [("echo: news".to_owned(), "no such room".to_owned())]);
    courier.plan(&serde_json::json!([]));
    world.twobox(&["dead", "redrive", &session.id, &session.rows()[0].id]);
    session.wait_delivery("echo: news", "delivered");
    assert_eq!(courier.texts(), ["echo: news", "echo: news"]);
    world.assert_fsck_clean();
}

fn an_answer_of_a_run_goes_to_no_chat_that_its_agent_no_longer_listens_to(setup: Setup) {
    let courier = Courier::new();
    let world = told(setup, &courier);
    world.up();
    world.twobox(&["wire", "remove", "ada", "command", "42"]);
    let (run, session) = run_now(&world);
    assert_eq!((run.status, run.output.as_deref()), (Status::Completed, Some("echo: news")));
    session.wait_delivery("echo: news", "failed");
    let dead = dead(&world);
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0].0, "echo: news");
    assert_eq!(courier.calls(), []);
}
