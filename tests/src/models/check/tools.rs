//! Tools as they are declared.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Checked, is_name, kind};
use crate::models::fault::Fault;

/// Checks the tools of a request to Anthropic's Messages.
///
/// # Errors
/// The first that cannot be.
pub(super) fn messages(tools: &Value) -> Checked {
    let mut known = BTreeSet::new();
    for (n, tool) in list(tools, "tools: Input should be a valid list")?.iter().enumerate() {
        // What the vendor runs itself has a type with a date.
        if tool["type"].as_str().is_some_and(|kind| kind != "custom") {
            continue;
        }
        let Some(name) = tool["name"].as_str() else {
            return Err(Fault::invalid(format!("tools.{n}.custom.name: Field required")));
        };
        if !is_name(name, 128) {
            return Err(Fault::invalid(format!(
                "tools.{n}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
            )));
        }
        if !known.insert(name) {
            return Err(Fault::invalid("tools: Tool names must be unique."));
        }
        match &tool["input_schema"] {
            Value::Null => {
                let said = format!("tools.{n}.custom.input_schema: Field required");
                return Err(Fault::invalid(said));
            }
            schema if schema["type"] != "object" => {
                let said = format!("tools.{n}.custom.input_schema.type: Input should be 'object'");
                return Err(Fault::invalid(said));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks the tools of a request to OpenAI. `inner` is the key under which Chat Completions have what a
/// function is; Responses have it beside the type.
///
/// # Errors
/// The first that cannot be.
pub(super) fn openai(tools: &Value, inner: Option<&str>) -> Checked {
    for (n, tool) in list(tools, "Invalid type for 'tools': expected an array.")?.iter().enumerate()
    {
        let Some(sort) = tool["type"].as_str() else {
            return Err(missing(format!("tools[{n}].type")));
        };
        if sort != "function" {
            continue;
        }
        let (function, at) = match inner {
            Some(key) => (&tool[key], format!("tools[{n}].{key}")),
            None => (tool, format!("tools[{n}]")),
        };
        let at_name = format!("{at}.name");
        match function["name"].as_str() {
            None => return Err(missing(at_name)),
            Some(name) if !is_name(name, 64) => {
                let said = format!(
                    "Invalid '{at_name}': string does not match pattern. Expected a string that matches \
                     the pattern '^[a-zA-Z0-9_-]+$'."
                );
                return Err(Fault::invalid(said).of(at_name).coded("invalid_value"));
            }
            Some(_) => {}
        }
        schema(&function["parameters"], &at)?;
    }
    Ok(())
}

fn schema(schema: &Value, at: &str) -> Checked {
    match schema {
        Value::Null => Ok(()),
        schema if schema["type"] == "object" => Ok(()),
        schema => {
            let said = format!(
                "Invalid schema for function: schema must be a JSON Schema of 'type: \"object\"', got {}.",
                kind(&schema["type"])
            );
            let at = format!("{at}.parameters");
            Err(Fault::invalid(said).of(at).coded("invalid_function_parameters"))
        }
    }
}

/// A parameter of OpenAI that is not there.
pub(super) fn missing(param: impl Into<String>) -> Fault {
    let param = param.into();
    Fault::invalid(format!("Missing required parameter: '{param}'."))
        .of(param)
        .coded("missing_required_parameter")
}

fn list<'a>(tools: &'a Value, said: &str) -> Result<&'a [Value], Fault> {
    match tools {
        Value::Null => Ok(&[]),
        Value::Array(tools) => Ok(tools),
        _ => Err(Fault::invalid(said)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tool_has_a_name_and_an_object() {
        let schema = json!({"type": "object"});
        let said =
            |tools: Value| messages(&tools).map_or_else(|fault| fault.message, |()| String::new());
        let good = json!({"name": "look-up_1", "input_schema": schema});
        assert_eq!(said(json!([good])), "");
        assert_eq!(said(json!([good, good])), "tools: Tool names must be unique.");
        assert_eq!(said(json!([{"type": "bash_20250124", "name": "bash"}])), "");
        assert!(
            said(json!([{"name": "a.b", "input_schema": schema}])).contains("String should match")
        );
        assert!(said(json!([{"name": "a"}])).ends_with("input_schema: Field required"));
        assert!(
            said(json!([{"name": "a", "input_schema": {}}])).ends_with("Input should be 'object'")
        );
    }

    #[test]
    fn openai_says_which_one() {
        let chat = |name: &str| {
            openai(&json!([{"type": "function", "function": {"name": name}}]), Some("function"))
        };
        assert!(chat("look").is_ok());
        assert_eq!(chat("a b").unwrap_err().param.unwrap(), "tools[0].function.name");
        assert!(chat(&"a".repeat(65)).is_err());
        let flat = openai(&json!([{"type": "function", "function": {"name": "look"}}]), None);
        assert_eq!(flat.unwrap_err().param.unwrap(), "tools[0].name");
    }
}
