//! Adding, editing, pausing, resuming and removing schedules.

use std::time::Duration;

use twobox_shared::ids::{IdSource, RunId, ScheduleId};
use twobox_shared::time::UnixMillis;

use super::check::{self, Checked};
use super::look::detail;
use super::times::Times;
use super::view::{Detail, PausedView, RemovedView, ResumedView, ScheduleView};
use super::{Draft, Mistake, ServiceError, TRIES, agent, find, unknown};
use twobox_slots::Slot;
use twobox_slots::missed::{self, Missed};
use twobox_slots::reason::Reason;
use twobox_store::Store;
use twobox_store::schedules::{
    self, Added, Edited, NextSlot, Schedule, SlotClaim, SlotFate, SlotRow,
};

/// Adds a schedule under `id`, enabled. Two slots must be `min_interval` apart at least.
///
/// # Errors
/// [`ServiceError::Mistake`], [`ServiceError::NameTaken`].
pub fn add(
    store: &Store,
    id: ScheduleId,
    draft: &Draft,
    min_interval: Duration,
    now: UnixMillis,
) -> Result<Detail, ServiceError> {
    let Some(name_or_id) = &draft.agent else {
        return Err(Mistake::missing("agent", "say which agent is told").into());
    };
    let agent = agent(store, "agent", name_or_id)?.id;
    let Checked { definition, times, .. } = check::new(store, agent, draft, min_interval, now)?;
    let next = times.first_after(id, now);
    match store.schedules().add(id, agent, &definition, next, now).wait()? {
        Added::Done => {}
        Added::NameTaken => return Err(ServiceError::NameTaken { name: definition.name }),
        // It went away after the check.
        Added::NoAgent => return Err(no_agent(name_or_id)),
        Added::NoSession => return Err(no_session()),
    }
    detail(store, &find(store, &id.to_string())?, now)
}

/// Edits the schedule with this name or id: what `draft` does not mention stays. If `revision` is
/// given, the schedule must still have it. Its slots are reckoned anew from `now`, if they may be
/// others; the next one stays otherwise. An edit of `max_turns` gives it two slots in which breaches
/// do not count.
///
/// # Errors
/// [`ServiceError::Mistake`], [`ServiceError::NameTaken`], [`ServiceError::UnknownSchedule`],
/// [`ServiceError::Stale`], [`ServiceError::Contended`].
pub fn edit(
    store: &Store,
    name_or_id: &str,
    draft: &Draft,
    revision: Option<i64>,
    min_interval: Duration,
    ids: &(impl IdSource + ?Sized),
    now: UnixMillis,
) -> Result<Detail, ServiceError> {
    let first = find(store, name_or_id)?;
    let name = || first.definition.name.clone();
    for _ in 0..TRIES {
        // By its id from here on: somebody may rename it.
        let old = find(store, &first.id.to_string())?;
        if revision.is_some_and(|read| read != old.revision) {
            return Err(ServiceError::Stale { name: name() });
        }
        check_owner(store, draft, &old)?;
        let before = (&old.definition, old.fired);
        let Checked { definition, times, has_new_slots } =
            check::edited(store, old.agent_group, draft, before, min_interval, now)?;
        let has_new_jitter = definition.jitter_ms != old.definition.jitter_ms;
        let next = match old.next {
            Some(_) if !has_new_slots && !has_new_jitter => NextSlot::Kept,
            Some(next) if !has_new_slots => NextSlot::Moved(times.due(old.id, Slot(next.slot))),
            Some(_) | None => NextSlot::Reckoned(times.first_after(old.id, now)),
        };
        let passed = match next {
            NextSlot::Reckoned(_) => passed(store, &old, Reason::Edited, ids, now)?,
            NextSlot::Kept | NextSlot::Moved(_) => None,
        };
        match store.schedules().edit(old.id, old.revision, &definition, next, passed, now).wait()? {
            Edited::Done { .. } => return detail(store, &find(store, &old.id.to_string())?, now),
            Edited::Stale => {}
            Edited::NameTaken => return Err(ServiceError::NameTaken { name: definition.name }),
            Edited::NoSession => return Err(no_session()),
            Edited::Gone => return Err(unknown(store, name_or_id)?),
        }
    }
    Err(ServiceError::Contended { name: name() })
}

/// A schedule stays with its agent group, to which its session and its past belong.
fn check_owner(store: &Store, draft: &Draft, old: &Schedule) -> Result<(), ServiceError> {
    let Some(given) = &draft.agent else { return Ok(()) };
    match agent(store, "agent", given)?.id == old.agent_group {
        true => Ok(()),
        false => {
            let problem = "a schedule stays with its agent: add one for the other agent, and remove \
                           this one";
            Err(Mistake::new("agent", given, problem).into())
        }
    }
}

fn no_agent(given: &str) -> ServiceError {
    Mistake::new("agent", given, "was removed just now").into()
}

fn no_session() -> ServiceError {
    Mistake::missing("session", "was removed just now: choose another one").into()
}

/// The reason of a pause for which a person gave none.
const BY_A_PERSON: &str = "a person paused it";

/// Pauses the schedule with this name or id. What waits for its turn is cancelled, unless a person
/// asked for it; what runs goes on; slots that have come and were not fired are recorded as left out. A
/// schedule that is paused keeps its reason.
///
/// # Errors
/// [`ServiceError::UnknownSchedule`], [`ServiceError::Contended`]; [`ServiceError::Mistake`] in a reason that is too long.
pub fn pause(
    store: &Store,
    name_or_id: &str,
    reason: Option<&str>,
    ids: &(impl IdSource + ?Sized),
    now: UnixMillis,
) -> Result<PausedView, ServiceError> {
    const LONGEST: usize = 500;
    let reason = reason.map(str::trim).filter(|reason| !reason.is_empty()).unwrap_or(BY_A_PERSON);
    if reason.chars().count() > LONGEST {
        let problem = format!("is too long: use at most {LONGEST} characters");
        return Err(Mistake::new("reason", reason, problem).into());
    }
    let first = find(store, name_or_id)?;
    for _ in 0..TRIES {
        let old = find(store, &first.id.to_string())?;
        let passed = passed(store, &old, Reason::Paused, ids, now)?;
        let (was_paused, cancelled) =
            match store.schedules().pause(old.id, reason, passed, now).wait()? {
                schedules::Paused::Done { cancelled } => (false, cancelled),
                schedules::Paused::Already => (true, 0),
                schedules::Paused::Stale => continue,
                schedules::Paused::Gone => return Err(unknown(store, name_or_id)?),
            };
        let schedule = ScheduleView::of(store, &find(store, &old.id.to_string())?)?;
        return Ok(PausedView { schedule, was_paused, cancelled });
    }
    Err(ServiceError::Contended { name: first.definition.name })
}

/// Resumes the schedule with this name or id from `now` on: slots that came while it was paused are
/// not run. What had failed in a row counts no more.
///
/// # Errors
/// [`ServiceError::UnknownSchedule`], [`ServiceError::AgentGone`], [`ServiceError::Unreadable`],
/// [`ServiceError::Contended`].
pub fn resume(
    store: &Store,
    name_or_id: &str,
    now: UnixMillis,
) -> Result<ResumedView, ServiceError> {
    let first = find(store, name_or_id)?;
    for _ in 0..TRIES {
        let old = find(store, &first.id.to_string())?;
        let times = readable(&old)?;
        let next = times.first_after(old.id, now);
        let was_enabled = match store.schedules().resume(old.id, old.revision, next, now).wait()? {
            schedules::Resumed::Done => false,
            schedules::Resumed::Already => true,
            schedules::Resumed::Stale => continue,
            schedules::Resumed::Gone => {
                find(store, &old.id.to_string())?;
                return Err(ServiceError::AgentGone { name: old.definition.name });
            }
        };
        let detail = detail(store, &find(store, &old.id.to_string())?, now)?;
        return Ok(ResumedView { detail, was_enabled });
    }
    Err(ServiceError::Contended { name: first.definition.name })
}

/// Removes the schedule with this name or id, and cancels what waits for its turn. What runs goes
/// on, and its runs stay known.
///
/// # Errors
/// [`ServiceError::UnknownSchedule`].
pub fn remove(
    store: &Store,
    name_or_id: &str,
    now: UnixMillis,
) -> Result<RemovedView, ServiceError> {
    let schedule = find(store, name_or_id)?;
    match store.schedules().remove(schedule.id, now).wait()? {
        schedules::Removed::Done { cancelled } => {
            Ok(RemovedView { id: schedule.id, name: schedule.definition.name, cancelled })
        }
        schedules::Removed::Gone => Err(unknown(store, name_or_id)?),
    }
}

/// What becomes of slots that have come, and that nobody has fired yet, when a change takes them away:
/// the host was away, or they wait for their jitter or for chat. `None` if there are none, or if nobody
/// can tell which.
fn passed(
    store: &Store,
    schedule: &Schedule,
    reason: Reason,
    ids: &(impl IdSource + ?Sized),
    now: UnixMillis,
) -> Result<Option<SlotClaim>, ServiceError> {
    let Some(next) = schedule.next.filter(|next| next.slot <= now) else { return Ok(None) };
    let Ok(times) = Times::of(&schedule.definition) else { return Ok(None) };
    let taken = store.schedules().taken(schedule.id, next.slot, now).wait()?;
    let missed = missed::passed(&times.timetable, Slot(next.slot), now, reason, &taken);
    let row = |missed: Missed| SlotRow {
        id: RunId::generate(ids),
        slot: missed.first.0,
        due: missed.first.0,
        fate: SlotFate::Missed {
            reason,
            count: i64::try_from(missed.count).unwrap_or(i64::MAX),
            last_slot: missed.last.0,
        },
    };
    let open = store.runs().open_of(schedule.id).wait()?.rows;
    Ok(Some(SlotClaim {
        schedule: schedule.id,
        revision: schedule.revision,
        slot: next.slot,
        open: open.iter().map(|run| run.id).collect(),
        rows: missed.into_iter().map(row).collect(),
        replaces: Vec::new(),
        next: times.first_after(schedule.id, now),
        now,
    }))
}

/// What the definition of a schedule means.
pub(super) fn readable(schedule: &Schedule) -> Result<Times, ServiceError> {
    Times::of(&schedule.definition).map_err(|problem| ServiceError::Unreadable {
        name: schedule.definition.name.clone(),
        problem,
    })
}
