//! What a person can do about a schedule that does not run as it should.

use twobox_schedule::service::view::{Detail, RunView, ScheduleView, Shown, State};
use twobox_slots::reason::Reason;
use twobox_slots::{overlap, streak};
use twobox_store::schedules::Status;

/// What to do, the most urgent first; nothing if all is well.
pub(super) fn about(shown: &Shown, is_up: bool) -> Vec<String> {
    let Shown { detail: Detail { schedule, .. }, runs, .. } = shown;
    let name = &schedule.name;
    let mut advice = Vec::new();
    if schedule.problem.is_some() {
        advice.push(format!(
            "give it another cadence or zone: `twobox schedules edit {name} --daily HH:MM --timezone \
             ZONE`"
        ));
    }
    advice.extend(starting(shown, is_up));
    match schedule.state {
        State::Enabled | State::Removed => {}
        State::Paused => advice.push(resuming(schedule)),
        State::Over => advice.push(format!(
            "to let it go on, give it slots: `twobox schedules edit {name}` with a cadence, --not-after \
             or --max-runs, or remove it"
        )),
    }
    if schedule.state != State::Removed
        && let Some(run) = runs.first()
        && let Some(reason) = run.reason
    {
        advice.extend(after(schedule, run, reason));
    }
    advice
}

/// What keeps slots from firing, and runs that wait from starting.
fn starting(shown: &Shown, is_up: bool) -> Option<String> {
    let schedule = &shown.detail.schedule;
    let waits = shown.waiting > 0;
    let goes_on = shown.runs.iter().any(|run| run.status == Status::Running);
    let advice = match (is_up, waits) {
        (false, _) if waits || schedule.state == State::Enabled => {
            "the host does not run, so nothing fires: `twobox up`"
        }
        (_, false) | (false, true) => return None,
        (true, true) if goes_on && schedule.overlap != overlap::Policy::Allow => {
            "what waits begins when the run that goes on has ended: `twobox schedules cancel RUN` \
             ends it"
        }
        (true, true) => {
            "what waits begins as soon as fewer runs go on than may at once \
             (schedule.max_concurrent): `twobox schedules runs` shows which do"
        }
    };
    Some(advice.to_owned())
}

fn resuming(schedule: &ScheduleView) -> String {
    let name = &schedule.name;
    let streaks = schedule.streaks;
    let resume = format!("`twobox schedules resume {name}`");
    if streaks.breaches >= streak::BREACHES {
        return format!(
            "allow more turns with `twobox schedules edit {name} --max-turns N`, or ask for less, then \
             {resume}"
        );
    }
    if streaks.failures >= streak::FAILURES {
        return format!("mend what made the last runs fail, then {resume}");
    }
    format!("to let it go on from then: {resume}")
}

/// What to do after a run or slot that ended without success.
fn after(schedule: &ScheduleView, run: &RunView, reason: Reason) -> Option<String> {
    let name = &schedule.name;
    let edit = format!("`twobox schedules edit {name}");
    Some(match reason {
        Reason::TurnLimitExceeded => format!("to allow more turns: {edit} --max-turns N`"),
        Reason::Timeout | Reason::LeaseExpired => {
            format!("to let runs go on for longer: {edit} --max-run SECS`")
        }
        Reason::Overlap => {
            let other = match schedule.overlap {
                overlap::Policy::Skip => "--overlap queue` lets one slot wait",
                overlap::Policy::Queue => "--overlap allow` lets runs go on side by side",
                // Its policy was another one then.
                overlap::Policy::Replace | overlap::Policy::Allow => return None,
            };
            format!(
                "its runs last longer than the time between slots: {edit} {other}, and another \
                 cadence makes fewer"
            )
        }
        Reason::Policy | Reason::Window | Reason::Limit => {
            let from = run.slot.as_deref()?;
            let to = run.last_slot.as_deref().unwrap_or(from);
            format!(
                "to run it after all: `twobox schedules backfill {name} --from {from} --to {to}`"
            )
        }
        Reason::AuthFailed | Reason::BudgetExceeded | Reason::RateLimited => {
            "look after the account at the agent's provider".to_owned()
        }
        Reason::PrepareFailed | Reason::ProviderError | Reason::Interrupted => match run.session {
            Some(session) => format!("see what happened: `twobox sessions tail {session}`"),
            None => "see what happened in the log of the host".to_owned(),
        },
        Reason::Aborted | Reason::Replaced | Reason::Edited | Reason::Paused | Reason::Removed => {
            return None;
        }
    })
}
