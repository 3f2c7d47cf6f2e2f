//! A server of MCP that the host asks for an agent, with a secret that no container has.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use twobox_tests::models::{ModelServer, Step};
use twobox_tests::{Setup, World, on_process};

use super::{MODEL, set_secret, up};

on_process!(a_server_over_http_is_told_the_hosts_secret_and_no_container_is,);

const TOKEN: &str = "hub-token-6f1d2c9b";

/// A server of the form of 2026, whose one tool says back the head of its request. It wants to see [`TOKEN`].
struct Hub {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&heads);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, kept) = (stream.unwrap(), Arc::clone(&kept));
                // A client that goes away is no matter.
                std::thread::spawn(move || drop(serve(stream, &kept)));
            }
        });
        Self { url, heads }
    }
}

fn serve(stream: TcpStream, heads: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let before = head.len();
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
            if let Some(value) = head[before..].strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        heads.lock().unwrap().push(head.clone());
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        let result = match asked["method"].as_str().unwrap_or_default() {
            "server/discover" => json!({"supportedVersions": ["2026-07-28"]}),
            "tools/list" => {
                json!({"tools": [{"name": "whoami", "inputSchema": {"type": "object"}}]})
            }
            "tools/call" => json!({"content": [{"type": "text", "text": head}]}),
            _ => Value::Null,
        };
        let (status, answer) = match (head.contains(&format!("Bearer {TOKEN}\r\n")), result) {
            (false, _) => ("401 Unauthorized", json!({})),
            (true, Value::Null) => ("404 Not Found", json!({})),
            (true, result) => {
                ("200 OK", json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}))
            }
        };
        let (answer, mut stream) = (answer.to_string(), &stream);
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        )?;
    }
}

fn told(world: &World, models: &ModelServer) -> String {
    models.script(vec![Step::call("mcp__hub__whoami", json!({})), Step::text("done")]);
    assert_eq!(world.chat("ada").ask("who am I?"), "done");
    models.requests().last().unwrap().body["messages"].to_string()
}

fn a_server_over_http_is_told_the_hosts_secret_and_no_container_is(setup: Setup) {
    let (models, hub) = (ModelServer::start(), Hub::start());
    let world = up(setup, &models);
    let headers = json!({"Authorization": "Bearer ${secret:hub}"});
    let server = json!({"hub": {"url": hub.url, "headers": headers}});
    world.configure_agent(
        "ada",
        &json!({"provider": {"kind": "model", "model": MODEL, "mcp": server}}),
    );
    let said = told(&world, &models);
    assert!(said.contains("The MCP server hub is of no use now"), "{said}");
    assert!(said.contains("`twobox secrets set hub`"), "{said}");
    assert!(hub.heads.lock().unwrap().is_empty(), "it is asked nothing without it");

    set_secret(&world, "hub", TOKEN);
    let said = told(&world, &models);
    assert!(said.contains("The MCP server hub is there again"), "{said}");
    assert!(said.contains("authorization: Bearer [secret]"), "{said}");
    assert!(said.contains("mcp-method: tools/call"), "{said}");
    let heads = hub.heads.lock().unwrap().clone();
    assert!(heads.iter().all(|head| head.contains(TOKEN)), "{heads:?}");

    let session = world.session("ada");
    let given = std::fs::read_to_string(session.folder.join("in/agent.json")).unwrap();
    assert!(given.contains(r#""servers":[{"name":"hub"}]"#), "{given}");
    assert!(!given.contains("hub.url") && !given.contains("secret:"), "{given}");
    assert!(!given.contains(hub.url.trim_start_matches("http://")), "{given}");

    set_secret(&world, "hub", "hub-token-of-yesterday");
    let said = told(&world, &models);
    assert!(said.contains("it does not take the secret hub"), "{said}");
}
