//! Anthropic's Messages: each message and each block for itself.

use serde_json::Value;

use super::{Checked, is_base64, is_name};
use crate::models::fault::Fault;

/// What a person's message may be made of.
const USER: [&str; 6] =
    ["text", "image", "document", "search_result", "tool_result", "container_upload"];
/// What a model's may be made of. Of tools that the vendor runs, nothing more is looked at.
const ASSISTANT: [&str; 12] = [
    "text",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "container_upload",
];

/// Checks each message by itself.
///
/// # Errors
/// The first that cannot be.
pub(super) fn messages(messages: &[Value]) -> Checked {
    for (n, message) in messages.iter().enumerate() {
        let allowed: &[&str] = match message["role"].as_str() {
            Some("user") => &USER,
            Some("assistant") => &ASSISTANT,
            Some("system") => &["text"],
            _ => {
                let said = format!("messages.{n}.role: Input should be 'user' or 'assistant'");
                return Err(Fault::invalid(said));
            }
        };
        let is_prefill = n + 1 == messages.len() && message["role"] == "assistant";
        content(&message["content"], allowed, &format!("messages.{n}"), is_prefill)?;
    }
    Ok(())
}

fn content(content: &Value, allowed: &[&str], at: &str, is_prefill: bool) -> Checked {
    let blocks = match content {
        Value::String(text) if text.is_empty() && !is_prefill => return Err(empty(at)),
        Value::String(text) if is_prefill => return prefill(text),
        Value::String(_) => return Ok(()),
        Value::Array(blocks) if blocks.is_empty() && !is_prefill => return Err(empty(at)),
        Value::Array(blocks) => blocks,
        Value::Null => return Err(Fault::invalid(format!("{at}.content: Field required"))),
        _ => {
            let said = format!("{at}.content: Input should be a valid string or a valid list");
            return Err(Fault::invalid(said));
        }
    };
    for (n, found) in blocks.iter().enumerate() {
        block(found, allowed, &format!("{at}.content.{n}"))?;
    }
    match blocks.last().and_then(|last| last["text"].as_str()) {
        Some(text) if is_prefill => prefill(text),
        _ => Ok(()),
    }
}

fn empty(at: &str) -> Fault {
    Fault::invalid(format!(
        "{at}: all messages must have non-empty content except for the optional final assistant message"
    ))
}

fn prefill(text: &str) -> Checked {
    match text.ends_with(char::is_whitespace) {
        true => Err(Fault::invalid(
            "messages: final assistant content cannot end with trailing whitespace",
        )),
        false => Ok(()),
    }
}

fn block(block: &Value, allowed: &[&str], at: &str) -> Checked {
    let kind = block["type"].as_str().unwrap_or_default();
    if !allowed.contains(&kind) {
        let said = format!(
            "{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags: {}",
            allowed.join(", ")
        );
        return Err(Fault::invalid(said));
    }
    match kind {
        "text" => text(block, "messages"),
        "image" => source(
            &block["source"],
            &["image/jpeg", "image/png", "image/gif", "image/webp"],
            &format!("{at}.image.source"),
        ),
        "document" => source(
            &block["source"],
            &["application/pdf", "text/plain"],
            &format!("{at}.document.source"),
        ),
        "thinking" => required(block, &["thinking", "signature"], &format!("{at}.thinking")),
        "redacted_thinking" => required(block, &["data"], &format!("{at}.redacted_thinking")),
        "tool_use" => {
            required(block, &["id", "name"], &format!("{at}.tool_use"))?;
            id(&block["id"], &format!("{at}.tool_use.id"))?;
            match block["input"].is_object() {
                true => Ok(()),
                false => Err(Fault::invalid(format!(
                    "{at}.tool_use.input: Input should be a valid dictionary"
                ))),
            }
        }
        "tool_result" => {
            required(block, &["tool_use_id"], &format!("{at}.tool_result"))?;
            id(&block["tool_use_id"], &format!("{at}.tool_result.tool_use_id"))?;
            result(&block["content"], at)
        }
        _ => Ok(()),
    }
}

/// Checks a block of text.
pub(super) fn text(block: &Value, at: &str) -> Checked {
    match block["text"].as_str() {
        None => Err(Fault::invalid(format!("{at}: text.text: Field required"))),
        Some("") => Err(Fault::invalid(format!("{at}: text content blocks must be non-empty"))),
        Some(text) if text.trim().is_empty() => Err(Fault::invalid(format!(
            "{at}: text content blocks must contain non-whitespace text"
        ))),
        Some(_) => Ok(()),
    }
}

/// Checks that no text of a person cites anything.
///
/// # Errors
/// The first that does.
pub(super) fn uncited(messages: &[Value]) -> Checked {
    for (n, message) in messages.iter().enumerate().filter(|(_, message)| message["role"] == "user")
    {
        for (m, block) in message["content"].as_array().into_iter().flatten().enumerate() {
            if block["citations"].as_array().is_some_and(|citations| !citations.is_empty()) {
                return Err(Fault::invalid(format!(
                    "messages.{n}.content.{m}.text.citations: Extra inputs are not permitted"
                )));
            }
        }
    }
    Ok(())
}

fn result(content: &Value, at: &str) -> Checked {
    match content {
        Value::Null | Value::String(_) => Ok(()),
        Value::Array(blocks) => blocks.iter().enumerate().try_for_each(|(n, found)| {
            block(
                found,
                &["text", "image", "document", "search_result", "tool_reference"],
                &format!("{at}.tool_result.content.{n}"),
            )
        }),
        _ => Err(Fault::invalid(format!(
            "{at}.tool_result.content: Input should be a valid string or a valid list"
        ))),
    }
}

fn required(block: &Value, keys: &[&str], at: &str) -> Checked {
    match keys.iter().find(|key| !block[**key].is_string()) {
        Some(key) => Err(Fault::invalid(format!("{at}.{key}: Field required"))),
        None => Ok(()),
    }
}

fn id(id: &Value, at: &str) -> Checked {
    match id.as_str().is_some_and(|id| is_name(id, usize::MAX)) {
        true => Ok(()),
        false => {
            Err(Fault::invalid(format!("{at}: String should match pattern '^[a-zA-Z0-9_-]+$'")))
        }
    }
}

fn source(source: &Value, kinds: &[&str], at: &str) -> Checked {
    match source["type"].as_str() {
        Some("base64") => {}
        Some("url" | "file" | "text" | "content") => return Ok(()),
        _ => return Err(Fault::invalid(format!("{at}: Field required"))),
    }
    if source["media_type"].as_str().is_none_or(|kind| !kinds.contains(&kind)) {
        let said = format!("{at}.base64.media_type: Input should be one of {}", kinds.join(", "));
        return Err(Fault::invalid(said));
    }
    match source["data"].as_str().is_some_and(is_base64) {
        true => Ok(()),
        false => {
            Err(Fault::invalid(format!("{at}.base64.data: The file is not valid base64 data")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_block_that_cannot_be_is_told_with_its_place() {
        let image = |kind: &str, data: &str| json!([{"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}]);
        let cases = [
            ("user", json!(""), "messages.0: all messages must have non-empty content"),
            ("user", json!([]), "messages.0: all messages must have non-empty content"),
            (
                "user",
                json!([{"type": "text", "text": ""}]),
                "messages: text content blocks must be non-empty",
            ),
            (
                "user",
                json!([{"type": "text", "text": " \n"}]),
                "messages: text content blocks must contain",
            ),
            ("user", json!([{"type": "tool_use"}]), "messages.0.content.0: Input tag 'tool_use'"),
            (
                "user",
                json!([{"type": "tool_result"}]),
                "messages.0.content.0.tool_result.tool_use_id: Field",
            ),
            (
                "user",
                image("image/bmp", "aGk="),
                "messages.0.content.0.image.source.base64.media_type",
            ),
            ("user", image("image/png", "aGk"), "messages.0.content.0.image.source.base64.data"),
            ("user", image("image/png", "aGk="), "good"),
            ("boss", json!("hello"), "messages.0.role: Input should be"),
            ("assistant", json!("so "), "messages: final assistant content cannot end"),
            (
                "assistant",
                json!([{"type": "tool_use", "id": "a.b", "name": "c", "input": {}}]),
                "messages.0.content.0.tool_use.id: String should match",
            ),
        ];
        for (role, content, expected) in cases {
            let found = messages(&[json!({"role": role, "content": content})]);
            let found = found.map_or_else(|fault| fault.message, |()| "good".to_owned());
            assert!(found.starts_with(expected), "{found}, not {expected}");
        }
    }
}
