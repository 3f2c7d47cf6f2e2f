//! What an agent asks of the host: tasks for later, and to ask people, decided. Pure: the content of a
//! `system` row and the session's live tasks in, a guarded change and the answer to the agent out.
//!
//! Each action has a file of its own, and [`ACTIONS`] lists them: what they take is read, refused and
//! documented by that list. Carrying out is the same for all, in `serving`.
//!
//! Whatever a container writes here reaches the tasks of its own session and nothing else. Fields
//! that nobody knows are refused, for a misspelt `recurrence` would otherwise make another task.

mod action;
mod ask;
mod ask_permission;
mod cancel_task;
mod list_tasks;
mod pause_task;
mod resume_task;
mod schedule_task;
mod shown;
mod tasks;
mod update_task;
mod wanted;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use twobox_shared::bounds;
use twobox_shared::content::shorten;
use twobox_shared::ids::MessageId;
use twobox_shared::inbox::{Amended, NewOccurrence, NewTask, Occurrence, Origin};
use twobox_shared::time::UnixMillis;

pub use action::{Action, Field, Need};
use shown::Shown;
pub use shown::local_time;
pub use tasks::TASKS_MAX;
pub use wanted::{Wanted, wanted};

/// Everything that an agent may ask for, as PROTOCOL.md lists it. Each has a file of its own.
pub static ACTIONS: [Action; 8] = [
    schedule_task::ACTION,
    list_tasks::ACTION,
    update_task::ACTION,
    pause_task::ACTION,
    resume_task::ACTION,
    cancel_task::ACTION,
    ask::ACTION,
    ask_permission::ACTION,
];

/// Until when whoever asks waits for a person.
const UNTIL: Field = Field::perhaps("until", Some(bounds::TIME_ZONE));

/// How many characters of a reason are told.
const REASON_MAX: usize = 500;

/// How many characters of a word that an agent wrote are told.
const WORD_MAX: usize = 64;

/// A live occurrence and its content.
pub type Live = (Occurrence, String);

/// Everything that the decision depends on.
pub struct RequestView<'a> {
    /// The wall clock.
    pub now: UnixMillis,
    /// The shortest time between two occurrences of a task.
    pub min_interval: Duration,
    /// Whether agents may put anything off.
    pub may_make: bool,
    /// The id of the series that this request would begin.
    pub series: &'a str,
    /// Where the answers of a task go that this request makes.
    pub origin: &'a Origin,
    /// Why they may not go there, if they may not.
    pub refusal: Option<&'a str>,
    /// The session's live occurrences, oldest first.
    pub tasks: &'a [Live],
    /// What came of asking people what the request wants them to be asked; `None` where there is nobody
    /// to ask, or nothing.
    pub asked: Option<Result<(), &'a str>>,
    /// Whether an occurrence is being worked on.
    pub at_work: &'a dyn Fn(&Occurrence) -> bool,
}

/// A guarded change of the session's tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// None.
    Nothing,
    /// None: a person was asked, and what they say is the answer, when they have decided.
    Asked,
    /// A new series.
    Begin(NewTask),
    /// Another live occurrence in the place of one, with other content if there is any.
    Replace {
        /// The one that was live. It is finished if it is being worked on, and cancelled otherwise.
        before: MessageId,
        /// Whether it is being worked on.
        at_work: bool,
        /// The one that is live from now on.
        next: NewOccurrence,
        /// Its content, if that changed.
        content: Option<String>,
    },
    /// The live occurrence says something else, or nothing follows it. It stays the same one, for
    /// somebody may be working on it whom the last look did not show.
    Amend(MessageId, Amended),
    /// The live occurrence waits.
    Pause(MessageId),
    /// The live occurrence waits no longer, and is due when it was: the same one, as above.
    Resume(MessageId),
    /// Nothing follows in a series.
    Cancel {
        /// Which.
        series: String,
        /// Its live occurrences that nobody works on.
        live: Vec<MessageId>,
        /// Those that are being worked on, and are finished.
        at_work: Vec<MessageId>,
    },
}

/// What comes of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// What is changed.
    pub effect: Effect,
    /// Why it was refused, if it was; then nothing is changed.
    pub refusal: Option<String>,
    /// The answer: a content of the protocol.
    pub answer: String,
    /// Whether the answer starts a turn.
    pub wake: bool,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    text: &'a str,
    request: &'a MessageId,
    action: &'a str,
    ok: bool,
    tasks: &'a [Shown],
}

/// What is done, what is said of it, and the tasks that it is about.
type Done = (Effect, String, Vec<Shown>);

/// Decides about the request that the row `id` makes. See the module's contract.
pub fn respond(view: &RequestView<'_>, id: &MessageId, content: &str) -> Response {
    let fields = read(content);
    let word = |fields: &Map<String, Value>| {
        fields.get(action::ACTION).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let action = fields.as_ref().map(word).unwrap_or_default();
    let wake =
        fields.as_ref().is_ok_and(|fields| fields.get(action::WAKE) == Some(&Value::Bool(true)));
    let done = fields.and_then(|fields| view.decide(&action, fields));
    let refusal = done.as_ref().err().map(|reason| shorten(reason, REASON_MAX));
    let (effect, text, tasks) = done.unwrap_or_else(|_| {
        let reason = refusal.as_deref().unwrap_or_default();
        let action = if action.is_empty() { "a request" } else { &action };
        let text = format!("Refused: {}: {reason}.", shorten(action, WORD_MAX));
        (Effect::Nothing, text, Vec::new())
    });
    let ok = refusal.is_none();
    let action = shorten(&action, WORD_MAX);
    let answer = Answer { text: &text, request: id, action: &action, ok, tasks: &tasks };
    let answer = serde_json::to_string(&answer).expect("strings always serialise");
    Response { effect, refusal, answer, wake }
}

fn read(content: &str) -> Result<Map<String, Value>, String> {
    bounds::REQUEST.check("the request", content.len()).map_err(|error| error.to_string())?;
    match serde_json::from_str(content) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err("a request is a JSON object with an `action`".to_owned()),
    }
}

impl RequestView<'_> {
    fn decide(&self, word: &str, given: Map<String, Value>) -> Result<Done, String> {
        let Some(action) = ACTIONS.iter().find(|action| action.name == word) else {
            return Err(unknown());
        };
        if action.puts_off && !self.may_make {
            return Err("the operator of this host lets no agent put tasks off \
                        (schedule.agent_tasks)"
                .to_owned());
        }
        (action.decide)(self, &action.read(given)?)
    }
}

fn unknown() -> String {
    let names: Vec<&str> = ACTIONS.iter().map(|action| action.name).collect();
    let (last, others) = names.split_last().expect("there are actions");
    format!("this host knows no such request: write {} or {last}", others.join(", "))
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "actions_tests.rs"]
mod actions_tests;
