//! What Codex finds in its own folder, `$CODEX_HOME`: pure, but for the writing.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::provider::model::plain;

/// By which its configuration calls the way to models.
pub(super) const PROVIDER: &str = "twobox";

/// The variable in which it finds the session's key.
pub(super) const KEY: &str = "TWOBOX_GATEWAY_KEY";

/// The most bytes of instructions that it reads. They are bounded before.
const INSTRUCTIONS_MAX: usize = 256 << 10;

/// The way to its model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    /// What the upstream calls the model.
    pub(super) model: &'a str,
    /// The path of a request to the session's socket, such as `/openai/responses`.
    pub(super) path: &'a str,
    /// How many tokens a request and its answer may have together.
    pub(super) context_tokens: u32,
    /// The port that leads to the socket.
    pub(super) port: u16,
    /// How much the model is to think, in its vendor's word.
    pub(super) effort: Option<&'a str>,
}

/// The text of `config.toml`.
///
/// What would look for the vendor's own servers is off: where no name server answers, that costs seconds at
/// every end. So is what the upstream would run itself, which the host serves nobody, and what has Codex ask
/// again: that is the host's. It has no sandbox of its own, for the container is one, and
/// asks nobody but where a thread is begun with another policy.
pub(super) fn config(way: Way<'_>) -> String {
    let base = way.path.strip_suffix("/responses").unwrap_or(way.path);
    let Way { model, context_tokens, port, .. } = way;
    let model = quoted(model);
    let base = quoted(&format!("http://127.0.0.1:{port}{base}"));
    let effort = match way.effort {
        Some(effort) => format!("model_reasoning_effort = {}\n", quoted(effort)),
        None => String::new(),
    };
    format!(
        "\
model = {model}
model_provider = \"{PROVIDER}\"
model_context_window = {context_tokens}
{effort}\
approval_policy = \"never\"
sandbox_mode = \"danger-full-access\"
web_search = \"disabled\"
project_doc_max_bytes = {INSTRUCTIONS_MAX}
check_for_update_on_startup = false
analytics.enabled = false
features.plugins = false
features.apps = false
features.multi_agent = false
features.goals = false
skills.bundled.enabled = false

[model_providers.{PROVIDER}]
name = \"{PROVIDER}\"
base_url = {base}
wire_api = \"responses\"
env_key = \"{KEY}\"
request_max_retries = 0
stream_max_retries = 0
stream_idle_timeout_ms = 1200000
"
    )
}

/// A text as TOML has it, whose basic strings know all that those of JSON do.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// Puts the configuration and the instructions into the folder `home`.
///
/// # Errors
/// The system's.
pub(super) fn furnish(home: &Path, config: &str, instructions: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(home)?;
    plain::put(&home.join("config.toml"), config)?;
    plain::put(&home.join("AGENTS.md"), instructions)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_way_is_that_of_the_route_by_the_port() {
        let way = Way {
            model: "gpt-\"5\"\n",
            path: "/openai/responses",
            context_tokens: 200_000,
            port: 4711,
            effort: Some("low"),
        };
        let text = config(way);
        assert!(text.contains("base_url = \"http://127.0.0.1:4711/openai\"\n"), "{text}");
        assert!(text.contains("model = \"gpt-\\\"5\\\"\\n\"\n"), "no name ends its line: {text}");
        let whole = |line: &str| line.is_empty() || line.starts_with('[') || line.contains(" = ");
        assert!(text.lines().all(whole), "{text}");
        assert!(text.contains("model_reasoning_effort = \"low\"\n"), "{text}");
        assert!(!config(Way { effort: None, ..way }).contains("effort"));
    }

    #[test]
    fn it_is_written_anew_and_through_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (home, other) = (dir.path().join("a/home"), dir.path().join("other"));
        fs::write(&other, "theirs").unwrap();
        furnish(&home, "one", "two").unwrap();
        fs::remove_file(home.join("config.toml")).unwrap();
        std::os::unix::fs::symlink(&other, home.join("config.toml")).unwrap();
        std::os::unix::fs::symlink(&other, home.join("config.new")).unwrap();
        furnish(&home, "three", "four").unwrap();
        let read = |name| fs::read_to_string(home.join(name)).unwrap();
        assert_eq!((read("config.toml"), read("AGENTS.md")), ("three".into(), "four".into()));
        assert_eq!(fs::read_to_string(&other).unwrap(), "theirs");
    }
}
