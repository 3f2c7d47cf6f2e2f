//! Refusals as the vendors word them.

use serde_json::{Value, json};

use super::Api;
use super::script::Refusal;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The status code.
    pub status: u16,
    /// What is wrong.
    pub message: String,
    /// With OpenAI: which parameter is wrong.
    pub param: Option<String>,
    /// With OpenAI: which mistake it is.
    pub code: Option<&'static str>,
}

impl Fault {
    /// A request that cannot be.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// A status with what it says.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None }
    }

    /// The same, for this parameter.
    #[must_use]
    pub fn of(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// The same, with this code.
    #[must_use]
    pub fn coded(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// What a script asks for.
    pub fn scripted(refusal: &Refusal, api: Api) -> Self {
        let (message, code) = match api {
            Api::Messages => (anthropic_message(refusal.status), None),
            Api::Responses | Api::Chat => openai_message(refusal.status),
        };
        let message = refusal.message.clone().unwrap_or_else(|| message.to_owned());
        Self { status: refusal.status, message, param: None, code }
    }

    /// The body of the answer.
    pub fn body(&self, api: Api, request_id: &str) -> Value {
        match api {
            Api::Messages => json!({
                "type": "error",
                "error": {"type": anthropic_type(self.status), "message": self.message},
                "request_id": request_id,
            }),
            Api::Responses | Api::Chat => json!({"error": self.openai()}),
        }
    }

    /// The error itself, with OpenAI.
    pub fn openai(&self) -> Value {
        json!({
            "message": self.message,
            "type": openai_type(self.status, self.code),
            "param": self.param,
            "code": self.code,
        })
    }
}

/// Anthropic's name for a status.
fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn anthropic_message(status: u16) -> &'static str {
    match status {
        401 => "invalid x-api-key",
        402 => "Your credit balance is too low to access the Anthropic API.",
        403 => "Your API key does not have permission to use the specified resource.",
        404 => "Not found",
        413 => "Request exceeds the maximum size",
        429 => "This request would exceed your organization's rate limit. Please try again later.",
        503 => "Service unavailable",
        529 => "Overloaded",
        500.. => "Internal server error",
        _ => "Invalid request",
    }
}

/// OpenAI's name for a status.
fn openai_type(status: u16, code: Option<&str>) -> &'static str {
    match (status, code) {
        (402, _) | (429, Some("insufficient_quota")) => "insufficient_quota",
        (429, _) => "requests",
        (500.., _) => "server_error",
        _ => "invalid_request_error",
    }
}

fn openai_message(status: u16) -> (&'static str, Option<&'static str>) {
    match status {
        401 => ("Incorrect API key provided.", Some("invalid_api_key")),
        402 => (
            "You exceeded your current quota, please check your plan and billing details.",
            Some("insufficient_quota"),
        ),
        403 => (
            "You are not allowed to use this resource.",
            Some("unsupported_country_region_territory"),
        ),
        404 => {
            ("The model does not exist or you do not have access to it.", Some("model_not_found"))
        }
        413 => ("The request is too large.", None),
        429 => ("Rate limit reached. Please try again later.", Some("rate_limit_exceeded")),
        503 => ("The engine is currently overloaded, please try again later.", None),
        500.. => ("The server had an error while processing your request. Sorry about that!", None),
        _ => ("Invalid request.", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vendor_has_its_own_words() {
        let refusal = |status| Refusal { status, retry_after: None, message: None };
        let kind = |api, status| {
            let body = Fault::scripted(&refusal(status), api).body(api, "req_1");
            body["error"]["type"].as_str().unwrap().to_owned()
        };
        assert_eq!(kind(Api::Messages, 529), "overloaded_error");
        assert_eq!(kind(Api::Messages, 402), "billing_error");
        assert_eq!(kind(Api::Chat, 503), "server_error");
        assert_eq!(kind(Api::Responses, 401), "invalid_request_error");
        let body = Fault::scripted(&refusal(429), Api::Messages).body(Api::Messages, "req_1");
        assert_eq!((&body["type"], &body["request_id"]), (&json!("error"), &json!("req_1")));
    }
}
