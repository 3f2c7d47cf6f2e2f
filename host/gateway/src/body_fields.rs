//! The fields of a request, by a list of what may stand there, for nobody can list what may not: servers
//! differ in what they read, and what they take for the same name. Nothing is kept of a body but what is
//! looked at, whatever is in it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use twobox_shared::agent_config::Api;

/// The longest text that is looked at, in bytes.
const TEXT_MAX: usize = 256;

/// The most fields.
const FIELDS_MAX: usize = 64;

/// The most tools.
const TOOLS_MAX: usize = 1024;

/// What is looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) model: Option<String>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) max_output_tokens: Option<u64>,
    pub(crate) max_completion_tokens: Option<u64>,
    pub(crate) answers: Option<u64>,
}

/// Fields that pass unseen.
fn passes(api: Api, name: &str) -> bool {
    const ALL: [&str; 9] = [
        "stream",
        "temperature",
        "top_p",
        "metadata",
        "tool_choice",
        "user",
        "stop",
        "store",
        "verbosity",
    ];
    let own: &[&str] = match api {
        Api::Messages => &[
            "system",
            "stop_sequences",
            "thinking",
            "top_k",
            "output_config",
            "output_format",
            "context_management",
            "cache_control",
        ],
        Api::Responses => &[
            "instructions",
            "stream_options",
            "include",
            "parallel_tool_calls",
            "reasoning",
            "text",
            "truncation",
            "safety_identifier",
            "prompt_cache_key",
            "prompt_cache_retention",
            "max_tool_calls",
            "top_logprobs",
            "client_metadata",
        ],
        Api::Chat => &[
            "stream_options",
            "parallel_tool_calls",
            "top_k",
            "min_p",
            "presence_penalty",
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "top_logprobs",
            "response_format",
            "seed",
            "reasoning_effort",
            "reasoning",
            "prompt_cache_key",
            "safety_identifier",
            "chat_template_kwargs",
            "think",
        ],
    };
    ALL.contains(&name) || own.contains(&name)
}

/// Whether a request in one form or another may have a field `name`.
pub(crate) fn is_known(name: &str) -> bool {
    const LOOKED_AT: [&str; 9] = [
        "model",
        "max_tokens",
        "max_output_tokens",
        "max_completion_tokens",
        "n",
        "tools",
        "input",
        "messages",
        "service_tier",
    ];
    let forms = [Api::Messages, Api::Responses, Api::Chat];
    LOOKED_AT.contains(&name) || forms.into_iter().any(|api| passes(api, name))
}

impl Fields {
    /// Reads `body`, a request in the form of `api`.
    ///
    /// # Errors
    /// What is no request, or may not be asked for.
    pub(crate) fn read(api: Api, body: &[u8]) -> Result<Self, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let fields = json.deserialize_map(Object(api))?;
        json.end()?;
        Ok(fields)
    }
}

struct Object(Api);

impl<'de> Visitor<'de> for Object {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        // One that is written twice could be read either way.
        let mut seen = Vec::new();
        while let Some(name) = map.next_key_seed(Text)? {
            if seen.len() == FIELDS_MAX {
                return Err(Error::custom(format!("more than {FIELDS_MAX} fields")));
            }
            if seen.contains(&name) {
                return Err(Error::custom(format!("duplicate field {name:?}")));
            }
            match name.as_str() {
                "model" => fields.model = map.next_value_seed(Nullable(Text))?,
                "max_tokens" => fields.max_tokens = map.next_value()?,
                "max_output_tokens" => fields.max_output_tokens = map.next_value()?,
                "max_completion_tokens" => fields.max_completion_tokens = map.next_value()?,
                "n" => fields.answers = map.next_value()?,
                "tools" => map.next_value_seed(Nullable(Each(Kind::Tool)))?.unwrap_or_default(),
                "input" if self.0 == Api::Responses => map.next_value_seed(Said(Kind::Item))?,
                "messages" if self.0 != Api::Responses => {
                    map.next_value_seed(Said(Kind::Message))?;
                }
                "service_tier" => usual_tier(map.next_value_seed(Nullable(Text))?.as_deref())?,
                known if passes(self.0, known) => drop(map.next_value::<IgnoredAny>()?),
                other => map.next_value_seed(Nothing(other))?,
            }
            seen.push(name);
        }
        Ok(fields)
    }
}

/// Of the kinds of service, those that cost no more than prices say.
fn usual_tier<E: Error>(tier: Option<&str>) -> Result<(), E> {
    match tier {
        None | Some("auto" | "default" | "standard_only" | "flex") => Ok(()),
        Some(other) => Err(E::custom(format!("service_tier: {other:?} has a price of its own"))),
    }
}

/// A text that is no longer than anything that is looked at.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        match text.len() <= TEXT_MAX {
            true => Ok(text.to_owned()),
            false => Err(E::custom(format!("a name of {} bytes", text.len()))),
        }
    }
}

/// What the inner one reads, or `null`.
struct Nullable<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(deserializer).map(Some)
    }
}

/// A field that is not on the list: it may be there if it says nothing.
struct Nothing<'a>(&'a str);

impl Nothing<'_> {
    fn refuse<E: Error>(&self) -> E {
        E::custom(format!("the field {:?} is not served", self.0))
    }
}

impl<'de> DeserializeSeed<'de> for Nothing<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nothing<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no field {:?}, which is not served", self.0)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, says: bool) -> Result<(), E> {
        if says { Err(self.refuse()) } else { Ok(()) }
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Err(self.refuse())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Err(self.refuse())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Err(self.refuse())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Err(self.refuse())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        match seq.next_element_seed(Refused(&self))? {
            Some(never) => match never {},
            None => Ok(()),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match map.next_key_seed(Refused(&self))? {
            Some(never) => match never {},
            None => Ok(()),
        }
    }
}

/// Whatever is in a field that has to say nothing: its first word is enough.
struct Refused<'a>(&'a Nothing<'a>);

impl<'de> DeserializeSeed<'de> for Refused<'_> {
    type Value = std::convert::Infallible;

    fn deserialize<D: Deserializer<'de>>(self, _: D) -> Result<Self::Value, D::Error> {
        Err(self.0.refuse())
    }
}

/// What an object of a list is.
#[derive(Clone, Copy)]
enum Kind {
    Tool,
    /// A tool in a namespace, which has no further tools in it.
    ToolOfSpace,
    Item,
    Message,
    /// Of a message's content.
    Block,
    /// What such a block says of a tool: that it is there from now on, or no longer.
    Change,
}

/// The kinds of tools that the client runs; of those that end with `_`, a date follows. Those that the
/// upstream runs cost money that nobody counts, and are a way to the network that the agent does not have.
const CLIENTS: [&str; 10] = [
    SEARCH,
    "function",
    "custom",
    // Tools under a name, as Codex has those of its MCP servers. Each of them is looked at as well.
    "namespace",
    "local_shell",
    "apply_patch",
    "bash_",
    "text_editor_",
    "memory_",
    "computer_",
];

/// A search among the tools that a request has not told of, by which Codex keeps those of MCP servers until they
/// are wanted. Either side may run it, and has to say that it is the client.
const SEARCH: &str = "tool_search";

impl Kind {
    /// What stands under `name` in an object of this kind, if tools may: also in the middle of a conversation,
    /// where both vendors let a client tell of more.
    fn holds(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Tool, "tools") => Some(Self::ToolOfSpace),
            (Self::Item | Self::Message | Self::Block | Self::Change, "tools")
            | (Self::Block | Self::Change, "definition") => Some(Self::Tool),
            (Self::Message | Self::Block, "content") => Some(Self::Block),
            (Self::Block, "tool") => Some(Self::Change),
            _ => None,
        }
    }

    fn is_tool(self) -> bool {
        matches!(self, Self::Tool | Self::ToolOfSpace | Self::Change)
    }

    fn check<E: Error>(self, kind: &str) -> Result<(), E> {
        let known = |known: &&str| match known.ends_with('_') {
            true => kind.starts_with(*known),
            false => kind == *known,
        };
        match self {
            Self::ToolOfSpace if kind == "namespace" => {
                Err(E::custom("tools: a namespace in a namespace".to_owned()))
            }
            Self::Change if matches!(kind, "tool_definition" | "tool_reference") => Ok(()),
            Self::Tool | Self::ToolOfSpace | Self::Change if !CLIENTS.iter().any(known) => {
                Err(upstreams(kind))
            }
            Self::Item if kind == "item_reference" => {
                Err(E::custom("input: what the upstream has stored is not served".to_owned()))
            }
            Self::Tool
            | Self::ToolOfSpace
            | Self::Item
            | Self::Message
            | Self::Block
            | Self::Change => Ok(()),
        }
    }
}

/// Why a tool of this kind is refused.
fn upstreams<E: Error>(kind: &str) -> E {
    E::custom(format!("tools: {kind:?} would be run by the upstream, out of sight of this host"))
}

/// A list of objects, each of which is looked at.
struct Each(Kind);

impl<'de> DeserializeSeed<'de> for Each {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Each {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut count = 0;
        while seq.next_element_seed(One(self.0))?.is_some() {
            count += 1;
            if matches!(self.0, Kind::Tool | Kind::ToolOfSpace) && count > TOOLS_MAX {
                return Err(Error::custom(format!("more than {TOOLS_MAX} tools")));
            }
        }
        Ok(())
    }
}

/// One of them.
struct One(Kind);

impl<'de> DeserializeSeed<'de> for One {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut typed, mut tools) = (false, false);
        let (mut kind, mut says) = (false, [false; 2]);
        let (mut searches, mut runs) = (false, None);
        while let Some(name) = map.next_key_seed(Text)? {
            let of_message = ["role", "content"].iter().position(|field| *field == name);
            of_message.into_iter().for_each(|field| says[field] = true);
            if let Some(kind) = self.0.holds(&name) {
                if name != "tools" {
                    map.next_value_seed(Said(kind))?;
                    continue;
                }
                if std::mem::replace(&mut tools, true) {
                    return Err(Error::custom("duplicate field \"tools\""));
                }
                map.next_value_seed(Nullable(Each(kind)))?;
                continue;
            }
            if name == "execution" && self.0.is_tool() {
                let said = map.next_value_seed(Nullable(Text))?;
                if runs.replace(said.is_some_and(|said| said == "client")).is_some() {
                    return Err(Error::custom("duplicate field \"execution\""));
                }
                continue;
            }
            if name != "type" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if std::mem::replace(&mut typed, true) {
                return Err(Error::custom("duplicate field \"type\""));
            }
            if let Some(said) = map.next_value_seed(Nullable(Text))? {
                self.0.check(&said)?;
                searches = said == SEARCH;
                kind = true;
            }
        }
        if searches && self.0.is_tool() && runs != Some(true) {
            return Err(upstreams(SEARCH));
        }
        // Of what is stored the kind may be left out: its id is enough. Of a message it may, too.
        if matches!(self.0, Kind::Item) && !kind && says != [true; 2] {
            return Err(Error::custom(
                "input: an item without a type that is no message may be what the upstream has \
                 stored, which is not served",
            ));
        }
        Ok(())
    }
}

/// What is said in a conversation, or in one piece of it: nothing, a text, an object or a list of objects.
struct Said(Kind);

impl<'de> DeserializeSeed<'de> for Said {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Said {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, an object or a list of objects")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        Each(self.0).visit_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        One(self.0).visit_map(map)
    }
}
