//! What a request is, in parts, none of which can be read back, though what is short can be guessed: pure.
//!
//! Two requests are the same if they say the same to the same model. What differs by its nature from one turn to
//! the next is left out: instants, generated ids, and the fields that say who asks and not what.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use twobox_shared::content::digest16;

use crate::body_fields;

/// Fields that say nothing of what is asked.
const ASIDE: [&str; 6] = [
    "metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "client_metadata",
];

/// The kinds of messages and items that are called by their names. A container may write any word there.
const KINDS: [&str; 32] = [
    "user",
    "assistant",
    "system",
    "developer",
    "tool",
    "function",
    "message",
    "reasoning",
    "item_reference",
    "function_call",
    "function_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "code_interpreter_call",
    "compaction",
    "computer_call",
    "computer_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "file_search_call",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
];

/// How many messages or items have a digest of their own. Those behind them have one together.
const ITEMS_MAX: usize = 4096;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The model.
    pub model: String,
    /// Every part, in its order: what it is, and its digest.
    pub parts: Vec<(String, String)>,
}

impl Digest {
    /// That of a request with `body`.
    ///
    /// # Errors
    /// If that is no JSON object.
    pub fn of(body: &[u8]) -> Result<Self, serde_json::Error> {
        let fields: serde_json::Map<String, Value> = serde_json::from_slice(body)?;
        let mut model = String::new();
        let (mut said, mut beside, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in &fields {
            match (name.as_str(), value) {
                ("model", Value::String(text)) => model.clone_from(text),
                ("messages" | "input", Value::Array(items)) => said.extend(each(name, items)),
                (aside, _) if ASIDE.contains(&aside) => {}
                (known, _) if body_fields::is_known(known) => {
                    beside.push((name.clone(), digest(value)));
                }
                _ => unknown.push((name, value)),
            }
        }
        if !unknown.is_empty() {
            let together = digest_of(|said| write_fields(unknown.into_iter(), said));
            beside.push(("other fields".to_owned(), together));
        }
        beside.sort();
        beside.extend(said);
        Ok(Self { model, parts: beside })
    }

    /// How many parts this and `other` have alike.
    pub(super) fn alike(&self, other: &Self) -> usize {
        self.parts.iter().filter(|part| other.parts.contains(part)).count()
    }

    /// In what this request differs from the one that was `recorded`, for people.
    pub(super) fn differs_from(&self, recorded: &Self) -> String {
        let mut found = Vec::new();
        if self.model != recorded.model {
            found.push(format!("the model is {} instead of {}", self.model, recorded.model));
        }
        let of = |parts: &[(String, String)], name: &str| {
            parts.iter().find(|(other, _)| other == name).map(|(_, digest)| digest.clone())
        };
        for (name, digest) in &self.parts {
            match of(&recorded.parts, name) {
                None => found.push(format!("{name} is new")),
                Some(before) if before != *digest => found.push(format!("{name} is another")),
                Some(_) => {}
            }
        }
        let gone = recorded.parts.iter().filter(|(name, _)| of(&self.parts, name).is_none());
        found.extend(gone.map(|(name, _)| format!("{name} is missing")));
        match found.len() {
            0 => "nothing but the order of its parts".to_owned(),
            1..=4 => found.join(", "),
            more => format!("{}, and {} parts more", found[..4].join(", "), more - 4),
        }
    }
}

/// The parts of the field `name`, which is a list.
fn each(name: &str, items: &[Value]) -> Vec<(String, String)> {
    let (own, together) = items.split_at(items.len().min(ITEMS_MAX));
    let own = own.iter().enumerate().map(|(at, item)| {
        let kind = item["role"].as_str().or(item["type"].as_str());
        let kind = kind.filter(|kind| KINDS.contains(kind)).unwrap_or("?");
        (format!("{name}[{at}] ({kind})"), digest(item))
    });
    let together = (!together.is_empty())
        .then(|| (format!("{name}[{ITEMS_MAX}..]"), digest_of(|said| write_items(together, said))));
    own.chain(together).collect()
}

fn digest(value: &Value) -> String {
    digest_of(|said| write(value, said))
}

fn digest_of(write: impl FnOnce(&mut String)) -> String {
    let mut said = String::new();
    write(&mut said);
    digest16(&said)
}

/// Writes `value` as JSON, without what differs by its nature in its texts. That is looked for before they are
/// written, while a line break is still one and no letter.
fn write(value: &Value, said: &mut String) {
    match value {
        Value::String(text) => write_text(text, said),
        Value::Array(items) => write_items(items, said),
        Value::Object(fields) => write_fields(fields.iter(), said),
        Value::Null | Value::Bool(_) | Value::Number(_) => said.push_str(&value.to_string()),
    }
}

fn write_text(text: &str, said: &mut String) {
    said.push_str(&Value::String(without_instants_and_ids(text)).to_string());
}

fn write_items(items: &[Value], said: &mut String) {
    said.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            said.push(',');
        }
        write(item, said);
    }
    said.push(']');
}

fn write_fields<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>, said: &mut String) {
    said.push('{');
    for (at, (name, value)) in fields.enumerate() {
        if at > 0 {
            said.push(',');
        }
        write_text(name, said);
        said.push(':');
        write(value, said);
    }
    said.push('}');
}

/// `text` with a word in the place of each date, instant and generated id.
fn without_instants_and_ids(text: &str) -> String {
    const ID: &str = "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";
    const DATE: &str = "dddd-dd-dd";
    const TIMES: [&str; 2] = ["Tdd:dd:dd", " dd:dd:dd"];
    let (mut said, mut rest) = (String::with_capacity(text.len()), text);
    let mut inside = false; // of a word, where nothing of the kind begins
    while let Some(first) = rest.chars().next() {
        if !inside && is_like(rest, ID) {
            said.push_str("<id>");
            rest = &rest[ID.len()..];
        } else if !inside && is_like(rest, DATE) {
            said.push_str("<time>");
            rest = &rest[DATE.len()..];
            if let Some(time) = TIMES.iter().find(|time| is_like(rest, time)) {
                rest = &rest[time.len()..];
                let fraction = |c: char| c == '.' || c.is_ascii_digit();
                rest = rest.trim_start_matches(fraction);
                rest = rest.strip_prefix('Z').unwrap_or(rest);
            }
        } else {
            said.push(first);
            rest = &rest[first.len_utf8()..];
        }
        // In JSON in a text, as what a tool was called with, a line break is written as a letter.
        let is_escape = matches!(first, 'n' | 'r' | 't') && said[..said.len() - 1].ends_with('\\');
        inside = first.is_ascii_alphanumeric() && said.ends_with(first) && !is_escape;
    }
    said
}

/// Whether `text` begins like `form`, in which `d` is a digit and `h` a hexadecimal one.
fn is_like(text: &str, form: &str) -> bool {
    text.len() >= form.len()
        && form.bytes().zip(text.bytes()).all(|(form, byte)| match form {
            b'd' => byte.is_ascii_digit(),
            b'h' => byte.is_ascii_hexdigit(),
            _ => form == byte,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(body: &str) -> Digest {
        Digest::of(body.as_bytes()).unwrap()
    }

    #[test]
    fn what_differs_from_turn_to_turn_by_its_nature_is_left_out() {
        let at = |instant: &str, id: &str, who: &str| {
            of(&format!(
                r#"{{"model":"m","metadata":{{"user_id":"{who}"}},"messages":[{{"role":"user",
                    "content":"[{instant} ann] see /tmp/trial-{id}/in"}}]}}"#
            ))
        };
        let ids = ["01a2297c-98df-74b6-bbfb-f9077b2f25c4", "01a2297c-98df-74b6-bbfb-f9077b2f25c5"];
        let one = at("2026-11-30T10:00:00.123Z", ids[0], "a");
        assert_eq!(one, at("2027-01-02T11:30:00Z", ids[1], "b"));
        assert_ne!(one, at("yesterday", ids[1], "b"));
        let cases = [
            ("on 2026-11-30 at noon", "on <time> at noon"),
            ("\u{e9}2026-11-30T10:00:00Z", "\u{e9}<time>"),
            ("12026-11-30", "12026-11-30"),
            ("2026-11-3", "2026-11-3"),
            ("x01a2297c-98df-74b6-bbfb-f9077b2f25c4", "x01a2297c-98df-74b6-bbfb-f9077b2f25c4"),
            ("2026-11-302026-11-30", "<time><time>"),
        ];
        for (text, expected) in cases {
            assert_eq!(without_instants_and_ids(text), expected);
        }
    }

    #[test]
    fn an_instant_is_left_out_wherever_a_line_begins_and_however_its_time_follows() {
        let at = |before: &str, instant: &str| {
            let said = json!({"role": "user", "content": format!("{before}{instant} ann")});
            of(&json!({"model": "m", "messages": [said]}).to_string())
        };
        // The last is a line break in JSON in a text, as what a tool was called with.
        for before in ["", "a\n", "a\t", "a\r", "a\u{b}", "{\"text\":\"a\\n"] {
            let one = at(before, "2026-11-30T10:00:00Z");
            assert_eq!(one, at(before, "2027-01-02 11:30:00.5"), "{before:?}");
            assert_ne!(one, at(before, "yesterday"), "{before:?}");
        }
        assert_ne!(at("", "2026-11-30 1"), at("", "2026-11-30 2"), "that is no time");
        let keyed = |name: &str| of(&json!({"tools": [{name: 1}, {"a\nb": "\n"}]}).to_string());
        assert_eq!(keyed("2026-11-30"), keyed("2026-12-01"));
        assert_ne!(keyed("2026-11-30"), keyed("b"));
    }

    #[test]
    fn no_word_of_a_containers_own_is_written_and_of_parts_so_many() {
        let asked = |field: &str, who: &str, count: usize, last: &str| {
            let mut items =
                vec![json!({"role": who}), json!({"type": who}), json!({"role": "user"})];
            items.resize(count.max(3), json!(1));
            items.push(json!(last));
            of(&json!({"model": "m", "stream": true, field: null, "input": items}).to_string())
        };
        let (field, who) = ("secret".repeat(40), "secretly");
        let one = asked(&field, who, 3, "end");
        let written = serde_json::to_string(&one).unwrap();
        assert!(!written.contains("secret"), "{written}");
        assert!(written.contains("\"stream\"") && written.contains("(user)"), "{written}");
        assert_ne!(one, asked("other", who, 3, "end"), "it is another all the same");
        assert_ne!(one, asked(&field, "other", 3, "end"));
        let fields: serde_json::Map<String, Value> =
            (0..9_000).map(|at| (format!("f{at}"), Value::Null)).collect();
        assert!(of(&Value::Object(fields).to_string()).parts.len() < 100);
        let long = asked(&field, who, 9_000, "end");
        assert!(long.parts.len() < 5_000, "{}", long.parts.len());
        assert_eq!(long, asked(&field, who, 9_000, "end"));
        assert_ne!(long, asked(&field, who, 9_000, "and"));
    }

    #[test]
    fn a_request_says_in_what_it_differs_and_never_what_it_says() {
        let body = |system: &str, said: &str| {
            format!(
                r#"{{"model":"m","system":"{system}","messages":[{{"role":"user","content":"{said}"}},
                    {{"role":"assistant","content":"secret"}}]}}"#
            )
        };
        let recorded = of(&body("a", "hello"));
        let written = serde_json::to_string(&recorded).unwrap();
        assert!(!written.contains("hello") && !written.contains("secret"), "{written}");
        assert_eq!(
            of(&body("a", "hello")).differs_from(&recorded),
            "nothing but the order of its parts"
        );
        let other = of(&body("b", "hullo"));
        assert_eq!(
            other.differs_from(&recorded),
            "system is another, messages[0] (user) is another"
        );
        assert_eq!((other.alike(&recorded), recorded.alike(&recorded)), (1, 3));
        let short = of(r#"{"model":"n","tools":[],"messages":[]}"#);
        assert_eq!(
            short.differs_from(&recorded),
            "the model is n instead of m, tools is new, system is missing, \
             messages[0] (user) is missing, and 1 parts more"
        );
        assert!(Digest::of(b"[]").is_err() && Digest::of(b"").is_err());
    }
}
