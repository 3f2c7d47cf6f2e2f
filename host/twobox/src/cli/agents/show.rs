//! `twobox agents show`: where an agent's folders are, and how it runs.

use std::process::ExitCode;

use serde_json::json;
use twobox_shared::agent_config::SharedFolder;

use super::containers;
use crate::cli::Context;
use crate::cli::doctor::cannot_run;
use crate::cli::output::{self, Failure, printable};
use twobox_runtime::Profile;

pub(super) fn show(context: &Context, name: &str) -> Result<ExitCode, Failure> {
    let (data, store) = context.look_store()?;
    let agent = store.agents().find(name).wait()?;
    let folder = data.group_folder(&agent.folder);
    let program = data.program_folder(&agent.folder);
    let file = data.agent_config(&agent.folder);
    let profile = Profile::load(&file, &containers(context));
    let config = profile.as_ref().map(|profile| &profile.agent);
    let places = store.wirings().addresses_of(agent.id).wait()?;
    let sessions = store.sessions().list(Some(agent.id)).wait()?.len();
    let own = data.sessions().join(agent.id.to_string());
    // What an image holds, and whether the settings can be read, is for `doctor`.
    let runtime = context.load_config(&data.config()).ok().map(|(config, _)| config.runtime);
    let trouble = match (&config, runtime) {
        (Ok(config), Some(runtime)) => cannot_run(config, &program, runtime),
        _ => None,
    };
    let answer = json!({
        "agent": agent, "folder": folder, "program": program, "config_file": file,
        "config": config.as_ref().ok(),
        "profile": profile.as_ref().ok().map(Profile::shown),
        "config_error": profile.as_ref().err().map(ToString::to_string),
        "trouble": trouble, "places": places, "sessions": sessions,
    });
    context.output.show(&answer, |_| {
        let mut lines = vec![
            format!("name      {}", agent.name),
            format!("id        {}", agent.id),
            format!("config    {}", file.display()),
            format!(
                "program   {}: what the agent is; conversations only read it",
                program.display()
            ),
            format!(
                "shared    {}: {}",
                folder.display(),
                match &config {
                    Ok(config) => shared_means(config.shared_folder),
                    Err(_) => "as the configuration says",
                }
            ),
            format!("own       {}/ID/work of each conversation", own.display()),
            format!("sessions  {sessions}"),
        ];
        if let Err(error) = &profile {
            lines.push(format!("runs      nobody knows how: {}", printable(&error.to_string())));
        }
        if let Some(trouble) = &trouble {
            let name = &agent.name;
            lines.push(context.output.advise(&format!(
                "trouble   {trouble}: `twobox agents put {name} FILE` or `twobox agents edit {name}`"
            )));
        }
        lines.extend(profile.iter().flat_map(how_it_runs));
        lines.extend(places.iter().map(|it| {
            format!("listens   {} {} ({})", it.channel_type, it.platform_id, it.mode.as_str())
        }));
        output::lines(&lines)
    });
    Ok(ExitCode::SUCCESS)
}

fn how_it_runs(profile: &Profile) -> impl Iterator<Item = String> {
    profile.shown().into_iter().map(|it| {
        let default = if it.own { "" } else { " (default)" };
        format!("runs      {} = {}{default}", it.name, printable(&it.value))
    })
}

/// What a conversation may do with the shared folder.
fn shared_means(access: SharedFolder) -> &'static str {
    match access {
        SharedFolder::Rw => "each conversation may write it, and reads what the others left (rw)",
        SharedFolder::Ro => "conversations only read it (ro)",
        SharedFolder::None => "no conversation sees it (none)",
    }
}
