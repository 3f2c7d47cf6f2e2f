//! What a request is, in parts, none of which can be read back: pure.
//!
//! Two requests are the same if they say the same to the same model. What differs by its nature from one turn to
//! the next is left out: instants, generated ids, and the fields that say who asks and not what.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use twobox_shared::content::digest16;

/// Fields that say nothing of what is asked.
const ASIDE: [&str; 6] = [
    "metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "client_metadata",
];

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
        let (mut said, mut beside) = (Vec::new(), Vec::new());
        for (name, value) in &fields {
            match (name.as_str(), value) {
                ("model", Value::String(text)) => model.clone_from(text),
                ("messages" | "input", Value::Array(items)) => {
                    let parts = items.iter().enumerate().map(|(at, item)| {
                        let who = item["role"].as_str().or(item["type"].as_str());
                        let who = who.filter(|who| who.bytes().all(|it| it.is_ascii_graphic()));
                        (format!("{name}[{at}] ({})", who.unwrap_or("?")), digest(item))
                    });
                    said.extend(parts);
                }
                (aside, _) if ASIDE.contains(&aside) => {}
                _ => beside.push((name.clone(), digest(value))),
            }
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

fn digest(value: &Value) -> String {
    digest16(&without_instants_and_ids(&value.to_string()))
}

/// `text` with a word in the place of each date, instant and generated id.
fn without_instants_and_ids(text: &str) -> String {
    const ID: &str = "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";
    const DATE: &str = "dddd-dd-dd";
    const TIME: &str = "Tdd:dd:dd";
    let (mut said, mut rest) = (String::with_capacity(text.len()), text);
    let mut inside = false; // of a word, where nothing of the kind begins
    while let Some(first) = rest.chars().next() {
        if !inside && is_like(rest, ID) {
            said.push_str("<id>");
            rest = &rest[ID.len()..];
        } else if !inside && is_like(rest, DATE) {
            said.push_str("<time>");
            rest = &rest[DATE.len()..];
            if is_like(rest, TIME) {
                rest = &rest[TIME.len()..];
                let fraction = |c: char| c == '.' || c.is_ascii_digit();
                rest = rest.trim_start_matches(fraction);
                rest = rest.strip_prefix('Z').unwrap_or(rest);
            }
        } else {
            said.push(first);
            rest = &rest[first.len_utf8()..];
        }
        inside = first.is_ascii_alphanumeric() && said.ends_with(first);
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
