//! What `twobox doctor` says of secrets, upstreams and what agents ask of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::{configure, given, initialised, json_of, ok, twobox, upstream};

/// What `doctor` says of `name`.
fn check(data: &Path, name: &str) -> Option<Value> {
    let said = json_of(&twobox(data, &["--json", "doctor"]));
    said["checks"].as_array().unwrap().iter().find(|check| check["check"] == name).cloned()
}

#[test]
fn doctor_tells_of_a_secret_that_an_agent_lacks_and_of_one_that_others_can_read() {
    let (_dir, data) = initialised();
    assert_eq!((check(&data, "models"), check(&data, "secrets")), (None, None), "nobody wants any");
    let agent = r#"{"provider": {"kind": "model", "model": "router/m"}}"#;
    std::fs::write(data.join("agents/assistant.json"), agent).unwrap();
    let said = |level: &str, parts: &[&str]| {
        let check = check(&data, "models").unwrap();
        assert_eq!(check["level"], level, "{check}");
        for part in parts {
            assert!(check.to_string().contains(part), "{part}: {check}");
        }
    };
    said(
        "fail",
        &[
            "assistant: provider.model: model router/m: there is no upstream",
            "agents edit assistant",
        ],
    );
    let section =
        "[gateway.upstreams.router]\nkind = 'compatible'\nbase_url = 'http://127.0.0.1:9'\n";
    configure(&data, section);
    said("fail", &["wants the secret router, which is nowhere", "secrets set router"]);
    let missing = json_of(&twobox(&data, &["--json", "secrets", "list"]));
    assert_eq!(missing["missing"], json!([{ "upstream": "router", "secret": "router" }]));
    ok(&given(&data, &["secrets", "set", "router"], b"sk-hidden"));
    said("ok", &["3 upstreams are known"]);
    configure(&data, &format!("{section}[gateway]\nusd_per_day = 1\n"));
    said("warn", &["assistant: router/m has no price"]);
    configure(&data, "[gateway.upstreams.router]\nkind = 'own'\n");
    said("fail", &["gateway.upstreams.router.kind: unknown variant `own`"]);
    assert_eq!(check(&data, "secrets").unwrap()["level"], "ok");
    let file = data.join("secrets/router");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let open = check(&data, "secrets").unwrap();
    assert_eq!(open["level"], "warn", "{open}");
    assert!(open["detail"].as_str().unwrap().contains("router is open to other users"), "{open}");
}

#[test]
fn doctor_says_of_each_upstream_what_keeps_it_from_answering() {
    let (_dir, data) = initialised();
    let agent = r#"{"provider": {"kind": "model", "model": "router/large"}}"#;
    std::fs::write(data.join("agents/assistant.json"), agent).unwrap();
    let list = r#"{"data":[{"id":"large"}]}"#;
    let refused = r#"{"error":{"message":"invalid key"}}"#;
    for (status, body, level, parts) in [
        ("200 OK", list, "ok", &["listed by router"][..]),
        ("401 Unauthorized", refused, "fail", &["invalid key", "secrets set router` with a key"]),
        ("500 Oh", refused, "warn", &["500", "start the program that serves models at http://127"]),
        (
            "200 OK",
            r#"{"data":[{"id":"larger"}]}"#,
            "warn",
            &["assistant: router does not list large", "models router`", "edit assistant --model"],
        ),
    ] {
        let (address, serving) = upstream(vec![(status, body)]);
        configure(
            &data,
            &format!("[gateway.upstreams.router]\nkind = 'compatible'\nbase_url = '{address}'\n"),
        );
        assert_eq!(
            check(&data, "upstreams"),
            None,
            "nobody is asked without the key that it wants"
        );
        ok(&given(&data, &["secrets", "set", "router"], b"sk-hidden"));
        let said = check(&data, "upstreams").unwrap();
        assert_eq!(said["level"], level, "{said}");
        for part in parts {
            assert!(said.to_string().contains(part), "{part}: {said}");
        }
        assert!(serving.join().unwrap()[0].contains("sk-hidden"));
        ok(&twobox(&data, &["secrets", "remove", "router"]));
    }
    // One that is not there at all.
    ok(&given(&data, &["secrets", "set", "router"], b"sk-hidden"));
    let said = check(&data, "upstreams").unwrap();
    assert_eq!(said["level"], "warn", "{said}");

    let agent = r#"{"provider": {"kind": "claude", "model": "router/large"}}"#;
    std::fs::write(data.join("agents/assistant.json"), agent).unwrap();
    let said = check(&data, "models").unwrap();
    assert!(said.to_string().contains("Claude Code speaks Anthropic's Messages"), "{said}");
    assert_eq!(check(&data, "upstreams"), None, "what it cannot speak with is not asked");
    let said = check(&data, "agents").unwrap();
    let help = said["help"].as_str().unwrap();
    assert!(help.starts_with("fetch it: scripts/fetch-cli --into "), "{said}");
    assert!(help.ends_with("/clis claude") && !help.contains("agents edit"), "{said}");
}

#[test]
fn an_agent_that_is_made_or_changed_is_told_what_it_wants_yet() {
    let (_dir, data) = initialised();
    let said = |arguments: &[&str]| {
        let output = twobox(&data, arguments);
        ok(&output);
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(said(&["agents", "add", "parrot"]), "", "an echo wants nothing");
    let add = ["agents", "add", "cody", "--provider", "claude", "--model", "anthropic/m"];
    let wants = said(&add);
    for part in
        ["fetch-cli --into ", "/clis claude", "wants the secret anthropic", "secrets set anthropic"]
    {
        assert!(wants.contains(part), "{part}: {wants}");
    }
    ok(&twobox(&data, &["agents", "add", "mo", "--model", "ollama/m"]));
    let server = ["mcp.hub.url=https://mcp.example/mcp", "mcp.hub.headers.X-Key=${secret:hub-key}"];
    let wants = said(&[&["agents", "set", "mo"], &server[..]].concat());
    let lacks =
        "mo wants something yet: the MCP server hub wants the secret hub-key, which is nowhere";
    assert!(wants.contains(lacks) && wants.contains("secrets set hub-key"), "{wants}");
    let refused = twobox(&data, &["agents", "set", "cody", "model=openai/m"]);
    let why = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{why}");
    assert!(why.contains("Claude Code speaks Anthropic's Messages"), "{why}");
    let wants = said(&["agents", "edit", "parrot", "--image", "one:1"]);
    assert!(
        wants.contains(
            "parrot wants something yet: image: a runner of the process runtime has no image"
        ),
        "{wants}"
    );
}

#[test]
fn an_agent_that_claude_code_answers_from_now_on_has_room_where_it_would_be_short_of_it() {
    let (_dir, data) = initialised();
    let cases: [(&str, &[&str], Value); 5] = [
        ("runtime = 'sandbox'", &[], json!(2048)),
        ("runtime = 'sandbox'", &["--memory", "1024"], json!(1024)),
        ("runtime = 'docker'\n[containers]\nmemory_mb = 2047", &[], json!(2048)),
        ("runtime = 'docker'\n[containers]\nmemory_mb = 8192", &[], Value::Null),
        ("runtime = 'process'", &[], Value::Null),
    ];
    for (nth, (config, more, memory)) in cases.into_iter().enumerate() {
        std::fs::write(data.join("twobox.toml"), format!("{config}\n")).unwrap();
        let name = format!("cody{nth}");
        let add = ["agents", "add", &name, "--provider", "claude", "--model", "anthropic/m"];
        ok(&twobox(&data, &[&add, more].concat()));
        let other = format!("parrot{nth}");
        ok(&twobox(&data, &[&["agents", "add", &other], more].concat()));
        ok(&twobox(&data, &["agents", "set", &other, "provider=claude", "model=anthropic/m"]));
        for name in [name, other] {
            let file = std::fs::read_to_string(data.join(format!("agents/{name}.json"))).unwrap();
            let file: Value = serde_json::from_str(&file).unwrap();
            assert_eq!(file["limits"]["memory_mb"], memory, "{config}: {file}");
        }
    }
}

#[test]
fn a_secret_that_a_server_of_an_agent_wants_is_listed_and_missed() {
    let (_dir, data) = initialised();
    let agent = |headers: &str| {
        let text = format!(
            r#"{{"provider": {{"kind": "model", "model": "ollama/m", "mcp":
                {{"hub": {{"url": "https://mcp.example/mcp", "headers": {{{headers}}}}}}}}}}}"#
        );
        std::fs::write(data.join("agents/assistant.json"), text).unwrap();
    };
    agent(r#""Authorization": "Bearer ${secret:hub-token}""#);
    let missing = json_of(&twobox(&data, &["--json", "secrets", "list"]))["missing"].clone();
    let server = "MCP server hub of assistant";
    assert_eq!(missing, json!([{"server": server, "secret": "hub-token"}]));
    let list = ok(&twobox(&data, &["secrets", "list"]));
    assert!(list.contains("the MCP server hub of assistant wants hub-token"), "{list}");
    let found = check(&data, "models").unwrap();
    assert_eq!(found["level"], "fail", "{found}");
    assert!(found.to_string().contains("the MCP server hub wants the secret hub-token"), "{found}");
    let set = ok(&given(&data, &["secrets", "set", "hub-token"], b"sk-hidden-value"));
    assert!(set.contains("used by MCP server hub of assistant"), "{set}");
    let listed = json_of(&twobox(&data, &["--json", "secrets", "list"]));
    assert_eq!(listed["secrets"][0]["servers"], json!([server]), "{listed}");
    assert_ne!(check(&data, "models").unwrap()["level"], "fail");
    let shown = ok(&twobox(&data, &["agents", "show", "assistant"]));
    assert!(shown.contains("provider.mcp = hub (https://mcp.example/mcp)"), "{shown}");
    agent(r#""Authorization": "Bearer sk-hidden-value""#);
    let found = check(&data, "agents").unwrap().to_string();
    assert!(found.contains("mcp.hub.headers.Authorization: names no secret"), "{found}");
    assert!(!found.contains("hidden"), "{found}");
}
