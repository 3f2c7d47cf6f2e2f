//! What another build, or a person with `sqlite3`, has left in `host.db`.

use rusqlite::Connection;
use serde_json::{Value, json};
use twobox_tests::{Answer, Client, Setup, World, on_process};

use super::schedules::daily;
use crate::scripts::echo;

on_process!(
    a_schedule_that_cannot_be_read_hides_no_other,
    a_run_that_cannot_be_read_hides_no_other,
    a_schedule_whose_times_cannot_be_reckoned_says_so_and_can_be_mended,
    a_schedule_whose_agent_was_removed_cannot_go_on,
);

/// Changes one row of `host.db` as only another build would.
#[track_caller]
pub(super) fn change(world: &World, sql: &str, id: &Value) {
    let host = Connection::open(world.data().join("host.db")).unwrap();
    host.pragma_update(None, "ignore_check_constraints", true).unwrap();
    assert_eq!(host.execute(sql, [id.as_str().unwrap()]).unwrap(), 1);
}

fn added(client: &Client, name: &str) -> Value {
    let answer = client.ask_with("POST", "/api/schedules", &daily(name));
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.body["schedule"]["id"].clone()
}

fn listed(answer: &Answer, what: &str, key: &str) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let rows = answer.body[what].as_array().unwrap().iter();
    rows.map(|row| row[key].as_str().unwrap().to_owned()).collect()
}

/// Shows that it is said which value of which row cannot be read.
#[track_caller]
fn assert_unreadable(answer: &Answer, column: &str) {
    assert_eq!(answer.error(), (409, "unreadable"), "{answer:?}");
    let message = answer.body["error"]["message"].as_str().unwrap();
    assert!(message.contains(column) && message.contains("update Twobox"), "{message}");
}

fn a_schedule_that_cannot_be_read_hides_no_other(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    let [sound, broken] = ["sound", "broken"].map(|name| added(&client, name));
    change(&world, "UPDATE schedules SET missed = 'sometimes' WHERE id = ?1", &broken);

    let list = client.ask("GET", "/api/schedules");
    assert_eq!(listed(&list, "schedules", "name"), ["sound"]);
    assert_eq!(list.body["unreadable"][0]["id"], broken);
    let error = list.body["unreadable"][0]["error"].as_str().unwrap();
    assert!(error.contains("missed"), "{error}");

    for path in ["broken", broken.as_str().unwrap()] {
        let path = format!("/api/schedules/{path}");
        assert_unreadable(&client.ask("GET", &path), "missed");
        assert_unreadable(&client.ask("POST", &format!("{path}/execute")), "missed");
        let pause = json!({ "enabled": false });
        assert_unreadable(&client.ask_with("PATCH", &path, &pause), "missed");
        assert_unreadable(&client.ask("DELETE", &path), "missed");
        for below in ["runs", "metrics"] {
            assert_unreadable(&client.ask("GET", &format!("{path}/{below}")), "missed");
        }
    }
    assert_eq!(client.ask("GET", "/api/schedules/sound").body["schedule"]["id"], sound);
    assert_eq!(client.ask("POST", "/api/schedules/sound/execute").status, 202);
}

fn a_run_that_cannot_be_read_hides_no_other(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    added(&client, "evening");
    let [sound, broken] = [(); 2].map(|()| {
        let run = client.ask("POST", "/api/schedules/evening/execute").body["run"].clone();
        super::runs::wait_ended(&client, &run)["id"].clone()
    });
    // A reason that a newer build may know.
    let failed = "UPDATE runs SET status = 'failed', reason = 'sunspots' WHERE id = ?1";
    change(&world, failed, &broken);

    for path in ["/api/runs", "/api/schedules/evening/runs", "/api/schedules/evening"] {
        let page = client.ask("GET", path);
        assert_eq!(listed(&page, "runs", "id"), [sound.as_str().unwrap()], "{path}");
        assert_eq!(page.body["unreadable"][0]["id"], broken, "{path}");
        let error = page.body["unreadable"][0]["error"].as_str().unwrap();
        assert!(error.contains("reason"), "{error}");
    }
    let place = format!("/api/runs/{}", broken.as_str().unwrap());
    assert_unreadable(&client.ask("GET", &place), "reason");
    assert_unreadable(&client.ask("POST", &format!("{place}/cancel")), "reason");
    assert_eq!(listed(&client.ask("GET", "/api/schedules"), "schedules", "name"), ["evening"]);
    let paged = client.ask("GET", "/api/runs?limit=1");
    assert_eq!(listed(&paged, "runs", "id"), Vec::<String>::new());
    assert_eq!(paged.body["unreadable"][0]["id"], broken);
    let next = format!("/api/runs?before={}", paged.body["next_before"].as_str().unwrap());
    assert_eq!(listed(&client.ask("GET", &next), "runs", "id"), [sound.as_str().unwrap()]);
}

fn a_schedule_whose_times_cannot_be_reckoned_says_so_and_can_be_mended(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    let id = added(&client, "evening");
    client.ask_with("PATCH", "/api/schedules/evening", &json!({ "enabled": false }));
    change(&world, "UPDATE schedules SET time_zone = 'Mars/Olympus' WHERE id = ?1", &id);

    let shown = client.ask("GET", "/api/schedules/evening").body;
    let problem = shown["schedule"]["problem"].as_str().unwrap();
    assert!(problem.contains("Mars/Olympus"), "{problem}");
    assert_eq!(shown["next"], json!([]));
    let resumed = client.ask_with("PATCH", "/api/schedules/evening", &json!({ "enabled": true }));
    assert_eq!(resumed.error(), (409, "unreadable"));
    let message = resumed.body["error"]["message"].as_str().unwrap();
    assert!(message.contains("Mars/Olympus"), "{message}");

    let mended = json!({ "time_zone": "Europe/Berlin" });
    let mended = client.ask_with("PATCH", "/api/schedules/evening", &mended);
    assert_eq!((mended.status, &mended.body["schedule"]["problem"]), (200, &Value::Null));
    let resumed = client.ask_with("PATCH", "/api/schedules/evening", &json!({ "enabled": true }));
    assert_eq!((resumed.status, &resumed.body["schedule"]["state"]), (200, &json!("enabled")));
}

fn a_schedule_whose_agent_was_removed_cannot_go_on(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    added(&client, "evening");
    world.twobox(&["agents", "remove", "ada"]);
    let shown = client.ask("GET", "/api/schedules/evening").body["schedule"].clone();
    assert_eq!((&shown["state"], &shown["agent"]), (&json!("paused"), &json!("ada")));
    assert!(shown["pause_reason"].as_str().unwrap().contains("removed"), "{shown}");
    let resumed = client.ask_with("PATCH", "/api/schedules/evening", &json!({ "enabled": true }));
    assert_eq!(resumed.error(), (409, "agent_gone"));
    let executed = client.ask("POST", "/api/schedules/evening/execute");
    assert_eq!(executed.error(), (500, "prepare_failed"));
    let error = executed.body["run"]["error"].as_str().unwrap();
    assert!(error.contains("agent"), "{error}");
    let another = client.ask_with("POST", "/api/schedules", &daily("another"));
    assert_eq!(another.error(), (422, "invalid"));
    assert_eq!(another.body["error"]["field"], "agent");

    world.twobox(&["agents", "add", "ada"]);
    let resumed = client.ask_with("PATCH", "/api/schedules/evening", &json!({ "enabled": true }));
    assert_eq!((resumed.status, &resumed.body["schedule"]["state"]), (200, &json!("enabled")));
    assert_eq!(client.ask("DELETE", "/api/schedules/evening").status, 200);
}
