//! The schedule service: what a person may do with schedules and see of them. The command line and
//! the HTTP interface ask the same questions here and show the same answers.
//!
//! What holds:
//! - A [`Draft`] is what a person said, unchecked. Only [`check`] makes a definition of it, and says
//!   of each mistake which field it is in, what was given and what is allowed. Nothing is stored
//!   before everything was checked.
//! - Time and ids come in as values. Answers are the structs of [`view`], with all times on the clock
//!   of the schedule's zone.
//! - One row that cannot be read hides no other, and is named in the answer.
//!
//! Elsewhere: where slots are and what becomes of them (`slots`), the rows (`store::schedules`), and
//! firing them (`scheduler`).

mod backfill;
mod changes;
mod check;
mod draft;
mod look;
mod times;
pub mod view;
pub mod warnings;
mod words;

pub use backfill::{BACKFILL_MAX, backfill};
pub use changes::{add, edit, pause, remove, resume};
pub use check::{PROMPT_MAX, check_name, past_instant};
pub use draft::{Change, Draft, WrittenCadence, WrittenChat};
pub use look::{PAGE_MAX, list, metrics, run, runs, show};
pub use times::Times;
pub use words::in_words;

use twobox_store::agents::AgentError;
use twobox_store::schedules::Schedule;
use twobox_store::{DbError, Store, agents};

/// What a person said, and why it cannot be. Reads as one sentence after its field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{field}: {problem}")]
pub struct Mistake {
    /// The field of the [`Draft`], or the parameter.
    pub field: &'static str,
    /// What was given, shortened; `None` if nothing was.
    pub given: Option<String>,
    /// What is wrong with it, and what is allowed.
    pub problem: String,
}

impl Mistake {
    fn new(field: &'static str, given: impl ToString, problem: impl Into<String>) -> Self {
        let given = given.to_string().chars().take(64).collect();
        Self { field, given: Some(given), problem: problem.into() }
    }

    fn missing(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, given: None, problem: problem.into() }
    }
}

/// Why the service did not do what was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Something that was said cannot be.
    #[error(transparent)]
    Mistake(#[from] Mistake),
    /// An edit says nothing.
    #[error("say what to change: an edit without any field changes nothing")]
    NothingSaid,
    /// The name is taken.
    #[error(
        "there is already a schedule {name:?}: choose another name, or remove that one first \
         (`twobox schedules remove {name}`)"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// There is no such schedule.
    #[error("there is no schedule {given:?}; {known}")]
    UnknownSchedule {
        /// The name or id that was given.
        given: String,
        /// Which there are.
        known: String,
    },
    /// There is no such run.
    #[error("there is no run {given:?}: `twobox schedules runs` shows them")]
    UnknownRun {
        /// The id that was given.
        given: String,
    },
    /// Its agent group was removed, so it cannot go on.
    #[error(
        "the agent of schedule {name:?} was removed: add the agent again, or remove the schedule"
    )]
    AgentGone {
        /// The schedule's name.
        name: String,
    },
    /// The caller had read another revision.
    #[error("schedule {name:?} was changed since you read it: read it again, and say it again")]
    Stale {
        /// Its name.
        name: String,
    },
    /// Others kept changing it.
    #[error("schedule {name:?} is being changed by others all the time: try again")]
    Contended {
        /// Its name.
        name: String,
    },
    /// What is stored makes no sense to this build.
    #[error(
        "schedule {name:?} cannot be read: {problem}; `twobox schedules edit` can give it a new one"
    )]
    Unreadable {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: Mistake,
    },
    /// `host.db` refused.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What to do about a row that cannot be read.
pub const MEND: &str = "another build wrote it, or somebody by hand: update Twobox, or mend it";

/// How often a change starts anew because somebody else changed the schedule in between.
const TRIES: usize = 5;

/// The schedule with this name or id, if it was not removed.
///
/// # Errors
/// [`ServiceError::UnknownSchedule`].
pub fn find(store: &Store, name_or_id: &str) -> Result<Schedule, ServiceError> {
    match store.schedules().find(name_or_id).wait()? {
        Some(schedule) if schedule.removed_at.is_none() => Ok(schedule),
        Some(_) | None => Err(unknown(store, name_or_id)?),
    }
}

fn unknown(store: &Store, given: &str) -> Result<ServiceError, DbError> {
    const NAMED: usize = 10;
    let names: Vec<String> = store
        .schedules()
        .list(None)
        .wait()?
        .rows
        .into_iter()
        .map(|known| known.definition.name)
        .collect();
    let known = match names.len() {
        0 => "there are none yet: `twobox schedules add` makes one".to_owned(),
        1..=NAMED => format!("there are: {}", names.join(", ")),
        count => format!("`twobox schedules list` shows the {count} that there are"),
    };
    Ok(ServiceError::UnknownSchedule { given: given.chars().take(64).collect(), known })
}

/// The agent group that `field` names.
fn agent(
    store: &Store,
    field: &'static str,
    name_or_id: &str,
) -> Result<agents::AgentGroup, ServiceError> {
    store.agents().find(name_or_id).wait().map_err(|error| match error {
        AgentError::Db(error) => error.into(),
        other => Mistake::new(field, name_or_id, other.to_string()).into(),
    })
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
