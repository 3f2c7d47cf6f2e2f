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

/// Does `steps` with the first attempt of what matches `pattern`, and answers all else at once.
pub(crate) fn at_first(pattern: &str, steps: &Value) -> Value {
    json!({
        "rules": [{ "match": pattern, "attempt": 0, "do": steps }],
        "otherwise": [{ "reply": "echo: {text}" }],
    })
}

/// Never comes to an end with the first attempt of `hang …`, and answers all else at once.
pub(crate) fn hangs_at_first() -> Value {
    at_first("^hang", &json!([{ "hang": true }]))
}
