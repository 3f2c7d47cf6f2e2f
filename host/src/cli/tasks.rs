//! `twobox sessions tasks`: what an agent has put off for later, and what became of it.

use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;
use twobox_shared::content::{Chat, shorten};
use twobox_shared::inbox::{InboxReader, Status, StoredTask};

use super::output::{Failure, printable, table};
use super::{Context, select};
use crate::schedule::zone::Zone;
use crate::session::recurrence::zone_of;
use crate::session::requests::local_time;

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

pub(super) fn run(context: &Context, part: &str) -> Result<ExitCode, Failure> {
    let (data, db) = context.look_db()?;
    let session = select::session(&db, part)?;
    drop(db);
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
    let line = |text: &str| {
        let line: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
        shorten(&line, TEXT_SHOWN)
    };
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
