//! What the API says about itself.

use serde_json::json;
use twobox_tests::{METHODS, Mode, Receiver, Setup, on_process, wait_for};

use super::schedules::daily;
use super::unreadable::change;
use crate::scripts::echo;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

on_process!(
    every_path_has_the_methods_that_are_described,
    everything_that_is_described_is_answered,
);

fn every_path_has_the_methods_that_are_described(setup: Setup) {
    let world = setup.api().up();
    let client = world.client();
    for (path, says) in client.description.paths() {
        let target = path.replace("{id}", "nobody");
        for method in METHODS {
            let described = says.get(method.to_ascii_lowercase()).is_some();
            // A body that is no JSON: nothing is done.
            let answer = client.send(method, &target, &client.headers(), b"x");
            assert_eq!(answer.status != 405, described, "{method} {path}: {answer:?}");
        }
    }
}

/// Everybody's answers are held against the description; this holds the description against them.
fn everything_that_is_described_is_answered(setup: Setup) {
    let script = json!({
        "rules": [{ "match": "^hang", "do": [{ "hang": true }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    });
    let receiver = Receiver::open(SECRET);
    let world = setup
        .api()
        .setting("schedule.max_concurrent", 1)
        .setting("limits.new_sessions_per_hour", 1)
        .setting("channels.hook.kind", "webhook")
        .setting("channels.hook.url", receiver.url())
        .setting("channels.hook.signing_secret", "signs")
        .agent("ada", script)
        .agent_with("bob", Mode::PerThread, echo())
        .make();
    world.set_secret("signs", SECRET);
    world.twobox(&["wire", "add", "bob", "hook", "42", "--session-mode", "per-thread"]);
    world.up();
    let client = world.client();
    let own = client.headers();
    let id = |body: &serde_json::Value| body["run"]["id"].as_str().unwrap().to_owned();

    // Without the token, from a web page, and with a name that is no text.
    for path in client.description.paths().keys() {
        for (method, with_origin) in
            METHODS.iter().flat_map(|method| [(method, true), (method, false)])
        {
            let (target, origin) = (path.replace("{id}", "x"), "origin: null".to_owned());
            let headers = [&own[0], &origin];
            client.send(method, &target, &headers[..1 + usize::from(with_origin)], b"");
            if path.contains("{id}") {
                client.ask_with(method, &path.replace("{id}", "%FF"), &json!({}));
            }
        }
    }
    for path in ["/healthz", "/readyz", "/api/openapi.json", "/api/schedules", "/api/runs"] {
        client.ask("GET", path);
    }
    // Bodies that are none.
    for (method, path) in [
        ("POST", "/api/schedules"),
        ("PATCH", "/api/schedules/evening"),
        ("DELETE", "/api/schedules/evening"),
        ("POST", "/api/schedules/evening/execute"),
        ("POST", "/api/runs/nobody/cancel"),
    ] {
        client.ask(method, path);
        client.ask_with(method, path, &json!({ "colour": "blue" }));
        let head = [&own[0], &own[1], &"content-type: application/json".to_owned()];
        client.send(method, path, &head, b"{");
        client.send(method, path, &head[..2], b"x");
        let declared = [head[0], head[1], head[2], &format!("content-length: {}", 2 << 20)];
        client.send(method, path, &declared, b"");
    }
    // Queries that are none.
    for query in ["limit=0", "limit=x"] {
        for path in ["/api/runs", "/api/schedules/evening/runs", "/api/schedules/evening/metrics"] {
            client.ask("GET", &format!("{path}?{query}"));
        }
    }
    client.ask("GET", "/api/schedules?agent=nobody");
    client.ask("GET", "/api/schedules?nobody=1");

    // A life.
    for name in ["evening", "hanging"] {
        let mut schedule = daily(name);
        schedule["prompt"] = json!(name.replace("hanging", "hang"));
        schedule["to"] = json!({ "chat": "ada", "thread": "t" });
        client.ask_with("POST", "/api/schedules", &schedule);
    }
    // Of which a slot that is missed is lost for long.
    let mut seldom = daily("seldom");
    seldom["cadence"] = json!({ "kind": "weekly", "value": "sunday@23:30" });
    client.ask_with("POST", "/api/schedules", &seldom);
    client.ask_with("POST", "/api/schedules", &daily("evening"));
    client.ask_with("PATCH", "/api/schedules/evening", &json!({ "name": "hanging" }));
    client.ask_with("PATCH", "/api/schedules/evening", &json!({ "max_turns": 7 }));
    client.ask_with("PATCH", "/api/schedules/evening", &json!({ "enabled": false }));
    client.ask_with("PATCH", "/api/schedules/evening", &json!({ "enabled": true }));
    let run =
        format!("/api/runs/{}", id(&client.ask("POST", "/api/schedules/evening/execute").body));
    wait_for("the end of the run", || {
        (!client.ask("GET", &run).body["run"]["ended_at"].is_null()).then_some(())
    });
    client.ask("POST", &format!("{run}/cancel"));
    let hanging = id(&client.ask("POST", "/api/schedules/hanging/execute").body);
    client.ask("POST", "/api/schedules/evening/execute");
    client.ask("POST", "/api/schedules/hanging/execute?force=true");
    client.ask("POST", &format!("/api/runs/{hanging}/cancel"));
    client.ask("GET", "/api/schedules");
    for name in ["evening", "nobody"] {
        for path in ["", "/runs", "/metrics"] {
            client.ask("GET", &format!("/api/schedules/{name}{path}"));
        }
        client.ask_with("PATCH", &format!("/api/schedules/{name}"), &json!({}));
        client.ask("POST", &format!("/api/schedules/{name}/execute"));
        client.ask("DELETE", &format!("/api/schedules/{name}"));
        client.ask("GET", &format!("/api/runs/{name}"));
        client.ask("POST", &format!("/api/runs/{name}/cancel"));
    }
    // A warning needs two that want many turns; all else that is left needs a fault, or patience.
    for name in ["one", "two"] {
        let mut schedule = daily(name);
        schedule["max_turns"] = json!(2000);
        client.ask_with("POST", "/api/schedules", &schedule);
    }
    // Rows of another build.
    let one = client.ask("GET", "/api/schedules/one").body["schedule"]["id"].clone();
    let run = client.ask("GET", "/api/runs").body["runs"][0]["id"].clone();
    change(&world, "UPDATE schedules SET missed = 'sometimes' WHERE id = ?1", &one);
    for path in ["", "/runs", "/metrics"] {
        client.ask("GET", &format!("/api/schedules/one{path}"));
    }
    client.ask("DELETE", "/api/schedules/one");
    client.ask("GET", "/api/schedules");
    change(&world, "UPDATE runs SET reason = 'sunspots' WHERE id = ?1", &run);
    client.ask("GET", &format!("/api/runs/{}", run.as_str().unwrap()));
    // Messages.
    let post = |message: &serde_json::Value| {
        let body = message.to_string().into_bytes();
        client.send("POST", "/hooks/hook", &receiver.sign("m1", 0, &body), &body)
    };
    client.send("POST", "/hooks/hook", &own, b"{}");
    for message in [
        json!({ "chat": "42", "text": "hello", "thread": "one" }),
        json!({ "chat": "42", "text": "hello", "thread": "two" }),
        json!({ "chat": "43", "text": "hello" }),
        json!({ "colour": "blue" }),
    ] {
        post(&message);
    }
    let mut long = receiver.sign("m1", 0, b"");
    long.push(format!("content-length: {}", 2 << 20));
    client.send("POST", "/hooks/hook", &long, b"");
    for posted in receiver.wait_posts(1) {
        client.description.check_schema("Outgoing", &posted.body);
    }
    let faults = |unseen: &str| {
        ["408", "500", "503"].iter().any(|status| unseen.ends_with(status))
            || unseen.starts_with("PrepareFailed.")
    };
    // Nobody answers what only a request has.
    let asked = |unseen: &str| {
        let schemas = ["Draft.", "Patch.", "Cadence.", "Chat.", "Posted."];
        schemas.iter().any(|schema| unseen.starts_with(schema))
    };
    let mut unseen = client.description.unseen();
    unseen.retain(|unseen| !faults(unseen) && !asked(unseen));
    assert_eq!(unseen, Vec::<String>::new());
}
