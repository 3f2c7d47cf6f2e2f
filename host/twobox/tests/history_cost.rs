//! What a sweep and a runner's look cost does not depend on how much was settled before them. Counted
//! in bytes that are read from the files, for SQLite keeps no page between two opens: a scan of
//! history could not hide. One test, because the count is the process's.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use rusqlite::Connection;
use twobox_session::boxes::{Boxes, Changes, Writers};
use twobox_session::decide::Action;
use twobox_shared::ids::{MessageId, RunnerId, SessionId, SystemIds};
use twobox_shared::inbox::{
    Cursor, Delivery, DeliveryStatus, InboxReader, NewMessage, Origin, Purpose,
};
use twobox_shared::outbox::{Claim, NewRow, OutboxWriter, TurnEnd};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn id(text: &str) -> MessageId {
    MessageId::parse(text).unwrap()
}

/// A session with `settled` messages, each claimed, answered and delivered.
fn session(dir: &std::path::Path, settled: u32) -> Boxes {
    let scratch = dir.join("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    let boxes = Boxes::new(SessionId::generate(&SystemIds), &dir.join("s"), &scratch, 1 << 30);
    boxes.create().unwrap();
    boxes.accept(&[message("first")], Seq(0), NOW).unwrap();
    drop(OutboxWriter::open(&boxes.paths().outbound_db(), RunnerId::generate(&SystemIds)).unwrap());
    let numbers = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {settled})"
    );
    let content = "x".repeat(100);
    Connection::open(boxes.paths().inbound_db())
        .unwrap()
        .execute_batch(&format!(
            "BEGIN;
             UPDATE messages_in SET status = 'completed';
             INSERT INTO messages_in (id, seq, kind, timestamp, status, content)
               {numbers} SELECT 'm' || i, 4 * i, 'chat', '2027-01-15T08:00:00.000Z', 'completed',
                                '{content}' FROM n;
             INSERT INTO delivered (message_out_id, delivered_at)
               {numbers} SELECT 'r' || i, '2027-01-15T08:00:00.000Z' FROM n;
             UPDATE outbound_cursor SET seq = 4 * {settled} + 1, seen = 4 * {settled} + 1;
             COMMIT;"
        ))
        .unwrap();
    Connection::open(boxes.paths().outbound_db())
        .unwrap()
        .execute_batch(&format!(
            "BEGIN;
             INSERT INTO messages_out (id, seq, in_reply_to, timestamp, kind, content, attempt)
               {numbers} SELECT 'r' || i, 4 * i + 1, 'm' || i, '2027-01-15T08:00:00.000Z', 'chat',
                                '{content}', 0 FROM n;
             INSERT INTO processing_ack (message_id, status, status_changed, attempt)
               {numbers} SELECT 'm' || i, 'completed', '2027-01-15T08:00:00.000Z', 0 FROM n;
             COMMIT;"
        ))
        .unwrap();
    boxes
}

fn message(text: &str) -> NewMessage {
    NewMessage {
        id: id(text),
        kind: "chat".into(),
        content: "{}".into(),
        origin: Origin::default(),
        trigger: true,
        process_after: None,
        source_session: None,
        run_id: None,
    }
}

/// Bytes that this process has read so far, from any file.
fn bytes_read() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// What each step of a message's life reads.
fn costs(boxes: &Boxes) -> Vec<(&'static str, u64)> {
    let runner = RunnerId::generate(&SystemIds);
    let mut costs = Vec::new();
    let mut step = |name: &'static str, work: &mut dyn FnMut()| {
        let before = bytes_read();
        work();
        costs.push((name, bytes_read() - before));
    };
    let (inbound, outbound) = (boxes.paths().inbound_db(), boxes.paths().outbound_db());
    let open = || OutboxWriter::open(&outbound, runner).unwrap();
    let mut floor = Seq(0);
    let claim = Claim { message: id("new"), attempt: 0 };
    let claims = [claim];

    let seen = boxes.look(Writers::Possible).unwrap().cursor.seen;
    step("accept", &mut || {
        floor = boxes.accept(&[message("new")], seen, NOW).unwrap()[0].seq;
    });
    step("the runner's look", &mut || {
        let look = InboxReader::open(&inbound)
            .unwrap()
            .look(&open(), Purpose::Turn { first: false }, NOW)
            .unwrap();
        assert_eq!(look.chosen.len(), 1);
    });
    step("claim", &mut || assert_eq!(open().claim(&claims, NOW).unwrap().len(), 1));
    let reply = NewRow {
        in_reply_to: Some(id("new")),
        kind: "chat".into(),
        destination: Origin::default(),
        content: "{}".into(),
        deliver_after: None,
        attempt: 0,
        id: id("reply"),
    };
    step("answer", &mut || {
        let replies = [reply.clone()];
        let end = TurnEnd { claims: &claims, outcome: Ok(&replies), turns: 1, continuation: None };
        open().end_turn(&end, floor, NOW).unwrap();
    });
    let mut changes = Changes::default();
    step("the sweep's look", &mut || {
        let look = boxes.look(Writers::Possible).unwrap();
        assert_eq!((look.pending.len(), look.acks.len(), look.rows.len()), (1, 1, 1));
        let seq = look.rows[0].0.seq;
        changes.cursor = Cursor { seq, seen: seq };
    });
    changes.actions = vec![Action::Complete { message: id("new") }];
    let record = Delivery {
        status: DeliveryStatus::Delivered,
        attempts: 1,
        next_attempt_at: None,
        changed_at: NOW,
        error: None,
        platform_message_id: None,
    };
    changes.records = vec![(id("reply"), record)];
    step("take in and record", &mut || boxes.apply(&changes, NOW).unwrap());
    step("a sweep with nothing to do", &mut || drop(boxes.look(Writers::Possible).unwrap()));
    costs
}

#[test]
fn no_step_of_a_message_reads_history() {
    let many = std::env::var("TWOBOX_TEST_HISTORY").map_or(20_000, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let few = costs(&session(&dir.path().join("few"), 10));
    let much = costs(&session(&dir.path().join("much"), many));
    for ((step, few), (_, much)) in few.iter().zip(&much) {
        println!("{step}: {few} bytes with 10 settled messages, {much} with {many}");
        // Deeper trees cost some pages more; a scan would read megabytes.
        assert!(*much <= few + 80 * 4096, "{step}: {few} bytes, and {much} with {many} settled");
    }
}
