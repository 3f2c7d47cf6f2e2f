//! The host reads what a container wrote: whatever stands there, the read ends in time with the
//! right remedy, and nothing in the folder changes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{LONG, NOW, honest_outbox, id, picture, within};
use nix::libc;
use rusqlite::Connection;
use twobox_shared::open::{BoxError, Remedy};
use twobox_shared::outbox::{OutRow, Source, read_untrusted};
use twobox_shared::seq::{SEQ_LEAP_MAX, SEQ_MAX, Seq};

const PATIENCE: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(5);

/// Everything that the host ever asks of an outbox.
fn read(path: &Path, patience: Duration) -> Result<Option<Vec<OutRow>>, BoxError> {
    read_untrusted(path, Source::Live, patience, |outbox| {
        outbox.acks([&id("m1")])?;
        outbox.tool()?;
        Ok(outbox.rows(Seq(0), Seq(2), 100)?.rows)
    })
}

fn chain(error: &BoxError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[test]
fn an_honest_outbox_is_read_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbound.db");
    assert!(read(&path, PATIENCE).unwrap().is_none(), "not there yet");
    std::fs::write(&path, "").unwrap();
    assert!(read(&path, PATIENCE).unwrap().is_none(), "created, not committed");
    honest_outbox(&path);
    let before = picture(dir.path());
    let rows = read(&path, PATIENCE).unwrap().unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.id.as_str(), row.seq.0)).collect::<Vec<_>>(),
        [("r1", 3)]
    );
    assert_eq!(picture(dir.path()), before);
}

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
}

#[test]
fn what_is_no_plain_database_file_is_quarantined_in_time_and_untouched() {
    type Arrange = fn(&Path, &Path);
    let cases: &[(&str, Arrange)] = &[
        ("symlink to another database", |db, aside| {
            honest_outbox(aside);
            symlink(aside, db).unwrap();
        }),
        ("dangling symlink", |db, _| symlink("nowhere", db).unwrap()),
        ("FIFO", |db, _| fifo(db)),
        ("socket", |db, _| drop(std::os::unix::net::UnixListener::bind(db).unwrap())),
        ("directory", |db, _| std::fs::create_dir(db).unwrap()),
        ("hard link", |db, aside| {
            honest_outbox(aside);
            std::fs::hard_link(aside, db).unwrap();
        }),
        ("random bytes", |db, _| {
            let mut state = 1_u32;
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .take(20_000)
            .collect();
            std::fs::write(db, bytes).unwrap();
        }),
        ("cut short", |db, _| {
            honest_outbox(db);
            let bytes = std::fs::read(db).unwrap();
            std::fs::write(db, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("header only", |db, _| {
            honest_outbox(db);
            let bytes = std::fs::read(db).unwrap();
            std::fs::write(db, &bytes[..100]).unwrap();
        }),
        ("pages overwritten", |db, _| {
            honest_outbox(db);
            let mut bytes = std::fs::read(db).unwrap();
            bytes[4096..].fill(0xff);
            std::fs::write(db, bytes).unwrap();
        }),
        ("FIFO as journal", |db, _| {
            honest_outbox(db);
            fifo(&db.with_file_name("outbound.db-journal"));
        }),
        ("directory as journal", |db, _| {
            honest_outbox(db);
            std::fs::create_dir(db.with_file_name("outbound.db-journal")).unwrap();
        }),
        ("symlink as journal", |db, aside| {
            honest_outbox(db);
            std::fs::write(aside, [0xd9; 4096]).unwrap();
            symlink(aside, db.with_file_name("outbound.db-journal")).unwrap();
        }),
        ("WAL mode", |db, _| {
            honest_outbox(db);
            Connection::open(db).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
        }),
        ("WAL mode said by the header alone", |db, _| {
            honest_outbox(db);
            let mut bytes = std::fs::read(db).unwrap();
            bytes[18..20].fill(2);
            std::fs::write(db, bytes).unwrap();
        }),
        ("a write-ahead log beside it", |db, _| {
            honest_outbox(db);
            std::fs::write(db.with_file_name("outbound.db-wal"), "x").unwrap();
        }),
        ("a FIFO as write-ahead log", |db, _| {
            honest_outbox(db);
            fifo(&db.with_file_name("outbound.db-wal"));
        }),
    ];
    for (case, arrange) in cases {
        let dir = tempfile::tempdir().unwrap();
        let aside = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbound.db");
        arrange(&path, &aside.path().join("aside"));
        let before = picture(dir.path());
        let error = within(LIMIT, case, || read(&path, PATIENCE)).expect_err(case);
        assert_eq!(error.remedy(), Remedy::Quarantine, "{case}: {}", chain(&error));
        let what = chain(&error);
        let named = !case.contains("link") || what.contains("not a regular file with one link");
        assert!(named, "{case}: {what}");
        assert_eq!(picture(dir.path()), before, "{case}");
    }
}

/// The tables without a single rule, so that any value can be put in.
const LAWLESS: &str = "
    CREATE TABLE messages_out (id, seq, in_reply_to, timestamp, deliver_after, recurrence, kind,
      platform_id, channel_type, thread_id, content, attempt, runner_id);
    CREATE TABLE processing_ack (message_id, status, status_changed, attempt, runner_id, failure,
      turns);
    CREATE TABLE container_state (id, current_tool, tool_declared_timeout_ms, tool_started_at,
      updated_at);
    INSERT INTO messages_out (id, seq, timestamp, kind, content)
      VALUES ('r1', 3, '2027-01-15T08:00:00.000Z', 'chat', '{}');
    INSERT INTO processing_ack VALUES ('m1', 'processing', '2027-01-15T08:00:00.000Z', 0, NULL, NULL, 1);
    INSERT INTO container_state VALUES (1, 'Bash', 1000, NULL, '2027-01-15T08:00:00.000Z');";

fn lawless(path: &Path, more: &str) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(&format!("BEGIN; {LAWLESS} COMMIT; {more}")).unwrap();
}

#[test]
fn rows_that_no_honest_runner_writes_are_refused() {
    let set = |what: &str| format!("UPDATE messages_out SET {what}");
    let second = |seq: &str| {
        format!(
            "INSERT INTO messages_out (id, seq, timestamp, kind, content)
             VALUES ('r2', {seq}, '2027-01-15T08:00:00.000Z', 'chat', '{{}}')"
        )
    };
    let cases = [
        ("seq as text", set("seq = '3'"), "not an integer"),
        ("seq as real", set("seq = 3.0"), "not an integer"),
        ("seq as blob", set("seq = x'03'"), "not an integer"),
        ("seq missing", set("seq = NULL"), "seq IS NULL"),
        ("seq missing behind a good row", second("NULL"), "seq IS NULL"),
        ("seq even", set("seq = 4"), "not an odd number"),
        ("seq negative", set("seq = -3"), "seq < 1"),
        ("seq zero behind a good row", second("0"), "seq < 1"),
        ("seq beyond 2^53", set(&format!("seq = {}", SEQ_MAX + 1)), "not an odd number"),
        ("seq at the end of 64 bits", set("seq = 9223372036854775807"), "not an odd number"),
        ("seq leaps", set(&format!("seq = {}", SEQ_LEAP_MAX + 3)), "not an odd number"),
        ("seq twice", second("3"), "not unique"),
        ("id leads out of its folder", set("id = '../x'"), "path separator"),
        ("id is the parent folder", set("id = '..'"), "directory reference"),
        ("id with NUL", set("id = 'a' || char(0) || 'b'"), "control character"),
        ("id missing", set("id = NULL"), "missing"),
        ("id as number", set("id = 5"), "messages_out"),
        ("id too long", set("id = printf('%.256c', 'x')"), "is too long: it has 256 bytes"),
        ("id not UTF-8", set("id = CAST(x'ff' AS TEXT)"), "messages_out"),
        ("content not UTF-8", set("content = CAST(x'c328' AS TEXT)"), "messages_out"),
        ("content as blob", set("content = x'00'"), "messages_out"),
        ("content missing", set("content = NULL"), "missing"),
        ("content too large", set("content = printf('%.1048577c', 'x')"), "larger than"),
        ("thread too large", set("thread_id = printf('%.4097c', 'x')"), "larger than"),
        ("thread as number", set("thread_id = 7"), "messages_out"),
        ("recurrence", set("recurrence = '* * * * *'"), "recurrence"),
        ("deliver_after is no time", set("deliver_after = 'soon'"), "not a time"),
        ("kind missing", set("kind = NULL"), "missing"),
        ("timestamp as number", set("timestamp = 1.5"), "messages_out"),
        ("ack attempt as text", "UPDATE processing_ack SET attempt = 'x'".into(), "processing_ack"),
        ("ack status missing", "UPDATE processing_ack SET status = NULL".into(), "processing_ack"),
        (
            "ack runner as blob",
            "UPDATE processing_ack SET runner_id = x'00'".into(),
            "processing_ack",
        ),
        (
            "tool as blob",
            "UPDATE container_state SET current_tool = x'00'".into(),
            "container_state",
        ),
        (
            "timeout as real",
            "UPDATE container_state SET tool_declared_timeout_ms = 1e300".into(),
            "container_state",
        ),
    ];
    for (case, change, reason) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbound.db");
        lawless(&path, &change);
        let before = picture(dir.path());
        let error = within(LIMIT, case, || read(&path, PATIENCE)).expect_err(case);
        assert_eq!(error.remedy(), Remedy::Quarantine, "{case}: {}", chain(&error));
        assert!(chain(&error).contains(reason), "{case}: {}", chain(&error));
        assert_eq!(picture(dir.path()), before, "{case}");
    }
}

#[test]
fn values_beyond_the_length_limit_are_refused_unread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbound.db");
    lawless(&path, "UPDATE messages_out SET content = zeroblob(200000000)");
    let error = within(LIMIT, "200 MB", || read(&path, PATIENCE)).unwrap_err();
    assert_eq!(error.remedy(), Remedy::Quarantine, "{}", chain(&error));
}

#[test]
fn a_database_that_brings_code_is_refused() {
    let cases = [
        (
            "view in the place of a table",
            "ALTER TABLE messages_out RENAME TO t; CREATE VIEW messages_out AS SELECT * FROM t;",
            "view messages_out",
        ),
        ("view beside the tables", "CREATE VIEW v AS SELECT 1;", "view v"),
        (
            "trigger",
            "CREATE TRIGGER t AFTER INSERT ON messages_out BEGIN DELETE FROM processing_ack; END;",
            "trigger t",
        ),
        (
            "virtual table",
            "DROP TABLE messages_out; CREATE VIRTUAL TABLE messages_out USING fts5(seq);",
            "messages_out",
        ),
        (
            "virtual table spelt so that no pattern finds it",
            "PRAGMA writable_schema = ON;
             INSERT INTO sqlite_schema VALUES ('table', 'f', 'f', 0,
               'CREATE/**/VIRTUAL TABLE f USING fts5(a)');",
            "table f",
        ),
        (
            "view that calls itself a table",
            "PRAGMA writable_schema = ON;
             INSERT INTO sqlite_schema VALUES ('table', 'w', 'w', 0, 'CREATE VIEW w AS SELECT 1');",
            "malformed",
        ),
        (
            "view that calls itself an index",
            "PRAGMA writable_schema = ON;
             INSERT INTO sqlite_schema VALUES ('index', 'w', 'w', 0, 'CREATE VIEW w AS SELECT 1');",
            "malformed",
        ),
        (
            "view that claims a page",
            "PRAGMA writable_schema = ON;
             INSERT INTO sqlite_schema VALUES ('table', 'w', 'w', 2, 'CREATE VIEW w AS SELECT 1');",
            "malformed",
        ),
        (
            "generated column",
            "DROP TABLE processing_ack;
             CREATE TABLE processing_ack (message_id TEXT,
               status TEXT GENERATED ALWAYS AS (printf('%.1000000000c', 'x')));",
            "generated",
        ),
        (
            "unknown collation",
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = replace(sql, ' seq,', ' seq COLLATE nocollation,')
             WHERE name = 'messages_out';",
            "nocollation",
        ),
        (
            "schema that does not parse",
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE TABLE messages_out (' WHERE name = 'messages_out';",
            "malformed",
        ),
        (
            "table without the columns that matter",
            "DROP TABLE messages_out; CREATE TABLE messages_out (x); INSERT INTO messages_out VALUES (1);",
            "seq",
        ),
    ];
    for (case, change, reason) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbound.db");
        lawless(&path, change);
        let before = picture(dir.path());
        let error = within(LIMIT, case, || read(&path, PATIENCE)).expect_err(case);
        assert_eq!(error.remedy(), Remedy::Quarantine, "{case}: {}", chain(&error));
        assert!(chain(&error).contains(reason), "{case}: {}", chain(&error));
        assert_eq!(picture(dir.path()), before, "{case}");
    }
}

#[test]
fn a_query_that_would_take_for_ever_ends_at_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbound.db");
    lawless(
        &path,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
         INSERT INTO processing_ack SELECT 'x' || i, 'completed', '', 0, NULL, NULL, 0 FROM n;",
    );
    let wanted: Vec<_> = (0..100_000).map(|n| id(&format!("y{n}"))).collect();
    let patience = Duration::from_millis(200);
    let error = within(patience + Duration::from_secs(1), "no index", || {
        read_untrusted(&path, Source::Live, patience, |outbox| outbox.acks(&wanted)).unwrap_err()
    });
    assert_eq!(error.remedy(), Remedy::TryAgain, "{}", chain(&error));
}

/// Locks bytes of a database as SQLite does, for ever.
fn lock(path: &Path, start: i64, len: i64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETLK(&lock)).unwrap();
    common::ready_and_wait();
}

const PENDING: i64 = 0x4000_0000;

fn outcome(path: &Path) {
    match read(path, PATIENCE) {
        Ok(_) => common::say("read"),
        Err(error) => common::say(format!("{:?} {}", error.remedy(), chain(&error))),
    }
}

/// Says DELETE and WAL by turns in the header of a database that another process has open in WAL
/// mode, and truncates the shared memory that a reader would map.
fn flip_modes(path: &Path) {
    let wal = path.with_file_name("outbound.db-wal");
    let (hidden, shm) = (path.with_file_name("hidden"), path.with_file_name("outbound.db-shm"));
    let other = Connection::open(path).unwrap();
    other.pragma_update(None, "journal_mode", "WAL").unwrap();
    other.execute_batch("PRAGMA user_version = 1").unwrap();
    let memory = std::fs::read(&shm).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    common::say("ready");
    loop {
        std::fs::rename(&wal, &hidden).unwrap();
        file.write_all_at(&[1, 1], 18).unwrap();
        std::fs::write(&shm, &memory).unwrap();
        std::thread::sleep(Duration::from_micros(50));
        file.write_all_at(&[2, 2], 18).unwrap();
        std::fs::rename(&hidden, &wal).unwrap();
        std::thread::sleep(Duration::from_micros(50));
        std::fs::File::create(&shm).unwrap();
    }
}

/// Reads for two seconds, whatever comes of it.
fn read_on(path: &Path) {
    let (end, mut looks, mut good) = (Instant::now() + Duration::from_secs(2), 0, 0);
    while Instant::now() < end {
        good += u32::from(read(path, PATIENCE).is_ok());
        looks += 1;
    }
    common::say(format!("{looks} looks, {good} good"));
}

#[test]
fn s2_a_truncated_shared_memory_kills_no_reader() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbound.db");
    honest_outbox(&path);
    let attacker = common::hold("flip modes", &path);
    let mut reader = common::start("read on", &path);
    eprintln!("{}", reader.line());
    reader.finish(); // with success, and not by SIGBUS
    attacker.kill();
}

#[test]
fn s3_a_fifo_as_database_or_journal_hangs_no_reader() {
    for (case, name) in [("database", "outbound.db"), ("journal", "outbound.db-journal")] {
        for copied in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("outbound.db");
            if name != "outbound.db" {
                honest_outbox(&path);
            }
            fifo(&dir.path().join(name));
            let (done, ended) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let scratch = tempfile::tempdir().unwrap();
                let copy = Source::Copy { scratch: scratch.path(), quota: 64 << 20 };
                let source = if copied { copy } else { Source::Live };
                let result =
                    read_untrusted(&path, source, PATIENCE, |it| it.rows(Seq(0), Seq(2), 1));
                done.send(result.map(|_| ())).unwrap();
            });
            let result = ended.recv_timeout(LONG).expect("the read returns");
            let error = result.expect_err(case);
            assert_eq!(error.remedy(), Remedy::Quarantine, "{case}: {}", chain(&error));
            assert!(chain(&error).contains(name), "{case}: {}", chain(&error));
        }
    }
}

#[test]
fn second_process() {
    common::play(&[
        ("flip modes", flip_modes),
        ("read on", read_on),
        ("pending", |path| lock(path, PENDING, 1)),
        ("exclusive", |path| lock(path, PENDING + 2, 510)),
        ("everything", |path| lock(path, 0, 0)),
        ("no descriptors", |path| {
            let (_, hard) =
                nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 3, hard)
                .unwrap();
            outcome(path);
        }),
        ("no permission", |path| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o000)).unwrap();
            if nix::unistd::geteuid().is_root() {
                nix::unistd::setuid(nix::unistd::Uid::from_raw(65_534)).unwrap();
            }
            outcome(path);
        }),
    ]);
}

#[test]
fn s8_a_lock_that_is_held_for_ever_ends_at_the_deadline() {
    for kind in ["pending", "exclusive", "everything"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbound.db");
        honest_outbox(&path);
        let other = common::hold(kind, &path);
        let patience = Duration::from_millis(300);
        let start = Instant::now();
        let error = within(patience + Duration::from_secs(1), kind, || read(&path, patience))
            .expect_err(kind);
        assert!(start.elapsed() >= patience, "{kind}: gave up early");
        assert_eq!(error.remedy(), Remedy::TryAgain, "{kind}: {}", chain(&error));
        other.finish();
        assert!(read(&path, LONG).is_ok(), "{kind}: after the lock is gone");
    }
}

#[test]
fn the_hosts_own_trouble_is_no_reason_for_quarantine() {
    for (kind, reason) in [("no descriptors", "open files"), ("no permission", "denied")] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = dir.path().join("outbound.db");
        honest_outbox(&path);
        let mut other = common::start(kind, &path);
        let said = other.line();
        assert!(said.starts_with("Operator"), "{kind}: {said}");
        assert!(said.contains(reason), "{kind}: {said}");
        other.finish();
    }
}

#[test]
fn an_old_cursor_reads_only_what_lies_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outbound.db");
    honest_outbox(&path);
    let rows =
        read_untrusted(&path, Source::Live, PATIENCE, |outbox| outbox.rows(Seq(3), Seq(3), 100));
    assert_eq!(rows.unwrap().unwrap().rows, []);
    assert_eq!(NOW.to_rfc3339(), "2027-01-15T08:00:00.000Z");
}
