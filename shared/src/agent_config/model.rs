//! What a person says of an agent that a model answers, and what its runner is told of the way there.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Hosted, Servers};

/// Has a model answer, in a loop with tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Which model answers; those after the first are asked where the one before does not answer. It is
    /// not empty.
    #[serde(rename = "model", with = "one_or_more")]
    pub models: Vec<ModelName>,
    /// The most tokens of one answer; as the upstream's settings say if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// What its tools may do, by their names. One that is not named is allowed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, Permission>,
    /// Servers whose tools it has besides.
    #[serde(default, skip_serializing_if = "Servers::is_empty")]
    pub mcp: Servers,
}

/// Has Claude Code answer, the vendor's program, in a loop with tools of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claude {
    /// Which model answers. Its upstream speaks Anthropic's Messages.
    pub model: ModelName,
    /// What its tools may do, by the names that Claude Code gives them, such as `Bash`. One that is not
    /// named is allowed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, Permission>,
    /// Servers whose tools it has besides.
    #[serde(default, skip_serializing_if = "Servers::is_empty")]
    pub mcp: Servers,
}

impl Claude {
    /// One of which nothing is said but the model.
    pub fn asking(model: ModelName) -> Self {
        Self { model, tools: BTreeMap::new(), mcp: Servers::default() }
    }
}

/// Whether a tool may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Without asking.
    Allow,
    /// When a person has allowed it, each time.
    Ask,
    /// Not at all: the model is not told that there is one.
    Deny,
}

/// A model of an upstream, written `UPSTREAM/MODEL`. The model's own name may have slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName {
    upstream: String,
    model: String,
}

impl ModelName {
    /// The upstream, which `[gateway.upstreams.NAME]` describes.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// What the upstream calls the model.
    pub fn model(&self) -> &str {
        &self.model
    }
}

impl TryFrom<String> for ModelName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            Some((upstream, model))
                if !upstream.is_empty()
                    && !model.is_empty()
                    && !text.contains(|c: char| c.is_whitespace() || c.is_control()) =>
            {
                Ok(Self { upstream: upstream.to_owned(), model: model.to_owned() })
            }
            _ => {
                Err(format!("{text:?} is no UPSTREAM/MODEL, such as \"anthropic/claude-opus-5-5\""))
            }
        }
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.upstream, self.model)
    }
}

/// One name, or a list of them that is not empty.
mod one_or_more {
    use super::ModelName;
    use serde::de::{Deserializer, Error};
    use serde::{Deserialize, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a model as \"UPSTREAM/MODEL\", or a list of them")]
    enum Written {
        One(String),
        More(Vec<String>),
    }

    pub(super) fn serialize<S: Serializer>(
        models: &Vec<ModelName>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match models.as_slice() {
            [one] => one.serialize(serializer),
            _ => models.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<ModelName>, D::Error> {
        let names = match Written::deserialize(deserializer)? {
            Written::One(name) => vec![name],
            Written::More(names) => names,
        };
        if names.is_empty() {
            return Err(D::Error::custom("model: the list names none"));
        }
        names.into_iter().map(|name| ModelName::try_from(name).map_err(D::Error::custom)).collect()
    }
}

/// The way from a container to models and to what it may reach of the network, which only the host writes. It
/// lies in the session's inbox half.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// What a request has to give as its credential, in `authorization: Bearer` or `x-api-key`. It is
    /// good at this session's socket alone, and no upstream ever sees it.
    pub key: String,
    /// The models, in the order in which they are asked.
    pub routes: Vec<Route>,
    /// Whether the agent may reach something of the network there, by `CONNECT`. What that is, it is not told.
    #[serde(default, skip_serializing_if = "is_not")]
    pub egress: bool,
    /// The servers of MCP that the host asks for it there, by [`MCP_PATH`](super::MCP_PATH).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Hosted>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_not(it: &bool) -> bool {
    !it
}

impl fmt::Debug for Gateway {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { routes, egress, servers, key: _ } = self;
        let mut shown = f.debug_struct("Gateway");
        shown.field("routes", routes).field("egress", egress).field("servers", servers);
        shown.finish_non_exhaustive()
    }
}

/// The header of an answer at the session's socket that is the host's own refusal, with the kind of it. No
/// answer that is handed down has it.
pub const REFUSAL_HEADER: &str = "x-twobox-refusal";

/// The path at the session's socket where the host fetches what `?url=` names, the header of its answer that
/// says where that is, after redirects, and the one that says how many bytes it has, if its server does.
pub const FETCH_PATH: &str = "/fetch";
/// See [`FETCH_PATH`].
pub const PLACE_HEADER: &str = "x-twobox-url";
/// See [`FETCH_PATH`].
pub const LENGTH_HEADER: &str = "x-twobox-length";

/// The way to one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The model as the agent's configuration names it.
    pub name: ModelName,
    /// What its upstream speaks.
    pub api: Api,
    /// The path of a request to the session's socket, such as `/anthropic/v1/messages`.
    pub path: String,
    /// How many tokens a request and its answer may have together.
    pub context_tokens: u32,
    /// The most tokens of one answer.
    pub max_output_tokens: u32,
    /// Whether it takes images.
    pub images: bool,
}

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// Anthropic's Messages, `POST …/v1/messages`.
    Messages,
    /// OpenAI's Responses, `POST …/responses`.
    Responses,
    /// OpenAI's Chat Completions, `POST …/chat/completions`, which most others speak.
    Chat,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_printed() {
        let (routes, servers) = (Vec::new(), Vec::new());
        let way = Gateway { key: "own-key".to_owned(), routes, egress: false, servers };
        assert!(!format!("{way:?}").contains("own-key"), "{way:?}");
    }

    #[test]
    fn a_model_is_named_with_its_upstream() {
        let read =
            |text: &str| serde_json::from_str::<Model>(text).map_err(|error| error.to_string());
        let one = read(r#"{"model":"router/meta/llama-4"}"#).unwrap();
        assert_eq!((one.models[0].upstream(), one.models[0].model()), ("router", "meta/llama-4"));
        assert_eq!(serde_json::to_string(&one).unwrap(), r#"{"model":"router/meta/llama-4"}"#);
        let chain =
            r#"{"model":["a/x","b/y"],"max_output_tokens":9,"tools":{"bash":"ask","grep":"deny"}}"#;
        assert_eq!(serde_json::to_string(&read(chain).unwrap()).unwrap(), chain);
        let cases = [
            ("{}", "missing field `model`"),
            (r#"{"model":[]}"#, "names none"),
            (r#"{"model":"opus"}"#, "is no UPSTREAM/MODEL"),
            (r#"{"model":"/opus"}"#, "is no UPSTREAM/MODEL"),
            (r#"{"model":["a/x","b/ y"]}"#, "is no UPSTREAM/MODEL"),
            (r#"{"model":7}"#, "a model as \"UPSTREAM/MODEL\", or a list of them"),
            (r#"{"model":"a/x","tools":{"bash":"perhaps"}}"#, "unknown variant `perhaps`"),
        ];
        for (text, expected) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
