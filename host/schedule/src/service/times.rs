//! A stored definition, read back: where its slots are.

use std::time::Duration;

use twobox_shared::bounds::{self, Bound};
use twobox_shared::ids::ScheduleId;
use twobox_shared::time::UnixMillis;

use super::Mistake;
use twobox_slots::cadence::{Cadence, Kind};
use twobox_slots::timetable::{Bounds, Timetable};
use twobox_slots::zone::Zone;
use twobox_slots::{Slot, jitter};
use twobox_store::schedules::{Definition, Next, Schedule};

/// What a definition means.
#[derive(Debug, Clone)]
pub struct Times {
    /// How often it fires.
    pub cadence: Cadence,
    /// Its zone.
    pub zone: Zone,
    /// Its slots.
    pub timetable: Timetable,
    /// By how much at most a run may be later than its slot.
    pub jitter: Duration,
}

impl Times {
    /// Reads a definition.
    ///
    /// # Errors
    /// A cadence or zone that this build does not know.
    pub fn of(definition: &Definition) -> Result<Self, Mistake> {
        let zone = zone(&definition.time_zone)?;
        let cadence = cadence(&definition.cadence_kind, &definition.cadence_value)?;
        let bounds = Bounds { not_before: definition.not_before, not_after: definition.not_after };
        let timetable = Timetable::new(&cadence, zone.clone(), definition.anchor, bounds);
        let jitter = Duration::from_millis(u64::try_from(definition.jitter_ms).unwrap_or(0));
        Ok(Self { cadence, zone, timetable, jitter })
    }

    /// The first slot of `schedule` after `instant`, and when it is due; `None` if there is none.
    pub fn first_after(&self, schedule: ScheduleId, instant: UnixMillis) -> Option<Next> {
        self.timetable.first_after(instant).map(|slot| self.due(schedule, slot))
    }

    /// The next `count` slots of a schedule. The first is the one that is stored, which may have been
    /// put off. There are none of one that is paused or over, and no more than `max_runs` leaves.
    pub fn upcoming(&self, schedule: &Schedule, count: usize) -> Vec<Next> {
        let left = schedule.definition.max_runs.map_or(i64::MAX, |most| most - schedule.fired);
        let count = count.min(usize::try_from(left).unwrap_or(0));
        let following = |next: &Next| self.first_after(schedule.id, next.slot);
        std::iter::successors(schedule.next, following).take(count).collect()
    }

    /// `slot` of `schedule`, and when it is due.
    pub(super) fn due(&self, schedule: ScheduleId, slot: Slot) -> Next {
        let following = self.timetable.next_after(slot);
        Next { slot: slot.0, due: jitter::due(schedule, slot, self.jitter, following) }
    }
}

/// Reads the name of a zone.
pub(super) fn zone(name: &str) -> Result<Zone, Mistake> {
    short("time_zone", name, bounds::TIME_ZONE)?;
    name.parse().map_err(|error: twobox_slots::zone::UnknownZone| {
        Mistake::new("time_zone", name, error.to_string())
    })
}

pub(super) fn short(field: &'static str, text: &str, bound: Bound) -> Result<(), Mistake> {
    bound.check("it", text.len()).map_err(|error| Mistake::new(field, text, error.to_string()))
}

/// Reads a cadence from its kind and value.
pub(super) fn cadence(kind: &str, value: &str) -> Result<Cadence, Mistake> {
    short("cadence", kind, bounds::CADENCE)?;
    short("cadence", value, bounds::CADENCE)?;
    let Some(known) = Kind::from_word(kind) else {
        let words = Kind::ALL.map(Kind::word).join(", ");
        let problem = format!("there is no kind {kind:?}: use one of {words}");
        return Err(Mistake::new("cadence", kind, problem));
    };
    Cadence::parse(known, value).map_err(|error| Mistake::new("cadence", value, error.to_string()))
}
