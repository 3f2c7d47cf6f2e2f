//! Changing a task.

use twobox_shared::bounds;
use twobox_shared::inbox::{Amended, Occurrence, Status};

use super::action::{Action, Field, Fields, Need};
use super::shown::{sentence, shown, shown_row};
use super::tasks::{ID, PROCESS_AFTER, RECURRENCE, ZONE, busy, content};
use super::{Done, Effect, RequestView};
use crate::recurrence::{Recurrence, zone_of};

pub(super) const ACTION: Action = Action {
    name: "update_task",
    fields: &[
        ID,
        Field::perhaps("prompt", Some(bounds::TASK_PROMPT)),
        PROCESS_AFTER,
        Field { need: Need::PerhapsNull, ..RECURRENCE },
        ZONE,
    ],
    does: "changes it; one field at least has to be there. Another recurrence or zone recomputes \
           its next time; the recurrence `null` makes this time the last",
    puts_off: true,
    decide,
};

fn decide(view: &RequestView<'_>, asked: &Fields) -> Result<Done, String> {
    let id = asked.text("id");
    let (prompt, process_after) = (asked.perhaps("prompt"), asked.perhaps("process_after"));
    let (recurrence, zone) = (asked.perhaps_null("recurrence"), asked.perhaps("zone"));
    let (row, before) = view.find(id)?;
    if (prompt, process_after, recurrence, zone) == (None, None, None, None) {
        return Err(
            "there is nothing to change: give prompt, process_after, recurrence or zone".to_owned()
        );
    }
    let at_work = view.at_work(row);
    let changed = prompt.map(content).transpose()?;
    let retimed = recurrence.is_some() || zone.is_some();
    let zone = zone_of(zone.or(row.zone.as_deref())).map_err(|e| e.to_string())?;
    let recurrence = match recurrence {
        Some(text) => text.map(|text| view.recurrence(text, &zone)).transpose()?,
        None => match &row.recurrence {
            Some(text) => {
                Some(Recurrence::parse(text, zone.clone()).map_err(|error| error.to_string())?)
            }
            None => None,
        },
    };
    let nominal = row.nominal.or(row.process_after).unwrap_or(view.now);
    let other_time = match (process_after, &recurrence) {
        (Some(text), _) => Some(view.instant(text, &zone)?),
        (None, Some(recurrence)) if retimed => {
            let after = if at_work { view.now.max(nominal) } else { view.now };
            Some(view.first_after(recurrence, view.now, after)?)
        }
        (None, Some(recurrence)) if at_work => {
            Some(view.first_after(recurrence, nominal, view.now.max(nominal))?)
        }
        (None, None) if at_work => return Err(busy(id)),
        (None, _) => None,
    };
    let Some(nominal) = other_time else {
        let recurrence = recurrence.as_ref().map(Recurrence::text);
        let zone = Some(zone.name().to_owned());
        let now_row =
            Occurrence { recurrence: recurrence.clone(), zone: zone.clone(), ..row.clone() };
        let shown = shown_row(&now_row, changed.as_deref().unwrap_or(before));
        let text = format!("Changed: {}.", sentence(&shown));
        let amended = Amended { content: changed, recurrence, zone };
        return Ok((Effect::Amend(row.id.clone(), amended), text, vec![shown]));
    };
    let paused = row.status == Status::Paused;
    let generation = row.generation + 1;
    let next =
        view.occurrence(&row.series, generation, nominal, recurrence.as_ref(), &zone, paused);
    let shown = shown(&row.series, &next, changed.as_deref().unwrap_or(before));
    let text = format!("Changed: {}.", sentence(&shown));
    let before = row.id.clone();
    Ok((Effect::Replace { before, at_work, next, content: changed }, text, vec![shown]))
}
