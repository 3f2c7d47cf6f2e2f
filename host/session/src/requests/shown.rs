//! A task as an answer shows it: to programs, and in a sentence.

use jiff::Timestamp;
use serde::Serialize;
use twobox_shared::content::{Chat, shorten};
use twobox_shared::inbox::{NewOccurrence, Occurrence, Status};
use twobox_shared::time::UnixMillis;

use crate::recurrence::zone_of;
use twobox_slots::zone::Zone;

/// How many characters of a prompt an answer shows.
const PROMPT_SHOWN: usize = 80;

/// A task as an answer shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Shown {
    pub(super) id: String,
    pub(super) status: Status,
    /// When it is due next, unless it is paused.
    pub(super) next: Option<UnixMillis>,
    pub(super) recurrence: Option<String>,
    pub(super) zone: String,
    pub(super) prompt: String,
}

pub(super) fn shown(series: &str, occurrence: &NewOccurrence, content: &str) -> Shown {
    Shown {
        id: series.to_owned(),
        status: if occurrence.paused { Status::Paused } else { Status::Pending },
        next: (!occurrence.paused).then_some(occurrence.nominal),
        recurrence: occurrence.recurrence.clone(),
        zone: occurrence.zone.clone().unwrap_or_else(|| Zone::UTC.name().to_owned()),
        prompt: shorten(&Chat::from_content(content).text, PROMPT_SHOWN),
    }
}

pub(super) fn shown_row(row: &Occurrence, content: &str) -> Shown {
    Shown {
        id: row.series.clone(),
        status: row.status,
        next: row.process_after.or(row.nominal).filter(|_| row.status == Status::Pending),
        recurrence: row.recurrence.clone(),
        zone: row.zone.clone().unwrap_or_else(|| Zone::UTC.name().to_owned()),
        prompt: shorten(&Chat::from_content(content).text, PROMPT_SHOWN),
    }
}

/// What a clock in `zone` shows at `instant`, and whose clock it is.
pub fn local_time(instant: UnixMillis, zone: &Zone) -> String {
    match Timestamp::from_millisecond(instant.0) {
        Ok(timestamp) => {
            format!("{} {zone}", zone.reading(timestamp).strftime("%Y-%m-%d %H:%M:%S"))
        }
        Err(_) => instant.to_string(),
    }
}

pub(super) fn sentence(task: &Shown) -> String {
    let zone = zone_of(Some(&task.zone)).unwrap_or(Zone::UTC);
    let when = match (task.next, task.status) {
        (Some(next), _) => format!(", next at {}", local_time(next, &zone)),
        (None, Status::Paused) => ", paused".to_owned(),
        (None, _) => String::new(),
    };
    let recurrence = task.recurrence.as_ref().map(|text| format!(", {text}")).unwrap_or_default();
    format!("{}{when}{recurrence}: {:?}", task.id, task.prompt)
}
