//! An agent that a model answers, in the image with tools.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::json;
use twobox_tests::models::{ModelServer, Script, Step};
use twobox_tests::{Setup, agent_image, docker, on_docker, skipped};

use crate::scripts::echo;

on_docker!(a_model_uses_the_tools_of_the_image_and_reaches_no_other_host);

/// One command line for each tool that the image promises.
const WORK: &str = r#"set -e
git init -q shop && cd shop
echo 'apples 7' >stock && git add stock && git commit -qm first && git log --format='%an: %s'
python3 -c 'import json, sqlite3, ssl; print(json.dumps({"apples": 6 * 7}))' | jq .apples
rg --line-number apples
stat --format='%a' /tmp"#;

fn a_model_uses_the_tools_of_the_image_and_reaches_no_other_host(setup: Setup) {
    let image = match agent_image() {
        Ok(image) => image,
        Err(missing) => return skipped("TWOBOX_REQUIRE_AGENT_IMAGE", &missing),
    };
    let models = ModelServer::start();
    let upstream = |key: &str| format!("gateway.upstreams.near.{key}");
    let world = setup
        .setting("containers.image", image)
        .setting(&upstream("kind"), "compatible")
        .setting(&upstream("base_url"), format!("{}/v1", models.url()))
        .agent("ada", echo())
        .make();
    let provider = json!({"kind": "model", "model": "near/any"});
    world.configure_agent("ada", &json!({"provider": provider}));
    world.up_with(&[("TWOBOX_SECRET_NEAR", "a key")]);

    // On every address of this machine, so also on those that containers with a network see it by.
    let door = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    door.set_nonblocking(true).unwrap();
    let port = door.local_addr().unwrap().port();
    let gateway = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
    let addresses = docker(&["network", "inspect", "bridge", "--format", gateway]);
    let reach = addresses
        .split_whitespace()
        .chain(["127.0.0.1"])
        .map(|address| format!("curl -sS --max-time 5 http://{address}:{port}/; echo curl $?"));
    let reach: Vec<_> = reach.collect();
    models.script(Script::from(vec![
        Step::call("bash", json!({"command": WORK})),
        Step::call("bash", json!({"command": reach.join("\n")})),
        Step::text("all is done"),
    ]));

    assert_eq!(world.chat("ada").ask("do it"), "all is done");
    let requests = models.requests();
    let told = |request: usize| {
        let messages = requests[request].body["messages"].as_array().unwrap();
        messages.last().unwrap()["content"].to_string()
    };
    for line in ["agent: first", "42", "1:apples 7", "1777"] {
        assert!(told(1).contains(&format!("{line}\\n")), "{line}: {}", told(1));
    }
    // 7 is that nobody could be connected to.
    assert_eq!(told(2).matches("curl 7\\n").count(), reach.len(), "{}", told(2));
    assert!(door.accept().is_err(), "somebody came in");
}
