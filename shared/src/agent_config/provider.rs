//! What answers a turn, and how that is written: as an object with a `kind` and what this kind needs,
//! or as the word alone, with `command` and `lifetime` beside it. Every runner knows the second form,
//! which older hosts wrote too.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{Claude, Codex, Hosted, Model, ModelName, Remote, Servers, tools};

/// What answers a turn.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Provider {
    /// Says back what was said.
    #[default]
    Echo,
    /// Plays `script.json` from the program folder.
    Scripted,
    /// Runs any program.
    Command {
        /// Program and arguments, run in the program folder. It is not empty.
        command: Vec<String>,
        /// How long that program lives.
        lifetime: Lifetime,
    },
    /// Has a model answer.
    Model(Model),
    /// Has Claude Code answer.
    Claude(Claude),
    /// Has Codex answer.
    Codex(Codex),
}

/// How long the program of [`Provider::Command`] lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifetime {
    /// One process for each turn.
    #[default]
    Turn,
    /// One process for as long as the runner lives.
    Runner,
}

impl Provider {
    /// The word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Scripted => "scripted",
            Self::Command { .. } => "command",
            Self::Model(_) => "model",
            Self::Claude(_) => "claude",
            Self::Codex(_) => "codex",
        }
    }

    /// The models that it asks, in this order; empty if it asks none.
    pub fn models(&self) -> &[ModelName] {
        match self {
            Self::Model(model) => &model.models,
            Self::Claude(claude) => std::slice::from_ref(&claude.model),
            Self::Codex(codex) => std::slice::from_ref(&codex.model),
            Self::Echo | Self::Scripted | Self::Command { .. } => &[],
        }
    }

    /// The vendor's program that answers, by the name that its pin has; `None` if there is none.
    pub fn cli(&self) -> Option<&'static str> {
        match self {
            Self::Claude(_) => Some("claude"),
            Self::Codex(_) => Some("codex"),
            Self::Echo | Self::Scripted | Self::Command { .. } | Self::Model(_) => None,
        }
    }

    /// Its servers of MCP; `None` if it can have none.
    pub fn servers(&self) -> Option<&Servers> {
        match self {
            Self::Model(model) => Some(&model.mcp),
            Self::Claude(claude) => Some(&claude.mcp),
            Self::Codex(codex) => Some(&codex.mcp),
            Self::Echo | Self::Scripted | Self::Command { .. } => None,
        }
    }

    /// The servers of MCP that the host reaches for it, with their names.
    pub fn remote_servers(&self) -> impl Iterator<Item = (&str, &Remote)> {
        self.servers().into_iter().flat_map(Servers::remote)
    }

    /// The same servers as its runner is told of them.
    pub fn hosted_servers(&self) -> Vec<Hosted> {
        self.servers().map(Servers::hosted).unwrap_or_default()
    }

    /// The same without what is not for its runner: where servers are that the host reaches, and what they are
    /// told.
    pub(super) fn for_runner(&self) -> Self {
        let mut told = self.clone();
        match &mut told {
            Self::Model(Model { mcp, .. })
            | Self::Claude(Claude { mcp, .. })
            | Self::Codex(Codex { mcp, .. }) => *mcp = mcp.programs(),
            Self::Echo | Self::Scripted | Self::Command { .. } => {}
        }
        told
    }

    /// Whether it can ask all of its servers: a vendor's program knows nothing of those that the host reaches.
    fn check_servers(&self) -> Result<(), String> {
        match self {
            Self::Claude(_) | Self::Codex(_)
                if let Some((name, _)) = self.remote_servers().next() =>
            {
                Err(format!(
                    "mcp.{name}.url: provider {:?} has servers with a `command` alone: of provider \"model\" the \
                     host asks one at an address",
                    self.kind()
                ))
            }
            Self::Echo
            | Self::Scripted
            | Self::Command { .. }
            | Self::Model(_)
            | Self::Claude(_)
            | Self::Codex(_) => Ok(()),
        }
    }

    /// The program that it runs, with its arguments; empty if it runs none.
    pub fn command(&self) -> &[String] {
        match self {
            Self::Command { command, .. } => command,
            Self::Echo | Self::Scripted | Self::Model(_) | Self::Claude(_) | Self::Codex(_) => &[],
        }
    }

    /// Checks what no single field can say: whether the tools are there that something is said of. The tools of
    /// provider `model` are its runner's to check.
    ///
    /// # Errors
    /// A sentence that names the field, behind `provider.`.
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_servers()?;
        match self {
            Self::Claude(claude) => tools::of_claude(&claude.tools, &claude.mcp),
            Self::Codex(codex) => tools::of_codex(&codex.tools, &codex.mcp),
            Self::Echo | Self::Scripted | Self::Command { .. } | Self::Model(_) => Ok(()),
        }
    }

    /// What is written in one form or the other.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn of_parts(
        provider: Option<Written>,
        command: Option<Vec<String>>,
        lifetime: Option<Lifetime>,
    ) -> Result<Self, String> {
        let provider = match provider.unwrap_or(Written::Word(Kind::Echo)) {
            Written::Word(Kind::Echo) => Self::Echo,
            Written::Word(Kind::Scripted) => Self::Scripted,
            Written::Word(Kind::Command) => Self::Command {
                command: command.clone().unwrap_or_default(),
                lifetime: lifetime.unwrap_or_default(),
            },
            Written::Word(kind @ (Kind::Model | Kind::Claude)) => {
                let kind = if kind == Kind::Model { "model" } else { "claude" };
                return Err(format!(
                    "provider: write it as an object, such as \
                     {{\"kind\": \"{kind}\", \"model\": \"anthropic/claude-opus-5-5\"}}"
                ));
            }
            Written::Word(Kind::Codex) => {
                return Err("provider: write it as an object, such as \
                            {\"kind\": \"codex\", \"model\": \"openai/gpt-5.5\"}"
                    .to_owned());
            }
            Written::Object(_) if command.is_some() || lifetime.is_some() => {
                let field = if command.is_some() { "command" } else { "lifetime" };
                return Err(format!("{field}: it belongs into the object `provider`"));
            }
            Written::Object(provider) => provider,
        };
        match &provider {
            Self::Command { command, .. } if command.first().is_none_or(String::is_empty) => {
                Err("command: provider \"command\" needs a program, such as \
                     [\"python3\", \"agent.py\"]"
                    .to_owned())
            }
            Self::Echo | Self::Scripted if command.as_ref().is_some_and(|it| !it.is_empty()) => {
                Err("command: only provider \"command\" runs a program".to_owned())
            }
            Self::Echo
            | Self::Scripted
            | Self::Command { .. }
            | Self::Model(_)
            | Self::Claude(_)
            | Self::Codex(_) => Ok(provider),
        }
    }
}

/// The word for a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// [`Provider::Echo`]
    Echo,
    /// [`Provider::Scripted`]
    Scripted,
    /// [`Provider::Command`]
    Command,
    /// [`Provider::Model`]
    Model,
    /// [`Provider::Claude`]
    Claude,
    /// [`Provider::Codex`]
    Codex,
}

/// A provider as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Written {
    /// By its word. What it needs stands beside it.
    Word(Kind),
    /// With what it needs.
    Object(Provider),
}

impl From<&Provider> for Written {
    /// In the form that the oldest runner knows.
    fn from(provider: &Provider) -> Self {
        match provider {
            Provider::Echo => Self::Word(Kind::Echo),
            Provider::Scripted => Self::Word(Kind::Scripted),
            Provider::Command { .. } => Self::Word(Kind::Command),
            Provider::Model(_) | Provider::Claude(_) | Provider::Codex(_) => {
                Self::Object(provider.clone())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a provider, or an object with its `kind`")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Written, E> {
                Kind::deserialize(StrDeserializer::new(word)).map(Written::Word)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
                Object::deserialize(MapAccessDeserializer::new(map))
                    .map(|it| Written::Object(it.into()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// As [`Provider`]: of a variant without fields serde would take any.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Object {
    Echo {},
    Scripted {},
    Command {
        command: Vec<String>,
        #[serde(default)]
        lifetime: Lifetime,
    },
    Model(Model),
    Claude(Claude),
    Codex(Codex),
}

impl From<Object> for Provider {
    fn from(object: Object) -> Self {
        match object {
            Object::Echo {} => Self::Echo,
            Object::Scripted {} => Self::Scripted,
            Object::Command { command, lifetime } => Self::Command { command, lifetime },
            Object::Model(model) => Self::Model(model),
            Object::Claude(claude) => Self::Claude(claude),
            Object::Codex(codex) => Self::Codex(codex),
        }
    }
}
