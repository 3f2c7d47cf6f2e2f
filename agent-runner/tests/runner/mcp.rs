//! `agent-runner mcp`: programs of the `command` provider use the host's tools, as clients of both forms of MCP.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};
use twobox_shared::ids::{RunnerId, SystemIds};
use twobox_shared::outbox::AckStatus;

use crate::session::{Session, repository, wait_for};

/// A client in a few lines. `ask` is of the form without a handshake, `plain` of the other one.
const CLIENT: &str = r#"
import json, os, subprocess, sys, time
HOW = json.loads(os.environ["TWOBOX_MCP"])
class Server:
    def __init__(self):
        self.process = subprocess.Popen([HOW["command"], *HOW["args"]], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env={})
        self.number = 0
    def line(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
    def hear(self):
        return json.loads(self.process.stdout.readline())
    def plain(self, method, **params):
        self.number += 1
        self.line(json.dumps({"jsonrpc": "2.0", "id": f"id-{self.number}", "method": method, "params": params}))
        answer = self.hear()
        assert answer["id"] == f"id-{self.number}", answer
        return answer
    def ask(self, method, **params):
        meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {}}
        return self.plain(method, _meta=meta, **params)
    def call(self, name, **arguments):
        result = self.plain("tools/call", name=name, arguments=arguments)["result"]
        return [result["isError"], result["content"][0]["text"]]
def say(**line):
    print(json.dumps(line), flush=True)
def turns():
    for line in sys.stdin:
        turn = json.loads(line)
        if turn["type"] == "turn":
            yield turn
"#;

/// A session whose agent does `body` in Python.
fn session(body: &str) -> Session {
    let session = Session::new();
    session.destination("team");
    session.program_file("agent.py", &format!("{CLIENT}{body}"));
    let command =
        r#"{"kind": "command", "command": ["python3", "agent.py"], "lifetime": "runner"}"#;
    session.configure(&format!(r#"{{"provider": {command}}}"#));
    session
}

/// What the agent has answered to the message that came first.
fn answered(session: &Session) -> Value {
    session.wait_ack("m1", AckStatus::Completed);
    let rows = session.rows();
    let mut replies = rows.iter().filter(|row| row.kind == "chat" && row.in_reply_to.is_some());
    serde_json::from_str(&replies.next_back().unwrap().chat().text).unwrap()
}

#[test]
fn a_program_has_the_hosts_tools_in_both_forms_of_mcp() {
    let session = session(
        r#"
for turn in turns():
    server, said = Server(), {}
    said["hello"] = server.plain("initialize", protocolVersion="2025-06-18", capabilities={},
                                 clientInfo={"name": "c", "version": "1"})["result"]
    server.line(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}))
    said["newer"] = server.plain("initialize", protocolVersion="2099-01-01")["result"]["protocolVersion"]
    said["ping"] = server.plain("ping")["result"]
    said["tools"] = server.plain("tools/list")["result"]
    said["sent"] = server.call("send_message", to="team", text="from the handshake")
    said["nobody"] = server.call("send_message", to="nobody", text="lost")
    said["field"] = server.call("send_message", to="team", txt="lost")
    said["no tool"] = server.call("rm")
    said["places"] = server.call("list_destinations")
    said["task"] = server.call("schedule_task", prompt="look", recurrence="hourly 00")
    said["unknown"] = server.plain("resources/list")["error"]
    server.line("this is no JSON")
    said["no json"] = server.hear()["error"]["code"]
    said["discovered"] = server.ask("server/discover")["result"]
    said["modern tools"] = server.ask("tools/list")["result"]
    said["modern"] = server.ask("tools/call", name="send_message",
                                arguments={"to": "team", "text": "without one"})["result"]
    said["other"] = server.plain("tools/list", _meta={
        "io.modelcontextprotocol/protocolVersion": "2027-01-01"})["error"]
    server.process.stdin.close()
    said["code"] = server.process.wait()
    say(type="reply", text=json.dumps(said))
    say(type="turn_done")
"#,
    );
    session.say("m1", "go");
    let runner = session.start();
    let said = answered(&session);
    assert_eq!(said["hello"]["protocolVersion"], "2025-06-18");
    assert_eq!(said["hello"]["serverInfo"]["name"], "twobox");
    assert_eq!((&said["newer"], &said["ping"]), (&json!("2025-11-25"), &json!({})));
    let tools = said["tools"]["tools"].as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"send_message") && names.contains(&"cancel_task"), "{names:?}");
    assert!(!names.contains(&"bash"), "it has its own: {names:?}");
    assert_eq!(tools[0]["inputSchema"]["required"], json!(["to", "text"]));
    assert_eq!(said["tools"].get("ttlMs"), None, "the older form has no such field");
    assert_eq!(said["sent"], json!([false, "It was sent."]));
    assert!(said["nobody"].to_string().contains("there is no such destination"), "{said}");
    assert!(said["field"].to_string().contains("no field"), "{said}");
    assert_eq!(said["no tool"][0], true);
    assert_eq!(said["places"], json!([false, "team"]));
    assert_eq!((&said["unknown"]["code"], &said["no json"]), (&json!(-32601), &json!(-32700)));
    assert_eq!(said["discovered"]["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(said["modern tools"]["tools"], said["tools"]["tools"]);
    assert_eq!(said["modern tools"]["resultType"], "complete");
    assert_eq!(said["modern tools"]["cacheScope"], "private");
    assert!(said["modern tools"]["ttlMs"].is_u64());
    assert_eq!(said["modern"]["resultType"], "complete");
    assert_eq!(said["other"]["code"], -32022);
    assert_eq!(said["other"]["data"]["supported"], json!(["2026-07-28"]));
    assert_eq!(said["code"], 0);
    let rows = session.rows();
    let texts: Vec<_> =
        rows.iter().filter(|row| row.kind == "chat").map(|it| it.chat().text).collect();
    assert_eq!(texts[..2], ["from the handshake", "without one"]);
    assert_eq!(rows[0].destination.platform_id.as_deref(), Some("elsewhere"));
    let asked = rows.iter().find(|row| row.kind == "system").unwrap();
    let asked: Value = serde_json::from_str(asked.content.as_deref().unwrap()).unwrap();
    assert_eq!((&asked["action"], &asked["prompt"]), (&json!("schedule_task"), &json!("look")));
    runner.stop();
}

/// What the Python library `mcp` makes of it; `scripts/test-sdks` has it.
#[test]
#[ignore = "needs the Python library mcp: scripts/test-sdks"]
fn the_python_client_uses_the_hosts_tools_in_all_its_modes() {
    let session = Session::new();
    session.destination("team");
    let python = std::env::var("TWOBOX_TEST_PYTHON").expect("scripts/test-sdks sets it");
    let program = repository("tests/sdk/mcp_client.py").display().to_string();
    let provider = json!({"kind": "command", "command": [python, program]});
    session.configure(&json!({"provider": provider}).to_string());
    session.say("m1", "go");
    let runner = session.start();
    let said = answered(&session);
    for (mode, version) in
        [("auto", "2026-07-28"), ("legacy", "2025-11-25"), ("2026-07-28", "2026-07-28")]
    {
        let said = &said[mode];
        assert_eq!(said["version"], version, "{mode}: {said} {}", runner.stderr());
        assert!(said["tools"].to_string().contains("send_message"), "{mode}: {said}");
        assert_eq!(said["sent"], json!([false, "It was sent."]), "{mode}");
        assert_eq!(said["lost"][0], true, "{mode}: {said}");
        assert_eq!(said["unknown"], -32601, "{mode}: {said}");
    }
    assert_eq!(session.texts()[..3], ["auto", "legacy", "2026-07-28"]);
    runner.stop();
}

/// What Claude Code makes of it, which asks a model that wants to send something.
#[test]
#[ignore = "needs Claude Code and the stand-in for models: scripts/test-sdks"]
fn claude_code_uses_the_hosts_tools() {
    let session = Session::new();
    session.destination("team");
    let variable = |name: &str| std::env::var(name).expect("scripts/test-sdks sets it");
    let command = format!(
        r#"cd "$TWOBOX_WORK" && ANTHROPIC_API_KEY=none ANTHROPIC_BASE_URL={url} ENABLE_TOOL_SEARCH=false \
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 CLAUDE_CONFIG_DIR="$TWOBOX_WORK/claude" {claude} -p \
        "use mcp__twobox__send_message" --allowedTools mcp__twobox \
        --mcp-config "{{\"mcpServers\": {{\"twobox\": $TWOBOX_MCP}}}}" --strict-mcp-config </dev/null >said 2>&1
        python3 -c 'import json; print(json.dumps({{"type": "reply", "text": json.dumps(open("said").read())}}))'
        echo '{{"type": "turn_done"}}'"#,
        url = variable("TWOBOX_TEST_MODELS"),
        claude = variable("TWOBOX_TEST_CLAUDE"),
    );
    let provider = json!({"kind": "command", "command": ["sh", "-c", command]});
    session.configure(&json!({"provider": provider}).to_string());
    session.say("m1", "go");
    let runner = session.start();
    let said = answered(&session);
    assert!(said.to_string().contains("It was sent."), "{said} {}", runner.stderr());
    let rows = session.rows();
    assert_eq!(rows[0].chat().text, "from Claude Code");
    assert_eq!(rows[0].destination.platform_id.as_deref(), Some("elsewhere"));
    runner.stop();
}

#[test]
fn a_tool_that_is_used_outside_of_a_turn_does_nothing() {
    let session = session(
        r#"
server, refused = Server(), None
for turn in turns():
    if refused is None:
        say(type="reply", text="the first turn is over")
        say(type="turn_done")
        while not server.call("list_destinations")[0]:
            time.sleep(0.01)
        refused = server.call("send_message", to="team", text="lost")
    else:
        say(type="reply", text=json.dumps(refused))
        say(type="turn_done")
"#,
    );
    session.say("m1", "go");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    session.say("m2", "and?");
    session.wait_ack("m2", AckStatus::Completed);
    let texts = session.texts();
    assert_eq!(texts[0], "the first turn is over");
    assert_eq!(texts[1..], [r#"[true, "no turn runs, so nothing was done"]"#]);
    runner.stop();
}

#[test]
fn what_a_tool_sends_is_fenced_like_the_runners_own() {
    let session = session(
        r#"
for turn in turns():
    server = Server()
    open(os.environ["TWOBOX_WORK"] + "/begun", "w").close()
    while not os.path.exists(os.environ["TWOBOX_WORK"] + "/go"):
        time.sleep(0.01)
    server.call("send_message", to="team", text="too late")
    say(type="turn_done")
"#,
    );
    session.say("m1", "go");
    let mut runner = session.start();
    wait_for("the turn", || session.folder("work/begun").exists().then_some(()));
    let thief = RunnerId::generate(&SystemIds).to_string();
    Connection::open(session.paths.outbound_db())
        .unwrap()
        .execute("UPDATE processing_ack SET runner_id = ?1", [&thief])
        .unwrap();
    std::fs::write(session.folder("work/go"), "").unwrap();
    let (code, stderr) = runner.end();
    assert_eq!(code, Some(76), "{stderr}");
    assert_eq!(session.texts(), Vec::<String>::new());
}

#[test]
fn whoever_says_by_a_tool_that_it_says_nothing_says_nothing() {
    let session = session(
        r#"
for turn in turns():
    if turn["messages"][-1]["text"] == "quiet":
        Server().call("say_nothing")
    say(type="turn_done")
"#,
    );
    session.say("m1", "quiet");
    let runner = session.start();
    session.wait_ack("m1", AckStatus::Completed);
    assert_eq!(session.rows().len(), 0);
    session.say("m2", "loud");
    session.wait_failed("m2");
    runner.stop();
}

#[test]
fn the_socket_is_the_runners_alone_and_goes_with_it() {
    for confined in [false, true] {
        let session = session(
            r#"
for turn in turns():
    said = [HOW["args"][-1], Server().call("send_message", to="team", text="hello")]
    say(type="reply", text=json.dumps(said))
    say(type="turn_done")
"#,
        );
        // Of a version manager's in somebody's home a confined runner has nothing.
        let command = r#"{"kind": "command", "command": ["/usr/bin/python3", "agent.py"]}"#;
        session.configure(&format!(r#"{{"provider": {command}}}"#));
        session.say("m1", "go");
        let args: &[&str] = if confined { &["--confine"] } else { &[] };
        let runner = session.start_with(args);
        let said = answered(&session);
        assert_eq!(said[1], json!([false, "It was sent."]), "{}", runner.stderr());
        let path = PathBuf::from(said[0].as_str().unwrap());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(path.starts_with(session.folder("work")), confined, "{}", path.display());
        runner.stop();
        assert!(!Path::new(&path).exists(), "confined: {confined}");
    }
}
