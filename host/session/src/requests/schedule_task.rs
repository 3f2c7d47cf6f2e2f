//! Making a task.

use twobox_shared::bounds;
use twobox_shared::inbox::NewTask;

use super::action::{Action, Field, Fields};
use super::shown::{sentence, shown};
use super::tasks::{PROCESS_AFTER, RECURRENCE, TASKS_MAX, ZONE, content};
use super::{Done, Effect, RequestView};
use crate::recurrence::zone_of;

pub(super) const ACTION: Action = Action {
    name: "schedule_task",
    fields: &[Field::needed("prompt", Some(bounds::TASK_PROMPT)), PROCESS_AFTER, RECURRENCE, ZONE],
    does: "makes a task. Without `process_after` it is due at the first time of its recurrence, \
           and without both at once",
    puts_off: true,
    decide,
};

fn decide(view: &RequestView<'_>, asked: &Fields) -> Result<Done, String> {
    if let Some(refusal) = view.refusal {
        return Err(refusal.to_owned());
    }
    if view.tasks.len() >= TASKS_MAX {
        return Err(format!(
            "there are {TASKS_MAX} tasks in this conversation already, and that is the most: \
             cancel one that is not needed any more"
        ));
    }
    if view.tasks.iter().any(|(row, _)| row.series == view.series) {
        return Err("this task is there already".to_owned());
    }
    let content = content(asked.text("prompt"))?;
    let zone = zone_of(asked.perhaps("zone")).map_err(|error| error.to_string())?;
    let recurrence = asked.perhaps("recurrence");
    let recurrence = recurrence.map(|text| view.recurrence(text, &zone)).transpose()?;
    let nominal = match (asked.perhaps("process_after"), &recurrence) {
        (Some(text), _) => view.instant(text, &zone)?,
        (None, Some(recurrence)) => view.first_after(recurrence, view.now, view.now)?,
        (None, None) => view.now,
    };
    let first = view.occurrence(view.series, 0, nominal, recurrence.as_ref(), &zone, false);
    let shown = shown(view.series, &first, &content);
    let text = format!("Scheduled as {}.", sentence(&shown));
    let task =
        NewTask { series: view.series.to_owned(), content, origin: view.origin.clone(), first };
    Ok((Effect::Begin(task), text, vec![shown]))
}
