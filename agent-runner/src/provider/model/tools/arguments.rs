//! What a tool is given: how the model is told of it, and how it is checked. What is wrong is said so that
//! the model can mend it.

use serde_json::{Map, Value, json};

/// A field of a tool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    name: &'static str,
    kind: Kind,
    needed: bool,
    says: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Number,
    Flag,
}

impl Field {
    /// A text that has to be there.
    pub(super) const fn needed(name: &'static str, says: &'static str) -> Self {
        Self { name, kind: Kind::Text, needed: true, says }
    }

    /// A text that may be left out.
    pub(super) const fn text(name: &'static str, says: &'static str) -> Self {
        Self { name, kind: Kind::Text, needed: false, says }
    }

    /// A whole number that may be left out.
    pub(super) const fn number(name: &'static str, says: &'static str) -> Self {
        Self { name, kind: Kind::Number, needed: false, says }
    }

    /// Yes or no; no if it is left out.
    pub(super) const fn flag(name: &'static str, says: &'static str) -> Self {
        Self { name, kind: Kind::Flag, needed: false, says }
    }
}

/// The JSON schema of an object with these fields.
pub(super) fn schema(fields: &[Field]) -> Value {
    let property = |field: &Field| {
        let kind = match field.kind {
            Kind::Text => "string",
            Kind::Number => "integer",
            Kind::Flag => "boolean",
        };
        (field.name.to_owned(), json!({"type": kind, "description": field.says}))
    };
    let properties: Map<String, Value> = fields.iter().map(property).collect();
    let needed: Vec<_> = fields.iter().filter(|it| it.needed).map(|it| it.name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": needed,
        "additionalProperties": false,
    })
}

/// What was given, with the fields that may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arguments<'a>(&'a Map<String, Value>);

impl<'a> Arguments<'a> {
    /// Checks what was given.
    ///
    /// # Errors
    /// A sentence for the model.
    pub(super) fn of(fields: &[Field], given: &'a Map<String, Value>) -> Result<Self, String> {
        if let Some(unknown) = given.keys().find(|name| !fields.iter().any(|it| it.name == **name))
        {
            let known: Vec<_> = fields.iter().map(|field| field.name).collect();
            let known = match known.as_slice() {
                [] => "no field".to_owned(),
                several => several.join(", "),
            };
            return Err(format!("it has no field {unknown:?}: it takes {known}"));
        }
        for field in fields {
            let value = given.get(field.name).filter(|value| !value.is_null());
            match (field.kind, value) {
                (_, None) if field.needed => {
                    return Err(format!("the field {:?} is missing: {}", field.name, field.says));
                }
                (_, None)
                | (Kind::Text, Some(Value::String(_)))
                | (Kind::Flag, Some(Value::Bool(_))) => {}
                (Kind::Number, Some(value)) if number(value).is_some() => {}
                (kind, Some(value)) => {
                    let kind = match kind {
                        Kind::Text => "a text",
                        Kind::Number => "a whole number that is not negative",
                        Kind::Flag => "true or false",
                    };
                    return Err(format!("the field {:?} is {kind}, not {value}", field.name));
                }
            }
        }
        Ok(Self(given))
    }

    /// The text of a field that has to be there.
    pub(super) fn needed(self, name: &str) -> &'a str {
        self.text(name).unwrap_or_default()
    }

    /// The text of a field, if it is there.
    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// The number of a field, if it is there.
    pub(super) fn number(self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(number)
    }

    /// Whether a field says yes.
    pub(super) fn flag(self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// What is there, but for what is null.
    pub(super) fn all(self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.0.iter().filter(|(_, value)| !value.is_null())
    }
}

/// A number, also one that a model has put into quotes.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] =
        &[Field::needed("path", "which file"), Field::number("limit", ""), Field::flag("all", "")];

    fn check(given: Value) -> Result<(), String> {
        let Value::Object(given) = given else { panic!("{given}") };
        Arguments::of(FIELDS, &given).map(|_| ())
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            (json!({}), "\"path\" is missing: which file"),
            (json!({"path": null}), "\"path\" is missing"),
            (json!({"path": 7}), "\"path\" is a text, not 7"),
            (json!({"path": "a", "limit": -1}), "\"limit\" is a whole number"),
            (json!({"path": "a", "all": "yes"}), "\"all\" is true or false, not \"yes\""),
            (json!({"file": "a"}), "no field \"file\": it takes path, limit, all"),
        ];
        for (given, expected) in cases {
            let error = check(given.clone()).unwrap_err();
            assert!(error.contains(expected), "{given}: {error}");
        }
        assert_eq!(check(json!({"path": "a", "limit": "7", "all": null})), Ok(()));
    }

    #[test]
    fn the_schema_says_which_fields_there_are() {
        let schema = schema(FIELDS);
        assert_eq!(schema["required"], json!(["path"]));
        assert_eq!(schema["properties"]["limit"]["type"], "integer");
        assert_eq!(schema["additionalProperties"], false);
    }
}
