//! A program for the `command` channel that writes down every call: `courier FOLDER`.
//!
//! Each call is one line in `FOLDER/ledger`, appended at once and before anything else is done, with
//! what is in the files that came along. What it does then stands in `FOLDER/plan`: the first rule
//! whose `text` is part of the message's counts, for the `first` calls with that text, or all.
#![expect(clippy::unwrap_used, reason = "a program that cannot go on has failed")]

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::Path;
use std::process::exit;
use std::time::Duration;

use serde_json::Value;

fn main() {
    let folder = std::env::args_os().nth(1).expect("courier FOLDER");
    let folder = Path::new(&folder);
    let mut line = String::new();
    std::io::stdin().read_to_string(&mut line).unwrap();
    let mut letter: Value = serde_json::from_str(&line).unwrap();
    let text = letter["text"].as_str().unwrap().to_owned();
    letter["pid"] = std::process::id().into();
    let read = |file: &Value| std::fs::read_to_string(file["path"].as_str().unwrap()).unwrap();
    letter["contents"] = letter["attachments"].as_array().unwrap().iter().map(read).collect();
    let mut ledger =
        OpenOptions::new().create(true).append(true).open(folder.join("ledger")).unwrap();
    ledger.write_all(format!("{letter}\n").as_bytes()).unwrap();
    drop(ledger);

    let ledger = std::fs::read_to_string(folder.join("ledger")).unwrap();
    let calls = ledger
        .lines()
        .filter(|line| serde_json::from_str::<Value>(line).is_ok_and(|call| call["text"] == text))
        .count() as u64;
    let plan = std::fs::read_to_string(folder.join("plan")).unwrap_or_else(|_| "[]".to_owned());
    let plan: Vec<Value> = serde_json::from_str(&plan).unwrap();
    let rule = plan.iter().find(|rule| {
        text.contains(rule["text"].as_str().unwrap())
            && rule["first"].as_u64().is_none_or(|first| calls <= first)
    });
    let Some(rule) = rule else { return };
    if rule["hang"] == true {
        // Until the test is over, whoever may have forgotten this process.
        while folder.exists() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    if let Some(span) = rule["sleep_ms"].as_u64() {
        std::thread::sleep(Duration::from_millis(span));
    }
    if !rule["says"].is_null() {
        println!("{}", rule["says"]);
    }
    if let Some(complaint) = rule["complains"].as_str() {
        eprintln!("{complaint}");
    }
    exit(rule["exit"].as_i64().map_or(0, |code| i32::try_from(code).unwrap()));
}
