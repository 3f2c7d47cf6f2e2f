//! What of a request of the newer form stands in headers as well, so that what lies between may route by it: its
//! method, what it is about, and those arguments of a tool that its schema marks with `x-mcp-header`. Pure.
//!
//! Source: "Standard and custom headers" of version 2026-07-28.

use std::collections::HashSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

/// The mark of a property whose value stands in a header.
const MARK: &str = "x-mcp-header";

/// The most such headers of a tool; the host passes no more.
const MOST: usize = 32;

/// The longest value of one, in bytes, as the host passes it.
const VALUE_MAX: usize = 4096;

/// The most of all of them together, with their names, in bytes: what many servers read of a head at all.
const ALL_MAX: usize = 32 << 10;

/// How deep a schema is looked into.
const DEPTH_MAX: usize = 32;

/// A property that stands in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirrored {
    /// The names that lead to it.
    path: Vec<String>,
    header: String,
}

/// Those that `schema` marks.
///
/// # Errors
/// A mark where there may be none: then a client is not to use the tool.
pub(super) fn mirrored(schema: &Value) -> Result<Vec<Mirrored>, String> {
    let mut found = Vec::new();
    look(schema, Some(&mut Vec::new()), &mut found, 0)?;
    let mut names = HashSet::new();
    match found.iter().find(|it| !names.insert(it.header.to_ascii_lowercase())) {
        Some(twice) => Err(format!("two of its fields have {MARK} {:?}", twice.header)),
        None if found.len() > MOST => Err(format!("more than {MOST} of its fields have {MARK}")),
        None => Ok(found),
    }
}

/// Looks at `schema`, to which `path` leads by properties alone, or nothing that could be named.
fn look(
    schema: &Value,
    mut path: Option<&mut Vec<String>>,
    found: &mut Vec<Mirrored>,
    depth: usize,
) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err("its schema is too deep".to_owned());
    }
    let Value::Object(fields) = schema else { return Ok(()) };
    if let Some(mark) = fields.get(MARK) {
        let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let fits = |it: &&str| !it.is_empty() && it.len() <= 64 && it.chars().all(token);
        match (path.as_deref(), mark.as_str().filter(fits)) {
            (Some(path), Some(header))
                if !path.is_empty() && matches!(kind, "string" | "integer" | "boolean") =>
            {
                found.push(Mirrored { path: path.clone(), header: header.to_owned() });
            }
            _ => return Err(format!("its schema has {MARK} where there may be none")),
        }
    }
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (property, schema) in properties {
                    if let Some(path) = path.as_deref_mut() {
                        path.push(property.clone());
                    }
                    look(schema, path.as_deref_mut(), found, depth + 1)?;
                    if let Some(path) = path.as_deref_mut() {
                        path.pop();
                    }
                }
            }
            // Values, which only look like schemas.
            ("default" | "examples" | "const" | "enum", _) => {}
            (_, Value::Object(_)) => inside(name, value, found, depth)?,
            (_, Value::Array(all)) => {
                all.iter().try_for_each(|it| look(it, None, found, depth + 1))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Looks at what stands under a keyword: a schema, or schemas by their names.
fn inside(
    keyword: &str,
    value: &Value,
    found: &mut Vec<Mirrored>,
    depth: usize,
) -> Result<(), String> {
    let by_name = ["patternProperties", "dependentSchemas", "$defs", "definitions"];
    match value.as_object().filter(|_| by_name.contains(&keyword)) {
        Some(schemas) => schemas.values().try_for_each(|it| look(it, None, found, depth + 1)),
        None => look(value, None, found, depth + 1),
    }
}

/// The headers for `arguments`.
///
/// # Errors
/// Which argument is too long to stand in one, or beside the others.
pub(super) fn params(
    mirrored: &[Mirrored],
    arguments: &Map<String, Value>,
) -> Result<Vec<(String, String)>, String> {
    let (mut headers, mut length) = (Vec::new(), 0);
    for Mirrored { path, header } in mirrored {
        let (first, rest) = path.split_first().expect("it has a name");
        let value = rest
            .iter()
            .try_fold(arguments.get(first), |at, name| at.map(|value| value.get(name)))
            .flatten();
        let text = match value {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => continue,
        };
        let text = plain(&text);
        if text.len() > VALUE_MAX {
            return Err(format!("{}: is too long for this tool", path.join(".")));
        }
        let name = format!("mcp-param-{header}");
        length += name.len() + text.len();
        if length > ALL_MAX {
            return Err(format!("{}: is too long beside the others", path.join(".")));
        }
        headers.push((name, text));
    }
    Ok(headers)
}

/// `text` as the value of a header: as it is, or where that would change on its way, in base64.
pub(super) fn plain(text: &str) -> String {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text;
    match is_plain && !(text.starts_with("=?base64?") && text.ends_with("?=")) {
        true => text.to_owned(),
        false => format!("=?base64?{}?=", BASE64_STANDARD.encode(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn marked_arguments_stand_in_headers() {
        let schema = json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "at": {"type": "object", "properties": {
                "level": {"type": "integer", "x-mcp-header": "Level"}}},
            "dry": {"type": "boolean", "x-mcp-header": "Dry"},
            "x-mcp-header": {"type": "string"},
            "plain": {"type": "string", "default": {"x-mcp-header": 1}},
        }});
        let marked = mirrored(&schema).unwrap();
        let headers = |arguments: Value| {
            let mut headers = params(&marked, arguments.as_object().unwrap()).unwrap();
            headers.sort();
            headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
        };
        let all = json!({"region": "eu", "at": {"level": 7}, "dry": true, "plain": "x"});
        assert_eq!(
            headers(all),
            ["mcp-param-Dry: true", "mcp-param-Level: 7", "mcp-param-Region: eu"]
        );
        assert_eq!(
            headers(json!({"region": "\u{fc}", "at": 3})),
            ["mcp-param-Region: =?base64?w7w=?="]
        );
        assert_eq!(headers(json!({"region": null})), Vec::<String>::new());
        let long = json!({"region": "x".repeat(VALUE_MAX + 1)});
        assert!(params(&marked, long.as_object().unwrap()).unwrap_err().starts_with("region: "));
    }

    #[test]
    fn marked_arguments_are_bounded_together() {
        let fields = (10..26).map(|number| {
            let mark = json!({"type": "string", "x-mcp-header": format!("P{number}")});
            (format!("p{number}"), mark)
        });
        let properties = Map::from_iter(fields);
        let marked = mirrored(&json!({"type": "object", "properties": properties})).unwrap();
        let filled = |length: usize| {
            let text = |name: &String| (name.clone(), json!("x".repeat(length)));
            params(&marked, &properties.keys().map(text).collect())
        };
        let (count, name) = (properties.len(), "mcp-param-P10".len());
        let most = ALL_MAX / count - name;
        assert_eq!(filled(most).unwrap().len(), count);
        assert_eq!(filled(most + 1).unwrap_err(), "p25: is too long beside the others");
    }

    #[test]
    fn a_mark_where_there_may_be_none_is_a_mistake() {
        let field = |field: Value| json!({"type": "object", "properties": {"a": field}});
        let cases = [
            json!({"x-mcp-header": "A", "type": "string"}),
            field(json!({"type": "number", "x-mcp-header": "A"})),
            field(json!({"type": "string", "x-mcp-header": ""})),
            field(json!({"type": "string", "x-mcp-header": "A: b\r\n"})),
            field(json!({"type": "string", "x-mcp-header": 5})),
            field(json!({"type": "array", "items": {"type": "string", "x-mcp-header": "A"}})),
            field(json!({"anyOf": [{"type": "string", "x-mcp-header": "A"}]})),
            json!({"$defs": {"d": {"type": "string", "x-mcp-header": "A"}}}),
            json!({"properties": {"a": {"type": "string", "x-mcp-header": "A"},
                "b": {"type": "string", "x-mcp-header": "a"}}}),
        ];
        for schema in cases {
            assert!(mirrored(&schema).is_err(), "{schema}");
        }
        assert_eq!(mirrored(&json!({"type": "object"})), Ok(Vec::new()));
    }

    #[test]
    fn a_value_is_the_same_on_the_other_side() {
        let cases = [
            ("add", "add"),
            ("a b", "a b"),
            ("", ""),
            (" a", "=?base64?IGE=?="),
            ("a\r\nb: c", "=?base64?YQ0KYjogYw==?="),
            ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text), expected, "{text:?}");
        }
    }
}
