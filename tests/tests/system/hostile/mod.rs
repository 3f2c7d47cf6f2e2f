//! What a container may do to its own files, and who notices.

mod attacks;
mod killed;
mod lies;
mod rules;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;
use twobox_shared::open;
use twobox_tests::{Session, Setup, World, on_process, wait_for};

use crate::scripts::at_first;

on_process!(a_hot_journal_costs_neither_the_reply_before_it_nor_the_message);

const VICTIM: &str = "TWOBOX_TEST_VICTIM";

/// The part of a second process: it dies in the middle of a commit to the outbox.
#[test]
fn second_process() {
    let Some(path) = std::env::var_os(VICTIM).map(PathBuf::from) else { return };
    let conn = open::outbox_writer(&path).unwrap();
    conn.execute_batch(
        "PRAGMA cache_size = 1;
         BEGIN IMMEDIATE;
         UPDATE messages_out SET content = '{\"text\":\"uncommitted\"}';
         UPDATE processing_ack SET status = 'completed';
         WITH RECURSIVE n(i) AS (SELECT 200 UNION ALL SELECT i + 1 FROM n WHERE i < 700)
         INSERT INTO messages_out (id, seq, timestamp, kind, content)
           SELECT 'u' || i, 2 * i + 1, '2027-01-15T08:00:00.000Z', 'chat', printf('%.3000c', 'u')
           FROM n;",
    )
    .unwrap();
    println!("\nREADY");
    std::thread::sleep(twobox_tests::PATIENCE);
}

/// Leaves the outbox as a runner does that is killed inside a commit.
fn interrupt_a_commit(session: &Session) {
    let outbox = session.paths().outbound_db();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hostile::second_process", "--nocapture"])
        .env(VICTIM, &outbox)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(victim.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap() == "READY"));
    victim.kill().unwrap();
    victim.wait().unwrap();
    let journal = outbox.with_file_name("outbound.db-journal").metadata().unwrap();
    assert!(journal.len() > 4096, "the journal is hot");
}

fn note_then_hang() -> serde_json::Value {
    let note = json!([{ "send": { "to": "terminal", "text": "a note" } }, { "hang": true }]);
    at_first("^hang", &note)
}

fn a_hot_journal_costs_neither_the_reply_before_it_nor_the_message(setup: Setup) {
    let world: World = setup.agent("ada", note_then_hang()).up();
    world.twobox(&["send", "--agent", "ada", "hang on"]);
    let session = world.session("ada");
    wait_for("the note to be committed", || (session.rows().len() == 1).then_some(()));
    let container = world.container(&session).expect("it hangs");
    world.freeze_host();
    container.kill();
    interrupt_a_commit(&session);
    world.thaw_host();

    let chat = world.chat("ada");
    let letters = chat.wait_letters(2);
    session.wait_settled();
    let texts: Vec<_> = letters.iter().map(|letter| letter.text.as_str()).collect();
    assert_eq!(texts, ["a note", "echo: hang on"]);
    let message = session.messages().remove(0);
    assert_eq!((message.status.as_str(), message.tries, message.forgiven), ("completed", 1, 0));
    assert_eq!(chat.deliveries().len(), 2);
    assert_eq!(world.session("ada").status, "active");
}
