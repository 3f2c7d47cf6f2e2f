//! Servers of MCP whose tools a model has. They are a few lines of Python here.

use std::path::Path;

use serde_json::{Value, json};
use twobox_shared::outbox::AckStatus;

use crate::gateway::{Answer, Gateway};
use crate::session::{Session, wait_for};

/// A server of the form that its argument names.
const SERVER: &str = r#"
import json, os, sys, time
form, tools, listening = sys.argv[1], ["add", "pid", "long", "wait", "die", "grow", "odd name", "fail"], []
def say(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
def schema():
    return {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
def text(text, failed=False):
    return {"content": [{"type": "text", "text": text}], "isError": failed}
def call(name, given):
    if name == "add": return text(str(given["a"] + given["b"]))
    if name == "pid": return text(f"pid={os.getpid()}.")
    if name == "long": return text("begin " + "x" * 100000 + " end")
    if name == "wait": return None
    if name == "die": os._exit(3)
    if name == "fail": return text("it broke", True)
    tools.append("grown")
    for about in listening or [{}]:
        say(method="notifications/tools/list_changed", params=about)
    return text("there is more now")
print("a server that prints what it does")
for line in sys.stdin:
    asked = json.loads(line)
    method, id, params = asked["method"], asked.get("id"), asked.get("params", {})
    modern = "_meta" in params
    if id is None:
        continue
    if form == "mute":
        continue
    if modern and form == "handshake":
        say(id=id, error={"code": -32601, "message": "no such method"})
    elif not modern and form == "modern":
        say(id=id, error={"code": -32022, "message": "no", "data": {"supported": ["2026-07-28"]}})
    elif method == "server/discover":
        say(id=id, result={"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
    elif method == "subscriptions/listen":
        listening.append({"_meta": {"io.modelcontextprotocol/subscriptionId": id}})
    elif method == "initialize":
        say(id=id, result={"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}})
    elif method == "tools/list":
        half = 3 if "cursor" not in params else 0
        listed = tools[:3] if half else tools[3:]
        page = {"tools": [{"name": name, "description": name, "inputSchema": schema()} for name in listed]}
        say(id=id, result={**page, **({"nextCursor": "more"} if half else {})})
    elif method == "tools/call":
        result = call(params["name"], params["arguments"])
        if result is not None:
            say(id=id, result=result)
"#;

fn session(answers: Vec<Answer>, servers: Value, more: Value) -> (Session, Gateway) {
    let session = Session::new();
    session.program_file("server.py", SERVER);
    let route = json!({
        "name": "up/m",
        "api": "messages",
        "path": "/up/v1/messages",
        "context_tokens": 200_000,
        "max_output_tokens": 1_000,
        "images": true,
    });
    let mut config = json!({
        "provider": {"kind": "model", "model": "up/m", "mcp": servers},
        "gateway": {"key": "k", "routes": [route]},
    });
    if let Some(tools) = more.get("tools") {
        config["provider"]["tools"] = tools.clone();
    }
    if let Some(span) = more.get("tool_timeout_sec") {
        config["tool_timeout_sec"] = span.clone();
    }
    session.configure(&config.to_string());
    let gateway = Gateway::at(&session.paths.gateway_socket(), answers);
    (session, gateway)
}

fn server(form: &str) -> Value {
    json!({"command": ["python3", "server.py", form]})
}

fn both() -> Value {
    json!({"old": server("handshake"), "new": server("modern")})
}

fn wants(names: &[&'static str]) -> Answer {
    Answer::Wants(names.iter().map(|name| (*name, json!({"a": 1, "b": 41}))).collect())
}

fn names(asked: &Value) -> Vec<&str> {
    asked["tools"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect()
}

/// What the last message of a request says, in one text.
fn newest(asked: &Value) -> String {
    asked["messages"].as_array().unwrap().last().unwrap().to_string()
}

fn turn(session: &Session, name: &str) {
    session.say(name, "go on");
    session.wait_ack(name, AckStatus::Completed);
}

#[test]
fn a_model_has_the_tools_of_servers_of_both_forms_and_they_live_on_between_turns() {
    let used =
        ["mcp__old__add", "mcp__new__add", "mcp__old__fail", "mcp__old__pid", "mcp__new__pid"];
    let answers = vec![wants(&used), Answer::Says("one"), wants(&used[3..]), Answer::Says("two")];
    let (session, gateway) = session(answers, both(), json!({"tools": {"mcp__new__die": "deny"}}));
    let runner = session.start();
    turn(&session, "m1");
    let asked = gateway.asked(0);
    let told = names(&asked);
    assert!(told.contains(&"bash") && told.contains(&"mcp__old__die"), "{told:?}");
    assert!(told.contains(&"mcp__new__grow"), "the second page too: {told:?}");
    assert!(!told.contains(&"mcp__new__die"), "{told:?}");
    assert!(!told.iter().any(|name| name.contains(' ')), "{told:?}");
    let results = newest(&gateway.asked(1));
    assert_eq!(results.matches("\"42\"").count(), 2, "{results}");
    assert!(results.contains("it broke") && results.contains("\"is_error\":true"), "{results}");
    let pids = |results: &str| -> Vec<String> {
        let parts = results.split("pid=").skip(1);
        parts.map(|it| it.split('.').next().unwrap().to_owned()).collect()
    };
    let before = pids(&results);
    turn(&session, "m2");
    let after = newest(&gateway.asked(3));
    assert_eq!(pids(&after), before);
    assert_eq!(before.len(), 2, "{results}");
    runner.stop();
    for pid in before {
        assert!(!Path::new("/proc").join(&pid).exists(), "server {pid} outlived its runner");
    }
}

#[test]
fn a_server_that_is_of_no_use_is_told_of_and_ends_no_turn() {
    let servers = json!({
        "gone": {"command": ["no-such-program"]},
        "short": {"command": ["true"]},
        "old": server("handshake"),
    });
    let answers = vec![
        wants(&["mcp__old__add"]),
        Answer::Says("one"),
        wants(&["mcp__old__die"]),
        Answer::Says("two"),
        wants(&["mcp__old__add"]),
        Answer::Says("three"),
    ];
    let (session, gateway) = session(answers, servers, json!({"tools": {"mcp__gone": "deny"}}));
    let runner = session.start();
    turn(&session, "m1");
    let first = gateway.asked(0)["messages"].to_string();
    assert!(first.contains("The MCP server gone is of no use now"), "{first}");
    assert!(first.contains("no-such-program") && first.contains("server short"), "{first}");
    assert!(newest(&gateway.asked(1)).contains("\"42\""));
    turn(&session, "m2");
    assert_eq!(
        gateway.asked(2)["messages"].to_string().matches("of no use now").count(),
        2,
        "once"
    );
    assert!(newest(&gateway.asked(3)).contains("it has ended"));
    turn(&session, "m3");
    assert!(newest(&gateway.asked(5)).contains("\"42\""), "it was started again");
    let stderr = runner.stop();
    assert!(stderr.contains("the MCP server gone is of no use"), "{stderr}");
}

#[test]
fn no_turn_goes_on_without_a_server_that_is_required() {
    let servers = json!({"gone": {"command": ["no-such-program"], "required": true}});
    let (session, gateway) = session(vec![], servers, json!({}));
    session.say("m1", "go");
    let runner = session.start();
    let failure = session.wait_failed("m1");
    assert!(failure.detail.contains("the MCP server gone, which is required"), "{failure:?}");
    assert!(failure.detail.contains("no-such-program"), "{failure:?}");
    assert_eq!(gateway.bodies().len(), 0);
    runner.stop();
}

#[test]
fn what_a_tool_of_a_server_says_and_how_long_it_takes_is_bounded() {
    let answers =
        vec![wants(&["mcp__new__long"]), wants(&["mcp__new__wait"]), Answer::Says("done")];
    let (session, gateway) = session(answers, both(), json!({"tool_timeout_sec": 1}));
    let runner = session.start();
    turn(&session, "m1");
    let long = newest(&gateway.asked(1));
    assert!(long.len() < 35_000 && long.contains("begin x") && long.contains("x end"), "{long}");
    assert!(long.contains("all of it is in"), "{long}");
    assert!(newest(&gateway.asked(2)).contains("it has not answered in 1 s"));
    runner.stop();
}

#[test]
fn a_server_that_has_other_tools_is_asked_again_with_the_next_turn() {
    let grow = ["mcp__old__grow", "mcp__new__grow"];
    let (session, gateway) =
        session(vec![wants(&grow), Answer::Says("one"), Answer::Says("two")], both(), json!({}));
    let runner = session.start();
    turn(&session, "m1");
    turn(&session, "m2");
    let (first, later) = (gateway.asked(0), gateway.asked(2));
    for name in ["mcp__old__grown", "mcp__new__grown"] {
        assert!(!names(&first).contains(&name) && names(&later).contains(&name), "{name}: {later}");
    }
    runner.stop();
}

#[test]
fn a_turn_that_is_taken_back_waits_for_no_server() {
    let (session, gateway) = session(vec![], json!({"mute": server("mute")}), json!({}));
    session.say("m1", "go");
    let runner = session.start();
    wait_for("the claim", || session.ack("m1"));
    session.take_back(&["m1"]);
    session.wait_failed("m1");
    assert_eq!(gateway.bodies().len(), 0);
    runner.stop();
}
