//! What follows from a complaint: pure.
//!
//! The host has asked an upstream again as often as it makes sense before it hands a status down, so none
//! is asked again here for a status alone, but for its own word that it cannot answer yet. What it says to other
//! clients, for which it has the header `x-should-retry`, is the rule here anyway.

use std::time::Duration;

use super::super::api::Complaint;
use super::super::conversation::Trouble;

/// What is to be done about a complaint.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Verdict {
    /// Asking is of no use, whoever is asked.
    End(Trouble),
    /// This model will never answer this; another may.
    Never(String),
    /// The host cannot answer yet, whoever is asked: the same is asked again after this pause.
    Wait(String, Duration),
    /// This model does not answer now; another may.
    Next(String),
    /// The answer broke off: the same again may be answered.
    Again(String),
}

/// Kinds that say that a request is too long.
const TOO_LONG: [&str; 4] = [
    "context_length_exceeded",
    "exceed_context_size_error",
    "request_too_large",
    "context_window_exceeded",
];

/// Words that say so, in small letters, of those who have no kind for it.
const TOO_LONG_WORDS: [&str; 11] = [
    "prompt is too long",         // Anthropic
    "exceed context limit",       // Anthropic, with the answer's limit
    "maximum context length",     // OpenAI's Chat, vLLM, OpenRouter
    "exceeds the context window", // OpenAI's Responses
    "context window exceeds",
    "exceeds the available context", // llama.cpp
    "exceed the context",
    "too long to fit into the model",       // vLLM
    "input is too long",                    // Bedrock
    "exceeds the maximum number of tokens", // Gemini
    "longer than the model's context",
];

/// Kinds of errors in the middle of a stream that no other try would spare.
const LASTING: [&str; 5] = [
    "authentication_error",
    "permission_error",
    "not_found_error",
    "invalid_api_key",
    "model_not_found",
];

/// Those that are about what is in the request.
const UNFIT: [&str; 2] = ["invalid_request_error", "invalid_prompt"];

/// Judges a complaint about a request to `upstream`.
pub(in super::super) fn judge(complaint: &Complaint, upstream: &str) -> Verdict {
    let message = complaint.message.clone();
    let status = complaint.status;
    let own = complaint.own;
    if let Some(pause) = complaint.not_yet {
        return Verdict::Wait(message, pause);
    }
    if status == Some(402) || complaint.is(&["billing_error", "budget_exceeded"]) {
        return match own {
            true => Verdict::End(Trouble::OverBudget(message)),
            false => Verdict::Never(format!(
                "{upstream} wants to be paid ({message}): the operator has to see to the account"
            )),
        };
    }
    if is_too_long(complaint) {
        return Verdict::End(Trouble::TooLong(message));
    }
    match status {
        Some(408 | 409 | 425 | 429 | 500..) => Verdict::Next(message),
        Some(400 | 422) => Verdict::End(Trouble::Unfit(message)),
        Some(401 | 403) if !own => Verdict::Never(format!(
            "{upstream} refused the host's key ({message}): the operator has to give another, \
             `twobox secrets list` says under which name, `twobox secrets set` keeps it"
        )),
        Some(_) => Verdict::Never(message),
        None if complaint.is(&UNFIT) => Verdict::End(Trouble::Unfit(message)),
        None if complaint.is(&LASTING) => Verdict::Never(message),
        None => Verdict::Again(message),
    }
}

fn is_too_long(complaint: &Complaint) -> bool {
    if matches!(complaint.status, Some(401 | 403 | 404 | 429)) {
        return false;
    }
    let said = complaint.message.to_lowercase();
    complaint.status == Some(413)
        || complaint.is(&TOO_LONG)
        || TOO_LONG_WORDS.iter().any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_ends_a_request_or_asks_for_another() {
        let too_long = "This model's maximum context length is 4096 tokens. However, you requested";
        let cases = [
            (Some(400), "", "unknown field", "unfit"),
            (
                Some(401),
                "",
                "wrong key",
                "never: up refused the host's key (status 401: wrong key): the",
            ),
            (Some(401), "", "Twobox: wrong key", "never: up refused the host's key"),
            (Some(403), "", "prompt is too long", "never: up refused"),
            (Some(404), "", "no such upstream", "never"),
            (Some(422), "", "cannot read", "unfit"),
            (Some(302), "", "elsewhere", "never"),
            (Some(402), "", "Twobox: the day's budget is used up", "never: up wants to be paid"),
            (Some(402), "", "insufficient balance", "never: up wants to be paid"),
            (Some(413), "", "no", "too long"),
            (Some(400), "context_length_exceeded", "no", "too long"),
            (Some(400), "invalid_request_error", "prompt is too long: 9 > 8", "too long"),
            (Some(400), "exceed_context_size_error", "the request exceeds", "too long"),
            (Some(400), "BadRequestError", too_long, "too long"),
            (Some(500), "", "request exceeds the available context size", "too long"),
            (Some(429), "", "slower", "next"),
            (Some(500), "", "oops", "next"),
            (Some(529), "overloaded_error", "busy", "next"),
            (Some(503), "", "the upstream is down", "next"),
            (None, "overloaded_error", "busy", "again"),
            (None, "server_error", "oops", "again"),
            (None, "", "no JSON", "again"),
            (None, "invalid_request_error", "no", "unfit"),
            (None, "invalid_api_key", "no", "never"),
            (None, "context_length_exceeded", "no", "too long"),
            (None, "billing_error", "no", "never: up wants to be paid"),
        ];
        let own = [
            (Some(401), "", "Twobox: wrong key", "never: status 401: Twobox:"),
            (Some(402), "", "the day's budget is used up", "over budget"),
        ];
        let cases = cases.map(|case| (case, false)).into_iter();
        for ((status, kind, message, expected), own) in cases.chain(own.map(|case| (case, true))) {
            let body = serde_json::json!({"error": {"type": kind, "message": message}});
            let complaint = match status {
                Some(status) => Complaint::of_status(status, &body.to_string()),
                None => Complaint::of_event(&body),
            };
            let complaint = Complaint { own, ..complaint };
            let verdict = match judge(&complaint, "up") {
                Verdict::Wait(..) => "wait".to_owned(),
                Verdict::Next(_) => "next".to_owned(),
                Verdict::Again(_) => "again".to_owned(),
                Verdict::Never(why) => format!("never: {why}"),
                Verdict::End(Trouble::OverBudget(_)) => "over budget".to_owned(),
                Verdict::End(Trouble::TooLong(_)) => "too long".to_owned(),
                Verdict::End(Trouble::Unfit(_)) => "unfit".to_owned(),
                Verdict::End(other) => panic!("{other:?}"),
            };
            assert!(verdict.starts_with(expected), "{status:?} {kind} {message}: {verdict}");
        }
    }

    #[test]
    fn what_the_host_cannot_answer_yet_is_for_no_other_model() {
        let told = Complaint::of_status(503, "not seen yet");
        let pause = Duration::from_secs(1);
        let not_yet = Complaint { own: true, not_yet: Some(pause), ..told.clone() };
        let why = "status 503: not seen yet".to_owned();
        assert_eq!(judge(&not_yet, "up"), Verdict::Wait(why.clone(), pause));
        assert_eq!(judge(&told, "up"), Verdict::Next(why), "an upstream's own words are its own");
    }
}
