//! The runner's life around its turns: lock, heartbeat, idleness, and files in a bad state.

use std::process::Command;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use twobox_shared::ids::{RunnerId, SystemIds};
use twobox_shared::outbox::{AckStatus, OutboxWriter};

use crate::session::{Session, accept_in, leave_hot_journal, message, wait_for};

#[test]
fn a_second_runner_on_one_session_leaves() {
    let session = Session::new();
    session.say("m1", "x");
    let first = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    let mut second = session.start();
    let (code, stderr) = second.end();
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("another runner") && stderr.contains("runner.lock"), "{stderr}");
    first.stop();
}

#[test]
fn an_idle_runner_leaves_by_itself() {
    let session = Session::new();
    session.say("m1", "x");
    let mut runner = session.start_with(&["--idle-ms", "200"]);
    let (code, stderr) = runner.end();
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(session.ack("m1").unwrap().status, AckStatus::Completed);
}

#[test]
fn the_heartbeat_moves_while_nothing_happens() {
    let session = Session::new();
    let runner = session.start_with(&["--heartbeat-ms", "30"]);
    let beat = || std::fs::metadata(session.paths.heartbeat()).ok()?.modified().ok();
    let first: SystemTime = wait_for("the first beat", beat);
    let later = wait_for("a later beat", || beat().filter(|beat| *beat > first));
    assert!(later.duration_since(first).unwrap() < Duration::from_secs(10));
    runner.stop();
}

#[test]
fn a_commit_that_a_killed_runner_left_is_rolled_back_at_start() {
    let session = Session::new();
    let path = session.paths.outbound_db();
    drop(OutboxWriter::open(&path, RunnerId::generate(&SystemIds)).unwrap());
    leave_hot_journal(&path);
    let journal = session.paths.out_dir().join("outbound.db-journal");
    assert!(journal.exists(), "the test left a journal");
    session.say("m1", "x");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    assert!(!journal.exists());
    assert_eq!(session.texts(), ["echo: x"], "and nothing of the transaction");
    runner.stop();
}

#[test]
fn databases_in_wal_mode_are_refused() {
    let wal = |path: &std::path::Path| {
        let conn = Connection::open(path).unwrap();
        conn.pragma_update(None, "journal_mode", "WAL").unwrap();
        conn.execute_batch("CREATE TABLE x (y); DROP TABLE x").unwrap();
    };
    for name in ["outbound.db", "inbound.db"] {
        let session = Session::new();
        session.say("m1", "x");
        match name {
            "outbound.db" => wal(&session.paths.outbound_db()),
            _ => wal(&session.paths.inbound_db()),
        }
        let (code, stderr) = session.start().end();
        assert_eq!(code, Some(65), "{name}: {stderr}");
        assert!(stderr.contains(name) && stderr.contains("WAL"), "{stderr}");
    }
}

#[test]
fn an_inbox_that_stays_corrupt_ends_the_runner() {
    let session = Session::new();
    std::fs::write(session.paths.inbound_db(), "no database at all ".repeat(100)).unwrap();
    let (code, stderr) = session.start().end();
    assert_eq!(code, Some(65), "{stderr}");
    assert!(stderr.contains("not a database"), "{stderr}");
}

#[test]
fn an_inbox_that_comes_late_is_waited_for() {
    let session = Session::without_inbox();
    let mut runner = session.start();
    wait_for("the outbox", || session.paths.outbound_db().exists().then_some(()));
    assert!(runner.running());
    session.accept(&[message("m1", "late")]);
    session.wait_ack("m1", AckStatus::Completed);
    runner.stop();
}

#[test]
fn a_polling_runner_answers_too() {
    let session = Session::new();
    let runner = session.start_with(&["--poll-ms", "20"]);
    session.say("m1", "x");
    session.wait_ack("m1", AckStatus::Completed);
    runner.stop();
}

#[test]
fn an_inbox_that_changes_without_file_events_is_polled_in_the_end() {
    let session = Session::new();
    session.say("m0", "x");
    let runner = session.start_with(&["--heartbeat-ms", "100"]);
    session.wait_ack("m0", AckStatus::Completed);
    // The kernel tells of what is done in a folder, not of what is done to the same file in another.
    let elsewhere = session.folder("elsewhere.db");
    std::fs::hard_link(session.paths.inbound_db(), &elsewhere).unwrap();
    // What the look after a turn finds by itself says nothing about announcements.
    let mut number = 0;
    wait_for("the runner to lose its faith", || {
        number += 1;
        let name = format!("m{number}");
        accept_in(&elsewhere, &[message(&name, "x")]);
        session.wait_ack(&name, AckStatus::Completed);
        runner.stderr().contains("polled from now on").then_some(())
    });
    let stderr = runner.stop();
    assert_eq!(stderr.matches("polled from now on").count(), 1, "{stderr}");
}

#[test]
fn a_runner_whose_folder_is_gone_leaves_at_once() {
    let moved = |session: &Session, name: &str| {
        std::fs::rename(session.folder(name), session.folder("old")).unwrap();
    };
    type Change = fn(&dyn Fn(&str), &Session);
    let cases: [(&str, &str, Change); 4] = [
        ("in", "moved away", |moved, _| moved("in")),
        ("in", "was deleted", |_, session| {
            std::fs::remove_dir_all(session.folder("in")).unwrap();
        }),
        ("out", "moved away", |moved, _| moved("out")),
        ("out", "replaced", |moved, session| {
            moved("out");
            std::fs::create_dir(session.folder("out")).unwrap();
        }),
    ];
    for (name, how, change) in cases {
        let session = Session::new();
        session.say("m1", "x");
        // What happens to the inbox is announced, what happens to the outbox seen at a heartbeat.
        let heartbeat = if name == "in" { "60000" } else { "50" };
        let mut runner = session.start_with(&["--heartbeat-ms", heartbeat]);
        session.wait_ack("m1", AckStatus::Completed);
        change(&|name| moved(&session, name), &session);
        let (code, stderr) = runner.end();
        assert_eq!(code, Some(72), "{name} {how}: {stderr}");
        assert!(stderr.contains(how) && stderr.contains("this process leaves"), "{how}: {stderr}");
        assert!(!session.folder("out").join("heartbeat").exists() || name == "in", "{how}");
    }
}

#[test]
fn a_runner_whose_folder_is_gone_leaves_in_the_middle_of_a_turn() {
    let session = Session::new();
    session.program_file("agent.sh", "echo $$ >\"$HOME/pid\"; exec sleep 600");
    session.configure(r#"{"provider": "command", "command": ["sh", "agent.sh"]}"#);
    session.say("m1", "x");
    let mut runner = session.start_with(&["--heartbeat-ms", "50"]);
    let pid: i32 = wait_for("the program", || {
        std::fs::read_to_string(session.folder("work").join("pid")).ok()?.trim().parse().ok()
    });
    std::fs::remove_dir_all(session.folder("out")).unwrap();
    let (code, stderr) = runner.end();
    assert_eq!(code, Some(72), "{stderr}");
    let proc = format!("/proc/{pid}/stat");
    wait_for("its program to be gone", || {
        std::fs::read_to_string(&proc).map_or(true, |stat| stat.contains(") Z ")).then_some(())
    });
}

#[test]
fn a_runner_that_can_read_or_write_nothing_leaves_after_its_idle_time() {
    type Break = fn(&Session);
    let cases: [(&str, Break); 2] = [
        ("the inbox cannot be read", |session| {
            std::fs::remove_file(session.paths.inbound_db()).unwrap();
        }),
        ("the outbox cannot be written", |session| {
            let conn = Connection::open(session.paths.outbound_db()).unwrap();
            conn.execute_batch(
                "CREATE TRIGGER no BEFORE INSERT ON processing_ack
                 BEGIN SELECT RAISE(ABORT, 'no claims today'); END",
            )
            .unwrap();
            drop(conn);
            session.say("m2", "x");
        }),
    ];
    for (case, spoil) in cases {
        let session = Session::new();
        session.say("m1", "x");
        let mut runner = session.start_with(&["--idle-ms", "400", "--heartbeat-ms", "30"]);
        session.wait_ack("m1", AckStatus::Completed);
        spoil(&session);
        let (code, stderr) = runner.end();
        assert_eq!(code, Some(74), "{case}: {stderr}");
        assert!(stderr.contains("400 ms, the idle time"), "{case}: {stderr}");
    }
}

#[test]
fn a_confined_runner_serves_its_session_and_reaches_nothing_else() {
    const PROGRAM: &str = r#"read line
        try() { if (echo x > "$1") 2>&-; then echo "$2 written"; else echo "$2 denied"; fi; }
        found="$(try ../in/x in), $(try ../beside beside), $(try x here), $(try ../out/x out)"
        found="$found, $(try "$HOME/x" home), $(try "$TMPDIR/x" tmp), $(try ../agent/x shared)"
        found="$found, $(cat ../agent/note 2>&- || echo no note)"
        echo "{\"type\": \"reply\", \"text\": \"$found\"}"
        echo '{"type": "turn_done"}'"#;
    for (access, shared) in [
        ("rw", "shared written, a note"),
        ("ro", "shared denied, a note"),
        ("none", "shared denied, no note"),
    ] {
        let session = Session::new();
        session.program_file("agent.sh", PROGRAM);
        std::fs::write(session.folder("agent").join("note"), "a note").unwrap();
        session.configure(r#"{"provider": "command", "command": ["sh", "agent.sh"]}"#);
        session.say("m1", "x");
        let runner = session.start_with(&["--confine", "--shared-folder", access]);
        session.wait_ack("m1", AckStatus::Completed);
        let found = session.texts().remove(0);
        let stderr = runner.stop();
        // A kernel without Landlock is reported, and that is all that can be shown on it.
        if !stderr.contains("not confined") {
            let others =
                "in denied, beside denied, here denied, out written, home written, tmp written";
            assert_eq!(found, format!("{others}, {shared}"), "{access}: {stderr}");
        }
    }
}

#[test]
fn wrong_use_is_one_clear_line() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_agent-runner")).args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, stderr) = run(&["--nonsense"]);
    assert_eq!((code, stderr.lines().count()), (Some(2), 1));
    assert!(stderr.contains("--nonsense"), "{stderr}");
    let (code, stdout, _) = run(&["--version"]);
    assert_eq!(
        (code, stdout.trim()),
        (Some(0), concat!("agent-runner ", env!("CARGO_PKG_VERSION")))
    );
    assert!(run(&["--help"]).1.contains("--grace-ms"));
}
