//! How Claude Code is started: its arguments and its environment. Pure.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use twobox_shared::agent_config::{Claude as Settings, Gateway, Permission};
use uuid::Uuid;

use crate::provider::desk::Launch;

/// Tools that no agent has here: what an upstream runs, which the gateway refuses; what waits for a person who
/// sits before it; and what would go on behind the end of a turn, which ends with everything that it began. For
/// the last the host has tasks.
const NOT_HERE: [&str; 10] = [
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

/// What a container's environment may have that would lead elsewhere than to the gateway.
pub(super) const LEADS_AWAY: [&str; 5] = [
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
];

/// How often a request is made again that nobody has answered: a host that starts again is away for
/// seconds. What it does answer it marks as final, for it has asked again itself.
const RETRIES: &str = "5";

/// The name of the server that has the host's tools,
const SERVER: &str = "twobox";

/// and what stands before their names.
pub(super) const PREFIX: &str = "mcp__twobox__";

/// The end of a path to Messages, before which the base stands.
const MESSAGES: &str = "/v1/messages";

/// The way to models.
#[derive(Debug, Clone)]
pub(super) struct Way {
    key: String,
    base: String,
    socket: PathBuf,
    max_output_tokens: u32,
}

impl Way {
    /// The first way of `gateway`, at `socket`, if it is one to Messages.
    pub(super) fn of(gateway: &Gateway, socket: PathBuf) -> Option<Self> {
        let route = gateway.routes.first()?;
        let base = route.path.strip_suffix(MESSAGES)?;
        Some(Self {
            key: gateway.key.clone(),
            base: format!("http://gateway{base}"),
            socket,
            max_output_tokens: route.max_output_tokens,
        })
    }
}

/// The arguments, for the conversation `id`, which is `new` or goes on. `system` is said before it, and `tools`
/// is how to start the server of the host's.
pub(super) fn arguments(
    settings: &Settings,
    system: &str,
    (id, new): (Uuid, bool),
    tools: Option<&Launch>,
) -> Vec<OsString> {
    // Nobody is asked for it yet: what a person would have to allow is not used.
    let denied = settings.tools.iter().filter(|(_, may)| **may != Permission::Allow);
    let denied: Vec<&str> =
        NOT_HERE.into_iter().chain(denied.map(|(name, _)| name.as_str())).collect();
    let (denied, id) = (denied.join(","), id.to_string());
    let mut line: Vec<&str> = vec!["-p", "--verbose"];
    line.extend(["--input-format", "stream-json", "--output-format", "stream-json"]);
    line.extend([if new { "--session-id" } else { "--resume" }, &id]);
    line.extend(["--model", settings.model.model()]);
    // It asks us for each tool that it would ask a person for.
    line.extend(["--permission-mode", "default", "--permission-prompt-tool", "stdio"]);
    line.extend(["--disallowedTools", &denied]);
    // What lies in the workspace, where the agent writes, starts nothing.
    line.extend(["--setting-sources", "", "--strict-mcp-config"]);
    // An agent that is changed is told so, also in a conversation that goes on.
    line.extend(["--system-prompt-snapshot", "off", "--append-system-prompt", system]);
    let servers = tools.map(|tools| json!({"mcpServers": {SERVER: tools}}).to_string());
    line.extend(servers.iter().flat_map(|servers| ["--mcp-config", servers]));
    line.into_iter().map(OsString::from).collect()
}

/// Whether `tool`, by the name that Claude Code gives it, is denied: a tool of the host also by its own. One that
/// a person would be asked about is: nobody can be asked here yet.
pub(super) fn is_denied(settings: &Settings, tool: &str) -> bool {
    let own = tool.strip_prefix(PREFIX).unwrap_or(tool);
    let refused =
        |name: &&str| settings.tools.get(*name).is_some_and(|may| *may != Permission::Allow);
    [tool, own].iter().any(refused)
}

/// The variables that it needs besides those of the runner.
pub(super) fn environment(
    settings: &Settings,
    way: &Way,
    kept: &Path,
    temp: Option<&Path>,
    tool_timeout: Duration,
) -> Vec<(&'static str, OsString)> {
    let model = settings.model.model();
    let longest = tool_timeout.as_millis().to_string();
    let mut variables: Vec<(&'static str, OsString)> = vec![
        ("ANTHROPIC_BASE_URL", way.base.clone().into()),
        ("ANTHROPIC_UNIX_SOCKET", way.socket.clone().into()),
        ("ANTHROPIC_API_KEY", way.key.clone().into()),
        ("CLAUDE_CONFIG_DIR", kept.into()),
        ("CLAUDE_CODE_MAX_RETRIES", RETRIES.into()),
        ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", way.max_output_tokens.to_string().into()),
        ("CLAUDE_CODE_SUBAGENT_MODEL", model.into()),
        // Or the host's tools were not told of until they are looked for.
        ("ENABLE_TOOL_SEARCH", "false".into()),
        ("BASH_DEFAULT_TIMEOUT_MS", longest.clone().into()),
        ("BASH_MAX_TIMEOUT_MS", longest.into()),
    ];
    // The session may ask this one model alone, whatever it is for.
    for name in [
        "ANTHROPIC_SMALL_FAST_MODEL",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL",
        "ANTHROPIC_DEFAULT_SONNET_MODEL",
        "ANTHROPIC_DEFAULT_OPUS_MODEL",
    ] {
        variables.push((name, model.into()));
    }
    for name in [
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS",
        "CLAUDE_CODE_DISABLE_CRON",
        "DISABLE_AUTOUPDATER",
    ] {
        variables.push((name, "1".into()));
    }
    variables.extend(temp.map(|temp| ("CLAUDE_CODE_TMPDIR", temp.into())));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_conversation_is_begun_once_and_then_gone_on_with() {
        let settings = settings(r#"{"model":"up/m","tools":{"Bash":"deny","Read":"allow"}}"#);
        let line = |new| {
            let line = arguments(&settings, "be kind", (Uuid::nil(), new), None);
            line.join(" ".as_ref()).into_string().unwrap()
        };
        let (first, later) = (line(true), line(false));
        assert!(first.contains(&format!("--session-id {} --model m ", Uuid::nil())), "{first}");
        assert!(later.contains(&format!("--resume {} --model m ", Uuid::nil())), "{later}");
        assert!(first.contains(",Monitor,Bash ") && !first.contains("Read"), "{first}");
        assert!(first.ends_with("--append-system-prompt be kind"), "{first}");
        assert!(!first.contains("skip-permissions"));
        let launch = Launch { command: "/agent-runner".into(), args: vec!["mcp".to_owned()] };
        let line = arguments(&settings, "", (Uuid::nil(), true), Some(&launch));
        let servers = line.last().unwrap().to_str().unwrap();
        let expected = r#"{"mcpServers":{"twobox":{"args":["mcp"],"command":"/agent-runner"}}}"#;
        assert_eq!(servers, expected);
    }

    #[test]
    fn a_tool_of_the_host_is_denied_by_its_own_name() {
        let settings = settings(
            r#"{"model":"up/m","tools":{"send_file":"deny","Bash":"ask","Read":"allow"}}"#,
        );
        let denied = |tool| is_denied(&settings, tool);
        assert!(denied("Bash") && denied("mcp__twobox__send_file"));
        assert!(!denied("Read") && !denied("mcp__twobox__send_message"));
    }

    #[test]
    fn every_request_goes_to_the_socket_and_asks_the_one_model() {
        let gateway: Gateway = serde_json::from_str(
            r#"{"key":"k","routes":[{"name":"up/m","api":"messages","path":"/up/v1/messages",
                "context_tokens":1,"max_output_tokens":9,"images":true}]}"#,
        )
        .unwrap();
        let way = Way::of(&gateway, "/in/gateway.sock".into()).unwrap();
        let settings = settings(r#"{"model":"up/m"}"#);
        let variables =
            environment(&settings, &way, Path::new("/w/.c"), None, Duration::from_secs(60));
        let of = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_str().unwrap())
        };
        assert_eq!(of("ANTHROPIC_BASE_URL"), Some("http://gateway/up"));
        assert_eq!(of("ANTHROPIC_UNIX_SOCKET"), Some("/in/gateway.sock"));
        assert_eq!(of("ANTHROPIC_SMALL_FAST_MODEL"), Some("m"));
        assert_eq!(of("CLAUDE_CODE_MAX_OUTPUT_TOKENS"), Some("9"));
        assert_eq!(of("BASH_MAX_TIMEOUT_MS"), Some("60000"));
        assert_eq!(of("CLAUDE_CODE_TMPDIR"), None);
        let chat = Gateway { routes: Vec::new(), ..gateway };
        assert!(Way::of(&chat, "/x".into()).is_none());
    }
}
