//! What the vendors refuse, as pure functions of a request.
//!
//! The words are the vendors' as far as they are known, and programs should not lean on them. Guesses:
//! which of several mistakes is told first, how OpenAI words what its libraries never send, and that
//! Anthropic refuses unknown keys by the list of [`messages`], which is that of its library. More is
//! refused than a vendor may refuse where a mistake of ours would show: see [`reasoning`].

pub mod chat;
pub mod messages;
mod parts;
pub mod reasoning;
pub mod responses;
mod tools;
mod turns;

use serde_json::{Map, Value};

use super::fault::Fault;

/// What a check says.
pub type Checked = Result<(), Fault>;

/// The body as an object.
fn object(body: &Value) -> Result<&Map<String, Value>, Fault> {
    body.as_object().ok_or_else(|| {
        Fault::invalid("We could not parse the JSON body of your request: it is not an object.")
    })
}

/// The name of the value's kind, as OpenAI writes it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Whether a name of a tool has the form that all vendors want, with at most this many characters.
fn is_name(name: &str, longest: usize) -> bool {
    (1..=longest).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Whether this can be base64: its letters, in fours, with at most two signs of the end.
fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_recognized() {
        for (text, good) in
            [("aGk=", true), ("aGkx", true), ("aGk", false), ("=", false), ("a k=", false)]
        {
            assert_eq!(is_base64(text), good, "{text}");
        }
    }
}
