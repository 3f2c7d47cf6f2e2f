//! `twobox channels`, with the real binary.

use serde_json::json;

use crate::typed::Terminal;
use crate::{fails, given, initialised, json_of, ok, twobox};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef\n";

fn toml_of(data: &std::path::Path) -> String {
    std::fs::read_to_string(data.join("twobox.toml")).unwrap()
}

#[test]
fn a_channel_is_added_shown_disabled_and_removed_and_all_else_in_the_file_stays() {
    let (_dir, data) = initialised();
    let before = toml_of(&data);
    let address = "url=http://127.0.0.1:1/in?token=s3cret";
    let add = [
        "channels",
        "add",
        "webhook",
        "--id",
        "ci",
        "--set",
        address,
        "--set",
        "keys=true",
        "--secret",
    ];
    let said = ok(&given(&data, &add, SECRET));
    assert!(
        said.contains("its secret is kept as ci") && said.contains("it cannot be used yet"),
        "{said}"
    );
    assert!(
        said.contains("twobox wire add AGENT ci CHAT") || said.contains("wire add AGENT ci CHAT"),
        "{said}"
    );
    assert!(!said.contains("0123456789abcdef"), "{said}");
    let after = toml_of(&data);
    let section = after.strip_prefix(before.trim_end()).expect("all else is as it was");
    assert_eq!(
        section.trim(),
        "[channels.ci]\nkind = \"webhook\"\nkeys = true\nsigning_secret = \"ci\"\n\
         url = \"http://127.0.0.1:1/in?token=s3cret\""
    );
    let kept = std::fs::read(data.join("secrets/ci")).unwrap();
    assert_eq!(kept, SECRET);

    ok(&twobox(&data, &["wire", "add", "assistant", "ci", "builds"]));
    let shown = ok(&twobox(&data, &["channels", "show", "ci"]));
    for part in
        ["webhook", "keys = true", "http://127.0.0.1:1/…", "ci is there", "no host runs", "builds"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("s3cret") && !shown.contains("0123456789abcdef"), "{shown}");
    let tested = fails(&twobox(&data, &["channels", "test", "ci"]), 1);
    assert!(tested.contains("http://127.0.0.1:1: it cannot be reached"), "{tested}");
    let list = json_of(&twobox(&data, &["--json", "channels", "list"]));
    let all = list["channels"].as_array().unwrap();
    assert_eq!(all.len(), 2, "{list}");
    assert_eq!(
        (&all[0]["id"], &all[0]["wired"][0]["chat"]),
        (&json!("terminal"), &json!("assistant"))
    );
    assert_eq!((&all[1]["id"], &all[1]["state"]), (&json!("ci"), &json!("no host")));

    ok(&twobox(&data, &["channels", "disable", "ci"]));
    let list = json_of(&twobox(&data, &["--json", "channels", "list"]));
    assert_eq!(list["channels"][1]["state"], "disabled");
    ok(&twobox(&data, &["channels", "enable", "ci"]));
    assert_eq!(toml_of(&data), after);
    let removed = ok(&twobox(&data, &["channels", "remove", "ci"]));
    assert!(removed.contains("[channels.ci]") && removed.contains("is still wired"), "{removed}");
    assert_eq!(toml_of(&data).trim_end(), before.trim_end());
    let gone = fails(&twobox(&data, &["channels", "remove", "ci"]), 1);
    assert!(gone.contains("there is no section [channels.ci]"), "{gone}");
}

#[test]
fn what_is_set_wrongly_changes_nothing() {
    let (_dir, data) = initialised();
    let before = toml_of(&data);
    let add = |more: &[&str]| given(&data, &[&["channels", "add"][..], more].concat(), SECRET);
    let cases: [(&[&str], i32, &str); 7] = [
        (&["pigeon"], 2, "there is no kind \"pigeon\""),
        (&["bridge", "--id", "My Bridge"], 2, "is no id"),
        (&["bridge", "--set", "kind=x"], 2, "kind is said in another way"),
        (&["bridge", "--secret"], 2, "wants no secret"),
        (&["webhook", "--secret"], 1, "channels.webhook.url is missing"),
        (&["webhook", "--set", "url=x", "--secret"], 1, "channels.webhook.url: what stands there"),
        (&["bridge", "--set", "colour=1"], 1, "unknown field `colour`"),
    ];
    for (more, code, expected) in cases {
        let said = fails(&add(more), code);
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(toml_of(&data), before);
    assert!(!data.join("secrets/webhook").exists(), "nothing was kept");
    ok(&given(&data, &["secrets", "set", "taken"], b"of somebody else, and long enough\n"));
    let url = "url=http://127.0.0.1:1/in";
    let taken = fails(&add(&["webhook", "--id", "taken", "--set", url, "--secret"]), 2);
    assert!(taken.contains("there is a secret taken already"), "{taken}");
    assert!(std::fs::read(data.join("secrets/taken")).unwrap().starts_with(b"of somebody else"));
    assert_eq!(toml_of(&data), before);
    ok(&add(&["bridge"]));
    let again = fails(&add(&["bridge"]), 1);
    assert!(again.contains("there is a channel bridge already"), "{again}");
}

#[test]
fn a_person_is_walked_through_at_a_terminal() {
    let (_dir, data) = initialised();
    let mut terminal = Terminal::new();
    let mut child = terminal.run(&data, &["channels", "add", "webhook", "--id", "ci"], &[]);
    terminal.answer("where messages are posted to", "not an address\r");
    terminal.answer("what stands there is no address", "http://127.0.0.1:1/in\r");
    terminal.answer_hidden("Enter for one that is made up", "short\r");
    terminal.answer("drop a message whose Idempotency-Key", "y\r");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    terminal.wait("what came of it", || terminal.shown().contains("could be guessed"));
    assert!(!terminal.shown().contains("short\r"), "it is not shown");
    let written = toml_of(&data);
    assert!(written.contains("[channels.ci]\nkind = \"webhook\"\nkeys = true\n"), "{written}");

    let mut terminal = Terminal::new();
    let mut child = terminal.run(&data, &["channels", "add", "webhook", "--id", "other"], &[]);
    terminal.answer("where messages are posted to", "http://127.0.0.1:1/in\r");
    terminal.answer_hidden("Enter for one that is made up", "\r");
    terminal.answer("drop a message whose Idempotency-Key", "\r");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let made = std::fs::read_to_string(data.join("secrets/other")).unwrap();
    assert_eq!(made.trim_end().len(), 64, "32 random bytes");

    // Who gives up changes nothing.
    let before = toml_of(&data);
    let mut terminal = Terminal::new();
    let mut child = terminal.run(&data, &["channels", "add", "matrix"], &[]);
    terminal.answer("the address of the homeserver", "https://m.example\r");
    terminal.answer("the whole id of the account", "\u{4}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(toml_of(&data), before);
}
