//! Runs over HTTP.

use std::io::Write;

use serde_json::{Value, json};
use twobox_schedule::service;
use twobox_shared::ids::SystemIds;
use twobox_shared::time::UnixMillis;
use twobox_store::Store;
use twobox_tests::{Client, Setup, on_process, wait_for};

use super::schedules::daily;
use crate::scripts::echo;

on_process!(
    runs_come_in_pages_the_newest_first,
    a_schedule_is_executed_now_and_the_answer_is_the_run_that_began,
    a_full_host_says_when_there_will_be_room_and_can_be_forced,
    a_run_that_cannot_be_prepared_is_told_with_its_end,
    a_run_that_began_goes_on_when_its_client_has_left,
);

/// Instants of 2026.
const MAY: UnixMillis = UnixMillis(1_777_593_600_000);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn runs_come_in_pages_the_newest_first(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    for name in ["one", "two"] {
        client.ask_with("POST", "/api/schedules", &daily(name));
    }
    // Five slots of a time before the schedules were there, and one of the other one.
    let host = Store::create(&world.data().join("host.db")).unwrap();
    for (name, days) in [("one", 5), ("two", 1)] {
        let (from, to) = (MAY, UnixMillis(MAY.0 + days * DAY_MS - 1));
        service::backfill(&host, name, (from, to), &SystemIds, to).unwrap();
    }
    let ids = |page: &Value| -> Vec<String> {
        let runs = page["runs"].as_array().unwrap();
        runs.iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = client.ask("GET", "/api/runs").body;
    assert_eq!((ids(&all).len(), &all["next_before"]), (6, &Value::Null));
    let ours = ids(&client.ask("GET", "/api/schedules/one/runs").body);
    assert_eq!(ours.len(), 5);
    assert!(ours.is_sorted_by(|newer, older| newer > older), "{ours:?}");
    let mut paged = Vec::new();
    let mut next = "/api/schedules/one/runs?limit=2".to_owned();
    loop {
        let page = client.ask("GET", &next).body;
        assert!(ids(&page).len() <= 2);
        paged.extend(ids(&page));
        let Some(before) = page["next_before"].as_str() else { break };
        next = format!("/api/schedules/one/runs?limit=2&before={before}");
    }
    assert_eq!(paged, ours);
    let run = client.ask("GET", &format!("/api/runs/{}", ours[0])).body;
    let run = &run["run"];
    assert_eq!((&run["schedule"], &run["trigger"]), (&json!("one"), &json!("backfill")));
    assert_eq!(run["slot"], "2026-05-05T23:30:00+00:00");
    let metrics = client.ask("GET", "/api/schedules/one/metrics?since=2200-01-01T00:00:00Z");
    assert_eq!(metrics.body["metrics"], json!([]), "none of them has ended then");
    let wrong = client.ask("GET", "/api/schedules/one/metrics?since=yesterday");
    assert_eq!(wrong.error(), (422, "invalid"));
    assert_eq!(wrong.body["error"]["field"], "since");
}

fn a_schedule_is_executed_now_and_the_answer_is_the_run_that_began(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    let added = client.ask_with("POST", "/api/schedules", &daily("evening")).body;
    client.ask_with("PATCH", "/api/schedules/evening", &json!({ "enabled": false }));
    let mut begun = Vec::new();
    for _ in 0..2 {
        let answer = client.ask("POST", "/api/schedules/evening/execute");
        assert_eq!(answer.status, 202, "paused or not: {answer:?}");
        let run = &answer.body["run"];
        assert_eq!((&run["trigger"], &run["slot"]), (&json!("manual"), &Value::Null));
        assert_eq!(run["schedule_id"], added["schedule"]["id"]);
        assert!(run["session"].is_string(), "{run}");
        begun.push(wait_ended(&client, run));
    }
    assert_ne!(begun[0]["id"], begun[1]["id"]);
    for run in &begun {
        assert_eq!(
            (&run["status"], &run["output"]),
            (&json!("completed"), &json!("echo: look around"))
        );
        assert_eq!(run["prompt"], "look around");
    }
    let schedule = client.ask("GET", "/api/schedules/evening").body["schedule"].clone();
    assert_eq!((&schedule["state"], &schedule["fired"]), (&json!("paused"), &json!(0)));
    let metrics = client.ask("GET", "/api/schedules/evening/metrics").body;
    let of: Vec<&Value> =
        metrics["metrics"].as_array().unwrap().iter().map(|one| &one["run"]).collect();
    assert_eq!(of, [&begun[1]["id"], &begun[0]["id"]]);
    assert_eq!(metrics["next_before"], Value::Null);
    let page = |query: &str| client.ask("GET", &format!("/api/schedules/evening/metrics{query}"));
    let newest = page("?limit=1").body;
    assert_eq!(newest["metrics"], json!([metrics["metrics"][0]]));
    assert_eq!(newest["next_before"], begun[1]["id"]);
    let before = newest["next_before"].as_str().unwrap();
    let older = page(&format!("?before={before}")).body;
    assert_eq!(older["metrics"], json!([metrics["metrics"][1]]));

    for path in ["/api/schedules/nobody/execute", "/api/schedules/%20/execute"] {
        assert_eq!(client.ask("POST", path).error(), (404, "schedule_not_found"), "{path}");
    }
    for query in ["force=yes", "force=1", "forced=true"] {
        let answer = client.ask("POST", &format!("/api/schedules/evening/execute?{query}"));
        assert_eq!(answer.error(), (400, "bad_request"), "{query}");
    }
    client.ask("DELETE", "/api/schedules/evening");
    let removed = format!("/api/schedules/{}/execute", schedule["id"].as_str().unwrap());
    assert_eq!(client.ask("POST", &removed).error(), (404, "schedule_not_found"));
}

fn a_full_host_says_when_there_will_be_room_and_can_be_forced(setup: Setup) {
    let world = setup
        .api()
        .setting("schedule.max_concurrent", 1)
        .agent("ada", json!({ "otherwise": [{ "hang": true }] }))
        .up();
    let client = world.client();
    for name in ["one", "two"] {
        client.ask_with("POST", "/api/schedules", &daily(name));
    }
    let first = client.ask("POST", "/api/schedules/one/execute").body["run"].clone();
    let full = client.ask("POST", "/api/schedules/two/execute");
    assert_eq!(full.error(), (429, "capacity_full"));
    assert_eq!(full.body["slot_eta_sec"], Value::Null, "no run has ended by which to estimate");
    let runs =
        |name: &str| client.ask("GET", &format!("/api/schedules/{name}/runs")).body["runs"].clone();
    assert_eq!(runs("two"), json!([]), "nothing was done");
    let again = client.ask("POST", "/api/schedules/one/execute?force=true");
    assert_eq!(again.error(), (409, "overlaps"));
    assert_eq!(runs("one").as_array().unwrap().len(), 1);

    let forced = client.ask("POST", "/api/schedules/two/execute?force=true");
    assert_eq!(forced.status, 202, "{forced:?}");
    let forced = forced.body["run"].clone();
    let host = Store::create(&world.data().join("host.db")).unwrap();
    let actor = "SELECT actor FROM audit WHERE action = 'force_run' AND subject = ?1";
    let actor: String =
        host.raw().query_row(actor, [forced["id"].as_str().unwrap()], |row| row.get(0)).unwrap();
    assert_eq!(actor, "api");

    for run in [&first, &forced] {
        let cancel = format!("/api/runs/{}/cancel", run["id"].as_str().unwrap());
        let cancelled = client.ask("POST", &cancel);
        assert_eq!((cancelled.status, &cancelled.body["run"]["id"]), (202, &run["id"]));
        assert_eq!(wait_ended(&client, run)["status"], "cancelled");
        assert_eq!(client.ask("POST", &cancel).error(), (409, "run_ended"));
    }
    for id in ["nobody", "0190a1b2-0000-7000-8000-000000000000"] {
        let answer = client.ask("POST", &format!("/api/runs/{id}/cancel"));
        assert_eq!(answer.error(), (404, "run_not_found"), "{id}");
    }
}

fn a_run_that_cannot_be_prepared_is_told_with_its_end(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    world.chat("ada").ask("hello");
    let session = world.session("ada");
    let mut there = daily("there");
    there["session"] = json!(session.id);
    client.ask_with("POST", "/api/schedules", &there);
    let host = Store::create(&world.data().join("host.db")).unwrap();
    let quarantine = |reason: Option<&str>| {
        let update = "UPDATE sessions SET quarantine_reason = ?2,
                        status = CASE WHEN ?2 IS NULL THEN 'active' ELSE 'quarantined' END
                      WHERE id = ?1";
        assert_eq!(host.raw().execute(update, (&session.id, reason)).unwrap(), 1);
    };
    quarantine(Some("a test"));
    let answer = client.ask("POST", "/api/schedules/there/execute");
    assert_eq!(answer.error(), (500, "prepare_failed"));
    let run = &answer.body["run"];
    assert_eq!((&run["status"], &run["reason"]), (&json!("failed"), &json!("prepare_failed")));
    assert!(run["error"].as_str().unwrap().contains("quarantined"), "{run}");
    let stored = client.ask("GET", &format!("/api/runs/{}", run["id"].as_str().unwrap())).body;
    assert_eq!(stored["run"], *run);
    quarantine(None);
    let run = client.ask("POST", "/api/schedules/there/execute").body["run"].clone();
    assert_eq!(wait_ended(&client, &run)["status"], "completed");
}

fn a_run_that_began_goes_on_when_its_client_has_left(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    client.ask_with("POST", "/api/schedules", &daily("evening"));
    // What the host does at its start is done when the first run is.
    let first = client.ask("POST", "/api/schedules/evening/execute").body["run"].clone();
    wait_ended(&client, &first);
    let lock = rusqlite::Connection::open(world.data().join("host.db")).unwrap();
    let [host, token] = client.headers();
    let ask = format!("POST /api/schedules/evening/execute HTTP/1.1\r\n{host}\r\n{token}\r\n\r\n");
    // A client may also leave before anything was begun: then another one comes.
    let run = wait_for("a run whose client has left", || {
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut leaves = client.connect();
        leaves.write_all(ask.as_bytes()).unwrap();
        // The host's one connection waits for the lock.
        wait_for("the host to begin", || {
            (client.ask("GET", "/readyz").status == 503).then_some(())
        });
        drop(leaves);
        assert_eq!(client.ask("GET", "/healthz").status, 200);
        lock.execute_batch("ROLLBACK").unwrap();
        client.ask_with("PATCH", "/api/schedules/evening", &json!({}));
        let newest = client.ask("GET", "/api/runs").body["runs"][0].clone();
        (newest["id"] != first["id"]).then_some(newest)
    });
    assert_eq!(wait_ended(&client, &run)["status"], "completed");
}

/// Waits until a run has ended, and returns it.
pub(super) fn wait_ended(client: &Client, run: &Value) -> Value {
    let place = format!("/api/runs/{}", run["id"].as_str().unwrap());
    wait_for("the end of the run", || {
        let run = client.ask("GET", &place).body["run"].clone();
        (!run["ended_at"].is_null()).then_some(run)
    })
}
