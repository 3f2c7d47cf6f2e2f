//! The description of the HTTP API, and whether an answer keeps to it.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::http::Answer;

/// Methods that a path may have.
pub const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// What the host says about its API, and what was seen of it.
#[derive(Debug)]
pub struct Description {
    json: Value,
    seen: RefCell<BTreeSet<String>>,
}

impl Description {
    /// The OpenAPI document `json`.
    pub fn new(json: Value) -> Self {
        Self { json, seen: RefCell::default() }
    }

    /// Its paths, with what they say.
    pub fn paths(&self) -> &Map<String, Value> {
        self.json["paths"].as_object().unwrap()
    }

    /// Fails if this was not to be expected as the answer to a request.
    #[track_caller]
    pub fn check(&self, method: &str, target: &str, answer: &Answer) {
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let about = format!("{method} {path} {}", answer.status);
        let Some((template, says)) = self.paths().iter().find(|(known, _)| fits(known, path))
        else {
            assert!(matches!(answer.status, 401 | 403 | 404 | 413), "{about}: not described");
            return self.value(&self.json["components"]["schemas"]["Error"], &answer.body, &about);
        };
        let Some(operation) = says.get(method.to_ascii_lowercase()) else {
            assert!(matches!(answer.status, 401 | 403 | 405), "{about}: not described");
            return self.value(&self.json["components"]["schemas"]["Error"], &answer.body, &about);
        };
        let mut response = &operation["responses"][answer.status.to_string()];
        assert!(response.is_object(), "{about}: not described: {answer:?}");
        if let Some(name) = response["$ref"].as_str() {
            response = self.resolve(name);
        }
        self.seen.borrow_mut().insert(format!("{method} {template} {}", answer.status));
        match response.pointer("/content/application~1json/schema") {
            Some(schema) => {
                assert_eq!(answer.header("content-type"), Some("application/json"), "{about}");
                self.value(schema, &answer.body, &about);
            }
            None => assert_eq!(answer.body, Value::Null, "{about}"),
        }
    }

    /// Fails if this is not what a schema says, such as a body that the host has sent by itself.
    #[track_caller]
    pub fn check_schema(&self, name: &str, value: &Value) {
        let schema = &self.json["components"]["schemas"][name];
        assert!(schema.is_object(), "{name} is not described");
        let fields =
            value.as_object().into_iter().flatten().map(|(field, _)| format!("{name}.{field}"));
        self.seen.borrow_mut().extend(fields);
        self.value(schema, value, name);
    }

    /// What is described and was not seen: `METHOD path status`, and `Schema.field`.
    pub fn unseen(&self) -> Vec<String> {
        let operations = self.paths().iter().flat_map(|(path, says)| {
            let methods = METHODS.iter().filter_map(|method| {
                let says = says.get(method.to_ascii_lowercase())?;
                Some((method, says["responses"].as_object().unwrap()))
            });
            methods.flat_map(move |(method, responses)| {
                responses.keys().map(move |status| format!("{method} {path} {status}"))
            })
        });
        let schemas = self.json["components"]["schemas"].as_object().unwrap();
        let fields = schemas.iter().flat_map(|(name, schema)| {
            let fields = schema["properties"].as_object().into_iter().flat_map(Map::keys);
            fields.map(move |field| format!("{name}.{field}"))
        });
        let seen = self.seen.borrow();
        operations.chain(fields).filter(|described| !seen.contains(described)).collect()
    }

    #[track_caller]
    fn resolve(&self, reference: &str) -> &Value {
        let pointer = reference.strip_prefix('#').unwrap();
        self.json.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    /// Fails if `value` has a field that its schema does not know, or lacks one that it must have.
    #[track_caller]
    fn value(&self, schema: &Value, value: &Value, about: &str) {
        if let Some(reference) = schema["$ref"].as_str() {
            if let Some(fields) = value.as_object() {
                let name = reference.rsplit('/').next().unwrap();
                let fields = fields.keys().map(|field| format!("{name}.{field}"));
                self.seen.borrow_mut().extend(fields);
            }
            return self.value(self.resolve(reference), value, about);
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            // Only used for what may be null.
            let null = value.is_null() && choices.iter().any(|choice| choice["type"] == "null");
            return match choices.iter().find(|choice| choice["type"] != "null") {
                Some(choice) if !null => self.value(choice, value, about),
                _ => assert!(null, "{about}: {value}"),
            };
        }
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let types = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            single => vec![single.as_str().unwrap_or_else(|| panic!("{about}: no type"))],
        };
        let number = found == "integer" && types.contains(&"number");
        assert!(number || types.contains(&found), "{about}: {value} is not of {types:?}");
        if let Some(words) = schema["enum"].as_array() {
            assert!(words.contains(value), "{about}: {value} is not one of {words:?}");
        }
        if let (Some(text), "date-time") = (value.as_str(), schema["format"].as_str().unwrap_or(""))
        {
            let zoned = text.ends_with('Z') || text.get(text.len() - 6..).is_some_and(is_offset);
            assert!(text.as_bytes().get(10) == Some(&b'T') && zoned, "{about}: {text} is no time");
        }
        for element in value.as_array().into_iter().flatten() {
            self.value(&schema["items"], element, about);
        }
        if let Some(fields) = value.as_object()
            && schema["additionalProperties"] != true
        {
            for (name, value) in fields {
                let schema = &schema["properties"][name];
                assert!(schema.is_object(), "{about}: the field {name} is not described");
                self.value(schema, value, &format!("{about}: {name}"));
            }
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(fields.contains_key(name.as_str().unwrap()), "{about}: no {name}");
            }
        }
    }
}

fn is_offset(end: &str) -> bool {
    end.starts_with(['+', '-']) && end.as_bytes()[3] == b':'
}

/// Whether `path` is one of those that `template` stands for.
fn fits(template: &str, path: &str) -> bool {
    let parts = (template.split('/'), path.split('/'));
    template.split('/').count() == path.split('/').count()
        && parts
            .0
            .zip(parts.1)
            .all(|(known, given)| known == given || (known.starts_with('{') && !given.is_empty()))
}
