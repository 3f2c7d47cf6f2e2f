//! Requests of agents, against the real session tasks: each at most once, in order, bounded, and
//! within its own session.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};
use twobox_channels::Operations;
use twobox_model::dead_letter::{DeadLetterOrder, DeadLetterOutcome, Verb};
use twobox_runtime::StartSpec;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::inbox::Origin;
use twobox_shared::outbox::{Claim, NewRow, OutboxWriter, TurnEnd};
use twobox_shared::seq::Seq;

use crate::world::{Then, World, answer_all, claim_all, number, outbound, until};

/// Writes requests, each under its id, as rows of no turn.
fn ask(spec: &StartSpec, destination: &Origin, requests: &[(&str, Value)]) {
    write(spec, "system", destination, requests);
}

/// Writes rows of a kind, each under its id, as rows of no turn.
fn write(spec: &StartSpec, kind: &str, destination: &Origin, rows: &[(&str, Value)]) {
    let row = |(id, request): &(&str, Value)| NewRow {
        in_reply_to: None,
        kind: kind.to_owned(),
        destination: destination.clone(),
        content: request.to_string(),
        deliver_after: None,
        attempt: 0,
        id: MessageId::parse(id).unwrap(),
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    let end = TurnEnd { claims: &[], outcome: Ok(&rows), turns: 0, continuation: None };
    let mut outbox = OutboxWriter::open(&outbound(spec), spec.incarnation.runner).unwrap();
    outbox.end_turn(&end, Seq::default(), SystemClock.now()).unwrap();
}

/// A session whose containers answer everything, then make `requests`, the first one only, and leave.
async fn asked(world: &World, requests: Vec<(&'static str, Value)>) -> SessionId {
    let requests = Mutex::new(requests);
    world.runtime.next_life(move |spec| {
        answer_all(spec);
        ask(spec, &Origin::default(), &std::mem::take(&mut *requests.lock().unwrap()));
        Then::Leaves
    });
    world.say("t", "m1").await.unwrap().session
}

/// Waits until so many rows of the outbox have a final record.
async fn until_settled(inbound: &Path, count: i64) {
    let settled = "SELECT count(*) FROM delivered WHERE status NOT IN ('held', 'sending')";
    until("the requests to be settled", async || number(inbound, settled) == count).await;
}

/// What the host answered, by request.
fn answers(inbound: &Path) -> BTreeMap<String, Value> {
    let conn = Connection::open(inbound).unwrap();
    let mut select =
        conn.prepare("SELECT content FROM messages_in WHERE kind = 'system' ORDER BY seq").unwrap();
    let contents = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
    contents
        .map(|content| serde_json::from_str::<Value>(&content.unwrap()).unwrap())
        .map(|answer| (answer["request"].as_str().unwrap_or_default().to_owned(), answer))
        .collect()
}

fn later(prompt: &str) -> Value {
    json!({ "action": "schedule_task", "prompt": prompt, "process_after": "2099-01-01T00:00:00Z" })
}

const TASKS: &str = "SELECT count(*) FROM messages_in WHERE kind = 'task'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_carried_out_in_their_order_and_answered() {
    let world = World::new(|_| ()).await;
    let requests = vec![
        ("r1", later("one")),
        ("r2", json!({ "action": "list_tasks" })),
        ("r3", later("two")),
        ("r4", json!({ "action": "list_tasks" })),
        ("r5", json!({ "action": "nonsense" })),
    ];
    let session = asked(&world, requests).await;
    let inbound = world.inbound(session).await;
    until_settled(&inbound, 6).await;
    let answers = answers(&inbound);
    let count = |request: &str| answers[request]["tasks"].as_array().unwrap().len();
    assert_eq!((count("r2"), count("r4")), (1, 2));
    assert_eq!((&answers["r1"]["ok"], &answers["r5"]["ok"]), (&json!(true), &json!(false)));
    assert_eq!(number(&inbound, TASKS), 2);
    let replies = "SELECT count(*) FROM messages_in
                 WHERE kind = 'task' AND platform_id = 'anna' AND thread_id = 't'";
    assert_eq!(number(&inbound, replies), 2, "they answer where the session does");
    let failed = "SELECT count(*) FROM delivered WHERE status = 'failed'";
    assert_eq!(number(&inbound, failed), 1);
    let due = twobox_shared::time::UnixMillis::parse("2099-01-01T00:00:00Z");
    until("the session to rest until then", async || {
        world.record(session).await.next_due_at == due
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_with_a_final_record_is_no_new_request_whatever_it_says() {
    let world = World::new(|_| ()).await;
    let session = asked(&world, vec![("r1", later("one"))]).await;
    let inbound = world.inbound(session).await;
    until_settled(&inbound, 2).await;
    world.runtime.next_life(|spec| {
        // The row is written anew, above what the host has read, and says something else.
        let outbox = Connection::open(outbound(spec)).unwrap();
        outbox.execute("DELETE FROM messages_out WHERE id = 'r1'", []).unwrap();
        drop(outbox);
        ask(spec, &Origin::default(), &[("r1", later("two")), ("r2", later("three"))]);
        answer_all(spec);
        Then::Leaves
    });
    world.say("t", "m2").await.unwrap();
    let settled = "SELECT count(*) FROM delivered WHERE message_out_id = 'r2'";
    until("the later request to be settled", async || number(&inbound, settled) == 1).await;
    let prompts = "SELECT count(*) FROM messages_in
                   WHERE kind = 'task' AND content IN ('{\"text\":\"one\"}', '{\"text\":\"three\"}')";
    assert_eq!((number(&inbound, TASKS), number(&inbound, prompts)), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_superseded_runner_asks_for_changes_nothing() {
    let world =
        World::new(|config| config.limits.claim_tolerance = Duration::from_millis(300)).await;
    let started = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&started);
    world.runtime.next_life(move |spec| {
        let mut started = keep.lock().unwrap();
        if started.is_empty() {
            claim_all(spec);
        }
        started.push(spec.clone());
        Then::Stays
    });
    let session = world.say("t", "m1").await.unwrap().session;
    until("a second start", async || started.lock().unwrap().len() == 2).await;
    let [old, new] = [0, 1].map(|n| started.lock().unwrap()[n].clone());
    let ask_in_turn = |spec: &StartSpec, id: &str, attempt: i64| {
        let row = NewRow {
            in_reply_to: Some(MessageId::parse("m1").unwrap()),
            kind: "system".to_owned(),
            destination: Origin::default(),
            content: later(id).to_string(),
            deliver_after: None,
            attempt,
            id: MessageId::parse(id).unwrap(),
        };
        let rows = [row];
        let end = TurnEnd { claims: &[], outcome: Ok(&rows), turns: 0, continuation: None };
        let mut outbox = OutboxWriter::open(&outbound(spec), spec.incarnation.runner).unwrap();
        outbox.end_turn(&end, Seq::default(), SystemClock.now()).unwrap();
    };
    ask_in_turn(&old, "too-late", 0);
    ask_in_turn(&new, "in-time", 1);
    let inbound = world.inbound(session).await;
    until("both to be read", async || number(&inbound, "SELECT seen FROM outbound_cursor") >= 3)
        .await;
    assert_eq!(number(&inbound, TASKS), 0, "it is not known yet whose the message is");
    let claim = Claim { message: MessageId::parse("m1").unwrap(), attempt: 1 };
    let mut outbox = OutboxWriter::open(&outbound(&new), new.incarnation.runner).unwrap();
    assert_eq!(outbox.claim(&[claim], SystemClock.now()).unwrap().len(), 1);
    drop(outbox);
    until_settled(&inbound, 2).await;
    let told = "SELECT count(*) FROM messages_in WHERE kind = 'task' AND content LIKE '%in-time%'";
    assert_eq!((number(&inbound, TASKS), number(&inbound, told)), (1, 1));
    let refused = "SELECT count(*) FROM delivered WHERE error LIKE 'superseded%'";
    assert_eq!(number(&inbound, refused), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_requests_is_bounded_and_hides_no_answer() {
    let world = World::new(|_| ()).await;
    let flooded = Mutex::new(false);
    world.runtime.next_life(move |spec| {
        if !std::mem::replace(&mut *flooded.lock().unwrap(), true) {
            answer_all(spec);
            let ids: Vec<String> = (0..130).map(|n| format!("r{n}")).collect();
            let requests: Vec<_> = ids
                .iter()
                .map(|id| {
                    let mut request = later("p");
                    request["wake"] = true.into();
                    (id.as_str(), request)
                })
                .collect();
            ask(spec, &Origin::default(), &requests);
        }
        Then::Leaves
    });
    let session = world.say("t", "m1").await.unwrap().session;
    let inbound = world.inbound(session).await;
    until("all of them to be settled", async || {
        number(&inbound, "SELECT count(*) FROM delivered WHERE message_out_id LIKE 'r%'") == 130
    })
    .await;
    assert_eq!(number(&inbound, TASKS), 100);
    let notes = "SELECT count(*) FROM messages_in
                 WHERE kind = 'system' AND trigger = 0 AND status = 'pending'";
    assert_eq!(number(&inbound, notes), 50);
    let wakes = notes.replace("trigger = 0", "trigger = 1");
    assert_eq!(number(&inbound, &wakes), 10);
    assert!(answers(&inbound).contains_key("r129"), "the newest answer is there");
}

/// What is left of `flood` refused rows, whose ids begin with `r`, and of an honest request behind
/// them: so many records, so many that were counted, and one note.
async fn assert_counted(world: &World, session: SessionId, flood: usize) {
    let inbound = world.inbound(session).await;
    until("the honest request to be answered", async || answers(&inbound).contains_key("honest"))
        .await;
    let last = "SELECT seq FROM messages_out WHERE id = 'honest'";
    let last = number(&world.outbound(session).await, last);
    until("the cursor to pass it", async || {
        number(&inbound, "SELECT seq FROM outbound_cursor") >= last
    })
    .await;
    let told = number(&inbound, "SELECT count(*) FROM delivered WHERE message_out_id LIKE 'r%'");
    assert!((60..=62).contains(&told), "{told}: a machine this slow would be another surprise");
    let counted = format!("SELECT sum(count) FROM refused WHERE session_id = '{session}'");
    assert_eq!(number(&world.core.parts.data.host_db(), &counted) + told, flood as i64);
    let notes = "SELECT count(*) FROM messages_in WHERE id LIKE 'refusals-%'";
    assert_eq!(number(&inbound, notes), 1);
    assert_eq!(answers(&inbound)["honest"]["ok"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_refused_without_end_are_counted_and_an_honest_one_is_served() {
    let world = World::new(|_| ()).await;
    // A session pays for the host's time, so that many more would take long.
    let mut requests: Vec<(&'static str, Value)> = Vec::new();
    for number in 0..100 {
        let id: &'static str = format!("r{number}").leak();
        requests.push((id, json!({ "action": "nonsense" })));
    }
    requests.push(("honest", later("p")));
    let session = asked(&world, requests).await;
    assert_counted(&world, session, 100).await;

    // What a person has it asked once more is refused on record, though nothing more may be told.
    let order =
        DeadLetterOrder { verb: Verb::Redrive, kind: None, ids: Some(vec!["r0".to_owned()]) };
    assert_eq!(
        world.operations.dead(session, order).await.unwrap()[0].outcome,
        DeadLetterOutcome::Redriven
    );
    let inbound = world.inbound(session).await;
    let again = "SELECT count(*) FROM delivered WHERE message_out_id = 'r0' AND status = 'failed'";
    until("the second refusal", async || number(&inbound, again) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outbounds_to_nowhere_are_counted_too() {
    const FLOOD: usize = 300; // more rows than one look takes of one destination
    let world = World::new(|_| ()).await;
    let once = Mutex::new(true);
    world.runtime.next_life(move |spec| {
        answer_all(spec);
        if std::mem::take(&mut *once.lock().unwrap()) {
            let ids: Vec<String> = (0..FLOOD).map(|n| format!("r{n}")).collect();
            let rows: Vec<_> = ids.iter().map(|id| (id.as_str(), json!({ "text": "x" }))).collect();
            let nowhere = Origin {
                channel_type: Some("terminal".into()),
                platform_id: Some("nowhere".into()),
                thread_id: None,
            };
            write(spec, "chat", &nowhere, &rows);
            ask(spec, &Origin::default(), &[("honest", later("p"))]);
        }
        Then::Leaves
    });
    let session = world.say("t", "m1").await.unwrap().session;
    assert_counted(&world, session, FLOOD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_reaches_another_session_or_another_agents_chat() {
    let world = World::new(|_| ()).await;
    let ours = asked(&world, vec![("r1", later("ours"))]).await;
    let inbound = world.inbound(ours).await;
    until_settled(&inbound, 2).await;
    let id = answers(&inbound)["r1"]["tasks"][0]["id"].clone();

    let once = Mutex::new(true);
    world.runtime.next_life(move |spec| {
        answer_all(spec);
        if std::mem::take(&mut *once.lock().unwrap()) {
            let id = &id;
            ask(spec, &Origin::default(), &[
                // The same row id as in the other session makes another task.
                ("r1", later("theirs")),
                ("r2", json!({ "action": "cancel_task", "id": id })),
                ("r3", json!({ "action": "cancel_task", "id": format!("{}@0.0", id.as_str().unwrap()) })),
            ]);
            let elsewhere = Origin {
                channel_type: Some("terminal".into()),
                platform_id: Some("bert".into()),
                thread_id: None,
            };
            ask(spec, &elsewhere, &[("r4", later("elsewhere"))]);
        }
        Then::Leaves
    });
    let theirs = world.say("other", "m1").await.unwrap().session;
    assert_ne!(ours, theirs);
    let inbound = world.inbound(theirs).await;
    until_settled(&inbound, 5).await;
    let answers = answers(&inbound);
    for (request, ok) in [("r1", true), ("r2", false), ("r3", false), ("r4", false)] {
        assert_eq!(answers[request]["ok"], ok, "{}", answers[request]);
    }
    assert!(answers["r4"]["text"].as_str().unwrap().contains("not wired"), "{}", answers["r4"]);
    let live = "SELECT count(*) FROM messages_in WHERE kind = 'task' AND status = 'pending'";
    assert_eq!(number(&world.inbound(ours).await, live), 1);
}
