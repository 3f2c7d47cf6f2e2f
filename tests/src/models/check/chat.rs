//! OpenAI's Chat Completions.

use std::collections::BTreeSet;

use serde_json::Value;

use super::tools::{self, missing};
use super::{Checked, kind, object};
use crate::models::fault::Fault;

const KEYS: [&str; 37] = [
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "modalities",
    "model",
    "moderation",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];

/// Checks a request.
///
/// # Errors
/// What the vendor would refuse, with 400.
pub fn check(body: &Value) -> Checked {
    if let Some(key) = object(body)?.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(Fault::invalid(format!("Unrecognized request argument supplied: {key}")));
    }
    if body["model"].as_str().is_none_or(str::is_empty) {
        return Err(Fault::invalid("you must provide a model parameter"));
    }
    let messages = match &body["messages"] {
        Value::Null => return Err(missing("messages")),
        Value::Array(messages) => messages,
        other => {
            let said = format!(
                "Invalid type for 'messages': expected an array, but got {} instead.",
                kind(other)
            );
            return Err(Fault::invalid(said).of("messages").coded("invalid_type"));
        }
    };
    if messages.is_empty() {
        let said = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an \
                    empty array instead.";
        return Err(Fault::invalid(said).of("messages").coded("empty_array"));
    }
    if !body["stream_options"].is_null() && body["stream"] != true {
        let said = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(Fault::invalid(said).of("stream_options"));
    }
    tools::openai(&body["tools"], Some("function"))?;
    for (n, message) in messages.iter().enumerate() {
        role(message, n)?;
        content(message, n)?;
    }
    calls(messages)
}

fn role(message: &Value, n: usize) -> Checked {
    const ROLES: [&str; 6] = ["system", "assistant", "user", "function", "tool", "developer"];
    match message["role"].as_str() {
        None => Err(missing(format!("messages[{n}].role"))),
        Some(role) if ROLES.contains(&role) => Ok(()),
        Some(role) => {
            let said =
                format!("Invalid value: '{role}'. Supported values are: '{}'.", ROLES.join("', '"));
            Err(Fault::invalid(said).of(format!("messages[{n}].role")).coded("invalid_value"))
        }
    }
}

fn content(message: &Value, n: usize) -> Checked {
    let at = format!("messages.[{n}].content");
    let may_be_none = message["role"] == "assistant" && message["tool_calls"].is_array();
    let parts = match &message["content"] {
        Value::Null if may_be_none => return Ok(()),
        Value::String(_) => return Ok(()),
        Value::Array(parts) => parts,
        other => {
            let said =
                format!("Invalid value for 'content': expected a string, got {}.", kind(other));
            return Err(Fault::invalid(said).of(at));
        }
    };
    let allowed: &[&str] = match message["role"].as_str() {
        Some("user") => &["text", "image_url", "input_audio", "file"],
        Some("assistant") => &["text", "refusal"],
        _ => &["text"],
    };
    for (m, part) in parts.iter().enumerate() {
        let sort = part["type"].as_str().unwrap_or_default();
        if !allowed.contains(&sort) {
            let said = format!(
                "Invalid value: '{sort}'. Supported values are: '{}'.",
                allowed.join("', '")
            );
            let at = format!("messages[{n}].content[{m}].type");
            return Err(Fault::invalid(said).of(at).coded("invalid_value"));
        }
        if sort == "image_url" && !part["image_url"]["url"].is_string() {
            return Err(missing(format!("messages[{n}].content[{m}].image_url.url")));
        }
    }
    Ok(())
}

fn calls(messages: &[Value]) -> Checked {
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (n, message) in messages.iter().enumerate() {
        if message["role"] == "tool" {
            let id = message["tool_call_id"].as_str();
            let id = id.ok_or_else(|| missing(format!("messages[{n}].tool_call_id")))?;
            if !open.remove(id) {
                let said = "Invalid parameter: messages with role 'tool' must be a response to a \
                            preceeding message with 'tool_calls'.";
                return Err(Fault::invalid(said).of(format!("messages.[{n}].role")));
            }
            continue;
        }
        unanswered(&open, n)?;
        for (m, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let at = format!("messages[{n}].tool_calls[{m}]");
            if !call["function"]["name"].is_string() {
                return Err(missing(format!("{at}.function.name")));
            }
            if !call["function"]["arguments"].is_string() {
                return Err(missing(format!("{at}.function.arguments")));
            }
            open.insert(call["id"].as_str().ok_or_else(|| missing(format!("{at}.id")))?);
        }
    }
    unanswered(&open, messages.len())
}

fn unanswered(open: &BTreeSet<&str>, n: usize) -> Checked {
    if open.is_empty() {
        return Ok(());
    }
    let ids = open.iter().copied().collect::<Vec<_>>().join(", ");
    Err(Fault::invalid(format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each \
         'tool_call_id'. The following tool_call_ids did not have response messages: {ids}"
    ))
    .of(format!("messages.[{n}].role")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(messages: Value) -> String {
        check(&json!({"model": "m", "messages": messages}))
            .map_or_else(|fault| fault.message, |()| "good".to_owned())
    }

    #[test]
    fn calls_and_results_belong_together() {
        let user = json!({"role": "user", "content": "a"});
        let call = |id| json!({"id": id, "type": "function", "function": {"name": "look", "arguments": "{}"}});
        let called =
            json!({"role": "assistant", "content": null, "tool_calls": [call("x"), call("y")]});
        let result = |id| json!({"role": "tool", "tool_call_id": id, "content": "rain"});
        let cases = [
            ("parallel", json!([user, called, result("y"), result("x")]), "good"),
            ("none", json!([]), "Invalid 'messages': empty array"),
            ("no call", json!([user, result("x")]), "Invalid parameter: messages with role 'tool'"),
            (
                "twice",
                json!([user, called, result("x"), result("x")]),
                "Invalid parameter: messages",
            ),
            (
                "one is missing",
                json!([user, called, result("x"), user]),
                "An assistant message with 'tool_calls'",
            ),
            ("none at the end", json!([user, called]), "An assistant message with 'tool_calls'"),
            (
                "no content",
                json!([{"role": "user"}]),
                "Invalid value for 'content': expected a string, got null.",
            ),
            ("a role", json!([{"role": "boss", "content": ""}]), "Invalid value: 'boss'."),
            (
                "a part",
                json!([{"role": "user", "content": [{"type": "image"}]}]),
                "Invalid value: 'image'.",
            ),
        ];
        for (case, messages, expected) in cases {
            let found = said(messages);
            assert!(found.starts_with(expected), "{case}: {found}");
        }
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        let said = |body: Value| check(&body).unwrap_err();
        let messages = json!([{"role": "user", "content": "a"}]);
        assert_eq!(
            said(json!({"model": "m", "input": []})).message,
            "Unrecognized request argument supplied: input"
        );
        assert_eq!(
            said(json!({"messages": messages})).message,
            "you must provide a model parameter"
        );
        assert_eq!(said(json!({"model": "m"})).code, Some("missing_required_parameter"));
        let usage = json!({"include_usage": true});
        let early = json!({"model": "m", "messages": messages, "stream_options": usage});
        assert_eq!(said(early).param.unwrap(), "stream_options");
    }
}
