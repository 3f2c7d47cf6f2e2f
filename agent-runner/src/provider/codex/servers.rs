//! The servers of MCP in the configuration of Codex: that of the host's tools, and those of the agent's definition.
//! Pure.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use twobox_shared::agent_config::{Codex as Settings, HOST_SERVER, Permission, Place, Server};

use super::home::quoted;
use super::permission::tool_of;
use crate::provider::desk::Launch;

/// How long a server may take until it has said which tools it has, in seconds.
const PATIENCE: u64 = 30;

/// What their part of the configuration follows from.
pub(super) struct Servers<'a> {
    pub(super) settings: &'a Settings,
    /// How to start the server of the host's tools.
    pub(super) tools: Option<&'a Launch>,
    /// Where the others run.
    pub(super) program: &'a Path,
    /// The names of the variables that they have: Codex passes on none but a few.
    pub(super) names: &'a BTreeSet<String>,
    pub(super) turn_timeout: Duration,
    pub(super) tool_timeout: Duration,
}

impl Servers<'_> {
    /// The text. Codex asks nobody for what is allowed: without that it would refuse all of their tools.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(Launch { command, args }) = self.tools {
            // Its tools are the desk's to allow, and may wait for people, whose time is the turn's.
            let fields = [
                ("command", json!(command)),
                ("args", json!(args)),
                ("default_tools_approval_mode", json!("approve")),
                ("required", json!(true)), // or the first request might go out without its tools
                ("startup_timeout_sec", json!(PATIENCE)),
                ("tool_timeout_sec", json!(self.turn_timeout.as_secs())),
            ];
            table(&mut text, &[HOST_SERVER], &fields);
        }
        for (name, server) in self.settings.mcp.iter() {
            self.other(&mut text, name, server);
        }
        text
    }

    /// One of the agent's definition.
    fn other(&self, text: &mut String, name: &str, server: &Server) {
        let Place::Program { command, env } = &server.place else { return }; // it has no other
        let Some((program, arguments)) = command.split_first() else { return };
        let said = |permission: Permission| {
            let these = self.settings.tools.iter().filter(move |(_, may)| **may == permission);
            these.filter_map(|(of, _)| tool_of(of, name)).collect::<Vec<_>>()
        };
        let (asked, denied) = (said(Permission::Ask), said(Permission::Deny));
        if denied.contains(&"") {
            return; // all of them
        }
        let usual = if asked.contains(&"") { "prompt" } else { "approve" };
        let fields = [
            ("command", json!(program)),
            ("args", json!(arguments)),
            ("cwd", json!(self.program)),
            ("env_vars", json!(self.names)),
            ("default_tools_approval_mode", json!(usual)),
            ("disabled_tools", json!(denied)),
            ("required", json!(server.required)),
            ("startup_timeout_sec", json!(PATIENCE)),
            ("tool_timeout_sec", json!(self.tool_timeout.as_secs())),
        ];
        table(text, &[name], &fields);
        let variables: Vec<_> =
            env.iter().map(|(name, value)| (name.as_str(), json!(value))).collect();
        if !variables.is_empty() {
            table(text, &[name, "env"], &variables);
        }
        for tool in asked.into_iter().filter(|tool| !tool.is_empty()) {
            table(text, &[name, "tools", tool], &[("approval_mode", json!("prompt"))]);
        }
    }
}

/// A table below that of the servers. Its values are texts, numbers, words and lists of texts, which JSON has as
/// TOML does.
fn table(text: &mut String, path: &[&str], fields: &[(&str, Value)]) {
    let path: Vec<String> = path.iter().map(|part| quoted(part)).collect();
    writeln!(text, "\n[mcp_servers.{}]", path.join(".")).expect("a String takes everything");
    for (name, value) in fields {
        let value = value.to_string().replace('\u{7f}', "\\u007f");
        writeln!(text, "{} = {value}", quoted(name)).expect("a String takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_not_asked_for_and_what_is_denied_is_not_there() {
        let settings: Settings = serde_json::from_str(
            r#"{"model":"up/m","tools":{"mcp__notes__drop":"ask","mcp__notes__burn":"deny",
                 "mcp__asked":"ask","mcp__gone":"deny","send_message":"ask"},
                "mcp":{"notes":{"command":["python3","n.py"],"env":{"A \"b\"":"c\n"},"required":true},
                       "asked":{"command":["a"]},"gone":{"command":["g"]}}}"#,
        )
        .unwrap();
        let launch = Launch { command: "/agent-runner".into(), args: vec!["mcp".to_owned()] };
        let names = BTreeSet::from(["LANG".to_owned()]);
        let servers = Servers {
            settings: &settings,
            tools: Some(&launch),
            program: Path::new("/p"),
            names: &names,
            turn_timeout: Duration::from_secs(900),
            tool_timeout: Duration::from_secs(60),
        };
        let text = servers.text();
        let part = |name: &str| {
            let (_, rest) = text.split_once(&format!("[mcp_servers.{name}]\n")).unwrap();
            rest.split_once("\n[").map_or(rest, |(part, _)| part).to_owned()
        };
        let own = part(r#""twobox""#);
        assert!(own.contains("\"command\" = \"/agent-runner\"\n"), "{own}");
        assert!(own.contains("approve") && own.contains("\"tool_timeout_sec\" = 900"), "{own}");
        let notes = part(r#""notes""#);
        for line in [
            "\"args\" = [\"n.py\"]",
            "\"cwd\" = \"/p\"",
            "\"env_vars\" = [\"LANG\"]",
            "\"default_tools_approval_mode\" = \"approve\"",
            "\"disabled_tools\" = [\"burn\"]",
            "\"required\" = true",
            "\"tool_timeout_sec\" = 60",
        ] {
            assert!(notes.contains(line), "{line}: {notes}");
        }
        assert_eq!(part(r#""notes"."env""#).trim_end(), r#""A \"b\"" = "c\n""#);
        assert!(part(r#""notes"."tools"."drop""#).contains("prompt"));
        assert!(part(r#""asked""#).contains("\"default_tools_approval_mode\" = \"prompt\""));
        assert!(!text.contains("gone"), "{text}");
    }
}
