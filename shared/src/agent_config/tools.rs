//! The names of tools that a permission may be for. One for a tool that nobody has is a mistake: whoever wrote it
//! believes that something is denied, or asked about, which is not.

use std::collections::BTreeMap;

use super::{Permission, Servers};

/// The tools of the host, in the order in which models are told of them. Agents that are vendors' programs have
/// them from a server called [`HOST_SERVER`].
pub const HOST_TOOLS: [&str; 11] = [
    "send_message",
    "send_file",
    "say_nothing",
    "list_destinations",
    "ask",
    "schedule_task",
    "list_tasks",
    "update_task",
    "pause_task",
    "resume_task",
    "cancel_task",
];

/// The name of the server of MCP that has the host's tools.
pub const HOST_SERVER: &str = "twobox";

/// The tools of Claude Code, in the version that is pinned.
const CLAUDE_TOOLS: [&str; 23] = [
    "Agent",
    "Bash",
    "Edit",
    "EnterWorktree",
    "ExitWorktree",
    "Glob",
    "Grep",
    "ListAgents",
    "ListMcpResourcesTool",
    "NotebookEdit",
    "Read",
    "ReadMcpResourceTool",
    "ReportFindings",
    "SendMessage",
    "Skill",
    "Task",
    "TaskCreate",
    "TaskGet",
    "TaskList",
    "TaskStop",
    "TaskUpdate",
    "WebFetch",
    "Write",
];

/// Tools of Claude Code that no agent has here: what an upstream runs, which the gateway refuses; what waits for a
/// person who sits before it; and what would go on behind the end of a turn, which ends with everything that it
/// began. For the last the host has tasks.
pub const CLAUDE_NOT_HERE: [&str; 10] = [
    "WebSearch",
    "AskUserQuestion",
    "EnterPlanMode",
    "ExitPlanMode",
    "CronCreate",
    "CronDelete",
    "CronList",
    "ScheduleWakeup",
    "Workflow",
    "Monitor",
];

/// The tools of Codex, as this says of them: each is one or more of its own.
const CODEX_TOOLS: [&str; 3] = ["shell", "apply_patch", "view_image"];

/// What a person may say of an agent's tools, by their names.
pub type Permissions = BTreeMap<String, Permission>;

/// Checks what is said of the tools of Claude Code.
///
/// # Errors
/// A sentence that names the field.
pub(super) fn of_claude(tools: &Permissions, servers: &Servers) -> Result<(), String> {
    check(tools, servers, &CLAUDE_TOOLS, |name, permission| {
        let tool = name.split_once('(').filter(|(_, rule)| rule.ends_with(')'));
        match tool {
            Some((tool, _)) => CLAUDE_TOOLS.contains(&tool),
            None => permission == Permission::Deny && CLAUDE_NOT_HERE.contains(&name),
        }
    })
}

/// Checks what is said of the tools of Codex.
///
/// # Errors
/// A sentence that names the field.
pub(super) fn of_codex(tools: &Permissions, servers: &Servers) -> Result<(), String> {
    if tools.get("view_image") == Some(&Permission::Ask) {
        return Err("tools.view_image: Codex does not ask before it; write \"allow\" or \"deny\""
            .to_owned());
    }
    check(tools, servers, &CODEX_TOOLS, |_, _| false)
}

fn check(
    tools: &Permissions,
    servers: &Servers,
    own: &[&str],
    also: impl Fn(&str, Permission) -> bool,
) -> Result<(), String> {
    if servers.iter().any(|(name, _)| name == HOST_SERVER) {
        return Err(format!(
            "mcp.{HOST_SERVER}: this is the name of the host's own tools: choose another"
        ));
    }
    let is_hosts = |name: &str| {
        let prefix = Servers::prefix(HOST_SERVER);
        HOST_TOOLS.contains(&name.strip_prefix(&prefix).unwrap_or(name))
    };
    let is_of_server = |name: &str| servers.iter().any(|(server, _)| is_of(name, server));
    let is_known = |name: &str, permission| {
        own.contains(&name) || is_hosts(name) || is_of_server(name) || also(name, permission)
    };
    match tools.iter().find(|(name, permission)| !is_known(name, **permission)) {
        None => Ok(()),
        Some((name, _)) => {
            let names: Vec<&str> = own.iter().chain(&HOST_TOOLS).copied().collect();
            Err(format!(
                "tools: there is no tool {name:?}; there are: {}, and mcp__SERVER or mcp__SERVER__TOOL of a server \
                 in `mcp`",
                names.join(", ")
            ))
        }
    }
}

/// Whether a permission called `name` is for a tool of `server`, or for all of them.
fn is_of(name: &str, server: &str) -> bool {
    let prefix = Servers::prefix(server);
    name == prefix.trim_end_matches('_')
        || name.strip_prefix(&prefix).is_some_and(|tool| !tool.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::{AgentConfig, Fields};

    fn read(text: &str) -> Result<AgentConfig, String> {
        let fields: Fields = serde_json::from_str(text).map_err(|error| error.to_string())?;
        AgentConfig::of(fields)
    }

    #[test]
    fn a_permission_is_for_a_tool_that_there_is() {
        let of = |kind: &str, name: &str, word: &str| {
            let mcp = r#"{"notes":{"command":["x"]}}"#;
            read(&format!(
                r#"{{"provider":{{"kind":"{kind}","model":"a/b","tools":{{"{name}":"{word}"}},"mcp":{mcp}}}}}"#
            ))
        };
        let good = [
            ("claude", "Bash", "ask"),
            ("claude", "Bash(git push *)", "ask"),
            ("claude", "send_message", "ask"),
            ("claude", "mcp__twobox__send_message", "deny"),
            ("claude", "mcp__notes", "ask"),
            ("claude", "mcp__notes__delete", "deny"),
            ("claude", "WebSearch", "deny"),
            ("codex", "shell", "ask"),
            ("codex", "cancel_task", "deny"),
            ("codex", "mcp__notes__delete", "ask"),
            ("codex", "view_image", "deny"),
        ];
        for (kind, name, word) in good {
            assert!(of(kind, name, word).is_ok(), "{kind} {name}: {:?}", of(kind, name, word));
        }
        let bad = [
            ("claude", "bash", "deny", "there is no tool \"bash\"; there are: Agent, Bash,"),
            ("claude", "Bsh(git push *)", "deny", "there is no tool"),
            ("claude", "Bash(git", "deny", "there is no tool"),
            ("claude", "WebSearch", "ask", "there is no tool"),
            ("claude", "mcp__other", "deny", "there is no tool"),
            ("claude", "mcp__notes__", "deny", "there is no tool"),
            ("codex", "Bash", "deny", "there are: shell, apply_patch, view_image, send_message"),
            ("codex", "view_image", "ask", "does not ask before it"),
        ];
        for (kind, name, word, why) in bad {
            let error = of(kind, name, word).unwrap_err();
            assert!(
                error.starts_with("provider.") && error.contains(why),
                "{kind} {name}: {error}"
            );
        }
        for kind in ["claude", "codex"] {
            let error = read(&format!(
                r#"{{"provider":{{"kind":"{kind}","model":"a/b","mcp":{{"twobox":{{"command":["x"]}}}}}}}}"#
            ));
            assert!(error.unwrap_err().contains("provider.mcp.twobox: this is the name"), "{kind}");
        }
    }
}
