//! `twobox agents set`: fields of an agent's configuration by their names, `budget.usd_per_day=2`.

use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Map, Value};
use twobox_shared::agent_config::ModelName;

use super::provider::{Provider, Wish};
use crate::cli::output::Failure;
use crate::cli::{Context, programs};
use twobox_runtime::profile::File;

/// What is short for a field that lies deeper.
const SHORT: &[(&str, &str)] =
    &[("tools", "provider.tools"), ("model", "provider.model"), ("mcp", "provider.mcp")];

/// The field of the models that are asked.
const MODEL: &[&str] = &["provider", "model"];

/// One field, and what it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Field {
    path: Vec<String>,
    /// Nothing if the field is to be left out.
    text: String,
}

/// Reads `NAME=VALUE`.
pub(in crate::cli) fn field(given: &str) -> Result<Field, String> {
    let (name, text) = given
        .split_once('=')
        .ok_or_else(|| "use NAME=VALUE, such as budget.usd_per_day=2".to_owned())?;
    let mut path: Vec<String> = name.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err(format!("{name:?} names no field: use names with points between them"));
    }
    // The name of a variable may have points in it.
    if path.len() > 2 && path[0] == "environment" {
        path = vec![path[0].clone(), path[1..].join(".")];
    }
    if let Some((_, long)) = SHORT.iter().find(|(short, _)| *short == path[0]) {
        path.splice(..1, long.split('.').map(str::to_owned));
    }
    Ok(Field { path, text: text.to_owned() })
}

/// Sets `fields` of the agent called `name`, in their order. The model that is set with a provider is what that
/// one is to ask, wherever it stands.
pub(super) fn set(context: &Context, name: &str, fields: &[Field]) -> Result<ExitCode, Failure> {
    let mut work = fields.to_vec();
    let takes_models = work.iter().any(|field| field.names_a_provider());
    let mut models = Vec::new();
    if takes_models {
        for field in work.extract_if(.., |field| field.is(MODEL)) {
            models = field.models()?;
        }
    }
    programs::change(context, name, |file| {
        for field in &work {
            match field.names_a_provider() {
                true => {
                    let (provider, models) = (Some(field.provider()?), models.clone());
                    Wish { provider, models, ..Wish::default() }.put(file)?;
                }
                false => *file = put(file, field)?,
            }
        }
        Ok(())
    })
}

impl Field {
    fn is(&self, path: &[&str]) -> bool {
        self.path == path
    }

    /// Whether it says in a word what is to answer, and not in an object all that there is to say of that.
    fn names_a_provider(&self) -> bool {
        self.is(&["provider"]) && !self.text.is_empty() && !self.text.trim_start().starts_with('{')
    }

    fn provider(&self) -> Result<Provider, Failure> {
        let word = self.text.trim_matches('"');
        Provider::from_str(word, false).map_err(|_| {
            let known = Provider::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let known: Vec<String> = known.map(|it| it.get_name().to_owned()).collect();
            Failure::usage(format!(
                "provider: there is none called {word:?}: use {}",
                known.join(", ")
            ))
        })
    }

    /// The models that it names: one, or a list in JSON.
    fn models(&self) -> Result<Vec<ModelName>, Failure> {
        let names = match serde_json::from_str::<Vec<String>>(&self.text) {
            Ok(names) => names,
            Err(_) => vec![self.text.trim_matches('"').to_owned()],
        };
        let named = names.into_iter().map(ModelName::try_from).collect::<Result<_, _>>();
        named.map_err(|reason| mistake(&self.path.join("."), &reason.to_string()))
    }
}

/// `file` with `field` as it is to be. A value is what it is in JSON, or else a text.
fn put(file: &File, field: &Field) -> Result<File, Failure> {
    let name = field.path.join(".");
    let json = serde_json::from_str::<Value>(&field.text).ok();
    let values = match field.text.is_empty() {
        true => vec![None],
        false => json.into_iter().chain([Value::String(field.text.clone())]).map(Some).collect(),
    };
    let mut wrong = None;
    for value in values {
        let mut whole = serde_json::to_value(file).expect("words, numbers and texts serialise");
        place(&mut whole, &field.path, value).map_err(|reason| mistake(&name, &reason))?;
        match File::parse(&whole.to_string()) {
            Ok(file) => return Ok(file),
            Err(reason) => wrong = wrong.or(Some(reason)),
        }
    }
    Err(mistake(&name, &wrong.unwrap_or_default()))
}

fn mistake(name: &str, reason: &str) -> Failure {
    // Where it would stand in a file that nobody has written helps nobody.
    let reason = reason.split(" at line ").next().unwrap_or(reason);
    match reason.starts_with(name) {
        true => Failure::usage(reason),
        false => Failure::usage(format!("{name}: {reason}")),
    }
}

/// Puts `value` where `path` leads in `whole`, or takes away what is there.
fn place(whole: &mut Value, path: &[String], value: Option<Value>) -> Result<(), String> {
    let (last, above) = path.split_last().expect("a field has a name");
    let mut at = whole;
    for (depth, step) in above.iter().enumerate() {
        let Value::Object(fields) = at else { return Err(no_fields(&path[..depth])) };
        at = fields.entry(step.clone()).or_insert_with(|| Value::Object(Map::new()));
    }
    let Value::Object(fields) = at else { return Err(no_fields(above)) };
    match value {
        Some(value) => drop(fields.insert(last.clone(), value)),
        None => drop(fields.remove(last)),
    }
    Ok(())
}

fn no_fields(path: &[String]) -> String {
    format!("{} has no fields here", path.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_set_as_its_kind_wants_it_and_a_mistake_names_it() {
        let model =
            r#"{"provider": {"kind": "model", "model": "a/x"}, "budget": {"usd_per_day": 5}}"#;
        let after = |given: &[&str]| {
            given.iter().try_fold(File::parse(model).unwrap(), |file, given| {
                put(&file, &field(given).map_err(Failure::usage)?)
            })
        };
        let set = after(&[
            "budget.usd_per_day=2.5",
            "budget.tokens_per_day=1000",
            "tools.bash=deny",
            "model=b/y",
            "environment.PORT=8080",
            "environment.a.b=x=y",
            "max_turns=7",
        ]);
        let set = set.unwrap();
        let expected = r#"{"provider": {"kind": "model", "model": "b/y", "tools": {"bash": "deny"}},
            "budget": {"usd_per_day": 2.5, "tokens_per_day": 1000}, "max_turns": 7,
            "environment": {"PORT": "8080", "a.b": "x=y"}}"#;
        assert_eq!(set, File::parse(expected).unwrap());
        let less = after(&["budget.usd_per_day="]).unwrap();
        assert_eq!(less.budget.usd_per_day, None, "left out again");
        let hub = after(&[
            "mcp.hub.url=https://mcp.example/mcp",
            "mcp.hub.headers.Authorization=Bearer ${secret:hub}",
            "mcp.hub.required=true",
        ]);
        let expected = r#"{"provider": {"kind": "model", "model": "a/x", "mcp": {"hub": {"url":
            "https://mcp.example/mcp", "headers": {"Authorization": "Bearer ${secret:hub}"}, "required": true}}},
            "budget": {"usd_per_day": 5}}"#;
        assert_eq!(hub.unwrap(), File::parse(expected).unwrap());
        let listed = after(&[r#"model=["a/x", "b/y"]"#]).unwrap();
        assert_ne!(listed, File::parse(model).unwrap());
        let wrong = [
            ("max_turns", "use NAME=VALUE"),
            ("=2", "names no field"),
            ("budget..x=1", "names no field"),
            ("max_turns=many", "max_turns: invalid type: string"),
            ("colour=red", "colour: unknown field `colour`"),
            ("budget.euros=2", "budget"),
            ("tools.bash=perhaps", "provider"),
            ("max_turns.x=1", "max_turns"),
            ("mcp.hub.url=mcp.example", "mcp.hub.url: is no whole address"),
        ];
        for (given, expected) in wrong {
            let failure = after(&[given]).unwrap_err();
            assert!(failure.reason().contains(expected), "{given}: {}", failure.reason());
            assert!(!failure.reason().contains(" line "), "{given}: {}", failure.reason());
        }
    }
}
