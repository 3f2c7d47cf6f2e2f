//! What Codex finds in its own folder, `$CODEX_HOME`: pure, but for the writing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::{self, DirBuilder, DirEntry};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::provider::model::plain;
use crate::say::say;

/// By which its configuration calls the way to models.
pub(super) const PROVIDER: &str = "twobox";

/// The variable in which it finds the session's key.
pub(super) const KEY: &str = "TWOBOX_GATEWAY_KEY";

/// The most bytes of instructions that it reads. They are bounded before.
const INSTRUCTIONS_MAX: usize = 256 << 10;

/// What it keeps in its folder, besides databases: conversations, and what it needs while it runs. Anything else
/// could be configuration, such as rules by which commands are run unasked, and the container writes there.
const KEPT: [&str; 10] = [
    "sessions",
    "archived_sessions",
    "session_index.jsonl",
    "history.jsonl",
    "installation_id",
    "thread-writer-locks",
    "log",
    "tmp",
    ".tmp",
    ".sandbox_migration",
];

/// How the name begins of what could not be taken away, and so is called something that Codex does not look for.
const ASIDE: &str = ".twobox-aside-";

/// What the name of a database has in it, and that of its journal.
const DATABASE: &str = ".sqlite";

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
/// asks nobody but where a thread is begun with another policy. No shell of it reads start-up files, which lie in
/// the workspace: they would be run with every command that is allowed.
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
allow_login_shell = false
web_search = \"disabled\"
project_doc_max_bytes = {INSTRUCTIONS_MAX}
check_for_update_on_startup = false
analytics.enabled = false
features.plugins = false
features.apps = false
features.multi_agent = false
features.goals = false
features.shell_snapshot = false
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

/// The folders by which Codex may know the one where it works: that, by both names if it has two, and the root of
/// the repository that it is in.
pub(super) fn projects(work: &Path) -> BTreeSet<PathBuf> {
    let real = fs::canonicalize(work).unwrap_or_else(|_| work.to_owned());
    let root = real.ancestors().find(|it| it.join(".git").symlink_metadata().is_ok());
    let root = root.map(Path::to_owned);
    [work.to_owned(), real].into_iter().chain(root).collect()
}

/// The tables by which it obeys nothing that lies in `projects`. Where none says so, it decides by itself to trust
/// the folder of a thread.
pub(super) fn distrust(projects: &BTreeSet<PathBuf>) -> String {
    let mut text = String::new();
    for project in projects {
        let name = quoted(&project.to_string_lossy());
        writeln!(text, "\n[projects.{name}]\ntrust_level = \"untrusted\"")
            .expect("a String takes everything");
    }
    text
}

/// What its folder has to be.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) folder: PathBuf,
    /// The text of `config.toml`.
    pub(super) config: String,
    pub(super) instructions: String,
}

impl Home {
    /// Puts the configuration and the instructions there, and takes away what could be more of them, or out of the
    /// way: nothing that a command has put there keeps the agent from its next turn.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn furnish(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        plain::let_in(&self.folder)?;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !is_kept(&entry.file_name())
                && let Err(error) = plain::clear(&entry.path())
            {
                self.set_aside(&entry, error)?;
            }
        }
        plain::put(&self.folder.join("config.toml"), &self.config)?;
        plain::put(&self.folder.join("AGENTS.md"), &self.instructions)
    }

    /// Gives what could not be removed, for which `error` is the reason, a name that means nothing to Codex. It is
    /// tried again each time.
    fn set_aside(&self, entry: &DirEntry, error: io::Error) -> io::Result<()> {
        if entry.file_name().as_encoded_bytes().starts_with(ASIDE.as_bytes()) {
            return Ok(());
        }
        let is_free = |path: &PathBuf| path.symlink_metadata().is_err();
        let free = (0_u64..).map(|nth| self.folder.join(format!("{ASIDE}{nth}"))).find(is_free);
        let renamed = free.is_some_and(|free| fs::rename(entry.path(), free).is_ok());
        let name = entry.file_name();
        say!("{name:?} cannot be removed from the folder of Codex: {error}");
        if renamed { Ok(()) } else { Err(error) }
    }
}

fn is_kept(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| KEPT.contains(&name) || name.contains(DATABASE))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

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
        let furnish = |config: &str, instructions: &str| {
            let (config, instructions) = (config.to_owned(), instructions.to_owned());
            Home { folder: home.clone(), config, instructions }.furnish().unwrap();
        };
        furnish("one", "two");
        fs::remove_file(home.join("config.toml")).unwrap();
        std::os::unix::fs::symlink(&other, home.join("config.toml")).unwrap();
        std::os::unix::fs::symlink(&other, home.join("config.new")).unwrap();
        furnish("three", "four");
        let read = |name| fs::read_to_string(home.join(name)).unwrap();
        assert_eq!((read("config.toml"), read("AGENTS.md")), ("three".into(), "four".into()));
        assert_eq!(fs::read_to_string(&other).unwrap(), "theirs");
    }

    #[test]
    fn what_could_be_configuration_is_taken_away_and_conversations_stay() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("home");
        let elsewhere = dir.path().join("elsewhere");
        for made in ["home/rules", "home/hooks", "home/sessions/2026", "home/tmp", "elsewhere"] {
            fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        let planted =
            ["rules/default.rules", "hooks/x", "hooks.json", ".env", "AGENTS.override.md"];
        let kept = ["sessions/2026/r.jsonl", "state_5.sqlite", "state_5.sqlite-wal", "tmp/x"];
        for name in planted.iter().chain(&kept) {
            fs::write(folder.join(name), "x").unwrap();
        }
        fs::write(elsewhere.join("x"), "x").unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.join("skills")).unwrap();
        let home = Home { folder, config: String::new(), instructions: String::new() };
        home.furnish().unwrap();
        let there = |name: &&str| home.folder.join(name).symlink_metadata().is_ok();
        assert!(!planted.iter().any(there) && !there(&"skills"));
        assert!(kept.iter().all(there));
        assert!(elsewhere.join("x").exists(), "a link is removed, and not what it leads to");
    }

    #[test]
    fn what_keeps_its_owner_out_or_cannot_be_removed_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("home");
        fs::create_dir_all(folder.join("rules/deep")).unwrap();
        fs::write(folder.join("rules/default.rules"), "x").unwrap();
        let home = Home { folder, config: "one".to_owned(), instructions: String::new() };
        let shut = |name: &str| {
            let none = fs::Permissions::from_mode(0o000);
            fs::set_permissions(home.folder.join(name), none).unwrap();
        };
        let names = || {
            let entries = fs::read_dir(&home.folder).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        plain::give_away(dir.path());
        plain::as_no_root(|| {
            for name in ["rules/deep", "rules", ""] {
                shut(name);
            }
            home.furnish().unwrap();
            assert_eq!(names(), ["AGENTS.md", "config.toml"]);
        });
        if !nix::unistd::geteuid().is_root() {
            return; // what is another's only root can put there
        }
        fs::create_dir_all(home.folder.join("hooks/theirs")).unwrap();
        shut("hooks");
        let aside = [".twobox-aside-0", "AGENTS.md", "config.toml"];
        for _ in 0..2 {
            plain::as_no_root(|| home.furnish().unwrap());
            assert_eq!(names(), aside);
        }
        assert!(home.folder.join(aside[0]).join("theirs").exists());
        fs::create_dir_all(home.folder.join("rules/more")).unwrap();
        shut("rules");
        plain::as_no_root(|| home.furnish().unwrap());
        assert!(home.folder.join(".twobox-aside-1/more").exists());
    }

    #[test]
    fn nothing_is_trusted_by_any_name_of_the_place_where_it_works() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let work = root.join("in/work");
        fs::create_dir_all(&work).unwrap();
        let link = root.join("link");
        std::os::unix::fs::symlink(&work, &link).unwrap();
        let of = |more: &[&Path]| more.iter().map(|it| it.to_path_buf()).collect::<BTreeSet<_>>();
        fs::create_dir(root.join("in/.git")).unwrap();
        assert_eq!(projects(&link), of(&[&link, &work, &root.join("in")]));
        let text = distrust(&of(&[Path::new("/a\"b")]));
        assert_eq!(text, "\n[projects.\"/a\\\"b\"]\ntrust_level = \"untrusted\"\n");
    }
}
