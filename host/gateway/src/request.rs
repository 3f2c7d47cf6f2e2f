//! What a container asks for, and whether it may: pure. All of it is hostile input.

use serde::Deserialize;
use serde_json::Value;
use twobox_shared::agent_config::Api;

use crate::refusal::{Refusal, Why};

/// The longest path, with its query.
const PATH_MAX: usize = 2048;

/// Where a request wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The name of the upstream.
    pub upstream: &'a str,
    /// The path there, with its query; it begins with `/`.
    pub path: &'a str,
}

/// What may be done at an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Has a model answer, for money.
    Ask(Api),
    /// Costs nothing: what models there are, how many tokens something would be.
    Free,
    /// Nothing is asked of the upstream: the client wants to know whether somebody is there.
    Greet,
}

impl<'a> Target<'a> {
    /// What `path_and_query` names.
    ///
    /// # Errors
    /// If it is none of `/UPSTREAM/PATH`, or is written so that two readers could take it for two things.
    pub fn parse(path_and_query: &'a str) -> Result<Self, Refusal> {
        let wrong = |detail: &str| Err(Refusal::new(Why::NotFound, detail.to_owned()));
        if path_and_query.len() > PATH_MAX {
            return wrong("the path is too long");
        }
        let rest = path_and_query.strip_prefix('/').unwrap_or_default();
        let Some((upstream, _)) = rest.split_once('/') else {
            return wrong("the path has to be /UPSTREAM/…");
        };
        let path = &rest[upstream.len()..];
        let (plain, _) = path.split_once('?').unwrap_or((path, ""));
        let doubtful = plain.contains("//")
            || plain.contains(['%', '\\', ';'])
            || plain.split('/').any(|part| part == "." || part == "..");
        match doubtful {
            true => wrong("the path has to be written plainly"),
            false => Ok(Self { upstream, path }),
        }
    }

    /// What a request with `method` is, at an upstream that speaks `api`.
    ///
    /// # Errors
    /// If there is nothing like that.
    pub fn call(&self, method: &str, api: Api) -> Result<Call, Refusal> {
        let (path, _) = self.path.split_once('?').unwrap_or((self.path, ""));
        let anthropic = api == Api::Messages;
        match (method, path) {
            ("POST", "/v1/messages") if anthropic => Ok(Call::Ask(Api::Messages)),
            ("POST", "/v1/messages/count_tokens") | ("GET", "/v1/models") if anthropic => {
                Ok(Call::Free)
            }
            ("GET" | "HEAD", "/api/hello") if anthropic => Ok(Call::Greet),
            ("POST", "/responses") if !anthropic => Ok(Call::Ask(Api::Responses)),
            ("POST", "/chat/completions") if !anthropic => Ok(Call::Ask(Api::Chat)),
            ("GET", "/models") if !anthropic => Ok(Call::Free),
            _ => {
                let detail = format!("{method} {path} is nothing that agents may ask for");
                Err(Refusal::new(Why::NotFound, detail))
            }
        }
    }
}

/// What the body of a request says of what it will cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The model.
    pub model: String,
    /// The most tokens that are answered; `None` if the upstream decides.
    pub max_output: Option<u64>,
    /// How many answers are wanted. Each may be as long.
    pub answers: u64,
}

impl Asked {
    /// Reads a body. It is sent on as it is: fields that are written twice are refused, for the upstream
    /// could take the other one.
    ///
    /// # Errors
    /// If it is no request for an answer.
    pub fn read(api: Api, body: &[u8]) -> Result<Self, Refusal> {
        let wrong = |detail: String| Refusal::new(Why::BadRequest, detail);
        let fields: Fields = serde_json::from_slice(body)
            .map_err(|error| wrong(format!("the body is no request: {error}")))?;
        let model = fields.model.filter(|model| !model.is_empty() && model.len() <= 256);
        let model = model.ok_or_else(|| wrong("the body names no model".to_owned()))?;
        let max_output = match api {
            Api::Messages => fields.max_tokens,
            Api::Responses => fields.max_output_tokens,
            // Either name is known to some upstream, and the other one ignored.
            Api::Chat => fields.max_tokens.max(fields.max_completion_tokens),
        };
        let tools = fields.tools.unwrap_or_default();
        if let Some(tool) = tools.iter().find(|tool| !tool.is_clients()) {
            let kind = tool.kind.as_deref().unwrap_or_default();
            return Err(wrong(format!(
                "tools: {kind:?} would be run by the upstream, out of sight of this host"
            )));
        }
        let answers = fields.n.unwrap_or(1).max(1);
        if api != Api::Chat && answers > 1 {
            return Err(wrong("n: one answer at a time".to_owned()));
        }
        Ok(Self { model, max_output, answers })
    }
}

#[derive(Deserialize)]
struct Fields {
    model: Option<String>,
    max_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    n: Option<u64>,
    #[serde(default)]
    tools: Option<Vec<Tool>>,
    // What these stand for would be read, or run, where nobody counts it.
    #[serde(default, rename = "background")]
    _background: Never,
    #[serde(default, rename = "previous_response_id")]
    _previous: Never,
    #[serde(default, rename = "conversation")]
    _conversation: Never,
    #[serde(default, rename = "prompt")]
    _prompt: Never,
    #[serde(default, rename = "mcp_servers")]
    _servers: Never,
    #[serde(default, rename = "container")]
    _container: Never,
    #[serde(default, rename = "web_search_options")]
    _search: Never,
}

/// Something that says nothing: it is left out, `null`, `false` or empty.
#[derive(Default)]
struct Never;

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let nothing = match Value::deserialize(deserializer)? {
            Value::Null | Value::Bool(false) => true,
            Value::Array(items) => items.is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::String(_) | Value::Object(_) => false,
        };
        match nothing {
            true => Ok(Self),
            false => Err(serde::de::Error::custom(
                "previous_response_id, conversation, prompt, background, container, mcp_servers and \
                 web_search_options are not served: the upstream would read or run what nobody counts",
            )),
        }
    }
}

/// A tool that the model may use. Those that the upstream runs itself cost money that nobody counts, and
/// are a way to the network that the agent does not have.
#[derive(Deserialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// The kinds of tools that the client runs, by how they begin; dates may follow.
const CLIENTS: [&str; 9] = [
    "function",
    "custom",
    "namespace",
    "local_shell",
    "apply_patch",
    "bash_",
    "text_editor_",
    "memory_",
    "computer_",
];

impl Tool {
    fn is_clients(&self) -> bool {
        self.kind.as_deref().is_none_or(|kind| {
            CLIENTS.iter().any(|known| match known.ends_with('_') {
                true => kind.starts_with(known),
                false => kind == *known,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_upstream_and_one_thing() {
        let good = [
            ("/anthropic/v1/messages?beta=true", "anthropic", "/v1/messages?beta=true"),
            ("/local/chat/completions", "local", "/chat/completions"),
        ];
        for (path, upstream, rest) in good {
            assert_eq!(Target::parse(path).unwrap(), Target { upstream, path: rest });
        }
        let long = format!("/a/{}", "x".repeat(PATH_MAX));
        let bad = [
            "",
            "/",
            "*",
            "/anthropic",
            "anthropic/v1/messages",
            "/a/../b/v1/messages",
            "/a//v1/messages",
            "/a/%2e%2e/x",
            "/a/v1/./x",
            "/a/v1\\messages",
            "/a/v1;x/y",
            &long,
            "http://a/b",
        ];
        for path in bad {
            let parsed = Target::parse(path).and_then(|it| it.call("POST", Api::Messages));
            assert_eq!(parsed.unwrap_err().why, Why::NotFound, "{path}");
        }
    }

    #[test]
    fn only_what_is_listed_may_be_asked_for() {
        let call = |method, path, api| Target { upstream: "u", path }.call(method, api).ok();
        let cases = [
            ("POST", "/v1/messages?beta=true", Api::Messages, Some(Call::Ask(Api::Messages))),
            ("POST", "/v1/messages/count_tokens", Api::Messages, Some(Call::Free)),
            ("HEAD", "/api/hello", Api::Messages, Some(Call::Greet)),
            ("GET", "/v1/messages", Api::Messages, None),
            ("POST", "/v1/files", Api::Messages, None),
            ("POST", "/v1/messages/batches", Api::Messages, None),
            ("POST", "/responses", Api::Responses, Some(Call::Ask(Api::Responses))),
            ("POST", "/chat/completions", Api::Responses, Some(Call::Ask(Api::Chat))),
            ("GET", "/responses", Api::Responses, None),
            ("GET", "/responses/resp_1", Api::Responses, None),
            ("GET", "/models", Api::Chat, Some(Call::Free)),
            ("DELETE", "/models", Api::Chat, None),
            ("POST", "/v1/messages", Api::Chat, None),
        ];
        for (method, path, api, expected) in cases {
            assert_eq!(call(method, path, api), expected, "{method} {path} {api:?}");
        }
    }

    #[test]
    fn a_body_says_the_most_that_it_can_cost() {
        let read = |api, body: &str| Asked::read(api, body.as_bytes());
        let asked = |max_output, answers| Asked { model: "m".to_owned(), max_output, answers };
        let good = [
            (Api::Messages, r#"{"model":"m","max_tokens":5,"messages":[]}"#, asked(Some(5), 1)),
            (
                Api::Messages,
                r#"{"model":"m","max_tokens":5,"tools":[{"name":"a"},{"type":"bash_20250124"},
                    {"type":"custom"}],"mcp_servers":[]}"#,
                asked(Some(5), 1),
            ),
            (Api::Responses, r#"{"model":"m","max_tokens":5}"#, asked(None, 1)),
            (
                Api::Responses,
                r#"{"model":"m","max_output_tokens":6,"background":false,"previous_response_id":null}"#,
                asked(Some(6), 1),
            ),
            (
                Api::Chat,
                r#"{"model":"m","max_tokens":5,"max_completion_tokens":50,"n":3}"#,
                asked(Some(50), 3),
            ),
        ];
        for (api, body, expected) in good {
            assert_eq!(read(api, body).unwrap(), expected, "{body}");
        }
        let bad = [
            (Api::Messages, "", "is no request"),
            (Api::Messages, "[]", "is no request"),
            (Api::Messages, "{}", "names no model"),
            (Api::Messages, r#"{"model":""}"#, "names no model"),
            (Api::Messages, r#"{"model":"m","model":"dearer"}"#, "duplicate field"),
            (Api::Messages, r#"{"model":"m","max_tokens":1,"max_tokens":9999}"#, "duplicate field"),
            (Api::Messages, r#"{"model":"m","max_tokens":-1}"#, "invalid value"),
            (Api::Messages, r#"{"model":"m","n":2}"#, "one answer at a time"),
            (Api::Responses, r#"{"model":"m","background":true}"#, "not served"),
            (Api::Responses, r#"{"model":"m","previous_response_id":"r"}"#, "not served"),
            (Api::Messages, r#"{"model":"m","mcp_servers":[{"url":"u"}]}"#, "not served"),
            (
                Api::Messages,
                r#"{"model":"m","tools":[{"type":"web_fetch_20250910"}]}"#,
                "web_fetch",
            ),
            (Api::Responses, r#"{"model":"m","tools":[{"type":"web_search"}]}"#, "web_search"),
        ];
        for (api, body, expected) in bad {
            let refusal = read(api, body).unwrap_err();
            assert_eq!(refusal.why, Why::BadRequest);
            assert!(refusal.detail.contains(expected), "{body}: {}", refusal.detail);
        }
    }
}
