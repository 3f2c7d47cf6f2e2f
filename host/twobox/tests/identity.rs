//! A data directory that is found elsewhere: what its host refuses, and what a person may say of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;
use serde_json::Value;
use twobox_app::place;
use twobox_model::dead_letter::HELD;
use twobox_session::boxes::{Boxes, Changes, Writers};
use twobox_shared::ids::{AgentGroupId, MessageId, RunnerId, SessionId, SystemIds};
use twobox_shared::inbox::{
    Cursor, Delivery, DeliveryStatus, Inbox, InboxReader, NewMessage, NewOccurrence, NewTask,
    Origin,
};
use twobox_shared::outbox::{Claim, NewRow, OutboxWriter, TurnEnd};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;
use twobox_store::Store;
use twobox_store::messaging::SessionMode;
use twobox_system::data::DataDir;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// An installation with one session in the middle of things, and room for copies.
struct World {
    dir: tempfile::TempDir,
    data: DataDir,
    group: AgentGroupId,
    session: SessionId,
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

fn task(series: &str, recurrence: Option<&str>) -> NewTask {
    NewTask {
        series: series.to_owned(),
        content: r#"{"text":"look"}"#.into(),
        origin: Origin::default(),
        first: NewOccurrence {
            id: id(&format!("{series}@0.1")),
            nominal: UnixMillis(NOW.0 + 3_600_000),
            recurrence: recurrence.map(str::to_owned),
            zone: None,
            generation: 0,
            paused: false,
        },
    }
}

impl World {
    /// `done` was answered, but neither taken in nor delivered; `half` is claimed and has said
    /// something; `next` waits; `sent` was announced. There are two tasks.
    fn in_the_middle() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::create(&dir.path().join("data")).unwrap();
        let db = Store::create(&data.host_db()).unwrap();
        db.installation().id_or_new(&SystemIds, NOW).wait().unwrap();
        db.agents().add("ann", SessionMode::Shared, &SystemIds, NOW).wait().unwrap();
        let heard = db.wirings().listening("terminal", "ann").wait().unwrap().remove(0);
        let (group, chat) = (heard.agent, heard.messaging_group);
        let session = db
            .sessions()
            .resolve(group, chat, "", SessionId::generate(&SystemIds), NOW)
            .wait()
            .unwrap();
        let runner = RunnerId::generate(&SystemIds);
        db.sessions().record_start(session, runner, NOW).wait().unwrap();
        place::settle(&db, &data, NOW).unwrap();
        db.raw().execute_batch(
            "INSERT INTO notices (session_id, cause, channel_type, platform_id, text, created_at_ms)
             SELECT id, 'start', 'terminal', 'ann', 'I cannot start', 1 FROM sessions;
             INSERT INTO schedules (id, agent_group_id, name, prompt, cadence_kind, cadence_value,
               time_zone, anchor_ms, missed, missed_window_ms, overlap, jitter_ms, next_slot_ms,
               next_due_ms, created_at_ms, updated_at_ms)
             SELECT '0192f000-1111-7000-8000-000000000001', id, 'hourly', 'Hi', 'hourly', '30',
               'UTC', 0, 'latest', 0, 'skip', 0, 1, 1, 1, 1 FROM agent_groups;
             INSERT INTO runs (id, schedule_id, due_ms, trigger, status, prompt, created_at_ms)
             SELECT '0192f000-2222-7000-8000-000000000001', id, 1, 'manual', 'queued', 'Hi', 1
             FROM schedules;",
        )
        .unwrap();
        let world = Self { dir, data, group, session };
        let boxes = world.boxes(&world.data);
        boxes.accept(&["done", "half", "next"].map(message), Seq(0), NOW).unwrap();
        let mut inbox = Inbox::open(&world.paths(&world.data).inbound_db()).unwrap();
        let tx = inbox.write().unwrap();
        tx.begin_series(&task("once", None), Seq(0), NOW).unwrap();
        tx.begin_series(&task("hourly", Some("0 * * * *")), Seq(0), NOW).unwrap();
        tx.commit().unwrap();
        let mut outbox =
            OutboxWriter::open(&world.paths(&world.data).outbound_db(), runner).unwrap();
        let claims = outbox.claim(&[Claim { message: id("done"), attempt: 0 }], NOW).unwrap();
        let rows = [row("r-done", "done"), row("r-sent", "done")];
        let end = TurnEnd { claims: &claims, outcome: Ok(&rows), turns: 1, continuation: None };
        outbox.end_turn(&end, Seq(10), NOW).unwrap();
        let claims = outbox.claim(&[Claim { message: id("half"), attempt: 0 }], NOW).unwrap();
        outbox.send(&claims, &row("r-half", "half"), Seq(10), NOW).unwrap();
        let sending = Delivery {
            status: DeliveryStatus::Sending,
            attempts: 0,
            next_attempt_at: None,
            changed_at: NOW,
            error: None,
            platform_message_id: None,
        };
        let changes = Changes { records: vec![(id("r-sent"), sending)], ..Changes::default() };
        boxes.apply(&changes, NOW).unwrap();
        world
    }

    fn paths(&self, data: &DataDir) -> twobox_shared::paths::SessionPaths {
        data.session_paths(self.group, self.session)
    }

    fn boxes(&self, data: &DataDir) -> Boxes {
        let folder = data.session_folder(self.group, self.session);
        Boxes::new(self.session, &folder, &data.scratch(), 1 << 20)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A copy of the data directory.
    fn copied(&self, how: &[&str]) -> DataDir {
        let to = self.path("copy");
        let status = Command::new("cp").args(how).arg(self.data.root()).arg(&to).status();
        assert!(status.unwrap().success());
        DataDir::open(&to).unwrap()
    }

    fn inbox<T: rusqlite::types::FromSql>(&self, data: &DataDir, sql: &str) -> T {
        let db = Connection::open(self.paths(data).inbound_db()).unwrap();
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

fn twobox(data: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twobox"))
        .arg("--data")
        .arg(data)
        .args(arguments)
        .env_remove("TWOBOX_DATA")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[track_caller]
fn succeeds(data: &Path, arguments: &[&str]) -> Value {
    let output = twobox(data, &[&["--json"], arguments].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(data: &Path, arguments: &[&str]) -> String {
    let output = twobox(data, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = if arguments == ["up"] { 78 } else { 1 }; // a manager is not to start it again
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    errors
}

fn host<T: rusqlite::types::FromSql>(data: &DataDir, sql: &str) -> T {
    let db = Connection::open(data.host_db()).unwrap();
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn no_command_changes_a_directory_that_is_elsewhere_and_each_that_looks_warns() {
    let world = World::in_the_middle();
    let copy = world.copied(&["-a"]);
    let root = copy.root();
    let session = world.session.to_string();
    let changes: &[&[&str]] = &[
        &["up"],
        &["init"],
        &["agents", "add", "bob"],
        &["agents", "remove", "ann"],
        &["wire", "add", "ann", "command", "42"],
        &["wire", "remove", "ann", "terminal", "ann"],
        &["schedules", "add", "daily", "--agent", "ann", "--prompt", "Hi", "--daily", "05:00"],
        &["schedules", "edit", "hourly", "--prompt", "Ho"],
        &["schedules", "pause", "hourly"],
        &["schedules", "resume", "hourly"],
        &["schedules", "remove", "hourly"],
        &["schedules", "backfill", "hourly", "--from", "2023-01-01T00:00:00Z"],
        &["sessions", "fsck", "--repair"],
    ];
    let before: i64 = host(&copy, "SELECT count(*) FROM agent_groups WHERE removed_at_ms IS NULL");
    for command in changes {
        let said = refused(root, command);
        // What else `up` finds to mend before it is its own line.
        let reasons = said.lines().filter(|line| line.starts_with("twobox: ")).count();
        assert_eq!(reasons, 1, "{said}");
        for word in ["init --moved", "init --copy", world.data.root().to_str().unwrap()] {
            assert!(said.contains(word), "{command:?} says {word}: {said}");
        }
    }
    let after: i64 = host(&copy, "SELECT count(*) FROM agent_groups WHERE removed_at_ms IS NULL");
    assert_eq!(after, before);
    let looks: &[&[&str]] = &[
        &["agents", "list"],
        &["agents", "show", "ann"],
        &["wire", "list"],
        &["sessions", "list"],
        &["sessions", "show", &session],
        &["sessions", "tail", &session],
        &["sessions", "tasks", &session],
        &["sessions", "fsck"],
        &["schedules", "list"],
        &["schedules", "show", "hourly"],
        &["schedules", "runs"],
        &["schedules", "metrics"],
        &["dead", "list"],
    ];
    for command in looks {
        let output = twobox(root, command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("warning: ") && said.contains("init --copy"), "{command:?}: {said}");
        let here = twobox(world.data.root(), command);
        let said = String::from_utf8_lossy(&here.stderr);
        assert!(!said.contains("warning"), "at home, {command:?}: {said}");
    }
    let doctor = twobox(root, &["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(said.contains("FAIL  identity"), "{said}");
}

#[test]
fn a_copy_gets_an_id_of_its_own_and_holds_what_was_open() {
    let world = World::in_the_middle();
    let copy = world.copied(&["-a"]);
    std::fs::write(copy.api_token(), "ab".repeat(32)).unwrap();
    let answer = succeeds(copy.root(), &["init", "--copy"]);
    let copied = &answer["copied"];
    assert_eq!(copied["held"]["messages"], 2, "half and next: {answer}");
    assert_eq!(copied["held"]["letters"], 3, "of done, announced, of half: {answer}");
    assert_eq!(copied["held"]["tasks"], 2, "{answer}");
    for what in ["notices", "schedules", "runs"] {
        assert_eq!(copied[what], 1, "{what}: {answer}");
    }
    let original: String = host(&world.data, "SELECT install_id FROM install");
    let fresh: String = host(&copy, "SELECT install_id FROM install");
    assert_eq!(
        (copied["original"].as_str(), copied["install_id"].as_str()),
        (Some(original.as_str()), Some(fresh.as_str()))
    );
    assert_ne!(original, fresh);
    assert_ne!(std::fs::read_to_string(copy.api_token()).unwrap().trim(), "ab".repeat(32));

    let runner: Option<String> = host(&copy, "SELECT runner_id FROM sessions");
    assert_eq!(runner, None, "nobody is waited for");
    let schedule: String = host(&copy, "SELECT pause_reason FROM schedules WHERE enabled = 0");
    assert!(schedule.contains("copy") && schedule.contains("resume"), "{schedule}");
    let shown = twobox(copy.root(), &["schedules", "show", "hourly"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("this is a copy"), "{shown}");
    let run: String = host(&copy, "SELECT status || ' ' || reason FROM runs");
    assert_eq!(run, "cancelled paused");
    let audit: String = host(&copy, "SELECT action FROM audit ORDER BY id DESC LIMIT 1");
    assert_eq!(audit, "copied");

    let status = |which: &str| {
        let sql = format!("SELECT status FROM messages_in WHERE id = '{which}'");
        world.inbox::<String>(&copy, &sql)
    };
    let statuses = ["done", "half", "next", "once@0.1", "hourly@0.1"].map(status);
    assert_eq!(statuses, ["completed", "failed", "failed", "paused", "paused"]);
    let half = "SELECT tries * 10 + forgiven FROM messages_in WHERE id = 'half'";
    assert_eq!(world.inbox::<i64>(&copy, half), 11, "one attempt, held against nobody");
    let outbound = |which: &str| {
        let sql = format!(
            "SELECT status || ' ' || error FROM delivered WHERE message_out_id = '{which}'"
        );
        world.inbox::<String>(&copy, &sql)
    };
    assert_eq!(outbound("r-done"), format!("failed {HELD}"));
    assert_eq!(outbound("r-half"), format!("failed {HELD}"));
    assert_eq!(outbound("r-sent"), format!("uncertain {HELD}"), "nobody knows, as before");

    let dead = succeeds(copy.root(), &["dead", "list"]).to_string();
    for what in ["half", "next", "r-done", "r-sent", "r-half", "notice:start"] {
        assert!(dead.contains(&format!("\"{what}\"")), "{what}: {dead}");
    }
    let clean = twobox(copy.root(), &["sessions", "fsck"]);
    assert!(clean.status.success(), "{}", String::from_utf8_lossy(&clean.stdout));

    let again = refused(copy.root(), &["init", "--copy"]);
    assert!(again.contains("--force"), "it is at home now: {again}");
    let theirs: i64 =
        world.inbox(&world.data, "SELECT count(*) FROM messages_in WHERE status = 'pending'");
    assert_eq!(theirs, 5, "the original is as it was");
}

#[test]
fn a_copy_that_is_interrupted_keeps_its_old_id_until_everything_is_done() {
    let world = World::in_the_middle();
    let copy = world.copied(&["-a"]);
    let original: String = host(&copy, "SELECT install_id FROM install");
    // Each statement of the change fails once, as if the host had died there.
    for (table, event) in [
        ("install", "UPDATE"),
        ("sessions", "UPDATE"),
        ("notices", "UPDATE"),
        ("schedules", "UPDATE"),
        ("runs", "UPDATE"),
        ("audit", "INSERT"),
        ("place", "INSERT"),
    ] {
        let db = Connection::open(copy.host_db()).unwrap();
        db.execute_batch(&format!(
            "CREATE TRIGGER cut BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, 'cut'); END"
        ))
        .unwrap();
        drop(db);
        let said = refused(copy.root(), &["init", "--copy"]);
        assert!(said.contains("cut"), "{table}: {said}");
        Connection::open(copy.host_db()).unwrap().execute_batch("DROP TRIGGER cut").unwrap();
        assert_eq!(host::<String>(&copy, "SELECT install_id FROM install"), original, "{table}");
        let runner: Option<String> = host(&copy, "SELECT runner_id FROM sessions");
        assert!(runner.is_some(), "{table}: all or nothing");
        refused(copy.root(), &["up"]);
    }
    succeeds(copy.root(), &["init", "--copy"]);
    let runner: Option<String> = host(&copy, "SELECT runner_id FROM sessions");
    assert_eq!(runner, None);
    let held: i64 = world.inbox(&copy, "SELECT count(*) FROM messages_in WHERE status = 'paused'");
    assert_eq!(held, 2);
}

#[test]
fn a_task_that_had_just_been_answered_goes_on_paused() {
    let world = World::in_the_middle();
    let copy = world.copied(&["-a"]);
    let mut outbox =
        OutboxWriter::open(&world.paths(&copy).outbound_db(), RunnerId::generate(&SystemIds))
            .unwrap();
    let claims = outbox.claim(&[Claim { message: id("hourly@0.1"), attempt: 0 }], NOW).unwrap();
    let end = TurnEnd { claims: &claims, outcome: Ok(&[]), turns: 1, continuation: None };
    outbox.end_turn(&end, Seq(10), NOW).unwrap();
    drop(outbox);
    let answer = succeeds(copy.root(), &["init", "--copy"]);
    assert_eq!(answer["copied"]["held"]["tasks"], 1, "the other one: {answer}");
    let path = world.paths(&copy).inbound_db();
    let tasks = InboxReader::open(&path).unwrap().tasks(10).unwrap();
    let live: Vec<_> = tasks.iter().filter(|task| task.status.is_live()).collect();
    assert_eq!(live.len(), 2, "{tasks:?}");
    assert!(live.iter().all(|task| task.status.as_str() == "paused"), "{live:?}");
}

#[test]
fn a_session_whose_copy_is_torn_is_put_out_of_use_and_told() {
    let world = World::in_the_middle();
    let copy = world.copied(&["-a"]);
    std::fs::write(world.paths(&copy).inbound_db(), vec![b'x'; 8192]).unwrap();
    let answer = succeeds(copy.root(), &["init", "--copy"]);
    assert_eq!(answer["copied"]["broken"].as_array().unwrap().len(), 1, "{answer}");
    let reason: String = host(&copy, "SELECT quarantine_reason FROM sessions");
    assert!(reason.starts_with("copied: "), "{reason}");
    let fsck = twobox(copy.root(), &["sessions", "fsck"]);
    assert!(String::from_utf8_lossy(&fsck.stdout).contains("inbox-corrupt"));
}

#[test]
fn a_copy_of_hard_links_is_none() {
    let world = World::in_the_middle();
    let copy = world.copied(&["-al"]);
    assert_eq!(copy.host_db().metadata().unwrap().nlink(), 2);
    let said = refused(copy.root(), &["init", "--copy"]);
    assert!(said.contains("hard link") && said.contains("cp -a"), "{said}");
    let pending: i64 =
        world.inbox(&copy, "SELECT count(*) FROM messages_in WHERE status = 'pending'");
    assert_eq!(pending, 5, "nothing was touched");
}

#[test]
fn a_move_is_believed_when_the_old_directory_is_gone() {
    let world = World::in_the_middle();
    let copy = world.copied(&["-a"]);
    let old = world.data.root().to_owned();
    let lock = world.data.lock().unwrap();
    let said = refused(copy.root(), &["init", "--moved"]);
    assert!(said.contains(&format!("process {}", std::process::id())), "its host runs: {said}");
    drop(lock);
    let said = refused(copy.root(), &["init", "--moved"]);
    assert!(said.contains("same id") && said.contains("init --copy"), "{said}");

    std::fs::rename(&old, world.path("aside")).unwrap();
    let answer = succeeds(copy.root(), &["init", "--moved"]);
    assert_eq!(answer["moved"]["from"], old.to_str().unwrap());
    assert_eq!(answer["moved"]["runners"], 1, "of the files that were left: {answer}");
    let stop: String = host(&copy, "SELECT stop_requested FROM sessions");
    assert_eq!(stop, "host", "which is forgiven");
    succeeds(copy.root(), &["agents", "add", "bob"]);
    let aside = DataDir::open(&world.path("aside")).unwrap();
    succeeds(aside.root(), &["agents", "add", "bob"]); // a directory that was renamed is the same

    let nothing = succeeds(copy.root(), &["init", "--moved"]);
    assert_eq!(nothing["moved"]["from"], Value::Null);
    let enabled: i64 = host(&copy, "SELECT enabled FROM schedules");
    assert_eq!(enabled, 1, "everything goes on");
}

#[test]
fn another_installation_where_the_old_one_was_is_in_nobodys_way() {
    let world = World::in_the_middle();
    let copy = world.copied(&["-a"]);
    let old = world.data.root().to_owned();
    std::fs::remove_dir_all(&old).unwrap();
    let output = twobox(&old, &["init", "--runtime", "process"]);
    assert!(output.status.success());
    succeeds(copy.root(), &["init", "--moved"]);
}

#[test]
fn a_restored_directory_in_the_old_place_asks_and_goes_on() {
    let world = World::in_the_middle();
    let copy = world.copied(&["-a"]);
    let place = world.data.root();
    std::fs::remove_dir_all(place).unwrap();
    std::fs::rename(copy.root(), place).unwrap();
    let said = refused(place, &["agents", "add", "bob"]);
    assert!(said.contains("init --moved"), "{said}");
    succeeds(place, &["init", "--moved"]);
    succeeds(place, &["agents", "add", "bob"]);
}

#[test]
fn an_installation_of_an_older_version_is_asked_nothing() {
    let world = World::in_the_middle();
    Connection::open(world.data.host_db()).unwrap().execute_batch("DELETE FROM place").unwrap();
    let root = world.data.root();
    succeeds(root, &["agents", "add", "bob"]);
    assert_eq!(host::<i64>(&world.data, "SELECT count(*) FROM place"), 0);
    succeeds(root, &["init"]);
    assert_eq!(host::<i64>(&world.data, "SELECT count(*) FROM place"), 1, "from now on");
    // A clone of the whole machine looks like this, and a person knows better.
    refused(root, &["init", "--copy"]);
    succeeds(root, &["init", "--copy", "--force"]);
}

#[test]
fn an_outbox_with_many_outbounds_is_held_to_its_end() {
    let world = World::in_the_middle();
    let copy = world.copied(&["-a"]);
    let db = Connection::open(world.paths(&copy).outbound_db()).unwrap();
    db.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO messages_out (id, seq, timestamp, kind, content)
         SELECT 'x' || i, 1001 + 2 * i, '2027-01-15T08:00:00.000Z', 'chat', '{}' FROM n;",
    )
    .unwrap();
    drop(db);
    let answer = succeeds(copy.root(), &["init", "--copy"]);
    assert_eq!(answer["copied"]["held"]["letters"], 3003, "{answer}");
    let look = world.boxes(&copy).look(Writers::None).unwrap();
    assert!(look.rows.iter().all(|(_, record)| record.is_some()), "none is left to be sent");
    assert_eq!(look.cursor, Cursor { seq: Seq(7001), seen: Seq(7001) });
    let again = world.boxes(&copy).hold(NOW).unwrap();
    assert_eq!(again, twobox_session::held::Held::default(), "twice is once");
}
