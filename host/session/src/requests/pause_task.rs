//! Keeping a task from being done.

use twobox_shared::inbox::Status;

use super::action::{Action, Fields};
use super::shown::{Shown, sentence, shown_row};
use super::tasks::{ID, busy};
use super::{Done, Effect, RequestView};
use crate::recurrence::Recurrence;

pub(super) const ACTION: Action = Action {
    name: "pause_task",
    fields: &[ID],
    does: "keeps it from being done",
    puts_off: false,
    decide,
};

fn decide(view: &RequestView<'_>, asked: &Fields) -> Result<Done, String> {
    let id = asked.text("id");
    let (row, content) = view.find(id)?;
    let now_shown = Shown { status: Status::Paused, next: None, ..shown_row(row, content) };
    let text = format!("Paused: {}.", sentence(&now_shown));
    if row.status == Status::Paused {
        return Ok((Effect::Nothing, text, vec![now_shown]));
    }
    if !view.at_work(row) {
        return Ok((Effect::Pause(row.id.clone()), text, vec![now_shown]));
    }
    let recurrence = Recurrence::of(row).map_err(|error| error.to_string())?;
    let recurrence = recurrence.ok_or_else(|| busy(id))?;
    let nominal = row.nominal.unwrap_or(view.now);
    let slot = view.first_after(&recurrence, nominal, view.now.max(nominal))?;
    let next = view.occurrence(
        &row.series,
        row.generation + 1,
        slot,
        Some(&recurrence),
        &recurrence.zone,
        true,
    );
    let effect = Effect::Replace { before: row.id.clone(), at_work: true, next, content: None };
    Ok((effect, text, vec![now_shown]))
}
