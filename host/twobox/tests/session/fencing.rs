//! Runners that were given up and go on all the same, against the real session tasks.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use twobox_runtime::{Condition, Incarnation, StartSpec};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::content::{Chat, KIND_CHAT};
use twobox_shared::ids::{MessageId, RunnerId, SessionId, SystemIds};
use twobox_shared::inbox::Origin;
use twobox_shared::outbox::{Claim, NewRow, OutboxWriter, TurnEnd, new_row_id};
use twobox_shared::seq::Seq;

use crate::world::{Then, World, answer_all, claim_all, number, outbound, until};

/// A runner's hand on its outbox, whatever the host thinks of it.
struct Runner {
    outbound: PathBuf,
    id: RunnerId,
    attempt: i64,
}

impl Runner {
    fn of(spec: &StartSpec, attempt: i64) -> Self {
        Self { outbound: outbound(spec), id: spec.incarnation.runner, attempt }
    }

    fn open(&self) -> OutboxWriter {
        OutboxWriter::open(&self.outbound, self.id).unwrap()
    }

    fn claim_row(&self) -> Claim {
        Claim { message: MessageId::parse("m1").unwrap(), attempt: self.attempt }
    }

    fn claim(&self) -> bool {
        !self.open().claim(&[self.claim_row()], SystemClock.now()).unwrap().is_empty()
    }

    fn row(&self, text: &str) -> NewRow {
        NewRow {
            in_reply_to: Some(MessageId::parse("m1").unwrap()),
            kind: KIND_CHAT.to_owned(),
            destination: Origin::default(),
            content: Chat::text(text).to_json(),
            deliver_after: None,
            attempt: self.attempt,
            id: new_row_id(&SystemIds),
        }
    }

    /// Says something without asking whether its claims still stand.
    fn blurt(&self, text: &str) {
        let rows = [self.row(text)];
        let end = TurnEnd { claims: &[], outcome: Ok(&rows), turns: 0, continuation: None };
        self.open().end_turn(&end, Seq::default(), SystemClock.now()).unwrap();
    }

    fn answer(&self, text: &str) {
        let (claims, rows) = ([self.claim_row()], [self.row(text)]);
        let end = TurnEnd { claims: &claims, outcome: Ok(&rows), turns: 1, continuation: None };
        self.open().end_turn(&end, Seq::default(), SystemClock.now()).unwrap();
    }
}

/// A message whose first runner was stopped and did not stop, and whose second one does nothing yet.
async fn superseded(world: &World) -> (SessionId, Runner, Runner) {
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
    let started = started.lock().unwrap();
    (session, Runner::of(&started[0], 0), Runner::of(&started[1], 1))
}

fn texts(world: &World) -> Vec<String> {
    world.post.outbounds.lock().unwrap().iter().map(|outbound| outbound.text.clone()).collect()
}

/// Which rows were refused.
async fn refused(world: &World, session: SessionId) -> i64 {
    let select =
        "SELECT count(*) FROM delivered WHERE status = 'failed' AND error LIKE 'superseded%'";
    number(&world.inbound(session).await, select)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_superseded_runner_are_refused_and_counted() {
    let world = World::impatient().await;
    let (session, old, new) = superseded(&world).await;
    assert!(new.claim());
    old.blurt("too late");
    new.answer("in time");
    until("the answer", async || texts(&world).contains(&"in time".to_owned())).await;
    until("the refusal", async || refused(&world, session).await == 1).await;
    assert_eq!(texts(&world), ["in time"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_superseded_runner_says_waits_until_it_is_known_whose_the_message_is() {
    let world = World::impatient().await;
    let (session, old, new) = superseded(&world).await;
    old.blurt("perhaps");
    new.blurt("for sure");
    until("both to be read", async || {
        number(&world.inbound(session).await, "SELECT seen FROM outbound_cursor") >= 3
    })
    .await;
    assert_eq!((texts(&world).len(), refused(&world, session).await), (0, 0), "undecided");
    assert!(new.claim());
    new.answer("in time");
    until("the refusal", async || refused(&world, session).await == 1).await;
    until("the rest", async || texts(&world).len() == 2).await;
    assert_eq!(texts(&world), ["for sure", "in time"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_counts_whoever_gave_it_and_nothing_of_it_is_lost() {
    let world = World::impatient().await;
    let (session, old, new) = superseded(&world).await;
    old.blurt("first");
    old.answer("second");
    until("the answer", async || texts(&world).len() == 2).await;
    assert_eq!(texts(&world), ["first", "second"]);
    assert!(!new.claim(), "nobody answers it again");
    let completed = "SELECT count(*) FROM messages_in WHERE status = 'completed'";
    let inbound = world.inbound(session).await;
    until("its end", async || number(&inbound, completed) == 1).await;
    assert_eq!(refused(&world, session).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_the_claim_of_an_unknown_runner_is_charged_when_that_runner_is_gone_and_not_before() {
    let world = World::new(|_| ()).await;
    let specs = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&specs);
    world.runtime.next_life(move |spec| {
        if keep.lock().unwrap().is_empty() {
            answer_all(spec);
        }
        keep.lock().unwrap().push(spec.clone());
        Then::Stays
    });
    let session = world.say("t", "m0").await.unwrap().session;
    until("the answer", async || texts(&world).len() == 1).await;
    let ours = specs.lock().unwrap()[0].clone();
    world.say("t", "m1").await.unwrap();

    let stranger = Incarnation { session, runner: RunnerId::generate(&SystemIds) };
    world.runtime.plant(stranger, Condition::Running);
    let theirs = Runner::of(&StartSpec { incarnation: stranger, ..ours }, 0);
    let inbound = world.inbound(session).await;
    let at_its_end = Arc::new(Mutex::new(None));
    let (keep, path) = (Arc::clone(&at_its_end), inbound.clone());
    *world.runtime.last_words.lock().unwrap() = Some(Box::new(move || {
        *keep.lock().unwrap() = Some(number(&path, "SELECT sum(tries) FROM messages_in"));
    }));
    assert!(theirs.claim());
    until("the charge", async || number(&inbound, "SELECT sum(tries) FROM messages_in") == 1).await;
    assert_eq!(*at_its_end.lock().unwrap(), Some(0), "it was stopped first");
}
