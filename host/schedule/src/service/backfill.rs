//! Backfill: runs for slots of the past, because a person wants them after all.

use std::time::Duration;

use twobox_shared::ids::{IdSource, RunId};
use twobox_shared::time::UnixMillis;

use super::changes::readable;
use super::view::BackfillView;
use super::{Mistake, ServiceError, find, unknown};
use twobox_slots::Slot;
use twobox_store::Store;
use twobox_store::schedules::{Backfilled, PastSlot};

/// So many slots can be asked for at once.
pub const BACKFILL_MAX: u64 = 1000;

/// Lets the slots of a schedule from `from` to `to`, both included, wait for their turn now, except
/// those that have a run. A paused schedule has them too, and they do not count as firings.
///
/// # Errors
/// [`ServiceError::Mistake`] for times of the future or in the wrong order, and for too many slots;
/// [`ServiceError::UnknownSchedule`], [`ServiceError::Unreadable`].
pub fn backfill(
    store: &Store,
    name_or_id: &str,
    (from, to): (UnixMillis, UnixMillis),
    ids: &(impl IdSource + ?Sized),
    now: UnixMillis,
) -> Result<BackfillView, ServiceError> {
    let schedule = find(store, name_or_id)?;
    let times = readable(&schedule)?;
    if to > now {
        let problem = format!(
            "{} has not come yet: only slots of the past can be run after all",
            times.zone.rfc3339(to)
        );
        return Err(Mistake::new("to", to, problem).into());
    }
    if from > to {
        let problem = format!(
            "{} is later than the end, {}",
            times.zone.rfc3339(from),
            times.zone.rfc3339(to)
        );
        return Err(Mistake::new("from", from, problem).into());
    }
    let before = to + Duration::from_millis(1);
    let count = times.timetable.count(from, before);
    if count > BACKFILL_MAX {
        let problem = format!(
            "{count} slots lie between the two times, and at most {BACKFILL_MAX} can be asked for at \
             once: take a shorter time"
        );
        return Err(Mistake::new("from", from, problem).into());
    }
    let past = |slot: Slot| PastSlot {
        run: RunId::generate(ids),
        slot: slot.0,
        following: times.timetable.next_after(slot).map(|next| next.0),
    };
    let slots: Vec<PastSlot> = times.timetable.slots(from, before).map(past).collect();
    match store.runs().enqueue_backfill(schedule.id, &slots, now).wait()? {
        Backfilled::Done { queued, kept } => Ok(BackfillView {
            schedule: schedule.definition.name,
            slots: slots.len(),
            queued,
            kept,
            first: slots.first().map(|first| times.zone.rfc3339(first.slot)),
            last: slots.last().map(|last| times.zone.rfc3339(last.slot)),
        }),
        Backfilled::Gone => Err(unknown(store, name_or_id)?),
    }
}
