//! A runner that lies about a scheduled run: what it says is believed of its own run only, and as
//! far as it can be so.

use serde_json::{Value, json};
use twobox_tests::attack::LIES;
use twobox_tests::{Setup, World, on_process, wait_for};

use super::attacks::attacked;

on_process!(a_runner_that_lies_about_its_turns_harms_nobody);

/// What `twobox` answers in JSON.
#[track_caller]
fn asked(world: &World, arguments: &[&str]) -> Value {
    let said = world.twobox(&[&["--json", "schedules"], arguments].concat());
    serde_json::from_str(&said).unwrap()
}

fn a_runner_that_lies_about_its_turns_harms_nobody(setup: Setup) {
    let names: Vec<&str> = LIES.iter().map(|lie| lie.name).collect();
    let world = attacked(setup.setting("schedule.max_concurrent", 16), &names);
    world.up();
    for name in names.iter().chain(&["healthy"]) {
        let words = ["schedules", "add", name, "--agent", name, "--prompt", name];
        world.twobox(&[&words[..], &["--daily", "03:00", "--max-turns", "2"]].concat());
        world.twobox(&["schedules", "run", name]);
    }
    // Status, reason, turns, and what counts against the schedule, which runs by hand do not.
    let completed = |turns: Value| (json!("completed"), Value::Null, turns, (0, 0));
    let failed =
        |reason: &str, turns: i64, streaks| (json!("failed"), json!(reason), json!(turns), streaks);
    let expected = [
        ("turns-below-zero", completed(Value::Null)),
        ("turns-beyond-measure", completed(Value::Null)),
        ("turns-withheld", completed(json!(0))),
        ("turns-over-the-limit-with-success", completed(json!(900))),
        ("breach-that-was-none", failed("turn_limit_exceeded", 0, (0, 0))),
        ("failure-that-only-the-host-knows", failed("provider_error", 1, (0, 0))),
        ("healthy", completed(Value::Null)),
    ];
    assert_eq!(expected.len(), names.len() + 1);
    for (name, expected) in expected {
        let run = wait_for(&format!("{name}: the end of its run"), || {
            let run = asked(&world, &["runs", name])["runs"][0].clone();
            (!run["ended_at"].is_null()).then_some(run)
        });
        let shown = asked(&world, &["show", name]);
        let streak = |which: &str| shown["schedule"]["streaks"][which].as_i64().unwrap();
        let streaks = (streak("breaches"), streak("failures"));
        let found = (run["status"].clone(), run["reason"].clone(), run["turns"].clone(), streaks);
        assert_eq!(found, expected, "{name}: {run}");
        assert_eq!(shown["schedule"]["state"], "enabled", "{name}");
        let metrics = asked(&world, &["metrics", name]);
        assert_eq!(metrics["metrics"][0]["turns"], run["turns"], "{name}");
    }
    // Nobody needs those containers any more, though they say nothing.
    world.wait_no_containers();
    let chat = world.chat("healthy");
    assert_eq!(chat.ask("hello"), "echo: hello");
    assert!(!world.host_log().contains("panicked"), "the host's log");
    world.assert_fsck_clean();
}
