//! The series of a task, reckoned: how its recurrence is written, which ids its occurrences have, and
//! which one follows when one has ended. Pure; where the slots are is [`twobox_slots`]'s word.

use std::time::Duration;

use twobox_shared::bounds::{self, TooMuch};
use twobox_shared::content::digest16;
use twobox_shared::ids::{MessageId, SessionId};
use twobox_shared::inbox::{NewOccurrence, Occurrence, Status};
use twobox_shared::time::UnixMillis;

use super::decide::{Acks, Action};
use twobox_slots::Slot;
use twobox_slots::cadence::{Cadence, CadenceError, Kind};
use twobox_slots::timetable::{Bounds, Timetable};
use twobox_slots::zone::{UnknownZone, Zone};

/// The longest id of a series that the ids of its occurrences begin with, in bytes.
const STEM_MAX: usize = 200;

/// Why a recurrence was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecurrenceError {
    /// It is no cadence.
    #[error(transparent)]
    Cadence(#[from] CadenceError),
    /// Its zone does not exist.
    #[error(transparent)]
    Zone(#[from] UnknownZone),
    /// It is longer than any that makes sense.
    #[error(transparent)]
    TooLong(#[from] TooMuch),
    /// An instant.
    #[error("`once` is no recurrence: give `process_after` alone")]
    Once,
}

/// When a series goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recurrence {
    /// How often.
    pub cadence: Cadence,
    /// In which zone that is read.
    pub zone: Zone,
}

impl Recurrence {
    /// Reads a cron expression, or a cadence with its value, such as `daily 09:00` or `every 90m`.
    ///
    /// # Errors
    /// [`RecurrenceError`], with what to write instead.
    pub fn parse(text: &str, zone: Zone) -> Result<Self, RecurrenceError> {
        bounds::CADENCE.check("the recurrence", text.len())?;
        let text = text.trim();
        let (word, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let cadence = match Kind::from_word(word) {
            Some(Kind::Once) => return Err(RecurrenceError::Once),
            Some(kind) => Cadence::parse(kind, value)?,
            None => Cadence::parse(Kind::Cron, text)?,
        };
        Ok(Self { cadence, zone })
    }

    /// Reads what a row says; `None` if it says nothing.
    ///
    /// # Errors
    /// [`RecurrenceError`] for a row that no host of this version wrote.
    pub fn of(row: &Occurrence) -> Result<Option<Self>, RecurrenceError> {
        let Some(text) = &row.recurrence else { return Ok(None) };
        Self::parse(text, zone_of(row.zone.as_deref())?).map(Some)
    }

    /// As [`Recurrence::parse`] reads it: a cron expression alone, for that is what other
    /// implementations know.
    pub fn text(&self) -> String {
        match self.cadence.kind() {
            Kind::Cron => self.cadence.value(),
            kind => format!("{} {}", kind.word(), self.cadence.value()),
        }
    }

    /// Refuses what is due more often than each `least`.
    ///
    /// # Errors
    /// [`RecurrenceError::Cadence`].
    pub fn check_interval(&self, least: Duration) -> Result<(), RecurrenceError> {
        Ok(self.cadence.check_interval(least)?)
    }

    /// The first slot after `instant`. `every` counts from `anchor`, which may be any slot.
    pub fn first_after(&self, anchor: UnixMillis, instant: UnixMillis) -> Option<UnixMillis> {
        self.timetable(anchor).first_after(instant).map(|Slot(slot)| slot)
    }

    /// The slot that follows when everything up to `done` is done with or was slept through by what
    /// was at work: the newest of those that have been missed since, or the first that is to come.
    pub fn latest_after(
        &self,
        anchor: UnixMillis,
        done: UnixMillis,
        now: UnixMillis,
    ) -> Option<UnixMillis> {
        let timetable = self.timetable(anchor);
        let Slot(mut newest) = timetable.first_after(done)?;
        // Halves what lies between a slot that has come and an instant after which none has, for a
        // container chooses how many there are.
        let mut end = now;
        while newest < end {
            let middle = UnixMillis(newest.0.midpoint(end.0));
            match timetable.first_after(middle) {
                Some(Slot(slot)) if slot <= now => newest = slot,
                _ => end = middle,
            }
        }
        Some(newest)
    }

    fn timetable(&self, anchor: UnixMillis) -> Timetable {
        Timetable::new(&self.cadence, self.zone.clone(), anchor, Bounds::default())
    }
}

/// The zone of a row.
pub fn zone_of(name: Option<&str>) -> Result<Zone, UnknownZone> {
    name.map_or(Ok(Zone::UTC), str::parse)
}

/// The id of the series that the row `request` of a session's outbox asks for.
pub fn series_id(session: SessionId, request: &MessageId) -> String {
    format!("task-{}", digest16(&format!("{session}\0{request}")))
}

/// The id of the occurrence of a series that stands for `nominal`.
pub fn occurrence_id(series: &str, generation: i64, nominal: UnixMillis) -> MessageId {
    MessageId::parse(&format!("{}@{generation}.{}", stem(series), nominal.0))
        .expect("an id with a short suffix of digits stays valid")
}

/// Whether `id` is that of the series of `row`, or of one of its occurrences, whatever has become of
/// that. An id begins with its own series whole, so it never means another one.
pub fn belongs(id: &str, row: &Occurrence) -> bool {
    let of_occurrence = |(stem, rest): (&str, &str)| {
        stem == self::stem(&row.series)
            && rest.bytes().all(|byte| byte.is_ascii_digit() || b".-~abcdef".contains(&byte))
    };
    id == row.series || id == row.id.as_str() || id.rsplit_once('@').is_some_and(of_occurrence)
}

/// What the ids of a series' occurrences begin with. Series of other implementations may have any id.
fn stem(series: &str) -> String {
    match series.len() <= STEM_MAX && MessageId::parse(series).is_ok() {
        true => series.to_owned(),
        false => format!("series-{}", digest16(series)),
    }
}

/// The end of an occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Succession {
    /// What ended.
    pub before: MessageId,
    /// What follows, or why nothing does.
    pub next: Result<NewOccurrence, String>,
}

/// What follows the occurrences that have ended, by `actions` or before. Failing is an end like any
/// other: it does not end the series. What follows one that was answered although it is paused is
/// paused in its place.
///
/// Slots that passed before an occurrence was answered count as done with it; those that were missed
/// since, because there was no host, collapse into the newest. When it was answered is the
/// container's word, and believed only between its nominal time and now.
pub fn successions(
    recurring: &[Occurrence],
    actions: &[Action],
    acks: &Acks,
    now: UnixMillis,
) -> Vec<Succession> {
    let ends = |id: &MessageId| {
        actions.iter().any(|action| match action {
            Action::Complete { message } | Action::Fail { message, .. } => message == id,
            Action::Charge { .. } | Action::RetryNow { .. } => false,
        })
    };
    let ended = recurring.iter().filter(|row| match row.status {
        Status::Completed | Status::Failed => true,
        Status::Pending | Status::Paused => ends(&row.id),
        Status::Cancelled => false,
    });
    let succession = |row: &Occurrence| {
        let answered = acks.get(&row.id).and_then(|ack| ack.changed_at).unwrap_or(now);
        Succession { before: row.id.clone(), next: next_of(row, answered, now) }
    };
    ended.map(succession).collect()
}

fn next_of(
    row: &Occurrence,
    answered: UnixMillis,
    now: UnixMillis,
) -> Result<NewOccurrence, String> {
    let recurrence = Recurrence::of(row).map_err(|error| error.to_string())?;
    let recurrence = recurrence.ok_or("it has no recurrence")?;
    let nominal = row.nominal.unwrap_or(now);
    let done = answered.min(now).max(nominal);
    let slot = recurrence.latest_after(nominal, done, now);
    let slot = slot.ok_or_else(|| format!("{} has no further time", recurrence.cadence))?;
    Ok(NewOccurrence {
        id: occurrence_id(&row.series, row.generation, slot),
        nominal: slot,
        recurrence: row.recurrence.clone(),
        zone: row.zone.clone(),
        generation: row.generation,
        paused: row.status == Status::Paused,
    })
}

#[cfg(test)]
#[path = "recurrence_tests.rs"]
mod tests;
