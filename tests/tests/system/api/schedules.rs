//! Schedules over HTTP.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twobox_tests::{Client, Setup, on_process};

use crate::scripts::echo;

on_process!(
    a_schedule_is_added_shown_edited_paused_resumed_and_removed,
    every_mistake_in_a_body_names_its_field_and_stores_nothing,
    a_field_takes_as_much_as_it_may_and_no_more,
    what_is_not_there_is_not_found,
    an_edit_of_another_revision_changes_nothing,
    what_is_no_json_is_not_taken_in,
    where_nothing_is_asked_for_a_body_is_refused_and_nothing_is_done,
    a_locked_database_is_said_in_bounded_time,
);

/// A schedule that fires once a day, under `name`.
pub(crate) fn daily(name: &str) -> Value {
    json!({
        "name": name, "agent": "ada", "prompt": "look around",
        "cadence": { "kind": "daily", "value": "23:30" },
    })
}

fn names(client: &Client) -> Vec<Value> {
    let listed = client.ask("GET", "/api/schedules").body;
    let schedules = listed["schedules"].as_array().unwrap();
    schedules.iter().map(|schedule| schedule["name"].clone()).collect()
}

fn a_schedule_is_added_shown_edited_paused_resumed_and_removed(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    let asked = json!({
        "name": "evening", "agent": "ada", "prompt": "look around",
        "cadence": { "kind": "daily", "value": "23:30" }, "time_zone": "Europe/Berlin",
        "max_turns": 12, "max_run_sec": 600, "missed": "all", "missed_window_sec": 3600,
        "overlap": "queue", "jitter_sec": 60, "not_before": "2026-01-01T00:00:00+01:00",
        "not_after": "2200-01-01T00:00:00Z", "max_runs": 1000,
        "to": { "channel": "terminal", "chat": "ada", "thread": "t" },
    });
    let added = client.ask_with("POST", "/api/schedules", &asked);
    assert_eq!(added.status, 201);
    let schedule = &added.body["schedule"];
    for field in ["name", "agent", "prompt", "time_zone", "max_turns", "max_run_sec", "missed"] {
        assert_eq!(schedule[field], asked[field], "{field}");
    }
    for field in ["missed_window_sec", "overlap", "jitter_sec", "not_before", "max_runs", "to"] {
        assert_eq!(schedule[field], asked[field], "{field}");
    }
    assert_eq!(schedule["state"], "enabled");
    assert_eq!(added.body["next"].as_array().unwrap().len(), 5);
    let id = schedule["id"].as_str().unwrap();
    let place = format!("/api/schedules/{id}");
    assert_eq!(added.header("location"), Some(place.as_str()));
    let shown = client.ask("GET", &place);
    assert_eq!(shown.body["schedule"], *schedule);
    assert_eq!(client.ask("GET", "/api/schedules/evening").body, shown.body, "by its name too");
    assert_eq!(names(&client), ["evening"]);

    let edit = json!({ "prompt": "look closer", "max_turns": null, "revision": 1 });
    let edited = client.ask_with("PATCH", &place, &edit).body;
    let edited = &edited["schedule"];
    assert_eq!((&edited["prompt"], &edited["max_turns"]), (&json!("look closer"), &Value::Null));
    assert_eq!(edited["max_run_sec"], 600, "what is not mentioned stays");

    let pause = json!({ "enabled": false, "reason": "holidays" });
    let paused = client.ask_with("PATCH", &place, &pause).body;
    assert_eq!(paused["schedule"]["state"], "paused");
    assert_eq!(paused["schedule"]["pause_reason"], "holidays");
    assert_eq!((&paused["was_paused"], &paused["cancelled"]), (&json!(false), &json!(0)));
    let resumed = client.ask_with("PATCH", &place, &json!({ "enabled": true })).body;
    assert_eq!(resumed["schedule"]["state"], "enabled");
    assert_eq!(resumed["was_enabled"], false);

    let removed = client.ask("DELETE", "/api/schedules/evening");
    assert_eq!((removed.status, &removed.body["id"]), (200, &json!(id)));
    assert_eq!(names(&client), Vec::<Value>::new());
    assert_eq!(client.ask("GET", &place).body["schedule"]["state"], "removed");
    assert_eq!(client.ask("DELETE", "/api/schedules/evening").error().0, 404);
}

fn every_mistake_in_a_body_names_its_field_and_stores_nothing(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    let with = |field: &str, value: Value| {
        let mut body = daily("new");
        body[field] = value;
        body
    };
    let cases = [
        ("colour", with("colour", json!("blue"))),
        ("prompt", with("prompt", json!(7))),
        ("prompt", with("prompt", json!(""))),
        ("max_turns", with("max_turns", json!("12"))),
        ("max_turns", with("max_turns", json!(0))),
        ("max_turns", with("max_turns", json!(1.5))),
        ("agent", with("agent", json!("bob"))),
        ("name", with("name", json!("no/such\nname"))),
        ("time_zone", with("time_zone", json!("Mars/Olympus"))),
        ("missed", with("missed", json!("never"))),
        ("overlap", with("overlap", json!(["skip"]))),
        ("cadence", with("cadence", json!({ "kind": "cron", "value": "0 0 31 2 *" }))),
        ("cadence", with("cadence", json!({ "kind": "every", "value": "1s" }))),
        ("cadence", with("cadence", json!("daily"))),
        ("cadence.at", with("cadence", json!({ "kind": "daily", "value": "23:30", "at": 1 }))),
        ("not_before", with("not_before", json!("2026-01-01"))),
        ("session", with("session", json!("nobody's"))),
        ("to", with("to", json!({ "chat": "nobody's" }))),
        ("to", with("to", json!("42"))),
        ("to.room", with("to", json!({ "chat": "ada", "room": 1 }))),
    ];
    for (field, body) in cases {
        let answer = client.ask_with("POST", "/api/schedules", &body);
        assert_eq!(answer.error(), (422, "invalid"), "{body}");
        assert_eq!(answer.body["error"]["field"], field, "{answer:?}");
        assert_eq!(names(&client), Vec::<Value>::new(), "{body}");
    }
    for list in [json!([]), json!(["new", "ada", "x", { "kind": "daily", "value": "23:30" }])] {
        let answer = client.ask_with("POST", "/api/schedules", &list);
        assert_eq!(answer.error(), (422, "invalid"));
        assert_eq!(names(&client), Vec::<Value>::new(), "{list}");
    }
    let answer = client.ask_with("POST", "/api/schedules", &with("max_turns", json!("x")));
    let message = answer.body["error"]["message"].as_str().unwrap();
    assert!(message.contains("max_turns") && message.contains("a whole number"), "{message}");

    assert_eq!(client.ask_with("POST", "/api/schedules", &daily("old")).status, 201);
    let answer = client.ask_with("POST", "/api/schedules", &daily("old"));
    assert_eq!(answer.error(), (409, "name_taken"));
    let before = client.ask("GET", "/api/schedules/old").body;
    let cases = [
        ("enabled", json!({ "enabled": "false" })),
        ("enabled", json!({ "enabled": null })),
        ("enabled", json!({ "enabled": false, "prompt": "x" })),
        ("reason", json!({ "enabled": true, "reason": "x" })),
        ("reason", json!({ "reason": "x" })),
        ("revision", json!({ "prompt": "x", "revision": "1" })),
        ("agent", json!({ "agent": "bob" })),
        ("state", json!({ "state": "paused" })),
        ("name", json!({ "name": null })),
        ("agent", json!({ "agent": null })),
        ("prompt", json!({ "prompt": null, "max_turns": 3 })),
        ("cadence", json!({ "cadence": null })),
        ("not_after", json!({ "not_after": "2001-01-01T00:00:00Z" })),
    ];
    for (field, body) in cases {
        let answer = client.ask_with("PATCH", "/api/schedules/old", &body);
        assert_eq!(answer.error(), (422, "invalid"), "{body}");
        assert_eq!(answer.body["error"]["field"], field, "{answer:?}");
        assert_eq!(client.ask("GET", "/api/schedules/old").body, before, "{body}");
    }
    for nothing in [json!({}), json!({ "revision": 1 })] {
        let answer = client.ask_with("PATCH", "/api/schedules/old", &nothing);
        assert_eq!(answer.error(), (422, "invalid"), "{nothing}");
        assert_eq!(answer.body["error"]["field"], Value::Null, "{answer:?}");
        assert_eq!(client.ask("GET", "/api/schedules/old").body, before, "{nothing}");
    }
}

fn a_field_takes_as_much_as_it_may_and_no_more(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    let with = |field: &str, value: Value| {
        let mut body = daily("new");
        body[field] = value;
        body
    };
    let text = |field: &str, length: usize| with(field, json!("x".repeat(length)));
    let cron = |length: usize| {
        let value = format!("0 9 * *{}*", " ".repeat(length - 8));
        with("cadence", json!({ "kind": "cron", "value": value }))
    };
    let kind =
        |length: usize| with("cadence", json!({ "kind": "x".repeat(length), "value": "23:30" }));
    let cases = [
        ("name", text("name", 65), Some(text("name", 64)), 65, 64),
        ("prompt", text("prompt", 65_537), Some(text("prompt", 65_536)), 65_537, 65_536),
        ("cadence", cron(257), Some(cron(256)), 257, 256),
        ("cadence", kind(257), None, 257, 256),
        ("time_zone", text("time_zone", 65), None, 65, 64),
    ];
    for (field, long, fit, given, most) in cases {
        let answer = client.ask_with("POST", "/api/schedules", &long);
        assert_eq!(answer.error(), (422, "invalid"), "{field}");
        assert_eq!(answer.body["error"]["field"], field, "{answer:?}");
        let message = answer.body["error"]["message"].as_str().unwrap();
        for part in [format!("{given} bytes"), most.to_string()] {
            assert!(message.contains(&part), "{field}: {message} lacks {part}");
        }
        assert_eq!(names(&client), Vec::<Value>::new(), "{field}");
        if let Some(fit) = fit {
            let added = client.ask_with("POST", "/api/schedules", &fit);
            assert_eq!(added.status, 201, "{field}: {added:?}");
            let place = added.header("location").unwrap().to_owned();
            assert_eq!(client.ask("DELETE", &place).status, 200, "{field}");
        }
    }
    let [host, token] = client.headers();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let length = deep.len();
    let head = format!(
        "POST /api/schedules HTTP/1.1\r\n{host}\r\n{token}\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {length}\r\n\r\n{deep}"
    );
    let answer = client.send_raw(head.as_bytes());
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert_eq!(names(&client), Vec::<Value>::new());
}

fn what_is_not_there_is_not_found(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    let schedule = |method: &str, path: &str| {
        let answer = match method {
            "PATCH" => client.ask_with(method, path, &json!({ "prompt": "x" })),
            _ => client.ask(method, path),
        };
        assert_eq!(answer.error(), (404, "schedule_not_found"), "{method} {path}");
    };
    for id in ["nobody", "0190a1b2-0000-7000-8000-000000000000", "%2e%2e", "%F0%9F%98%80"] {
        schedule("GET", &format!("/api/schedules/{id}"));
        schedule("PATCH", &format!("/api/schedules/{id}"));
        schedule("DELETE", &format!("/api/schedules/{id}"));
        schedule("GET", &format!("/api/schedules/{id}/runs"));
        schedule("GET", &format!("/api/schedules/{id}/metrics"));
    }
    for id in ["nobody", "0190a1b2-0000-7000-8000-000000000000"] {
        let answer = client.ask("GET", &format!("/api/runs/{id}"));
        assert_eq!(answer.error(), (404, "run_not_found"));
    }
    for path in ["/api/schedules/%FF", "/api/runs/%FF"] {
        assert_eq!(client.ask("GET", path).error(), (400, "bad_request"), "{path}");
    }
    for query in ["limit=many", "limit=-1", "before=x", "befor=x", "limit=1&limit=2"] {
        let answer = client.ask("GET", &format!("/api/runs?{query}"));
        assert_eq!(answer.error(), (400, "bad_request"), "{query}");
    }
    for limit in [0, 1001] {
        let answer = client.ask("GET", &format!("/api/runs?limit={limit}"));
        assert_eq!(answer.error(), (422, "invalid"), "{limit}");
        assert_eq!(answer.body["error"]["field"], "limit");
    }
    assert_eq!(client.ask("GET", "/api/schedules?agent=bob").error(), (422, "invalid"));
    assert_eq!(client.ask("GET", "/api/schedules?agnt=ada").error(), (400, "bad_request"));
    assert_eq!(client.ask("GET", "/api/runs").body["runs"], json!([]));
}

fn an_edit_of_another_revision_changes_nothing(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    client.ask_with("POST", "/api/schedules", &daily("one"));
    client.ask_with("POST", "/api/schedules", &daily("two"));
    let edit = |revision: i64, prompt: &str| {
        let body = json!({ "prompt": prompt, "revision": revision });
        client.ask_with("PATCH", "/api/schedules/one", &body)
    };
    let read = client.ask("GET", "/api/schedules/one").body["schedule"]["revision"].clone();
    let read = read.as_i64().unwrap();
    assert_eq!(edit(read, "mine").status, 200);
    assert_eq!(edit(read, "theirs").error(), (409, "stale"));
    assert_eq!(client.ask("GET", "/api/schedules/one").body["schedule"]["prompt"], "mine");
    let rename = client.ask_with("PATCH", "/api/schedules/one", &json!({ "name": "two" }));
    assert_eq!(rename.error(), (409, "name_taken"));
    assert_eq!(names(&client), ["one", "two"]);
}

fn what_is_no_json_is_not_taken_in(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    let send = |more: &[&str], body: &[u8]| {
        let own = client.headers();
        let headers: Vec<&str> = own.iter().map(String::as_str).chain(more.to_vec()).collect();
        client.send("POST", "/api/schedules", &headers, body)
    };
    const JSON: &str = "content-type: application/json";
    let body = daily("new").to_string();
    for kind in [&[][..], &["content-type: text/plain"], &["content-type: application/xml"]] {
        let answer = send(kind, body.as_bytes());
        assert_eq!(answer.error(), (415, "unsupported_media_type"), "{kind:?}");
    }
    for broken in ["{", "{\"name\":}", "", "nothing", &format!("{body}{body}")] {
        assert_eq!(send(&[JSON], broken.as_bytes()).error(), (400, "malformed_json"), "{broken}");
    }
    assert_eq!(send(&[JSON], &[0xff, 0xfe]).error(), (400, "malformed_json"));
    let twice = body.replacen('{', "{\"name\":\"other\",", 1);
    assert_eq!(send(&[JSON], twice.as_bytes()).error(), (422, "invalid"), "a field comes once");

    const MAX: usize = 1024 * 1024;
    let padded = format!("{body}{}", " ".repeat(MAX - body.len()));
    assert_eq!(send(&[JSON], padded.as_bytes()).status, 201, "as large as it may be");
    let [host, token] = client.headers();
    let head = format!("POST /api/schedules HTTP/1.1\r\n{host}\r\n{token}\r\n{JSON}\r\n");
    let large = format!("{head}content-length: {}\r\n\r\n", MAX + 1);
    assert_eq!(client.send_raw(large.as_bytes()).error(), (413, "body_too_large"));
    let chunk = format!("{:x}\r\n{}\r\n", MAX + 1, "x".repeat(MAX + 1));
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}");
    assert_eq!(client.send_raw(chunked.as_bytes()).error(), (413, "body_too_large"));
    assert_eq!(names(&client), ["new"]);
}

fn where_nothing_is_asked_for_a_body_is_refused_and_nothing_is_done(setup: Setup) {
    let world = setup.api().agent("ada", json!({ "otherwise": [{ "hang": true }] })).up();
    let client = world.client();
    for name in ["hanging", "evening"] {
        client.ask_with("POST", "/api/schedules", &daily(name));
    }
    let run = client.ask_with("POST", "/api/schedules/hanging/execute", &json!({})).body;
    let run = format!("/api/runs/{}", run["run"]["id"].as_str().unwrap());
    let cancel = format!("{run}/cancel");
    let paths = [
        ("POST", "/api/schedules/evening/execute"),
        ("POST", &cancel),
        ("DELETE", "/api/schedules/evening"),
    ];
    let own = client.headers();
    const JSON: &str = "content-type: application/json";
    for (method, path) in paths {
        for (field, body) in [
            (json!("force"), json!({ "force": true })),
            (json!("colour"), json!({ "colour": "blue" })),
            (Value::Null, json!([])),
        ] {
            let answer = client.ask_with(method, path, &body);
            assert_eq!(answer.error(), (422, "invalid"), "{method} {path} {body}");
            assert_eq!(answer.body["error"]["field"], field, "{answer:?}");
            let message = answer.body["error"]["message"].as_str().unwrap();
            assert!(message.contains("takes no body"), "{message}");
            assert_eq!(message.contains("in the query"), field == "force", "{message}");
        }
        let broken = client.send(method, path, &[&own[0], &own[1], &JSON.to_owned()], b"{");
        assert_eq!(broken.error(), (400, "malformed_json"), "{method} {path}");
        let text = client.send(method, path, &own, b"x");
        assert_eq!(text.error(), (415, "unsupported_media_type"), "{method} {path}");
    }
    assert_eq!(names(&client), ["evening", "hanging"]);
    assert_eq!(client.ask("GET", "/api/schedules/evening/runs").body["runs"], json!([]));
    let run = client.ask("GET", &run).body["run"].clone();
    assert_eq!((&run["ended_at"], &run["cancel_requested_at"]), (&Value::Null, &Value::Null));
    assert_eq!(client.ask_with("POST", &cancel, &json!({})).status, 202, "an empty object is none");
}

fn a_locked_database_is_said_in_bounded_time(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    let lock = rusqlite::Connection::open(world.data().join("host.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begin = Instant::now();
    let answer = client.ask_with("POST", "/api/schedules", &daily("new"));
    assert_eq!(answer.error(), (503, "busy"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(names(&client), Vec::<Value>::new(), "readers are not kept");
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(client.ask_with("POST", "/api/schedules", &daily("new")).status, 201);
}
