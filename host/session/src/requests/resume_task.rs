//! Letting a task go on.

use twobox_shared::inbox::{Occurrence, Status};

use super::action::{Action, Fields};
use super::shown::{sentence, shown, shown_row};
use super::tasks::ID;
use super::{Done, Effect, RequestView};
use crate::recurrence::{Recurrence, zone_of};

pub(super) const ACTION: Action = Action {
    name: "resume_task",
    fields: &[ID],
    does: "lets it go on, with the first time to come; nothing is made up for, except what is \
           done once only",
    puts_off: true,
    decide,
};

/// Nothing that was missed is made up for: the task goes on with the first time to come.
fn decide(view: &RequestView<'_>, asked: &Fields) -> Result<Done, String> {
    let (row, content) = view.find(asked.text("id"))?;
    if row.status != Status::Paused {
        let shown = shown_row(row, content);
        let text = format!("It is not paused: {}.", sentence(&shown));
        return Ok((Effect::Nothing, text, vec![shown]));
    }
    let recurrence = Recurrence::of(row).map_err(|error| error.to_string())?;
    let nominal = row.nominal.or(row.process_after).unwrap_or(view.now);
    let nominal = match &recurrence {
        Some(recurrence) if nominal <= view.now => {
            view.first_after(recurrence, nominal, view.now)?
        }
        _ => {
            let now_row = Occurrence { status: Status::Pending, ..row.clone() };
            let shown = shown_row(&now_row, content);
            let text = format!("Resumed: {}.", sentence(&shown));
            return Ok((Effect::Resume(row.id.clone()), text, vec![shown]));
        }
    };
    let zone = zone_of(row.zone.as_deref()).map_err(|error| error.to_string())?;
    let generation = row.generation + 1;
    let next = view.occurrence(&row.series, generation, nominal, recurrence.as_ref(), &zone, false);
    let shown = shown(&row.series, &next, content);
    let text = format!("Resumed: {}.", sentence(&shown));
    let effect = Effect::Replace { before: row.id.clone(), at_work: false, next, content: None };
    Ok((effect, text, vec![shown]))
}
