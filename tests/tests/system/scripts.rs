//! Scripts that several scenarios use.

use serde_json::{Value, json};

/// Answers at once.
pub(crate) fn echo() -> Value {
    json!({ "otherwise": [{ "reply": "echo: {text}" }] })
}

/// Answers `slow …` after `ms`, and everything else at once.
pub(crate) fn slow(ms: u64) -> Value {
    json!({
        "rules": [{ "match": "^slow", "do": [{ "sleep_ms": ms }, { "reply": "echo: {text}" }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    })
}

/// Never comes to an end with the first attempt, and answers all others at once.
pub(crate) fn hangs_at_first() -> Value {
    json!({
        "rules": [{ "match": "^hang", "attempt": 0, "do": [{ "hang": true }] }],
        "otherwise": [{ "reply": "echo: {text}" }],
    })
}
