//! The checks of what is said together. What a person did not touch is not held against them: a limit may
//! have changed since.

use std::time::Duration;

use twobox_shared::time::UnixMillis;

use super::Checked;
use crate::service::{Change, Draft, Mistake, Times};
use twobox_slots::timetable::{Bounds, Timetable};
use twobox_store::schedules::Definition;

/// Checks a `definition` whose fields are fit, each by itself, and which has fired `fired` times.
pub(super) fn together(
    draft: &Draft,
    definition: Definition,
    has_new_slots: bool,
    fired: i64,
    min_interval: Duration,
    now: UnixMillis,
) -> Result<Checked, Mistake> {
    answers_in_one_place(draft, &definition)?;
    bounds_in_order(draft, &definition)?;
    let times = Times::of(&definition)?;
    if draft.cadence.is_some() {
        times.cadence.check_interval(min_interval).map_err(|error| {
            Mistake::new("cadence", &definition.cadence_value, error.to_string())
        })?;
    }
    jitter_between_slots(draft, &times)?;
    if has_new_slots {
        fires_once_more(draft, &definition, &times, now)?;
    }
    more_runs_than_were(draft, fired)?;
    Ok(Checked { definition, times, has_new_slots })
}

fn answers_in_one_place(draft: &Draft, definition: &Definition) -> Result<(), Mistake> {
    let (Some(session), Some(chat)) = (definition.session, &definition.to.platform_id) else {
        return Ok(());
    };
    let problem = format!(
        "the answer of a run in session {session} goes into that conversation, and not to {chat:?}: \
         have each run get a session of its own, or say no chat"
    );
    Err(match draft.to {
        Change::Keep => Mistake::new("session", session, problem),
        Change::Reset | Change::Set(_) => Mistake::new("to", chat, problem),
    })
}

fn bounds_in_order(draft: &Draft, definition: &Definition) -> Result<(), Mistake> {
    if let (Some(first), Some(last)) = (definition.not_before, definition.not_after)
        && first >= last
    {
        let field = if draft.not_after == Change::Keep { "not_before" } else { "not_after" };
        let problem = format!("the first instant, {first}, is not before the last one, {last}");
        return Err(Mistake::missing(field, problem));
    }
    Ok(())
}

fn jitter_between_slots(draft: &Draft, times: &Times) -> Result<(), Mistake> {
    if (draft.cadence.is_some() || draft.jitter_sec != Change::Keep)
        && !times.jitter.is_zero()
        && let Some(shortest) = times.cadence.shortest_interval()
        && times.jitter >= shortest
    {
        let problem = format!(
            "{} is not less than the {} that may lie between two slots of {}",
            humantime::format_duration(times.jitter),
            humantime::format_duration(shortest),
            times.cadence
        );
        return Err(Mistake::new("jitter_sec", times.jitter.as_secs(), problem));
    }
    Ok(())
}

fn fires_once_more(
    draft: &Draft,
    definition: &Definition,
    times: &Times,
    now: UnixMillis,
) -> Result<(), Mistake> {
    if times.timetable.first_after(now).is_some() {
        return Ok(());
    }
    let bounds = match (definition.not_before, definition.not_after) {
        (None, None) => "",
        _ => " within not_before and not_after",
    };
    let problem = format!(
        "{} has no slot after {}{bounds}: it would never fire",
        times.cadence,
        times.zone.rfc3339(now)
    );
    let (field, given) = at_fault(draft, definition, times, now);
    Err(Mistake::new(field, given, problem))
}

fn more_runs_than_were(draft: &Draft, fired: i64) -> Result<(), Mistake> {
    if let (Change::Set(most), true) = (&draft.max_runs, fired > 0)
        && *most <= fired
    {
        let problem = format!(
            "it has fired {fired} times already: allow more, or pause it if it is to end now"
        );
        return Err(Mistake::new("max_runs", most, problem));
    }
    Ok(())
}

/// Which field leaves no slot after `now`, and what it says: a bound that was just given, if there are
/// slots without the bounds.
fn at_fault<'a>(
    draft: &'a Draft,
    definition: &'a Definition,
    times: &Times,
    now: UnixMillis,
) -> (&'static str, &'a str) {
    let bounds = [("not_after", &draft.not_after), ("not_before", &draft.not_before)];
    let given = bounds.into_iter().find_map(|(field, said)| match said {
        Change::Set(text) => Some((field, text.as_str())),
        Change::Keep | Change::Reset => None,
    });
    let has_slots = || {
        let (zone, anchor) = (times.zone.clone(), definition.anchor);
        let unbounded = Timetable::new(&times.cadence, zone, anchor, Bounds::default());
        unbounded.first_after(now).is_some()
    };
    given.filter(|_| has_slots()).unwrap_or(("cadence", &definition.cadence_value))
}
