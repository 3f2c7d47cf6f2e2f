//! The sessions that are made for runs: whole or not at all, and not for longer than the run is known.

use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::json;
use twobox_slots::reason::Reason;
use twobox_store::schedules::{Run, Status};
use twobox_tests::faults::disk::{self, Part};
use twobox_tests::{Session, Setup, World, on_process, wait_for};

use super::{Book, Rhythm};
use crate::scripts::echo;

on_process!(
    a_run_on_a_full_disk_completes_when_there_is_space,
    a_run_that_finds_no_room_in_its_time_fails_and_leaves_no_session,
    a_session_that_cannot_be_cleared_away_is_told_of_beside_the_first_error,
    a_run_that_is_forgotten_takes_its_session_along,
);

/// How large the small disks are, in MiB.
const SMALL: u32 = 12;

fn folder_of(session: &Session) -> PathBuf {
    session.paths().in_dir().parent().unwrap().to_owned()
}

fn wait_prepared(book: &Book, world: &World, of: twobox_shared::ids::ScheduleId) -> Run {
    wait_for("the run to be refused", || {
        let refused = world.host_log().contains("free some space");
        book.runs(of).pop().filter(|run| refused && run.hold.is_some())
    })
}

fn a_run_on_a_full_disk_completes_when_there_is_space(setup: Setup) {
    if !disk::available() {
        return;
    }
    let world = setup.on_small_disk(Part::Sessions, SMALL).agent("ada", echo()).up();
    world.disk().fill();
    let book = Book::of(&world);
    let tidy = book.add("tidy", Rhythm::Once, |_| {});
    let run = wait_prepared(&book, &world, tidy);
    assert_eq!(run.status, Status::Running, "{run:?}");
    world.disk().free();
    let run = book.wait_ended(tidy);
    assert_eq!((run.status, run.output.as_deref()), (Status::Completed, Some("echo: tidy")));
    assert_eq!(book.runs(tidy).len(), 1);
    assert_eq!(world.sessions().len(), 1);
    world.assert_fsck_clean();
}

fn a_run_that_finds_no_room_in_its_time_fails_and_leaves_no_session(setup: Setup) {
    if !disk::available() {
        return;
    }
    let world = setup.on_small_disk(Part::Sessions, SMALL).agent("ada", echo()).up();
    world.disk().fill();
    let book = Book::of(&world);
    let tidy = book.add("tidy", Rhythm::Once, |it| it.max_run_ms = Some(4_000));
    let run = book.wait_ended(tidy);
    assert_eq!((run.status, run.reason), (Status::Failed, Some(Reason::PrepareFailed)), "{run:?}");
    let error = run.error.as_deref().unwrap();
    assert!(error.contains("free some space") && !error.contains("is left"), "{error}");
    let tried = run.hold.expect("the ids that were tried are kept").session.to_string();
    let mut sessions = world.sessions().into_iter(); // the chat's, in which a person is told, is one
    assert!(sessions.all(|session| session.id != tried), "no session is left by halves");
    wait_for("nobody to be awake for it", || {
        (world.status()?["sessions"]["awake"] == 0).then_some(())
    });
    world.disk().free();
    let again = book.add("again", Rhythm::Once, |_| {});
    assert_eq!(book.wait_ended(again).status, Status::Completed);
    world.assert_fsck_clean();
}

fn a_session_that_cannot_be_cleared_away_is_told_of_beside_the_first_error(setup: Setup) {
    if !disk::available() {
        return;
    }
    let world = setup.on_small_disk(Part::Sessions, SMALL).agent("ada", echo()).up();
    world.disk().fill();
    let book = Book::of(&world);
    let sticks = "CREATE TRIGGER sticks BEFORE UPDATE OF status ON sessions
                  WHEN NEW.status = 'closed' BEGIN SELECT RAISE(ABORT, 'it sticks'); END";
    book.db.raw().execute_batch(sticks).unwrap();
    let tidy = book.add("tidy", Rhythm::Once, |it| it.max_run_ms = Some(4_000));
    let run = book.wait_ended(tidy);
    assert_eq!((run.status, run.reason), (Status::Failed, Some(Reason::PrepareFailed)), "{run:?}");
    let error = run.error.as_deref().unwrap();
    let session = run.hold.as_ref().unwrap().session;
    let left = format!("session {session}, made for it, is left: ");
    let (first, second) = error.split_once(&left).expect(error);
    assert!(first.contains("free some space") && second.contains("it sticks"), "{error}");
    let is_there = world.sessions().iter().any(|other| other.id == session.to_string());
    assert!(is_there, "{session}");
    book.db.raw().execute_batch("DROP TRIGGER sticks").unwrap();
    world.disk().free();
    let again = book.add("again", Rhythm::Once, |_| {});
    assert_eq!(book.wait_ended(again).status, Status::Completed);
}

fn a_run_that_is_forgotten_takes_its_session_along(setup: Setup) {
    let due = "2040-01-01T00:00:00Z";
    let task = json!({ "action": "schedule_task", "prompt": "later", "process_after": due });
    let script = json!({
        "rules": [{ "match": "^busy|^paused", "do": [{ "system": task }, { "reply": "done" }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let world = setup.agent("ada", script).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    world.session("ada").wait_settled();
    let book = Book::of(&world);
    let names = ["old", "busy", "paused", "young"];
    let sessions = names.map(|name| {
        let id = book.add(name, Rhythm::Once, |_| {});
        let run = book.wait_ended(id);
        assert_eq!(run.status, Status::Completed, "{run:?}");
        let session = run.hold.unwrap().session.to_string();
        wait_for("its session", || world.sessions().into_iter().find(|it| it.id == session))
    });
    wait_for("their containers to leave", || {
        let ids = sessions.each_ref().map(|session| &session.id);
        let runs = |session: &Session| session.running && ids.contains(&&session.id);
        (!world.sessions().iter().any(runs)).then_some(())
    });
    world.stop_host();
    let folders = sessions.each_ref().map(folder_of);
    let long_ago = "UPDATE runs SET ended_at_ms = 1 WHERE prompt IN ('old', 'busy', 'paused')";
    assert_eq!(book.db.raw().execute(long_ago, []).unwrap(), 3);
    let [old, busy, paused, young] = &sessions;
    let inbox = Connection::open(paused.paths().inbound_db()).unwrap();
    let pause = "UPDATE messages_in SET status = 'paused'
                 WHERE kind = 'task' AND status = 'pending'";
    assert_eq!(inbox.execute(pause, []).unwrap(), 1);
    drop(inbox);
    let rest = "UPDATE sessions SET next_due_at_ms = NULL WHERE id = ?1";
    assert_eq!(book.db.raw().execute(rest, [&paused.id]).unwrap(), 1);
    world.up();
    wait_for("the session to go", || {
        world.sessions().iter().all(|session| session.id != old.id).then_some(())
    });
    let left: Vec<bool> = folders.iter().map(|folder| folder.exists()).collect();
    assert_eq!(left, [false, true, true, true], "a task waits in two, and one is young");
    let known: Vec<String> = world.sessions().into_iter().map(|session| session.id).collect();
    assert!([busy, paused, young].iter().all(|it| known.contains(&it.id)), "{known:?}");
    assert_eq!(chat.ask("and now?"), "echo: and now?", "a conversation is never forgotten");
    world.assert_fsck_clean();
}
