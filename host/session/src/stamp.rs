//! What an agent is made of, as one short word that changes with it: its profile, its program, and what
//! its runners are started from. A runner that was started under another word is let go when
//! it is idle; an agent that does not work is tried again under another one.

use std::fmt::Write as _;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use twobox_shared::agent_config::AgentConfigError;
use twobox_shared::content::digest16;

use crate::core::Core;
use twobox_gateway::Gateway;
use twobox_runtime::Profile;
use twobox_system::blocking::blocking;

/// The longest word that is read.
const WORD_MAX: u64 = 64;

/// How much of a script is read to see what it runs under: as much as the kernel looks at.
const HEAD_MAX: u64 = 256;

/// How many files of a program are looked at, those nearest to the top first. A look is due with each
/// message, so that it may cost about a millisecond.
const FILES_MAX: usize = 1000;

/// Where a session's folder says under which word its runner was started, for the next host.
pub const FILE: &str = "runner.stamp";

/// The word for the agent whose folder is called `agent`; `None` if it cannot be known now.
pub async fn of(core: &Arc<Core>, agent: &str) -> Option<String> {
    let (config, program) =
        (core.parts.data.agent_config(agent), core.parts.data.program_folder(agent));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let parts = Arc::clone(core);
    let made = blocking(move || {
        let (settings, gateway) = (&parts.parts.config.containers, &parts.parts.gateway);
        let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let profile = Profile::load(&config, settings);
        let mut made_of = made_of(&profile, &program, &path);
        let profile = profile.unwrap_or_else(|_| Profile::usual(settings));
        made_of.push_str(&way(gateway, &profile));
        (profile, made_of)
    });
    let (profile, made_of) = made.await;
    let runtime = core.parts.runtime.stamp(&profile).await?;
    Some(digest16(&format!("{runtime}\n{made_of}")))
}

/// Keeps `stamp` in `file`, or that nobody knows one. Where that fails, a runner is let go without need,
/// or serves a little longer.
pub(super) fn keep(file: &Path, stamp: Option<&str>) {
    let kept = match stamp {
        Some(stamp) => open(OpenOptions::new().write(true).create(true).truncate(true), file)
            .and_then(|mut file| file.write_all(stamp.as_bytes())),
        None => fs::remove_file(file),
    };
    kept.ok();
}

/// The word that was kept in `file`.
pub(super) fn kept(file: &Path) -> Option<String> {
    let mut word = String::new();
    let file = open(OpenOptions::new().read(true), file).ok()?;
    file.take(WORD_MAX).read_to_string(&mut word).ok()?;
    (!word.is_empty()).then_some(word)
}

/// No link is followed and nothing waited for: where nothing is confined, anybody may have put it there.
fn open(options: &mut OpenOptions, file: &Path) -> io::Result<File> {
    options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK).open(file)
}

/// Everything about an agent that lies in files, in one text. What cannot be read is part of it too.
fn made_of(
    profile: &Result<Profile, AgentConfigError>,
    program: &Path,
    path: &[PathBuf],
) -> String {
    let mut text = String::new();
    match profile {
        Ok(profile) => {
            text.push_str(&profile.secret_text());
            if let Some(command) = profile.agent.provider.command().first() {
                let found = executable(Path::new(command), program, path);
                let interpreters =
                    found.as_deref().map(|it| interpreters(it, path)).unwrap_or_default();
                line(&mut text, Path::new(command), found.and_then(|it| fs::metadata(it).ok()));
                for interpreter in interpreters {
                    line(&mut text, &interpreter, fs::metadata(&interpreter).ok());
                }
            }
        }
        Err(error) => text.push_str(&error.to_string()),
    }
    // One level after the other.
    let mut folders = std::collections::VecDeque::from([program.to_owned()]);
    let mut left = FILES_MAX;
    while let Some(folder) = folders.pop_front() {
        line(&mut text, &folder, fs::symlink_metadata(&folder).ok());
        let mut entries: Vec<PathBuf> =
            fs::read_dir(&folder).into_iter().flatten().flatten().map(|it| it.path()).collect();
        entries.sort();
        for entry in entries {
            if left == 0 {
                return text;
            }
            left -= 1;
            if entry.file_name().is_some_and(|name| name == "__pycache__") {
                continue; // Python's own, made while the program runs
            }
            let meta = fs::symlink_metadata(&entry).ok();
            match meta {
                Some(meta) if meta.is_dir() => folders.push_back(entry),
                meta => line(&mut text, &entry, meta),
            }
        }
    }
    text
}

/// The way that a runner with `profile` would be told, which the settings of upstreams decide, and whether it
/// may reach anything of the network. It keeps the way that it was told, so that an older one leads nowhere
/// once they have changed.
fn way(gateway: &Gateway, profile: &Profile) -> String {
    let network = if profile.egress.is_empty() { "" } else { "\nnetwork" };
    match gateway.routes(&profile.agent.provider) {
        Ok(None) => network.to_owned(),
        routes => format!("\n{routes:?}{network}"),
    }
}

/// Where a runner that sees this machine would find `command`.
fn executable(command: &Path, program: &Path, path: &[PathBuf]) -> Option<PathBuf> {
    if command.components().count() > 1 {
        return Some(program.join(command)); // an absolute one stays what it is
    }
    path.iter().map(|folder| folder.join(command)).find(|file| file.is_file())
}

/// What the first line of a script says that it runs under: an interpreter, and with `env` the program
/// that is looked for in the folders of `path`. One that is missing is named all the same, so that it
/// makes a difference when it comes.
fn interpreters(script: &Path, path: &[PathBuf]) -> Vec<PathBuf> {
    let mut head = Vec::new();
    // A pipe or a device would be waited for, and is no script.
    let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(script);
    if opened.and_then(|file| file.take(HEAD_MAX).read_to_end(&mut head)).is_err() {
        return Vec::new();
    }
    let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some(words) = first.strip_prefix(b"#!") else { return Vec::new() };
    let words = String::from_utf8_lossy(words);
    let mut words = words.split_ascii_whitespace();
    let Some(interpreter) = words.next().map(PathBuf::from) else { return Vec::new() };
    let is_env = interpreter.file_name().is_some_and(|name| name == "env");
    let named = words.find(|word| is_env && !word.starts_with('-') && !word.contains('='));
    let found = named.map(|name| {
        let named = path.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
        named.unwrap_or_else(|| PathBuf::from(name))
    });
    [interpreter].into_iter().chain(found).collect()
}

fn line(text: &mut String, path: &Path, meta: Option<Metadata>) {
    let about = meta.map(|meta| {
        let when = (meta.mtime(), meta.mtime_nsec());
        // Of a folder, its time says that something came or went, which is listed anyway.
        let (size, when) = if meta.is_dir() { (0, (0, 0)) } else { (meta.size(), when) };
        (meta.ino(), meta.mode(), size, when)
    });
    writeln!(text, "{} {about:?}", path.display()).expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn whatever_an_agent_is_made_of_changes_its_word() {
        let dir = tempfile::tempdir().unwrap();
        let (config, program, bin) =
            (dir.path().join("a.json"), dir.path().join("program"), dir.path().join("bin"));
        fs::create_dir_all(program.join("deep/er")).unwrap();
        fs::create_dir(&bin).unwrap();
        let command = r#"{"provider": "command", "command": ["tool", "agent.py"]}"#;
        fs::write(program.join("deep/er/x"), "1").unwrap();
        type Change<'a> = Box<dyn Fn() + 'a>;
        let own = bin.join("own");
        let changes: [(&str, Change<'_>); 12] = [
            ("a configuration", Box::new(|| fs::write(&config, command).unwrap())),
            ("a mistake", Box::new(|| fs::write(&config, "{").unwrap())),
            ("another mistake", Box::new(|| fs::write(&config, r#"{"x": 1}"#).unwrap())),
            ("mended", Box::new(|| fs::write(&config, command).unwrap())),
            ("its program is installed", Box::new(|| fs::write(bin.join("tool"), "").unwrap())),
            (
                "it is a script of something that is missing",
                Box::new(|| fs::write(bin.join("tool"), "#!/usr/bin/env -S node -x\n").unwrap()),
            ),
            ("which is installed", Box::new(|| fs::write(bin.join("node"), "").unwrap())),
            (
                "another one, by its path",
                Box::new(|| {
                    fs::write(bin.join("tool"), format!("#! {}\n", own.display())).unwrap();
                }),
            ),
            ("which is installed, too", Box::new(|| fs::write(&own, "").unwrap())),
            ("a file of it", Box::new(|| fs::write(program.join("deep/er/x"), "22").unwrap())),
            (
                "its rights",
                Box::new(|| {
                    let mode = fs::Permissions::from_mode(0o755);
                    fs::set_permissions(program.join("deep/er/x"), mode).unwrap();
                }),
            ),
            ("it is gone", Box::new(|| fs::remove_dir_all(&program).unwrap())),
        ];
        let word = || {
            let settings = twobox_config::Config::default().containers;
            made_of(&Profile::load(&config, &settings), &program, std::slice::from_ref(&bin))
        };
        let mut before = word();
        for (case, change) in changes {
            change();
            let after = word();
            assert_ne!(after, before, "{case}");
            assert_eq!(after, word(), "{case}: and stays");
            before = after;
        }
    }

    #[test]
    fn an_agent_that_a_model_answers_has_another_word_when_the_way_there_changes() {
        let dir = tempfile::tempdir().unwrap();
        let word = |api: &str, provider: &str| {
            fs::write(dir.path().join("a.json"), provider).unwrap();
            let settings = format!(
                "[gateway.upstreams.local]\nkind = 'compatible'\nbase_url = 'http://localhost'\n\
                 api = '{api}'\n"
            );
            fs::write(dir.path().join("twobox.toml"), settings).unwrap();
            let none = std::collections::BTreeMap::new();
            let (config, _) =
                twobox_config::Config::load(&dir.path().join("twobox.toml"), &none).unwrap();
            let store = twobox_store::Store::create(&dir.path().join(format!("{api}.db"))).unwrap();
            let data = twobox_system::data::DataDir::create(&dir.path().join(api)).unwrap();
            let clock = Arc::new(twobox_shared::clock::SystemClock);
            let gateway = Gateway::of(&config, &data, &none, store, clock).unwrap();
            let profile = Profile::load(&dir.path().join("a.json"), &config.containers).unwrap();
            (way(&gateway, &profile), way(&gateway, &profile))
        };
        let model = r#"{"provider": {"kind": "model", "model": "local/m"}}"#;
        let (chat, again) = word("chat", model);
        assert_eq!(chat, again, "no key is in it");
        assert_ne!(chat, word("responses", model).0);
        assert_eq!(word("messages", "{}").0, "", "it needs no way");
    }
}
