//! How the gateway says no: in the form in which the upstream itself would, so that every client
//! understands it, and with the header that ends a client's own retries. Pure.

use serde_json::json;
use twobox_shared::agent_config::Api;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind it is.
    pub why: Why,
    /// What is wrong, for people.
    pub detail: String,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is none.
    BadRequest,
    /// It does not have the session's key.
    NotYours,
    /// The limits of the operator are reached, until the day turns.
    OverBudget,
    /// What one run may cost is used up, which no other day changes.
    OverRun,
    /// What one run may cost is used up, and the host has not seen whether that run is over.
    Unseen,
    /// The agent may not use the model.
    NotAllowed,
    /// The server does not let whoever the host says it is do this. Other things it may.
    Forbidden,
    /// There is no such thing here.
    NotFound,
    /// No request like it was recorded, and no model is asked.
    NotRecorded,
    /// Its body did not come in time.
    TooSlow,
    /// It is larger than anything that is served.
    TooLarge,
    /// The session asks for too much at once.
    TooMany,
    /// The host cannot ask the upstream as it is set up.
    Unfit,
    /// The upstream cannot be reached.
    Unreachable,
    /// The server may have got it, and nothing of its answer can be passed on: nobody knows what it did.
    Unanswered,
}

impl Refusal {
    /// A refusal.
    pub fn new(why: Why, detail: String) -> Self {
        Self { why, detail }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self.why {
            Why::BadRequest => 400,
            Why::NotYours => 401,
            Why::OverBudget | Why::OverRun => 402,
            Why::NotAllowed | Why::Forbidden => 403,
            Why::NotFound | Why::NotRecorded => 404,
            Why::TooSlow => 408,
            Why::TooLarge => 413,
            Why::TooMany => 429,
            // A client that gets 5xx with `x-should-retry: false` gives up, and its turn is tried again.
            Why::Unfit => 500,
            Why::Unreachable | Why::Unanswered => 502,
            Why::Unseen => 503,
        }
    }

    /// The word for it, by which a client knows that it is the host's own.
    pub fn word(&self) -> &'static str {
        match self.why {
            Why::BadRequest => "request",
            Why::NotYours => "key",
            Why::OverBudget => "budget",
            Why::OverRun => "run-budget",
            Why::Unseen => "unseen",
            Why::NotAllowed => "not-allowed",
            Why::Forbidden => "forbidden",
            Why::NotFound => "not-found",
            Why::NotRecorded => "not-recorded",
            Why::TooSlow => "too-slow",
            Why::TooLarge => "too-large",
            Why::TooMany => "too-many",
            Why::Unfit => "host",
            Why::Unreachable => "unreachable",
            Why::Unanswered => "unanswered",
        }
    }

    /// Whether the same may be answered in a moment.
    pub fn is_passing(&self) -> bool {
        matches!(self.why, Why::TooMany | Why::Unseen)
    }

    /// The body, as an upstream that speaks `api` writes it.
    pub fn body(&self, api: Api) -> String {
        let kind = match self.why {
            Why::BadRequest | Why::TooSlow => "invalid_request_error",
            Why::NotYours => "authentication_error",
            Why::OverBudget | Why::OverRun => "billing_error",
            Why::NotAllowed | Why::Forbidden => "permission_error",
            Why::NotFound | Why::NotRecorded => "not_found_error",
            Why::TooLarge => "request_too_large",
            Why::TooMany => "rate_limit_error",
            Why::Unfit | Why::Unreachable | Why::Unanswered | Why::Unseen => "api_error",
        };
        let message = format!("Twobox: {}", self.detail);
        let value = match api {
            Api::Messages => {
                json!({"type": "error", "error": {"type": kind, "message": message}})
            }
            Api::Responses | Api::Chat => {
                json!({"error": {"message": message, "type": kind, "param": null, "code": kind}})
            }
        };
        value.to_string()
    }
}
