//! Ending a task.

use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Occurrence, Status};

use super::action::{Action, Fields};
use super::shown::{Shown, sentence, shown_row};
use super::tasks::ID;
use super::{Done, Effect, RequestView};

pub(super) const ACTION: Action =
    Action { name: "cancel_task", fields: &[ID], does: "ends it", puts_off: false, decide };

fn decide(view: &RequestView<'_>, asked: &Fields) -> Result<Done, String> {
    let (row, content) = view.find(asked.text("id"))?;
    let of_series = view.tasks.iter().map(|(row, _)| row).filter(|it| it.series == row.series);
    let (at_work, live): (Vec<_>, Vec<_>) = of_series.partition(|it| view.at_work(it));
    let ids = |rows: Vec<&Occurrence>| rows.into_iter().map(|row| row.id.clone()).collect();
    let (at_work, live): (Vec<MessageId>, Vec<MessageId>) = (ids(at_work), ids(live));
    let shown = Shown { status: Status::Cancelled, next: None, ..shown_row(row, content) };
    let rest = match at_work.is_empty() {
        true => "",
        false => " What is being worked on is finished; nothing follows it.",
    };
    let text = format!("Cancelled: {}.{rest}", sentence(&shown));
    Ok((Effect::Cancel { series: row.series.clone(), live, at_work }, text, vec![shown]))
}
