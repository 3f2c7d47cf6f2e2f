//! The command line: what can be asked, and how answers and errors are printed.
//!
//! Each command is a module. Commands that look or arrange work on `host.db` and the session files
//! directly, with or without a daemon; commands that need it talk to its socket.

mod agents;
mod approvals;
mod channels;
mod chat;
mod client;
mod conversation;
mod dead;
mod doctor;
mod fsck;
mod hidden;
mod identity;
mod init;
mod models;
mod output;
mod people;
mod programs;
mod schedules;
mod secrets;
mod select;
mod send;
mod sessions;
mod status;
mod tail;
mod tasks;
mod token;
mod up;
mod usage;
mod wire;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use twobox_shared::agent_config::ModelName;
use twobox_shared::errors::chain;

use crate::inherited;
use crate::logging::LogFormat;
use twobox_app::place;
use twobox_config::{Config, RuntimeKind};
use twobox_model::dead_letter::Verb;
use twobox_store::Store;
use twobox_system::data::DataDir;
use twobox_system::owner;

pub use doctor::{Check, Finding};
pub use output::{Failure, Output};

/// A host daemon for agents that live in chat.
#[derive(Debug, Parser)]
#[command(name = "twobox", version, propagate_version = true)]
struct Arguments {
    /// The data directory.
    #[arg(long, global = true, env = "TWOBOX_DATA", default_value = "./data", value_name = "DIR")]
    data: PathBuf,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a data directory with a first agent. Changes nothing that is there already.
    Init {
        /// What is to run the agents; without it, Docker if a container starts, else sandboxes.
        #[arg(long, value_parser = runtime_kind, conflicts_with_all = ["moved", "copy"])]
        runtime: Option<RuntimeKind>,
        /// The model that answers for the first agent, as UPSTREAM/MODEL; without it, an echo does.
        #[arg(long, value_name = "UPSTREAM/MODEL", value_parser = agents::model_name,
              conflicts_with_all = ["moved", "copy"])]
        model: Option<ModelName>,
        /// The directory was moved or restored here, and the old one is gone.
        #[arg(long, conflicts_with = "copy")]
        moved: bool,
        /// The directory is a copy, and the original goes on: make an installation of its own of it.
        /// Schedules and tasks are paused; what was not answered or delivered is held.
        #[arg(long)]
        copy: bool,
        /// With --copy: although the directory seems to be where it was.
        #[arg(long, requires = "copy")]
        force: bool,
    },
    /// Run the daemon.
    Up {
        /// How log lines look.
        #[arg(long, value_enum, default_value_t, env = "TWOBOX_LOG_FORMAT")]
        log_format: LogFormat,
    },
    /// Show how the daemon is.
    Status {
        /// Show the token of the HTTP API instead, as `token show` does.
        #[arg(long)]
        token: bool,
    },
    /// The token of the HTTP API: show, renew.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Check everything that the daemon needs, and say what to do.
    Doctor,
    /// Talk to an agent.
    Chat(chat::ChatArguments),
    /// Send one message to an agent.
    Send(send::SendArguments),
    /// Agents: add, list, show, put, edit, remove.
    #[command(subcommand)]
    Agents(agents::AgentsCommand),
    /// Ways in and out: list, show, test, add, disable, enable, remove.
    #[command(subcommand)]
    Channels(channels::ChannelsCommand),
    /// Who listens to which chat: add, list, remove.
    #[command(subcommand)]
    Wire(wire::WireCommand),
    /// Sessions: list, show, tail, tasks, retry, fsck.
    #[command(subcommand)]
    Sessions(sessions::SessionsCommand),
    /// Standing orders: add, list, show, edit, run, cancel, pause, resume, remove, runs, metrics,
    /// backfill.
    #[command(subcommand)]
    Schedules(schedules::SchedulesCommand),
    /// What agents ask of people: list, show, approve, deny, answer.
    #[command(subcommand)]
    Approvals(approvals::ApprovalsCommand),
    /// Who is heard and may do what: list, show, pair, grant, revoke, block, unblock, forget, claim-code.
    #[command(subcommand)]
    People(people::PeopleCommand),
    /// What agents have put off for later: list, cancel, pause, resume.
    #[command(subcommand)]
    Tasks(tasks::TasksCommand),
    /// What upstreams want to see before they answer: set, list, remove.
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// Show what agents had models do, and what it cost.
    Usage(usage::UsageArguments),
    /// List the models that an upstream offers, which tries its key and costs nothing.
    Models(models::ModelsArguments),
    /// What ended without success: list, show, redrive, drop.
    #[command(subcommand)]
    Dead(dead::DeadCommand),
}

fn runtime_kind(word: &str) -> Result<RuntimeKind, String> {
    RuntimeKind::parse(word).ok_or_else(|| "use docker, sandbox or process".to_owned())
}

/// A number of seconds, as `--wait` takes it.
fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "use a number of seconds, at most 86400".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    match (0.0..=86_400.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(wrong()),
    }
}

/// What every command is given.
#[derive(Debug, Clone)]
struct Context {
    data: PathBuf,
    /// Whom root has become, because the data directory is theirs.
    became: Option<u32>,
    output: Output,
    env: BTreeMap<String, String>,
}

impl Context {
    /// The data directory, which must have been initialised.
    fn open_data(&self) -> Result<DataDir, Failure> {
        Ok(DataDir::open(&self.data)?)
    }

    /// The data directory and a connection to its `host.db`, to change something. Refused where the
    /// directory is not where its host left it.
    fn open_store(&self) -> Result<(DataDir, Store), Failure> {
        let data = self.open_data()?;
        let store = Store::open(&data.host_db())?;
        place::confirm(&store, &data)?;
        Ok((data, store))
    }

    /// The same, to look at something: there a word of warning is enough.
    fn look_store(&self) -> Result<(DataDir, Store), Failure> {
        let data = self.open_data()?;
        let store = Store::open(&data.host_db())?;
        self.warn_elsewhere(&store, &data);
        Ok((data, store))
    }

    fn warn_elsewhere(&self, store: &Store, data: &DataDir) {
        if let Err(error) = place::confirm(store, data) {
            self.output.warn(&chain(&error));
        }
    }

    fn load_config(&self, path: &Path) -> Result<(Config, Vec<String>), Failure> {
        Ok(Config::load(path, &self.env)?)
    }
}

/// Runs the program that the process was started as. Exit codes: 0 ok, 1 failed, 2 usage, 3 timed
/// out, 78 a host that a person has to mend first.
pub fn main() -> ExitCode {
    twobox_shared::private::close_new_files();
    inherited::keep_to_ourselves();
    let parsed = Arguments::command().try_get_matches().and_then(|matches| {
        let given = matches.value_source("data") == Some(ValueSource::CommandLine);
        Ok((Arguments::from_arg_matches(&matches)?, given))
    });
    let (arguments, given) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error, std::env::args_os().skip(1)),
    };
    let output = Output::new(arguments.json, given.then_some(&*arguments.data));
    let log = match &arguments.command {
        Command::Up { log_format } => *log_format,
        _ => LogFormat::Text,
    };
    let report = |failure: &Failure| match log {
        LogFormat::Text => failure.report(output),
        // Whoever reads the log as JSON reads why it ends there, too.
        LogFormat::Json => failure.log(output),
    };
    // Variables that are not text cannot be overrides of ours.
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    // Root becomes the directory's owner before anything is looked at.
    let became = match owner::become_owner(&arguments.data) {
        Ok(became) => became,
        Err(error) => {
            let place = arguments.data.display();
            let reason = format!(
                "{place} is another user's, and root cannot become that user here ({error}): run \
                 twobox as that user, or give root a directory of its own"
            );
            let failure = match arguments.command {
                Command::Up { .. } => Failure::configuration(reason),
                _ => Failure::new(reason),
            };
            return report(&failure);
        }
    };
    let context = Context { data: arguments.data, became, output, env };
    match run(arguments.command, &context) {
        Ok(code) => code,
        Err(failure) => report(&failure),
    }
}

fn run(command: Command, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        Command::Up { log_format } => up::run(context, log_format),
        Command::Agents(command) => agents::run(context, command),
        Command::Schedules(command) => schedules::run(context, command),
        Command::Approvals(command) => approvals::run(context, command),
        Command::Tasks(command) => tasks::all(context, command),
        Command::Channels(command) => in_tokio(channels::run(context, command)),
        Command::People(command) => people::run(context, command),
        Command::Wire(command) => wire::run(context, &command),
        Command::Secrets(command) => secrets::run(context, &command),
        Command::Usage(arguments) => usage::run(context, arguments),
        Command::Models(arguments) => in_tokio(models::run(context, arguments)),
        Command::Sessions(sessions::SessionsCommand::List { agent, runs }) => {
            sessions::list(context, agent.as_deref(), runs)
        }
        Command::Sessions(sessions::SessionsCommand::Show { id }) => sessions::show(context, &id),
        Command::Sessions(sessions::SessionsCommand::Tail { id, number, follow }) => {
            tail::run(context, &id, number, follow)
        }
        Command::Sessions(sessions::SessionsCommand::Tasks { id }) => tasks::run(context, &id),
        Command::Sessions(sessions::SessionsCommand::Fsck { rebuild: true, .. }) => {
            fsck::rebuild(context)
        }
        Command::Sessions(sessions::SessionsCommand::Fsck { id, repair, rebuild: false }) => {
            fsck::run(context, id.as_deref(), repair)
        }
        Command::Dead(dead::DeadCommand::List { session, each }) => {
            dead::list(context, session.as_deref(), each)
        }
        Command::Dead(dead::DeadCommand::Show { session, id }) => {
            dead::show(context, &session, &id)
        }
        // The rest talks to the daemon or to a container engine.
        Command::Init { moved: true, .. } => identity::moved(context),
        Command::Init { copy: true, force, .. } => identity::copy(context, force),
        Command::Init { runtime, model, .. } => in_tokio(init::run(context, runtime, model)),
        Command::Dead(dead::DeadCommand::Redrive { session, ids, kind, all }) => {
            let which = dead::Which { kind, ids: (!all).then_some(ids) };
            in_tokio(dead::order(context, Verb::Redrive, &session, which))
        }
        Command::Dead(dead::DeadCommand::Drop { session, ids, kind }) => {
            let which = dead::Which { kind, ids: Some(ids) };
            in_tokio(dead::order(context, Verb::Drop, &session, which))
        }
        Command::Sessions(sessions::SessionsCommand::Retry { id, message }) => {
            in_tokio(sessions::retry(context, &id, message))
        }
        Command::Sessions(sessions::SessionsCommand::Restart { id }) => {
            in_tokio(sessions::restart(context, &id))
        }
        Command::Status { token: true } => token::show(context),
        Command::Token(command) => token::run(context, &command),
        Command::Status { token: false } => in_tokio(status::run(context)),
        Command::Doctor => in_tokio(doctor::run(context)),
        Command::Chat(arguments) => in_tokio(chat::run(context, arguments)),
        Command::Send(arguments) => in_tokio(send::run(context, arguments)),
    }
}

/// Runs a client: one thread is enough.
fn in_tokio<T>(client: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("could not start the client: {error}")))?
        .block_on(client)
}

/// Help and version are answers; anything else is a mistake in the command line, told as JSON to
/// whoever asked for that anywhere in `arguments`: they could not be read as a whole.
fn usage(error: &clap::Error, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let json = arguments.take_while(|word| word != "--").any(|word| word == "--json");
    match json && !is_answer {
        // What clap advises after the first lines is for people.
        true => {
            let text = error.render().to_string();
            let reason = text.split("\n\n").next().unwrap_or_default();
            let words: Vec<&str> = reason.split_whitespace().collect();
            let sentence = words.join(" ");
            let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
            Output::new(true, None).complain(sentence);
        }
        // The streams may be closed; there is nobody left to tell.
        false => drop(error.print()),
    }
    if is_answer { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
