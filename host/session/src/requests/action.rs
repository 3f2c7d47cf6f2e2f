//! What an action is: a name, the fields that it takes with their types and limits, and what decides
//! it. What a request says is read by these, so that the same list parses, refuses and explains.

use serde_json::{Map, Value};
use twobox_shared::bounds::Bound;
use twobox_shared::content::shorten;

use super::{Done, RequestView, WORD_MAX};

/// The field that says which action is meant.
pub(super) const ACTION: &str = "action";

/// The field that every action takes.
pub(super) const WAKE: &str = "wake";

/// Something that an agent may ask for.
pub struct Action {
    /// The word for it.
    pub name: &'static str,
    /// What it takes besides what all take.
    pub fields: &'static [Field],
    /// What it does, as PROTOCOL.md says it.
    pub does: &'static str,
    /// Whether something is done because of it that would not be: an operator may forbid that.
    pub(super) puts_off: bool,
    /// Decides it. The fields are as [`Action::fields`] says.
    pub(super) decide: fn(&RequestView<'_>, &Fields) -> Result<Done, String>,
}

/// A field of an action: a text.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// What it is called.
    pub name: &'static str,
    /// Whether it may be left out, and what `null` says.
    pub need: Need,
    /// How long it may be, without the spaces around it. What has no limit of its own has the
    /// request's.
    pub most: Option<Bound>,
}

/// Whether a field has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It has to.
    Always,
    /// It may be left out, and `null` is the same.
    Perhaps,
    /// It may be left out, and `null` says something else.
    PerhapsNull,
}

/// The fields of a request, which are those of its action.
pub(super) struct Fields(Map<String, Value>);

impl Action {
    /// Reads the fields of a request, of which one said that this action is meant.
    ///
    /// # Errors
    /// Which field is wrong, and what the action takes.
    pub(super) fn read(&self, mut given: Map<String, Value>) -> Result<Fields, String> {
        given.remove(ACTION);
        if given.remove(WAKE).is_some_and(|wake| !wake.is_boolean()) {
            return Err(format!("`{WAKE}` is true or false"));
        }
        if let Some(name) = given.keys().find(|name| self.field(name).is_none()) {
            let name = shorten(name, WORD_MAX);
            return Err(format!("unknown field `{name}`: {} takes {}", self.name, self.takes()));
        }
        for field in self.fields {
            match (given.get(field.name), field.need) {
                (None | Some(Value::Null), Need::Always) => {
                    return Err(format!("`{}` is missing", field.name));
                }
                (None, _) | (Some(Value::Null), Need::Perhaps | Need::PerhapsNull) => {}
                (Some(Value::String(text)), _) => field.check(text)?,
                (Some(_), _) => return Err(format!("`{}` is not a string", field.name)),
            }
        }
        Ok(Fields(given))
    }

    fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// What it takes, in words: what it needs first, and what may be left out after that.
    pub fn takes(&self) -> String {
        let words = |needed: bool| {
            let fields = self.fields.iter().filter(|it| (it.need == Need::Always) == needed);
            fields.map(Field::words).collect::<Vec<_>>().join(", ")
        };
        match (words(true).as_str(), words(false).as_str()) {
            ("", "") => format!("only `{WAKE}`"),
            (needed, "") => needed.to_owned(),
            ("", others) => format!("perhaps {others}"),
            (needed, others) => format!("{needed}; perhaps {others}"),
        }
    }
}

impl Field {
    pub(super) const fn needed(name: &'static str, most: Option<Bound>) -> Self {
        Self { name, need: Need::Always, most }
    }

    pub(super) const fn perhaps(name: &'static str, most: Option<Bound>) -> Self {
        Self { name, need: Need::Perhaps, most }
    }

    fn check(&self, text: &str) -> Result<(), String> {
        let Some(most) = self.most else { return Ok(()) };
        let name = format!("`{}`", self.name);
        most.check(&name, text.trim().len()).map_err(|error| error.to_string())
    }

    fn words(&self) -> String {
        let most = self.most.map(|most| format!("{} {}", most.most, most.unit));
        let null = (self.need == Need::PerhapsNull).then(|| "or `null`".to_owned());
        let notes: Vec<String> = most.into_iter().chain(null).collect();
        match notes.is_empty() {
            true => format!("`{}`", self.name),
            false => format!("`{}` ({})", self.name, notes.join(", ")),
        }
    }
}

impl Fields {
    /// What a field says that the action needs.
    pub(super) fn text(&self, name: &str) -> &str {
        self.perhaps(name).expect("a needed field is there once the request was read")
    }

    /// What a field says that may be left out.
    pub(super) fn perhaps(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// What a field says, and whether it says anything, where `null` does.
    pub(super) fn perhaps_null(&self, name: &str) -> Option<Option<&str>> {
        self.0.get(name).map(Value::as_str)
    }
}
