//! What it means that a turn of Codex has failed: pure.

use twobox_shared::content::Failure;

use super::wire::Wrong;
use crate::provider::model::lent;

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The way to the model broke off: the same again may be answered.
    Again(String),
    /// The turn of ours has failed too.
    End(Failure),
}

/// How Codex begins to tell that a connection was not there or broke off, whatever its word for it is.
const BROKE_OFF: &str = "stream disconnected";

/// Judges what is `wrong` with a turn that asked `upstream`.
pub(super) fn judge(wrong: &Wrong, upstream: &str) -> Verdict {
    let Wrong { message, .. } = wrong;
    let (kind, status) = wrong.kind();
    if let Some(status) = status {
        return Verdict::End(lent::refused(status, said(message), upstream));
    }
    match kind {
        _ if message.starts_with(BROKE_OFF) => Verdict::Again(message.clone()),
        "responseStreamDisconnected"
        | "responseStreamConnectionFailed"
        | "httpConnectionFailed" => Verdict::Again(message.clone()),
        // It tells neither the status nor what was said.
        "internalServerError" | "serverOverloaded" => {
            Verdict::End(lent::refused(500, message, upstream))
        }
        "rateLimitExceeded" => Verdict::End(lent::refused(429, message, upstream)),
        "unauthorized" => Verdict::End(lent::refused(401, said(message), upstream)),
        "usageLimitExceeded" | "sessionBudgetExceeded" => {
            Verdict::End(lent::refused(402, said(message), upstream))
        }
        "contextWindowExceeded" => Verdict::End(lent::refused(413, message, upstream)),
        // The body of a refusal with 400 is all the message.
        _ if message.starts_with('{') => Verdict::End(lent::refused(400, message, upstream)),
        _ => {
            let detail = format!("codex failed: {message}");
            Verdict::End(Failure::retryable(Failure::PROVIDER_ERROR, detail))
        }
    }
}

/// What an upstream has said, of what Codex makes of it:
/// `unexpected status 402 Payment Required: WORDS, url: http://…`.
fn said(message: &str) -> &str {
    let Some(rest) = message.strip_prefix("unexpected status ") else { return message };
    let said = rest.split_once(": ").map_or(rest, |(_, said)| said);
    said.rsplit_once(", url: ").map_or(said, |(said, _)| said)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(info: serde_json::Value, message: &str) -> Verdict {
        judge(&Wrong { message: message.to_owned(), codex_error_info: info }, "up")
    }

    #[test]
    fn what_an_upstream_refuses_is_told_as_it_is_told_to_any_agent() {
        let status = |status: u16| json!({"httpConnectionFailed": {"httpStatusCode": status}});
        let unexpected =
            |said: &str| format!("unexpected status 4xx Why: {said}, url: http://127.0.0.1/x");
        let cases = [
            (status(402), unexpected("Twobox: the budget is used up"), "budget_exceeded", false),
            (status(402), unexpected("pay"), "provider_error", false),
            (status(401), unexpected("wrong key"), "provider_error", false),
            (status(502), unexpected("Twobox: it cannot be reached"), "provider_error", true),
            (
                json!({"responseTooManyFailedAttempts": {"httpStatusCode": 429}}),
                "exceeded retry limit".to_owned(),
                "provider_error",
                true,
            ),
            (json!("internalServerError"), "high demand".to_owned(), "provider_error", true),
            (
                json!("other"),
                json!({"error": {"message": "no such field"}}).to_string(),
                "provider_error",
                false,
            ),
            (json!("contextWindowExceeded"), "too long".to_owned(), "provider_error", false),
            (json!({"new": {}}), "odd".to_owned(), "provider_error", true),
            (json!(null), "odd".to_owned(), "provider_error", true),
        ];
        for (info, message, reason, retryable) in cases {
            let Verdict::End(failure) = of(info.clone(), &message) else { panic!("{info}") };
            assert_eq!((failure.reason.as_str(), failure.retryable), (reason, retryable), "{info}");
            assert!(!failure.detail.contains("127.0.0.1"), "{}", failure.detail);
        }
        let Verdict::End(failure) = of(status(401), &unexpected("wrong key")) else { panic!() };
        assert!(failure.detail.contains("twobox secrets set"), "{}", failure.detail);
    }

    #[test]
    fn what_broke_off_may_be_asked_again() {
        let message = "stream disconnected before completion: error sending request";
        assert!(matches!(of(json!("other"), message), Verdict::Again(_)));
        let info = json!({"responseStreamDisconnected": {"httpStatusCode": null}});
        assert!(matches!(of(info, "odd"), Verdict::Again(_)));
    }
}
