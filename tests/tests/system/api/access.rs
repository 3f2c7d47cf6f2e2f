//! Who is let in.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use twobox_tests::{
    Answer, METHODS, Setup, World, on_process, read_answer, read_one_answer, wait_for,
};

use super::runs::wait_ended;
use super::schedules::daily;
use crate::scripts::echo;

on_process!(
    the_token_is_made_by_init_or_by_up_and_shown_without_a_host,
    nobody_gets_in_without_the_token,
    no_path_does_anything_without_the_token,
    web_pages_are_refused,
    whether_the_host_is_well_is_no_secret,
    mistakes_have_the_shape_of_errors,
    a_port_that_is_taken_is_in_nobody_elses_way,
    the_socket_lets_its_owner_in_without_a_token,
    a_renewed_token_counts_at_once,
    an_api_on_the_network_comes_with_a_warning,
);

fn the_token_is_made_by_init_or_by_up_and_shown_without_a_host(setup: Setup) {
    let world = setup.api().make();
    let file = world.data().join("api.token");
    let shown = || world.twobox(&["token", "show"]);
    let made = shown();
    assert_eq!(made.trim().len(), 64, "{made}");
    assert_eq!(made, fs::read_to_string(&file).unwrap());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(world.twobox(&["status", "--token"]), made);
    world.twobox(&["init"]);
    assert_eq!(shown(), made, "init changes nothing that is there");

    fs::remove_file(&file).unwrap();
    let refusal = world.run(&["token", "show"]);
    assert_eq!(refusal.status.code(), Some(1));
    assert!(String::from_utf8(refusal.stderr).unwrap().contains("token renew` makes one"));
    world.up();
    assert_ne!(shown(), made);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(world.client().ask("GET", "/api/openapi.json").status, 200);
}

fn nobody_gets_in_without_the_token(setup: Setup) {
    let world = setup.api().up();
    let client = world.client();
    let [host, right] = client.headers();
    let token = right.strip_prefix("authorization: Bearer ").unwrap();
    let wrong: &[&[String]] = &[
        &[],
        &[format!("authorization: Bearer {}", "0".repeat(64))],
        &[format!("authorization: Bearer {}", &token[1..])],
        &[format!("authorization: Bearer {token}0")],
        &["authorization: Bearer ".to_owned()],
        &[format!("authorization: Basic {token}")],
        &[format!("authorization: {token}")],
        &[format!("cookie: token={token}")],
    ];
    for path in ["/api/openapi.json", "/api/no-such-path", "/", "/metrics"] {
        for headers in wrong {
            let headers: Vec<&String> = headers.iter().chain([&host]).collect();
            let answer = client.send("GET", path, &headers, b"");
            assert_eq!(answer.error(), (401, "unauthorized"), "{path} {headers:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert!(!answer.body.to_string().contains(token));
        }
    }
    let answer = client.ask("GET", &format!("/api/openapi.json?token={token}"));
    assert_eq!(answer.status, 200, "what is not looked at changes nothing");

    // The body is not waited for: it never comes.
    let head = format!("POST /api/x HTTP/1.1\r\n{host}\r\ncontent-length: 1000\r\n\r\n");
    assert_eq!(client.send_raw(head.as_bytes()).error(), (401, "unauthorized"));
}

fn no_path_does_anything_without_the_token(setup: Setup) {
    let world = setup.api().agent("ada", echo()).up();
    let client = world.client();
    client.ask_with("POST", "/api/schedules", &daily("evening"));
    let run = client.ask("POST", "/api/schedules/evening/execute").body["run"].clone();
    let run = wait_ended(&client, &run)["id"].as_str().unwrap().to_owned();
    let seen = || {
        let paths = ["/api/schedules", "/api/schedules/evening", "/api/runs"];
        paths.map(|path| client.ask("GET", path).body)
    };
    let before = seen();

    let host = client.headers()[0].clone();
    let json = "content-type: application/json".to_owned();
    let wrong = format!("authorization: Bearer {}", "0".repeat(64));
    let mut asked = 0;
    for path in client.description.paths().keys().filter(|path| path.starts_with("/api/")) {
        let id = if path.starts_with("/api/runs") { &run } else { "evening" };
        let target = path.replace("{id}", id);
        for method in METHODS {
            // What would be done with the token.
            let body = match method {
                "POST" => daily("another").to_string(),
                "PATCH" => json!({ "enabled": false }).to_string(),
                _ => String::new(),
            };
            for headers in [&[&host, &json][..], &[&host, &json, &wrong]] {
                let answer = client.send(method, &target, headers, body.as_bytes());
                assert_eq!(answer.error(), (401, "unauthorized"), "{method} {target}");
                asked += 1;
            }
        }
    }
    assert!(asked >= 9 * 2 * METHODS.len(), "{asked}");
    assert_eq!(seen(), before);
}

fn web_pages_are_refused(setup: Setup) {
    let world = setup.api().up();
    let client = world.client();
    let [host, token] = client.headers();
    let ask = |headers: &[&str]| client.send("GET", "/api/openapi.json", headers, b"");
    for origin in ["http://evil.example", "null", "", &format!("http://{}", client.address())] {
        let answer = ask(&[&host, &token, &format!("origin: {origin}")]);
        assert_eq!(answer.error(), (403, "origin_refused"), "{origin:?}");
        let cors = |name: &str| name.starts_with("access-control-");
        assert!(!answer.headers.iter().any(|(name, _)| cors(name)), "{answer:?}");
    }
    let preflight = ["origin: http://evil.example", "access-control-request-method: POST"];
    let answer = client.send("OPTIONS", "/api/openapi.json", &preflight, b"");
    assert_eq!(answer.error(), (403, "origin_refused"));
    for host in ["evil.example", "evil.example:8642", "127.0.0.1.evil.example", "localhost.", ""] {
        let answer = ask(&[&format!("host: {host}"), &token]);
        assert_eq!(answer.error(), (403, "host_refused"), "{host:?}");
    }
    assert_eq!(ask(&[&token]).error(), (403, "host_refused"), "no host at all");
    let rebound =
        format!("GET http://evil.example/readyz HTTP/1.1\r\n{host}\r\nconnection: close\r\n\r\n");
    assert_eq!(client.send_raw(rebound.as_bytes()).error(), (403, "host_refused"));
    for host in ["localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:9", "192.168.7.7"] {
        assert_eq!(ask(&[&format!("host: {host}"), &token]).status, 200, "{host}");
    }
}

fn whether_the_host_is_well_is_no_secret(setup: Setup) {
    let world = setup.api().up();
    let client = world.client();
    let host = &client.headers()[..1];
    let lives = client.send("GET", "/healthz", host, b"");
    assert_eq!((lives.status, lives.body), (200, json!({ "status": "ok" })));
    let ready = client.send("GET", "/readyz", host, b"");
    assert_eq!((ready.status, ready.body), (200, json!({ "status": "ready" })));

    let other = rusqlite::Connection::open(world.data().join("host.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(client.send("GET", "/readyz", host, b"").status, 200, "a writer keeps no reader");
    other.execute_batch("ROLLBACK; ALTER TABLE install RENAME TO elsewhere").unwrap();
    let answer = client.send("GET", "/readyz", host, b"");
    assert_eq!(answer.error(), (503, "not_ready"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(client.send("GET", "/healthz", host, b"").status, 200);
    other.execute_batch("ALTER TABLE elsewhere RENAME TO install").unwrap();
    assert_eq!(client.send("GET", "/readyz", host, b"").status, 200);
}

fn mistakes_have_the_shape_of_errors(setup: Setup) {
    let world = setup.api().up();
    let client = world.client();
    assert_eq!(client.ask("GET", "/api/nothing").error(), (404, "not_found"));
    assert_eq!(client.ask("GET", "/api/openapi.json/").error(), (404, "not_found"));
    assert_eq!(client.ask("POST", "/no/such/path").error(), (404, "not_found"));
    for (method, path) in [("DELETE", "/api/openapi.json"), ("POST", "/readyz")] {
        let answer = client.ask(method, path);
        assert_eq!(answer.error(), (405, "method_not_allowed"), "{path}");
        assert_eq!(answer.header("allow"), Some("GET,HEAD"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

fn a_port_that_is_taken_is_in_nobody_elses_way(setup: Setup) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let world = setup.setting("api.listen", address).agent("ada", echo()).up();
    assert_eq!(world.chat("ada").ask("hello"), "echo: hello");
    assert_eq!(world.status().unwrap()["api"], json!(null));
    let log = world.host_log();
    assert!(log.contains(&format!("could not listen on {address}")), "{log}");
    assert!(log.contains("set api.listen to another address"), "{log}");
    // What it could have learnt, and who it is: the test itself.
    let holder = format!("which process {} (", std::process::id());
    assert!(log.contains(&holder) && log.contains("twobox token renew"), "{log}");
    assert_eq!(inside(&world, "GET", "/api/runs", "").status, 200, "the socket is served");
    world.stop_host();
    drop(taken);
    world.up();
    assert_eq!(world.client().address(), address);
}

fn an_api_on_the_network_comes_with_a_warning(setup: Setup) {
    let world = setup.setting("api.listen", "0.0.0.0:0").up();
    wait_for("the warning", || world.host_log().contains("in the clear").then_some(()));
    let client = world.client();
    let [_, token] = client.headers();
    let named = client.send("GET", "/api/openapi.json", &["host: twobox.example", &token], b"");
    assert_eq!(named.status, 200);
}

/// Asks by the socket, with headers of one's own, each with its line's end.
fn inside(world: &World, method: &str, path: &str, headers: &str) -> Answer {
    let mut stream = world.api_socket();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    write!(stream, "{head}{headers}\r\n").unwrap();
    read_answer(&mut stream)
}

fn the_socket_lets_its_owner_in_without_a_token(setup: Setup) {
    let world = setup.agent("ada", echo()).up();
    assert_eq!(world.status().unwrap()["api"], json!(null), "no port is needed");
    let path = world.data().join("api.sock");
    assert_eq!(world.status().unwrap()["api_socket"], json!(path));
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut stream = world.api_socket();
    for _ in 0..2 {
        stream.write_all(b"GET /api/openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        assert_eq!(read_one_answer(&mut stream).status, 200, "it stays connected");
    }
    let body = daily("evening").to_string();
    let length = body.len();
    write!(
        stream,
        "POST /api/schedules HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    assert_eq!(read_one_answer(&mut stream).status, 201);
    let wrong = "authorization: Bearer x\r\n";
    assert_eq!(inside(&world, "GET", "/api/runs", wrong).status, 200, "nobody asks for one");
    // What is put in front of it may be reached by web pages.
    let page = inside(&world, "GET", "/api/runs", "origin: http://evil.example\r\n");
    assert_eq!(page.error(), (403, "origin_refused"));
    let mut stream = world.api_socket();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: evil.example\r\n\r\n").unwrap();
    assert_eq!(read_one_answer(&mut stream).error(), (403, "host_refused"));

    world.kill_host();
    world.up();
    assert_eq!(inside(&world, "GET", "/api/schedules/evening", "").status, 200, "a stale one");
    world.stop_host();
    assert!(!path.exists());
}

fn a_renewed_token_counts_at_once(setup: Setup) {
    let world = setup.api().up();
    let before = world.client();
    let [host, token] = before.headers();
    let mut stays = before.connect();
    let ask = format!("GET /api/runs HTTP/1.1\r\n{host}\r\n{token}\r\n\r\n");
    stays.write_all(ask.as_bytes()).unwrap();
    assert_eq!(read_one_answer(&mut stays).status, 200);

    let said = world.twobox(&["token", "renew"]);
    assert!(!said.contains(world.twobox(&["token", "show"]).trim()), "it shows it to nobody");
    assert_eq!(before.ask("GET", "/api/runs").error(), (401, "unauthorized"));
    stays.write_all(ask.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stays).error(), (401, "unauthorized"), "and it is let go");
    let after = world.client();
    assert_ne!(after.headers()[1], token);
    assert_eq!(after.ask("GET", "/api/runs").status, 200);

    fs::write(world.data().join("api.token"), "nonsense").unwrap();
    assert_eq!(after.ask("GET", "/api/runs").error(), (401, "unauthorized"));
    world.twobox(&["token", "renew"]);
    assert_eq!(world.client().ask("GET", "/api/runs").status, 200);
    world.stop_host();
    world.twobox(&["token", "renew"]);
    world.up();
    assert_eq!(world.client().ask("GET", "/api/runs").status, 200);
}
