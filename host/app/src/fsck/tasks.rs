//! The series of tasks: that each goes on once, and can.

use std::collections::HashMap;

use twobox_shared::audit::{InboxAudit, MessageRow};

use super::evidence::Evidence;
use super::finding::{Finding, Name, Repair};
use twobox_session::recurrence::{Recurrence, zone_of};

pub(super) fn check(evidence: &Evidence, inbox: &InboxAudit, findings: &mut Vec<Finding>) {
    let recurring = inbox.messages.iter().filter_map(|row| Some((row, row.recurrence.as_ref()?)));
    let mut live: HashMap<&str, &MessageRow> = HashMap::new();
    for (row, recurrence) in recurring {
        if !["pending", "paused"].contains(&row.status.as_str()) {
            findings.extend(settled(evidence, row));
            continue;
        }
        if let Err(reason) = readable(recurrence, row.zone.as_deref()) {
            let meaning = format!(
                "nobody can read when it recurs, so its task is over when it has been done: {reason}. \
                 The agent may be asked to change it"
            );
            findings.push(Finding::new(Name::RecurrenceInvalid, &row.id, meaning));
        }
        let series = row.series.as_deref().unwrap_or_default();
        if let Some(other) = live.insert(series, row) {
            let meaning = format!(
                "{} is a live occurrence of the same task, so that task is done twice from now on: \
                 the file was changed by something other than this host. Have the agent cancel it",
                other.id
            );
            findings.push(Finding::new(Name::TaskTwice, &row.id, meaning));
        }
    }
}

/// An end and what follows it are one transaction, so none is ever found between them.
fn settled(evidence: &Evidence, row: &MessageRow) -> Option<Finding> {
    let finding = |rest: &str| {
        let meaning = format!(
            "it is {} and still carries the recurrence of its task: the file was changed by \
             something other than this host. {rest}",
            row.status
        );
        Finding::new(Name::RecurrenceSettled, &row.id, meaning)
    };
    match row.status.as_str() {
        "completed" | "failed" if evidence.is_marked() => None, // the next sweep's business
        "completed" | "failed" => {
            Some(finding("A sweep lets the task go on").mended_by(Repair::MarkDue))
        }
        _ => Some(finding("Nothing follows it")),
    }
}

fn readable(recurrence: &str, zone: Option<&str>) -> Result<(), String> {
    let zone = zone_of(zone).map_err(|error| error.to_string())?;
    Recurrence::parse(recurrence, zone).map(drop).map_err(|error| error.to_string())
}
