//! Looking at schedules, their runs and what these cost.

use twobox_shared::ids::RunId;
use twobox_shared::time::UnixMillis;

use super::times::Times;
use super::view::{
    Detail, ListedSchedule, MetricsList, MetricsView, Names, RunPage, RunView, ScheduleList,
    ScheduleView, Shown, Upcoming,
};
use super::warnings::Warnings;
use super::{Mistake, ServiceError, agent, unknown};
use twobox_store::Store;
use twobox_store::schedules::{MetricsPage, Run, Schedule, Status};

/// The most runs that one page has.
pub const PAGE_MAX: u32 = 1000;

/// So many of the next slots are shown.
const UPCOMING: usize = 5;

/// So many of the last runs are shown with a schedule.
const LAST_RUNS: u32 = 10;

/// The schedules of an agent group, or of all, by name.
///
/// # Errors
/// [`ServiceError::Mistake`] for an unknown agent.
pub fn list(store: &Store, of_agent: Option<&str>) -> Result<ScheduleList, ServiceError> {
    let of_agent = of_agent.map(|name| agent(store, "agent", name)).transpose()?;
    let listed = store.schedules().list(of_agent.map(|agent| agent.id)).wait()?;
    let mut shown = Vec::new();
    for schedule in &listed.rows {
        let last_run = page(store, Some(schedule), None, 1)?.runs.pop();
        shown.push(ListedSchedule { schedule: ScheduleView::of(store, schedule)?, last_run });
    }
    Ok(ScheduleList { schedules: shown, unreadable: listed.unreadable })
}

/// The schedule with this name or id, what is to be expected of it, its last runs and those that go
/// on. One that was removed is found by its id.
///
/// # Errors
/// [`ServiceError::UnknownSchedule`].
pub fn show(store: &Store, name_or_id: &str, now: UnixMillis) -> Result<Shown, ServiceError> {
    let schedule = find_any(store, name_or_id)?;
    let RunPage { mut runs, unreadable, .. } = page(store, Some(&schedule), None, LAST_RUNS)?;
    let open = store.runs().open_of(schedule.id).wait()?.rows;
    let waiting = open.iter().filter(|run| run.status == Status::Queued).count();
    // Many slots may have been left out since the one that goes on.
    let mut names = Names::default();
    let going_on = open.into_iter().rev().filter(|run| run.status == Status::Running);
    let older: Vec<RunView> = going_on
        .filter(|open| runs.iter().all(|run| run.id != open.id))
        .map(|open| RunView::of(open, names.of(store, schedule.id)))
        .collect();
    runs.extend(older);
    Ok(Shown { detail: detail(store, &schedule, now)?, waiting, runs, unreadable })
}

/// At most `limit` runs of a schedule, or of all, that were made before the run `before`; the newest
/// first.
///
/// # Errors
/// [`ServiceError::UnknownSchedule`]; [`ServiceError::Mistake`] for a limit that is not 1 to [`PAGE_MAX`].
pub fn runs(
    store: &Store,
    name_or_id: Option<&str>,
    before: Option<RunId>,
    limit: u32,
) -> Result<RunPage, ServiceError> {
    check_limit(limit)?;
    let schedule = name_or_id.map(|given| find_any(store, given)).transpose()?;
    page(store, schedule.as_ref(), before, limit)
}

/// The run with this id.
///
/// # Errors
/// [`ServiceError::UnknownRun`].
pub fn run(store: &Store, id: &str) -> Result<RunView, ServiceError> {
    let found = match id.parse::<RunId>() {
        Ok(id) => store.runs().find(id).wait()?,
        Err(_) => None,
    };
    let Some(found) = found else {
        return Err(ServiceError::UnknownRun { given: id.chars().take(64).collect() });
    };
    let mut names = Names::default();
    let schedule = found.schedule;
    Ok(RunView::of(found, names.of(store, schedule)))
}

/// What at most `limit` runs of a schedule, or of all, cost that ended at `since` or later, and before
/// the run `before`; those that ended last first.
///
/// # Errors
/// [`ServiceError::UnknownSchedule`]; [`ServiceError::Mistake`] for a limit that is not 1 to [`PAGE_MAX`].
pub fn metrics(
    store: &Store,
    name_or_id: Option<&str>,
    since: UnixMillis,
    before: Option<RunId>,
    limit: u32,
) -> Result<MetricsList, ServiceError> {
    check_limit(limit)?;
    let schedule = name_or_id.map(|given| find_any(store, given)).transpose()?;
    let schedule = schedule.map(|found| found.id);
    let listed = store.runs().metrics(&MetricsPage { schedule, since, before, limit }).wait()?;
    let is_full = listed.rows.len() + listed.unreadable.len() >= limit as usize;
    let next_before = listed.last.and_then(|id| id.parse().ok()).filter(|_| is_full);
    let mut names = Names::default();
    let metrics =
        listed.rows.iter().map(|row| MetricsView::of(row, names.of(store, row.schedule))).collect();
    Ok(MetricsList { metrics, next_before, unreadable: listed.unreadable })
}

fn check_limit(limit: u32) -> Result<(), Mistake> {
    match (1..=PAGE_MAX).contains(&limit) {
        true => Ok(()),
        false => {
            let problem = format!("{limit} is not allowed: use 1 to {PAGE_MAX}");
            Err(Mistake::new("limit", limit, problem))
        }
    }
}

/// The schedule with this name or id, removed or not.
fn find_any(store: &Store, name_or_id: &str) -> Result<Schedule, ServiceError> {
    match store.schedules().find(name_or_id).wait()? {
        Some(schedule) => Ok(schedule),
        None => Err(unknown(store, name_or_id)?),
    }
}

fn page(
    store: &Store,
    schedule: Option<&Schedule>,
    before: Option<RunId>,
    limit: u32,
) -> Result<RunPage, ServiceError> {
    let listed = store.runs().page(schedule.map(|schedule| schedule.id), before, limit).wait()?;
    let is_full = listed.rows.len() + listed.unreadable.len() >= limit as usize;
    let last_read = listed.rows.last().map(|run| run.id);
    let last_unread = listed.unreadable.last().and_then(|row| row.id.parse().ok());
    let next_before = last_read.into_iter().chain(last_unread).min().filter(|_| is_full);
    let mut names = Names::default();
    let of_row = |run: Run| {
        let schedule = run.schedule;
        RunView::of(run, names.of(store, schedule))
    };
    let runs = listed.rows.into_iter().map(of_row).collect();
    Ok(RunPage { runs, next_before, unreadable: listed.unreadable })
}

/// A schedule, and what is to be expected of it.
pub(super) fn detail(
    store: &Store,
    schedule: &Schedule,
    now: UnixMillis,
) -> Result<Detail, ServiceError> {
    let view = ScheduleView::of(store, schedule)?;
    // What cannot be read has no slots to show; the view says what is wrong.
    let (next, warnings) = match Times::of(&schedule.definition) {
        Ok(times) => {
            let upcoming = times.upcoming(schedule, UPCOMING);
            let next = upcoming.into_iter().map(|next| Upcoming::of(&times.zone, next)).collect();
            (next, Warnings::read(store, schedule, times.timetable, now)?)
        }
        Err(_) => (Vec::new(), Warnings::default()),
    };
    Ok(Detail { schedule: view, next, warnings })
}
