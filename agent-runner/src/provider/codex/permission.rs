//! Whether Codex may use a tool: what it asks, and what it is answered. Pure.
//!
//! It asks only where its policy says so, which it takes for a thread and not from its configuration: `untrusted`
//! has it ask before each command and each patch, whatever they do. Tools of servers it asks for as the
//! configuration says (`home`). The host's own tools ask by themselves, at the desk.

use std::fmt::Write;

use serde_json::{Map, Value, json};
use twobox_shared::agent_config::{HOST_SERVER, Permission, Permissions, Servers};
use twobox_shared::visible;

use super::question::{Change, Form, Question};
use crate::ask::{self, Asking};
use crate::provider::people;

/// The tools of Codex, by the names that a permission has.
const SHELL: &str = "shell";
const PATCH: &str = "apply_patch";
const PICTURES: &str = "view_image";

/// The policy of a thread whose commands and patches are all asked for.
const ASKS: &str = "untrusted";

/// Stands below a patch whose last line has no end. No line of a patch is shown like it, whose backslashes are doubled.
const UNENDED: &str = "\\ without the end of the line";

/// What becomes of a use of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Deny,
    /// A person says.
    Ask(Asking),
}

fn of(tools: &Permissions, name: &str) -> Permission {
    tools.get(name).copied().unwrap_or(Permission::Allow)
}

/// Whether it has to ask before anything. What is denied and cannot be left out is asked for too.
pub(super) fn has_to_ask(tools: &Permissions, servers: &Servers) -> bool {
    let servers = servers.iter().any(|(name, _)| {
        let is_asked = |(of, may): (&String, &Permission)| {
            *may == Permission::Ask && tool_of(of, name).is_some()
        };
        tools.iter().any(is_asked)
    });
    servers || of(tools, SHELL) == Permission::Ask || of(tools, PATCH) != Permission::Allow
}

/// The tool of `server` that a permission called `name` is for, empty for all of them.
pub(super) fn tool_of<'n>(name: &'n str, server: &str) -> Option<&'n str> {
    let prefix = Servers::prefix(server);
    match name == prefix.trim_end_matches('_') {
        true => Some(""),
        false => name.strip_prefix(&prefix),
    }
}

/// `params` of a request for a thread, with the policy in it if it has to ask.
pub(super) fn with_policy(mut params: Value, asks: bool) -> Value {
    if asks {
        params["approvalPolicy"] = json!(ASKS);
    }
    params
}

/// The lines of the configuration that say which tools it has not, or not wholly.
pub(super) fn features(tools: &Permissions) -> String {
    let mut lines = String::new();
    let mut off = |feature| {
        writeln!(lines, "features.{feature} = false").expect("a String takes everything");
    };
    match of(tools, SHELL) {
        Permission::Allow => {}
        // What is typed into a command that runs is asked for nowhere: then nothing is.
        Permission::Ask => off("unified_exec_tty"),
        Permission::Deny => off("shell_tool"),
    }
    if of(tools, PICTURES) == Permission::Deny {
        off("view_image");
    }
    lines
}

/// What becomes of the use that is asked for. `changes` are those of the patch that is asked for.
pub(super) fn verdict(tools: &Permissions, question: &Question, changes: &[Change]) -> Verdict {
    let judged = |name: &str, asking: Asking| match of(tools, name) {
        Permission::Allow => Verdict::Allow,
        Permission::Deny => Verdict::Deny,
        Permission::Ask => Verdict::Ask(asking),
    };
    match question {
        Question::Command { command, folder } => {
            let given = match folder {
                Some(folder) => json!({"command": command, "cwd": folder}),
                None => json!({"command": command}),
            };
            judged(SHELL, people::permission(SHELL, &given))
        }
        // A patch that nobody can be shown is nobody's to allow.
        Question::Patch { .. } if changes.is_empty() && of(tools, PATCH) == Permission::Ask => {
            Verdict::Deny
        }
        Question::Patch { .. } => {
            let (tool, arguments) = (PATCH.to_owned(), patch(changes));
            judged(PATCH, Asking::Permission { tool, arguments })
        }
        Question::Server { server, .. } if server == HOST_SERVER => Verdict::Allow,
        Question::Server { server, tool, given } => {
            let name = format!("{}{tool}", Servers::prefix(server));
            Verdict::Ask(people::permission(&name, given))
        }
        Question::Other => Verdict::Deny,
    }
}

/// A patch as people are shown it: which file, and below it, set in, what is done to it. What is hidden is escaped, and
/// so are the backslashes of the patch: no two patches are shown alike.
fn patch(changes: &[Change]) -> String {
    let mut text = String::new();
    for Change { path, kind, diff } in changes {
        let how = kind["type"].as_str().unwrap_or("change");
        let named = |path: &str| visible::json(&json!(path).to_string());
        let path = named(path);
        write!(text, "{how} {path}").expect("a String takes everything");
        if let Some(to) = kind["move_path"].as_str() {
            write!(text, " to {}", named(to)).expect("a String takes everything");
        }
        text.push('\n');
        let whole = diff.strip_suffix('\n');
        for line in whole.unwrap_or(diff).split('\n').filter(|_| !diff.is_empty()) {
            writeln!(text, "  {}", ask::escaped(line)).expect("a String takes everything");
        }
        if whole.is_none() && !diff.is_empty() {
            writeln!(text, "  {UNENDED}").expect("a String takes everything");
        }
    }
    text.pop(); // the last line's end
    text
}

/// The answer to a question of this form.
pub(super) fn answer(form: Form, yes: bool) -> Value {
    let word = if yes { "accept" } else { "decline" };
    match form {
        Form::Approval => json!({"decision": word}),
        Form::Elicitation if yes => json!({"action": word, "content": Map::new()}),
        Form::Elicitation => json!({"action": word}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(text: &str) -> Permissions {
        serde_json::from_str(text).unwrap()
    }

    fn shown(verdict: Verdict) -> (String, String) {
        match verdict {
            Verdict::Ask(Asking::Permission { tool, arguments }) => (tool, arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_asks_where_a_person_has_to_allow_something_and_nowhere_else() {
        let servers: Servers = serde_json::from_str(r#"{"notes":{"command":["x"]}}"#).unwrap();
        let cases = [
            (r#"{}"#, false),
            (r#"{"shell":"deny","view_image":"deny","send_file":"ask"}"#, false),
            (r#"{"shell":"ask"}"#, true),
            (r#"{"apply_patch":"deny"}"#, true),
            (r#"{"mcp__notes":"ask"}"#, true),
            (r#"{"mcp__notes__drop":"ask"}"#, true),
            (r#"{"mcp__notes__drop":"deny"}"#, false),
        ];
        for (text, asks) in cases {
            assert_eq!(has_to_ask(&tools(text), &servers), asks, "{text}");
        }
        assert_eq!(features(&tools(r#"{"shell":"ask"}"#)), "features.unified_exec_tty = false\n");
        let none = features(&tools(r#"{"shell":"deny","view_image":"deny"}"#));
        assert_eq!(none, "features.shell_tool = false\nfeatures.view_image = false\n");
        assert_eq!(with_policy(json!({}), false), json!({}));
        assert_eq!(with_policy(json!({}), true), json!({"approvalPolicy": "untrusted"}));
    }

    #[test]
    fn a_person_is_shown_all_that_would_be_done() {
        let tools = tools(r#"{"shell":"ask","apply_patch":"ask","mcp__notes":"ask"}"#);
        let command = |folder: Option<&str>| {
            let (command, folder) = ("rm -r x".to_owned(), folder.map(str::to_owned));
            shown(verdict(&tools, &Question::Command { command, folder }, &[]))
        };
        assert_eq!(command(None), ("shell".to_owned(), r#"command="rm -r x""#.to_owned()));
        assert!(command(Some("/etc")).1.contains(r#"cwd="/etc""#));
        let change = |path: &str, kind: Value, diff: &str| Change {
            path: path.to_owned(),
            kind,
            diff: diff.to_owned(),
        };
        let changes = [
            change("/w/a", json!({"type": "add"}), "one\ndelete \"/w/b\"\n"),
            change("/w/b\n", json!({"type": "update", "move_path": "/w/c"}), "-x\n+y\n"),
        ];
        let patch = Question::Patch { item: "i".to_owned() };
        let (tool, arguments) = shown(verdict(&tools, &patch, &changes));
        assert_eq!(tool, "apply_patch");
        assert_eq!(
            arguments,
            "add \"/w/a\"\n  one\n  delete \"/w/b\"\nupdate \"/w/b\\n\" to \"/w/c\"\n  -x\n  +y"
        );
        assert_eq!(verdict(&tools, &patch, &[]), Verdict::Deny, "nobody could be shown it");
        let server = |server: &str| Question::Server {
            server: server.to_owned(),
            tool: "drop".to_owned(),
            given: json!({"all": true}),
        };
        let (tool, arguments) = shown(verdict(&tools, &server("notes"), &[]));
        assert_eq!(tool, "mcp__notes__drop");
        assert_eq!(arguments, "all=true");
        assert_eq!(verdict(&tools, &server("twobox"), &[]), Verdict::Allow, "the desk asks");
        assert_eq!(verdict(&tools, &Question::Other, &[]), Verdict::Deny);
    }

    #[test]
    fn no_two_patches_are_shown_alike() {
        let shown = |diff: &str| {
            let (path, diff) = ("a\u{202e}".to_owned(), diff.to_owned());
            patch(&[Change { path, kind: json!({"type": "add"}), diff }])
        };
        assert_eq!(shown("+x \r\n\n"), "add \"a\\u202e\"\n  +x \\r\n  ");
        assert!(shown("+\t\u{202e}\\n\n").ends_with("\n  +\t\\u{202e}\\\\n"));
        let diffs = [
            "",
            "\n",
            "\n\n",
            "x",
            "x\n",
            "x\n\n",
            "x \n",
            "x\r\n",
            "x\\r\n",
            "x\n\\ without the end of the line\n",
        ];
        let all: std::collections::BTreeSet<String> = diffs.into_iter().map(shown).collect();
        assert_eq!(all.len(), diffs.len(), "{all:#?}");
    }

    #[test]
    fn what_is_not_asked_about_is_answered_at_once() {
        let command = Question::Command { command: "ls".to_owned(), folder: None };
        let patch = Question::Patch { item: "i".to_owned() };
        let denied = tools(r#"{"apply_patch":"deny"}"#);
        assert_eq!(verdict(&denied, &command, &[]), Verdict::Allow);
        assert_eq!(verdict(&denied, &patch, &[]), Verdict::Deny);
        assert_eq!(answer(Form::Approval, true), json!({"decision": "accept"}));
        assert_eq!(answer(Form::Approval, false), json!({"decision": "decline"}));
        assert_eq!(answer(Form::Elicitation, true), json!({"action": "accept", "content": {}}));
        assert_eq!(answer(Form::Elicitation, false), json!({"action": "decline"}));
    }
}
