//! Whether every agent has what it needs, and nobody else can change it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use futures_util::future::FutureExt;
use twobox_shared::agent_config::{AgentConfig, Provider};

use super::{Check, Finding};
use twobox_config::{Config, RuntimeKind};
use twobox_runtime::profile::Lack;
use twobox_runtime::program::{EXPOSED_HELP, exposed};
use twobox_runtime::{AgentFolders, Profile, RuntimeError, check_profiles};
use twobox_store::Store;
use twobox_store::agents::AgentGroup;
use twobox_system::data::DataDir;

/// Nothing if there are no agents; a damaged host.db has a check of its own.
pub(super) fn check(data: &DataDir, config: &Config) -> Option<Check> {
    let known =
        Store::look(&data.host_db()).ok().and_then(|store| store.agents().list().wait().ok())?;
    let (data, config, any) = (data.clone(), config.clone(), !known.is_empty());
    let look = async move {
        let profile = |agent: &AgentGroup| {
            Profile::load(&data.agent_config(&agent.folder), &config.containers)
        };
        let profiles: Vec<_> = known.iter().map(profile).collect();
        let readable: Vec<&Profile> = profiles.iter().flatten().collect();
        // A runtime that cannot be asked has a check of its own.
        let verdicts = check_profiles(&config, &readable).await.unwrap_or_default();
        let mut verdicts = verdicts.into_iter();
        let looks = known.iter().zip(&profiles).map(|(agent, profile)| match profile {
            Ok(profile) => {
                let refusal = verdicts.next().and_then(Result::err);
                look(&data, agent, profile, refusal, config.runtime)
            }
            Err(error) => Finding::fail(
                format!("{}: {error}", agent.name),
                format!("`twobox agents edit {}`", agent.name),
            ),
        });
        together(looks.collect())
    };
    any.then(|| Check { name: "agents".into(), run: look.boxed() })
}

/// What is to be said of one agent alone.
pub(super) async fn one(data: &DataDir, config: &Config, agent: &AgentGroup) -> Finding {
    match Profile::load(&data.agent_config(&agent.folder), &config.containers) {
        Ok(profile) => {
            let verdicts = check_profiles(config, &[&profile]).await.unwrap_or_default();
            let refusal = verdicts.into_iter().next().and_then(Result::err);
            look(data, agent, &profile, refusal, config.runtime)
        }
        // Whoever has written it is told by then.
        Err(error) => Finding::ok(error.to_string()),
    }
}

/// What was found of each agent as one finding: all that is wrong, the worst first.
fn together(findings: Vec<Finding>) -> Finding {
    let count = findings.len();
    let (mut failed, mut doubtful) = (Vec::new(), Vec::new());
    for finding in findings {
        match finding {
            Finding::Ok { .. } => {}
            Finding::Warn { detail, help } => doubtful.push((detail, help)),
            Finding::Fail { detail, help } => failed.push((detail, help)),
        }
    }
    let fails = !failed.is_empty();
    let wrong: Vec<(String, String)> = failed.into_iter().chain(doubtful).collect();
    let details: Vec<&str> = wrong.iter().map(|(detail, _)| detail.as_str()).collect();
    let mut helps: Vec<&str> = wrong.iter().map(|(_, help)| help.as_str()).collect();
    helps.dedup();
    match (wrong.is_empty(), fails) {
        (true, _) => Finding::ok(format!("{count} with all that they need")),
        (false, true) => Finding::fail(details.join("; "), helps.join("; ")),
        (false, false) => Finding::warn(details.join("; "), helps.join("; ")),
    }
}

/// Why the program of an agent cannot be run, as far as that can be seen from here: what is in an image
/// is not.
pub(in super::super) fn cannot_run(
    config: &AgentConfig,
    program_folder: &Path,
    runtime: RuntimeKind,
) -> Option<String> {
    let word = config.provider.command().first()?;
    let is_image = runtime == RuntimeKind::Docker;
    let path = match (word.contains('/'), Path::new(word).is_absolute()) {
        (true, false) => program_folder.join(word),
        (_, true) if is_image => return None,
        (_, true) => Path::new(word).to_owned(),
        (false, false) if is_image => return None,
        (false, false) => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let mut found = std::env::split_paths(&path).map(|folder| folder.join(word));
            return match found.any(|candidate| runs(&candidate).is_ok()) {
                true => None,
                false => Some(format!("{word:?} is in no folder of PATH")),
            };
        }
    };
    runs(&path).err().map(|reason| format!("{} {reason}", path.display()))
}

/// Whether a file can be run.
fn runs(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("is missing".to_owned()),
        Err(error) => Err(format!("cannot be looked at: {error}")),
        Ok(meta) if !meta.is_file() => Err("is no file".to_owned()),
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => Err("is not executable".to_owned()),
        Ok(_) => Ok(()),
    }
}

/// What is to be said of one agent, with the runtime's `refusal` of its profile.
fn look(
    data: &DataDir,
    agent: &AgentGroup,
    profile: &Profile,
    refusal: Option<RuntimeError>,
    runtime: RuntimeKind,
) -> Finding {
    let (name, config) = (&agent.name, &profile.agent);
    let folders = AgentFolders {
        program: data.program_folder(&agent.folder),
        shared: data.group_folder(&agent.folder),
        access: config.shared_folder,
    };
    if let Err(reason) = folders.check() {
        return Finding::fail(format!("{name}: {reason}"), "until then it cannot start");
    }
    if let Some(RuntimeError::Start { reason }) = refusal {
        let help = format!("`twobox agents edit {name}`, unless you mend that");
        return Finding::fail(format!("{name}: {reason}"), help);
    }
    if let Some(Lack { what, help }) = profile.lacks_cli(data.root()) {
        return Finding::fail(format!("{name}: {what}"), help);
    }
    if let Err(reason) = profile.clone().with_folders(data.root()) {
        return Finding::fail(format!("{name}: {reason}"), format!("`twobox agents edit {name}`"));
    }
    if let Some(reason) = cannot_run(config, &folders.program, runtime) {
        let help = format!("`twobox agents put {name} FILE` or `twobox agents edit {name}`");
        return Finding::fail(format!("{name}: {reason}"), help);
    }
    if let Some(caution) = profile.caution.as_ref().filter(|caution| caution.unsafe_) {
        return Finding::warn(format!("{name}: {}", caution.what), caution.help.clone());
    }
    if let Some(word) = exposed(config, &folders.shared) {
        let detail = format!("{name}: every conversation can change {word}, which it runs");
        return Finding::warn(detail, EXPOSED_HELP);
    }
    let script = folders.program.join("script.json");
    if config.provider == Provider::Scripted && !script.is_file() {
        let detail = format!("{name}: {} is missing", script.display());
        return Finding::warn(detail, format!("`twobox agents edit {name} script.json`"));
    }
    Finding::ok(name)
}
