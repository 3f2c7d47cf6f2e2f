//! Anthropic's Messages: the request as a whole.
//!
//! The version [`NEWEST`] takes no parameters of sampling any more, and no citations in what a person says.

use serde_json::Value;

use super::{Checked, object, parts, tools, turns};
use crate::models::caching::marks;
use crate::models::fault::Fault;

/// The keys that a request may have, those of beta versions among them.
const KEYS: [&str; 31] = [
    "betas",
    "billing_policy",
    "cache_control",
    "compaction",
    "container",
    "context_management",
    "diagnostics",
    "fallback_credit_token",
    "fallbacks",
    "inference_geo",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "thread",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
    "user_profile_id",
    "workspace_id",
];

/// The version of the interface that the vendor's libraries ask for since then.
const NEWEST: &str = "2026-10-21";

/// What was taken out of [`NEWEST`].
const SAMPLING: [&str; 3] = ["temperature", "top_k", "top_p"];

/// The most marks for the cache in one request.
const MARKS: usize = 4;

/// Checks a request. `version` is its header `anthropic-version`.
///
/// # Errors
/// What the vendor would refuse, with 400.
pub fn check(version: Option<&str>, body: &Value) -> Checked {
    let is_newest = match version {
        None => return Err(Fault::invalid("anthropic-version: header is required")),
        Some("2023-06-01" | "2023-01-01") => false,
        Some(NEWEST) => true,
        Some(other) => {
            let said = format!("anthropic-version: \"{other}\" is not a valid version");
            return Err(Fault::invalid(said));
        }
    };
    for key in object(body)?.keys().map(String::as_str) {
        if !KEYS.contains(&key) || is_newest && SAMPLING.contains(&key) {
            return Err(Fault::invalid(format!("{key}: Extra inputs are not permitted")));
        }
    }
    head(body)?;
    tools::messages(&body["tools"])?;
    system(&body["system"])?;
    if marks(body) > MARKS {
        let said = format!(
            "A maximum of {MARKS} blocks with cache_control may be provided. Found {}.",
            marks(body)
        );
        return Err(Fault::invalid(said));
    }
    let messages = body["messages"].as_array().expect("`head` has seen it");
    parts::messages(messages)?;
    if is_newest {
        parts::uncited(messages)?;
    }
    turns::messages(messages)
}

fn head(body: &Value) -> Checked {
    for key in ["model", "max_tokens", "messages"] {
        if body[key].is_null() {
            return Err(Fault::invalid(format!("{key}: Field required")));
        }
    }
    let most = body["max_tokens"].as_u64().ok_or_else(|| {
        Fault::invalid("max_tokens: Input should be a valid integer greater than or equal to 0")
    })?;
    if most == 0 {
        return Err(Fault::invalid("max_tokens: Input should be greater than or equal to 1"));
    }
    if body["model"].as_str().is_none_or(str::is_empty) {
        return Err(Fault::invalid("model: Input should be a valid string"));
    }
    match body["messages"].as_array() {
        None => return Err(Fault::invalid("messages: Input should be a valid list")),
        Some(messages) if messages.is_empty() => {
            return Err(Fault::invalid("messages: at least one message is required"));
        }
        Some(_) => {}
    }
    thinking(&body["thinking"], most)
}

fn thinking(thinking: &Value, most: u64) -> Checked {
    match thinking["type"].as_str() {
        Some("enabled") => match thinking["budget_tokens"].as_u64() {
            None => Err(Fault::invalid("thinking.enabled.budget_tokens: Field required")),
            Some(..1024) => Err(Fault::invalid(
                "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
            )),
            Some(budget) if budget >= most => {
                Err(Fault::invalid("`max_tokens` must be greater than `thinking.budget_tokens`"))
            }
            Some(_) => Ok(()),
        },
        Some("disabled" | "adaptive" | "between_tools") => Ok(()),
        None if thinking.is_null() => Ok(()),
        _ => Err(Fault::invalid(
            "thinking: Input tag found using 'type' does not match any of the expected tags: \
             'adaptive', 'disabled', 'enabled'",
        )),
    }
}

fn system(system: &Value) -> Checked {
    match system {
        Value::Null | Value::String(_) => Ok(()),
        Value::Array(blocks) => {
            for (n, block) in blocks.iter().enumerate() {
                if block["type"] != "text" {
                    let said = format!("system.{n}.type: Input should be 'text'");
                    return Err(Fault::invalid(said));
                }
                parts::text(block, "system")?;
            }
            Ok(())
        }
        _ => Err(Fault::invalid("system: Input should be a valid string or a valid list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(change: impl FnOnce(&mut Value)) -> String {
        let mut body = json!({
            "model": "m", "max_tokens": 9000, "messages": [{"role": "user", "content": "hello"}],
        });
        change(&mut body);
        check(Some("2023-06-01"), &body).map_or_else(|fault| fault.message, |()| "good".to_owned())
    }

    #[test]
    fn what_is_missing_or_too_much_is_told() {
        assert_eq!(said(|_| ()), "good");
        let cases = [
            (said(|body| body["max_tokens"] = Value::Null), "max_tokens: Field required"),
            (said(|body| body["max_tokens"] = json!(0)), "max_tokens: Input should be greater"),
            (said(|body| body["model"] = Value::Null), "model: Field required"),
            (said(|body| body["messages"] = json!([])), "messages: at least one message"),
            (said(|body| body["input"] = json!([])), "input: Extra inputs are not permitted"),
            (
                said(|body| body["system"] = json!([{"type": "text", "text": ""}])),
                "system: text content",
            ),
            (
                said(|body| body["system"] = json!([{"type": "image"}])),
                "system.0.type: Input should",
            ),
            (said(|body| body["thinking"] = json!({"type": "enabled"})), "thinking.enabled.budget"),
            (
                said(|body| body["thinking"] = json!({"type": "enabled", "budget_tokens": 9000})),
                "`max_tokens` must be greater",
            ),
        ];
        for (found, expected) in cases {
            assert!(found.starts_with(expected), "{found}, not {expected}");
        }
        assert_eq!(said(|body| body["thinking"] = json!({"type": "adaptive"})), "good");
    }

    #[test]
    fn a_version_has_to_be_named() {
        let body = json!({});
        assert!(check(None, &body).unwrap_err().message.starts_with("anthropic-version"));
        assert!(
            check(Some("2023-07-01"), &body).unwrap_err().message.contains("not a valid version")
        );
    }

    #[test]
    fn the_newest_version_takes_no_sampling_and_no_citations_of_people() {
        let text = json!({"type": "text", "text": "a", "citations": [{"type": "char_location"}]});
        let body = |key: &str| {
            json!({
                "model": "m", "max_tokens": 9, key: 1.0, "messages": [{"role": "user", "content": "a"}],
            })
        };
        let cited = json!({
            "model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [text]}],
        });
        for body in SAMPLING.map(body).into_iter().chain([cited]) {
            assert!(check(Some("2023-06-01"), &body).is_ok(), "{body}");
            let fault = check(Some(NEWEST), &body).unwrap_err();
            assert!(fault.message.ends_with("not permitted"), "{body}: {}", fault.message);
        }
    }

    #[test]
    fn a_fifth_mark_for_the_cache_is_refused() {
        let block = json!({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}});
        let with = |count: usize| said(|body| body["system"] = vec![block.clone(); count].into());
        assert_eq!(with(4), "good");
        assert!(with(5).ends_with("Found 5."));
    }
}
