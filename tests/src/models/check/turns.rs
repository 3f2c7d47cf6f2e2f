//! Anthropic's Messages: the order of what is said, and calls of tools with their results.
//!
//! Several messages of one role in a row are one turn, as the vendor takes them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Checked;
use crate::models::fault::Fault;

/// Checks who speaks when.
///
/// # Errors
/// The first that stands where it cannot.
pub(super) fn messages(messages: &[Value]) -> Checked {
    if messages[0]["role"] != "user" {
        return Err(Fault::invalid("messages: first message must use the \"user\" role"));
    }
    let turns = turns(messages);
    let mut known = BTreeSet::new();
    for (n, turn) in turns.iter().enumerate() {
        let before = n.checked_sub(1).and_then(|before| turns.get(before));
        results(turn, before)?;
        let calls: Vec<&str> = turn.ids("tool_use", "id").collect();
        for id in &calls {
            if !known.insert(id.to_owned()) {
                return Err(Fault::invalid("messages: `tool_use` ids must be unique"));
            }
        }
        answered(&calls, turn.at, turns.get(n + 1))?;
    }
    Ok(())
}

struct Turn<'a> {
    /// The number of its last message.
    at: usize,
    role: &'a str,
    blocks: Vec<&'a Value>,
}

impl<'a> Turn<'a> {
    /// The ids in blocks of this kind.
    fn ids(&self, kind: &str, key: &str) -> impl Iterator<Item = &'a str> {
        let blocks = self.blocks.iter().filter(move |block| block["type"] == kind);
        blocks.filter_map(move |block| block[key].as_str())
    }
}

fn turns(messages: &[Value]) -> Vec<Turn<'_>> {
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let role = message["role"].as_str().unwrap_or_default();
        if role == "system" {
            continue;
        }
        let blocks = message["content"].as_array().into_iter().flatten();
        match turns.last_mut() {
            Some(turn) if turn.role == role => {
                turn.at = at;
                turn.blocks.extend(blocks);
            }
            _ => turns.push(Turn { at, role, blocks: blocks.collect() }),
        }
    }
    turns
}

fn results(turn: &Turn<'_>, before: Option<&Turn<'_>>) -> Checked {
    let mut called: BTreeSet<&str> =
        before.map(|before| before.ids("tool_use", "id").collect()).unwrap_or_default();
    let mut seen = BTreeSet::new();
    for (n, id) in turn.ids("tool_result", "tool_use_id").enumerate() {
        if !seen.insert(id) {
            return Err(Fault::invalid(format!(
                "messages.{}.content: each tool_use must have a single result. Found multiple \
                 `tool_result` blocks with id: {id}",
                turn.at
            )));
        }
        if !called.remove(id) {
            return Err(Fault::invalid(format!(
                "messages.{}.content.{n}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. \
                 Each `tool_result` block must have a corresponding `tool_use` block in the previous \
                 message.",
                turn.at
            )));
        }
    }
    Ok(())
}

fn answered(calls: &[&str], at: usize, next: Option<&Turn<'_>>) -> Checked {
    let blocks: &[&Value] = next.map_or(&[], |next| &next.blocks);
    // What is said beside results stands behind them.
    let first = blocks.iter().take_while(|block| block["type"] == "tool_result");
    let given: BTreeSet<&str> = first.filter_map(|block| block["tool_use_id"].as_str()).collect();
    let left: Vec<&str> = calls.iter().copied().filter(|id| !given.contains(id)).collect();
    match left.is_empty() {
        true => Ok(()),
        false => Err(Fault::invalid(format!(
            "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: \
             {}. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
            left.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(conversation: Value) -> String {
        messages(conversation.as_array().unwrap())
            .map_or_else(|fault| fault.message, |()| "good".to_owned())
    }

    fn user(content: Value) -> Value {
        json!({"role": "user", "content": content})
    }

    fn calls(ids: &[&str]) -> Value {
        let call = |id| json!({"type": "tool_use", "id": id, "name": "look", "input": {}});
        let blocks: Vec<Value> = ids.iter().map(call).collect();
        json!({"role": "assistant", "content": blocks})
    }

    fn result(id: &str) -> Value {
        json!({"type": "tool_result", "tool_use_id": id, "content": "rain"})
    }

    #[test]
    fn calls_and_results_belong_together() {
        let (first, and) = (user(json!("a")), json!({"type": "text", "text": "and?"}));
        let parallel = user(json!([result("y"), result("x"), and]));
        let (only_x, only_y) = (user(json!([result("x")])), user(json!([result("y")])));
        for conversation in [
            json!([first, calls(&["x", "y"]), parallel]),
            json!([first, calls(&["x", "y"]), only_x, only_y]),
            json!([first, first]),
        ] {
            assert_eq!(said(conversation), "good");
        }
    }

    #[test]
    fn what_belongs_to_nothing_is_refused() {
        let (first, and) = (user(json!("a")), json!({"type": "text", "text": "and?"}));
        let (call, only_x) = (calls(&["x"]), user(json!([result("x")])));
        let late = user(json!([and, result("x")]));
        let twice = user(json!([result("x"), result("x")]));
        let anothers = user(json!([result("x"), result("z")]));
        let open = "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: ";
        let cases = [
            (json!([call]), "messages: first message must use".to_owned()),
            (json!([only_x]), "messages.0.content.0: unexpected `tool_use_id`".to_owned()),
            (json!([first, call, anothers]), "messages.2.content.1: unexpected".to_owned()),
            (json!([first, calls(&["x", "y"]), only_x]), format!("{open}y.")),
            (json!([first, call]), format!("{open}x.")),
            (json!([first, call, late]), format!("{open}x.")),
            (json!([first, call, twice]), "messages.2.content: each tool_use must".to_owned()),
            (
                json!([first, call, only_x, call, only_x]),
                "messages: `tool_use` ids must".to_owned(),
            ),
        ];
        for (conversation, expected) in cases {
            let found = said(conversation);
            assert!(found.starts_with(&expected), "{found}, not {expected}");
        }
    }
}
