//! Servers of MCP that the host asks for a model, over HTTP.

use std::io::{self, BufRead, Write};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use twobox_shared::outbox::AckStatus;

use crate::far::{Server, header, json_answer};
use crate::gateway::{Answer, Far, Gateway, Request};
use crate::session::{Runner, Session, repository, wait_for};

/// A session whose agent has the server `far`.
fn hosted(required: bool) -> Session {
    let session = Session::new();
    let route = json!({
        "name": "up/m",
        "api": "messages",
        "path": "/up/v1/messages",
        "context_tokens": 200_000,
        "max_output_tokens": 1_000,
        "images": true,
    });
    let servers = json!([{"name": "far", "required": required}]);
    let config = json!({
        "provider": {"kind": "model", "model": "up/m"},
        "gateway": {"key": "k", "routes": [route], "servers": servers},
        "tool_timeout_sec": 2,
    });
    session.configure(&config.to_string());
    session
}

fn session(server: &Server, answers: Vec<Answer>, required: bool) -> (Session, Gateway) {
    let session = hosted(required);
    let gateway = Gateway::with(&session.paths.gateway_socket(), answers, Some(server.far()));
    (session, gateway)
}

fn wants(name: &'static str) -> Answer {
    Answer::Wants(vec![(name, json!({"a": 1, "b": 41}))])
}

/// What the last message of a request says, in one text.
fn newest(asked: &Value) -> String {
    asked["messages"].as_array().unwrap().last().unwrap().to_string()
}

fn turn(session: &Session, name: &str) {
    session.say(name, "go on");
    session.wait_ack(name, AckStatus::Completed);
}

/// What a model that used `tools`, one after the other, was told of each.
fn told(server: &Server, tools: &[&'static str]) -> (Vec<String>, String) {
    let answers = tools.iter().map(|tool| wants(tool)).chain([Answer::Says("done")]).collect();
    let (session, gateway) = session(server, answers, false);
    let runner: Runner = session.start();
    turn(&session, "m1");
    let told = (1..=tools.len()).map(|number| newest(&gateway.asked(number))).collect();
    (told, runner.stop())
}

#[test]
fn a_server_over_http_is_asked_in_the_form_that_it_knows() {
    for modern in [false, true] {
        let server = Server::start(modern);
        let (results, _) = told(&server, &["mcp__far__add", "mcp__far__stream"]);
        assert!(results[0].contains("\"42\""), "{results:?}");
        assert!(results[1].contains("str\u{e9}amed"), "split into bytes: {results:?}");
        let calls = server.asked("tools/call");
        assert!(calls[0].line.starts_with("POST /mcp?server=far HTTP/1.1"), "{:?}", calls[0]);
        assert_eq!(header(&calls[0], "authorization"), Some("Bearer k"));
        assert_eq!(header(&calls[0], "accept"), Some("application/json, text/event-stream"));
        let of_call =
            ["mcp-protocol-version", "mcp-session-id", "mcp-method", "mcp-name", "mcp-param-a"]
                .map(|name| header(&calls[0], name));
        let replies: Vec<Value> = server
            .0
            .lock()
            .unwrap()
            .asked
            .iter()
            .filter_map(|it| serde_json::from_str(&it.body).ok())
            .filter(|it: &Value| it.get("method").is_none())
            .collect();
        match modern {
            false => {
                assert_eq!(of_call, [Some("2025-06-18"), Some("s-1"), None, None, None]);
                assert_eq!(header(&server.asked("initialize")[0], "mcp-protocol-version"), None);
                assert_eq!(server.asked("notifications/initialized").len(), 1);
                assert_eq!(replies[0], json!({"jsonrpc": "2.0", "id": "p", "result": {}}));
                assert_eq!(
                    (&replies[1]["id"], &replies[1]["error"]["code"]),
                    (&json!(7), &json!(-32601))
                );
                let ended = server.asked("DELETE");
                assert_eq!(ended.len(), 1, "the session ends with its runner");
                assert_eq!(header(&ended[0], "mcp-session-id"), Some("s-1"));
            }
            true => {
                let expected =
                    [Some("2026-07-28"), None, Some("tools/call"), Some("add"), Some("1")];
                assert_eq!(of_call, expected);
                assert_eq!(replies.len(), 0, "nobody asks a client in this form");
                assert!(server.asked("initialize").is_empty() && server.asked("DELETE").is_empty());
            }
        }
    }
}

#[test]
fn an_answer_that_broke_off_goes_on_where_its_server_says_and_no_other_is_asked_for_twice() {
    let server = Server::start(false);
    let (results, _) = told(&server, &["mcp__far__resume", "mcp__far__cut"]);
    assert!(results[0].contains("resumed"), "{results:?}");
    assert!(results[1].contains("nobody knows whether it was done"), "{results:?}");
    assert_eq!(server.asked("tools/call").len(), 2);
    let resumed = server
        .asked("GET")
        .into_iter()
        .filter_map(|it| header(&it, "last-event-id").map(str::to_owned));
    assert_eq!(resumed.count(), 1);
}

#[test]
fn a_session_that_its_server_has_forgotten_is_begun_anew_once() {
    let server = Server::start(false);
    let (results, stderr) =
        told(&server, &["mcp__far__forget", "mcp__far__add", "mcp__far__forgetful"]);
    assert!(results[0].contains("\"42\"") && results[1].contains("\"42\""), "{results:?}");
    assert!(results[2].contains("it forgets the session as soon as there is one"), "{results:?}");
    assert!(stderr.contains("the MCP server far has forgotten this session"), "{stderr}");
    let calls = server.asked("tools/call");
    let sessions: Vec<_> = calls.iter().map(|it| header(it, "mcp-session-id").unwrap()).collect();
    assert_eq!(sessions, ["s-1", "s-101", "s-101", "s-101", "s-102"]);
}

#[test]
fn what_a_server_does_wrong_is_told_apart_and_ends_no_turn() {
    let cases = [
        ("mcp__far__huge", "it answers more than 16 MiB"),
        ("mcp__far__html", "what it answers is no MCP: it is \\\"text/html\\\""),
        ("mcp__far__broken", "the HTTP status 500: it broke"),
        ("mcp__far__slow", "it has not answered in 2 s, and nobody knows"),
        ("mcp__far__refused", "the MCP server far: it cannot be reached"),
    ];
    let server = Server::start(false);
    let (results, _) = told(&server, &cases.map(|(tool, _)| tool));
    for ((tool, expected), result) in cases.iter().zip(&results) {
        assert!(
            result.contains(expected) && result.contains("\"is_error\":true"),
            "{tool}: {result}"
        );
    }
    assert_eq!(server.asked("tools/call").len(), cases.len(), "none was asked twice");
    assert_eq!(server.asked("notifications/cancelled").len(), 1);
}

#[test]
fn a_server_that_has_other_tools_says_so_to_whoever_listens() {
    for modern in [false, true] {
        let server = Server::start(modern);
        let answers = vec![wants("mcp__far__grow"), Answer::Says("one"), Answer::Says("two")];
        let (session, gateway) = session(&server, answers, false);
        let runner = session.start();
        session.say("m0", "go on");
        let listening = || !server.0.lock().unwrap().listeners.is_empty();
        wait_for("a listener", || listening().then_some(()));
        session.wait_ack("m0", AckStatus::Completed);
        let names = |number| gateway.asked(number)["tools"].to_string();
        assert!(!names(0).contains("mcp__far__grown"));
        // What was said has been heard when the tools are asked for again.
        let lists = server.asked("tools/list").len();
        let mut number = 0;
        wait_for("the tools", || {
            number += 1;
            gateway.then([Answer::Says("more")]);
            turn(&session, &format!("m{number}"));
            (server.asked("tools/list").len() > lists).then_some(())
        });
        assert!(names(gateway.bodies().len() - 1).contains("mcp__far__grown"), "modern: {modern}");
        runner.stop();
    }
}

#[test]
fn a_server_that_is_of_no_use_is_told_of_and_is_asked_again_with_the_next_turn() {
    let server = Server::start(false);
    let own = |words: &str| {
        let body = json!({"error": {"message": words}}).to_string();
        json_answer("502 No", "x-twobox-refusal: unreachable\r\n", &body)
    };
    let cases = [
        (own("Twobox: the MCP server far: it cannot be reached"), "far: it cannot be reached"),
        (json_answer("404 No", "", "{}"), "there is no MCP at its address"),
        (json_answer("200 OK", "", "[1, 2]"), "it is no answer to what was asked"),
        (json_answer("503 No", "", "{}"), "the HTTP status 503"),
    ];
    for (only, expected) in cases {
        server.0.lock().unwrap().only = Some(only);
        let answers = vec![Answer::Says("one"), wants("mcp__far__add"), Answer::Says("two")];
        let (session, gateway) = session(&server, answers, false);
        let runner = session.start();
        turn(&session, "m1");
        let first = gateway.asked(0)["messages"].to_string();
        assert!(
            first.contains("The MCP server far is of no use now") && first.contains(expected),
            "{first}"
        );
        server.0.lock().unwrap().only = None;
        turn(&session, "m2");
        assert!(gateway.asked(1)["messages"].to_string().contains("far is there again"));
        assert!(newest(&gateway.asked(2)).contains("\"42\""));
        runner.stop();
    }
}

#[test]
fn a_turn_that_is_taken_back_waits_for_no_server_over_http() {
    let server = Server::start(false);
    let (session, gateway) = session(&server, vec![], false);
    // It takes the request, and says nothing for as long as this is held.
    let silent = server.0.lock().unwrap();
    session.say("m1", "go");
    let runner = session.start();
    wait_for("the claim", || session.ack("m1"));
    session.take_back(&["m1"]);
    session.wait_failed("m1");
    assert_eq!(gateway.bodies().len(), 0);
    drop(silent);
    runner.stop();
}

#[test]
fn no_turn_goes_on_without_a_server_over_http_that_is_required() {
    let server = Server::start(false);
    server.0.lock().unwrap().only = Some(json_answer("404 No", "", "{}"));
    let (session, gateway) = session(&server, vec![], true);
    session.say("m1", "go");
    let runner = session.start();
    let failure = session.wait_failed("m1");
    assert!(failure.detail.contains("the MCP server far, which is required"), "{failure:?}");
    assert!(failure.detail.contains("there is no MCP at its address"), "{failure:?}");
    assert_eq!(gateway.bodies().len(), 0);
    runner.stop();
}

/// The server of the Python library, and the host between it and a runner.
struct Python {
    process: std::process::Child,
    port: u16,
}

impl Python {
    fn start(port: u16, json: bool) -> Self {
        let python = std::env::var("TWOBOX_TEST_PYTHON").expect("scripts/test-sdks sets it");
        let mut command = std::process::Command::new(python);
        command.arg(repository("tests/sdk/mcp_server.py")).arg(port.to_string());
        command.args(json.then_some("json")).stdout(std::process::Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        io::BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, port: line.trim().parse().unwrap() }
    }

    /// The host, of a server that knows the newer form or does not, which notes what it was asked.
    fn far(&self, modern: bool, asked: &Arc<Mutex<Vec<Request>>>) -> Far {
        let (port, asked) = (self.port, Arc::clone(asked));
        Arc::new(move |request, stream| {
            asked.lock().unwrap().push(request.clone());
            if !modern && header(request, "mcp-protocol-version") == Some("2026-07-28") {
                return stream.write_all(json_answer("400 Bad Request", "", "{}").as_bytes());
            }
            let method = request.line.split(' ').next().unwrap();
            let mut head = format!("{method} /mcp HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n");
            for (name, value) in &request.headers {
                if !["host", "authorization"].contains(&name.as_str()) {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
            }
            let Ok(mut server) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
                let body = json!({"error": {"message": "it cannot be reached"}}).to_string();
                let own = "x-twobox-refusal: unreachable\r\n";
                return stream.write_all(json_answer("502 No", own, &body).as_bytes());
            };
            write!(server, "{head}\r\n{}", request.body)?;
            io::copy(&mut server, stream).map(drop)
        })
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.process.kill()); // it may have ended
        drop(self.process.wait());
    }
}

/// What the server of the Python library `mcp` makes of the client; `scripts/test-sdks` has it.
#[test]
#[ignore = "needs the Python library mcp: scripts/test-sdks"]
fn the_python_server_over_http_is_used_in_both_forms() {
    for (modern, json) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut python = Python::start(0, json);
        let asked = Arc::default();
        let tools = ["mcp__far__add", "mcp__far__talk", "mcp__far__fail"];
        let answers = tools.map(wants).into_iter().chain([Answer::Says("one")]);
        let answers = answers.chain([wants(tools[0]), Answer::Says("two")]).collect();
        let session = hosted(false);
        let far = python.far(modern, &asked);
        let gateway = Gateway::with(&session.paths.gateway_socket(), answers, Some(far));
        let runner = session.start();
        turn(&session, "m1");
        let results = [1, 2, 3].map(|number| newest(&gateway.asked(number)));
        let case = format!("modern: {modern}, json: {json}");
        assert!(results[0].contains("sum=42"), "{case}: {results:?}");
        assert!(results[1].contains("talked"), "{case}: {results:?}");
        assert!(results[2].contains("\"is_error\":true"), "{case}: {results:?}");
        // Another process knows no session.
        let port = python.port;
        drop(python);
        python = Python::start(port, json);
        turn(&session, "m2");
        let after = newest(&gateway.asked(5));
        assert!(after.contains("sum=42"), "{case}: {after} {}", runner.stderr());
        let stderr = runner.stop();
        assert_eq!(stderr.contains("has forgotten this session"), !modern, "{case}: {stderr}");
        let count = |method: &str| {
            let asked: std::sync::MutexGuard<'_, Vec<Request>> = asked.lock().unwrap();
            asked.iter().filter(|it| it.line.starts_with(method)).count()
        };
        assert_eq!(count("DELETE"), usize::from(!modern), "{case}");
        assert_eq!(count("GET") > 0, !modern, "{case}");
        drop(python);
    }
}
