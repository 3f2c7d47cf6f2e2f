//! `twobox sessions fsck`: checks sessions, and with `--repair` mends what can be mended safely.

use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use serde::Serialize;
use twobox_shared::clock::{Clock, SystemClock};
use twobox_shared::errors::chain;
use twobox_shared::ids::{AgentGroupId, SessionId, SystemIds};
use twobox_shared::visible;

use super::output::{Failure, count_of, printable};
use super::{Context, select};
use twobox_app::fsck::rebuild::{self, Rebuilt, Unknown};
use twobox_app::fsck::{Finding, examine};
use twobox_app::place;
use twobox_store::Store;
use twobox_system::data::{DataDir, HostLock};

/// A finding, with the session that it is about.
#[derive(Debug, Serialize)]
struct Told {
    session: Option<SessionId>,
    #[serde(flatten)]
    finding: Finding,
}

/// A repair that was tried.
#[derive(Debug, Serialize)]
struct Step {
    session: SessionId,
    name: &'static str,
    object: String,
    step: String,
    /// Why it did not work.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    checked: usize,
    host_runs: bool,
    repairs: Vec<Step>,
    findings: Vec<Told>,
}

pub(super) fn run(
    context: &Context,
    part: Option<&str>,
    repair: bool,
) -> Result<ExitCode, Failure> {
    let data = context.open_data()?;
    let report = match repair {
        false => {
            let store = Store::look(&data.host_db())?;
            context.warn_elsewhere(&store, &data);
            let host_runs = UnixStream::connect(data.socket()).is_ok();
            let (sessions, mut findings) = check(&data, &store, part, host_runs)?;
            if part.is_none() {
                findings.extend(
                    examine::foreign_folders(&data, &store)?
                        .into_iter()
                        .map(|finding| Told { session: None, finding }),
                );
            }
            Report { checked: sessions, host_runs, repairs: Vec::new(), findings }
        }
        true => mend(&data, part)?,
    };
    let clean = report.findings.is_empty();
    let output = context.output;
    output.show(&report, |report| output.advise(&printable(&readable(report))));
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes a new `host.db` where the old one is lost.
pub(super) fn rebuild(context: &Context) -> Result<ExitCode, Failure> {
    let data = DataDir::open_without_db(&context.data)?;
    let lock = data.lock()?;
    let now = SystemClock.now();
    let rebuilt = rebuild::rebuild(&data, &lock, &SystemIds, now)?;
    let store = Store::open(&data.host_db())?;
    place::settle(&store, &data, now)?;
    let output = context.output;
    output.show(&rebuilt, |rebuilt| output.advise(&printable(&told_rebuilt(rebuilt))));
    Ok(ExitCode::SUCCESS)
}

fn told_rebuilt(rebuilt: &Rebuilt) -> String {
    let Rebuilt { agents, chats, sessions, unknown } = rebuilt;
    let mut lines = vec![format!(
        "made a new host.db with {} agents ({}), {chats} chats and {sessions} sessions",
        agents.len(),
        agents.join(", ")
    )];
    for Unknown { path, why } in unknown {
        lines.push(format!("unknown  {}: {}", visible::line(&path.display().to_string()), why));
    }
    lines.push(
        "lost     schedules with their runs, people and their roles, notices under way, and the \
         installation's id: what was being delivered may be delivered once more"
            .to_owned(),
    );
    lines.push(
        "next     look at `twobox agents list` and `twobox wire list`, then `twobox up`".to_owned(),
    );
    lines.join("\n")
}

fn chosen(store: &Store, part: Option<&str>) -> Result<Vec<(AgentGroupId, SessionId)>, Failure> {
    Ok(match part {
        Some(part) => {
            let session = select::session(store, part)?;
            vec![(session.agent_id, session.id)]
        }
        None => store.sessions().folders().wait()?,
    })
}

fn check(
    data: &DataDir,
    store: &Store,
    part: Option<&str>,
    host_runs: bool,
) -> Result<(usize, Vec<Told>), Failure> {
    let sessions = chosen(store, part)?;
    let mut findings = Vec::new();
    for (group, session) in &sessions {
        let found = examine::session(data, store, (*group, *session), host_runs, &SystemClock)?;
        findings.extend(found.into_iter().map(|finding| Told { session: Some(*session), finding }));
    }
    Ok((sessions.len(), findings))
}

/// Checks, repairs, and checks again: what the report lists is what is left.
fn mend(data: &DataDir, part: Option<&str>) -> Result<Report, Failure> {
    let lock = data.lock()?;
    let store = Store::open(&data.host_db())?;
    place::confirm(&store, data)?;
    let mut repairs = Vec::new();
    for (group, session) in chosen(&store, part)? {
        let folder = data.session_folder(group, session);
        // A repair may bring to light what another one can mend, such as in an old file.
        for _ in 0..3 {
            let found = examine::session(data, &store, (group, session), false, &SystemClock)?;
            let steps = apply(&lock, &store, session, &folder, &found);
            let nothing_more = steps.iter().all(|step| step.error.is_some());
            repairs.retain(|step: &Step| step.session != session || step.error.is_none());
            repairs.extend(steps);
            if nothing_more {
                break;
            }
        }
    }
    let (checked, mut findings) = check(data, &store, part, false)?;
    if part.is_none() {
        let foreign = examine::foreign_folders(data, &store)?;
        findings.extend(foreign.into_iter().map(|finding| Told { session: None, finding }));
    }
    Ok(Report { checked, host_runs: false, repairs, findings })
}

fn apply(
    lock: &HostLock,
    store: &Store,
    session: SessionId,
    folder: &std::path::Path,
    findings: &[Finding],
) -> Vec<Step> {
    let mut done = Vec::new();
    let mut steps = Vec::new();
    for finding in findings {
        let Some(repair) = finding.repair.as_ref().filter(|repair| !done.contains(repair)) else {
            continue;
        };
        done.push(repair);
        steps.push(Step {
            session,
            name: finding.name.as_str(),
            object: finding.object.clone(),
            step: repair.describe(),
            error: repair.apply(lock, store, session, folder).err().map(|error| chain(&error)),
        });
    }
    steps
}

fn readable(report: &Report) -> String {
    let mut lines = Vec::new();
    for step in &report.repairs {
        let result = match &step.error {
            None => "done".to_owned(),
            Some(error) => format!("failed: {error}"),
        };
        let (session, name, object) = (step.session, step.name, visible::line(&step.object));
        let result = visible::line(&result);
        lines.push(format!("{session} {name} {object}\n  repair: {}: {result}", step.step));
    }
    for Told { session, finding } in &report.findings {
        let session = session.map_or_else(|| "-".to_owned(), |session| session.to_string());
        let (name, object) = (finding.name.as_str(), visible::line(&finding.object));
        lines.push(format!("{session} {name} {object}\n  {}", visible::line(&finding.meaning)));
        if let Some(repair) = &finding.repair {
            lines.push(format!("  --repair, with the host stopped, would {}", repair.describe()));
        }
    }
    let checked = count_of(report.checked, "session", "sessions");
    lines.push(match report.findings.len() {
        0 => format!("{checked} checked, nothing found"),
        found => {
            let findings = count_of(found, "finding", "findings");
            format!("{checked} checked, {findings}; docs/fsck.md explains each")
        }
    });
    lines.join("\n")
}
