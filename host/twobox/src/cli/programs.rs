//! `twobox agents put` and `agents edit`: changing what an agent is, and how it runs.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::json;
use twobox_shared::agent_config::{Provider, Written};
use twobox_shared::errors::chain;

use super::agents::{
    Settings, Wish, begin_instructions, check_ways, config, containers, is_claude, make_room,
};
use super::output::{Failure, printable};
use super::{Context, doctor, output};
use twobox_runtime::Profile;
use twobox_runtime::profile::File;
use twobox_runtime::program;
use twobox_system::remove_tree::remove_tree;

/// What an editor of `agents edit` is called if the environment says nothing.
const EDITOR: &str = "vi";

pub(super) fn put(
    context: &Context,
    name: &str,
    files: &[PathBuf],
    target: Option<&Path>,
) -> Result<ExitCode, Failure> {
    if target.is_some() && files.len() != 1 {
        return Err(Failure::usage("--as names the place of a single file or folder"));
    }
    let (data, store) = context.open_store()?;
    let agent = store.agents().find(name).wait()?;
    let places = program::put(&data.programs(), &agent.folder, files, target)?;
    let program = data.program_folder(&agent.folder);
    let put: Vec<PathBuf> = places.iter().map(|place| program.join(place)).collect();
    context.output.show(&json!({ "agent": agent, "program": program, "put": put }), |_| {
        let lines: Vec<String> = put.iter().map(|it| format!("put {}", it.display())).collect();
        output::lines(&lines)
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn edit(
    context: &Context,
    name: &str,
    file: Option<&Path>,
) -> Result<ExitCode, Failure> {
    let (data, store) = context.open_store()?;
    let agent = store.agents().find(name).wait()?;
    let (programs, config) = (data.programs(), data.agent_config(&agent.folder));
    let editor = editor(|| match file {
        Some(file) => {
            format!("`twobox agents put {name} FILE --as {}` puts a file there", file.display())
        }
        None => format!("change {} by other means", config.display()),
    })?;
    let read = || match file {
        Some(file) => Ok(program::read(&programs, &agent.folder, file)?),
        None => match std::fs::read(&config) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(|error| cannot("read", &config, &error)),
        },
    };
    let before = read()?;
    let shown =
        file.map_or_else(|| config.clone(), |it| data.program_folder(&agent.folder).join(it));
    let folder = data.scratch().join(format!("edit-{}", std::process::id()));
    // Only one of this number lives, so whatever is there is left over.
    remove_tree(&folder).map_err(|error| cannot("clear", &folder, &error))?;
    let copy = folder.join(shown.file_name().unwrap_or(OsStr::new("text")));
    lay_out(&copy, before.as_deref().unwrap_or_default())
        .map_err(|error| cannot("write", &copy, &error))?;
    ask_editor(&editor, &copy).map_err(|reason| {
        Failure::new(format!("{reason}: nothing was changed; your text is in {}", copy.display()))
    })?;
    let after = std::fs::read(&copy).map_err(|error| cannot("read", &copy, &error))?;

    let kept = |why: String| {
        Failure::new(format!("{why}: nothing was changed; your text is in {}", copy.display()))
    };
    let unchanged = before.as_ref() == Some(&after);
    if !unchanged {
        check(context, &copy, file, &after).map_err(kept)?;
        if read()? != before {
            return Err(kept(format!("{} was changed meanwhile", shown.display())));
        }
        match file {
            Some(file) => program::write(&programs, &agent.folder, file, &after)
                .map_err(|error| kept(chain(&error)))?,
            None => replace(&config, &after).map_err(|error| kept(error.to_string()))?,
        }
    }
    remove_tree(&folder).map_err(|error| cannot("remove", &folder, &error))?;
    let answer = json!({ "agent": agent, "file": shown, "changed": !unchanged });
    context.output.show(&answer, |_| told_of(&shown, !unchanged, file));
    Ok(ExitCode::SUCCESS)
}

/// Sets in an agent's configuration what options say.
pub(super) fn set(
    context: &Context,
    name: &str,
    wish: Wish,
    settings: Settings,
) -> Result<ExitCode, Failure> {
    change(context, name, |file| {
        settings.check_models(context)?;
        if !wish.is_empty() {
            wish.put(file)?;
        }
        settings.put(file)
    })
}

/// Changes an agent's configuration as `work` says, if what comes of it can be one.
pub(super) fn change(
    context: &Context,
    name: &str,
    work: impl FnOnce(&mut File) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    let (data, store) = context.open_store()?;
    let agent = store.agents().find(name).wait()?;
    let path = data.agent_config(&agent.folder);
    let before = File::load(&path).map_err(|error| Failure::new(error.to_string()))?;
    let mut file = before.clone();
    work(&mut file)?;
    let settings = config(context);
    if is_claude(&file) && !is_claude(&before) {
        make_room(&mut file, &settings);
    }
    let profile = Profile::of(file.clone(), &settings.containers).map_err(Failure::usage)?;
    let (changed, other) = (file != before, file.provider != before.provider);
    if other {
        check_ways(context, &profile.agent.provider)?;
    }
    if changed {
        replace(&path, file.text().as_bytes()).map_err(|error| cannot("write", &path, &error))?;
    }
    if asks_models(&file) && !asks_models(&before) {
        begin_instructions(&data, &agent)?;
    }
    let lost = program_of(&before).filter(|_| program_of(&file).is_none());
    let answer = json!({ "agent": agent, "file": path, "changed": changed, "replaced": lost });
    context.output.show(&answer, |_| match &lost {
        Some(program) => {
            let program = printable(&serde_json::to_string(program).expect("texts serialise"));
            format!("{}; the program that answered was {program}", told_of(&path, changed, None))
        }
        None => told_of(&path, changed, None),
    });
    doctor::tell_of(context, &data, store, &agent);
    Ok(ExitCode::SUCCESS)
}

fn asks_models(file: &File) -> bool {
    match &file.provider {
        Some(Written::Object(provider)) => !provider.models().is_empty(),
        Some(Written::Word(_)) | None => false,
    }
}

/// The program that answers, if one of the agent's own does.
fn program_of(file: &File) -> Option<Vec<String>> {
    let parts = (file.provider.clone(), file.command.clone(), file.lifetime);
    match Provider::of_parts(parts.0, parts.1, parts.2) {
        Ok(Provider::Command { command, lifetime: _ }) => Some(command),
        Ok(_) | Err(_) => None,
    }
}

/// What came of a change.
fn told_of(shown: &Path, changed: bool, file: Option<&Path>) -> String {
    let shown = shown.display();
    printable(&match (changed, file) {
        (false, _) => format!("{shown} stays as it was"),
        (true, None) => format!("changed {shown}; it counts from the next turn on"),
        (true, Some(_)) => format!("changed {shown}; the agent sees it at once"),
    })
}

/// A private copy to work on.
fn lay_out(copy: &Path, text: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let folder = copy.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(copy)?.write_all(text)
}

/// The editor that somebody has named.
/// The command to edit with.
///
/// # Errors
/// That there is no terminal for one, and what to do `otherwise`.
fn editor(otherwise: impl Fn() -> String) -> Result<OsString, Failure> {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    match (chosen_editor(|name| std::env::var_os(name)), is_terminal) {
        (Some(chosen), _) => Ok(chosen),
        (None, true) => Ok(EDITOR.into()),
        (None, false) => Err(Failure::new(format!(
            "there is no terminal here to edit in: {}, or name a program in EDITOR or VISUAL that \
             does it",
            otherwise()
        ))),
    }
}

fn chosen_editor(variable: impl Fn(&str) -> Option<OsString>) -> Option<OsString> {
    ["VISUAL", "EDITOR"].into_iter().filter_map(variable).find(|it| !it.is_empty())
}

/// Has a person edit `copy`. The variables hold a command, perhaps with arguments, as for other
/// programs.
fn ask_editor(editor: &OsStr, copy: &Path) -> Result<(), String> {
    let mut line = editor.to_owned();
    line.push(" \"$1\"");
    let ended = Command::new("sh").arg("-c").arg(line).arg("sh").arg(copy).status();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(format!("the editor {editor:?} ended with {status} (set EDITOR to another one)"))
        }
        Err(error) => Err(format!("no shell to start {editor:?} with: {error}")),
    }
}

/// Whether what a person wrote can be used: a configuration has to be one, JSON has to be JSON.
fn check(context: &Context, copy: &Path, file: Option<&Path>, text: &[u8]) -> Result<(), String> {
    match file {
        None => {
            Profile::load(copy, &containers(context)).map(drop).map_err(|error| error.to_string())
        }
        Some(file) if file.extension() == Some(OsStr::new("json")) => {
            serde_json::from_slice::<serde::de::IgnoredAny>(text)
                .map(drop)
                .map_err(|error| format!("{}: {error}", file.display()))
        }
        Some(_) => Ok(()),
    }
}

/// Puts `text` in the place of the file at `path`, whatever crash comes.
fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    lay_out(&fresh, text)?;
    std::fs::File::open(&fresh)?.sync_all()?;
    std::fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn cannot(action: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("could not {action} {}: {error}", path.display()))
}
