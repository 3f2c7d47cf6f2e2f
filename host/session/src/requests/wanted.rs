//! What a request wants people to be asked, before it is decided about: asking is not of the inbox.

use twobox_model::approval::Subject;
use twobox_shared::time::UnixMillis;

use super::action::{self, Fields};
use super::{ACTIONS, RequestView, UNTIL, ask, ask_permission, read};

/// What a request wants people to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What.
    pub subject: Subject,
    /// Until when whoever asks waits, by their own word.
    pub until: Option<UnixMillis>,
    /// Whether the answer is to start a turn.
    pub wake: bool,
}

/// What `content` wants people to be asked. `None` if it wants something else, or is refused whatever
/// comes of it.
pub fn wanted(content: &str) -> Option<Wanted> {
    let given = read(content).ok()?;
    let word = given.get(action::ACTION)?.as_str()?;
    let action = ACTIONS.iter().find(|action| action.name == word)?;
    let subject: fn(&Fields) -> Result<Subject, String> = match action.name {
        name if name == ask::ACTION.name => ask::subject,
        name if name == ask_permission::ACTION.name => ask_permission::subject,
        _ => return None,
    };
    let wake = given.get(action::WAKE).and_then(serde_json::Value::as_bool).unwrap_or(false);
    let fields = action.read(given).ok()?;
    let until = until(&fields).ok()?;
    Some(Wanted { subject: subject(&fields).ok()?, until, wake })
}

/// Until when whoever asks waits.
fn until(fields: &Fields) -> Result<Option<UnixMillis>, String> {
    let Some(text) = fields.perhaps(UNTIL.name) else { return Ok(None) };
    let wrong = || format!("`{}` is no time as 2026-11-01T09:00:00Z", UNTIL.name);
    UnixMillis::parse(text.trim()).map(Some).ok_or_else(wrong)
}

impl RequestView<'_> {
    /// Whether people are asked.
    pub(super) fn asks_people(&self, asked: &Fields) -> Result<(), String> {
        until(asked)?;
        if let Some(refusal) = self.refusal {
            return Err(refusal.to_owned());
        }
        match self.asked {
            Some(outcome) => outcome.map_err(str::to_owned),
            None => Err("nobody can be asked here".to_owned()),
        }
    }
}
