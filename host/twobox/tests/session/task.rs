//! A session from its first message to its rest, and what may come between.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;
use twobox_channels::Intake;
use twobox_model::channel::Refusal;
use twobox_runtime::{Condition, Incarnation, StartSpec};
use twobox_session::boxes::{Boxes, Writers};
use twobox_session::command::Command;
use twobox_session::signal::Reason;
use twobox_shared::ids::{RunnerId, SystemIds};
use twobox_shared::inbox::Origin;
use twobox_shared::open::WRITE_PATIENCE;
use twobox_store::sessions::DUE_NOW;

use crate::world::{
    NOBODY, Then, World, answer_all, answer_all_as_version_0, claim_all, number, open, outbound,
    reject_all, send_rows, send_texts, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_a_session_goes_into_quarantine_hears_what_the_host_has_to_say() {
    let world = World::new(|_| {}).await;
    world.intake.ready(&World::address("z")); // the first who comes to this host asks everybody
    world.post.absent.lock().unwrap().insert("x".to_owned());
    world.runtime.next_life(|spec| {
        reject_all(spec);
        Then::Stays
    });
    *world.runtime.unstoppable.lock().unwrap() = true;
    let session = world.say("x", "m0").await.unwrap().session;
    let tried = || world.post.tried.lock().unwrap().get("x").copied();
    until("nobody hears that it failed", async || tried() == Some(1)).await;
    std::fs::write(world.outbound(session).await, vec![7_u8; 8192]).unwrap();
    until("quarantine", async || world.record(session).await.quarantine.is_some()).await;

    let stops = || *world.runtime.stops.lock().unwrap();
    until("its container cannot be stopped", async || stops() > 0).await;
    let before = stops();
    world.post.absent.lock().unwrap().remove("x");
    world.intake.ready(&World::address("x"));
    until("it has looked", async || stops() > before).await;
    *world.runtime.unstoppable.lock().unwrap() = false;
    world.wait_outbounds(1).await;
    assert!(world.post.outbounds.lock().unwrap()[0].failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_being_deleted_is_not_put_back_into_use() {
    let world = World::new(|_| {}).await;
    let session = world.say("t", "m0").await.unwrap().session;
    world.wait_outbounds(1).await;
    world.rest().await;
    let close = "UPDATE sessions SET status = 'closed'";
    world.core.parts.store.raw().execute(close, []).unwrap();
    let (reply, answer) = tokio::sync::oneshot::channel();
    world.core.send(session, Command::Retry { message: None, reply }).await;
    let refusal = answer.await.unwrap().unwrap_err();
    assert!(refusal.contains("is being deleted"), "{refusal}");
    let record = world.record(session).await;
    assert!(record.closed && record.next_due_at.is_none(), "{record:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_to_one_conversation_wakes_no_other_that_waits() {
    let world = World::new(|_| {}).await;
    world.post.absent.lock().unwrap().extend(["x".to_owned(), "y".to_owned()]);
    let tried = |thread: &str| world.post.tried.lock().unwrap().get(thread).copied().unwrap_or(0);
    for thread in ["x", "y"] {
        world.say(thread, thread).await.unwrap();
        until("nobody is there", async || tried(thread) == 1).await;
    }
    world.rest().await;

    world.intake.ready(&World::address("z")); // the first who comes to this host: it asks everybody
    until("both are tried again", async || tried("x") == 2 && tried("y") == 2).await;
    world.rest().await;

    for (thread, outbounds) in [("x", 1), ("y", 2)] {
        world.post.absent.lock().unwrap().remove(thread);
        world.intake.ready(&World::address(thread));
        world.wait_outbounds(outbounds).await;
        world.rest().await;
    }
    assert_eq!((tried("x"), tried("y")), (3, 3), "each was tried when somebody came to it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_answered_and_the_session_comes_to_rest() {
    let world = World::new(|_| ()).await;
    let receipt = world.say("t", "m1").await.unwrap();
    world.wait_outbounds(1).await;
    world.rest().await;
    let record = world.record(receipt.session).await;
    assert_eq!((record.next_due_at, record.runner, record.failed_starts), (None, None, 0));
    assert_eq!(world.core.places(), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarantined_session_has_no_container_and_costs_nothing() {
    let world = World::new(|_| ()).await;
    world.runtime.next_life(|spec| {
        std::fs::write(outbound(spec), vec![7_u8; 8192]).unwrap();
        Then::Stays
    });
    let session = world.say("t", "m1").await.unwrap().session;
    until("quarantine", async || world.record(session).await.quarantine.is_some()).await;
    world.rest().await;
    assert_eq!((world.runtime.lives(), world.core.places()), (0, (0, 0)));
    assert!(matches!(world.say("t", "m2").await, Err(Refusal::Blocked { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p11_a_number_that_would_exhaust_the_clock_is_quarantined_and_not_taken_over() {
    let world = World::new(|_| ()).await;
    world.runtime.next_life(|spec| {
        answer_all(spec);
        let outbox = Connection::open(outbound(spec)).unwrap();
        outbox.execute("UPDATE messages_out SET seq = 9007199254740991", []).unwrap();
        Then::Stays
    });
    let session = world.say("t", "m1").await.unwrap().session;
    until("quarantine", async || world.record(session).await.quarantine.is_some()).await;
    let seen = number(&world.inbound(session).await, "SELECT seen FROM outbound_cursor");
    assert!(seen < 100, "the host's next number would follow {seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_of_a_newer_version_is_quarantined() {
    let world = World::new(|_| ()).await;
    world.runtime.next_life(|spec| {
        answer_all(spec);
        Connection::open(outbound(spec)).unwrap().pragma_update(None, "user_version", 99).unwrap();
        Then::Stays
    });
    let session = world.say("t", "m1").await.unwrap().session;
    until("quarantine", async || world.record(session).await.quarantine.is_some()).await;
    until("stop", async || world.runtime.lives() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_message_stays_due_while_the_runtime_does_not_answer() {
    let world = World::new(|_| ()).await;
    *world.runtime.down.lock().unwrap() = true;
    let session = world.say("t", "m1").await.unwrap().session;
    until("three questions", async || *world.runtime.asked.lock().unwrap() > 2).await;
    assert_eq!(world.record(session).await.next_due_at, Some(DUE_NOW));
    *world.runtime.down.lock().unwrap() = false;
    world.wait_outbounds(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_what_an_unrecorded_container_left_does_not_block_the_next_start() {
    for condition in [Condition::Exited { code: None }, Condition::Running] {
        let world = World::new(|_| ()).await;
        let session = world.say("t", "m1").await.unwrap().session;
        world.rest().await;
        let stray = Incarnation { session, runner: RunnerId::generate(&SystemIds) };
        world.runtime.plant(stray, condition);
        world.say("t", "m2").await.unwrap();
        world.wait_outbounds(2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_cannot_be_recorded_is_kept_and_the_outbound_not_sent_again() {
    let world = World::new(|_| ()).await;
    *world.post.slow.lock().unwrap() = Duration::from_secs(1);
    let session = world.say("t", "m1").await.unwrap().session;
    until("the send", async || *world.post.calls.lock().unwrap() == 1).await;
    let reader = Connection::open(world.inbound(session).await).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM messages_in").unwrap();
    // Nothing tells that it is not sent again: it would be within this time, in which a try to record
    // the outcome fails.
    tokio::time::sleep(Duration::from_secs(1) + 2 * WRITE_PATIENCE).await;
    assert_eq!(*world.post.calls.lock().unwrap(), 1);
    let recorded = "SELECT count(*) FROM delivered";
    let recorded: i64 = reader.query_row(recorded, [], |row| row.get(0)).unwrap();
    assert_eq!(recorded, 0, "the outcome");
    drop(reader);
    world.rest().await;
    assert_eq!(*world.post.calls.lock().unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_refused_rows_than_one_look_takes_are_all_settled() {
    let world = World::new(|_| ()).await;
    world.runtime.next_life(|spec| {
        let nowhere = Origin {
            channel_type: Some("terminal".to_owned()),
            platform_id: Some("bob".to_owned()),
            thread_id: None,
        };
        send_rows(spec, &nowhere, 520);
        answer_all(spec);
        Then::Leaves
    });
    world.say("t", "m1").await.unwrap();
    world.wait_outbounds(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p14_a_container_that_writes_to_nowhere_does_not_fill_its_inbox() {
    let world = World::new(|_| ()).await;
    world.runtime.next_life(|spec| {
        answer_all(spec); // before there are notes, so that all of them wait
        for n in 0..200 {
            let nowhere = Origin {
                channel_type: Some("nowhere".to_owned()),
                platform_id: Some(n.to_string()),
                thread_id: None,
            };
            send_rows(spec, &nowhere, 1);
        }
        Then::Leaves
    });
    let session = world.say("t", "m1").await.unwrap().session;
    world.rest().await;
    let inbound = world.inbound(session).await;
    let failed = number(&inbound, "SELECT count(*) FROM delivered WHERE status = 'failed'");
    let counted = number(&world.core.parts.data.host_db(), "SELECT sum(count) FROM refused");
    assert!(failed + counted == 200 && failed <= 62, "{failed} told, {counted} counted");
    let waiting = "SELECT count(*) FROM messages_in WHERE kind = 'system' AND status = 'pending'";
    let notes = number(&inbound, waiting);
    assert!((1..=50).contains(&notes), "{notes} notes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_told_of_a_message_that_failed_and_not_of_the_context_with_it() {
    let world = World::new(|_| ()).await;
    world.runtime.next_life(|spec| {
        answer_all(spec);
        let nowhere = Origin {
            channel_type: Some("nowhere".to_owned()),
            platform_id: Some("x".to_owned()),
            thread_id: None,
        };
        send_rows(spec, &nowhere, 1);
        Then::Leaves
    });
    let session = world.say("t", "m1").await.unwrap().session;
    world.rest().await;
    world.runtime.next_life(|spec| {
        reject_all(spec);
        Then::Leaves
    });
    world.say("t", "m2").await.unwrap();
    world.rest().await;
    let failed = "SELECT count(*) FROM messages_in WHERE status = 'failed'";
    assert_eq!(number(&world.inbound(session).await, failed), 2, "the note was in the turn");
    let outbounds = world.post.outbounds.lock().unwrap();
    let notices = outbounds.iter().filter(|outbound| outbound.text.contains("could not answer"));
    assert_eq!(notices.count(), 1, "{outbounds:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_nobody_takes_hide_no_row_for_somebody_else() {
    let world = World::new(|_| ()).await;
    world.runtime.next_life(|spec| {
        let to_nobody = Origin { thread_id: Some(NOBODY.to_owned()), ..Origin::default() };
        send_rows(spec, &to_nobody, 1000);
        answer_all(spec);
        Then::Leaves
    });
    world.say("t", "m1").await.unwrap();
    world.wait_outbounds(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_text_than_one_look_keeps_is_delivered_in_order_and_hides_no_row_for_somebody_else() {
    const LARGE: usize = 1_000_000;
    let world = World::new(|_| ()).await;
    world.runtime.next_life(|spec| {
        let to_nobody = Origin { thread_id: Some(NOBODY.to_owned()), ..Origin::default() };
        let large = |n: usize| "0".repeat(LARGE - 2) + &format!("{n:02}");
        send_texts(spec, &to_nobody, (0..12).map(large));
        send_texts(spec, &Origin::default(), (0..20).map(large));
        answer_all(spec);
        Then::Leaves
    });
    let receipt = world.say("t", "m1").await.unwrap();
    world.wait_outbounds(21).await;
    let outbounds = std::mem::take(&mut *world.post.outbounds.lock().unwrap());
    let found = outbounds.iter().map(|outbound| outbound.text.parse::<usize>().ok());
    assert!(found.eq((0..20).map(Some).chain([None])), "in order, each with its own text");
    assert!(outbounds[..20].iter().all(|outbound| outbound.text.len() == LARGE));
    let record = world.record(receipt.session).await;
    let folder = world.core.parts.data.session_folder(record.agent_group, receipt.session);
    let boxes = Boxes::new(receipt.session, &folder, &folder.join("scratch"), u64::MAX);
    let look = boxes.look(Writers::Possible).unwrap();
    let kept: usize =
        look.rows.iter().filter_map(|(row, _)| row.content.as_ref()).map(String::len).sum();
    assert_eq!(look.rows.len(), 12, "those to nobody");
    assert!((LARGE..9 * LARGE).contains(&kept), "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_waits_for_a_place_gives_its_turn_up_in_quarantine() {
    let world = World::new(|config| config.containers.max_running = 1).await;
    world.runtime.next_life(|_| Then::Stays); // with a message to claim, so it is not idle
    let holder = world.say("a", "m1").await.unwrap().session;
    until("the first start", async || world.runtime.lives() == 1).await;
    let waiter = world.say("b", "m1").await.unwrap().session;
    until("a waiting start", async || world.core.places() == (1, 1)).await;
    let folder = world.inbound(waiter).await.parent().unwrap().parent().unwrap().to_owned();
    std::fs::write(folder.join("out/outbound.db"), vec![7_u8; 8192]).unwrap();
    world.core.wake(waiter, Reason::Due);
    until("quarantine", async || world.record(waiter).await.quarantine.is_some()).await;
    let (done, _ended) = tokio::sync::oneshot::channel();
    world.core.send(holder, Command::Shutdown { stop_container: true, done }).await;
    until("an empty house", async || world.core.places() == (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_waits_for_sends_and_nobody_waits_for_it_for_ever() {
    let world = World::new(|_| ()).await;
    *world.post.slow.lock().unwrap() = Duration::from_millis(500);
    let session = world.say("t", "m1").await.unwrap().session;
    until("the send", async || *world.post.calls.lock().unwrap() == 1).await;
    world.core.stop_admitting();
    let (done, ended) = tokio::sync::oneshot::channel();
    world.core.send(session, Command::Shutdown { stop_container: true, done }).await;
    drop(tokio::time::timeout(Duration::from_secs(5), ended).await.expect("it ends"));
    assert_eq!(world.post.outbounds.lock().unwrap().len(), 1);
    let (reply, answer) = tokio::sync::oneshot::channel();
    let late = world.core.send(session, Command::Retry { message: None, reply });
    tokio::time::timeout(Duration::from_secs(5), late).await.expect("a late command is let go");
    answer.await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_a_container_that_dies_at_once_is_not_started_in_a_loop() {
    let world = World::new(|_| ()).await;
    world.runtime.next_life(|_| Then::Leaves);
    let session = world.say("t", "m1").await.unwrap().session;
    until("two failures", async || world.record(session).await.failed_starts == 2).await;
    assert_eq!(*world.runtime.starts.lock().unwrap(), 2);
    world.runtime.next_life(|spec| {
        answer_all(spec);
        Then::Leaves
    });
    world.wait_outbounds(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p9_an_exit_is_noticed_although_the_runtime_did_not_answer_at_first() {
    let world = World::new(|_| ()).await;
    world.runtime.next_life(|spec| {
        answer_all(spec);
        Then::Stays
    });
    let session = world.say("t", "m1").await.unwrap().session;
    world.wait_outbounds(1).await;
    let runner = world.record(session).await.runner.unwrap();
    let asked = *world.runtime.asked.lock().unwrap();
    *world.runtime.down.lock().unwrap() = true;
    world.runtime.end(Incarnation { session, runner });
    until("a question", async || *world.runtime.asked.lock().unwrap() > asked).await;
    *world.runtime.down.lock().unwrap() = false;
    world.rest().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_what_a_container_answers_while_it_is_stopped_is_not_charged() {
    let world = World::impatient().await;
    let runtime = Arc::clone(&world.runtime);
    world.runtime.next_life(move |spec| {
        claim_all(spec);
        let spec = spec.clone();
        *runtime.last_words.lock().unwrap() = Some(Box::new(move || answer_all(&spec)));
        Then::Stays
    });
    let session = world.say("t", "m1").await.unwrap().session;
    world.wait_outbounds(1).await;
    world.rest().await;
    let ended: (String, i64) = open(&world.inbound(session).await)
        .query_row("SELECT status, tries FROM messages_in", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(ended, ("completed".to_owned(), 0));
    assert_eq!(*world.runtime.starts.lock().unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p18_a_container_whose_outbox_cannot_be_read_is_stopped() {
    let world = World::impatient().await;
    world.runtime.next_life(|spec| {
        answer_all(spec);
        std::fs::write(spec.folder.join("out/outbound.db-journal"), vec![7_u8; 1024]).unwrap();
        Then::Stays
    });
    world.say("t", "m1").await.unwrap();
    until("a container", async || *world.runtime.starts.lock().unwrap() > 0).await;
    until("its stop", async || world.runtime.lives() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_container_makes_room_for_a_session_that_waits() {
    let world = World::new(|config| config.containers.max_running = 1).await;
    world.runtime.next_life(|spec| {
        answer_all(spec);
        Then::Stays
    });
    for (count, thread) in [(1, "a"), (2, "b"), (3, "a")] {
        world.say(thread, &format!("m{count}")).await.unwrap();
        world.wait_outbounds(count).await;
    }
    assert_eq!((world.runtime.lives(), world.core.places()), (1, (1, 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_start_gets_the_configuration_as_it_is_then_and_a_mistake_fails_the_start() {
    let world = World::new(|_| ()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    world.runtime.next_life(move |spec| {
        let path = spec.folder.join("in/agent.json");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        keep.lock().unwrap().push((std::fs::read_to_string(path).unwrap(), mode));
        answer_all(spec);
        Then::Leaves
    });
    let source = world.core.parts.data.agent_config("anna");
    world.say("t", "m1").await.unwrap();
    world.rest().await;
    std::fs::write(&source, "{\"max_turns\": 7}").unwrap();
    std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o600)).unwrap();
    world.say("t", "m2").await.unwrap();
    world.rest().await;
    let expected = [("{}".to_owned(), 0o644), ("{\"max_turns\":7}".to_owned(), 0o644)];
    assert_eq!(*seen.lock().unwrap(), expected);

    std::fs::write(&source, "{\"max_turn\": 7}").unwrap();
    let session = world.say("t", "m3").await.unwrap().session;
    until("a failed start", async || world.record(session).await.failed_starts > 0).await;
    let shown = world.core.parts.store.sessions().list(None).await.unwrap();
    let why = shown[0].start_error.clone().unwrap();
    assert!(why.contains("agents/anna.json") && why.contains("`max_turn`"), "{why}");
    assert_eq!(*world.runtime.starts.lock().unwrap(), 2);
    std::fs::remove_file(&source).unwrap();
    world.wait_outbounds(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_breaks_is_called_again_only_if_it_honours_keys() {
    for (blind, status, calls) in [(true, "uncertain", 1), (false, "delivered", 2)] {
        let world = World::new(|_| ()).await;
        *world.post.blind.lock().unwrap() = blind;
        *world.post.breaks.lock().unwrap() = true;
        let session = world.say("t", "m1").await.unwrap().session;
        world.rest().await;
        let inbox = open(&world.inbound(session).await);
        let read = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let found = inbox.query_row("SELECT status FROM delivered", [], read).unwrap();
        assert_eq!((found.as_str(), *world.post.calls.lock().unwrap()), (status, calls));
    }
}

/// What the host logs on this thread from now on.
fn log() -> (Arc<Mutex<Vec<u8>>>, tracing::subscriber::DefaultGuard) {
    #[derive(Clone)]
    struct Kept(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let kept = Kept(Arc::default());
    let writer = kept.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    (kept.0, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn a_container_that_cannot_be_stopped_has_no_successor_until_it_can() {
    type Life = fn(&StartSpec);
    let lives: [(&str, Life); 2] = [
        ("it breaks a limit", claim_all),
        ("its session is quarantined", |spec| {
            claim_all(spec);
            std::fs::write(outbound(spec), vec![7_u8; 8192]).unwrap();
        }),
    ];
    for (case, life) in lives {
        let (said, _while_it_lives) = log();
        let world = World::impatient().await;
        *world.runtime.unstoppable.lock().unwrap() = true;
        world.runtime.next_life(move |spec| {
            life(spec);
            Then::Stays
        });
        let session = world.say("t", "m1").await.unwrap().session;
        until(case, async || *world.runtime.stops.lock().unwrap() >= 2).await;
        let record = world.record(session).await;
        let lonely = (*world.runtime.starts.lock().unwrap(), world.runtime.lives());
        assert_eq!(lonely, (1, 1), "{case}: nothing was started beside it");
        assert_eq!(world.core.places().0, 1, "{case}: it keeps its place");
        assert!(record.runner.is_some(), "{case}: its end is not recorded");
        let told = String::from_utf8(said.lock().unwrap().clone()).unwrap();
        assert!(told.contains("could not stop the container of session"), "{case}: {told}");
        assert!(told.contains("beyond reach"), "{case}: {told}");

        world.runtime.next_life(|spec| {
            answer_all(spec);
            Then::Leaves
        });
        *world.runtime.unstoppable.lock().unwrap() = false;
        if record.quarantine.is_some() {
            until(case, async || world.runtime.lives() == 0).await;
            std::fs::remove_file(world.outbound(session).await).unwrap();
            let (reply, answer) = tokio::sync::oneshot::channel();
            world.core.send(session, Command::Retry { message: None, reply }).await;
            answer.await.unwrap().unwrap();
        }
        until(case, async || world.post.outbounds.lock().unwrap().len() == 1).await;
        until(case, async || world.core.awake().is_empty()).await;
        assert_eq!(*world.runtime.starts.lock().unwrap(), 2, "{case}");
        assert_eq!(*world.runtime.occupied.lock().unwrap(), 0, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wakes_that_race_make_one_container() {
    let world = World::new(|_| ()).await;
    *world.runtime.slow_start.lock().unwrap() = Duration::from_millis(5);
    let session = world.say("t", "m0").await.unwrap().session;
    let wakers: Vec<_> = [Reason::Due, Reason::Runtime, Reason::Outbox, Reason::Place]
        .into_iter()
        .map(|reason| {
            let core = Arc::clone(&world.core);
            tokio::spawn(async move {
                loop {
                    core.wake(session, reason);
                    tokio::time::sleep(Duration::from_micros(300)).await;
                }
            })
        })
        .collect();
    for count in 1..30 {
        world.wait_outbounds(count).await;
        world.say("t", &format!("m{count}")).await.unwrap();
    }
    wakers.iter().for_each(tokio::task::JoinHandle::abort);
    world.wait_outbounds(30).await;
    world.rest().await;
    assert_eq!(*world.runtime.occupied.lock().unwrap(), 0, "no start met another container");
    assert!(*world.runtime.starts.lock().unwrap() <= 30, "one for each message at most");
    assert_eq!((world.runtime.lives(), world.record(session).await.failed_starts), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_does_not_name_itself_has_worked_all_the_same() {
    let world = World::new(|_| ()).await;
    for message in ["m1", "m2"] {
        world.runtime.next_life(|spec| {
            answer_all_as_version_0(spec);
            Then::Leaves
        });
        let session = world.say("t", message).await.unwrap().session;
        world.rest().await;
        let record = world.record(session).await;
        assert_eq!((record.failed_starts, record.start_after), (0, None), "{message}");
    }
}
