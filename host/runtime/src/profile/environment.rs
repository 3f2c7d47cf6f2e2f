//! What an agent's program finds in its environment. The values may be secrets: they are shown and
//! logged nowhere, and stand in no command line.

use std::collections::BTreeMap;
use std::fmt;

use twobox_shared::bounds;

/// Names and values, checked.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

/// Names that nobody may give, by how they begin, and why.
const TAKEN: [(&str, &str); 6] = [
    ("TWOBOX_", "the host says to its runners what begins so"),
    ("LD_", "it would change how the runner itself is loaded"),
    ("GLIBC_TUNABLES", "it would change how the runner itself is loaded"),
    ("PATH", "the host looks for the agent's program by its own: name that by its whole path"),
    ("HOME", "it is the workspace of the conversation"),
    ("TMPDIR", "it is a folder of the conversation"),
];

impl Environment {
    /// An empty one.
    pub const fn none() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn of(variables: BTreeMap<String, String>) -> Result<Self, String> {
        let count = variables.len();
        bounds::AGENT_VARIABLES.check("environment", count).map_err(|error| error.to_string())?;
        for (name, value) in &variables {
            let field = format!("environment.{name}");
            let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let is_name = name.chars().all(letters)
                && name.chars().next().is_some_and(|first| !first.is_ascii_digit());
            if !is_name {
                return Err(format!(
                    "environment: {name:?} is no name of a variable: use letters, digits and _"
                ));
            }
            let taken = |(begin, _): &&(&str, &str)| match begin.ends_with('_') {
                true => name.starts_with(begin),
                false => name == begin,
            };
            if let Some((_, why)) = TAKEN.iter().find(taken) {
                return Err(format!("{field}: {why}: take another name"));
            }
            bounds::ENVIRONMENT.check(&field, value.len()).map_err(|error| error.to_string())?;
            if value.contains('\0') {
                return Err(format!("{field}: no program can be given a NUL"));
            }
        }
        Ok(Self(variables))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Names and values, for the process that is started.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn secret_text(&self) -> String {
        format!("{:?}", self.0)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
