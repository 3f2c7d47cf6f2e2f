//! Whether `openapi.json` says what the code does. What is answered, field by field, is compared with
//! it in the system tests.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::error::Code;
use super::{GUARDED, OPEN};

fn described() -> Value {
    serde_json::from_str(include_str!("openapi.json")).unwrap()
}

#[test]
fn paths_and_description_are_the_same_and_open_are_only_those_that_say_so() {
    let described = described();
    let paths = described["paths"].as_object().unwrap();
    let (open, guarded): (Vec<_>, Vec<_>) = paths.iter().partition(|(_, says)| {
        says.as_object().unwrap().values().all(|operation| operation["security"] == json!([]))
    });
    let described = |paths: Vec<(&String, &Value)>| -> BTreeSet<String> {
        paths.into_iter().map(|(path, _)| path.clone()).collect()
    };
    let routed = |routes: &[super::Route]| -> BTreeSet<String> {
        routes.iter().map(|route| route.path.to_owned()).collect()
    };
    assert_eq!(routed(OPEN), described(open));
    assert_eq!(routed(GUARDED), described(guarded));
}

#[test]
fn every_code_is_described_and_every_described_code_exists() {
    let words: Vec<&str> = Code::ALL.iter().map(|code| code.word()).collect();
    assert_eq!(described()["components"]["schemas"]["Code"]["enum"], json!(words));
}
