//! `twobox schedules`: add, list, show, edit, run, cancel, pause, resume, remove, runs, metrics,
//! backfill. What they mean is the schedule service's to say; here it is asked for and printed.

mod advice;
mod now;
mod order;
pub(super) use order::{announce, carry_out as ask_host};
mod said;
mod text;

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::errors::chain;
use twobox_shared::ids::{RunId, ScheduleId, SystemIds};
use twobox_shared::time::UnixMillis;

use super::output::{Failure, printable};
use super::{Context, in_tokio};
use said::{AddArguments, EditArguments};
use twobox_config as config;
use twobox_schedule::service::{self, Draft, MEND, Mistake, ServiceError};
use twobox_system::data::DataDir;

/// What can be done with schedules.
#[derive(Debug, Subcommand)]
pub(super) enum SchedulesCommand {
    /// Have an agent told something again and again, or once.
    Add(Box<AddArguments>),
    /// List schedules, one line each.
    List {
        /// Only those of this agent.
        #[arg(long)]
        agent: Option<String>,
    },
    /// Show what a schedule will do and did, and why something was not run.
    Show {
        /// Its name or id.
        name: String,
    },
    /// Change a schedule. What is not said stays.
    Edit(Box<EditArguments>),
    /// Run a schedule now, paused or not. Its times stay what they are. Needs the running host.
    Run {
        /// Its name or id.
        name: String,
        /// Run it although as many runs go on as may; this is written down.
        #[arg(long)]
        force: bool,
    },
    /// End a run that waits or goes on. Needs the running host.
    Cancel {
        /// Its id, as `twobox schedules runs` shows it.
        run: RunId,
    },
    /// Let nothing of a schedule start until it is resumed. What runs goes on.
    Pause {
        /// Its name or id.
        name: String,
        /// Why, for whoever looks at it; "-" reads it from standard input.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let a paused schedule go on from now. What came meanwhile is not run.
    Resume {
        /// Its name or id.
        name: String,
    },
    /// Remove a schedule, and what waits for its turn. What runs goes on.
    Remove {
        /// Its name or id.
        name: String,
    },
    /// List runs and slots that were left out, the newest first.
    Runs {
        /// The schedule's name or id; all without it.
        name: Option<String>,
        /// Only what was made before this run: the last one of the page before.
        #[arg(long, value_name = "RUN")]
        before: Option<RunId>,
        /// How many at most.
        #[arg(long, short = 'n', default_value_t = 20)]
        limit: u32,
    },
    /// List what runs cost, those that ended last first.
    Metrics {
        /// The schedule's name or id; all without it.
        name: Option<String>,
        /// Only runs that ended then or later: as --at takes it, or so long ago, like 12h. Without it,
        /// those of the last 30 days.
        #[arg(long, value_name = "T")]
        since: Option<String>,
        /// Only what comes after this run: the last one of the page before.
        #[arg(long, value_name = "RUN")]
        before: Option<RunId>,
        /// How many at most.
        #[arg(long, short = 'n', default_value_t = 1000)]
        limit: u32,
    },
    /// Run slots of the past after all, except those that have a run.
    Backfill {
        /// Its name or id.
        name: String,
        /// The first instant: as --at takes it, or so long ago, like 12h.
        #[arg(long, value_name = "T")]
        from: String,
        /// The last instant, in the same way; now without it.
        #[arg(long, value_name = "T")]
        to: Option<String>,
    },
}

/// How far back `metrics` looks.
const RECENT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl SchedulesCommand {
    /// Whether a host that is up has to see what it did.
    fn changes(&self) -> bool {
        match self {
            Self::Add(_)
            | Self::Edit(_)
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Remove { .. }
            | Self::Backfill { .. } => true,
            Self::List { .. }
            | Self::Show { .. }
            | Self::Run { .. }
            | Self::Cancel { .. }
            | Self::Runs { .. }
            | Self::Metrics { .. } => false,
        }
    }
}

pub(super) fn run(context: &Context, command: SchedulesCommand) -> Result<ExitCode, Failure> {
    let changes = command.changes();
    let code = carry_out(context, command)?;
    if changes {
        in_tokio(announce(context))?;
    }
    Ok(code)
}

fn carry_out(context: &Context, command: SchedulesCommand) -> Result<ExitCode, Failure> {
    match command {
        SchedulesCommand::Add(arguments) => add(context, &arguments)?,
        SchedulesCommand::Edit(arguments) => edit(context, &arguments)?,
        SchedulesCommand::Run { name, force } => {
            let (_, store) = context.look_store()?;
            let run = in_tokio(order::execute(context, name, force))?;
            let run = service::run(&store, &run.to_string()).map_err(told)?;
            context.output.show(&run, text::started);
        }
        SchedulesCommand::Cancel { run } => {
            let answer = in_tokio(order::cancel(context, run))?;
            context.output.show(&answer, |answer| {
                format!("run {run}: {}", answer["outcome"].as_str().unwrap_or_default())
            });
        }
        SchedulesCommand::List { agent } => {
            let (_, store) = context.look_store()?;
            let list = service::list(&store, agent.as_deref()).map_err(told)?;
            context.output.show(&list, |list| context.output.advise(&text::list(list)));
        }
        SchedulesCommand::Show { name } => {
            let (data, store) = context.look_store()?;
            let now = SystemClock.now();
            let shown = service::show(&store, &name, now).map_err(told)?;
            let is_up = data.holder()?.is_some();
            let output = context.output;
            output.show(&shown, |shown| text::shown(shown, is_up, now, output));
        }
        SchedulesCommand::Pause { name, reason } => {
            let reason =
                reason.map(|said| said::text(&said, "reason", service::PROMPT_MAX)).transpose()?;
            let (_, store) = context.open_store()?;
            let paused =
                service::pause(&store, &name, reason.as_deref(), &SystemIds, SystemClock.now());
            context.output.show(&paused.map_err(told)?, text::paused);
        }
        SchedulesCommand::Resume { name } => {
            let (_, store) = context.open_store()?;
            let resumed = service::resume(&store, &name, SystemClock.now()).map_err(told)?;
            context.output.show(&resumed, text::resumed);
        }
        SchedulesCommand::Remove { name } => {
            let (_, store) = context.open_store()?;
            let removed = service::remove(&store, &name, SystemClock.now()).map_err(told)?;
            let answer = json!({ "removed": removed });
            context.output.show(&answer, |_| context.output.advise(&text::removed(&removed)));
        }
        SchedulesCommand::Runs { name, before, limit } => {
            let (_, store) = context.look_store()?;
            let page = service::runs(&store, name.as_deref(), before, limit).map_err(told)?;
            context.output.show(&page, text::runs);
        }
        SchedulesCommand::Metrics { name, since, before, limit } => {
            let (data, store) = context.look_store()?;
            let since = since_when(context, &data, since.as_deref())?;
            let list =
                service::metrics(&store, name.as_deref(), since, before, limit).map_err(told)?;
            context.output.show(&list, text::metrics);
        }
        SchedulesCommand::Backfill { name, from, to } => {
            backfill(context, &name, &from, to.as_deref())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn add(context: &Context, arguments: &AddArguments) -> Result<(), Failure> {
    let draft = arguments.draft(SystemClock.now())?;
    let (data, store) = context.open_store()?;
    let config::Schedule { min_interval: least, timezone, .. } =
        context.load_config(&data.config())?.0.schedule;
    let draft = draft.in_zone(&timezone, true);
    let id = ScheduleId::generate(&SystemIds);
    let detail = service::add(&store, id, &draft, least, SystemClock.now())
        .map_err(|error| explained(&error, Some(&draft)))?;
    context.output.show(&detail, |detail| text::saved("added", detail));
    Ok(())
}

fn edit(context: &Context, arguments: &EditArguments) -> Result<(), Failure> {
    let draft = arguments.draft(SystemClock.now())?;
    let (data, store) = context.open_store()?;
    let config::Schedule { min_interval: least, timezone, .. } =
        context.load_config(&data.config())?.0.schedule;
    let draft = draft.in_zone(&timezone, false);
    let now = SystemClock.now();
    let detail = service::edit(&store, &arguments.name, &draft, None, least, &SystemIds, now)
        .map_err(|error| explained(&error, Some(&draft)))?;
    context.output.show(&detail, |detail| text::saved("changed", detail));
    Ok(())
}

/// The instant that `--since` says; without it some time ago.
fn since_when(
    context: &Context,
    data: &DataDir,
    since: Option<&str>,
) -> Result<UnixMillis, Failure> {
    let now = SystemClock.now();
    let Some(since) = since else { return Ok(now - RECENT) };
    let zone = context.load_config(&data.config())?.0.schedule.timezone;
    service::past_instant("since", since, &zone, now).map_err(|it| told(it.into()))
}

fn backfill(context: &Context, name: &str, from: &str, to: Option<&str>) -> Result<(), Failure> {
    let (_, store) = context.open_store()?;
    let now = SystemClock.now();
    let zone = service::find(&store, name).map_err(told)?.definition.time_zone;
    let read = |field, text: &str| {
        service::past_instant(field, text, &zone, now).map_err(|it| told(it.into()))
    };
    let to = to.map(|to| read("to", to)).transpose()?;
    let times = (read("from", from)?, to.unwrap_or(now));
    let done = service::backfill(&store, name, times, &SystemIds, now).map_err(told)?;
    context.output.show(&done, text::backfilled);
    Ok(())
}

fn told(error: ServiceError) -> Failure {
    explained(&error, None)
}

/// A mistake is one of the command line, and is told with the name that its field has there.
fn explained(error: &ServiceError, draft: Option<&Draft>) -> Failure {
    match error {
        ServiceError::Mistake(mistake) => {
            let flag = said::flag(mistake.field, draft);
            let Mistake { problem, .. } = mistake;
            Failure::usage(printable(&format!("{flag}: {problem}")))
        }
        ServiceError::NothingSaid => Failure::usage(error.to_string()),
        ServiceError::Db(store) if store.is_unreadable() => {
            let which = "`twobox schedules list` and `runs` name the row";
            Failure::new(printable(&format!("{}; {which}; {MEND}", chain(error))))
        }
        other => Failure::new(printable(&chain(other))),
    }
}
