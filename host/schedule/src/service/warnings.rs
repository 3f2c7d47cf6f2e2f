//! With which others a schedule meets.
//!
//! What has to be known is read from `host.db` at once; the answer is reckoned when it is asked for,
//! which may take long where there are many schedules: nobody has to wait for the database meanwhile.

use std::sync::OnceLock;
use std::time::Duration;

use serde::{Serialize, Serializer};
use twobox_shared::time::UnixMillis;

use super::ServiceError;
use super::times::Times;
use twobox_slots::collision::{self, Entry, Warning};
use twobox_slots::missed::Policy;
use twobox_slots::timetable::Timetable;
use twobox_store::Store;
use twobox_store::schedules::{Definition, Schedule};

/// From so many of its last completed runs the average turns of a schedule are taken.
const AVERAGED: u32 = 20;

/// What a person is to be warned of. Reckoned once, by whoever asks or writes it first.
#[derive(Debug, Clone, Default)]
pub struct Warnings {
    /// What follows from the schedule alone.
    own: Option<Warning>,
    asked: Option<Asked>,
    found: OnceLock<Vec<Warning>>,
}

/// What has to be known.
#[derive(Debug, Clone)]
struct Asked {
    own: Entry,
    /// The others of its agent group that are not paused or over, and their average turns.
    others: Vec<(Definition, u64)>,
    from: UnixMillis,
}

impl Warnings {
    /// Reads whom `schedule`, whose slots are those of `timetable`, may meet after `now`.
    pub(super) fn read(
        store: &Store,
        schedule: &Schedule,
        timetable: Timetable,
        now: UnixMillis,
    ) -> Result<Self, ServiceError> {
        let average_turns = average(store, schedule)?;
        if schedule.removed_at.is_some() {
            return Ok(Self::default());
        }
        let alone = short_window(&schedule.definition);
        if average_turns == 0 {
            return Ok(Self { own: alone, ..Self::default() });
        }
        let mut others = Vec::new();
        for other in store.schedules().list(Some(schedule.agent_group)).wait()?.rows {
            if other.id != schedule.id && other.next.is_some() {
                let turns = average(store, &other)?;
                others.push((other.definition, turns));
            }
        }
        let own = Entry { name: schedule.definition.name.clone(), timetable, average_turns };
        let asked = Some(Asked { own, others, from: now });
        Ok(Self { own: alone, asked, found: OnceLock::new() })
    }

    /// The warnings. May take long the first time.
    pub fn all(&self) -> &[Warning] {
        self.found.get_or_init(|| {
            let met = self.asked.as_ref().map(Asked::reckon).unwrap_or_default();
            self.own.clone().into_iter().chain(met).collect()
        })
    }
}

impl Serialize for Warnings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.all().serialize(serializer)
    }
}

impl Asked {
    fn reckon(&self) -> Vec<Warning> {
        let entry = |(definition, average_turns): &(Definition, u64)| {
            // What cannot be read does not fire.
            let timetable = Times::of(definition).ok()?.timetable;
            Some(Entry { name: definition.name.clone(), timetable, average_turns: *average_turns })
        };
        let others: Vec<Entry> = self.others.iter().filter_map(entry).collect();
        collision::warnings(&self.own, &others, self.from)
    }
}

/// Whether a slot that was missed may not be made up for although the next is still far.
fn short_window(definition: &Definition) -> Option<Warning> {
    let window = Duration::from_millis(u64::try_from(definition.missed_window_ms).ok()?);
    let period = Times::of(definition).ok()?.cadence.shortest_interval()?;
    (definition.missed != Policy::Skip && window < period).then_some(Warning::ShortMissedWindow {
        period_sec: period.as_secs(),
        window_sec: window.as_secs(),
    })
}

/// How many turns a schedule's runs take on average. Before its first run, what it may take at most
/// is all that is known.
fn average(store: &Store, schedule: &Schedule) -> Result<u64, ServiceError> {
    let past = store.runs().past(schedule.id, AVERAGED).wait()?;
    let turns: Vec<u64> = past.iter().filter_map(|run| u64::try_from(run.turns?).ok()).collect();
    let count = u64::try_from(turns.len()).unwrap_or(u64::MAX);
    let sum = turns.iter().fold(0, |sum: u64, turns| sum.saturating_add(*turns));
    Ok(match sum.checked_div(count) {
        Some(average) => average,
        None => {
            schedule.definition.max_turns.and_then(|most| u64::try_from(most).ok()).unwrap_or(0)
        }
    })
}

#[cfg(test)]
#[path = "warnings_tests.rs"]
mod tests;
