//! The tasks of a session, for the actions that are about them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use twobox_shared::bounds;
use twobox_shared::content::{Chat, shorten};
use twobox_shared::inbox::{NewOccurrence, Occurrence, Status};
use twobox_shared::seq::Seq;
use twobox_shared::time::UnixMillis;

use super::action::Field;
use super::{RequestView, WORD_MAX};
use crate::recurrence::{Recurrence, belongs, occurrence_id};
use twobox_slots::zone::Zone;

/// How many live tasks a session has at most.
pub const TASKS_MAX: usize = 100;

/// A task, by its own id or that of any of its occurrences.
pub(super) const ID: Field = Field::needed("id", None);
/// When it is done next.
pub(super) const PROCESS_AFTER: Field = Field::perhaps("process_after", None);
/// How often it is done.
pub(super) const RECURRENCE: Field = Field::perhaps("recurrence", Some(bounds::CADENCE));
/// On whose clock.
pub(super) const ZONE: Field = Field::perhaps("zone", Some(bounds::TIME_ZONE));

impl RequestView<'_> {
    /// The live occurrence of the series that `id` names.
    pub(super) fn find(&self, id: &str) -> Result<(&Occurrence, &str), String> {
        let named = self.tasks.iter().find(|(row, _)| belongs(id, row));
        let of_series = |series| self.tasks.iter().filter(move |(row, _)| row.series == series);
        let found = named.and_then(|(named, _)| {
            of_series(named.series.as_str()).max_by_key(|(row, _)| rank(row))
        });
        found.map(|(row, content)| (row, content.as_str())).ok_or_else(|| {
            format!(
                "there is no task {:?} in this conversation, or it is over: list_tasks shows \
                 those that there are",
                shorten(id, WORD_MAX)
            )
        })
    }

    pub(super) fn at_work(&self, row: &Occurrence) -> bool {
        row.status == Status::Pending && (self.at_work)(row)
    }

    pub(super) fn recurrence(&self, text: &str, zone: &Zone) -> Result<Recurrence, String> {
        Recurrence::parse(text, zone.clone())
            .and_then(|recurrence| {
                recurrence.check_interval(self.min_interval)?;
                Ok(recurrence)
            })
            .map_err(|error| error.to_string())
    }

    pub(super) fn first_after(
        &self,
        recurrence: &Recurrence,
        anchor: UnixMillis,
        after: UnixMillis,
    ) -> Result<UnixMillis, String> {
        recurrence
            .first_after(anchor, after)
            .ok_or_else(|| format!("{} has no further time", recurrence.cadence))
    }

    /// Reads an instant with its offset, or what the clock of `zone` shows. One that has passed is
    /// now: however long ago it was, nothing is reckoned from it.
    pub(super) fn instant(&self, text: &str, zone: &Zone) -> Result<UnixMillis, String> {
        let parsed = match text.trim().parse::<Timestamp>() {
            Ok(instant) => Some(instant),
            Err(_) => {
                let reading = text.trim().parse::<DateTime>().ok();
                reading.and_then(|reading| zone.first_instant(reading))
            }
        };
        match parsed.filter(|instant| *instant >= Timestamp::UNIX_EPOCH) {
            Some(instant) => Ok(UnixMillis(instant.as_millisecond()).max(self.now)),
            None => Err(format!(
                "process_after: {:?} is no time: write 2026-11-01T09:00:00+01:00, or \
                 2026-11-01T09:00 in the task's zone",
                shorten(text, WORD_MAX)
            )),
        }
    }

    pub(super) fn occurrence(
        &self,
        series: &str,
        generation: i64,
        nominal: UnixMillis,
        recurrence: Option<&Recurrence>,
        zone: &Zone,
        paused: bool,
    ) -> NewOccurrence {
        NewOccurrence {
            id: occurrence_id(series, generation, nominal),
            nominal,
            recurrence: recurrence.map(Recurrence::text),
            zone: Some(zone.name().to_owned()),
            generation,
            paused,
        }
    }
}

/// Of the live rows of a series, the one that goes on is above those that are only being finished.
pub(super) fn rank(row: &Occurrence) -> (bool, Seq) {
    (row.recurrence.is_some(), row.seq)
}

pub(super) fn busy(id: &str) -> String {
    format!(
        "{} is being worked on just now, and is not due again after that",
        shorten(id, WORD_MAX)
    )
}

/// What an occurrence says, of which the length was looked at.
pub(super) fn content(prompt: &str) -> Result<String, String> {
    match prompt.trim() {
        "" => Err("`prompt` is empty: say what is to be done".to_owned()),
        prompt => Ok(Chat::text(prompt).to_json()),
    }
}
