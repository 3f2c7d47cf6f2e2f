//! How Claude Code is started: its arguments and its environment. Pure.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, json};
use twobox_shared::agent_config::{
    CLAUDE_NOT_HERE, Claude as Settings, Gateway, HOST_SERVER, Permission, Place,
};
use uuid::Uuid;

use super::permission;
use crate::provider::desk::{Launch, launch_in};

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

/// What stands before the names of the host's tools.
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

/// What is said to it besides its settings.
pub(super) struct Start<'a> {
    /// Said before every conversation.
    pub(super) system: &'a str,
    /// The conversation, and whether it is new.
    pub(super) conversation: (Uuid, bool),
    /// How to start the server of the host's tools.
    pub(super) tools: Option<&'a Launch>,
    /// Where the servers of others run.
    pub(super) program: &'a Path,
    /// How long a call of theirs may take.
    pub(super) tool_timeout: Duration,
}

/// The arguments.
///
/// # Errors
/// If this program does not know where it is.
pub(super) fn arguments(settings: &Settings, start: &Start<'_>) -> io::Result<Vec<OsString>> {
    let denied = settings.tools.iter().filter(|(_, may)| **may == Permission::Deny);
    let denied: Vec<&str> =
        CLAUDE_NOT_HERE.into_iter().chain(denied.map(|(name, _)| name.as_str())).collect();
    let (id, new) = start.conversation;
    let (denied, id) = (denied.join(","), id.to_string());
    let mut line: Vec<&str> = vec!["-p", "--verbose"];
    line.extend(["--input-format", "stream-json", "--output-format", "stream-json"]);
    line.extend([if new { "--session-id" } else { "--resume" }, &id]);
    line.extend(["--model", settings.model.model()]);
    // It asks us for each tool that it would ask a person for, and for what a person has to allow.
    line.extend(["--permission-mode", "default", "--permission-prompt-tool", "stdio"]);
    line.extend(["--disallowedTools", &denied]);
    let own = json!({
        "permissions": {"ask": permission::rules(&settings.tools)},
        // It would ask its vendor first, who is not to be reached.
        "skipWebFetchPreflight": true,
    });
    let own = own.to_string();
    line.extend(["--settings", &own]);
    // What lies in the workspace, where the agent writes, starts nothing.
    line.extend(["--setting-sources", "", "--strict-mcp-config"]);
    // An agent that is changed is told so, also in a conversation that goes on.
    line.extend(["--system-prompt-snapshot", "off", "--append-system-prompt", start.system]);
    let servers = servers(settings, start)?;
    line.extend(servers.iter().flat_map(|servers| ["--mcp-config", servers]));
    Ok(line.into_iter().map(OsString::from).collect())
}

/// What it is told of servers of MCP, if there are any.
fn servers(settings: &Settings, start: &Start<'_>) -> io::Result<Option<String>> {
    let mut servers = Map::new();
    for (name, server) in settings.mcp.iter() {
        let Place::Program { command, env } = &server.place else { continue }; // it has no other
        // It starts all of them where it works itself.
        let Launch { command, args } = launch_in(start.program, command)?;
        let timeout = start.tool_timeout.as_millis();
        let told = json!({"command": command, "args": args, "env": env, "timeout": timeout});
        servers.insert(name.to_owned(), told);
    }
    servers.extend(start.tools.map(|tools| (HOST_SERVER.to_owned(), json!(tools))));
    Ok((!servers.is_empty()).then(|| json!({"mcpServers": servers}).to_string()))
}

/// The variables that it needs besides those of the runner.
pub(super) fn environment(
    settings: &Settings,
    way: &Way,
    kept: &Path,
    temp: Option<&Path>,
    (turn_timeout, tool_timeout): (Duration, Duration),
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
        // One of the host's may wait for people, whose time is the turn's; others are bounded by the runner.
        ("MCP_TOOL_TIMEOUT", turn_timeout.as_millis().to_string().into()),
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

    fn line(settings: &Settings, new: bool, tools: Option<&Launch>) -> String {
        let start = Start {
            system: "be kind",
            conversation: (Uuid::nil(), new),
            tools,
            program: Path::new("/p"),
            tool_timeout: Duration::from_secs(60),
        };
        arguments(settings, &start).unwrap().join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn a_conversation_is_begun_once_and_then_gone_on_with() {
        let settings = settings(r#"{"model":"up/m","tools":{"Bash":"deny","Read":"allow"}}"#);
        let (first, later) = (line(&settings, true, None), line(&settings, false, None));
        assert!(first.contains(&format!("--session-id {} --model m ", Uuid::nil())), "{first}");
        assert!(later.contains(&format!("--resume {} --model m ", Uuid::nil())), "{later}");
        assert!(first.contains(",Monitor,Bash ") && !first.contains("Read"), "{first}");
        assert!(first.ends_with("--append-system-prompt be kind"), "{first}");
        assert!(!first.contains("skip-permissions"));
    }

    #[test]
    fn it_is_told_what_to_ask_for_and_of_all_servers() {
        let settings = settings(
            r#"{"model":"up/m","tools":{"Bash":"ask","Edit":"deny","send_message":"ask"},
                "mcp":{"notes":{"command":["python3","n.py"],"env":{"A":"b"}}}}"#,
        );
        let launch = Launch { command: "/agent-runner".into(), args: vec!["mcp".to_owned()] };
        let line = line(&settings, true, Some(&launch));
        assert!(line.contains(r#"{"permissions":{"ask":["Bash"]}"#), "{line}");
        assert!(line.contains(",Monitor,Edit "), "{line}");
        let (_, servers) = line.split_once("--mcp-config ").unwrap();
        let servers: serde_json::Value = serde_json::from_str(servers).unwrap();
        let notes = &servers["mcpServers"]["notes"];
        assert_eq!(notes["args"], json!(["mcp", "--in", "/p", "python3", "n.py"]));
        assert_eq!((&notes["env"], &notes["timeout"]), (&json!({"A": "b"}), &json!(60_000)));
        let own = json!({"args": ["mcp"], "command": "/agent-runner"});
        assert_eq!(servers["mcpServers"]["twobox"], own);
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
        let spans = (Duration::from_secs(900), Duration::from_secs(60));
        let variables = environment(&settings, &way, Path::new("/w/.c"), None, spans);
        let of = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_str().unwrap())
        };
        assert_eq!(of("ANTHROPIC_BASE_URL"), Some("http://gateway/up"));
        assert_eq!(of("ANTHROPIC_UNIX_SOCKET"), Some("/in/gateway.sock"));
        assert_eq!(of("ANTHROPIC_SMALL_FAST_MODEL"), Some("m"));
        assert_eq!(of("CLAUDE_CODE_MAX_OUTPUT_TOKENS"), Some("9"));
        assert_eq!(of("BASH_MAX_TIMEOUT_MS"), Some("60000"));
        assert_eq!(of("MCP_TOOL_TIMEOUT"), Some("900000"));
        assert_eq!(of("CLAUDE_CODE_TMPDIR"), None);
        let chat = Gateway { routes: Vec::new(), ..gateway };
        assert!(Way::of(&chat, "/x".into()).is_none());
    }
}
