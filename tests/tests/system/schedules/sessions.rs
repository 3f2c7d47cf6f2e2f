//! The sessions that are made for runs: whole or not at all, and not for longer than the run is known.

use std::path::PathBuf;

use serde_json::json;
use twobox_host::db::schedules::{Run, Status};
use twobox_host::schedule::reason::Reason;
use twobox_tests::faults::disk::{self, Part};
use twobox_tests::{Session, Setup, World, on_process, wait_for};

use super::{Book, Rhythm};
use crate::scripts::echo;

on_process!(
    a_run_on_a_full_disk_completes_when_there_is_space,
    a_run_that_finds_no_room_in_its_time_fails_and_leaves_no_session,
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
    assert!(run.hold.is_some(), "the ids that were tried are kept");
    assert_eq!(world.sessions().len(), 0, "no session is left by halves");
    wait_for("nobody to be awake for it", || {
        (world.status()?["sessions"]["awake"] == 0).then_some(())
    });
    world.disk().free();
    let again = book.add("again", Rhythm::Once, |_| {});
    assert_eq!(book.wait_ended(again).status, Status::Completed);
    world.assert_fsck_clean();
}

fn a_run_that_is_forgotten_takes_its_session_along(setup: Setup) {
    let due = "2040-01-01T00:00:00Z";
    let task = json!({ "action": "schedule_task", "prompt": "later", "process_after": due });
    let script = json!({
        "rules": [{ "match": "^busy", "do": [{ "system": task }, { "reply": "done" }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let world = setup.agent("ada", script).up();
    let chat = world.chat("ada");
    assert_eq!(chat.ask("hello"), "echo: hello");
    world.session("ada").wait_settled();
    let book = Book::of(&world);
    let names = ["old", "busy", "young"];
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
    let long_ago = "UPDATE runs SET ended_at_ms = 1 WHERE prompt IN ('old', 'busy')";
    assert_eq!(book.db.execute(long_ago, []).unwrap(), 2);
    world.up();
    let [old, busy, young] = &sessions;
    wait_for("the session to go", || {
        world.sessions().iter().all(|session| session.id != old.id).then_some(())
    });
    let left: Vec<bool> = folders.iter().map(|folder| folder.exists()).collect();
    assert_eq!(left, [false, true, true], "a task waits in one, and one is young");
    let known: Vec<String> = world.sessions().into_iter().map(|session| session.id).collect();
    assert!(known.contains(&busy.id) && known.contains(&young.id), "{known:?}");
    assert_eq!(chat.ask("and now?"), "echo: and now?", "a conversation is never forgotten");
    world.assert_fsck_clean();
}
