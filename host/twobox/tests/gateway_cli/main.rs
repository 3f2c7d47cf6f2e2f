//! `twobox secrets`, `twobox usage`, and what `twobox doctor` says of both, with the real binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod channels;
mod doctor;
mod typed;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use twobox_shared::ids::{SessionId, SystemIds};
use twobox_shared::time::UnixMillis;
use twobox_store::Store;
use twobox_store::usage::{Day, Limits, OpenId, Opened, Request, Settled, Tokens};

fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twobox"));
    command.arg("--data").arg(data).args(arguments).env_remove("TWOBOX_DATA");
    command.env("DOCKER_HOST", "unix:///nonexistent.sock").stdin(Stdio::null());
    command
}

fn twobox(data: &Path, arguments: &[&str]) -> Output {
    command(data, arguments).output().unwrap()
}

/// With `input` on standard input.
fn given(data: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = command(data, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that refuses before it reads closes the pipe.
    drop(child.stdin.take().unwrap().write_all(input));
    child.wait_with_output().unwrap()
}

fn ok(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn fails(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stdout));
    text(&output.stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn initialised() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    ok(&twobox(&data, &["init", "--runtime", "process"]));
    (dir, data)
}

fn configure(data: &Path, text: &str) {
    std::fs::write(data.join("twobox.toml"), format!("runtime = 'process'\n{text}")).unwrap();
}

/// An upstream that answers each request with `answers`, in their order, and returns what it was asked.
fn upstream(
    answers: Vec<(&'static str, &'static str)>,
) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            asked.push(text(&head));
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
        asked
    });
    (address, serving)
}

#[test]
fn an_upstream_tells_its_models_to_whoever_has_the_key() {
    let (_dir, data) = initialised();
    let none = fails(&twobox(&data, &["models"]), 1);
    assert!(none.contains("secrets set anthropic`"), "{none}");
    let keyless = fails(&twobox(&data, &["models", "anthropic"]), 1);
    assert!(keyless.contains("no key for anthropic: `twobox secrets set anthropic`"), "{keyless}");

    let (address, serving) = upstream(vec![
        ("200 OK", r#"{"data":[{"id":"large"},{"id":"small"}]}"#),
        ("401 Unauthorized", r#"{"error":{"message":"invalid x-api-key"}}"#),
        ("200 OK", r#"{"data":[{"id":"qwen3:8b"}]}"#),
    ]);
    configure(
        &data,
        &format!(
            "[gateway.upstreams.anthropic]\nbase_url = '{address}'\n\
             [gateway.upstreams.local]\nkind = 'compatible'\nbase_url = '{address}/v1'\nsecret = ''\n"
        ),
    );
    ok(&given(&data, &["secrets", "set", "anthropic"], b"sk-hidden"));
    assert_eq!(ok(&twobox(&data, &["models", "anthropic"])), "anthropic/large\nanthropic/small\n");
    let refused = fails(&twobox(&data, &["models", "anthropic"]), 1);
    assert!(refused.contains("anthropic: 401 Unauthorized: invalid x-api-key"), "{refused}");
    let local = json_of(&twobox(&data, &["--json", "models", "local"]));
    assert_eq!(local["models"]["local"], json!(["qwen3:8b"]));
    let asked = serving.join().unwrap();
    assert!(asked[0].starts_with("GET /v1/models?limit=1000 HTTP/1.1"), "{}", asked[0]);
    assert!(asked[0].contains("x-api-key: sk-hidden") && asked[0].contains("anthropic-version"));
    assert!(asked[2].starts_with("GET /v1/models HTTP/1.1"), "{}", asked[2]);
    assert!(!asked[2].contains("authorization"), "{}", asked[2]);
}

#[test]
fn a_model_is_chosen_where_an_agent_is_made_or_changed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let init = ["init", "--runtime", "process", "--model", "anthropic/large"];
    let made = ok(&twobox(&data, &init));
    assert!(made.contains("secrets set anthropic"), "{made}");
    let file = |agent: &str| -> Value {
        let text = std::fs::read(data.join("agents").join(format!("{agent}.json"))).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let provider = json!({"kind": "model", "model": "anthropic/large"});
    assert_eq!(file("assistant")["provider"], provider);
    let instructions = data.join("programs/assistant/AGENTS.md");
    assert!(std::fs::read_to_string(&instructions).unwrap().contains("You are assistant"));

    let mistakes = [
        (vec!["agents", "add", "ada", "--provider", "model"], "--model anthropic/"),
        (vec!["agents", "add", "ada", "--model", "large"], "is no UPSTREAM/MODEL"),
        (vec!["agents", "add", "ada", "--model", "nowhere/large"], "[gateway.upstreams.nowhere]"),
        (
            vec!["agents", "add", "ada", "--provider", "echo", "--model", "openai/x"],
            "--provider model",
        ),
        (vec!["agents", "edit", "assistant", "--model", "nowhere/large"], "no upstream"),
    ];
    for (arguments, expected) in mistakes {
        let said = fails(&twobox(&data, &arguments), 2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    assert!(!data.join("agents/ada.json").exists());
    let chain =
        ["agents", "edit", "assistant", "--model", "anthropic/large", "--model", "openai/x"];
    ok(&twobox(&data, &chain));
    assert_eq!(file("assistant")["provider"]["model"], json!(["anthropic/large", "openai/x"]));
    // Again: what is there stays.
    std::fs::write(&instructions, "mine").unwrap();
    let again = ok(&twobox(&data, &["init", "--model", "openai/y"]));
    assert!(again.contains("agents edit assistant --model openai/y"), "{again}");
    assert_eq!(std::fs::read_to_string(&instructions).unwrap(), "mine");
}

#[test]
fn a_secret_is_set_listed_and_removed_and_never_shown() {
    let (_dir, data) = initialised();
    let value = "sk-hidden-value";
    let set = given(&data, &["secrets", "set", "anthropic"], format!("{value}\n").as_bytes());
    let set = ok(&set);
    assert!(set.contains("used by anthropic"), "{set}");
    ok(&given(&data, &["secrets", "set", "spare"], value.as_bytes()));
    let file = data.join("secrets/anthropic");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{value}\n"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let list = ok(&twobox(&data, &["secrets", "list"]));
    assert!(list.contains("NAME") && list.contains(" s ago"), "{list}");
    assert!(list.contains("spare") && list.contains("nothing"), "{list}");
    let listed = json_of(&twobox(&data, &["--json", "secrets", "list"]));
    assert_eq!(listed["secrets"][0]["name"], "anthropic", "{listed}");
    assert_eq!(listed["secrets"][0]["upstreams"], json!(["anthropic"]));
    assert_eq!(listed["missing"], json!([]), "nobody has asked for openai: {listed}");
    assert!(!format!("{set}{list}{listed}").contains("hidden"), "{set}{list}{listed}");

    let environment = ("TWOBOX_SECRET_ANTHROPIC", "sk-hidden-other");
    let beside =
        command(&data, &["--json", "secrets", "list"]).envs([environment]).output().unwrap();
    assert_eq!(json_of(&beside)["secrets"][0]["from"], "TWOBOX_SECRET_ANTHROPIC");
    ok(&twobox(&data, &["secrets", "remove", "anthropic"]));
    let gone = fails(&twobox(&data, &["secrets", "remove", "anthropic"]), 1);
    assert!(gone.contains("there is no secret anthropic"), "{gone}");
    let elsewhere =
        command(&data, &["secrets", "remove", "anthropic"]).envs([environment]).output();
    let elsewhere = fails(&elsewhere.unwrap(), 1);
    assert!(elsewhere.contains("from TWOBOX_SECRET_ANTHROPIC: take it away there"), "{elsewhere}");
    assert!(!elsewhere.contains("hidden"), "{elsewhere}");

    for (name, input, part) in [
        ("openai", &b"\n"[..], "is empty"),
        ("openai", b"sk-hidden\nmore", "more than one line"),
        ("a/b", b"sk-hidden", "is no name of a secret"),
        ("openai", &[b'a'; 65_537], "longer than 64 KiB"),
    ] {
        let error = fails(&given(&data, &["secrets", "set", name], input), 1);
        assert!(error.contains(part) && !error.contains("hidden"), "{error}");
    }
    assert!(!data.join("secrets/openai").exists());
}

/// What ran on a day that is `before` days ago.
fn run(data: &Path, store: &Store, before: u32, model: &str) -> OpenId {
    let zone = std::fs::read_to_string(data.join("twobox.toml")).unwrap();
    assert!(!zone.contains("\ntimezone"), "these days are those of UTC");
    let now = UnixMillis(
        i64::try_from(
            std::fs::metadata(data.join("host.db"))
                .unwrap()
                .modified()
                .unwrap()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_millis(),
        )
        .unwrap(),
    );
    let agent = store.agents().find("assistant").wait().unwrap().id;
    let request = Request {
        day: Day::before(&twobox_slots::zone::Zone::UTC, now, before),
        agent,
        session: SessionId::generate(&SystemIds),
        upstream: "openai".to_owned(),
        model: model.to_owned(),
        tokens: 1000,
        nano_usd: Some(2_000_000),
        now,
    };
    match store.usage().open(request, Limits::default()).wait().unwrap() {
        Opened::Admitted(id) => id,
        Opened::Over(over) => panic!("{over:?}"),
    }
}

#[test]
fn what_models_used_is_told_in_lines_as_json_and_as_a_plot() {
    let (dir, data) = initialised();
    configure(&data, "");
    let none = ok(&twobox(&data, &["usage"]));
    assert!(none.contains("no model was asked from "), "{none}");
    let store = Store::open(&data.join("host.db")).unwrap();
    let settled = |nano_usd, failed| Settled {
        tokens: Tokens { input: 10, cache_read: 90, cache_write: 0, output: 7 },
        nano_usd,
        failed,
    };
    for (before, nano_usd, failed) in
        [(0, Some(1_234_500_000), false), (1, None, true), (40, Some(5_000_000_000), false)]
    {
        let id = run(&data, &store, before, "m");
        store.usage().settle(id, settled(nano_usd, failed)).wait().unwrap();
    }
    let none = ok(&twobox(&data, &["usage"]));
    assert!(!none.contains("reserved now"), "{none}");
    let lost = run(&data, &store, 0, "n");
    let open = ok(&twobox(&data, &["usage"]));
    let reserved = "reserved now: at most 1000 tokens and 0.0020 USD, for 1 request under way";
    assert!(open.trim_end().ends_with(reserved), "{open}");
    let open = json_of(&twobox(&data, &["--json", "usage"]));
    assert_eq!(open["reserved"], json!({"requests": 1, "tokens": 1000, "nano_usd": 2_000_000}));
    store.usage().lose(lost).wait().unwrap();
    drop(store);
    let shown = ok(&twobox(&data, &["usage"]));
    let line = shown.lines().last().unwrap();
    let cells: Vec<&str> = line.split_whitespace().take(7).collect();
    assert_eq!(cells, ["assistant", "3", "200", "90", "%", "14", "1.2345"], "{shown}");
    for part in ["1 failed", "1 without a price", "the end of 1 request is not known"] {
        assert!(line.contains(part), "{part}: {shown}");
    }
    let models = ok(&twobox(&data, &["usage", "--by", "model"]));
    assert!(models.contains("openai/m") && models.contains("openai/n"), "{models}");
    assert!(models.lines().last().unwrap().starts_with("all "), "{models}");
    let by_day = json_of(&twobox(&data, &["--json", "usage", "--by", "day"]));
    assert_eq!(by_day["lines"].as_array().unwrap().len(), 2, "{by_day}");
    assert_eq!(by_day["total"]["cache_read"], 180);
    assert_eq!(by_day["total"]["nano_usd"], 1_234_500_000_i64);
    assert_eq!((&by_day["by"], &by_day["usd_per_day"]), (&json!("day"), &Value::Null));
    let older = json_of(&twobox(&data, &["--json", "usage", "--since", "2020-01-01"]));
    assert_eq!(older["lines"][0]["used"], Value::Null, "the counts stand in the line itself");
    assert_eq!(older["lines"][0]["agent"], "assistant");
    assert_eq!(older["total"]["nano_usd"], 6_234_500_000_i64);
    let plot = dir.path().join("usage.svg");
    ok(&twobox(&data, &["usage", "--svg", plot.to_str().unwrap()]));
    let svg = std::fs::read_to_string(&plot).unwrap();
    assert!(svg.contains("USD a day") && svg.matches("#214c8c").count() == 1, "{svg}");
    let wrong = fails(&twobox(&data, &["usage", "--since", "yesterday"]), 2);
    assert!(wrong.contains("use a date such as"), "{wrong}");
    let future = fails(&twobox(&data, &["usage", "--since", "9000-01-01"]), 2);
    assert!(future.contains("is yet to come"), "{future}");
}

#[test]
fn a_secret_that_a_channel_wants_is_said_to_be_its() {
    let (_dir, data) = initialised();
    let before = ok(&given(&data, &["secrets", "set", "later"], b"a-password"));
    assert!(before.contains("nothing uses it yet"), "{before}");
    let section = "\n[channels.team]\nkind = \"matrix\"\nhomeserver = \"https://m.example\"\n\
                   user = \"@bot:example\"\nsenders = [\"*\"]\npassword_secret = \"room\"\n";
    let config = data.join("twobox.toml");
    let written = std::fs::read_to_string(&config).unwrap() + section;
    std::fs::write(&config, written).unwrap();
    let listed = || json_of(&twobox(&data, &["--json", "secrets", "list"]));
    assert_eq!(listed()["missing"], json!([{"channel": "team", "secret": "room"}]));
    let list = ok(&twobox(&data, &["secrets", "list"]));
    assert!(list.contains("the channel team wants room, which is nowhere"), "{list}");

    let set = ok(&given(&data, &["secrets", "set", "room"], b"a-password"));
    assert!(set.contains("used by channel team, from"), "{set}");
    let listed = listed();
    assert_eq!(listed["missing"], json!([]));
    let room = listed["secrets"].as_array().unwrap().iter().find(|it| it["name"] == "room");
    assert_eq!(room.unwrap()["channels"], json!(["team"]));
    let list = ok(&twobox(&data, &["secrets", "list"]));
    assert!(list.lines().any(|line| line.starts_with("room") && line.ends_with("channel team")));
}
