//! A host that goes on after another one has taken over from it.

use twobox_schedule::scheduler::Scheduler;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::{HostId, ScheduleId, SystemIds};
use twobox_shared::inbox::Origin;
use twobox_slots::{missed, overlap};
use twobox_store::schedules::{Added, Definition};

use crate::world::{World, number, open};

fn by_hand(name: &str) -> Definition {
    Definition {
        name: name.to_owned(),
        prompt: "tidy up".to_owned(),
        cadence_kind: "every".to_owned(),
        cadence_value: "1h".to_owned(),
        time_zone: "UTC".to_owned(),
        anchor: SystemClock.now(),
        session: None,
        to: Origin::default(),
        max_turns: None,
        max_run_ms: None,
        missed: missed::Policy::Latest,
        missed_window_ms: 86_400_000,
        overlap: overlap::Policy::Skip,
        jitter_ms: 0,
        not_before: None,
        not_after: None,
        max_runs: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_was_followed_leaves_its_runs_message_to_the_next() {
    let world = World::new(|_| {}).await;
    let (store, now) = (&world.core.parts.store, SystemClock.now());
    let agent = store.agents().find("anna").await.unwrap().id;
    let id = ScheduleId::generate(&SystemIds);
    let added = store.schedules().add(id, agent, &by_hand("tidy"), None, now).await.unwrap();
    assert_eq!(added, Added::Done);
    let life = store.installation().take_over(HostId::generate(&SystemIds), now).await.unwrap();
    // The next host comes between the mark of the run's session and the message in its inbox.
    let next_host = "CREATE TRIGGER next_host AFTER UPDATE OF next_due_at_ms ON sessions
                     BEGIN UPDATE owner SET epoch = epoch + 1; END";
    open(&world.core.parts.data.host_db()).execute_batch(next_host).unwrap();

    let scheduler = Scheduler::new(world.core.clone(), life.owner);
    let run = scheduler.execute(id, None).await.expect("it has begun, and is the next host's");
    let hold = run.hold.expect("it was started");
    let pending = format!(
        "SELECT count(*) FROM messages_in WHERE id = '{}' AND status = 'pending'",
        hold.message
    );
    assert_eq!(number(&world.inbound(hold.session).await, &pending), 1);
    let running = format!(
        "SELECT count(*) FROM runs WHERE id = '{}' AND status = 'running' AND phase = 'prepared'",
        run.id
    );
    assert_eq!(number(&world.core.parts.data.host_db(), &running), 1);
}
