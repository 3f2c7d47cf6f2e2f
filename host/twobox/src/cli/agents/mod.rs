//! `twobox agents`: add, list, test, remove; `show` is beside, [`programs`](super::programs) has put and edit.

mod copy;
mod fields;
mod provider;
mod settings;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;
use twobox_shared::agent_config::{AgentConfig, Lifetime, Written};
use twobox_shared::bounds;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::content::Failure as Reason;
use twobox_shared::ids::SystemIds;
use twobox_shared::inbox::Destination;

use self::provider::Provider;
pub(super) use self::provider::{Wish, check_ways};
pub(super) use self::settings::{Settings, ask, is_claude, make_room, model_name};
use super::init::write_new;
use super::output::{Failure, table};
use super::schedules::announce;
use super::{Context, doctor, output, programs};
use twobox_app::trial::{self, Trial};
use twobox_config::{Config, Containers};
use twobox_gateway::Gateway;
use twobox_gateway::recording::Replay;
use twobox_runtime::Profile;
use twobox_runtime::profile::File;
use twobox_runtime::program::{self, Migrated};
use twobox_store::agents::{self, AgentGroup};
use twobox_store::messaging::SessionMode;
use twobox_system::data::DataDir;

/// What can be done with agents.
#[derive(Debug, Subcommand)]
pub(super) enum AgentsCommand {
    /// Add an agent with folders and a terminal of its own.
    Add {
        /// Its name: letters, digits, "-" and "_".
        name: String,
        /// What answers. With --model it is a model, and without anything an echo.
        #[arg(long, value_enum)]
        provider: Option<Provider>,
        /// One session for all, or one for each thread.
        #[arg(long, value_parser = session_mode(), default_value = "shared")]
        session_mode: SessionMode,
        /// How long the program lives: one `turn`, which is usual, or as long as the `runner`, which saves a
        /// start each time.
        #[arg(long, value_parser = lifetime)]
        lifetime: Option<Lifetime>,
        #[command(flatten)]
        settings: Settings,
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
    /// Put files or folders into an agent's program folder, in place of what has their names there.
    Put {
        /// Its name or id.
        name: String,
        /// What to copy.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Where to put a single one: a path in the program folder.
        #[arg(long = "as", value_name = "PATH")]
        target: Option<PathBuf>,
    },
    /// Change an agent's configuration, or a file of its program, in $VISUAL or $EDITOR, or set what the
    /// options say. It is checked before it counts.
    Edit {
        /// Its name or id.
        name: String,
        /// A path in the program folder; the configuration if left out.
        file: Option<PathBuf>,
        /// What is to answer in place of what does.
        #[arg(long, value_enum)]
        provider: Option<Provider>,
        /// How long the program of `--provider command` lives: one `turn`, or as long as the `runner`.
        #[arg(long, value_parser = lifetime)]
        lifetime: Option<Lifetime>,
        #[command(flatten)]
        settings: Settings,
        /// The program of `--provider command`, with its arguments.
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Set fields of an agent's configuration by their names.
    Set {
        /// Its name or id.
        name: String,
        /// Fields as they are in its file, with points between names: budget.usd_per_day=2, max_turns=50,
        /// tools.bash=deny, or provider=claude with model=UPSTREAM/MODEL. A value is JSON, or else a text; with nothing behind "=" the field is left out.
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = fields::field)]
        fields: Vec<fields::Field>,
    },
    /// Make another agent with the program and the configuration of one that is there. Conversations,
    /// the shared folder, schedules and wirings are not copied.
    Copy {
        /// The name or id of the one that is there.
        from: String,
        /// The name of the new one.
        to: String,
    },
    /// Have an agent answer one message outside of any conversation, and show what happens. Nothing is
    /// delivered and no request carried out; what it does to its shared folder is done.
    Test {
        /// Its name or id.
        name: String,
        /// What to say.
        #[arg(default_value = "hello")]
        text: String,
        /// Write what its models answer to this new file.
        #[arg(long, value_name = "FILE", conflicts_with = "replay")]
        record: Option<PathBuf>,
        /// Answer its requests from this recording: no model is asked, and none has to be paid.
        #[arg(long, value_name = "FILE")]
        replay: Option<PathBuf>,
    },
    /// Remove an agent. Its sessions are closed: what waits in them is given up, and tasks end. Its folders,
    /// its configuration and the files of its sessions stay on disk.
    Remove {
        /// Its name or id.
        name: String,
    },
}

/// The words are those in the configuration.
fn lifetime(word: &str) -> Result<Lifetime, String> {
    match word {
        "turn" => Ok(Lifetime::Turn),
        "runner" => Ok(Lifetime::Runner),
        _ => Err("use turn or runner".to_owned()),
    }
}

/// The words are those in the database.
pub(super) fn session_mode() -> impl TypedValueParser<Value = SessionMode> {
    let words = SessionMode::ALL.iter().map(|mode| mode.as_str());
    PossibleValuesParser::new(words)
        .map(|word| SessionMode::parse(&word).expect("the parser lets no other word through"))
}

pub(super) fn run(context: &Context, command: AgentsCommand) -> Result<ExitCode, Failure> {
    match command {
        AgentsCommand::Add { name, provider, session_mode, lifetime, settings, command } => {
            let mut file = File::of(&AgentConfig::default());
            file.provider = None;
            let models = settings.models().to_vec();
            Wish { provider, models, lifetime, command }.put(&mut file)?;
            settings.check_models(context)?;
            settings.begin(&mut file, &config(context))?;
            add(context, &name, session_mode, &file)
        }
        AgentsCommand::List => list(context),
        AgentsCommand::Show { name } => show::show(context, &name),
        AgentsCommand::Put { name, files, target } => {
            programs::put(context, &name, &files, target.as_deref())
        }
        AgentsCommand::Edit { name, file, provider, lifetime, settings, command } => {
            let wish = Wish { provider, models: settings.models().to_vec(), lifetime, command };
            match (file, wish.is_empty() && settings.is_empty()) {
                (file, true) => programs::edit(context, &name, file.as_deref()),
                (None, false) => programs::set(context, &name, wish, settings),
                (Some(_), false) => {
                    let help = "a file of the program has no such options: leave one of them out";
                    Err(Failure::usage(help))
                }
            }
        }
        AgentsCommand::Set { name, fields } => fields::set(context, &name, &fields),
        AgentsCommand::Copy { from, to } => copy::copy(context, &from, &to),
        AgentsCommand::Test { name, text, record, replay } => {
            super::in_tokio(test(context, &name, &text, record, replay))
        }
        AgentsCommand::Remove { name } => remove(context, &name),
    }
}

async fn test(
    context: &Context,
    name: &str,
    text: &str,
    record: Option<PathBuf>,
    replay: Option<PathBuf>,
) -> Result<ExitCode, Failure> {
    if let Some(file) = record.as_deref().filter(|file| file.symlink_metadata().is_ok()) {
        let there = format!("{} is there already: name another file", file.display());
        return Err(Failure::usage(there));
    }
    bounds::MESSAGE
        .check("the text", text.len())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let (data, store) = context.open_store()?;
    let agent = store.agents().find(name).wait()?;
    let places = store.wirings().addresses_of(agent.id).wait()?;
    let places = places.into_iter().map(|place| Destination {
        name: place.name,
        channel_type: place.channel_type,
        platform_id: place.platform_id,
    });
    let (config, _) = context.load_config(&data.config())?;
    let gateway = Gateway::of(&config, &data, &context.env, store, Arc::new(SystemClock))?;
    if let Some(file) = replay {
        gateway.replay(Replay::read(&file)?);
    }
    let ground =
        trial::Ground { config: &config, data: &data, gateway: &gateway, recording: record };
    let trial =
        trial::run(ground, &agent, places.collect(), text, &SystemIds, &SystemClock).await?;
    context
        .output
        .show(&json!({ "trial": trial }), |_| output::lines(&trial_lines(&agent.name, &trial)));
    Ok(if trial.answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn trial_lines(name: &str, trial: &Trial) -> Vec<String> {
    let took = humantime::format_duration(Duration::from_millis(trial.took_ms));
    let turns = trial.turns.filter(|turns| *turns > 0);
    let turns = turns.map(|turns| format!(", {turns} model turns")).unwrap_or_default();
    let mut lines = vec![match (&trial.failure, trial.answered) {
        (_, true) => format!("{name} answered within {took}{turns}"),
        (Some(failure), false) => {
            let again = match failure.retryable {
                true => "in a chat it would be tried again",
                false => "in a chat it would not be tried again as it is",
            };
            let Reason { reason, detail, .. } = failure;
            format!("{name} failed after {took}{turns}: {reason}: {detail} ({again})")
        }
        (None, false) => format!("{name} did nothing: its runner ended after {took}"),
    }];
    for said in &trial.said {
        lines.push(match (&said.to, said.request) {
            (_, true) => format!("request  {}", said.text),
            (Some(to), false) => format!("to {to}: {}", said.text),
            (None, false) => format!("reply    {}", said.text),
        });
        lines.extend(said.files.iter().map(|file| format!("file     {file}")));
    }
    lines.extend(trial.log.iter().map(|line| format!("log      {line}")));
    lines
}

fn add(context: &Context, name: &str, mode: SessionMode, file: &File) -> Result<ExitCode, Failure> {
    let containers = containers(context);
    Profile::of(file.clone(), &containers)
        .map_err(|mistake| Failure::usage(mistake.replacen("command: ", "", 1)))?;
    agents::check_name(name).map_err(|error| Failure::usage(error.to_string()))?;
    let (data, store) = context.open_store()?;
    let agent = store.agents().add(name, mode, &SystemIds, SystemClock.now()).wait()?;
    let Made { config: fresh, migrated } = make_files(&data, &agent, file)?;
    let kept = !fresh;
    let folder = data.group_folder(&agent.folder);
    let program = data.program_folder(&agent.folder);
    let config_file = data.agent_config(&agent.folder);
    let migrated = migrated.map(|migrated| migrated.to_string());
    let answer = json!({
        "agent": agent, "folder": folder, "program": program, "config_file": config_file,
        "kept_configuration": kept, "migrated": migrated,
    });
    context.output.show(&answer, |_| {
        let kept = if kept { ", which was there and stays as it is" } else { "" };
        let (program, folder) = (program.display(), folder.display());
        let file = config_file.display();
        let added = format!(
            "added {name}, program {program}, shared folder {folder}, configuration {file}{kept}"
        );
        match &migrated {
            None => added,
            Some(migrated) => format!("{added}\n{}", told(name, migrated)),
        }
    });
    doctor::tell_of(context, &data, store, &agent);
    Ok(ExitCode::SUCCESS)
}

/// What `[containers]` says, or would by default, where nobody can read it: that is for `doctor`.
pub(super) fn containers(context: &Context) -> Containers {
    config(context).containers
}

/// What twobox.toml says, or would by default.
pub(super) fn config(context: &Context) -> Config {
    let path = context.data.join("twobox.toml");
    context.load_config(&path).map_or_else(|_| Config::default(), |(config, _)| config)
}

/// What [`make_files`] has made.
pub(super) struct Made {
    /// Whether the configuration was written.
    pub(super) config: bool,
    /// What the program folder was made of, where an older build had none.
    pub(super) migrated: Option<Migrated>,
}

/// What to say about a program that was taken over.
pub(super) fn told(agent: &str, migrated: &str) -> String {
    format!(
        "its program folder was made of what its conversations could write: {migrated}: look \
         whether {agent}'s program is as it should be"
    )
}

/// Makes the agent's folders and its configuration, if they are not there.
pub(super) fn make_files(
    data: &DataDir,
    agent: &AgentGroup,
    config: &File,
) -> Result<Made, Failure> {
    use std::os::unix::fs::DirBuilderExt;
    for folder in [data.group_folder(&agent.folder), data.agents()] {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(
            |error| Failure::new(format!("could not create {}: {error}", folder.display())),
        )?;
    }
    let file = data.agent_config(&agent.folder);
    let written = write_new(&file, &config.text())?;
    let has_instructions = config.provider.as_ref().is_some_and(
        |provider| matches!(provider, Written::Object(kind) if !kind.models().is_empty()),
    );
    // A mistake in it has to be mended first: what is taken over depends on it.
    let config = File::load(&file).map_err(|error| error.to_string());
    let migrated = match config.and_then(|config| config.agent()) {
        Ok(config) => {
            let (programs, shared) = (data.programs(), data.group_folder(&agent.folder));
            program::migrate(&programs, &agent.folder, &shared, &config)?
        }
        Err(_) => None,
    };
    if written && has_instructions {
        begin_instructions(data, agent)?;
    }
    Ok(Made { config: written, migrated })
}

/// The instructions that an agent of a model begins with that has none, for a person to change.
pub(super) fn begin_instructions(data: &DataDir, agent: &AgentGroup) -> Result<(), Failure> {
    let target = Path::new("AGENTS.md");
    for known in [target, Path::new("CLAUDE.md")] {
        if program::read(&data.programs(), &agent.folder, known)?.is_some() {
            return Ok(());
        }
    }
    let text = format!(
        "# {}\n\nYou are {}. Answer briefly, and say so when you do not know something.\n",
        agent.name, agent.name
    );
    Ok(program::write(&data.programs(), &agent.folder, target, text.as_bytes())?)
}

fn list(context: &Context) -> Result<ExitCode, Failure> {
    let (_, store) = context.look_store()?;
    let agents = store.agents().list().wait()?;
    context.output.show(&json!({ "agents": agents }), |_| {
        let rows: Vec<_> = agents
            .iter()
            .map(|agent| [agent.name.clone(), agent.id.to_string(), agent.created_at.to_string()])
            .collect();
        match rows.is_empty() {
            true => context.output.advise("no agents yet: `twobox agents add NAME` makes one"),
            false => table(["NAME", "ID", "ADDED"], &rows),
        }
    });
    Ok(ExitCode::SUCCESS)
}

fn remove(context: &Context, name: &str) -> Result<ExitCode, Failure> {
    let (data, store) = context.open_store()?;
    let agent = store.agents().remove(name, SystemClock.now()).wait()?;
    drop(store);
    super::in_tokio(announce(context))?;
    let folder = data.group_folder(&agent.folder);
    let program = data.program_folder(&agent.folder);
    let file = data.agent_config(&agent.folder);
    let answer =
        json!({ "removed": agent, "folder": folder, "program": program, "config_file": file });
    context.output.show(&answer, |_| {
        let (name, folder, file) = (&agent.name, folder.display(), file.display());
        let program = program.display();
        format!(
            "removed {name}: its sessions are closed, its tasks over and its schedules paused; its folders \
             {program} and {folder} and its configuration {file} stay"
        )
    });
    Ok(ExitCode::SUCCESS)
}
