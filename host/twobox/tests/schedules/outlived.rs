//! Sessions that were made for runs that nobody needs any more.

use twobox_shared::ids::{RunId, RunnerId, SessionId, SystemIds};
use twobox_store::schedules::{self, Definition, Outcome, Phase};
use twobox_store::sessions;

use super::world::{World, at, definition, host_id, world};

/// A run that was made ready, and its session.
fn made_ready(world: &mut World, name: &str) -> (RunId, SessionId) {
    let id = world.add(name);
    let (run, owner) = (world.fire(id), host_id());
    world.begin(run, owner, 1000);
    let found = world.run(run);
    let hold = found.hold.clone().unwrap();
    schedules::prepare(&mut world.db, &found, &hold, &SystemIds, at(1000)).unwrap();
    (run, hold.session)
}

fn end(world: &mut World, run: RunId) {
    let owner = world.run(run).hold.unwrap().owner;
    world.finish(run, owner, Outcome::Completed, 2000);
}

#[test]
fn a_session_is_not_needed_when_its_run_is_forgotten_and_it_is_at_rest() {
    let mut world = world();
    let (run, session) = made_ready(&mut world, "report");
    let chat = world.session("t");
    let outlived = |world: &World| schedules::outlived(&world.db, None, 10).unwrap();
    end(&mut world, run);
    assert_eq!(outlived(&world), [], "its run is known");
    assert_eq!(schedules::prune(&world.db, at(3000), 10).unwrap(), 1);
    assert_eq!(outlived(&world), [session], "and no chat's session");
    assert_eq!(schedules::outlived(&world.db, Some(session), 10).unwrap(), []);

    sessions::mark(&world.db, session, Some(at(9_000_000))).unwrap();
    assert_eq!(outlived(&world), [], "a task waits there");
    assert!(!schedules::close_session(&world.db, session).unwrap());
    sessions::mark(&world.db, session, None).unwrap();
    sessions::record_start(&world.db, session, RunnerId::generate(&SystemIds), at(1)).unwrap();
    sessions::mark(&world.db, session, None).unwrap();
    assert_eq!(outlived(&world), [], "a container runs");
    assert!(!schedules::close_session(&world.db, session).unwrap());
    sessions::record_end(&world.db, session, &sessions::StartTrouble::default()).unwrap();
    let named = Definition { session: Some(session), ..definition("other") };
    let other = world.add_as(&named);
    assert_eq!(outlived(&world), [], "a schedule names it");
    assert!(!schedules::close_session(&world.db, session).unwrap());
    world.db.execute("DELETE FROM schedules WHERE id = ?1", [other]).unwrap();
    assert!(sessions::quarantine(&world.db, session, "broken").unwrap());
    assert_eq!(outlived(&world), [], "somebody has to look at it");
    assert!(!schedules::close_session(&world.db, session).unwrap());
    assert!(sessions::release(&world.db, session).unwrap());
    sessions::mark(&world.db, session, None).unwrap();

    assert!(!schedules::forget_session(&mut world.db, session).unwrap(), "it is not closed");
    assert!(sessions::find(&world.db, session).unwrap().is_some());
    assert!(schedules::close_session(&world.db, session).unwrap());
    assert_eq!(outlived(&world), [session], "whoever closed it may be dead");
    assert!(schedules::close_session(&world.db, session).unwrap(), "again");
    assert!(!sessions::quarantine(&world.db, session, "half of it is gone").unwrap());
    assert!(!sessions::release(&world.db, session).unwrap(), "it is never used again");
    assert_eq!(outlived(&world), [session], "nothing keeps it from being deleted");
    assert!(schedules::forget_session(&mut world.db, session).unwrap());
    assert_eq!(sessions::find(&world.db, session).unwrap(), None);
    assert!(!schedules::forget_session(&mut world.db, session).unwrap());
    assert!(!schedules::close_session(&world.db, chat).unwrap(), "nobody made it for a run");
    assert!(sessions::find(&world.db, chat).unwrap().is_some());
}

#[test]
fn a_session_is_needed_while_its_run_goes_on_there() {
    let mut world = world();
    let (run, session) = made_ready(&mut world, "report");
    let made_for = |world: &World, run| schedules::was_made_for(&world.db, session, run).unwrap();
    assert!(made_for(&world, run));
    assert!(!made_for(&world, RunId::generate(&SystemIds)));
    let owner = world.run(run).hold.unwrap().owner;
    schedules::advance(&world.db, run, owner, Phase::Prepared, Phase::Executing).unwrap();
    assert!(!schedules::close_session(&world.db, session).unwrap());
    end(&mut world, run);
    assert!(schedules::close_session(&world.db, session).unwrap(), "it can be taken back");
}
