//! `twobox schedules` with the real binary on a real data directory, without a daemon.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use twobox_shared::ids::{HostId, MessageId, RunId, SessionId, SystemIds};
use twobox_shared::time::UnixMillis;
use twobox_slots::reason::Reason;
use twobox_store::Store;
use twobox_store::schedules::{
    self, Claimed, End, Finished, Load, RunOutcome, Schedule, SelfPause, SlotClaim, SlotFate,
    SlotRow, Start, Streaks, Verdict,
};

struct World {
    _dir: tempfile::TempDir,
    data: PathBuf,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let world = World { _dir: dir, data };
    world.twobox(&["init", "--runtime", "process"]);
    world
}

impl World {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twobox"));
        command
            .args(arguments)
            .env("TWOBOX_DATA", &self.data)
            .env("TZ", "UTC")
            .env("DOCKER_HOST", "unix:///nonexistent.sock")
            .stdin(Stdio::null());
        command
    }

    fn twobox(&self, arguments: &[&str]) -> String {
        told(&self.command(arguments).output().unwrap())
    }

    fn schedules(&self, arguments: &[&str]) -> String {
        self.twobox(&[&["schedules"], arguments].concat())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.twobox(&[&["--json", "schedules"], arguments].concat())).unwrap()
    }

    /// The one line on standard error of a command that is refused with `code`.
    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.command(&[&["schedules"], arguments].concat()).output().unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{line}");
        assert_eq!(line.trim_end().lines().count(), 1, "{line}");
        line
    }

    fn add(&self, name: &str, more: &[&str]) -> String {
        let add = ["add", name, "--agent", "assistant", "--prompt", "Write the report."];
        self.schedules(&[&add, more].concat())
    }

    fn db(&self) -> Store {
        Store::create(&data_file(&self.data)).unwrap()
    }

    /// What becomes of the next slot of a schedule, by the statements that the host uses.
    fn claim(&self, name: &str, fate: SlotFate) -> RunId {
        let db = self.db();
        let schedule = db.schedules().find(name).wait().unwrap().unwrap();
        let slot = schedule.next.unwrap().slot;
        let id = RunId::generate(&SystemIds);
        let open = db.runs().open_of(schedule.id).wait().unwrap().rows;
        let open: Vec<RunId> = open.iter().map(|run| run.id).collect();
        let last = match fate {
            SlotFate::Missed { last_slot, .. } => last_slot,
            SlotFate::Run | SlotFate::Skipped(_) => slot,
        };
        let next = UnixMillis(last.0 + 3_600_000);
        let claim = SlotClaim {
            schedule: schedule.id,
            revision: schedule.revision,
            slot,
            open: open.clone(),
            rows: vec![SlotRow { id, slot, due: slot, fate }],
            replaces: Vec::new(),
            next: Some(schedules::Next { slot: next, due: next }),
            now: slot,
        };
        let claimed = db.schedules().claim_slot(claim).wait().unwrap();
        assert_eq!(claimed, Claimed::Done { already: vec![] });
        id
    }

    /// Fires the next slot of a schedule and lets its run fail.
    fn fail(&self, name: &str, reason: Reason, error: &str, verdict: &Verdict) {
        self.end(name, RunOutcome::Failed { reason, error: error.to_owned() }, None, verdict);
    }

    /// Fires the next slot of a schedule and lets its run end so.
    fn end(&self, name: &str, outcome: RunOutcome, output: Option<&str>, verdict: &Verdict) {
        let run = self.claim(name, SlotFate::Run);
        let db = self.db();
        let owner = HostId::generate(&SystemIds);
        let now = UnixMillis(db.runs().find(run).wait().unwrap().unwrap().due.0 + 1000);
        let start = Start {
            owner,
            now,
            lease_ms: 60_000,
            session: SessionId::generate(&SystemIds),
            message: MessageId::parse("m").unwrap(),
        };
        let forced = schedules::Capacity::Forced { actor: "the test".to_owned() };
        db.runs().start(run, forced, start).wait().unwrap();
        let end = End {
            outcome,
            turns: Some(3),
            output: output.map(str::to_owned),
            load: Load::default(),
            now,
        };
        let told = verdict.clone();
        let judge = move |_: &Schedule, _: &schedules::Run| told;
        let finished = db.runs().finish(run, owner, end, judge).wait().unwrap();
        let Finished::Done { paused, .. } = finished else { panic!("{finished:?}") };
        assert_eq!(paused.is_some(), verdict.pause.is_some());
    }
}

fn data_file(data: &Path) -> PathBuf {
    data.join("host.db")
}

fn told(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Whether `text` has each of `lines`, whatever stands around them.
#[track_caller]
fn says(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
}

#[test]
fn a_schedule_is_added_with_every_flag_and_says_when_it_fires() {
    let world = world();
    let flags = [
        "--weekly",
        "sunday@02:30",
        "--timezone",
        "Europe/Berlin",
        "--max-turns",
        "20",
        "--max-run",
        "10m",
        "--missed",
        "all",
        "--missed-window",
        "6h",
        "--overlap",
        "queue",
        "--jitter",
        "5m",
        "--not-before",
        "2100-01-01T00:00:00Z",
        "--not-after",
        "2100-12-31T00:00:00Z",
        "--max-runs",
        "3",
    ];
    let added = world.add("report", &flags);
    says(&added, &["added report: every Sunday at 02:30 (Europe/Berlin), agent assistant"]);
    assert_eq!(added.matches("T02:30:00+01:00").count(), 3, "as often as it may run: {added}");
    let shown = world.json(&["show", "report"]);
    let schedule = &shown["schedule"];
    let expected = json!({
        "name": "report", "agent": "assistant", "prompt": "Write the report.", "state": "enabled",
        "cadence":
            {"kind": "weekly", "value": "sunday@02:30", "text": "every Sunday at 02:30"},
        "time_zone": "Europe/Berlin", "session": null, "max_turns": 20, "max_run_sec": 600,
        "missed": "all", "missed_window_sec": 21600, "overlap": "queue", "jitter_sec": 300,
        "not_before": "2100-01-01T01:00:00+01:00", "not_after": "2100-12-31T01:00:00+01:00",
        "max_runs": 3, "fired": 0, "revision": 1, "next_slot": "2100-01-03T02:30:00+01:00",
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&schedule[field], value, "{field}");
    }
    assert_eq!(shown["next"][2]["slot"], "2100-01-17T02:30:00+01:00");
    let short =
        json!([{ "type": "short_missed_window", "period_sec": 604_800, "window_sec": 21_600 }]);
    assert_eq!((&shown["warnings"], &shown["runs"]), (&short, &json!([])));
}

#[test]
fn each_kind_of_cadence_has_its_flag_and_a_prompt_may_come_from_standard_input() {
    let world = world();
    let cases = [
        ("--cron", "30 2 * * mon-fri", "cron 30 2 * * mon-fri"),
        ("--daily", "23:30", "every day at 23:30"),
        ("--weekdays", "9:00", "every day from Monday to Friday at 09:00"),
        ("--weekly", "sun@23:30", "every Sunday at 23:30"),
        ("--hourly", "5", "every hour at minute 5"),
        ("--every", "90m", "every 1h 30m"),
        ("--at", "2100-01-01T00:00:00+01:00", "once at 2099-12-31T23:00:00+00:00"),
    ];
    for (flag, value, text) in cases {
        says(&world.add(&flag[2..], &[flag, value]), &[text]);
    }
    let list = world.schedules(&["list"]);
    assert_eq!(list.lines().count(), 1 + cases.len(), "one line each: {list}");
    assert_eq!(world.json(&["list", "--agent", "assistant"])["schedules"][0]["name"], "at");
    let add = ["add", "long", "--agent", "assistant", "--prompt", "-", "--daily", "01:00"];
    let from_input = |text: &str| {
        let mut command = world.command(&[&["schedules"], &add[..]].concat());
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let too_long = from_input(&"x".repeat(64 * 1024 + 1));
    assert_eq!(too_long.status.code(), Some(2));
    says(&String::from_utf8_lossy(&too_long.stderr), &["--prompt: is ", "at most 65536"]);
    told(&from_input("One.\nTwo.\n"));
    assert_eq!(world.json(&["show", "long"])["schedule"]["prompt"], "One.\nTwo.\n");
}

#[test]
fn every_mistake_names_its_flag_and_stores_nothing() {
    let world = world();
    world.twobox(&["agents", "add", "bob"]);
    let add = |name, flags: &[&str]| {
        let add = ["add", name, "--agent", "assistant", "--prompt", "Report."];
        world.refused(&[&add, flags].concat(), 2)
    };
    let daily = ["--daily", "01:00"];
    let with = |flag, value| add("report", &[&daily[..], &[flag, value]].concat());
    let cases = [
        (add("a b", &daily), "NAME: \"a b\" contains other characters"),
        (add("report", &[]), "--every, --at or --in: say how often"),
        (add("report", &["--daily", "25:00"]), "--daily: \"25:00\" is not a time of day"),
        (add("report", &["--cron", "0 0 31 2 *"]), "--cron: cron expression"),
        (add("report", &["--every", "5s"]), "--every: every 5s is too often"),
        (add("report", &["--at", "2001-01-01T00:00:00Z"]), "--at: once at 2001"),
        (
            with("--timezone", "Berlin"),
            "--timezone: there is no time zone \"Berlin\": is it Europe",
        ),
        (with("--session", "f00"), "--session: there is no session \"f00\""),
        (with("--max-turns", "-1"), "--max-turns: -1 is not allowed: use 1 to"),
        (with("--max-run", "0"), "--max-run: 0 is not allowed: use 1 to"),
        (with("--missed", "some"), "--missed: \"some\" is unknown: use one of skip, latest, all"),
        (with("--missed-window", "9000h"), "--missed-window: 32400000 is not allowed"),
        (with("--overlap", "all"), "--overlap: \"all\" is unknown: use one of skip, queue"),
        (with("--jitter", "24h"), "--jitter: 1day is not less than the 1day"),
        (with("--not-before", "monday"), "--not-before: \"monday\" is not an instant"),
        (
            with("--not-after", "2001-01-01T00:00:00Z"),
            "--not-after: every day at 01:00 has no slot",
        ),
        (with("--max-runs", "0"), "--max-runs: 0 is not allowed"),
        (world.refused(&["list", "--agent", "carl"], 2), "there are: assistant, bob"),
        (world.refused(&["show", "x"], 1), "there are none yet"),
    ];
    for (line, expected) in &cases {
        says(line, &[expected]);
    }
    assert_eq!(world.json(&["list"])["schedules"], json!([]));
    world.add("report", &daily);
    let add = ["add", "report", "--agent", "bob", "--prompt", "x", "--daily", "1:00"];
    says(&world.refused(&add, 1), &["already a schedule \"report\""]);
    says(&world.refused(&["edit", "report"], 2), &["say what to change"]);
    let both = ["edit", "report", "--max-turns", "3", "--clear", "max-turns"];
    says(&world.refused(&both, 2), &["--clear max-turns: --max-turns is given too"]);
    let rename = ["edit", "report", "--name", "a/b"];
    says(&world.refused(&rename, 2), &["--name: \"a/b\" contains"]);
    let future = ["backfill", "report", "--from", "2100-01-01T00:00:00Z"];
    says(&world.refused(&future, 2), &["--from: 2100-01-01T00:00:00+00:00 is later than the end"]);
    let future = ["backfill", "report", "--from", "2021-01-01T00:00:00Z", "--to"];
    let future = [&future[..], &["2100-01-01T00:00:00Z"]].concat();
    says(&world.refused(&future, 2), &["--to: 2100-01-01T00:00:00+00:00 has not come yet"]);
    let many = ["backfill", "report", "--from", "2001-01-01T00:00:00Z"];
    says(&world.refused(&many, 2), &["at most 1000 can be asked for"]);
    says(&world.refused(&["runs", "-n", "0"], 2), &["--limit: 0 is not allowed"]);
    let list = world.json(&["list"]);
    assert_eq!(list["schedules"][0]["revision"], 1, "nothing of it changed it");
}

#[test]
fn an_edit_changes_what_it_says_and_can_take_it_back() {
    let world = world();
    world.add("report", &["--daily", "01:00", "--max-turns", "5", "--jitter", "1m"]);
    let edit = ["edit", "report", "--name", "diary", "--max-turns", "9", "--hourly", "7"];
    let changed = world.json(&edit);
    let schedule = &changed["schedule"];
    assert_eq!(
        (&schedule["name"], &schedule["max_turns"], &schedule["jitter_sec"], &schedule["revision"]),
        (&json!("diary"), &json!(9), &json!(60), &json!(2))
    );
    assert!(schedule["turns_edited_at"].is_string(), "{schedule}");
    let all = [
        "timezone",
        "session",
        "max-turns",
        "max-run",
        "missed",
        "missed-window",
        "overlap",
        "jitter",
        "not-before",
        "not-after",
        "max-runs",
    ];
    let clear: Vec<&str> = all.iter().flat_map(|what| ["--clear", what]).collect();
    let cleared = world.json(&[&["edit", "diary"], &clear[..]].concat());
    let schedule = &cleared["schedule"];
    assert_eq!((&schedule["max_turns"], &schedule["jitter_sec"]), (&json!(null), &json!(0)));
    assert_eq!(schedule["cadence"]["value"], "7");
}

#[test]
fn show_tells_why_a_schedule_does_not_run_and_what_to_do() {
    let world = world();
    for name in ["idle", "skipped", "missed", "failed", "over", "waits"] {
        world.add(name, &["--hourly", "0", "--max-runs", "9"]);
    }
    world.claim("waits", SlotFate::Run);
    for _ in 0..11 {
        world.claim("waits", SlotFate::Skipped(Reason::Overlap));
    }
    says(&world.schedules(&["show", "waits"]), &["now       a run waits for its turn"]);
    world.schedules(&["pause", "waits"]); // with it, what its cadence made is cancelled
    says(&world.schedules(&["runs", "waits"]), &["the schedule was paused"]);
    let hours = ["--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T01:00:00Z"];
    world.schedules(&[&["backfill", "waits"], &hours[..]].concat());
    says(
        &world.schedules(&["show", "waits"]),
        &["now       2 runs wait for their turn", "`twobox up`", "`twobox schedules resume waits`"],
    );
    says(&world.schedules(&["show", "idle"]), &["state     enabled", "`twobox up`"]);
    world.schedules(&["pause", "idle", "--reason", "on holiday"]);
    says(
        &world.schedules(&["show", "idle"]),
        &["state     paused: on holiday\n", "`twobox schedules resume idle`"],
    );
    world.claim("skipped", SlotFate::Skipped(Reason::Overlap));
    says(
        &world.schedules(&["show", "skipped"]),
        &["skipped  an earlier run had not ended", "edit skipped --overlap queue`"],
    );
    world.schedules(&["edit", "skipped", "--overlap", "queue"]);
    let queues = world.schedules(&["show", "skipped"]);
    says(&queues, &["edit skipped --overlap allow`"]);
    assert!(!queues.contains("--overlap queue"), "{queues}");
    let slot = world.db().schedules().find("missed").wait().unwrap().unwrap().next.unwrap().slot;
    let last_slot = UnixMillis(slot.0 + 7_200_000);
    world.claim("missed", SlotFate::Missed { reason: Reason::Window, count: 3, last_slot });
    says(
        &world.schedules(&["show", "missed"]),
        &["missed (3 slots)", "too late for the missed window", "backfill missed --from 20"],
    );
    let failures = |failures, pause: Option<&str>| Verdict {
        streaks: Streaks { breaches: 0, failures },
        pause: pause.map(self_pause),
        news: None,
    };
    world.fail("failed", Reason::AuthFailed, "401 \x1b[2J", &failures(2, None));
    says(
        &world.schedules(&["show", "failed"]),
        &["in a row  2 failures (3 pause it)", "failed, 3 turns", "credentials: 401 \\u{1b}[2J"],
    );
    world.fail("failed", Reason::Timeout, "", &failures(3, Some("3 runs in a row failed")));
    says(
        &world.schedules(&["show", "failed"]),
        &[": 3 runs in a row failed", "mend what made the last runs fail, then", "--max-run SECS`"],
    );
    let breaches = Verdict {
        streaks: Streaks { breaches: 5, failures: 0 },
        pause: Some(self_pause("too many turns")),
        news: None,
    };
    world.fail("over", Reason::TurnLimitExceeded, "", &breaches);
    says(&world.schedules(&["show", "over"]), &["edit over --max-turns N`, or ask for less, then"]);
    let metrics = world.json(&["metrics", "over", "--since", "2021-01-01T00:00:00Z"]);
    assert_eq!(metrics["metrics"][0]["reason"], "turn_limit_exceeded");
    assert_eq!(metrics["metrics"].as_array().unwrap().len(), 1);
    for since in ["18000d", "2021-01-01T00:00", "2021-01-01T01:00:00+01:00"] {
        assert_eq!(world.json(&["metrics", "over", "--since", since]), metrics, "{since}");
    }
    let later = world.json(&["metrics", "over", "--since", "2100-01-01T00:00"]);
    assert_eq!(later["metrics"], json!([]));
    says(&world.refused(&["metrics", "--since", "soon"], 2), &["--since: ", "12h"]);
    says(&world.refused(&["metrics", "--since", "90000d"], 2), &["--since: is before 1970"]);
    let costs = ["metrics", "--since", "2021-01-01T00:00:00Z", "-n", "1"];
    let newest = world.json(&costs);
    let before = newest["next_before"].as_str().unwrap();
    says(&world.schedules(&costs), &[&format!("older ones: --before {before}")]);
    let older = world.json(&[&costs[..], &["--before", before]].concat());
    assert_ne!(older["metrics"][0]["run"], newest["metrics"][0]["run"]);
    let list = world.schedules(&["list"]);
    says(&list, &["missed (3 slots)", "failed, 3 turns"]);
    assert_eq!(world.json(&["runs", "failed"])["runs"][0]["reason"], "timeout");
    says(&world.schedules(&["resume", "failed"]), &["resumed failed", "next      20"]);
    world
        .db()
        .raw()
        .execute(
            "UPDATE schedules SET fired = 9, next_slot_ms = NULL, next_due_ms = NULL
         WHERE name = 'skipped'",
            [],
        )
        .unwrap();
    says(&world.schedules(&["show", "skipped"]), &["over: no slot is left", "or --max-runs"]);
}

#[test]
fn a_backfill_queues_the_past_and_removing_cancels_it() {
    let world = world();
    world.add("report", &["--daily", "02:30", "--timezone", "Europe/Berlin"]);
    // Two days at a change of the clock: the gap of 28 March leaves 02:30 out.
    let days = ["--from", "2021-03-27T00:00:00+01:00", "--to", "2021-03-28T23:59:00+02:00"];
    let fill = [&["backfill", "report"], &days[..]].concat();
    says(
        &world.schedules(&fill),
        &["report: 2 runs wait for their turn now, for slots from 2021-03-27T02:30:00+01:00 to \
             2021-03-28T03:00:00+02:00"],
    );
    says(&world.schedules(&fill), &["0 runs wait", "2 slots are left out"]);
    // On the clock of the schedule, as --at takes it.
    let clock = ["backfill", "report", "--from", "2021-03-28T00:00", "--to", "2021-03-28T23:59"];
    says(&world.schedules(&clock), &["0 runs wait", "1 slot is left out"]);
    says(
        &world.refused(&["backfill", "report", "--from", "60000d"], 2),
        &["--from: is before 1970"],
    );
    let none = [&fill[..4], &["--to", "2021-03-27T00:00:00+01:00"]].concat();
    says(&world.schedules(&none), &["has no slot in that time"]);
    let page = world.json(&["runs", "report", "-n", "1"]);
    let before = page["next_before"].as_str().unwrap();
    let rest = world.json(&["runs", "report", "--before", before]);
    assert_eq!(rest["runs"][0]["slot"], "2021-03-27T02:30:00+01:00");
    assert_eq!(
        (&rest["runs"][0]["trigger"], &rest["next_before"]),
        (&json!("backfill"), &json!(null))
    );
    let removed = &world.json(&["remove", "report"])["removed"];
    assert_eq!(removed["cancelled"], 2);
    let shown = world.schedules(&["show", removed["id"].as_str().unwrap()]);
    says(&shown, &["state     removed at ", "the schedule was removed"]);
    says(&world.schedules(&["list"]), &["no schedules yet"]);
}

#[test]
fn schedules_that_meet_are_warned_of() {
    let world = world();
    world.add("a", &["--hourly", "0", "--max-turns", "2000"]);
    let warned = world.add("b", &["--hourly", "3", "--max-turns", "2000"]);
    says(
        &warned,
        &["warning   it fires at the same time as a (minute 0 of the hour", "4000 turns"],
    );
    let warnings = &world.json(&["show", "b"])["warnings"][0];
    assert_eq!(warnings["type"], "cron_collision");
    assert_eq!(warnings["overlapping_schedules"], json!(["a"]));
    assert_eq!(warnings["overlapping_minutes"], json!([0]));
    assert_eq!(warnings["estimated_concurrent_steps"], 4000);
}

#[test]
fn a_row_that_cannot_be_read_is_told_with_what_to_do() {
    let world = world();
    world.add("report", &["--daily", "02:30"]);
    let db = world.db();
    db.raw().pragma_update(None, "ignore_check_constraints", true).unwrap();
    db.raw().execute("UPDATE schedules SET missed = 'sometimes'", []).unwrap();
    let id: String = db.raw().query_row("SELECT id FROM schedules", [], |row| row.get(0)).unwrap();
    for command in ["show", "pause", "remove"] {
        let line = world.refused(&[command, "report"], 1);
        says(&line, &["missed", "`twobox schedules list`", "update Twobox"]);
    }
    says(&world.schedules(&["list"]), &[&format!("not read: {id} ")]);
}

#[test]
fn a_change_is_done_beside_a_host_that_stands_still() {
    let world = world();
    let _silent = UnixListener::bind(world.data.join("host.sock")).unwrap();
    world.add("report", &["--daily", "02:30"]);
    assert_eq!(world.json(&["show", "report"])["schedule"]["state"], "enabled");
    let run = RunId::generate(&SystemIds).to_string();
    says(&world.refused(&["cancel", &run], 1), &["did not answer within 5 s", "twobox doctor"]);
}

fn self_pause(reason: &str) -> SelfPause {
    let session = SessionId::generate(&SystemIds);
    SelfPause { reason: reason.to_owned(), text: reason.to_owned(), session }
}

#[test]
fn a_time_without_an_offset_is_one_in_the_schedules_zone() {
    let world = world();
    let berlin = ["--timezone", "Europe/Berlin"];
    let once = |name: &str, at: &str| world.add(name, &[&["--at", at], &berlin[..]].concat());
    let cases = [
        ("winter", "2098-12-01 09:00", "2098-12-01T09:00:00+01:00"),
        ("summer", "2098-07-01T09:00", "2098-07-01T09:00:00+02:00"),
        ("seconds", "2098-12-01 09:00:30", "2098-12-01T09:00:30+01:00"),
        ("offset", "2098-12-01T09:00:00+05:00", "2098-12-01T05:00:00+01:00"),
    ];
    for (name, at, slot) in cases {
        says(&once(name, at), &[slot]);
    }
    let bounds = ["--daily", "09:00", "--not-before", "2098-12-01 08:59"];
    says(&world.add("bound", &[&bounds, &berlin[..]].concat()), &["2098-12-01T09:00:00+01:00"]);
    let base = ["add", "x", "--agent", "assistant", "--prompt", "Hi"];
    for bad in ["tomorrow", "2098-12-01", "09:00", "2098-13-01 09:00"] {
        let told = world.refused(&[&base[..], &["--at", bad], &berlin].concat(), 2);
        assert!(told.contains("--at") && told.contains("Europe/Berlin"), "{told}");
    }
    let soon = world.add("soon", &["--in", "20m"]);
    says(&soon, &["once at", "next"]);
    let both = [&["schedules"], &base[..], &["--in", "20m", "--at", "2098-12-01 09:00"]].concat();
    assert_eq!(world.command(&both).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_schedule_without_a_zone_is_in_the_configured_one() {
    let world = world();
    let toml = world.data.join("twobox.toml");
    std::fs::write(&toml, "runtime = 'process'\n[schedule]\ntimezone = 'Asia/Tokyo'\n").unwrap();
    says(&world.add("a", &["--daily", "09:00"]), &["(Asia/Tokyo)", "T09:00:00+09:00"]);
    says(&world.schedules(&["edit", "a", "--timezone", "UTC"]), &["(UTC)"]);
    says(&world.schedules(&["edit", "a", "--daily", "10:00"]), &["(UTC)"]);
    says(&world.schedules(&["edit", "a", "--clear", "timezone"]), &["(Asia/Tokyo)"]);
    says(&world.schedules(&["show", "a"]), &["rules     of time zones: 20"]);
}

#[test]
fn months_and_years_are_refused_with_what_to_say_instead() {
    let world = world();
    let base = ["add", "x", "--agent", "assistant", "--prompt", "Hi"];
    for (flags, told) in [
        (&["--every", "1month"][..], "--cron '0 9 1 * *'"),
        (&["--every", "1y"], "--cron '0 9 1 1 *'"),
        (&["--every", "30M"], "write 30m for minutes"),
        (&["--every", "1h", "--missed-window", "30M"], "write 30m for minutes"),
        (&["--every", "1h", "--jitter", "1year"], "@yearly"),
        (&["--in", "1M"], "write 30m for minutes"),
    ] {
        let output = world.command(&[&["schedules"], &base[..], flags].concat()).output().unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {line}");
        assert!(line.contains(told), "{flags:?}: {line}");
    }
    // What is stored and shown counts in days, and can be typed again.
    let long = world.add("long", &["--every", "40days"]);
    says(&long, &["every 40days", "--missed-window 40d would do it"]);
    says(&world.schedules(&["edit", "long", "--every", "40days 6h"]), &["every 40days 6h"]);
    let bad = world.refused(&["edit", "long", "--cron", "@reboot"], 2);
    assert!(bad.contains("@midnight") && bad.contains("@annually"), "{bad}");
    let zone = world.refused(&["edit", "long", "--timezone", "GMT+2"], 2);
    assert!(zone.contains("is it Etc/GMT-2?"), "{zone}");
}

#[test]
fn the_newest_answer_is_shown_with_its_schedule_and_a_line_of_it_with_its_run() {
    let world = world();
    world.add("news", &["--hourly", "30"]);
    let going_on = Verdict { streaks: Streaks::default(), pause: None, news: None };
    let lines: Vec<String> = (1..=30).map(|n| format!("line {n}")).collect();
    let long = format!("\u{1b}[2J{}", lines.join("\n"));
    world.end("news", RunOutcome::Completed, Some("the first answer"), &going_on);
    assert!(world.schedules(&["show", "news"]).contains("\n  the first answer\n"));
    world.end("news", RunOutcome::Completed, Some(&long), &going_on);
    world.fail("news", Reason::RateLimited, "too many", &going_on);
    let shown = world.schedules(&["show", "news"]);
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    assert!(shown.contains("\n  line 2\n") && shown.contains("\n  line 20\n"), "{shown}");
    assert!(!shown.contains("line 21"), "{shown}");
    assert!(shown.contains("… and more: `twobox sessions tail "), "{shown}");
    assert_eq!(shown.matches("last answer, of ").count(), 1, "{shown}");
    let runs = world.schedules(&["runs", "news"]);
    let line = |part: &str| runs.lines().find(|line| line.contains(part)).expect(part).to_owned();
    assert!(line("line 1 line 2").contains('…') && !line("line 1 line 2").contains("line 12"));
    assert!(line("the first answer").contains("completed, 3 turns"), "{runs}");
    assert!(line("too many").contains("the provider wanted fewer calls"), "{runs}");
    assert!(!runs.contains('\u{1b}'), "{runs:?}");
    let whole = world.json(&["runs", "news"]);
    assert_eq!(whole["runs"][1]["output"], long);
    assert_eq!(world.json(&["show", "news"])["runs"][1]["output"], long);
}

#[test]
fn a_chat_for_the_answers_is_named_as_in_wire_list_and_shown() {
    let world = world();
    world.twobox(&["wire", "add", "assistant", "command", "-42", "--name", "family"]);
    let line = world.refused(
        &["add", "x", "--agent", "assistant", "--prompt", "x", "--hourly", "3", "--to", "nobody"],
        2,
    );
    assert!(line.contains("--to: assistant knows no chat \"nobody\""), "{line}");
    world.add("news", &["--hourly", "30", "--to", "-42", "--to-thread", "t"]);
    let shown = world.schedules(&["show", "news"]);
    assert!(shown.contains("answers   go to command -42, thread t\n"), "{shown}");
    let to = json!({ "channel": "command", "chat": "-42", "thread": "t" });
    assert_eq!(world.json(&["show", "news"])["schedule"]["to"], to);
    world.schedules(&["edit", "news", "--to", "family"]);
    assert!(world.schedules(&["show", "news"]).contains("answers   go to command -42\n"));
    let both = world.refused(&["edit", "news", "--to", "family", "--clear", "to"], 2);
    assert!(both.contains("--clear to: --to is given too"), "{both}");
    world.schedules(&["edit", "news", "--clear", "to"]);
    assert!(world.schedules(&["show", "news"]).contains("answers   are kept with the runs\n"));
}
