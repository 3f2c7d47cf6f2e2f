//! Telling which tasks there are.

use std::collections::BTreeMap;

use super::action::{Action, Fields};
use super::shown::{Shown, sentence, shown_row};
use super::tasks::rank;
use super::{Done, Effect, Live, RequestView};

pub(super) const ACTION: Action = Action {
    name: "list_tasks",
    fields: &[],
    does: "tells which tasks there are",
    puts_off: false,
    decide,
};

fn decide(view: &RequestView<'_>, _: &Fields) -> Result<Done, String> {
    let mut live: BTreeMap<&str, &Live> = BTreeMap::new();
    for task in view.tasks {
        let kept = live.entry(&task.0.series).or_insert(task);
        if rank(&task.0) > rank(&kept.0) {
            *kept = task;
        }
    }
    let mut live: Vec<&Live> = live.into_values().collect();
    live.sort_by_key(|(row, _)| row.seq);
    let tasks: Vec<Shown> =
        live.into_iter().map(|(row, content)| shown_row(row, content)).collect();
    let text = match tasks.is_empty() {
        true => "There are no tasks in this conversation.".to_owned(),
        false => {
            let lines: Vec<String> =
                tasks.iter().map(|task| format!("\n- {}", sentence(task))).collect();
            format!("Tasks in this conversation: {}.{}", tasks.len(), lines.concat())
        }
    };
    Ok((Effect::Nothing, text, tasks))
}
