//! Asking whether a tool may be used.

use twobox_model::approval::Subject;
use twobox_shared::bounds;

use super::action::{Action, Field, Fields};
use super::{Done, Effect, RequestView, UNTIL};

pub(super) const ACTION: Action = Action {
    name: "ask_permission",
    fields: &[
        Field::needed("tool", Some(bounds::TOOL)),
        Field::needed("arguments", Some(bounds::TOOL_ARGUMENTS)),
        UNTIL,
    ],
    does: "asks a person whether `tool` may be used with exactly these `arguments`, where the answer of \
           the turn goes. What they say comes as the answer to this, when they have decided",
    puts_off: false,
    decide,
};

fn decide(view: &RequestView<'_>, asked: &Fields) -> Result<Done, String> {
    subject(asked)?;
    view.asks_people(asked)?;
    Ok((Effect::Asked, "A person is asked.".to_owned(), Vec::new()))
}

/// What is asked.
pub(super) fn subject(asked: &Fields) -> Result<Subject, String> {
    match asked.text("tool").trim() {
        "" => Err("`tool` is empty".to_owned()),
        tool => Ok(Subject::permission(tool, asked.text("arguments"))),
    }
}
