//! OpenAI's Responses.
//!
//! The stand-in keeps nothing between requests, so that `previous_response_id` and references to items
//! are refused as those that were not found.

use std::collections::BTreeSet;

use serde_json::Value;

use super::tools::{self, missing};
use super::{Checked, kind, object};
use crate::models::fault::Fault;

const KEYS: [&str; 35] = [
    "access_programs",
    "background",
    "background_options",
    "client_metadata", // Codex sends it to the vendor
    "context_management",
    "conversation",
    "image",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "prewarm",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
];

/// Items of tools that the vendor or a client's library runs, at which nothing more is looked.
const OTHERS: [&str; 21] = [
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

/// Checks a request.
///
/// # Errors
/// What the vendor would refuse, with 400.
pub fn check(body: &Value) -> Checked {
    if let Some(key) =
        object(body)?.keys().find(|key| *key != "user" && !KEYS.contains(&key.as_str()))
    {
        let said = format!("Unknown parameter: '{key}'.");
        return Err(Fault::invalid(said).of(key.as_str()).coded("unknown_parameter"));
    }
    if body["model"].as_str().is_none_or(str::is_empty) {
        return Err(missing("model"));
    }
    if let Some(id) = body["previous_response_id"].as_str() {
        let said = format!("Previous response with id '{id}' not found.");
        return Err(Fault::invalid(said)
            .of("previous_response_id")
            .coded("previous_response_not_found"));
    }
    tools::openai(&body["tools"], None)?;
    match &body["input"] {
        Value::Null => Err(missing("input")),
        Value::String(_) => Ok(()),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(n, found)| item(found, n))?;
            calls(items)
        }
        other => {
            let said = format!(
                "Invalid type for 'input': expected one of an array of input items or a string, but got \
                 {} instead.",
                kind(other)
            );
            Err(Fault::invalid(said).of("input").coded("invalid_type"))
        }
    }
}

fn item(item: &Value, n: usize) -> Checked {
    let at = format!("input[{n}]");
    let required = |keys: &[&str]| match keys.iter().find(|key| !item[**key].is_string()) {
        Some(key) => Err(missing(format!("{at}.{key}"))),
        None => Ok(()),
    };
    match item["type"].as_str() {
        None | Some("message") => message(item, &at),
        Some("function_call") => required(&["call_id", "name", "arguments"]),
        Some("function_call_output") => {
            required(&["call_id"])?;
            match &item["output"] {
                Value::String(_) => Ok(()),
                Value::Array(parts) => content(
                    parts,
                    &["input_text", "input_image", "input_file"],
                    &format!("{at}.output"),
                ),
                _ => Err(missing(format!("{at}.output"))),
            }
        }
        Some("reasoning") => {
            required(&["id"])?;
            match item["summary"].is_array() {
                true => Ok(()),
                false => Err(missing(format!("{at}.summary"))),
            }
        }
        Some("item_reference") => {
            let id = item["id"].as_str().unwrap_or_default();
            let said = format!(
                "Item with id '{id}' not found. Items are not persisted when `store` is set to false."
            );
            Err(Fault::new(404, said).of("input"))
        }
        Some(other) if OTHERS.contains(&other) => Ok(()),
        Some(other) => {
            let said = format!("Invalid value: '{other}'.");
            Err(Fault::invalid(said).of(format!("{at}.type")).coded("invalid_value"))
        }
    }
}

fn message(message: &Value, at: &str) -> Checked {
    let allowed: &[&str] = match message["role"].as_str() {
        Some("user" | "system" | "developer") => &["input_text", "input_image", "input_file"],
        Some("assistant") => &["output_text", "refusal"],
        Some(role) => {
            let said = format!(
                "Invalid value: '{role}'. Supported values are: 'assistant', 'system', 'developer', and \
                 'user'."
            );
            return Err(Fault::invalid(said).of(at).coded("invalid_value"));
        }
        None => return Err(missing(format!("{at}.role"))),
    };
    match &message["content"] {
        Value::String(_) => Ok(()),
        Value::Array(parts) => content(parts, allowed, &format!("{at}.content")),
        _ => Err(missing(format!("{at}.content"))),
    }
}

fn content(parts: &[Value], allowed: &[&str], at: &str) -> Checked {
    for (n, part) in parts.iter().enumerate() {
        let sort = part["type"].as_str().unwrap_or_default();
        if !allowed.contains(&sort) {
            let said = format!(
                "Invalid value: '{sort}'. Supported values are: '{}'.",
                allowed.join("', '")
            );
            return Err(Fault::invalid(said).of(format!("{at}[{n}]")).coded("invalid_value"));
        }
        let (key, good) = match sort {
            "input_image" => {
                ("image_url", part["image_url"].is_string() || part["file_id"].is_string())
            }
            "input_file" => ("file_data", true),
            "refusal" => ("refusal", part["refusal"].is_string()),
            _ => ("text", part["text"].is_string()),
        };
        if !good {
            return Err(missing(format!("{at}[{n}].{key}")));
        }
    }
    Ok(())
}

fn calls(items: &[Value]) -> Checked {
    let ids = |sort: &'static str| {
        let items = items.iter().filter(move |item| item["type"] == sort);
        items.filter_map(|item| item["call_id"].as_str())
    };
    let mut open = BTreeSet::new();
    for item in items {
        let id = item["call_id"].as_str().unwrap_or_default();
        match item["type"].as_str() {
            Some("function_call") => {
                open.insert(id);
            }
            Some("function_call_output") if !open.contains(id) => {
                let said =
                    format!("No tool call found for function call output with call_id {id}.");
                return Err(Fault::invalid(said).of("input"));
            }
            _ => {}
        }
    }
    let given: BTreeSet<&str> = ids("function_call_output").collect();
    match ids("function_call").find(|id| !given.contains(id)) {
        Some(id) => {
            Err(Fault::invalid(format!("No tool output found for function call {id}.")).of("input"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn calls_and_results_belong_together() {
        let user = json!({"role": "user", "content": "a"});
        let call =
            |id| json!({"type": "function_call", "call_id": id, "name": "look", "arguments": "{}"});
        let result = |id| json!({"type": "function_call_output", "call_id": id, "output": "rain"});
        let part = |role, sort| json!({"role": role, "content": [{"type": sort, "text": "a"}]});
        let cases = [
            ("parallel", json!([user, call("x"), call("y"), result("y"), result("x")]), "good"),
            ("a text", json!("hello"), "good"),
            ("no input", json!(null), "Missing required parameter: 'input'."),
            (
                "no call",
                json!([user, result("x")]),
                "No tool call found for function call output with call_id x.",
            ),
            ("too early", json!([result("x"), call("x")]), "No tool call found"),
            ("no result", json!([user, call("x")]), "No tool output found for function call x."),
            ("a part", json!([part("user", "input_text")]), "good"),
            ("a wrong part", json!([part("user", "text")]), "Invalid value: 'text'."),
            ("an answer", json!([part("assistant", "input_text")]), "Invalid value: 'input_text'."),
            ("a role", json!([part("tool", "text")]), "Invalid value: 'tool'."),
            (
                "a reference",
                json!([{"type": "item_reference", "id": "rs_1"}]),
                "Item with id 'rs_1' not found.",
            ),
            ("the vendor's own", json!([user, {"type": "web_search_call", "id": "ws_1"}]), "good"),
            ("nobody's", json!([user, {"type": "dance_call"}]), "Invalid value: 'dance_call'."),
            (
                "no summary",
                json!([{"type": "reasoning", "id": "rs_1"}]),
                "Missing required parameter: 'input[0].summary'.",
            ),
        ];
        for (case, input, expected) in cases {
            let found = check(&json!({"model": "m", "input": input}));
            let found = found.map_or_else(|fault| fault.message, |()| "good".to_owned());
            assert!(found.starts_with(expected), "{case}: {found}");
        }
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        let code = |body: Value| check(&body).unwrap_err().code;
        assert_eq!(code(json!({"model": "m", "messages": []})), Some("unknown_parameter"));
        assert_eq!(code(json!({"input": "a"})), Some("missing_required_parameter"));
        let before = json!({"model": "m", "input": "a", "previous_response_id": "resp_1"});
        assert_eq!(code(before), Some("previous_response_not_found"));
    }
}
