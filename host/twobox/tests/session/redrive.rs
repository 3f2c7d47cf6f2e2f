//! What ended without success, tried once more or given up on a person's word, against the real
//! session tasks.

use std::time::Duration;

use twobox_channels::Operations;
use twobox_model::channel::Outcome as Said;
use twobox_model::dead_letter::{DeadLetterOrder, DeadLetterOutcome, Handled, Kind, Verb};
use twobox_session::signal::Reason;
use twobox_shared::dead_letter::Fate;
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::inbox::{InboxReader, Origin};

use crate::world::{NOBODY, Then, World, answer_all, number, open, reject_all, send_rows, until};

fn permanent() -> Said {
    Said::Permanent { error: "the chat is closed".to_owned() }
}

impl World {
    fn channel_says(&self, refusal: Option<Said>) {
        *self.post.refusal.lock().unwrap() = refusal;
    }

    /// A session at rest, whose one answer its channel refused.
    async fn refused(&self) -> (SessionId, String) {
        self.channel_says(Some(permanent()));
        let session = self.say("t", "m1").await.unwrap().session;
        let inbound = self.inbound(session).await;
        until("the refusal", async || number(&inbound, DEAD) == 1).await;
        self.rest().await;
        self.channel_says(None);
        let row = "SELECT message_out_id FROM delivered";
        (session, open(&inbound).query_row(row, [], |row| row.get(0)).unwrap())
    }

    async fn order(&self, session: SessionId, verb: Verb, ids: &[&str]) -> Vec<Handled> {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        self.operations
            .dead(session, DeadLetterOrder { verb, kind: None, ids: Some(ids) })
            .await
            .unwrap()
    }

    async fn one(&self, session: SessionId, verb: Verb, id: &str) -> Handled {
        let mut handled = self.order(session, verb, &[id]).await;
        assert_eq!(handled.len(), 1, "{handled:?}");
        handled.remove(0)
    }

    fn handed(&self) -> Vec<String> {
        self.post.handed.lock().unwrap().clone()
    }
}

const DEAD: &str = "SELECT count(*) FROM delivered WHERE status IN ('failed', 'uncertain')";
const DELIVERED: &str = "SELECT count(*) FROM delivered WHERE status = 'delivered'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redriven_delivery_is_sent_once_more_under_its_key_and_the_cursor_stays() {
    let world = World::new(|_| ()).await;
    let (session, row) = world.refused().await;
    let inbound = world.inbound(session).await;
    let cursor = number(&inbound, "SELECT seq FROM outbound_cursor");
    assert!(cursor > 0, "it was passed");
    let long_ago = "UPDATE delivered SET delivered_at = '2001-09-09T01:46:40.000Z'";
    open(&inbound).execute(long_ago, []).unwrap(); // so long that it would have expired since
    let first = world.one(session, Verb::Redrive, &row).await;
    assert_eq!((first.outcome, first.kind), (DeadLetterOutcome::Redriven, Some(Kind::Delivery)));
    let second = world.one(session, Verb::Redrive, &row).await;
    assert_eq!(second.outcome, DeadLetterOutcome::Unchanged, "{second:?}");
    until("the letter", async || number(&inbound, DELIVERED) == 1).await;
    world.rest().await;
    let third = world.one(session, Verb::Redrive, &row).await;
    assert_eq!(third.note.as_deref(), Some("it was delivered"));
    world.rest().await;
    let keys = world.handed();
    assert!(keys.len() == 2 && keys[0] == keys[1], "{keys:?}");
    assert_eq!(number(&inbound, "SELECT seq FROM outbound_cursor"), cursor);
    assert_eq!(number(&inbound, "SELECT attempts FROM delivered"), 1, "counted anew");
    assert_eq!(world.record(session).await.next_due_at, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_redriven_quotes_its_message_only_while_that_is_known() {
    for (known, expected) in [(true, Some("m1")), (false, None)] {
        let world = World::new(|_| ()).await;
        let (session, row) = world.refused().await;
        if !known {
            let inbound = open(&world.inbound(session).await);
            assert_eq!(inbound.execute("DELETE FROM messages_in WHERE id = 'm1'", []).unwrap(), 1);
        }
        assert_eq!(
            world.one(session, Verb::Redrive, &row).await.outcome,
            DeadLetterOutcome::Redriven
        );
        world.wait_outbounds(1).await;
        let outbound = world.post.outbounds.lock().unwrap()[0].clone();
        assert_eq!(outbound.in_reply_to.as_ref().map(MessageId::as_str), expected);
        assert_eq!(outbound.answers.len(), usize::from(known));
        world.rest().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_learns_once_that_what_it_believed_lost_arrived_after_all() {
    let copied = "held: this is a copy, and the original may send it";
    let cases = [
        ("at once", None, None, 1),
        ("at a second attempt", None, Some("503"), 1),
        ("of a copy, whose agent was told nothing", Some(copied), None, 0),
    ];
    for (case, error, at_first, expected) in cases {
        let world = World::new(|_| ()).await;
        let (session, row) = world.refused().await;
        let inbound = world.inbound(session).await;
        if let Some(error) = error {
            open(&inbound).execute("UPDATE delivered SET error = ?1", [error]).unwrap();
        }
        let starts = *world.runtime.starts.lock().unwrap();
        let notes = "SELECT count(*) FROM messages_in
                     WHERE kind = 'system' AND trigger = 0 AND status = 'pending'
                       AND content LIKE '%arrived after all%'";
        world.channel_says(
            at_first.map(|error| Said::Transient { error: error.to_owned(), retry_after: None }),
        );
        assert_eq!(
            world.one(session, Verb::Redrive, &row).await.outcome,
            DeadLetterOutcome::Redriven
        );
        if at_first.is_some() {
            let tried = "SELECT count(*) FROM delivered WHERE status = 'held' AND attempts = 1";
            until("the attempt", async || number(&inbound, tried) == 1).await;
            assert_eq!(number(&inbound, notes), 0, "{case}: it has not arrived");
            world.channel_says(None);
        }
        until("the letter", async || number(&inbound, DELIVERED) == 1).await;
        world.rest().await;
        assert_eq!(number(&inbound, notes), expected, "{case}");
        assert_eq!(number(&inbound, "SELECT count(error) FROM delivered"), 0, "{case}");
        assert_eq!(*world.runtime.starts.lock().unwrap(), starts, "{case}: it wakes nobody");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redriven_delivery_that_fails_again_is_dead_again() {
    let world = World::new(|_| ()).await;
    let (session, row) = world.refused().await;
    world.channel_says(Some(permanent()));
    for sends in [2, 3] {
        assert_eq!(
            world.one(session, Verb::Redrive, &row).await.outcome,
            DeadLetterOutcome::Redriven
        );
        until("the send", async || world.handed().len() == sends).await;
        world.rest().await;
        let inbound = world.inbound(session).await;
        assert_eq!(number(&inbound, DEAD), 1);
        let why = "SELECT count(*) FROM delivered WHERE error = 'the chat is closed'";
        assert_eq!(number(&inbound, why), 1, "only what was said last");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_shown_twice_is_redriven_with_a_warning() {
    for blind in [true, false] {
        let world = World::new(|_| ()).await;
        *world.post.blind.lock().unwrap() = blind;
        let (session, row) = world.refused().await;
        open(&world.inbound(session).await)
            .execute("UPDATE delivered SET status = 'uncertain'", [])
            .unwrap();
        let handled = world.one(session, Verb::Redrive, &row).await;
        assert_eq!((handled.outcome, handled.note.is_some()), (DeadLetterOutcome::Redriven, blind));
        until("the letter", async || world.handed().len() == 2).await;
        world.rest().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_is_not_redriven() {
    let world = World::new(|_| ()).await;
    let (session, row) = world.refused().await;
    let inbound = open(&world.inbound(session).await);
    let late = "UPDATE delivered SET error = 'superseded: its runner was given up'";
    inbound.execute(late, []).unwrap();
    let refusal = world.one(session, Verb::Redrive, &row).await;
    assert_eq!(refusal.outcome, DeadLetterOutcome::Refused, "of a superseded runner");
    inbound.execute("UPDATE delivered SET error = 'expired'", []).unwrap();
    open(&world.outbound(session).await).execute("DELETE FROM messages_out", []).unwrap();
    let refusal = world.one(session, Verb::Redrive, &row).await;
    assert!(refusal.note.unwrap().contains("gone from the outbox"));
    assert_eq!(
        world.one(session, Verb::Redrive, "unheard of").await.outcome,
        DeadLetterOutcome::Refused
    );
    world.rest().await;
    assert_eq!(world.handed().len(), 1);
    std::fs::write(world.outbound(session).await, vec![7_u8; 8192]).unwrap();
    let dropped = world.order(session, Verb::Drop, &[&row, &row]).await;
    assert_eq!(
        (dropped.len(), dropped[0].outcome),
        (1, DeadLetterOutcome::Dropped),
        "without a look at it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redriven_row_that_is_gone_does_not_stay_open() {
    for whole in [false, true] {
        let world = World::new(|_| ()).await;
        let (session, _) = world.refused().await;
        let inbound = world.inbound(session).await;
        open(&inbound).execute("UPDATE delivered SET status = 'held'", []).unwrap();
        let outbound = world.outbound(session).await;
        match whole {
            true => std::fs::remove_file(outbound).unwrap(),
            false => drop(open(&outbound).execute("DELETE FROM messages_out", []).unwrap()),
        }
        world.core.wake(session, Reason::Due);
        let settled = "SELECT count(*) FROM delivered
                       WHERE status = 'failed' AND error LIKE '%gone from the outbox'";
        until("its end", async || number(&inbound, settled) == 1).await;
        let told = "SELECT count(*) FROM messages_in
                    WHERE kind = 'system' AND content LIKE '%gone from the outbox%'";
        assert_eq!(number(&inbound, told), 1, "in the same transaction");
        world.rest().await;
        assert_eq!((world.handed().len(), world.record(session).await.next_due_at), (1, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redriven_row_is_as_suspect_as_any_other() {
    let world = World::new(|_| ()).await;
    let (session, row) = world.refused().await;
    let outbound = open(&world.outbound(session).await);
    outbound.execute("UPDATE messages_out SET recurrence = 'daily'", []).unwrap();
    let order = DeadLetterOrder { verb: Verb::Redrive, kind: None, ids: Some(vec![row]) };
    world.operations.dead(session, order.clone()).await.unwrap_err();
    outbound.execute("UPDATE messages_out SET recurrence = NULL", []).unwrap();
    world.rest().await;
    *world.post.slow.lock().unwrap() = Duration::from_millis(300);
    world.channel_says(Some(Said::Transient { error: "503".to_owned(), retry_after: None }));
    world.operations.dead(session, order.clone()).await.unwrap();
    outbound.execute("UPDATE messages_out SET recurrence = 'daily'", []).unwrap();
    until("quarantine", async || world.record(session).await.quarantine.is_some()).await;
    let refusal = world.operations.dead(session, order).await.unwrap_err();
    assert!(refusal.contains("twobox sessions retry"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redriven_rows_that_nobody_takes_hide_no_row_for_somebody_else() {
    let world = World::new(|_| ()).await;
    world.runtime.next_life(|spec| {
        let to_nobody = Origin { thread_id: Some(NOBODY.to_owned()), ..Origin::default() };
        send_rows(spec, &to_nobody, 600);
        answer_all(spec);
        Then::Leaves
    });
    let session = world.say("t", "m1").await.unwrap().session;
    let inbound = world.inbound(session).await;
    until("the answer", async || number(&inbound, DELIVERED) == 1).await;
    world.rest().await;
    let outbound = world.outbound(session).await;
    let ids: Vec<String> = open(&outbound)
        .prepare("SELECT id FROM messages_out")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut change = open(&inbound);
    let tx = change.transaction().unwrap();
    tx.execute("UPDATE outbound_cursor SET seq = seen", []).unwrap();
    for id in ids {
        let fail = "INSERT INTO delivered (message_out_id, status, delivered_at)
                    VALUES (?1, 'failed', '2027-01-15T08:00:00.000Z')
                    ON CONFLICT DO UPDATE SET status = 'failed'";
        tx.execute(fail, [id]).unwrap();
    }
    tx.commit().unwrap();
    let all = DeadLetterOrder { verb: Verb::Redrive, kind: None, ids: None };
    assert_eq!(world.operations.dead(session, all).await.unwrap().len(), 601);
    until("the answer once more", async || number(&inbound, DELIVERED) == 1).await;
    assert_eq!(world.handed().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_and_its_notice_are_redriven_or_dropped_each_by_itself() {
    for verb in [Verb::Redrive, Verb::Drop] {
        let world = World::new(|_| ()).await;
        world.channel_says(Some(permanent()));
        world.runtime.next_life(|spec| {
            reject_all(spec);
            Then::Leaves
        });
        let session = world.say("t", "m1").await.unwrap().session;
        let dead = async || world.core.parts.store.notices().dead(session).await.unwrap();
        until("the notice to fail", async || dead().await.len() == 1).await;
        world.rest().await;
        let notice = format!("notice:{}", dead().await[0].cause);
        let long_ago = "UPDATE notices SET created_at_ms = 1";
        world.core.parts.store.raw().execute(long_ago, []).unwrap();
        world.channel_says(None);
        world.runtime.next_life(|spec| {
            answer_all(spec);
            Then::Leaves
        });
        let inbound = world.inbound(session).await;
        let handled = world.order(session, verb, &[&notice, "m1"]).await;
        let expected = match verb {
            Verb::Redrive => DeadLetterOutcome::Redriven,
            Verb::Drop => DeadLetterOutcome::Dropped,
        };
        let outcomes: Vec<_> = handled.iter().map(|it| (it.kind.unwrap(), it.outcome)).collect();
        assert_eq!(outcomes, [(Kind::Notice, expected), (Kind::Message, expected)]);
        if verb == Verb::Redrive {
            until("the answer", async || number(&inbound, DELIVERED) == 1).await;
        }
        world.rest().await;
        let again = world.order(session, verb, &[&notice, "m1"]).await;
        assert!(again.iter().all(|it| it.outcome == DeadLetterOutcome::Unchanged), "{again:?}");
        assert_eq!(dead().await, []);
        let status = "SELECT status FROM messages_in WHERE id = 'm1'";
        let status: String = open(&inbound).query_row(status, [], |row| row.get(0)).unwrap();
        match verb {
            Verb::Redrive => {
                assert_eq!((status.as_str(), world.handed().len()), ("completed", 3));
                assert_eq!(world.post.outbounds.lock().unwrap().len(), 2);
            }
            Verb::Drop => {
                assert_eq!((status.as_str(), world.handed().len()), ("cancelled", 1));
                let refused = world.order(session, Verb::Redrive, &[&notice, "m1"]).await;
                assert!(
                    refused.iter().all(|it| it.outcome == DeadLetterOutcome::Refused),
                    "{refused:?}"
                );
                assert_eq!(
                    world.core.parts.store.notices().told(session).await.unwrap().len(),
                    1,
                    "not told again"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_awake_learns_of_the_notice_that_it_is_to_send_once_more() {
    let world = World::new(|_| ()).await;
    world.channel_says(Some(permanent()));
    world.runtime.next_life(|spec| {
        reject_all(spec);
        Then::Stays
    });
    let session = world.say("t", "m1").await.unwrap().session;
    let told = async || world.core.parts.store.notices().told(session).await.unwrap();
    until("the notice to fail", async || {
        told().await.iter().any(|notice| matches!(notice.fate, Fate::Dead { .. }))
    })
    .await;
    world.channel_says(None);
    let all = DeadLetterOrder { verb: Verb::Redrive, kind: Some(Kind::Notice), ids: None };
    assert_eq!(world.operations.dead(session, all).await.unwrap().len(), 1);
    world.wait_outbounds(1).await;
    assert_eq!(world.runtime.lives(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_delivery_is_not_listed_and_stays_dropped() {
    let world = World::new(|_| ()).await;
    let (session, row) = world.refused().await;
    let inbound = world.inbound(session).await;
    let listed = || InboxReader::open(&inbound).unwrap().dead_deliveries(10).unwrap().len();
    assert_eq!(listed(), 1);
    assert_eq!(world.one(session, Verb::Drop, &row).await.outcome, DeadLetterOutcome::Dropped);
    let at = "SELECT dropped_at FROM delivered";
    let at = || open(&inbound).query_row(at, [], |row| row.get::<_, String>(0)).unwrap();
    let (dropped_at, again) = (at(), world.one(session, Verb::Drop, &row).await);
    assert_eq!((again.outcome, at(), listed()), (DeadLetterOutcome::Unchanged, dropped_at, 0));
    assert_eq!(world.one(session, Verb::Redrive, &row).await.outcome, DeadLetterOutcome::Refused);
    let all = DeadLetterOrder { verb: Verb::Redrive, kind: None, ids: None };
    assert_eq!(world.operations.dead(session, all).await.unwrap(), []);
    world.rest().await;
    assert_eq!(world.handed().len(), 1);
}
