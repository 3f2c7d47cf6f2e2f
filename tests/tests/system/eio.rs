//! A disk that fails now and then, or for a while, under the host or under a runner: no accepted
//! message is lost or answered twice, also where a commit that reported an error is durable all the
//! same, and everything goes on by itself.

use std::time::Duration;

use nix::errno::Errno;
use serde_json::{Value, json};
use twobox_tests::faults::shim::{Calls, Failing, Shim};
use twobox_tests::{
    Chat, Container, PATIENCE, Session, Setup, World, holds_for, on_process, wait_within,
};

use crate::scripts::echo;

on_process!(
    a_failing_write_to_the_inbox_loses_no_message,
    a_failing_journal_of_the_inbox_loses_no_message,
    an_inbox_commit_that_is_durable_though_it_fails_is_no_second_message,
    a_failing_host_db_loses_no_message,
    a_failing_read_by_the_host_loses_no_message,
    a_failing_write_to_the_outbox_loses_no_answer,
    a_failing_journal_of_the_outbox_loses_no_answer,
    an_outbox_commit_that_is_durable_though_it_fails_is_no_second_answer,
    a_failing_read_by_the_runner_loses_no_answer,
    an_inbox_that_fails_for_a_while_refuses_messages,
    a_disk_that_turns_read_only_under_the_host_refuses_messages,
    an_outbox_that_fails_for_a_while_puts_the_answer_off,
);

/// How many calls of one kind are made to fail, one after the other, in a round trip each.
const NTH_MAX: i32 = 12;

/// Longer than the pause of a session that waits for an operator.
const WHILE: Duration = Duration::from_secs(6);

/// Some pauses one after the other.
const RECOVERY: Duration = Duration::from_secs(60);

const INBOX: &str = "/in/inbound.db";
const INBOX_JOURNAL: &str = "/in/inbound.db-journal";
const OUTBOX: &str = "/out/outbound.db";
const OUTBOX_JOURNAL: &str = "/out/outbound.db-journal";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Host,
    Runner,
}

/// A world in which `who` is under the shim.
fn under_shim(setup: Setup, who: Who, script: Value) -> (Shim, World, Chat) {
    let shim = Shim::build();
    let world = match who {
        Who::Host => {
            let world = setup.agent("ada", script).make();
            let env = shim.host_env();
            let env: Vec<_> = env.iter().map(|(name, it)| (name.as_str(), it.as_str())).collect();
            world.up_with(&env);
            world
        }
        Who::Runner => setup.runner_under(&shim).agent("ada", script).up(),
    };
    let chat = world.chat("ada");
    chat.ask("hello"); // from here on everything is there
    world.session("ada").wait_settled();
    (shim, world, chat)
}

/// Says something with a note in the middle of the turn.
fn note_and_echo() -> Value {
    let note = json!({ "send": { "to": "terminal", "text": "a note on {text}" } });
    json!({
        "rules": [{ "match": "^hello", "do": [{ "reply": "echo: {text}" }] }],
        "otherwise": [note, { "reply": "echo: {text}" }],
    })
}

/// For each kind of failure: a round trip in which the first such call fails, one in which the
/// second does, and so on, until the call is not reached any more.
fn fail_each(setup: Setup, who: Who, kinds: &[Failing<'_>]) {
    fail_each_from(setup, who, kinds, Start::Warm);
}

/// Whether a container waits for the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Warm,
    Cold,
}

fn fail_each_from(setup: Setup, who: Who, kinds: &[Failing<'_>], start: Start) {
    let (shim, world, chat) = under_shim(setup, who, note_and_echo());
    let session = world.session("ada");
    let mut reached = 0;
    for kind in kinds {
        for nth in 0..NTH_MAX {
            if start == Start::Cold {
                world.container(&session).iter().for_each(Container::kill);
            }
            shim.break_calls(Failing { pass: nth, count: Some(1), ..*kind });
            let text = format!("{}:{nth} of {:?} late {}", kind.suffix, kind.calls, kind.late);
            let id = chat.hand_in(None, &text);
            assert_round_trip(&chat, &session, &id, &text);
            let hits = shim.hits();
            shim.mend();
            if hits == 0 {
                break;
            }
            reached += 1;
        }
    }
    assert!(reached >= kinds.len(), "only {reached} calls were made to fail");
    eprintln!("{reached} calls were made to fail");
    assert_eq!(chat.deliveries().len(), chat.letters().len(), "delivered once");
    assert_eq!(session.status, world.session("ada").status);
    world.assert_fsck_clean();
}

/// Accepted, and answered with one note and one reply, without a charge.
#[track_caller]
fn assert_round_trip(chat: &Chat, session: &Session, id: &str, text: &str) {
    let what = |what: &str| format!("{what} with {text}");
    wait_within(RECOVERY, &what("acceptance"), || chat.is_accepted(id).then_some(()));
    let texts = || -> Vec<String> {
        chat.letters()
            .into_iter()
            .map(|letter| letter.text)
            .filter(|it| it.ends_with(text))
            .collect()
    };
    wait_within(RECOVERY, &what("an answer"), || (texts().len() > 1).then_some(()));
    wait_within(RECOVERY, &what("the end"), || session.is_settled().then_some(()));
    assert_eq!(texts(), [format!("a note on {text}"), format!("echo: {text}")], "{text}");
    let stored = session.messages().into_iter().filter(|message| message.content.contains(text));
    let stored: Vec<_> = stored.map(|message| (message.status, message.tries)).collect();
    assert_eq!(stored, [("completed".to_owned(), 0)], "{text}");
    assert_eq!(chat.notices(), [], "{text}");
}

fn a_failing_write_to_the_inbox_loses_no_message(setup: Setup) {
    let kinds = [Failing::new(Calls::WRITE, INBOX), Failing::new(Calls::SYNC, INBOX)];
    fail_each(setup, Who::Host, &kinds);
}

fn a_failing_journal_of_the_inbox_loses_no_message(setup: Setup) {
    let kinds = [
        Failing::new(Calls::OPEN, INBOX_JOURNAL),
        Failing::new(Calls::WRITE, INBOX_JOURNAL),
        Failing::new(Calls::SYNC, INBOX_JOURNAL),
        Failing::new(Calls::UNLINK, INBOX_JOURNAL),
    ];
    fail_each(setup, Who::Host, &kinds);
}

/// The commit is the unlink of the journal, and the sync of its folder comes after it.
fn an_inbox_commit_that_is_durable_though_it_fails_is_no_second_message(setup: Setup) {
    let late = Failing { late: true, ..Failing::new(Calls::UNLINK, INBOX_JOURNAL) };
    fail_each(setup, Who::Host, &[late, Failing::new(Calls::SYNC, "/in")]);
}

fn a_failing_host_db_loses_no_message(setup: Setup) {
    let kinds = [
        Failing::new(Calls::WRITE, "/host.db-wal"),
        Failing::new(Calls::SYNC, "/host.db-wal"),
        Failing { late: true, ..Failing::new(Calls::SYNC, "/host.db-wal") },
    ];
    fail_each_from(setup, Who::Host, &kinds, Start::Cold);
}

fn a_failing_read_by_the_host_loses_no_message(setup: Setup) {
    let kinds = [Failing::new(Calls::READ, INBOX), Failing::new(Calls::READ, OUTBOX)];
    fail_each(setup, Who::Host, &kinds);
}

fn a_failing_write_to_the_outbox_loses_no_answer(setup: Setup) {
    let kinds = [Failing::new(Calls::WRITE, OUTBOX), Failing::new(Calls::SYNC, OUTBOX)];
    fail_each(setup, Who::Runner, &kinds);
}

fn a_failing_journal_of_the_outbox_loses_no_answer(setup: Setup) {
    let kinds = [
        Failing::new(Calls::OPEN, OUTBOX_JOURNAL),
        Failing::new(Calls::WRITE, OUTBOX_JOURNAL),
        Failing::new(Calls::SYNC, OUTBOX_JOURNAL),
        Failing::new(Calls::UNLINK, OUTBOX_JOURNAL),
    ];
    fail_each(setup, Who::Runner, &kinds);
}

fn an_outbox_commit_that_is_durable_though_it_fails_is_no_second_answer(setup: Setup) {
    let late = Failing { late: true, ..Failing::new(Calls::UNLINK, OUTBOX_JOURNAL) };
    fail_each(setup, Who::Runner, &[late, Failing::new(Calls::SYNC, "/out")]);
}

fn a_failing_read_by_the_runner_loses_no_answer(setup: Setup) {
    let kinds = [Failing::new(Calls::READ, INBOX), Failing::new(Calls::READ, OUTBOX)];
    fail_each(setup, Who::Runner, &kinds);
}

/// Everything that writes to these files fails until the shim is mended.
fn fails_for_a_while(setup: Setup, suffix: &str, error: Errno, says: &str) {
    let (shim, world, chat) = under_shim(setup, Who::Host, echo());
    let session = world.session("ada");
    let calls = Calls::OPEN | Calls::WRITE | Calls::SYNC | Calls::UNLINK | Calls::TRUNCATE;
    shim.break_calls(Failing { error, ..Failing::new(calls, suffix) });
    let id = chat.hand_in(None, "are you there?");
    let reason = chat.wait_put_off(&id);
    assert!(reason.contains(says), "{reason}");
    holds_for(WHILE, "refused", || !chat.is_accepted(&id));
    assert_eq!(session.messages().len(), 1, "nothing of it is stored");
    shim.mend();
    chat.wait_accepted(&id);
    world.assert_answered_once(&chat, &session, &id, "echo: are you there?");
    assert_eq!((session.messages().len(), chat.deliveries().len()), (2, 2));
    world.assert_fsck_clean();
}

fn an_inbox_that_fails_for_a_while_refuses_messages(setup: Setup) {
    fails_for_a_while(setup, INBOX_JOURNAL, Errno::EIO, "check the disk");
}

/// As a file system does that has found an error in itself.
fn a_disk_that_turns_read_only_under_the_host_refuses_messages(setup: Setup) {
    fails_for_a_while(setup, INBOX_JOURNAL, Errno::EROFS, "check the disk");
}

fn an_outbox_that_fails_for_a_while_puts_the_answer_off(setup: Setup) {
    let (shim, world, chat) = under_shim(setup, Who::Runner, echo());
    let session = world.session("ada");
    let calls = Calls::OPEN | Calls::WRITE | Calls::SYNC | Calls::UNLINK | Calls::TRUNCATE;
    shim.break_calls(Failing::new(calls, OUTBOX_JOURNAL));
    let id = chat.say("are you there?");
    holds_for(WHILE, "unanswered", || chat.deliveries().len() == 1);
    shim.mend();
    chat.wait_answer_within(PATIENCE, &id);
    world.assert_answered_once(&chat, &session, &id, "echo: are you there?");
    assert_eq!(session.message(&id).tries, 0);
    world.assert_fsck_clean();
}
