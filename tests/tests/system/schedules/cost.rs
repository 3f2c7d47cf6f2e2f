//! What the session of a run costs on disk, once the run is over.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use twobox_store::schedules::Status;
use twobox_tests::{Session, Setup, World, on_all_runtimes, on_process, wait_for};

use super::{Book, Rhythm};
use crate::scripts::echo;
use crate::workspace::obedient;

on_all_runtimes!(the_session_of_a_run_that_is_over_is_small_and_serves_again);

on_process!(what_an_agent_left_in_the_workspace_of_its_run_stays);

/// The most that the session of a run may take, with nothing in it but a short order and its answer.
const MOST: u64 = 32 * 1024;

/// What `du --block-size=1` says of `path`, with a line for each file and folder.
fn used(path: &Path, list: &mut String) -> u64 {
    let meta = path.symlink_metadata().unwrap();
    let own = meta.blocks() * 512;
    writeln!(list, "{own:7} {:7} {}", meta.len(), path.display()).unwrap();
    let inside = meta.is_dir().then(|| std::fs::read_dir(path).unwrap()).into_iter().flatten();
    own + inside.map(|entry| used(&entry.unwrap().path(), list)).sum::<u64>()
}

/// Waits until nobody is going to look at the session again.
fn wait_at_rest(world: &World, id: &str) -> Session {
    wait_for("the session to be at rest", || {
        let session = world.sessions().into_iter().find(|session| session.id == id)?;
        (!session.running && !world.is_marked(&session)).then_some(session)
    })
}

fn the_session_of_a_run_that_is_over_is_small_and_serves_again(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    let book = Book::of(&world);
    let tidy = book.add("tidy", Rhythm::Once, |_| {});
    let run = book.wait_ended(tidy);
    assert_eq!((run.status, run.output.as_deref()), (Status::Completed, Some("echo: tidy")));
    let id = run.hold.unwrap().session;
    let session = wait_at_rest(&world, &id.to_string());
    let mut list = String::new();
    let bytes = used(&session.folder, &mut list);
    assert!(bytes <= MOST, "{bytes} bytes:\n{list}");
    assert!(world.twobox(&["sessions", "tail", &session.id]).contains("echo: tidy"));
    world.assert_fsck_clean();

    let again = book.add("again", Rhythm::Once, |it| it.session = Some(id));
    let run = book.wait_ended(again);
    assert_eq!((run.status, run.output.as_deref()), (Status::Completed, Some("echo: again")));
    world.assert_fsck_clean();
}

fn what_an_agent_left_in_the_workspace_of_its_run_stays(setup: Setup) {
    let world = obedient(setup);
    world.up();
    let book = Book::of(&world);
    let note = book.add("note", Rhythm::Once, |it| it.prompt = "write work note mine".to_owned());
    let run = book.wait_ended(note);
    assert_eq!((run.status, run.output.as_deref()), (Status::Completed, Some("written")));
    let id = run.hold.unwrap().session;
    let session = wait_at_rest(&world, &id.to_string());
    assert_eq!(std::fs::read_to_string(session.folder.join("work/note")).unwrap(), "mine");
    assert!(!session.paths().agent_config().exists(), "the rest is folded");
    let again = book.add("again", Rhythm::Once, |it| {
        it.session = Some(id);
        it.prompt = "read work note".to_owned();
    });
    assert_eq!(book.wait_ended(again).output.as_deref(), Some("mine"));
    world.assert_fsck_clean();
}
