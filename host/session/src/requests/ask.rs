//! Having a person choose.

use std::collections::HashSet;

use twobox_model::approval::{CHOICES_MAX, Subject};
use twobox_shared::bounds;
use twobox_shared::visible;

use super::action::{Action, Field, Fields};
use super::{Done, Effect, RequestView, UNTIL};

/// How many characters a choice has at most.
const CHOICE_MAX: usize = 100;

pub(super) const ACTION: Action = Action {
    name: "ask",
    fields: &[
        Field::needed("question", Some(bounds::QUESTION)),
        Field::needed("choices", Some(bounds::QUESTION)),
        UNTIL,
    ],
    does: "has a person choose one of 2 to 8 `choices`, one a line, where the answer of the turn goes. \
           What they choose comes as the answer to this, when they have",
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
    let question = asked.text("question").trim();
    if question.is_empty() {
        return Err("`question` is empty".to_owned());
    }
    let lines = asked.text("choices").lines().map(str::trim).filter(|line| !line.is_empty());
    let choices: Vec<String> = lines.map(visible::line).collect();
    if !(2..=CHOICES_MAX).contains(&choices.len()) {
        let count = choices.len();
        return Err(format!(
            "there are {count} choices, and there have to be 2 to {CHOICES_MAX}, one a line"
        ));
    }
    if choices.iter().any(|choice| choice.chars().count() > CHOICE_MAX) {
        return Err(format!("a choice is longer than {CHOICE_MAX} characters"));
    }
    let mut seen = HashSet::new();
    match choices.iter().all(|choice| seen.insert(choice.to_lowercase())) {
        true => Ok(Subject::question(question, choices)),
        false => Err("two choices are the same".to_owned()),
    }
}
