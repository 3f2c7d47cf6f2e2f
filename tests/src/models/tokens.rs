//! Tokens, counted in a way that is the same each time: one for every four bytes that were begun.
//!
//! A guess about every vendor, whose real counts nobody can know beforehand. What stands in for pictures
//! and files is their digest, so that they count little, where a vendor counts what is to be seen.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Tokens by what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// What was read anew and not kept.
    pub input: u64,
    /// What was read of the cache.
    pub cache_read: u64,
    /// What was written into the cache; none with OpenAI, who take nothing for it.
    pub cache_write: u64,
    /// Of `cache_write`, what is kept for an hour.
    pub cache_write_1h: u64,
    /// What was said and thought.
    pub output: u64,
    /// Of `output`, what was thought.
    pub thought: u64,
}

impl Tokens {
    /// All that was read.
    pub fn prompt(&self) -> u64 {
        self.input + self.cache_read + self.cache_write
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.input += other.input;
        self.cache_read += other.cache_read;
        self.cache_write += other.cache_write;
        self.cache_write_1h += other.cache_write_1h;
        self.output += other.output;
        self.thought += other.thought;
    }
}

/// The tokens of so many bytes.
pub fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

/// SHA-256 in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text takes everything");
        text
    })
}

/// A part of a prompt as it is counted and compared: without its mark for the cache, keys in their order,
/// and with a digest in place of each long run of base64.
pub fn canonical(value: &Value) -> String {
    let mut value = value.clone();
    simplify(&mut value);
    value.to_string()
}

fn simplify(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.remove("cache_control");
            for (key, value) in object.iter_mut() {
                match value {
                    Value::String(text) if is_file(key, text) => *text = digest(text.as_bytes()),
                    other => simplify(other),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(simplify),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_file(key: &str, text: &str) -> bool {
    text.len() > 64 && (matches!(key, "data" | "file_data") || text.starts_with("data:"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mark_for_the_cache_and_the_size_of_a_picture_do_not_count() {
        let marked = json!({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}});
        assert_eq!(canonical(&marked), canonical(&json!({"type": "text", "text": "a"})));
        let picture = |data: &str| canonical(&json!({"source": {"data": data.repeat(9000)}}));
        assert!(picture("A").len() < 100);
        assert_ne!(picture("A"), picture("B"));
    }

    #[test]
    fn a_token_is_four_bytes() {
        assert_eq!([0, 1, 4, 5].map(tokens), [0, 1, 1, 2]);
        assert_eq!(digest(b"abc")[..16], *"ba7816bf8f01cfea");
    }
}
