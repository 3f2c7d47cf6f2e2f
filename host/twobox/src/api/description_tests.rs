//! Whether `openapi.json` says what the code does. What is answered, field by field, is compared with
//! it in the system tests.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::error::Code;
use super::{GUARDED, OPEN, SIGNED};
use twobox_channels::webhook::Posted;
use twobox_schedule::service::Draft;

fn described() -> Value {
    serde_json::from_str(include_str!("openapi.json")).unwrap()
}

#[test]
fn paths_and_description_are_the_same_and_open_are_only_those_that_say_so() {
    let described = described();
    let paths = described["paths"].as_object().unwrap();
    let are = |security: Value| {
        move |(_, says): &(&String, &Value)| {
            let operations = says.as_object().unwrap().values();
            operations
                .filter(|it| it.is_object())
                .all(|operation| operation["security"] == security)
        }
    };
    let (open, others): (Vec<_>, Vec<_>) = paths.iter().partition(are(json!([])));
    let (signed, guarded): (Vec<_>, Vec<_>) =
        others.into_iter().partition(are(json!([{ "signature": [] }])));
    let described = |paths: Vec<(&String, &Value)>| -> BTreeSet<String> {
        paths.into_iter().map(|(path, _)| path.clone()).collect()
    };
    let routed = |routes: &[super::Route]| -> BTreeSet<String> {
        routes.iter().map(|route| route.path.to_owned()).collect()
    };
    assert_eq!(routed(OPEN), described(open));
    assert_eq!(routed(SIGNED), described(signed));
    assert_eq!(routed(GUARDED), described(guarded));
}

#[test]
fn every_code_is_described_and_every_described_code_exists() {
    let words: Vec<&str> = Code::ALL.iter().map(|code| code.word()).collect();
    assert_eq!(described()["components"]["schemas"]["Code"]["enum"], json!(words));
}

#[test]
fn every_field_of_a_posted_message_is_described_and_every_described_field_is_taken() {
    let refusal = serde_json::from_value::<Posted>(json!({ "?": 1 })).unwrap_err().to_string();
    let fields: BTreeSet<_> = refusal.split('`').skip(3).step_by(2).map(str::to_owned).collect();
    let described = &described()["components"]["schemas"]["Posted"]["properties"];
    let names: BTreeSet<_> = described.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, fields, "{refusal}");
}

#[test]
fn every_field_of_a_draft_is_described_and_every_described_field_is_taken() {
    let refusal = serde_json::from_value::<Draft>(json!({ "?": 1 })).unwrap_err().to_string();
    let mut fields: Vec<&str> = refusal.split('`').skip(1).step_by(2).collect();
    assert_eq!(fields.remove(0), "?", "the one that was given comes first: {refusal}");
    let described = described();
    let names = |schema: &str| -> BTreeSet<String> {
        let schema = &described["components"]["schemas"][schema];
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let draft = names("Draft");
    assert_eq!(draft, fields.into_iter().map(str::to_owned).collect());
    let only_in_patches = ["enabled", "reason", "revision"].map(str::to_owned);
    assert_eq!(names("Patch"), draft.into_iter().chain(only_in_patches).collect());
}
