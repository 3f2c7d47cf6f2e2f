//! Whether Claude Code may use a tool: what it asks, and what it is answered. Pure.
//!
//! It asks us for each tool that it would ask a person for, and for those that a rule of `arguments` names. The
//! host's own tools ask by themselves, at the desk, and are let through here.

use serde_json::{Value, json};
use twobox_shared::agent_config::{Permission, Permissions, Servers};

use super::line::PREFIX;
use crate::ask::Asking;
use crate::provider::people;

/// Why Claude Code asks of its own where a file is none of its workspace: no rule has said so.
const ELSEWHERE: &str = "workingDir";

/// Why it asks where a rule says so.
const RULE: &str = "rule";

/// What becomes of a use of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Deny,
    /// A person says.
    Ask(Asking),
}

/// The rules that are given to Claude Code, by which it asks us where it would not: for reading, for example.
pub(super) fn rules(tools: &Permissions) -> Vec<&str> {
    let asked = tools.iter().filter(|(_, may)| **may == Permission::Ask);
    asked.map(|(name, _)| name.as_str()).filter(|name| !is_hosts(name)).collect()
}

fn is_hosts(name: &str) -> bool {
    use twobox_shared::agent_config::HOST_TOOLS;
    HOST_TOOLS.contains(&name.strip_prefix(PREFIX).unwrap_or(name))
}

/// What becomes of the use that is asked for in `request`.
///
/// A rule for some uses of a tool is Claude Code's to read, which has one for editing hold for all tools that edit.
/// The only rules to ask are ours: what is asked by a rule is a person's to judge, whichever tool it is. Of a tool that
/// a rule names, so is whatever else is a reason, for a command of several parts has another.
pub(super) fn verdict(tools: &Permissions, request: &Value) -> Verdict {
    let name = request["tool_name"].as_str().unwrap_or_default();
    if name.starts_with(PREFIX) {
        let own = name.strip_prefix(PREFIX).unwrap_or_default();
        let denied = [name, own].iter().any(|it| tools.get(*it) == Some(&Permission::Deny));
        return if denied { Verdict::Deny } else { Verdict::Allow };
    }
    let whole = tools.iter().filter(|(of, _)| *of == name || is_servers(name, of));
    let whole: Vec<Permission> = whole.map(|(_, may)| *may).collect();
    if whole.contains(&Permission::Deny) {
        return Verdict::Deny;
    }
    let some_asked = tools.iter().any(|(of, may)| {
        *may == Permission::Ask && of.split_once('(').is_some_and(|(tool, _)| tool == name)
    });
    let reason = &request["decision_reason_type"];
    let by_rule = !request["matched_ask_rule"].is_null() || reason.as_str() == Some(RULE);
    let has_reason = !(reason.is_null() || reason.as_str() == Some(ELSEWHERE));
    match whole.contains(&Permission::Ask) || by_rule || (some_asked && has_reason) {
        true => Verdict::Ask(people::permission(name, &request["input"])),
        false => Verdict::Allow,
    }
}

/// Whether the tool `name` is one of the server that a permission is for, `mcp__SERVER`.
fn is_servers(name: &str, permission: &str) -> bool {
    let server = permission.strip_prefix("mcp__").filter(|rest| !rest.contains("__"));
    server.is_some_and(|server| name.starts_with(&Servers::prefix(server)))
}

/// The answer that a tool may be used with this very `input`.
pub(super) fn allow(input: &Value) -> Value {
    json!({"behavior": "allow", "updatedInput": input})
}

/// The answer that it may not, and why.
pub(super) fn deny(why: &str) -> Value {
    json!({"behavior": "deny", "message": why})
}

/// Why a tool may not be used that the configuration denies.
pub(super) const DENIED: &str = "The operator of this agent does not allow this tool.";

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(text: &str) -> Permissions {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_a_person_has_to_allow_is_asked_and_nothing_denied_is() {
        let tools = tools(
            r#"{"Bash":"ask","Write":"deny","send_file":"deny","mcp__twobox__ask":"deny",
                "send_message":"ask","mcp__notes":"ask","mcp__notes__read":"allow","mcp__notes__drop":"deny"}"#,
        );
        let of = |name: &str| {
            let request = json!({"tool_name": name, "input": {"command": "ls"}});
            match verdict(&tools, &request) {
                Verdict::Allow => "allow",
                Verdict::Deny => "deny",
                Verdict::Ask(_) => "ask",
            }
        };
        let cases = [
            ("Bash", "ask"),
            ("Read", "allow"),
            ("Write", "deny"),
            ("mcp__twobox__send_file", "deny"),
            ("mcp__twobox__ask", "deny"),
            ("mcp__twobox__send_message", "allow"), // the desk asks
            ("mcp__notes__add", "ask"),
            ("mcp__notes__read", "ask"), // the server's is the stricter
            ("mcp__notes__drop", "deny"),
            ("mcp__notesy__add", "allow"),
        ];
        for (name, expected) in cases {
            assert_eq!(of(name), expected, "{name}");
        }
        assert_eq!(rules(&tools), ["Bash", "mcp__notes"]);
    }

    #[test]
    fn a_rule_for_some_uses_is_claude_codes_to_read() {
        let tools = tools(r#"{"Bash(git push *)":"ask"}"#);
        let asks = |name: &str, more: Value| {
            let mut request = json!({"tool_name": name, "input": {"command": "x"}});
            for (field, value) in more.as_object().unwrap() {
                request[field] = value.clone();
            }
            matches!(verdict(&tools, &request), Verdict::Ask(_))
        };
        assert!(asks("Bash", json!({"decision_reason_type": "rule"})));
        assert!(asks("Bash", json!({"decision_reason_type": "subcommandResults"})));
        assert!(asks("Bash", json!({"decision_reason_type": "new"})), "rather once too often");
        let rule = json!({"source": "flagSettings", "tool_name": "Bash"});
        let matched = json!({"decision_reason_type": ELSEWHERE, "matched_ask_rule": rule});
        assert!(asks("Bash", matched.clone()));
        assert!(!asks("Bash", json!({})));
        assert!(!asks("Bash", json!({"decision_reason_type": ELSEWHERE})));
        assert!(
            asks("Write", json!({"decision_reason_type": "rule"})),
            "one for editing is for both"
        );
        assert!(asks("Write", matched));
        assert!(!asks("Write", json!({"decision_reason_type": "subcommandResults"})));
        assert_eq!(rules(&tools), ["Bash(git push *)"]);
    }
}
