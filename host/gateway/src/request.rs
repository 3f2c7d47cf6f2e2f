//! What a container asks for, and whether it may: pure. All of it is hostile input.

use twobox_shared::agent_config::Api;

use crate::body_fields::Fields;
use crate::refusal::{Refusal, Why};
use crate::settings::Kind;

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
    /// Reads a body, to an upstream of `kind`. It is sent on as it is, so nothing passes that a server could
    /// read in another way than this host: fields that are written twice, or that are on no list.
    ///
    /// # Errors
    /// If it is no request for an answer, or asks for what is not served.
    pub fn read(api: Api, kind: Kind, body: &[u8]) -> Result<Self, Refusal> {
        let wrong = |detail: String| Refusal::new(Why::BadRequest, detail);
        let fields = Fields::read(api, body)
            .map_err(|error| wrong(format!("the body is no request: {error}")))?;
        let model = fields.model.filter(|model| !model.is_empty());
        let model = model.ok_or_else(|| wrong("the body names no model".to_owned()))?;
        let max_output = match (api, kind) {
            (Api::Messages, _) => fields.max_tokens,
            (Api::Responses, _) => fields.max_output_tokens,
            (Api::Chat, Kind::OpenAi) => fields.max_tokens.max(fields.max_completion_tokens),
            // Others may not know the newer name, and then bound nothing.
            (Api::Chat, Kind::Anthropic | Kind::Compatible) => fields
                .max_tokens
                .map(|most| most.max(fields.max_completion_tokens.unwrap_or_default())),
        };
        let answers = fields.answers.unwrap_or(1).max(1);
        if api != Api::Chat && answers > 1 {
            return Err(wrong("n: one answer at a time".to_owned()));
        }
        Ok(Self { model, max_output, answers })
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
        let read = |api, body: &str| Asked::read(api, Kind::Compatible, body.as_bytes());
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
                r#"{"model":"m","tools":[{"type":"namespace","tools":[{"type":"function"}]}]}"#,
                asked(None, 1),
            ),
            (
                Api::Responses,
                r#"{"model":"m","tools":[{"type":"tool_search","execution":"client"}],"input":[
                    {"type":"tool_search_call","execution":"client"},
                    {"type":"tool_search_output","tools":[{"type":"function"}]}]}"#,
                asked(None, 1),
            ),
            (
                Api::Responses,
                r#"{"model":"m","max_output_tokens":6,"background":false,"previous_response_id":null}"#,
                asked(Some(6), 1),
            ),
            (
                Api::Responses,
                r#"{"model":"m","input":[{"role":"user","content":"a"},{"type":"reasoning","id":"r"},
                    {"type":"message","role":"user","content":[]}]}"#,
                asked(None, 1),
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
            (
                Api::Messages,
                r#"{"model":"m","Model":"dear","max_tokens":1}"#,
                "\"Model\" is not served",
            ),
            (Api::Chat, r#"{"model":"m","models":["dear"]}"#, "\"models\" is not served"),
            (Api::Chat, r#"{"model":"m","plugins":[{"id":"web"}]}"#, "\"plugins\" is not served"),
            (Api::Messages, r#"{"model":"m","service_tier":"priority"}"#, "a price of its own"),
            (Api::Messages, r#"{"model":"m","speed":"fast"}"#, "\"speed\""),
            (Api::Messages, r#"{"model":"m","tools":[{"type":"custom","type":"x"}]}"#, "duplicate"),
            (
                Api::Responses,
                r#"{"model":"m","tools":[{"type":"namespace","tools":[{"type":"web_search"}]}]}"#,
                "web_search",
            ),
            (Api::Responses, r#"{"model":"m","tools":[{"type":"tool_search"}]}"#, "tool_search"),
            (
                Api::Responses,
                r#"{"model":"m","tools":[{"execution":"server","type":"tool_search"}]}"#,
                "tool_search",
            ),
            (
                Api::Responses,
                r#"{"model":"m","tools":[{"type":"tool_search","execution":"client","execution":"server"}]}"#,
                "duplicate field",
            ),
            (
                Api::Responses,
                r#"{"model":"m","input":[{"type":"tool_search_output","tools":[{"type":"mcp"}]}]}"#,
                "mcp",
            ),
            (
                Api::Responses,
                r#"{"model":"m","tools":[{"tools":[{"type":"namespace"}]}]}"#,
                "a namespace in a namespace",
            ),
            (
                Api::Responses,
                r#"{"model":"m","tools":[{"type":"namespace","tools":[],"tools":[{"type":"mcp"}]}]}"#,
                "duplicate field",
            ),
            (Api::Responses, r#"{"model":"m","input":[{"type":"item_reference"}]}"#, "has stored"),
            (Api::Responses, r#"{"model":"m","input":[{"id":"msg_1"}]}"#, "has stored"),
            (Api::Responses, r#"{"model":"m","input":[{"id":"a","type":null}]}"#, "has stored"),
            (Api::Responses, r#"{"model":"m","input":[{"id":"a","role":"user"}]}"#, "has stored"),
            (Api::Responses, r#"{"model":"m","input":{"id":"msg_1"}}"#, "has stored"),
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

    #[test]
    fn tools_in_a_conversation_are_looked_at_like_those_beside_it() {
        let read = |api, field: &str, said: &str| {
            let body = format!(r#"{{"model":"m","{field}":{said}}}"#);
            Asked::read(api, Kind::Compatible, body.as_bytes())
        };
        let added = |tool: &str| {
            format!(
                r#"[{{"role":"system","content":[{{"type":"text","text":"web_search"}},
                    {{"type":"tool_addition","tool":{tool}}}]}}]"#
            )
        };
        let good = [
            added(r#"{"type":"tool_definition","definition":{"name":"a","input_schema":{}}}"#),
            added(r#"{"type":"tool_reference","name":"web_search"}"#),
            r#"[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use",
                "input":{"type":"web_search","tools":[{"type":"web_search"}]}}]},{"role":"user",
                "content":[{"type":"tool_result","content":[{"type":"image"}]},
                {"type":"tool_result","content":"a"},{"type":"tool_result","content":null}]}]"#
                .to_owned(),
        ];
        for said in good {
            assert!(read(Api::Messages, "messages", &said).is_ok(), "{said}");
        }
        let bad = [
            added(r#"{"type":"tool_definition","definition":{"type":"web_search_20250305"}}"#),
            added(
                r#"{"definition":{"name":"a","type":"web_search_20250305"},"type":"tool_definition"}"#,
            ),
            added(r#"{"type":"web_search_20250305"}"#),
            r#"[{"role":"system","tools":[{"type":"web_search_20250305"}],"content":"a"}]"#
                .to_owned(),
            r#"[{"content":[{"content":[{"tools":[{"type":"web_search_20250305"}]}]}]}]"#
                .to_owned(),
            r#"[{"content":"a","content":[{"definition":{"type":"web_search_20250305"}}]}]"#
                .to_owned(),
            r#"[{"content":[{"\u0074ool":{"type":"web_search_20250305"}}]}]"#.to_owned(),
        ];
        for said in bad {
            let refusal = read(Api::Messages, "messages", &said).unwrap_err();
            assert!(refusal.detail.contains("web_search"), "{said}: {}", refusal.detail);
        }
        let told = r#"[{"type":"additional_tools","tools":[{"type":"function"},{"type":"KIND"}]}]"#;
        let told = |kind| read(Api::Responses, "input", &told.replace("KIND", kind));
        assert!(told("custom").is_ok() && told("web_search").is_err());
        let said = r#"[{"role":"system","tools":[{"type":"builtin_function"}]}]"#;
        assert!(read(Api::Chat, "messages", said).is_err());
        let deep = format!("{}null{}", r#"[{"content":"#.repeat(9999), "}]".repeat(9999));
        let refusal = read(Api::Messages, "messages", &deep).unwrap_err();
        assert!(refusal.detail.contains("recursion limit"), "{}", refusal.detail);
    }
}
