//! What the host logs, as a machine reads it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::{Value, json};
use twobox_tests::{Setup, binary, on_process, wait_for};

use crate::scripts::{echo, hangs_at_first};

on_process!(each_line_of_a_busy_run_is_json_with_each_key_once);

/// An object in which no key is there twice.
#[derive(Debug)]
struct Strict(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Strict;
            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Strict, A::Error> {
                let mut kept = BTreeMap::new();
                while let Some((key, value)) = pairs.next_entry::<String, Value>()? {
                    if kept.insert(key.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("{key} is there twice")));
                    }
                }
                Ok(Strict(kept))
            }
        }
        from.deserialize_map(Pairs)
    }
}

fn each_line_of_a_busy_run_is_json_with_each_key_once(setup: Setup) {
    let failure = json!({ "reason": "auth_failed", "detail": "no \"key\"\n", "retryable": false });
    let world = setup
        .agent("ada", echo())
        .agent("bob", json!({ "otherwise": [{ "fail": failure }] }))
        .agent("eve", hangs_at_first())
        .make();
    world.up_with(&[("TWOBOX_LOG_FORMAT", "json"), ("TWOBOX_LOG", "debug")]);
    let [ada, bob, eve] = ["ada", "bob", "eve"].map(|name| world.chat(name));
    let add = ["schedules", "add", "ping", "--agent", "ada", "--prompt", "Hi", "--every", "365d"];
    world.twobox(&add);
    world.twobox(&["schedules", "run", "ping"]);
    let (id, _, container) = world.occupy(&eve, "eve", "hang");
    ada.ask("hello");
    bob.say("hello");
    bob.wait_letters(1);
    container.kill();
    eve.wait_answer(&id);
    // Another host on the same directory ends at once, and says so where it logs.
    let second = std::process::Command::new(binary("twobox"))
        .arg("--data")
        .arg(world.data())
        .args(["up", "--log-format", "json"])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    wait_for("the run to be over", || world.host_log().contains("the run is over").then_some(()));
    drop((ada, bob, eve)); // whom the host would wait for
    world.stop_host();
    let log = world.host_log() + &String::from_utf8(second.stderr).unwrap();
    let lines: Vec<BTreeMap<String, Value>> = log
        .lines()
        .map(|line| match serde_json::from_str::<Strict>(line) {
            Ok(Strict(fields)) => fields,
            Err(error) => panic!("{error}: {line}"),
        })
        .collect();
    for line in &lines {
        for key in ["timestamp", "level", "target", "message"] {
            assert!(line.get(key).is_some_and(Value::is_string), "{key}: {line:?}");
        }
        assert_ne!(line["message"], "", "{line:?}");
    }
    let failed = lines.iter().find(|line| line["message"] == "a message failed").unwrap();
    assert_eq!((&failed["agent"], &failed["chat"]), (&json!("bob"), &json!("bob")), "{failed:?}");
    assert!(failed["message_id"].is_string() && failed["session"].is_string(), "{failed:?}");
    let over = lines.iter().find(|line| line["message"] == "the run is over").unwrap();
    assert_eq!((&over["agent"], &over["name"]), (&json!("ada"), &json!("ping")), "{over:?}");
    let last = lines.last().unwrap();
    let why = last["message"].as_str().unwrap();
    assert!(last["level"] == "ERROR" && why.contains("belongs to a running host"), "{last:?}");
}
