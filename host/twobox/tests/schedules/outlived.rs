//! Sessions that were made for runs that nobody needs any more.

use twobox_shared::ids::{RunId, RunnerId, SessionId, SystemIds};
use twobox_store::schedules::{Definition, Phase, RunOutcome};
use twobox_store::sessions;

use super::world::{World, at, definition, host_id, world};

/// A run that was made ready, and its session.
fn made_ready(world: &mut World, name: &str) -> (RunId, SessionId) {
    let id = world.add(name);
    let (run, owner) = (world.fire(id), host_id());
    world.begin(run, owner, 1000);
    let found = world.run(run);
    let hold = found.hold.clone().unwrap();
    world.db.runs().prepare(&found, &hold, &SystemIds, at(1000)).wait().unwrap();
    (run, hold.session)
}

fn end(world: &mut World, run: RunId) {
    let owner = world.run(run).hold.unwrap().owner;
    world.finish(run, owner, RunOutcome::Completed, 2000);
}

#[test]
fn a_session_is_not_needed_when_its_run_is_forgotten_and_it_is_at_rest() {
    let mut world = world();
    let (run, session) = made_ready(&mut world, "report");
    let chat = world.session("t");
    let outlived = |world: &World| world.db.sessions().outlived(None, 10).wait().unwrap();
    end(&mut world, run);
    assert_eq!(outlived(&world), [], "its run is known");
    assert_eq!(world.db.runs().prune(at(3000), 10).wait().unwrap(), 1);
    assert_eq!(outlived(&world), [session], "and no chat's session");
    assert_eq!(world.db.sessions().outlived(Some(session), 10).wait().unwrap(), []);

    world.db.sessions().mark(session, Some(at(9_000_000))).wait().unwrap();
    assert_eq!(outlived(&world), [], "a task waits there");
    assert!(!world.db.sessions().close(session).wait().unwrap());
    world.db.sessions().mark(session, None).wait().unwrap();
    world
        .db
        .sessions()
        .record_start(session, RunnerId::generate(&SystemIds), at(1))
        .wait()
        .unwrap();
    world.db.sessions().mark(session, None).wait().unwrap();
    assert_eq!(outlived(&world), [], "a container runs");
    assert!(!world.db.sessions().close(session).wait().unwrap());
    world.db.sessions().record_end(session, &sessions::StartTrouble::default()).wait().unwrap();
    let named = Definition { session: Some(session), ..definition("other") };
    let other = world.add_as(&named);
    assert_eq!(outlived(&world), [], "a schedule names it");
    assert!(!world.db.sessions().close(session).wait().unwrap());
    world.db.raw().execute("DELETE FROM schedules WHERE id = ?1", [other]).unwrap();
    assert!(world.db.sessions().quarantine(session, "broken").wait().unwrap());
    assert_eq!(outlived(&world), [], "somebody has to look at it");
    assert!(!world.db.sessions().close(session).wait().unwrap());
    assert!(world.db.sessions().release(session).wait().unwrap());
    world.db.sessions().mark(session, None).wait().unwrap();

    assert!(!world.db.sessions().forget(session).wait().unwrap(), "it is not closed");
    assert!(world.db.sessions().find(session).wait().unwrap().is_some());
    assert!(world.db.sessions().close(session).wait().unwrap());
    assert_eq!(outlived(&world), [session], "whoever closed it may be dead");
    assert!(world.db.sessions().close(session).wait().unwrap(), "again");
    assert!(!world.db.sessions().quarantine(session, "half of it is gone").wait().unwrap());
    assert!(!world.db.sessions().release(session).wait().unwrap(), "it is never used again");
    assert_eq!(outlived(&world), [session], "nothing keeps it from being deleted");
    assert!(world.db.sessions().forget(session).wait().unwrap());
    assert_eq!(world.db.sessions().find(session).wait().unwrap(), None);
    assert!(!world.db.sessions().forget(session).wait().unwrap());
    assert!(!world.db.sessions().close(chat).wait().unwrap(), "nobody made it for a run");
    assert!(world.db.sessions().find(chat).wait().unwrap().is_some());
}

#[test]
fn a_session_is_needed_while_its_run_goes_on_there() {
    let mut world = world();
    let (run, session) = made_ready(&mut world, "report");
    let made_for = |world: &World, run| world.db.runs().was_made_for(session, run).wait().unwrap();
    assert!(made_for(&world, run));
    assert!(!made_for(&world, RunId::generate(&SystemIds)));
    let owner = world.run(run).hold.unwrap().owner;
    world.db.runs().advance(run, owner, Phase::Prepared, Phase::Executing).wait().unwrap();
    assert!(!world.db.sessions().close(session).wait().unwrap());
    end(&mut world, run);
    assert!(world.db.sessions().close(session).wait().unwrap(), "it can be taken back");
}
