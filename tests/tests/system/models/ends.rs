//! The end of a conversation, or of a turn, is the end of its requests; and what lies in a session's
//! folder while it has a way to models is nothing that an examination finds.

use std::os::unix::fs::FileTypeExt;

use twobox_store::schedules::Status;
use twobox_tests::models::{End, ModelServer, Step, Trouble};
use twobox_tests::{Mode, Setup, on_all_runtimes, on_process, wait_for};

use super::{MODEL, made, up, wait_used};
use crate::schedules::{Book, Rhythm};

on_all_runtimes!(a_run_that_is_ended_by_a_person_ends_its_request);

on_process!(
    a_turn_whose_time_is_over_ends_its_request,
    a_socket_that_is_served_is_nothing_that_an_examination_finds,
    a_folded_session_has_no_socket_and_serves_again,
);

fn stalls() -> Step {
    Step::text(&"never heard ".repeat(50)).in_pieces(12).with(Trouble::Stall(700))
}

fn a_run_that_is_ended_by_a_person_ends_its_request(setup: Setup) {
    let server = ModelServer::start();
    let world = made(setup, &server, Mode::Shared, &[MODEL]);
    server.script(stalls());
    world.up();
    let book = Book::of(&world);
    let schedule = book.add("report", Rhythm::Once, |_| {});
    server.wait_stalled(1);
    let run = book.runs(schedule).remove(0);
    world.twobox(&["schedules", "cancel", &run.id.to_string()]);
    assert_eq!(server.wait_ended(1)[0].end, End::Cut, "nobody reads on");
    assert_eq!(book.wait_ended(schedule).status, Status::Cancelled);
    let used = wait_used(&world, 1);
    assert_eq!(used["unknown"], 1, "{used}");
    assert_eq!(server.requests().len(), 1);
}

fn a_turn_whose_time_is_over_ends_its_request(setup: Setup) {
    let server = ModelServer::start();
    let world = made(setup, &server, Mode::Shared, &[MODEL]);
    world.configure_agent("ada", &serde_json::json!({"turn_timeout_sec": 2}));
    server.script(vec![stalls(), Step::text("in time")]);
    world.up();
    let chat = world.chat("ada");
    let id = chat.say("hello");
    chat.wait_answer_within(super::LONG, &id);
    let session = world.session("ada");
    world.assert_answered_once(&chat, &session, &id, "in time");
    let ends: Vec<End> = server.wait_ended(2).iter().map(|request| request.end).collect();
    assert_eq!(ends, [End::Cut, End::Sold]);
}

fn a_socket_that_is_served_is_nothing_that_an_examination_finds(setup: Setup) {
    let server = ModelServer::start();
    let world = up(setup, &server);
    assert!(world.chat("ada").ask("hello").contains("you said"));
    let session = world.session("ada");
    let socket = session.paths().gateway_socket();
    let kind = std::fs::symlink_metadata(&socket).unwrap().file_type();
    assert!(kind.is_socket());
    world.assert_fsck_clean();
    world.kill_host();
    assert!(socket.exists(), "nobody took it away");
    world.assert_fsck_clean();
    world.up();
    assert!(world.chat("ada").ask("again").contains("you said"));
    world.assert_fsck_clean();
}

fn a_folded_session_has_no_socket_and_serves_again(setup: Setup) {
    let server = ModelServer::start();
    let world = made(setup, &server, Mode::Shared, &[MODEL]);
    server.script(vec![Step::text("tidy"), Step::text("tidy again")]);
    world.up();
    let book = Book::of(&world);
    let first = book.wait_ended(book.add("first", Rhythm::Once, |_| {}));
    assert_eq!((first.status, first.output.as_deref()), (Status::Completed, Some("tidy")));
    let id = first.hold.unwrap().session;
    let session = wait_for("the session to be at rest", || {
        let session = world.sessions().into_iter().find(|it| it.id == id.to_string())?;
        (!session.running && !world.is_marked(&session)).then_some(session)
    });
    assert!(!session.paths().gateway_socket().exists());
    assert!(!session.paths().agent_config().exists());
    world.assert_fsck_clean();
    let again = book.wait_ended(book.add("again", Rhythm::Once, |it| it.session = Some(id)));
    assert_eq!((again.status, again.output.as_deref()), (Status::Completed, Some("tidy again")));
    world.assert_fsck_clean();
}
