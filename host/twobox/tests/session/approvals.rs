//! What people are asked and what they answer, against real files.

use std::time::Duration;

use serde_json::json;
use twobox_model::approval::{Approval, Status, Subject};
use twobox_model::channel::Outcome;
use twobox_runtime::StartSpec;
use twobox_session::command::Command;
use twobox_session::signal::Reason;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::content::Chat;
use twobox_shared::ids::{MessageId, SessionId, SystemIds};
use twobox_shared::inbox::Inbox;
use twobox_shared::outbox::{Claim, NewRow, OutboxWriter};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;
use twobox_store::approvals::{Asking, Bounds, Decide, NewApproval};

use crate::world::{Then, World, claim_all, number, open, outbound, until};

impl World {
    /// Has the agent of `session` ask something, without a container that would.
    async fn ask(&self, session: SessionId, thread: &str, row: &str, subject: Subject) -> Approval {
        let now = self.core.parts.clock.now();
        let new = NewApproval {
            session,
            request: MessageId::parse(row).unwrap(),
            subject,
            address: Self::address(thread),
            wake: false,
            due_at: UnixMillis(now.0 + 3_600_000),
            until: "later".to_owned(),
            behind: Seq::default(),
        };
        let bounds = Bounds { pending: 8, day: 100 };
        let asked = self.core.parts.store.approvals().ask(new, bounds, &SystemIds, now).await;
        match asked.unwrap() {
            Asking::New(approval) => approval,
            other => panic!("{other:?}"),
        }
    }

    async fn approval(&self, asked: &Approval) -> Approval {
        self.core.parts.store.approvals().find(asked.id).await.unwrap().unwrap()
    }

    /// Shows what is asked in the chat, where `count` messages are then.
    async fn show(&self, session: SessionId, count: usize) {
        self.core.send(session, Command::Notices).await;
        self.wait_outbounds(count).await;
        self.rest().await;
    }

    async fn content(&self, session: SessionId, id: &str) -> (String, String) {
        let row = "SELECT kind, content FROM messages_in WHERE id = ?";
        let found = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?));
        let (kind, content) =
            open(&self.inbound(session).await).query_row(row, [id], found).unwrap();
        (kind, Chat::from_content(&content).text)
    }
}

fn tea() -> Subject {
    Subject::question("Which tea?", ["green", "black"].map(str::to_owned).to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_a_question_does_not_answer_it_when_it_is_handed_in_once_more() {
    let world = World::new(|_| {}).await;
    let session = world.say_text("t", "m0", "1").await.unwrap().session;
    world.wait_outbounds(1).await;
    world.rest().await;
    let first = world.ask(session, "t", "r0", tea()).await;
    world.show(session, 2).await;

    world.say_text("t", "m0", "1").await.unwrap();
    assert_eq!(world.approval(&first).await.status, Status::Pending, "it is the message of before");
    world.say_text("t", "m1", "1").await.unwrap();
    assert_eq!(world.approval(&first).await.status, Status::Answered);
    world.wait_outbounds(3).await;
    world.rest().await;

    let second = world.ask(session, "t", "r1", tea()).await;
    world.show(session, 4).await;
    for (id, text) in [("m1", "1"), ("m0", "1")] {
        world.say_text("t", id, text).await.unwrap();
    }
    assert_eq!(world.approval(&second).await.status, Status::Pending, "they answered before");
    world.rest().await;
    let taken = "SELECT count(*) FROM messages_in WHERE kind = 'word'";
    assert_eq!(number(&world.inbound(session).await, taken), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_container_reads_a_code_that_a_person_says_whether_it_decides_or_not() {
    let world = World::new(|_| {}).await;
    let session = world.say("t", "m0").await.unwrap().session;
    world.wait_outbounds(1).await;
    world.rest().await;
    let asked = world.ask(session, "t", "r0", Subject::permission("bash", "ls")).await;
    world.show(session, 2).await;
    let code = &asked.code;
    for (id, said, thread, kept) in [
        ("m1", "1".to_owned(), "t", "1"),
        ("m2", format!("{code} 9"), "t", "···· 9"),
        ("m3", format!("{code} 1"), "elsewhere", "···· 1"),
    ] {
        let there = world.say_text(thread, id, &said).await.unwrap().session;
        assert_eq!(world.content(there, id).await, ("word".to_owned(), kept.to_owned()));
        assert_eq!(world.approval(&asked).await.status, Status::Pending, "{said}");
    }
    world.wait_outbounds(5).await; // each is told why
    world.say_text("t", "m4", &format!("{code} 1")).await.unwrap();
    assert_eq!(world.content(session, "m4").await, ("word".to_owned(), "···· 1".to_owned()));
    let decided = world.approval(&asked).await;
    assert_eq!(
        (decided.status, decided.decided_by.as_deref()),
        (Status::Approved, Some("the chat"))
    );
    world.wait_outbounds(6).await;
    world.rest().await;
    for at in 0..2 {
        world.say_text("t", "m4", &format!("{code} 1")).await.unwrap();
        world.rest().await;
        let told = world.post.outbounds.lock().unwrap().len();
        assert_eq!(told, 6, "handed in once more, {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_was_said_in_the_wrong_chat_is_no_message_there_once_it_has_decided() {
    let world = World::new(|_| {}).await;
    let session = world.say("t", "m0").await.unwrap().session;
    world.wait_outbounds(1).await;
    world.rest().await;
    let asked = world.ask(session, "t", "r0", Subject::permission("bash", "ls")).await;
    world.show(session, 2).await;
    let said = format!("{} 1", asked.code);
    let elsewhere = world.say_text("elsewhere", "m1", &said).await.unwrap().session;
    world.wait_outbounds(3).await; // it is told why
    world.say_text("t", "m2", &said).await.unwrap();
    assert_eq!(world.approval(&asked).await.status, Status::Approved);
    world.wait_outbounds(4).await;
    world.rest().await;

    let inbound = world.inbound(elsewhere).await;
    let (rows, readable) =
        ("SELECT count(*) FROM messages_in", format!("content LIKE '%{}%'", asked.code));
    for kept in [true, false] {
        if !kept {
            // As if it could not be stored when it was judged.
            let delete = "DELETE FROM messages_in WHERE id = 'm1'";
            assert_eq!(open(&inbound).execute(delete, []).unwrap(), 1);
        }
        world.say_text("elsewhere", "m1", &said).await.unwrap();
        world.rest().await;
        assert_eq!(number(&inbound, rows), 1, "handed in once more, kept: {kept}");
        assert_eq!(number(&inbound, &format!("{rows} WHERE {readable}")), 0, "kept: {kept}");
        let told = world.post.outbounds.lock().unwrap().len();
        assert_eq!(told, 4, "kept: {kept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_answers_no_prompt_because_something_else_is_on_its_way() {
    let world = World::new(|_| {}).await;
    let session = world.say("t", "m0").await.unwrap().session;
    world.wait_outbounds(1).await;
    world.rest().await;
    *world.post.slow.lock().unwrap() = Duration::from_millis(500);
    world.say("t", "m1").await.unwrap();
    let tried = || world.post.tried.lock().unwrap().get("t").copied();
    until("an answer is on its way", async || tried() == Some(2)).await;
    let asked = world.ask(session, "t", "r0", tea()).await;
    let said = world.say_text("t", "m2", "1").await.unwrap();
    assert_eq!(world.approval(&asked).await.status, Status::Pending, "nobody has seen it");
    assert_eq!(world.content(said.session, "m2").await, ("chat".to_owned(), "1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_asks_in_a_chat_that_it_does_not_hear_is_decided_there_once() {
    let world = World::new(|_| {}).await;
    let heard = world.say("t", "m0").await.unwrap().session;
    let asker = world.say("u", "m0").await.unwrap().session;
    world.wait_outbounds(2).await;
    world.rest().await;
    let asked = world.ask(asker, "t", "r0", tea()).await;
    world.show(asker, 3).await;

    world.say_text("t", "m1", "2").await.unwrap();
    let decided = world.approval(&asked).await;
    assert_eq!((decided.status, decided.choice), (Status::Answered, Some(2)));
    assert_eq!(world.content(heard, "m1").await.0, "word", "no agent reads it");
    let inbound = world.inbound(asker).await;
    let told = "SELECT count(*) FROM messages_in WHERE content LIKE '%choice 2: black%'";
    until("whoever asked is told", async || number(&inbound, told) == 1).await;
    world.wait_outbounds(4).await; // and the chat
    world.say_text("t", "m1", "2").await.unwrap();
    world.rest().await;
    assert_eq!((number(&inbound, told), world.post.outbounds.lock().unwrap().len()), (1, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_channel_has_in_its_hands_is_answered_by_whoever_hears_the_chat() {
    let world = World::new(|_| {}).await;
    let heard = world.say("t", "m0").await.unwrap().session;
    let asker = world.say("u", "m0").await.unwrap().session;
    world.wait_outbounds(2).await;
    world.rest().await;
    *world.post.slow.lock().unwrap() = Duration::from_secs(3600); // it never says what became of it
    let asked = world.ask(asker, "t", "r0", tea()).await;
    world.core.send(asker, Command::Notices).await;
    let tried = || world.post.tried.lock().unwrap().get("t").copied();
    until("it is handed over", async || tried() == Some(2)).await;
    let listed = world.core.parts.store.approvals().list(false).await.unwrap();
    assert_eq!(listed[0].prompt.as_deref(), Some("held"), "nothing is recorded");

    world.say_text("t", "m1", "2").await.unwrap();
    let decided = world.approval(&asked).await;
    assert_eq!((decided.status, decided.choice), (Status::Answered, Some(2)));
    assert_eq!(world.content(heard, "m1").await.0, "word", "no agent reads it");
    let inbound = world.inbound(asker).await;
    let told = "SELECT count(*) FROM messages_in WHERE content LIKE '%choice 2: black%'";
    until("whoever asked is told", async || number(&inbound, told) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_channel_could_not_take_is_answered_by_no_number() {
    let world = World::new(|_| {}).await;
    let session = world.say("t", "m0").await.unwrap().session;
    world.wait_outbounds(1).await;
    world.rest().await;
    let retry_after = Some(Duration::from_secs(3600));
    *world.post.refusal.lock().unwrap() =
        Some(Outcome::Transient { error: "not now".to_owned(), retry_after });
    let asked = world.ask(session, "t", "r0", tea()).await;
    world.core.send(session, Command::Notices).await;
    let notices = async || world.core.parts.store.notices().open(session, Seq(9)).await.unwrap();
    until("it was tried", async || notices().await[0].record.attempts == 1).await;
    world.say_text("t", "m1", "1").await.unwrap();
    assert_eq!(world.approval(&asked).await.status, Status::Pending, "nobody has seen it");
    assert_eq!(world.content(session, "m1").await, ("chat".to_owned(), "1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_session_with_a_broken_inbox_and_a_decision_is_at_rest() {
    let world = World::new(|_| {}).await;
    let session = world.say("t", "m0").await.unwrap().session;
    world.wait_outbounds(1).await;
    world.rest().await;
    let asked = world.ask(session, "t", "r0", tea()).await;
    let store = &world.core.parts.store;
    assert!(store.sessions().quarantine(session, "by the test").await.unwrap());
    let good = std::fs::read(world.inbound(session).await).unwrap();
    std::fs::write(world.inbound(session).await, vec![7_u8; 8192]).unwrap();
    let order = Decide {
        session,
        id: asked.id,
        digest: asked.digest.clone(),
        verdict: twobox_model::approval::Verdict::Choose(1),
        by: "the operator".to_owned(),
        speaker: twobox_model::people::Speaker::Operator,
        said_in: None,
    };
    store.approvals().decide(order, world.core.parts.clock.now()).await.unwrap().unwrap();
    world.core.wake(session, Reason::Due);
    world.wait_outbounds(3).await; // it was asked, and answered
    world.rest().await;
    assert_eq!(world.record(session).await.next_due_at, None, "nothing is to be done");

    std::fs::write(world.inbound(session).await, good).unwrap();
    let (reply, answer) = tokio::sync::oneshot::channel();
    world.core.send(session, Command::Retry { message: None, reply }).await;
    answer.await.unwrap().unwrap();
    let inbound = world.inbound(session).await;
    let told = "SELECT count(*) FROM messages_in WHERE content LIKE '%choice 1: green%'";
    until("the agent is told", async || number(&inbound, told) == 1).await;
    world.rest().await;
}

/// Claims all that is pending, and asks for the first of it, each under its id.
fn claim_and_ask(spec: &StartSpec, asked: &[(&str, serde_json::Value)]) {
    claim_all(spec);
    let now = SystemClock.now();
    let mut inbox = Inbox::open_to_read(&spec.folder.join("in/inbound.db")).unwrap();
    let message = inbox.read().unwrap().pending().unwrap().remove(0);
    let claim = Claim { message: message.id.clone(), attempt: message.tries };
    let mut outbox = OutboxWriter::open(&outbound(spec), spec.incarnation.runner).unwrap();
    for (id, request) in asked {
        let row = NewRow {
            in_reply_to: Some(message.id.clone()),
            kind: "system".to_owned(),
            destination: message.origin.clone(),
            content: request.to_string(),
            deliver_after: None,
            attempt: message.tries,
            id: MessageId::parse(id).unwrap(),
        };
        outbox.send(std::slice::from_ref(&claim), &row, Seq::default(), now).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_turn_has_asked_ends_with_it_once_somebody_stops_it() {
    let world = World::new(|_| {}).await;
    let session = world.say("t", "m0").await.unwrap().session;
    world.wait_outbounds(1).await;
    world.rest().await;
    let other = world.ask(session, "t", "r9", tea()).await;
    world.show(session, 2).await;
    world.runtime.next_life(|spec| {
        let ask = |more: serde_json::Value| {
            let mut asked = json!({"action": "ask_permission", "tool": "bash", "arguments": "ls"});
            asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            asked
        };
        let later = ask(json!({"arguments": "df", "wake": true}));
        claim_and_ask(spec, &[("r0", ask(json!({}))), ("r1", later)]);
        Then::Stays
    });
    world.say("t", "m1").await.unwrap();
    world.wait_outbounds(4).await;
    let listed = world.core.parts.store.approvals().list(false).await.unwrap();
    let of =
        |row: &str| listed.iter().find(|it| it.approval.request == row).unwrap().approval.clone();
    let (asked, later) = (of("r0"), of("r1"));

    world.say_text("t", "w1", "/stop").await.unwrap();
    let ended = world.approval(&asked).await;
    assert_eq!((ended.status, ended.decided_by.as_deref()), (Status::Denied, Some("/stop")));
    for left in [&other, &later] {
        assert_eq!(world.approval(left).await.status, Status::Pending, "{}", left.request);
    }
    world.wait_outbounds(6).await; // that it is stopped, and denied
    let inbound = world.inbound(session).await;
    let told = "SELECT count(*) FROM messages_in WHERE content LIKE '%\"request\":\"r0\"%'";
    until("whoever asked is told", async || number(&inbound, told) == 1).await;
    world.say_text("t", "w1", "/stop").await.unwrap();
    assert_eq!(world.approval(&asked).await.decided_at, ended.decided_at, "once");
}
