//! `twobox agents`: add, list, show, remove.

use std::process::ExitCode;

use clap::builder::PossibleValue;
use clap::{Subcommand, ValueEnum};
use serde_json::json;
use twobox_shared::agent_config::{AgentConfig, ProviderKind};
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::ids::SystemIds;

use super::Context;
use super::init::write_new;
use super::output::{Failure, printable, table};
use crate::data::DataDir;
use crate::db::agents::{self, AgentGroup};
use crate::db::messaging::{self, SessionMode};
use crate::db::overview;

/// What can be done with agents.
#[derive(Debug, Subcommand)]
pub(super) enum AgentsCommand {
    /// Add an agent with a folder and a terminal of its own.
    Add {
        /// Its name: letters, digits, "-" and "_".
        name: String,
        /// What answers.
        #[arg(long, value_enum, default_value_t = Provider::Echo)]
        provider: Provider,
        /// One session for all, or one for each thread.
        #[arg(long, value_enum, default_value_t)]
        session_mode: SessionMode,
        /// The program of `--provider command`, with its arguments.
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// List all agents.
    List,
    /// Show one agent.
    Show {
        /// Its name or id.
        name: String,
    },
    /// Remove an agent. Its folder, its configuration and its sessions stay on disk.
    Remove {
        /// Its name or id.
        name: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Provider {
    Echo,
    Scripted,
    Command,
}

/// The words are those in the database.
impl ValueEnum for SessionMode {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Shared, Self::PerThread]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

pub(super) fn run(context: &Context, command: AgentsCommand) -> Result<ExitCode, Failure> {
    match command {
        AgentsCommand::Add { name, provider, session_mode, command } => {
            let config = AgentConfig {
                provider: match provider {
                    Provider::Echo => ProviderKind::Echo,
                    Provider::Scripted => ProviderKind::Scripted,
                    Provider::Command => ProviderKind::Command,
                },
                command,
                ..AgentConfig::default()
            };
            add(context, &name, session_mode, &config)
        }
        AgentsCommand::List => list(context),
        AgentsCommand::Show { name } => show(context, &name),
        AgentsCommand::Remove { name } => remove(context, &name),
    }
}

fn add(
    context: &Context,
    name: &str,
    mode: SessionMode,
    config: &AgentConfig,
) -> Result<ExitCode, Failure> {
    config.check().map_err(|mistake| Failure::usage(mistake.replacen("command: ", "", 1)))?;
    agents::check_name(name).map_err(|error| Failure::usage(error.to_string()))?;
    let (data, mut db) = context.open_db()?;
    let agent = agents::add(&mut db, name, mode, &SystemIds, SystemClock.now())?;
    let kept = !make_files(&data, &agent, config)?;
    let folder = data.group_folder(&agent.folder);
    let file = data.agent_config(&agent.folder);
    let answer = json!({
        "agent": agent, "folder": folder, "config_file": file, "kept_configuration": kept,
    });
    context.output.show(&answer, |_| {
        let kept = if kept { ", which was there and stays as it is" } else { "" };
        let (folder, file) = (folder.display(), file.display());
        format!("added {name}, folder {folder}, configuration {file}{kept}")
    });
    Ok(ExitCode::SUCCESS)
}

/// Makes the agent's folders and its configuration, if they are not there. Returns whether the
/// configuration was written.
pub(super) fn make_files(
    data: &DataDir,
    agent: &AgentGroup,
    config: &AgentConfig,
) -> Result<bool, Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let folders =
        [data.group_folder(&agent.folder), data.program_folder(&agent.folder), data.agents()];
    for folder in folders {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(
            |error| Failure::new(format!("could not create {}: {error}", folder.display())),
        )?;
    }
    let text = serde_json::to_string_pretty(config).expect("words and numbers serialise");
    write_new(&data.agent_config(&agent.folder), &format!("{text}\n"))
}

fn list(context: &Context) -> Result<ExitCode, Failure> {
    let (_, db) = context.open_db()?;
    let agents = agents::list(&db)?;
    context.output.show(&agents, |agents| {
        let rows: Vec<_> = agents
            .iter()
            .map(|agent| [agent.name.clone(), agent.id.to_string(), agent.created_at.to_string()])
            .collect();
        match rows.is_empty() {
            true => "no agents yet: `twobox agents add NAME` makes one".to_owned(),
            false => table(["NAME", "ID", "ADDED"], &rows),
        }
    });
    Ok(ExitCode::SUCCESS)
}

fn show(context: &Context, name: &str) -> Result<ExitCode, Failure> {
    let (data, db) = context.open_db()?;
    let agent = agents::find(&db, name)?;
    let folder = data.group_folder(&agent.folder);
    let file = data.agent_config(&agent.folder);
    let config = AgentConfig::load(&file);
    let places = messaging::places_of(&db, agent.id)?;
    let sessions = overview::sessions(&db, Some(agent.id))?.len();
    let answer = json!({
        "agent": agent, "folder": folder, "config_file": file, "config": config.as_ref().ok(),
        "config_error": config.as_ref().err().map(ToString::to_string),
        "places": places, "sessions": sessions,
    });
    context.output.show(&answer, |_| {
        let mut lines = vec![
            format!("name      {}", agent.name),
            format!("id        {}", agent.id),
            format!("folder    {}", folder.display()),
            format!("config    {}", file.display()),
            match &config {
                Ok(config) => {
                    let word = format!("{:?}", config.provider).to_lowercase();
                    format!("provider  {word} {}", config.command.join(" "))
                }
                Err(error) => format!("provider  unknown: {error}"),
            },
            format!("sessions  {sessions}"),
        ];
        lines.extend(places.iter().map(|place| {
            let mode = place.mode.as_str();
            format!("listens   {} {} ({mode})", place.channel_type, place.platform_id)
        }));
        printable(&lines.join("\n"))
    });
    Ok(ExitCode::SUCCESS)
}

fn remove(context: &Context, name: &str) -> Result<ExitCode, Failure> {
    let (data, mut db) = context.open_db()?;
    let agent = agents::remove(&mut db, name, SystemClock.now())?;
    let folder = data.group_folder(&agent.folder);
    let file = data.agent_config(&agent.folder);
    let answer = json!({ "removed": agent, "folder": folder, "config_file": file });
    context.output.show(&answer, |_| {
        let (name, folder, file) = (&agent.name, folder.display(), file.display());
        format!("removed {name}; its folder {folder} and its configuration {file} stay")
    });
    Ok(ExitCode::SUCCESS)
}
