//! What each role may open, and what opening does and does not do to the file.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{NOW, honest_outbox, message, picture, within};
use rusqlite::{Connection, OpenFlags};
use twobox_shared::inbox::{Inbox, InboxReader};
use twobox_shared::open::{self, BoxError, Remedy};
use twobox_shared::outbox::{Source, read_untrusted};
use twobox_shared::seq::Seq;

const PATIENCE: Duration = Duration::from_secs(2);

type Open = fn(&Path) -> Result<(), BoxError>;

const ROLES: [(&str, Open); 4] = [
    ("inbox writer", |path| open::inbox_writer(path).map(drop)),
    ("inbox reader", |path| open::inbox_reader(path).map(drop)),
    ("outbox writer", |path| open::outbox_writer(path).map(drop)),
    ("outbox reader", |path| open::outbox_reader(path, PATIENCE, |_| Ok(()))),
];

fn honest_inbox(path: &Path) {
    let mut inbox = Inbox::open(path).unwrap();
    let tx = inbox.write().unwrap();
    tx.accept(&message("m1", "{}"), Seq(0), NOW).unwrap();
    tx.commit().unwrap();
}

fn honest(role: &str, dir: &Path) -> PathBuf {
    let (path, make): (_, fn(&Path)) = match role.starts_with("inbox") {
        true => (dir.join("inbound.db"), honest_inbox),
        false => (dir.join("outbound.db"), honest_outbox),
    };
    make(&path);
    path
}

#[test]
fn every_role_opens_an_honest_file_and_changes_nothing() {
    for (role, open) in ROLES {
        let dir = tempfile::tempdir().unwrap();
        let path = honest(role, dir.path());
        let before = picture(dir.path());
        open(&path).expect(role);
        assert_eq!(picture(dir.path()), before, "{role}");
    }
}

#[test]
fn every_role_refuses_a_wal_file_and_leaves_the_folder_as_it_is() {
    for (role, open) in ROLES {
        let dir = tempfile::tempdir().unwrap();
        let path = honest(role, dir.path());
        Connection::open(&path).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
        let before = picture(dir.path());
        let error = open(&path).expect_err(role);
        assert!(matches!(&error, BoxError::NotDeleteMode { path: named } if *named == path));
        assert!(error.to_string().contains(path.to_str().unwrap()), "{role}: {error}");
        assert_eq!(picture(dir.path()), before, "{role}");
    }
}

#[test]
fn every_role_refuses_a_wal_file_that_another_process_has_open() {
    for (role, open) in ROLES {
        let dir = tempfile::tempdir().unwrap();
        let path = honest(role, dir.path());
        Connection::open(&path).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
        let other = common::hold("write to a WAL file", &path);
        let before = picture(dir.path());
        let error = within(PATIENCE, role, || open(&path)).expect_err(role);
        assert!(matches!(error, BoxError::NotDeleteMode { .. }), "{role}: {error}");
        assert_eq!(picture(dir.path()), before, "{role}");
        other.finish();
    }
}

#[test]
fn every_role_refuses_a_newer_file_and_says_what_helps() {
    for (role, open) in ROLES {
        let dir = tempfile::tempdir().unwrap();
        let path = honest(role, dir.path());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let before = picture(dir.path());
        let error = open(&path).expect_err(role);
        assert!(matches!(error, BoxError::Newer { found: 99, .. }), "{role}: {error}");
        assert!(error.to_string().contains("update Twobox"), "{role}: {error}");
        assert_eq!(picture(dir.path()), before, "{role}");
    }
}

#[test]
fn owners_commit_durably_and_keep_no_log() {
    for (role, open) in [
        ("inbox", open::inbox_writer as fn(&Path) -> Result<Connection, BoxError>),
        ("outbox", open::outbox_writer),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let conn = open(&dir.path().join("x.db")).unwrap();
        let read = |pragma: &str| -> String {
            conn.pragma_query_value(None, pragma, |row| {
                row.get_ref(0).map(|value| match value {
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    other => other.as_str().unwrap().to_owned(),
                })
            })
            .unwrap()
        };
        assert_eq!(read("synchronous"), "3", "{role}: EXTRA");
        assert_eq!(read("journal_mode"), "delete", "{role}");
        assert_eq!(read("locking_mode"), "normal", "{role}");
        assert_eq!(read("mmap_size"), "0", "{role}");
    }
}

fn bare(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).unwrap();
    conn.busy_timeout(Duration::ZERO).unwrap();
    conn
}

#[test]
fn second_process() {
    common::play(&[
        ("write to a WAL file", |path| {
            let conn = bare(path);
            conn.execute_batch("CREATE TABLE more (x); INSERT INTO more VALUES (1);").unwrap();
            common::ready_and_wait();
        }),
        ("take every lock once", |path| {
            let free = bare(path).execute_batch("BEGIN EXCLUSIVE; COMMIT").is_ok();
            common::say(free);
        }),
    ]);
}

fn free_for_others(path: &Path) -> bool {
    let mut other = common::start("take every lock once", path);
    let said = other.line();
    other.finish();
    said == "true"
}

#[test]
fn an_owner_holds_no_lock_between_transactions_and_a_reader_holds_one_until_it_closes() {
    let dir = tempfile::tempdir().unwrap();
    let path = honest("inbox", dir.path());
    let mut owner = open::inbox_writer(&path).unwrap();
    assert!(free_for_others(&path), "just opened");
    let tx = owner.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    assert!(!free_for_others(&path), "in a transaction");
    tx.execute("UPDATE messages_in SET tries = 1", []).unwrap();
    tx.commit().unwrap();
    assert!(free_for_others(&path), "after a commit");
    drop(owner);
    let reader = open::inbox_reader(&path).unwrap();
    assert!(!free_for_others(&path), "in a look");
    drop(reader);
    assert!(free_for_others(&path), "after a look");
}

#[test]
fn readers_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = honest("inbox", dir.path());
    let reader = open::inbox_reader(&path).unwrap();
    let error = reader.execute("DELETE FROM messages_in", []).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::ReadOnly));
}

#[test]
fn each_trouble_has_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing/inbound.db");
    assert_eq!(open::inbox_writer(&missing).unwrap_err().remedy(), Remedy::Operator, "no folder");

    let path = honest("inbox", dir.path());
    let conn = open::inbox_writer(&path).unwrap();
    let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    conn.pragma_update(None, "max_page_count", pages).unwrap();
    let full = conn
        .execute("UPDATE messages_in SET content = printf('%.100000c', 'x')", [])
        .map_err(|source| BoxError::sqlite("store", source))
        .unwrap_err();
    assert!(matches!(full, BoxError::Sqlite { action: "store", .. }));
    assert_eq!(full.remedy(), Remedy::Operator, "disk full");
    drop(conn);

    std::fs::write(&path, [0x55; 8192]).unwrap();
    assert_eq!(open::inbox_writer(&path).unwrap_err().remedy(), Remedy::Quarantine, "noise");
}

/// How many descriptors of this process lead to `path`.
fn descriptors(path: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    links
        .filter(|link| std::fs::read_link(link.as_ref().unwrap().path()).is_ok_and(|it| it == path))
        .count()
}

#[test]
fn s7_every_role_keeps_one_descriptor_and_its_locks_while_it_works() {
    let alone = |role: &str, path: &Path| {
        assert_eq!(descriptors(path), 1, "{role}: while it works");
        assert!(!free_for_others(path), "{role}: its lock is there");
        assert_eq!(descriptors(path), 1, "{role}: still");
    };
    for (role, _) in ROLES {
        let dir = tempfile::tempdir().unwrap();
        let path = honest(role, &dir.path().canonicalize().unwrap());
        let write = |conn: Connection| {
            conn.execute_batch("BEGIN IMMEDIATE; PRAGMA user_version = 1").unwrap();
            alone(role, &path);
        };
        match role {
            "inbox writer" => write(open::inbox_writer(&path).unwrap()),
            "outbox writer" => write(open::outbox_writer(&path).unwrap()),
            "inbox reader" => {
                let reader = InboxReader::open(&path).unwrap();
                reader.ids().unwrap();
                alone(role, &path);
            }
            _ => {
                let looked = read_untrusted(&path, Source::Live, PATIENCE, |outbox| {
                    outbox.rows(Seq(0), Seq(2), 1)?;
                    alone(role, &path);
                    Ok(())
                });
                looked.unwrap().unwrap();
            }
        }
        assert_eq!(descriptors(&path), 0, "{role}: closed again");
        assert!(free_for_others(&path), "{role}: and its locks are gone");
    }
}

#[test]
fn s9_null_and_what_is_no_number_of_its_side_are_no_seq_and_no_id() {
    let (row, message) = ("messages_out", "messages_in");
    let cases = [
        ("outbox", row, "NULL", "3"),
        ("outbox", row, "'a'", "NULL"),
        ("outbox", row, "'a'", "4"),
        ("outbox", row, "'a'", "-1"),
        ("outbox", row, "'a'", "'three'"),
        ("outbox", row, "'a'", "3.5"),
        ("inbox", message, "NULL", "4"),
        ("inbox", message, "'a'", "NULL"),
        ("inbox", message, "'a'", "5"),
        ("inbox", message, "'a'", "0"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let outbox = open::outbox_writer(&dir.path().join("outbound.db")).unwrap();
    let inbox = open::inbox_writer(&dir.path().join("inbound.db")).unwrap();
    let insert = |side: &str, table: &str, id: &str, seq: &str| {
        let conn = if side == "outbox" { &outbox } else { &inbox };
        let time = "'2027-01-15T08:00:00.000Z'";
        conn.execute(
            &format!(
                "INSERT INTO {table} (id, seq, timestamp, kind, content)
                 VALUES ({id}, {seq}, {time}, 'chat', '{{}}')"
            ),
            [],
        )
    };
    for (side, table, id, seq) in cases {
        let error = insert(side, table, id, seq).expect_err(seq);
        let code = error.sqlite_error_code();
        assert_eq!(code, Some(rusqlite::ErrorCode::ConstraintViolation), "{id} {seq}: {error}");
    }
    insert("outbox", row, "'a'", "3").unwrap();
    insert("inbox", message, "'a'", "4").unwrap();
}
