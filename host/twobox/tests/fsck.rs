//! Every invariant of a session's folder, broken by itself and told by its name.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rusqlite::Connection;
use serde_json::Value;
use twobox_app::fsck::{Name, examine};
use twobox_session::boxes::{Boxes, Changes, Writers};
use twobox_session::decide::Action;
use twobox_shared::clock::SystemClock;
use twobox_shared::content::Failure;
use twobox_shared::ids::{AgentGroupId, MessageId, RunnerId, SessionId, SystemIds};
use twobox_shared::inbox::{Cursor, Delivery, DeliveryStatus, NewMessage, Origin};
use twobox_shared::outbox::{Claim, NewRow, OutboxWriter, TurnEnd};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;
use twobox_store::Store;
use twobox_store::messaging::SessionMode;
use twobox_system::data::DataDir;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// A data directory with one session, which has answered and delivered `m1`.
struct World {
    _dir: tempfile::TempDir,
    data: DataDir,
    group: AgentGroupId,
    session: SessionId,
    boxes: Boxes,
}

fn id(text: &str) -> MessageId {
    MessageId::parse(text).unwrap()
}

fn message(text: &str) -> NewMessage {
    NewMessage {
        id: id(text),
        kind: "chat".into(),
        content: r#"{"text":"hello"}"#.into(),
        origin: Origin::default(),
        trigger: true,
        process_after: None,
        source_session: None,
        run_id: None,
    }
}

fn row(text: &str, answers: &str) -> NewRow {
    NewRow {
        in_reply_to: Some(id(answers)),
        kind: "chat".into(),
        destination: Origin::default(),
        content: r#"{"text":"answer"}"#.into(),
        deliver_after: None,
        attempt: 0,
        id: id(text),
    }
}

fn settled(status: DeliveryStatus) -> Delivery {
    Delivery {
        status,
        attempts: 1,
        next_attempt_at: None,
        changed_at: NOW,
        error: None,
        platform_message_id: None,
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::create(&dir.path().join("data")).unwrap();
        let db = Store::create(&data.host_db()).unwrap();
        db.agents().add("ann", SessionMode::Shared, &SystemIds, NOW).wait().unwrap();
        let heard = db.wirings().listening("terminal", "ann").wait().unwrap().remove(0);
        let (group, chat) = (heard.agent, heard.messaging_group);
        let session = db
            .sessions()
            .resolve(group, chat, "", SessionId::generate(&SystemIds), NOW)
            .wait()
            .unwrap();
        let folder = data.session_folder(group, session);
        let boxes = Boxes::new(session, &folder, &data.scratch(), 1 << 20);
        let world = Self { _dir: dir, data, group, session, boxes };
        world.boxes.accept(&[message("m1")], Seq(0), NOW).unwrap();
        world.answer("m1", "r1");
        let look = world.boxes.look(Writers::Possible).unwrap();
        let last = look.rows.last().unwrap().0.seq;
        let changes = Changes {
            actions: vec![Action::Complete { message: id("m1") }],
            records: vec![(id("r1"), settled(DeliveryStatus::Delivered))],
            cursor: Cursor { seq: last, seen: last },
            ..Changes::default()
        };
        world.boxes.apply(&changes, NOW).unwrap();
        world
    }

    fn outbox(&self) -> OutboxWriter {
        OutboxWriter::open(&self.path("out/outbound.db"), RunnerId::generate(&SystemIds)).unwrap()
    }

    /// What an honest runner does with a message.
    fn answer(&self, asked: &str, answer: &str) {
        let mut outbox = self.outbox();
        let claims = outbox.claim(&[Claim { message: id(asked), attempt: 0 }], NOW).unwrap();
        let rows = [row(answer, asked)];
        let end = TurnEnd { claims: &claims, outcome: Ok(&rows), turns: 1, continuation: None };
        outbox.end_turn(&end, Seq(4), NOW).unwrap();
    }

    fn folder(&self) -> PathBuf {
        self.data.session_folder(self.group, self.session)
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.folder().join(inside)
    }

    fn sql(&self, file: &str, sql: &str) {
        let db = Connection::open(self.path(file)).unwrap();
        db.execute_batch(&format!("PRAGMA ignore_check_constraints = ON; {sql}")).unwrap();
    }

    fn inbox(&self, sql: &str) {
        self.sql("in/inbound.db", sql);
    }

    fn outbox_sql(&self, sql: &str) {
        self.sql("out/outbound.db", sql);
    }

    fn host(&self, sql: &str) {
        let db = Store::create(&self.data.host_db()).unwrap();
        db.raw().execute_batch(sql).unwrap();
    }

    fn names(&self) -> Vec<&'static str> {
        let db = Store::look(&self.data.host_db()).unwrap();
        let key = (self.group, self.session);
        let found = examine::session(&self.data, &db, key, false, &SystemClock).unwrap();
        let foreign = examine::foreign_folders(&self.data, &db).unwrap();
        found.iter().chain(&foreign).map(|finding| finding.name.as_str()).collect()
    }

    fn fsck(&self, arguments: &[&str]) -> Output {
        twobox(self.data.root(), &[&["--json", "sessions", "fsck"], arguments].concat())
    }
}

fn twobox(data: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twobox"))
        .arg("--data")
        .arg(data)
        .args(arguments)
        .env_remove("TWOBOX_DATA")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// A copy of a table without its rules, with the same rows.
fn loosen(table: &str) -> String {
    format!(
        "CREATE TABLE loose AS SELECT * FROM {table}; DROP TABLE {table};
         ALTER TABLE loose RENAME TO {table};"
    )
}

/// A commit that is cut off: the journal stays, hot.
fn cut_off(database: &Path) {
    let aside = tempfile::tempdir().unwrap();
    let copy = aside.path().join("copy.db");
    let writer = Connection::open(database).unwrap();
    writer
        .execute_batch(
            "PRAGMA cache_size = 1; BEGIN IMMEDIATE; CREATE TABLE filler (x);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
             INSERT INTO filler SELECT printf('%.3000c', 'x') FROM n;",
        )
        .unwrap();
    let journal = |path: &Path| PathBuf::from(format!("{}-journal", path.display()));
    std::fs::copy(database, &copy).unwrap();
    std::fs::copy(journal(database), journal(&copy)).unwrap();
    drop(writer);
    std::fs::copy(&copy, database).unwrap();
    std::fs::copy(journal(&copy), journal(database)).unwrap();
}

type Break = fn(&World);

/// How each invariant is broken, and whether `--repair` mends it.
fn fixtures() -> Vec<(&'static str, bool, Break)> {
    vec![
        ("quarantined", false, |w| {
            w.host("UPDATE sessions SET status = 'quarantined', quarantine_reason = 'a trigger'");
        }),
        ("folder-missing", false, |w| std::fs::remove_dir_all(w.folder()).unwrap()),
        ("folder-without-session", false, |w| {
            std::fs::create_dir(w.folder().with_file_name("stranger")).unwrap();
        }),
        ("stray-file", true, |w| std::fs::write(w.path("out/core"), "x").unwrap()),
        ("stray-file", true, |w| symlink("/etc/passwd", w.path("in/link")).unwrap()),
        ("stray-file", true, |w| std::fs::create_dir(w.path("notes")).unwrap()),
        ("symbolic-link", false, |w| {
            std::fs::rename(w.path("out/outbound.db"), w.data.root().join("moved.db")).unwrap();
            symlink(w.data.root().join("moved.db"), w.path("out/outbound.db")).unwrap();
        }),
        ("symbolic-link", false, |w| symlink("/etc", w.path("out/outbox")).unwrap()),
        ("symbolic-link", false, |w| {
            symlink("/etc", w.path("work")).unwrap();
        }),
        ("hard-link", false, |w| {
            std::fs::hard_link(w.path("in/inbound.db"), w.data.root().join("twin.db")).unwrap();
        }),
        ("hard-link", false, |w| {
            std::fs::hard_link(w.path("out/outbound.db"), w.data.root().join("twin.db")).unwrap();
        }),
        ("wrong-file-type", false, |w| {
            nix::unistd::mkfifo(&w.path("out/heartbeat"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
        ("wrong-file-type", false, |w| {
            std::fs::remove_file(w.path("out/outbound.db")).unwrap();
            std::fs::create_dir(w.path("out/outbound.db")).unwrap();
        }),
        ("writable-by-others", true, |w| {
            let writable = std::fs::Permissions::from_mode(0o664);
            std::fs::set_permissions(w.path("in/inbound.db"), writable).unwrap();
        }),
        ("writable-by-others", true, |w| {
            let writable = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(w.path("out"), writable).unwrap();
        }),
        ("writable-by-others", true, |w| {
            let writable = std::fs::Permissions::from_mode(0o720);
            std::fs::set_permissions(w.folder(), writable).unwrap();
        }),
        ("inbox-missing", false, |w| std::fs::remove_file(w.path("in/inbound.db")).unwrap()),
        ("inbox-corrupt", false, |w| {
            std::fs::write(w.path("in/inbound.db"), vec![b'x'; 8192]).unwrap();
        }),
        ("inbox-corrupt", false, |w| {
            w.inbox(
                "PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET sql = replace(sql, '(seq)', '(tries)')
                 WHERE name = 'messages_in_pending';
                 INSERT INTO messages_in (id, seq, kind, timestamp, content, trigger)
                 VALUES ('x', 100, 'chat', '2027-01-15T08:00:00.000Z', '{}', 0);",
            );
        }),
        ("inbox-wrong-journal-mode", false, |w| w.inbox("PRAGMA journal_mode = WAL;")),
        ("inbox-newer", false, |w| w.inbox("PRAGMA user_version = 99;")),
        ("inbox-older", true, |w| w.inbox("PRAGMA user_version = 0;")),
        ("inbox-hot-journal", true, |w| cut_off(&w.path("in/inbound.db"))),
        ("outbox-corrupt", false, |w| {
            std::fs::write(w.path("out/outbound.db"), vec![b'x'; 8192]).unwrap();
        }),
        ("outbox-refused", false, |w| w.outbox_sql("CREATE VIEW v AS SELECT 1;")),
        ("outbox-refused", false, |w| {
            w.outbox_sql("UPDATE messages_out SET recurrence = '* * * * *';");
        }),
        ("outbox-wrong-journal-mode", false, |w| w.outbox_sql("PRAGMA journal_mode = WAL;")),
        ("outbox-newer", false, |w| w.outbox_sql("PRAGMA user_version = 99;")),
        ("outbox-older", false, |w| w.outbox_sql("PRAGMA user_version = 0;")),
        ("outbox-hot-journal", true, |w| cut_off(&w.path("out/outbound.db"))),
        ("inbox-seq-invalid", false, |w| w.inbox("UPDATE messages_in SET seq = 3;")),
        ("inbox-seq-twice", false, |w| {
            w.inbox(&loosen("messages_in"));
            w.inbox(
                "INSERT INTO messages_in SELECT * FROM messages_in;
                     UPDATE messages_in SET id = 'other' WHERE rowid = 2;",
            );
        }),
        ("outbox-seq-invalid", false, |w| w.outbox_sql("UPDATE messages_out SET seq = 4;")),
        ("outbox-seq-invalid", false, |w| {
            w.outbox_sql(&loosen("messages_out"));
            w.outbox_sql("UPDATE messages_out SET seq = 'x';");
        }),
        ("outbox-seq-twice", false, |w| {
            w.outbox_sql(&loosen("messages_out"));
            w.outbox_sql(
                "INSERT INTO messages_out SELECT * FROM messages_out;
                          UPDATE messages_out SET id = 'r2' WHERE rowid = 2;",
            );
            w.inbox(
                "INSERT INTO delivered SELECT 'r2', NULL, status, delivered_at, 1, NULL, NULL, NULL
                     FROM delivered;",
            );
        }),
        ("outbox-seq-implausible", false, |w| {
            w.outbox_sql("UPDATE messages_out SET seq = 3000001;");
        }),
        ("answer-before-message", false, |w| w.inbox("UPDATE messages_in SET seq = 8;")),
        ("message-state-invalid", false, |w| w.inbox("UPDATE messages_in SET status = 'lost';")),
        ("counters-invalid", false, |w| w.inbox("UPDATE messages_in SET forgiven = 2;")),
        ("task-twice", false, |w| {
            let rows = [(6, "pending", "* * * * *"), (8, "paused", "* * * * *")];
            rows.into_iter().for_each(|row| task(w, row));
        }),
        ("recurrence-invalid", false, |w| task(w, (6, "paused", "0 9 31 2 *"))),
        ("recurrence-settled", true, |w| task(w, (6, "failed", "* * * * *"))),
        ("recurrence-settled", false, |w| task(w, (6, "cancelled", "* * * * *"))),
        ("ack-invalid", false, |w| w.outbox_sql("UPDATE processing_ack SET status = 'maybe';")),
        ("ack-without-message", false, |w| {
            w.outbox_sql(
                "INSERT INTO processing_ack (message_id, status, status_changed)
                          VALUES ('ghost', 'completed', '2027-01-15T08:00:00.000Z');",
            );
        }),
        ("ack-ahead", false, |w| {
            pending(w);
            w.host("UPDATE sessions SET next_due_at_ms = 0");
            w.outbox_sql("UPDATE processing_ack SET status = 'processing', attempt = 3;");
        }),
        ("orphan-claim", true, |w| {
            pending(w);
            w.outbox_sql("UPDATE processing_ack SET status = 'processing';");
        }),
        ("failure-not-charged", true, |w| {
            pending(w);
            w.outbox_sql("UPDATE processing_ack SET status = 'failed';");
        }),
        ("completed-not-taken-in", true, pending),
        ("delivery-state-invalid", false, |w| w.inbox("UPDATE delivered SET status = 'lost';")),
        ("delivered-without-row", false, |w| {
            w.inbox(
                "INSERT INTO delivered (message_out_id, delivered_at)
                     VALUES ('ghost', '2027-01-15T08:00:00.000Z');",
            );
        }),
        ("work-not-marked", true, |w| w.inbox("UPDATE delivered SET status = 'held';")),
        ("undelivered-below-cursor", false, |w| {
            w.outbox_sql(
                "INSERT INTO messages_out (id, seq, timestamp, kind, content)
                          VALUES ('late', 1, '2027-01-15T08:00:00.000Z', 'chat', '{}');",
            );
        }),
        ("cursor-missing", true, |w| w.inbox("DELETE FROM outbound_cursor;")),
        ("cursor-invalid", false, |w| w.inbox("UPDATE outbound_cursor SET seen = seq - 1;")),
        ("cursor-beyond-end", false, |w| w.inbox("UPDATE outbound_cursor SET seen = 99;")),
        ("work-not-marked", true, |w| {
            w.boxes.accept(&[message("m2")], Seq(5), NOW).unwrap();
        }),
        ("work-not-marked", true, |w| {
            w.outbox_sql(
                "INSERT INTO messages_out (id, seq, timestamp, kind, content)
                          VALUES ('new', 11, '2027-01-15T08:00:00.000Z', 'chat', '{}');",
            );
        }),
    ]
}

/// A row of a series, in a session that is looked at some day.
fn task(world: &World, (seq, status, recurrence): (i64, &str, &str)) {
    world.inbox(&format!(
        "INSERT INTO messages_in (id, seq, kind, timestamp, status, recurrence, series_id, content)
         VALUES ('task-{seq}', {seq}, 'task', '2027-01-15T08:00:00.000Z', '{status}',
                 '{recurrence}', 's', '{{}}');"
    ));
    world.host("UPDATE sessions SET next_due_at_ms = 1900000000000");
}

fn pending(world: &World) {
    world.inbox("UPDATE messages_in SET status = 'pending';");
}

/// Everything about a folder that nobody may change.
fn picture(folder: &Path) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        let bytes = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        if meta.is_dir() {
            found.extend(picture(&path));
        }
        found.insert(path, (meta.mode(), meta.ino(), bytes));
    }
    found
}

#[test]
fn a_clean_session_reports_nothing() {
    let world = World::new();
    assert_eq!(world.names(), [""; 0]);
    // What a conversation keeps in its workspace is its own affair.
    std::fs::create_dir_all(world.path("work/project/.git")).unwrap();
    symlink("/etc/passwd", world.path("work/link")).unwrap();
    assert_eq!(world.names(), [""; 0]);
    let output = world.fsck(&[]);
    assert_eq!((output.status.code(), &report(&output)["checked"]), (Some(0), &Value::from(1)));
    // Nor does one that works: a claim of the recorded runner, rows to deliver, the mark set.
    world.boxes.accept(&[message("m2")], Seq(5), NOW).unwrap();
    let mut outbox = world.outbox();
    outbox.claim(&[Claim { message: id("m2"), attempt: 0 }], NOW).unwrap();
    drop(outbox);
    world.host("UPDATE sessions SET next_due_at_ms = 0");
    assert_eq!(world.names(), [""; 0]);
}

#[test]
fn what_is_lost_among_refused_rows_is_found_by_their_number() {
    for (case, refused, findings) in [("both were refused", 2, 0), ("one of them was", 1, 1)] {
        let world = World::new();
        for number in [1, 3] {
            world.outbox_sql(&format!(
                "INSERT INTO messages_out (id, seq, timestamp, kind, content)
                 VALUES ('r{number}-', {number}, '2027-01-15T08:00:00.000Z', 'chat', '{{}}');"
            ));
        }
        world.host(&format!(
            "INSERT INTO refused (session_id, first_seq, last_seq, count, error, first_at_ms,
               last_at_ms)
             SELECT id, 1, 3, {refused}, 'not wired', 1, 1 FROM sessions"
        ));
        let report = report(&world.fsck(&[]));
        let found: Vec<_> = report["findings"].as_array().unwrap().iter().collect();
        assert_eq!(found.len(), findings, "{case}: {report}");
        for finding in found {
            assert_eq!(finding["name"], "undelivered-below-cursor", "{case}");
            assert_eq!(finding["object"], "rows 1 to 3", "{case}");
        }
    }
}

#[test]
fn each_broken_invariant_is_told_by_its_name_alone() {
    let mut told: Vec<&str> = Vec::new();
    for (n, (name, repairable, break_it)) in fixtures().into_iter().enumerate() {
        let world = World::new();
        break_it(&world);
        assert_eq!(world.names(), [name], "fixture {n}");
        let before = picture(world.data.root());
        let output = world.fsck(&[]);
        let finding = &report(&output)["findings"][0];
        assert_eq!(finding["name"], name, "fixture {n}");
        assert_eq!(finding["repairable"], repairable, "fixture {n}, {name}");
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(picture(world.data.root()) == before, "fixture {n}, {name}: a byte changed");
        told.push(name);
    }
    // Another user's file needs root, and a lock another process: each has a test of its own.
    let elsewhere = ["wrong-owner", "inbox-not-checked", "outbox-not-checked"];
    for name in Name::ALL.iter().map(|name| name.as_str()) {
        assert!(told.contains(&name) || elsewhere.contains(&name), "{name} has no fixture");
    }
}

#[test]
fn a_repair_leads_to_a_clean_report_and_a_second_one_changes_nothing() {
    for (n, (name, repairable, break_it)) in fixtures().into_iter().enumerate() {
        let world = World::new();
        break_it(&world);
        let outbox = std::fs::read(world.path("out/outbound.db")).ok();
        let first = world.fsck(&["--repair"]);
        let left = report(&first)["findings"].as_array().unwrap().len();
        let case = format!("fixture {n}, {name}: {}", report(&first));
        assert_eq!(left, usize::from(!repairable), "{case}");
        assert_eq!(report(&first)["repairs"][0]["error"], Value::Null, "{case}");
        assert_eq!(std::fs::read(world.path("out/outbound.db")).ok(), outbox, "{case}");
        let before = picture(&world.data.sessions());
        let second = world.fsck(&["--repair"]);
        assert_eq!(report(&second)["repairs"], Value::Array(Vec::new()), "{case}");
        assert!(picture(&world.data.sessions()) == before, "{case}: the second one changed a byte");
    }
}

#[test]
fn stray_files_are_kept_in_lost_and_found_under_names_of_their_own() {
    let world = World::new();
    for content in ["one", "two"] {
        std::fs::write(world.path("out/core"), content).unwrap();
        assert_eq!(world.fsck(&["--repair"]).status.code(), Some(0));
    }
    let kept = |name: &str| std::fs::read_to_string(world.path("lost+found").join(name)).unwrap();
    assert_eq!((kept("out-core"), kept("out-core.1")), ("one".into(), "two".into()));
}

#[test]
fn a_repair_is_refused_while_a_host_runs() {
    let world = World::new();
    std::fs::write(world.path("out/core"), "x").unwrap();
    let lock = world.data.lock().unwrap();
    let output = world.fsck(&["--repair"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("running host"), "{output:?}");
    assert!(world.path("out/core").exists());
    drop(lock);
}

#[test]
fn the_mended_cursor_sends_nothing_again_that_was_settled() {
    let world = World::new();
    world.inbox("DELETE FROM outbound_cursor;");
    assert_eq!(world.fsck(&["--repair"]).status.code(), Some(0));
    let look = world.boxes.look(Writers::Possible).unwrap();
    assert_eq!((look.cursor.seq, look.cursor.seen, look.rows.len()), (Seq(5), Seq(5), 0));
}

#[test]
fn what_ended_without_success_is_listed_and_shown() {
    let world = World::new();
    world.boxes.accept(&[message("m2")], Seq(5), NOW).unwrap();
    world.answer("m2", "r2");
    let failure = Failure::permanent("auth_failed", "no key");
    let changes = Changes {
        actions: vec![Action::Fail { message: id("m2"), attempt: 0, failure }],
        records: vec![(id("r2"), settled(DeliveryStatus::Uncertain))],
        ..Changes::default()
    };
    world.boxes.apply(&changes, NOW).unwrap();
    world.host(&format!(
        "INSERT INTO notices (session_id, cause, channel_type, platform_id, text, status, error,
           created_at_ms) VALUES ('{}', 'start:1', 'terminal', 'ann', 'sorry', 'failed', 'gone', 1)",
        world.session
    ));
    let list = twobox(world.data.root(), &["--json", "dead", "list"]);
    let list = report(&list);
    let dead: Vec<_> = ["kind", "status", "id", "reason", "text"]
        .iter()
        .map(|field| {
            list["dead"]
                .as_array()
                .unwrap()
                .iter()
                .map(|dead| dead[field].as_str().unwrap())
                .collect::<Vec<_>>()
                .join(",")
        })
        .collect();
    assert_eq!(
        dead,
        [
            "message,delivery,notice",
            "failed,uncertain,failed",
            "m2,r2,notice:start:1",
            "auth_failed no key,,gone",
            "hello,answer,sorry",
        ]
    );
    let session = world.session.to_string();
    let show = report(&twobox(world.data.root(), &["--json", "dead", "show", &session, "r2"]));
    assert_eq!(show["dead"][0]["row"]["in_reply_to"], "m2");
    for verb in ["redrive", "drop"] {
        for what in ["m2", "r2", "notice:start:1"] {
            let refusal = twobox(world.data.root(), &["dead", verb, &session, what]);
            assert!(String::from_utf8_lossy(&refusal.stderr).contains(" up`"), "{refusal:?}");
        }
    }
}

#[test]
fn a_session_in_the_middle_of_a_redrive_is_clean_once_it_is_marked() {
    let world = World::new();
    world.inbox("UPDATE delivered SET status = 'held', attempts = 0 WHERE message_out_id = 'r1';");
    assert_eq!(world.names(), ["work-not-marked"]);
    world.host("UPDATE sessions SET next_due_at_ms = 0");
    assert_eq!(world.names(), [""; 0]);
    let look = world.boxes.look(Writers::Possible).unwrap();
    assert_eq!((look.rows.len(), look.gone.len()), (1, 0), "below the cursor");
    assert!(look.rows[0].0.seq <= look.cursor.seq);
}

#[test]
fn what_the_host_alone_writes_belongs_to_the_host() {
    if !nix::unistd::geteuid().is_root() {
        return; // only root gives files away
    }
    let world = World::new();
    std::os::unix::fs::chown(world.path("in/inbound.db"), Some(65532), None).unwrap();
    assert_eq!(world.names(), ["wrong-owner"]);
    // The outbox may belong to the container's user.
    std::os::unix::fs::chown(world.path("in/inbound.db"), Some(0), None).unwrap();
    for path in ["out", "out/outbound.db"] {
        std::os::unix::fs::chown(world.path(path), Some(65532), None).unwrap();
    }
    assert_eq!(world.names(), [""; 0]);
}

/// A writer in this process and the command in another one: locks belong to a process.
#[test]
fn a_box_that_stays_locked_is_told_as_not_checked_and_the_command_ends() {
    for (file, name) in
        [("in/inbound.db", "inbox-not-checked"), ("out/outbound.db", "outbox-not-checked")]
    {
        let world = World::new();
        let _host = std::os::unix::net::UnixListener::bind(world.data.socket()).unwrap();
        let lock = Connection::open(world.path(file)).unwrap();
        lock.execute_batch("BEGIN EXCLUSIVE;").unwrap();
        let report = report(&world.fsck(&[]));
        assert_eq!(report["host_runs"], true, "{file}");
        let names: Vec<_> =
            report["findings"].as_array().unwrap().iter().map(|found| &found["name"]).collect();
        assert_eq!(names, [name], "{file}");
    }
}

/// Accepting, answering and settling go on in this process while the command looks from another.
#[test]
fn a_session_that_works_is_clean_at_every_look() {
    const LOOKS: usize = 10;
    const ROUNDS: usize = 30;
    let world = World::new();
    let _host = std::os::unix::net::UnixListener::bind(world.data.socket()).unwrap();
    world.host("UPDATE sessions SET next_due_at_ms = 0");
    let (rounds, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let round = rounds.load(Ordering::SeqCst) + 10;
                work_once(&world, &format!("m{round}"), &format!("r{round}"));
                rounds.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut found = Vec::new();
        let mut looks = 0;
        while looks < LOOKS || rounds.load(Ordering::SeqCst) < ROUNDS {
            found.push(report(&world.fsck(&[]))["findings"].clone());
            looks += 1;
            if looks > 1000 {
                break; // the other thread has failed, and the scope says so
            }
        }
        done.store(true, Ordering::SeqCst);
        assert!(found.iter().all(|found| *found == Value::Array(Vec::new())), "{found:?}");
    });
}

fn work_once(world: &World, asked: &str, answer: &str) {
    let before = world.boxes.look(Writers::Possible).unwrap().cursor;
    let accepted = world.boxes.accept(&[message(asked)], before.seen, NOW).unwrap();
    let mut outbox = world.outbox();
    let claims = outbox.claim(&[Claim { message: id(asked), attempt: 0 }], NOW).unwrap();
    let rows = [row(answer, asked)];
    let end = TurnEnd { claims: &claims, outcome: Ok(&rows), turns: 1, continuation: None };
    outbox.end_turn(&end, accepted[0].seq, NOW).unwrap();
    drop(outbox);
    let look = world.boxes.look(Writers::Possible).unwrap();
    let last = look.rows.last().unwrap().0.seq;
    let changes = Changes {
        actions: vec![Action::Complete { message: id(asked) }],
        records: vec![(id(answer), settled(DeliveryStatus::Delivered))],
        cursor: Cursor { seq: last, seen: last },
        ..Changes::default()
    };
    world.boxes.apply(&changes, NOW).unwrap();
}
