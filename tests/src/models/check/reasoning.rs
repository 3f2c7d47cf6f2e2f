//! Reasoning has to come back as it was given.
//!
//! A model that has thought before it calls tools wants its thoughts beside the results. Both vendors
//! refuse thoughts that were changed. Guesses, all on the strict side, so that a mistake shows:
//! Anthropic refuses a loop of tools whose thoughts are missing only while `thinking` is on, and OpenAI
//! only where the call comes with the id of its item. After another message of a person, thoughts may
//! be left out here as there. Chat Completions give no thoughts, so that none are wanted.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Checked;
use crate::models::fault::Fault;
use crate::models::tokens::digest;

/// What is wanted back with a call, by the call's id.
pub type Owed = BTreeMap<String, Value>;

/// The signature of a thought, which whoever changes the thought cannot know.
pub fn signature(thought: &str) -> String {
    format!("EqQB{}", digest(format!("stand-in {thought}").as_bytes()))
}

/// Checks the thoughts in a request to Anthropic's Messages.
///
/// # Errors
/// One that is missing in the last loop of tools, or was changed anywhere.
pub fn messages(body: &Value, owed: &Owed) -> Checked {
    let Some(messages) = body["messages"].as_array() else { return Ok(()) };
    let is_person = |message: &Value| {
        let content = &message["content"];
        message["role"] == "user"
            && content
                .as_array()
                .is_none_or(|all| all.iter().all(|one| one["type"] != "tool_result"))
    };
    let newest = messages.iter().rposition(is_person).unwrap_or(0);
    for (n, message) in messages.iter().enumerate() {
        let blocks = message["content"].as_array().map_or(&[][..], Vec::as_slice);
        for (m, block) in blocks.iter().enumerate() {
            if block["type"] == "thinking" {
                let thought = block["thinking"].as_str().unwrap_or_default();
                if block["signature"] != json!(signature(thought)) {
                    let said = format!(
                        "messages.{n}.content.{m}: Invalid `signature` in `thinking` block"
                    );
                    return Err(Fault::invalid(said));
                }
            }
            let wanted = block["id"].as_str().and_then(|id| owed.get(id));
            if n > newest
                && block["type"] == "tool_use"
                && wanted.is_some_and(|wanted| !blocks[..m].contains(wanted))
            {
                return Err(Fault::invalid(format!(
                    "messages.{n}.content.0.type: Expected `thinking` or `redacted_thinking`, but found \
                     `{}`. When `thinking` is enabled, a final `assistant` message must start with a \
                     thinking block (preceeding the lastmost set of `tool_use` and `tool_result` blocks).",
                    blocks[0]["type"].as_str().unwrap_or_default()
                )));
            }
        }
    }
    Ok(())
}

/// Checks the items of reasoning in a request to OpenAI's Responses.
///
/// # Errors
/// One that is missing in the last loop of tools, was changed, or has nothing behind it.
pub fn responses(body: &Value, owed: &Owed) -> Checked {
    let Some(items) = body["input"].as_array() else { return Ok(()) };
    let newest = items.iter().rposition(|item| item["role"] == "user").unwrap_or(0);
    for (n, item) in items.iter().enumerate() {
        let id = item["id"].as_str().unwrap_or_default();
        if item["type"] == "reasoning" {
            if !item["encrypted_content"].is_null()
                && item["encrypted_content"] != json!(encrypted(id))
            {
                let said = format!(
                    "The encrypted content for item {id} could not be verified. Reason: Encrypted content \
                     could not be decrypted or parsed."
                );
                return Err(Fault::invalid(said).coded("invalid_encrypted_content"));
            }
            let next = items.get(n + 1);
            if next
                .is_none_or(|next| next["role"] == "user" || next["type"] == "function_call_output")
            {
                let said = format!(
                    "Item '{id}' of type 'reasoning' was provided without its required following item."
                );
                return Err(Fault::invalid(said).of("input"));
            }
        }
        let wanted = item["call_id"].as_str().and_then(|id| owed.get(id));
        let is_there = |wanted: &Value| {
            let mut before = items[..n].iter();
            before.any(|item| {
                ["type", "id", "encrypted_content"].iter().all(|key| item[*key] == wanted[*key])
            })
        };
        if n > newest
            && item["type"] == "function_call"
            && let Some(wanted) = wanted.filter(|wanted| !is_there(wanted))
        {
            let said = format!(
                "Item '{id}' of type 'function_call' was provided without its required 'reasoning' item: \
                 '{}'.",
                wanted["id"].as_str().unwrap_or_default()
            );
            return Err(Fault::invalid(said).of("input"));
        }
    }
    Ok(())
}

/// What is encrypted in an item of reasoning.
pub fn encrypted(item: &str) -> String {
    format!("gAAAA{}", digest(format!("stand-in {item}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thought_is_wanted_back_until_a_person_speaks() {
        let thought = json!({"type": "thinking", "thinking": "hm", "signature": signature("hm")});
        let changed = json!({"type": "thinking", "thinking": "hm!", "signature": signature("hm")});
        let call = json!({"type": "tool_use", "id": "x", "name": "look", "input": {}});
        let result =
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]});
        let user = json!({"role": "user", "content": "and?"});
        let owed = Owed::from([("x".to_owned(), thought.clone())]);
        let said = |blocks: Value, last: &Value| {
            let answer = json!({"role": "assistant", "content": blocks});
            messages(&json!({"messages": [user, answer, result, last]}), &owed)
                .map_or_else(|fault| fault.message, |()| "good".to_owned())
        };
        assert_eq!(said(json!([thought, call]), &result), "good");
        assert!(said(json!([call]), &result).contains("Expected `thinking`"));
        assert_eq!(said(json!([call]), &user), "good");
        assert!(said(json!([changed, call]), &user).contains("Invalid `signature`"));
        assert!(said(json!([call, thought]), &result).contains("found `tool_use`"));
    }

    #[test]
    fn an_item_of_reasoning_is_wanted_back() {
        let thought = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": encrypted("rs_1")});
        let call = json!({"type": "function_call", "id": "fc_1", "call_id": "x"});
        let result = json!({"type": "function_call_output", "call_id": "x"});
        let user = json!({"role": "user", "content": "a"});
        let owed = Owed::from([("x".to_owned(), thought.clone())]);
        let said = |input: Value| {
            responses(&json!({"input": input}), &owed)
                .map_or_else(|fault| fault.message, |()| "good".to_owned())
        };
        let mut changed = thought.clone();
        changed["encrypted_content"] = json!("gAAAAA");
        let cases = [
            ("unchanged", json!([user, thought, call, result]), "good"),
            ("missing", json!([user, call, result]), "Item 'fc_1' of type 'function_call'"),
            ("long ago", json!([user, call, result, user]), "good"),
            ("changed", json!([user, changed, call, result]), "The encrypted content"),
            ("alone", json!([user, thought]), "Item 'rs_1' of type 'reasoning'"),
        ];
        for (case, input, expected) in cases {
            let found = said(input);
            assert!(found.starts_with(expected), "{case}: {found}");
        }
    }
}
