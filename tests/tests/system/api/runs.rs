//! Runs over HTTP.

use serde_json::{Value, json};
use twobox_host::{book, db};
use twobox_shared::ids::SystemIds;
use twobox_shared::time::UnixMillis;
use twobox_tests::{Setup, on_process};

use super::schedules::daily;
use crate::scripts::echo;

on_process!(runs_come_in_pages_the_newest_first,);

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
    let mut host = db::open(&world.data().join("host.db")).unwrap();
    for (name, days) in [("one", 5), ("two", 1)] {
        let (from, to) = (MAY, UnixMillis(MAY.0 + days * DAY_MS - 1));
        book::backfill(&mut host, name, (from, to), &SystemIds, to).unwrap();
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
    assert_eq!(wrong.error(), (400, "bad_request"));
}
