//! What an upstream complains of: an answer with an error's status, or an error in the middle of a stream.
//! Each server has its own shape; read is what all of them have somewhere.

use std::time::Duration;

use serde_json::Value;
use twobox_shared::errors::for_a_terminal;

/// A complaint, in words that people can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// The HTTP status; none in the middle of a stream.
    pub(crate) status: Option<u16>,
    /// The upstream's own words for the kind, such as `overloaded_error`; they may be several.
    pub(crate) kinds: Vec<String>,
    /// What it says: short, in one line, and harmless.
    pub(crate) message: String,
    /// Whether the host says it itself, and has not handed it down.
    pub(crate) own: bool,
    /// How long to wait before the same is asked again, where the host says that it cannot answer yet.
    pub(crate) not_yet: Option<Duration>,
}

impl Complaint {
    /// Of an answer with an error's status, and this body.
    pub(crate) fn of_status(status: u16, body: &str) -> Self {
        let read = serde_json::from_str(body).ok();
        let (kinds, said) = read.as_ref().map(details).unwrap_or_default();
        let said = match said.is_empty() {
            true => body.trim().to_owned(),
            false => said,
        };
        let said = for_a_terminal(&said);
        let message = match said.is_empty() {
            true => format!("status {status}"),
            false => format!("status {status}: {said}"),
        };
        Self { status: Some(status), kinds, message, own: false, not_yet: None }
    }

    /// Of an error in the middle of a stream.
    pub(crate) fn of_event(event: &Value) -> Self {
        let (kinds, said) = details(event);
        let said = match said.is_empty() {
            true => event.to_string(),
            false => said,
        };
        let message = for_a_terminal(&said);
        Self { status: None, kinds, message, own: false, not_yet: None }
    }

    /// Of an answer that should have been a stream, and is this JSON: an error that some tell so, or an
    /// answer of one who does not stream.
    pub(crate) fn of_whole(body: &str) -> Self {
        match serde_json::from_str::<Value>(body) {
            Ok(value) if !value["error"].is_null() => Self::of_event(&value),
            _ => Self::ours("the upstream answered in one piece instead of a stream"),
        }
    }

    /// Our own, of something that no upstream should say.
    pub(crate) fn ours(message: &str) -> Self {
        let message = for_a_terminal(message);
        Self { status: None, kinds: Vec::new(), message, own: false, not_yet: None }
    }

    /// Whether one of its kinds is among `kinds`.
    pub(crate) fn is(&self, kinds: &[&str]) -> bool {
        self.kinds.iter().any(|kind| kinds.contains(&&**kind))
    }
}

/// The kinds and the words of an error in any of the shapes that there are: `{"error": {"type", "code",
/// "message"}}`, `{"error": "words"}`, the same without the outer object, `{"detail": …}`.
fn details(value: &Value) -> (Vec<String>, String) {
    let error = match &value["error"] {
        Value::Null => value,
        error => error,
    };
    let kinds = ["type", "code", "status"].iter().filter_map(|name| {
        let kind = match &error[*name] {
            Value::String(kind) => kind.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        Some(kind.chars().take(64).collect())
    });
    let said = match (error, &error["message"], &error["detail"]) {
        (Value::String(said), ..) | (_, Value::String(said), _) | (.., Value::String(said)) => {
            said.clone()
        }
        (_, Value::Null, Value::Null) => String::new(),
        (_, Value::Null, other) | (_, other, _) => other.to_string(),
    };
    (kinds.collect(), said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_in_every_shape() {
        let cases = [
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                "overloaded_error",
                "Overloaded",
            ),
            (r#"{"error":{"message":"no","type":"t","code":"c"}}"#, "t c", "no"),
            (r#"{"error":"model not found"}"#, "", "model not found"),
            (r#"{"object":"error","message":"long","code":400}"#, "400", "long"),
            (r#"{"detail":"Not Found"}"#, "", "Not Found"),
            (r#"{"detail":[{"loc":["body"]}]}"#, "", r#"[{"loc":["body"]}]"#),
            ("<h1>bad\x1b gateway</h1>", "", r"<h1>bad\u{1b} gateway</h1>"),
        ];
        for (body, kinds, said) in cases {
            let complaint = Complaint::of_status(500, body);
            assert_eq!(complaint.kinds.join(" "), kinds, "{body}");
            assert_eq!(complaint.message, format!("status 500: {said}"), "{body}");
        }
        let whole = Complaint::of_whole(r#"{"error":{"message":"no credit","code":402}}"#);
        assert_eq!((&*whole.message, whole.status), ("no credit", None));
        assert!(Complaint::of_whole(r#"{"choices":[]}"#).message.contains("instead of a stream"));
        assert_eq!(Complaint::of_status(502, " ").message, "status 502");
        assert!(Complaint::of_status(500, &"x".repeat(9000)).message.len() < 600);
    }
}
