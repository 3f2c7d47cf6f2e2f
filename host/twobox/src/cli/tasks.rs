//! `twobox sessions tasks`: what an agent has put off for later, and what became of it. `twobox tasks`: the
//! same of all conversations, and what a person wants done with one.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use twobox_shared::content::{Chat, shorten};
use twobox_shared::ids::SessionId;
use twobox_shared::inbox::{InboxReader, Status, StoredTask};

use super::output::{Failure, printable, table};
use super::schedules::ask_host;
use super::{Context, in_tokio, select};
use twobox_model::channel::{ScheduleOrder, TaskVerb};
use twobox_session::recurrence::zone_of;
use twobox_session::requests::local_time;
use twobox_shared::errors::chain;
use twobox_slots::zone::Zone;

/// How many occurrences that are over are shown.
const OVER_MAX: u32 = 20;

/// How many characters of a prompt or of a reason a line shows.
const TEXT_SHOWN: usize = 60;

/// An occurrence as people see it.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    task: StoredTask,
    /// When it is due, on the clock of its zone.
    due: Option<String>,
    prompt: String,
}

/// What can be done with the tasks that agents have put off.
#[derive(Debug, Subcommand)]
pub(super) enum TasksCommand {
    /// List the tasks of all conversations.
    List {
        /// Only those of this agent.
        #[arg(long)]
        agent: Option<String>,
    },
    /// End one. The agent is told. The host must run.
    Cancel {
        /// Its id, as `twobox tasks list` shows it.
        task: String,
    },
    /// Let one wait until it is resumed. The agent is told. The host must run.
    Pause {
        /// Its id.
        task: String,
    },
    /// Let a paused one go on, with the first time to come. The host must run.
    Resume {
        /// Its id.
        task: String,
    },
}

/// A task and the conversation in which it was put off.
#[derive(Debug, Serialize)]
struct Listed {
    session: SessionId,
    agent: String,
    #[serde(flatten)]
    task: Shown,
}

/// A conversation whose tasks cannot be read.
#[derive(Debug, Serialize)]
struct Unreadable {
    session: SessionId,
    error: String,
}

pub(super) fn all(context: &Context, command: TasksCommand) -> Result<ExitCode, Failure> {
    let (verb, task) = match command {
        TasksCommand::List { agent } => {
            let (tasks, unreadable) = listed(context, agent.as_deref())?;
            let answer = json!({ "tasks": tasks, "unreadable": unreadable });
            context.output.show(&answer, |_| printable(&lines(&tasks, &unreadable)));
            return Ok(ExitCode::SUCCESS);
        }
        TasksCommand::Cancel { task } => (TaskVerb::Cancel, task),
        TasksCommand::Pause { task } => (TaskVerb::Pause, task),
        TasksCommand::Resume { task } => (TaskVerb::Resume, task),
    };
    let (tasks, _) = listed(context, None)?;
    let is_it =
        |listed: &&Listed| listed.task.task.series == task || listed.task.task.id.as_str() == task;
    let Some(found) = tasks.iter().find(is_it) else {
        let reason =
            format!("there is no task {task:?}, or it is over: `twobox tasks list` shows all");
        return Err(Failure::new(reason));
    };
    let order = ScheduleOrder::Task { session: found.session, verb, task };
    let data = context.open_data()?;
    let answer = in_tokio(ask_host(&data, order))?;
    context
        .output
        .show(&answer, |answer| printable(answer["outcome"].as_str().unwrap_or_default()));
    Ok(ExitCode::SUCCESS)
}

/// The live tasks of all conversations, and those conversations whose inbox cannot be read.
fn listed(
    context: &Context,
    agent: Option<&str>,
) -> Result<(Vec<Listed>, Vec<Unreadable>), Failure> {
    let (data, store) = context.look_store()?;
    let agent = agent.map(|name| store.agents().find(name).wait()).transpose()?;
    let sessions = store.sessions().list(agent.map(|agent| agent.id)).wait()?;
    drop(store);
    let (mut tasks, mut unreadable) = (Vec::new(), Vec::new());
    for session in sessions {
        let path = data.session_paths(session.agent_id, session.id).inbound_db();
        if !path.exists() {
            continue;
        }
        match InboxReader::open(&path).and_then(|inbox| inbox.tasks(0)) {
            Ok(found) => tasks.extend(found.into_iter().map(shown).map(|task| Listed {
                session: session.id,
                agent: session.agent.clone(),
                task,
            })),
            Err(error) => {
                unreadable.push(Unreadable { session: session.id, error: chain(&error) });
            }
        }
    }
    tasks.retain(|listed: &Listed| listed.task.task.status.is_live());
    Ok((tasks, unreadable))
}

fn lines(tasks: &[Listed], unreadable: &[Unreadable]) -> String {
    let row = |listed: &Listed| {
        let Listed { session, agent, task } = listed;
        [
            task.task.series.clone(),
            agent.clone(),
            session.to_string(),
            task.task.status.as_str().to_owned(),
            task.due.clone().unwrap_or_else(|| "-".to_owned()),
            task.task.recurrence.clone().unwrap_or_else(|| "once".to_owned()),
            one_line(&task.prompt),
        ]
    };
    let rows: Vec<_> = tasks.iter().map(row).collect();
    let mut text = match rows.is_empty() {
        true => "no tasks".to_owned(),
        false => table(["TASK", "AGENT", "SESSION", "STATUS", "NEXT", "RECURS", "PROMPT"], &rows),
    };
    for Unreadable { session, error } in unreadable {
        text.push_str(&format!("\nthe tasks of session {session} cannot be read: {error}"));
    }
    text
}

fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    shorten(&line, TEXT_SHOWN)
}

pub(super) fn run(context: &Context, part: &str) -> Result<ExitCode, Failure> {
    let (data, store) = context.look_store()?;
    let session = select::session(&store, part)?;
    drop(store);
    let path = data.session_paths(session.agent_id, session.id).inbound_db();
    let tasks = match path.exists() {
        true => InboxReader::open(&path)?.tasks(OVER_MAX)?,
        false => Vec::new(),
    };
    let (live, over): (Vec<_>, Vec<_>) =
        tasks.into_iter().map(shown).partition(|shown| shown.task.status.is_live());
    let answer = json!({ "session": session.id, "live": live, "over": over });
    context.output.show(&answer, |_| printable(&readable(&live, &over)));
    Ok(ExitCode::SUCCESS)
}

fn shown(task: StoredTask) -> Shown {
    let zone = zone_of(task.zone.as_deref()).unwrap_or(Zone::UTC);
    let due = match task.status {
        Status::Pending => task.process_after.or(task.nominal),
        Status::Paused => None,
        Status::Completed | Status::Failed | Status::Cancelled => task.nominal,
    };
    Shown {
        due: due.map(|due| local_time(due, &zone)),
        prompt: Chat::from_content(&task.content).text,
        task,
    }
}

fn readable(live: &[Shown], over: &[Shown]) -> String {
    let line = one_line;
    let due = |shown: &Shown| shown.due.clone().unwrap_or_else(|| "-".to_owned());
    let mut text = match live.is_empty() {
        true => "no tasks".to_owned(),
        false => {
            let rows: Vec<_> = live
                .iter()
                .map(|shown| {
                    [
                        shown.task.series.clone(),
                        shown.task.status.as_str().to_owned(),
                        due(shown),
                        shown.task.recurrence.clone().unwrap_or_else(|| "once".to_owned()),
                        line(&shown.prompt),
                    ]
                })
                .collect();
            table(["TASK", "STATUS", "NEXT", "RECURS", "PROMPT"], &rows)
        }
    };
    if !over.is_empty() {
        let rows: Vec<_> = over
            .iter()
            .map(|shown| {
                let failure = shown.task.failure.as_ref();
                let reason = failure.map(|it| format!("{} {}", it.reason, it.detail));
                [
                    shown.task.series.clone(),
                    shown.task.status.as_str().to_owned(),
                    due(shown),
                    line(&reason.unwrap_or_default()),
                ]
            })
            .collect();
        text.push_str("\n\n");
        text.push_str(&table(["TASK", "BECAME", "OF", "REASON"], &rows));
    }
    text
}
