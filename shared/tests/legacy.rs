//! Files of the protocol's earlier versions: the other side reads them as they are, their owner brings
//! them to today's shape without losing a row, or leaves them alone and says why.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{NOW, claim, id, message, picture, row, runner};
use rusqlite::Connection;
use rusqlite::types::Value;
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{DeliveryStatus, Inbox, InboxReader, Look, Purpose};
use twobox_shared::open::{self, BoxError, Remedy};
use twobox_shared::outbox::{AckStatus, OutboxWriter, Source, read_untrusted};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

const FULL: &str = include_str!("fixtures/legacy_inbound_full.sql");
const EARLY: &str = include_str!("fixtures/legacy_inbound_early.sql");
const VERSION_1: &str = include_str!("fixtures/inbound_version_1.sql");
const VERSION_2: &str = include_str!("fixtures/inbound_version_2.sql");
const OUTBOX: &str = include_str!("fixtures/legacy_outbound.sql");
const PATIENCE: Duration = Duration::from_secs(5);

type Open = fn(&Path) -> Result<Connection, BoxError>;

const FILES: [(&str, &str, Open); 5] = [
    ("inbox, version 2", VERSION_2, open::inbox_writer),
    ("inbox, version 1", VERSION_1, open::inbox_writer),
    ("inbox, all columns", FULL, open::inbox_writer),
    ("inbox, early", EARLY, open::inbox_writer),
    ("outbox", OUTBOX, open::outbox_writer),
];

fn write(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(&format!("BEGIN; {sql} COMMIT;")).unwrap();
}

fn schema(conn: &Connection) -> Vec<(String, String, Option<String>)> {
    conn.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// Every row of every table, as sorted lists of the columns that have a value.
fn rows(conn: &Connection) -> Vec<(String, Vec<(String, Value)>)> {
    let mut found = Vec::new();
    for (kind, table, _) in schema(conn) {
        if kind != "table" || ["outbound_cursor", "forgotten"].contains(&table.as_str()) {
            continue;
        }
        let mut select = conn.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let names: Vec<String> = select.column_names().map(str::to_owned).collect();
        let mut rows = select.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let mut values: Vec<(String, Value)> = names
                .iter()
                .map(|name| (name.clone(), row.get(name.as_str()).unwrap()))
                .filter(|(_, value)| *value != Value::Null)
                .collect();
            values.sort_by(|a, b| a.0.cmp(&b.0));
            found.push((table.clone(), values));
        }
    }
    found.sort_by_key(|row| format!("{row:?}"));
    found
}

#[test]
fn a_migrated_file_has_the_schema_of_a_fresh_one_and_every_value_of_the_old_one() {
    for (case, sql, open) in FILES {
        let dir = tempfile::tempdir().unwrap();
        let (old, fresh) = (dir.path().join("old.db"), dir.path().join("fresh.db"));
        write(&old, sql);
        let before = rows(&Connection::open(&old).unwrap());
        let migrated = open(&old).expect(case);
        assert_eq!(schema(&migrated), schema(&open(&fresh).unwrap()), "{case}");
        let after = rows(&migrated);
        assert_eq!(after.len(), before.len(), "{case}");
        for (table, values) in before {
            let kept = after.iter().any(|(name, row)| {
                *name == table && values.iter().all(|value| row.contains(value))
            });
            assert!(kept, "{case}: {table} lost {values:?}");
        }
        let version = |conn: &Connection| -> i64 {
            conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
        };
        assert_eq!(version(&migrated), version(&Connection::open(&fresh).unwrap()), "{case}");
        drop(migrated);
        let once = picture(dir.path());
        drop(open(&old).unwrap());
        assert_eq!(picture(dir.path()), once, "{case}: a second opening changes nothing");
    }
}

fn look(inbox: &Path, outbox: &Path, first: bool) -> Look {
    let outbox = OutboxWriter::open(outbox, runner()).unwrap();
    InboxReader::open(inbox).unwrap().look(&outbox, Purpose::Turn { first }, NOW).unwrap()
}

fn chosen(look: &Look) -> Vec<&str> {
    look.chosen.iter().map(|message| message.id.as_str()).collect()
}

#[test]
fn a_runner_reads_an_inbox_that_its_host_has_not_migrated() {
    for (case, sql) in [("all columns", FULL), ("early", EARLY)] {
        let dir = tempfile::tempdir().unwrap();
        let (inbox, outbox) = (dir.path().join("inbound.db"), dir.path().join("outbound.db"));
        write(&inbox, sql);
        let look = look(&inbox, &outbox, true);
        assert_eq!(chosen(&look), ["plain"], "{case}");
        assert_eq!(look.chosen[0].timestamp.to_rfc3339(), "2026-01-15T08:00:00.000Z", "{case}");
        assert_eq!(look.next_due, UnixMillis::parse("2099-01-01 00:00:00"), "{case}");
        assert!(look.seq_floor >= Seq(6), "{case}");
        let (routing, _) = InboxReader::open(&inbox).unwrap().routing().unwrap();
        assert_eq!(routing.channel_type.is_some(), case == "all columns");
    }
}

#[test]
fn a_host_reads_an_outbox_that_its_runner_has_not_migrated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbound.db");
    write(&path, OUTBOX);
    let before = picture(dir.path());
    let (acks, rows, tool) = read_untrusted(&path, Source::Live, PATIENCE, |outbox| {
        let wanted = [id("plain"), id("done"), id("unknown")];
        Ok((outbox.acks(&wanted)?, outbox.rows(Seq(0), Seq(10), 10)?.rows, outbox.tool()?))
    })
    .unwrap()
    .unwrap();
    assert_eq!(acks.len(), 2);
    assert_eq!(acks[&id("plain")].status, AckStatus::Completed);
    assert_eq!((acks[&id("done")].attempt, acks[&id("done")].runner), (None, None));
    assert_eq!(rows.iter().map(|row| row.seq.0).collect::<Vec<_>>(), [3, 5]);
    assert_eq!(rows[1].deliver_after, UnixMillis::parse("2099-01-01 00:00:00"));
    assert_eq!(tool.declared_timeout, Some(Duration::from_secs(60)));
    assert_eq!(picture(dir.path()), before);
}

#[test]
fn migrated_boxes_go_on_working() {
    let dir = tempfile::tempdir().unwrap();
    let (inbox_path, outbox_path) = (dir.path().join("inbound.db"), dir.path().join("outbound.db"));
    write(&inbox_path, FULL);
    write(&outbox_path, OUTBOX);

    let mut inbox = Inbox::open(&inbox_path).unwrap();
    let tx = inbox.write().unwrap();
    let pending: Vec<MessageId> = tx.pending().unwrap().into_iter().map(|row| row.id).collect();
    assert_eq!(pending, ["plain", "later", "context", "unsaid"].map(id));
    assert_eq!(tx.delivery(&id("r1")).unwrap().unwrap().status, DeliveryStatus::Delivered);
    let accepted = tx.accept(&message("new", "{}"), Seq(5), NOW).unwrap();
    assert_eq!(accepted.seq, Seq(12));
    assert!(tx.complete(&id("plain")).unwrap());
    tx.commit().unwrap();
    drop(inbox);

    let look = look(&inbox_path, &outbox_path, true);
    assert_eq!(chosen(&look), ["context", "unsaid", "new"]);
    let mut outbox = OutboxWriter::open(&outbox_path, runner()).unwrap();
    assert_eq!(outbox.continuation().unwrap().as_deref(), Some("abc"));
    let claims = outbox.claim(&[claim("done", 1), claim("plain", 1)], NOW).unwrap();
    assert_eq!(
        claims,
        [claim("done", 1)],
        "a claim without attempt is the first; completed blocks"
    );
    let seq = outbox.send(&claims, &row("r3", "done"), look.seq_floor, NOW).unwrap();
    assert_eq!(seq, Seq(13));
}

#[test]
fn a_row_that_breaks_a_rule_is_an_error_and_the_file_stays_as_it_was() {
    let cases = [
        (
            "seq missing",
            FULL,
            "UPDATE messages_in SET seq = NULL WHERE id = 'done'",
            "messages_in.seq",
        ),
        ("seq odd", FULL, "UPDATE messages_in SET seq = 7 WHERE id = 'done'", "CHECK"),
        (
            "id missing",
            FULL,
            "UPDATE messages_in SET id = NULL WHERE id = 'done'",
            "messages_in.id",
        ),
        (
            "unknown status",
            FULL,
            "UPDATE messages_in SET status = 'lost' WHERE id = 'done'",
            "CHECK",
        ),
        (
            "content as blob",
            FULL,
            "UPDATE messages_in SET content = x'00' WHERE id = 'done'",
            "content",
        ),
        ("tries as text", EARLY, "UPDATE messages_in SET tries = 'x'", "tries"),
        (
            "seq even in the outbox",
            OUTBOX,
            "UPDATE messages_out SET seq = 4 WHERE id = 'r1'",
            "CHECK",
        ),
        ("unknown ack", OUTBOX, "UPDATE processing_ack SET status = 'maybe'", "CHECK"),
    ];
    for (case, sql, change, reason) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old.db");
        write(&path, &format!("{sql} {change};"));
        let before = picture(dir.path());
        let (_, _, open) = FILES.into_iter().find(|(_, known, _)| *known == sql).unwrap();
        let error = open(&path).expect_err(case);
        assert!(error.to_string().contains(reason), "{case}: {error}");
        assert_eq!(error.remedy(), Remedy::Quarantine, "{case}");
        assert_eq!(picture(dir.path()), before, "{case}");
    }
}

#[test]
fn a_migration_that_cannot_commit_leaves_the_old_file() {
    for (case, sql, open) in FILES {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old.db");
        write(&path, sql);
        let old = Connection::open(&path).unwrap();
        let (tables, data) = (schema(&old), rows(&old));
        drop(old);
        // A reader keeps the commit from happening, so that the migration gives up.
        let other = common::hold("keep a read lock", &path);
        let error = open(&path).expect_err(case);
        assert_eq!(error.remedy(), Remedy::TryAgain, "{case}: {error}");
        other.finish();
        let old = Connection::open(&path).unwrap();
        assert_eq!((schema(&old), rows(&old)), (tables, data), "{case}");
        drop(old);
        open(&path).expect(case);
    }
}

#[test]
fn second_process() {
    common::play(&[("keep a read lock", |path| {
        let conn = Connection::open(path).unwrap();
        conn.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;").unwrap();
        common::ready_and_wait();
    })]);
}
